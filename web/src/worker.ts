// The network and the work on pixels, away from the page's own thread.

import * as ort from "onnxruntime-web/wasm";

import type { Cutout, Options, Progress, Runtime } from "./birefnet";
import { cleanColours } from "./foreground";
import { matte, type Preprocess } from "./matte";

export type Request =
  | { id: number; do: "load"; assets: string; model: string; threads?: number }
  | { id: number; do: "cutOut"; picture: Blob; options: Options };
export type Reply =
  | { id: number; result: unknown }
  | { id: number; error: string }
  | { id: number; progress: Progress };

const VISIBLE = 0.05; // alpha from which on a pixel belongs to the box of the subject

const WARM = 256; // side of an input on which the browser compiles the network before it is needed

const scope = self as unknown as Worker;
let session: ort.InferenceSession;
let preprocess: Preprocess;

scope.onmessage = async ({ data }: MessageEvent<Request>) => {
  try {
    const result = data.do === "load" ? await load(data) : await cutOut(data.picture, data.options);
    scope.postMessage({ id: data.id, result } satisfies Reply);
    if (data.do === "load") await network(new Float32Array(3 * WARM * WARM), WARM, WARM);
  } catch (error) {
    scope.postMessage({ id: data.id, error: (error as Error).message } satisfies Reply);
  }
};

async function load(request: Extract<Request, { do: "load" }>): Promise<Runtime> {
  const { id, assets, model } = request;
  const started = performance.now();
  const report = (progress: Progress) => scope.postMessage({ id, progress } satisfies Reply);
  const [config, graph, weights, binary] = await fetchAll(
    [
      new URL("config.json", model),
      new URL("model.onnx", model),
      new URL("model.safetensors", model),
      new URL("onnxruntime.wasm.gz", assets),
    ],
    report,
  );
  const settings: { name: string; preprocess: Preprocess } = JSON.parse(
    new TextDecoder().decode(config),
  );
  preprocess = settings.preprocess;
  // More threads than four gain little, and phones have few fast cores.
  const most = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const threads = Math.min(most, request.threads ?? most);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = await unpacked(binary);
  ort.env.wasm.wasmPaths = { mjs: new URL("onnxruntime.js", assets).href };
  session = await ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"],
    externalData: [{ path: "model.safetensors", data: weights }],
  });
  return { name: settings.name, threads, seconds: (performance.now() - started) / 1000 };
}

async function fetchAll(urls: URL[], report: (progress: Progress) => void) {
  const progress = { loaded: 0, total: 0 };
  const responses = await Promise.all(
    urls.map(async (url) => {
      const response = await fetch(url);
      if (!response.ok) throw new Error(`${url.pathname} is missing on the server`);
      progress.total += Number(response.headers.get("content-length"));
      return response;
    }),
  );
  return Promise.all(
    responses.map(async ({ body }) => {
      const parts: Uint8Array<ArrayBuffer>[] = [];
      const reader = body!.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        parts.push(part.value);
        progress.loaded += part.value.length;
        report(progress);
      }
      return new Uint8Array(await new Blob(parts).arrayBuffer());
    }),
  );
}

/** Without its gzip, unless the server has taken that off already. */
async function unpacked(data: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> {
  if (data[0] !== 0x1f || data[1] !== 0x8b) return data.buffer;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

async function network(input: Float32Array, width: number, height: number) {
  const tensor = new ort.Tensor("float32", input, [1, 3, height, width]);
  const outputs = await session.run({ [session.inputNames[0]]: tensor });
  return outputs[session.outputNames[0]].data as Float32Array;
}

async function cutOut(picture: Blob, options: Options): Promise<Cutout> {
  const started = performance.now();
  const { canvas, context, image } = await decode(picture);
  const { data: pixels, width, height } = image;
  const alpha = await matte(pixels, width, height, preprocess, network);
  for (let i = 0; i < alpha.length; i++) {
    const own = pixels[4 * i + 3];
    if (own < 255) alpha[i] *= own / 255;
  }
  if (options.cleanColours ?? true) cleanColours(pixels, alpha, width, height);
  let [sum, certain] = [0, 0];
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const a = alpha[i];
      pixels[4 * i + 3] = 255 * a;
      sum += a;
      certain += a * Math.max(0, 2 * a - 1);
      if (a >= VISIBLE) {
        if (x < left) left = x;
        if (x >= right) right = x + 1;
        if (y < top) top = y;
        bottom = y + 1;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return {
    png: await canvas.convertToBlob({ type: "image/png" }),
    width,
    height,
    box: right ? { x: left, y: top, width: right - left, height: bottom - top } : null,
    coverage: sum / alpha.length,
    confidence: sum ? certain / sum : 0,
    seconds: (performance.now() - started) / 1000,
  };
}

async function decode(picture: Blob) {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(picture, { premultiplyAlpha: "none" });
  } catch {
    throw new Error(
      "this is not a picture that the browser can read; give a JPEG, PNG, WebP, AVIF or GIF file",
    );
  }
  const { width, height } = bitmap;
  try {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    context.drawImage(bitmap, 0, 0);
    return { canvas, context, image: context.getImageData(0, 0, width, height) };
  } catch {
    throw new Error(`the browser has no room for ${width} x ${height} pixels; give a smaller one`);
  } finally {
    bitmap.close();
  }
}
