// Colours of the foreground alone, by two-pass blur fusion: Forte, "Approximate Fast Foreground
// Colour Estimation" (ICIP 2021), as in birefnet/imaging/foreground.py.
//
//     bF = mean[F a] / (mean[a] + e)      bB = mean[B (1 - a)] / (1 - mean[a] + e)
//     F' = clip(bF + a (I - a bF - (1 - a) bB))
//
// with F = B = I first and a wide window, then with F = F', B = bB and a narrow one.

const EPSILON = 1e-5;
const WIDE = 90; // [px] of pictures of about a megapixel, and in proportion beyond
const NARROW = 6;
const GRID = 45; // grid cells in a wide window
const TILE = 128; // [px]
const SNAP = 1 / 510; // alpha this near to 0 or 1 counts as 0 or 1

/** Replace the colours of RGBA bytes by those of the foreground; where alpha is 0 they are 0. */
export function cleanColours(
  pixels: Uint8ClampedArray,
  alpha: Float32Array,
  width: number,
  height: number,
): void {
  const source = pixels.slice();
  const scale = Math.max(1, Math.sqrt(width * height) / 1024);
  const step = Math.max(1, 2 * Math.trunc(((WIDE * scale) / GRID + 1) / 2) - 1);
  const wide = 2 * step * Math.round((WIDE * scale) / (2 * step));
  const narrow = Math.round(NARROW * scale);
  const means = wideMeans(source, alpha, width, height, wide, step);
  const reach = (narrow >> 1) + 1;
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const bottom = Math.min(height, top + TILE);
      const right = Math.min(width, left + TILE);
      const y0 = Math.max(0, top - reach);
      const x0 = Math.max(0, left - reach);
      const h = Math.min(height, bottom + reach) - y0;
      const w = Math.min(width, right + reach) - x0;
      let [low, high] = [1, 0];
      for (let y = y0; y < y0 + h; y++) {
        for (let at = y * width + x0, end = at + w; at < end; at++) {
          if (alpha[at] < low) low = alpha[at];
          if (alpha[at] > high) high = alpha[at];
        }
      }
      if (low >= 1 - SNAP) continue;
      if (high <= SNAP) {
        for (let y = top; y < bottom; y++) {
          pixels.fill(0, 4 * (y * width + left), 4 * (y * width + right));
        }
        continue;
      }
      fuse(pixels, source, alpha, width, means, { x0, y0, w, h, top, left, bottom, right }, narrow);
    }
  }
}

interface Tile {
  x0: number; // with what the narrow window reaches
  y0: number;
  w: number;
  h: number;
  top: number;
  left: number;
  bottom: number;
  right: number;
}

interface Means {
  planes: Float32Array[]; // a; I a of three channels; I (1 - a) of three channels
  columns: number;
  step: number;
}

function snapped(a: number): number {
  return a <= SNAP ? 0 : a >= 1 - SNAP ? 1 : a;
}

/** The place in a line of `length` where place `x` of its continued reflection is. */
function reflected(x: number, length: number): number {
  const period = Math.max(1, 2 * (length - 1));
  const around = ((x % period) + period) % period;
  return Math.min(around, 2 * (length - 1) - around);
}

/** Means over the wide window around every `step`-th pixel. */
function wideMeans(
  pixels: Uint8ClampedArray,
  alpha: Float32Array,
  width: number,
  height: number,
  wide: number,
  step: number,
): Means {
  const span = wide / step;
  const columns = Math.ceil((width - 1) / step) + 1;
  const rows = Math.ceil((height - 1) / step) + 1;
  const across = columns + span - 1;
  const down = rows + span - 1;
  const cells = Array.from({ length: 7 }, () => new Float32Array(across * down));
  const xs = Int32Array.from({ length: across * step }, (_, i) => reflected(i - wide / 2, width));
  for (let j = 0; j < down * step; j++) {
    const row = reflected(j - wide / 2, height) * width;
    for (let i = 0; i < xs.length; i++) {
      const at = row + xs[i];
      const a = snapped(alpha[at]);
      const cell = Math.trunc(j / step) * across + Math.trunc(i / step);
      if (a > 0) {
        cells[0][cell] += a;
        for (let c = 0; c < 3; c++) cells[1 + c][cell] += a * pixels[4 * at + c];
      }
      if (a < 1) for (let c = 0; c < 3; c++) cells[4 + c][cell] += (1 - a) * pixels[4 * at + c];
    }
  }
  const factor = 1 / (wide * wide);
  const planes = cells.map((plane, index) => {
    const scale = index === 0 ? factor : factor / 255;
    return boxSums(plane, across, down, span).map((sum) => sum * scale);
  });
  return { planes, columns, step };
}

/** Sums over windows of `span` x `span`; the result is smaller by `span - 1` each way. */
function boxSums(plane: Float32Array, width: number, height: number, span: number): Float32Array {
  const columns = width - span + 1;
  const narrow = new Float32Array(height * columns);
  for (let y = 0; y < height; y++) {
    let sum = 0;
    for (let x = 0; x < width; x++) {
      sum += plane[y * width + x];
      if (x >= span) sum -= plane[y * width + x - span];
      if (x >= span - 1) narrow[y * columns + x - span + 1] = sum;
    }
  }
  const out = new Float32Array((height - span + 1) * columns);
  const sums = new Float64Array(columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      sums[x] += narrow[y * columns + x];
      if (y >= span) sums[x] -= narrow[(y - span) * columns + x];
      if (y >= span - 1) out[(y - span + 1) * columns + x] = sums[x];
    }
  }
  return out;
}

/** Both passes on a tile. */
function fuse(
  out: Uint8ClampedArray,
  source: Uint8ClampedArray,
  alpha: Float32Array,
  width: number,
  means: Means,
  tile: Tile,
  narrow: number,
): void {
  const { x0, y0, w, h } = tile;
  const size = w * h;
  // a, F' a of three channels, bB (1 - a) of three channels
  const planes = Array.from({ length: 7 }, () => new Float32Array(size));
  const wide = new Float64Array(7);
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0; x < w; x++, at++) {
      const pixel = (y0 + y) * width + x0 + x;
      const a = snapped(alpha[pixel]);
      interpolate(means, x0 + x, y0 + y, wide);
      planes[0][at] = a;
      const foreground = (1 - a * a) / (wide[0] + EPSILON);
      const background = (1 - a) / (1 - wide[0] + EPSILON);
      for (let c = 0; c < 3; c++) {
        const share = (a * source[4 * pixel + c]) / 255;
        const bB = wide[4 + c] * background;
        const first = wide[1 + c] * foreground + share - bB * a;
        planes[1 + c][at] = Math.min(1, Math.max(0, first)) * a;
        planes[4 + c][at] = bB;
      }
    }
  }
  const blurred = planes.map((plane) => blur(plane, w, h, narrow));
  for (let y = tile.top; y < tile.bottom; y++) {
    for (let x = tile.left; x < tile.right; x++) {
      const at = (y - y0) * w + x - x0;
      const pixel = 4 * (y * width + x);
      const a = planes[0][at];
      const foreground = (1 - a * a) / (blurred[0][at] + EPSILON);
      const background = (a * (1 - a)) / (1 - blurred[0][at] + EPSILON);
      for (let c = 0; c < 3; c++) {
        const share = a * source[pixel + c];
        out[pixel + c] =
          255 * (blurred[1 + c][at] * foreground - blurred[4 + c][at] * background) + share;
      }
    }
  }
}

/** The wide means at a pixel, between the four entries around it. */
function interpolate({ planes, columns, step }: Means, x: number, y: number, out: Float64Array) {
  const [i, j] = [Math.trunc(x / step), Math.trunc(y / step)];
  const at = j * columns + i;
  if (step === 1) {
    for (let k = 0; k < 7; k++) out[k] = planes[k][at];
    return;
  }
  const [u, v] = [x / step - i, y / step - j];
  const right = at + (u > 0 ? 1 : 0);
  const below = v > 0 ? columns : 0;
  for (let k = 0; k < 7; k++) {
    const plane = planes[k];
    const upper = plane[at] + u * (plane[right] - plane[at]);
    const lower = plane[at + below] + u * (plane[right + below] - plane[at + below]);
    out[k] = upper + v * (lower - upper);
  }
}

/** Means over windows of `side` x `side`, the borders reflected. */
function blur(plane: Float32Array, width: number, height: number, side: number): Float32Array {
  const [w, h] = [width + side - 1, height + side - 1];
  const before = side >> 1;
  const larger = new Float32Array(w * h);
  const xs = Int32Array.from({ length: w }, (_, i) => reflected(i - before, width));
  for (let y = 0; y < h; y++) {
    const row = reflected(y - before, height) * width;
    for (let x = 0; x < w; x++) larger[y * w + x] = plane[row + xs[x]];
  }
  const factor = 1 / (side * side);
  return boxSums(larger, w, h, side).map((sum) => sum * factor);
}
