// Resizing as the command does it: Pillow's bilinear filter (antialiased where it shrinks, and
// OpenCV's where it grows), and means over areas for the smaller views.

/** Which old pixels make each new one: `weights[i]` belongs to those from `first[i]` on. */
export interface Taps {
  first: number[];
  weights: Float64Array[];
}

export function bilinear(from: number, to: number): Taps {
  const scale = from / to;
  const support = Math.max(1, scale);
  return taps(to, (i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    return [first, last, (x) => Math.max(0, 1 - Math.abs((x - centre + 0.5) / support))];
  });
}

export function area(from: number, to: number): Taps {
  const scale = from / to;
  return taps(to, (i) => {
    const [start, end] = [i * scale, (i + 1) * scale];
    const last = Math.min(from, Math.ceil(end - 1e-9));
    return [Math.floor(start + 1e-9), last, (x) => Math.min(end, x + 1) - Math.max(start, x)];
  });
}

function taps(to: number, at: (i: number) => [number, number, (x: number) => number]): Taps {
  const first: number[] = [];
  const weights: Float64Array[] = [];
  for (let i = 0; i < to; i++) {
    const [start, end, weight] = at(i);
    const row = Float64Array.from({ length: end - start }, (_, k) => weight(start + k));
    const factor = 1 / row.reduce((a, b) => a + b, 0);
    first.push(start);
    weights.push(row.map((w) => w * factor));
  }
  return { first, weights };
}

/** Resize a plane of `width` x `height`, rows first. */
export function resizePlane(
  plane: Float32Array,
  width: number,
  height: number,
  across: Taps,
  down: Taps,
): Float32Array {
  const columns = across.first.length;
  const narrow = new Float32Array(height * columns);
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < columns; i++) {
      const weights = across.weights[i];
      const start = y * width + across.first[i];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * plane[start + k];
      narrow[y * columns + i] = sum;
    }
  }
  const out = new Float32Array(down.first.length * columns);
  for (let j = 0; j < down.first.length; j++) {
    const weights = down.weights[j];
    const row = out.subarray(j * columns, (j + 1) * columns);
    for (let k = 0; k < weights.length; k++) {
      const weight = weights[k];
      const start = (down.first[j] + k) * columns;
      for (let i = 0; i < columns; i++) row[i] += weight * narrow[start + i];
    }
  }
  return out;
}

/**
 * RGBA bytes of `width` x `height` -> three planes of the taps' size with values from 0 to 255,
 * rounded between the two passes and behind them as Pillow rounds, with its 22 bits of a weight.
 */
export function resizeBytes(
  pixels: Uint8ClampedArray,
  width: number,
  height: number,
  across: Taps,
  down: Taps,
): Float32Array {
  const columns = across.first.length;
  const rows = down.first.length;
  const [acrossWeights, downWeights] = [across, down].map(({ weights }) =>
    weights.map((row) => row.map((weight) => Math.round(weight * 2 ** 22) / 2 ** 22)),
  );
  const narrow = new Uint8Array(3 * height * columns);
  for (let y = 0, at = 0; y < height; y++) {
    for (let i = 0; i < columns; i++, at += 3) {
      const weights = acrossWeights[i];
      let from = 4 * (y * width + across.first[i]);
      let [r, g, b] = [0.5, 0.5, 0.5];
      for (let k = 0; k < weights.length; k++, from += 4) {
        const weight = weights[k];
        r += weight * pixels[from];
        g += weight * pixels[from + 1];
        b += weight * pixels[from + 2];
      }
      narrow[at] = r;
      narrow[at + 1] = g;
      narrow[at + 2] = b;
    }
  }
  const size = rows * columns;
  const out = new Float32Array(3 * size);
  for (let j = 0; j < rows; j++) {
    const weights = downWeights[j];
    for (let i = 0; i < columns; i++) {
      let from = 3 * (down.first[j] * columns + i);
      let [r, g, b] = [0.5, 0.5, 0.5];
      for (let k = 0; k < weights.length; k++, from += 3 * columns) {
        const weight = weights[k];
        r += weight * narrow[from];
        g += weight * narrow[from + 1];
        b += weight * narrow[from + 2];
      }
      const at = j * columns + i;
      out[at] = Math.trunc(r);
      out[size + at] = Math.trunc(g);
      out[2 * size + at] = Math.trunc(b);
    }
  }
  return out;
}
