// From pixels to the network's views, and from its logits to alpha.

import { area, bilinear, resizeBytes, resizePlane } from "./resize";

/** Width, height [px], and whether left and right change places. */
export type View = [number, number, boolean];

/** `preprocess` of the model's config.json. */
export interface Preprocess {
  width: number;
  height: number;
  mean: number[];
  std: number[];
  fit: string;
  interpolation: string;
  looks?: View[];
}

/** Logits [h * w] of a normalised input [3 * h * w]. */
export type Network = (input: Float32Array, width: number, height: number) => Promise<Float32Array>;

/** Alpha from 0 to 1 of RGBA bytes, at their size. */
export async function matte(
  pixels: Uint8ClampedArray,
  width: number,
  height: number,
  preprocess: Preprocess,
  network: Network,
): Promise<Float32Array> {
  const views = preprocess.looks ?? [[preprocess.width, preprocess.height, false]];
  const [wide, high] = views[0];
  const input = resizeBytes(pixels, width, height, bilinear(width, wide), bilinear(height, high));
  const size = wide * high;
  for (let c = 0; c < 3; c++) {
    const factor = 1 / (255 * preprocess.std[c]);
    const shift = preprocess.mean[c] / preprocess.std[c];
    for (let i = c * size; i < (c + 1) * size; i++) input[i] = input[i] * factor - shift;
  }
  const alpha = new Float32Array(size);
  for (const [w, h, mirrored] of views) {
    let seen = w === wide && h === high ? input.slice() : shrunk(input, wide, high, w, h);
    if (mirrored) mirror(seen, w);
    let logits = await network(seen, w, h);
    if (w !== wide || h !== high) {
      logits = resizePlane(logits, w, h, bilinear(w, wide), bilinear(h, high));
    }
    if (mirrored) mirror(logits, wide);
    for (let i = 0; i < size; i++) alpha[i] += logits[i] / views.length;
  }
  for (let i = 0; i < size; i++) alpha[i] = 1 / (1 + Math.exp(-alpha[i]));
  return resizePlane(alpha, wide, high, bilinear(wide, width), bilinear(high, height));
}

function shrunk(
  input: Float32Array,
  width: number,
  height: number,
  w: number,
  h: number,
): Float32Array {
  const out = new Float32Array(3 * w * h);
  const [across, down] = [area(width, w), area(height, h)];
  for (let c = 0; c < 3; c++) {
    const plane = input.subarray(c * width * height, (c + 1) * width * height);
    out.set(resizePlane(plane, width, height, across, down), c * w * h);
  }
  return out;
}

/** Left and right of every row change places. */
function mirror(planes: Float32Array, width: number): void {
  for (let row = 0; row < planes.length; row += width) planes.subarray(row, row + width).reverse();
}
