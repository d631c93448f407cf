// Cut the subject out of pictures in the browser.

import type { Reply, Request } from "./worker";

export interface Progress {
  /** Bytes that have come, of all that will. */
  loaded: number;
  total: number;
}

export interface LoadOptions {
  /** Folder of worker.js and ONNX Runtime; that of this module. Ends with a slash. */
  assets?: string | URL;
  /** Folder of config.json, model.onnx and model.safetensors; `model/` in `assets`. */
  model?: string | URL;
  /** At most so many; as many as the device has cores, up to 4. One where the page is not
   * cross-origin isolated. */
  threads?: number;
  onProgress?: (progress: Progress) => void;
}

export interface Runtime {
  /** Of the network. */
  name: string;
  threads: number;
  /** What loading took. */
  seconds: number;
}

export interface Options {
  /** Estimate the colours of the subject where its edge is soft, so that no old background shows;
   * true. */
  cleanColours?: boolean;
}

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Cutout {
  /** At the picture's own size, the background transparent. */
  png: Blob;
  width: number;
  height: number;
  /** What the subject covers [px]; null where there is none. */
  box: Box | null;
  /** Mean of alpha, 0 to 1. */
  coverage: number;
  /** How decided the network is, 0 to 1: mean of the distance above one half, weighted by alpha. */
  confidence: number;
  seconds: number;
}

export interface ComposeOptions {
  /** A CSS colour, or a picture that covers the whole; transparent. */
  background?: string | Blob;
  /** Cut the result to the subject. */
  crop?: boolean;
  /** JPEG has no transparency: white in its place. "image/png". */
  format?: "image/png" | "image/jpeg" | "image/webp";
  /** Of JPEG and WebP, 0 to 1; 0.92. */
  quality?: number;
}

let worker: Worker | undefined;
let ready: Promise<Runtime> | undefined;
let last = 0;
const waiting = new Map<
  number,
  { resolve: (result: never) => void; reject: (error: Error) => void; onProgress?: (progress: Progress) => void }
>();

/** Load the network, once. The other functions do it by themselves. */
export function load(options: LoadOptions = {}): Promise<Runtime> {
  ready ??= start(options).catch((error: Error) => {
    ready = undefined; // the next call tries again
    throw error;
  });
  return ready;
}

/** Cut out the subject.
 * @throws Error in a sentence where `picture` is none that the browser reads. */
export async function cutOut(picture: Blob, options: Options = {}): Promise<Cutout> {
  await load();
  return call({ id: ++last, do: "cutOut", picture, options });
}

/** Put a cut-out on a background, crop and encode it. */
export async function compose(cutout: Cutout, options: ComposeOptions = {}): Promise<Blob> {
  const { background, crop = false, format = "image/png", quality = 0.92 } = options;
  const whole = { x: 0, y: 0, width: cutout.width, height: cutout.height };
  const { x, y, width, height } = (crop && cutout.box) || whole;
  if (!background && format === "image/png" && width === whole.width && height === whole.height) {
    return cutout.png;
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error(`the browser has no room for ${width} x ${height} pixels`);
  context.translate(-x, -y);
  await draw(context, cutout, background ?? (format === "image/jpeg" ? "white" : undefined));
  return canvas.convertToBlob({ type: format, quality });
}

/** Draw a cut-out and what is behind it, at the cut-out's size. */
export async function draw(
  context: OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D,
  { png, width, height }: Cutout,
  background?: string | Blob,
): Promise<void> {
  if (background instanceof Blob) {
    const bitmap = await createImageBitmap(background);
    const scale = Math.max(width / bitmap.width, height / bitmap.height);
    const [w, h] = [bitmap.width * scale, bitmap.height * scale];
    context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
    bitmap.close();
  } else if (background) {
    context.fillStyle = background;
    context.fillRect(0, 0, width, height);
  }
  const bitmap = await createImageBitmap(png);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
}

/** The picture without its background. */
export async function removeBackground(
  picture: Blob,
  options: Options & ComposeOptions = {},
): Promise<Blob> {
  return compose(await cutOut(picture, options), options);
}

async function start({ assets, model, threads, onProgress }: LoadOptions): Promise<Runtime> {
  const page = self.location.href;
  const base = assets ? new URL(assets, page) : new URL("./", import.meta.url);
  const url = assets ? new URL("worker.js", base) : new URL("./worker.js", import.meta.url);
  worker?.terminate();
  worker = new Worker(url, { type: "module", name: "birefnet" });
  worker.onmessage = ({ data }: MessageEvent<Reply>) => {
    const call = waiting.get(data.id)!;
    if ("progress" in data) return call.onProgress?.(data.progress);
    waiting.delete(data.id);
    if ("error" in data) call.reject(new Error(data.error));
    else call.resolve(data.result as never);
  };
  worker.onerror = (event) => {
    for (const call of waiting.values()) call.reject(new Error(event.message || `cannot run ${url}`));
    waiting.clear();
  };
  const folder = model ? new URL(model, page) : new URL("model/", base);
  return call({ id: ++last, do: "load", assets: base.href, model: folder.href, threads }, onProgress);
}

function call<T>(request: Request, onProgress?: (progress: Progress) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    waiting.set(request.id, { resolve, reject, onProgress });
    worker!.postMessage(request);
  });
}
