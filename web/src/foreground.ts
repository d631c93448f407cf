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
const TILE = 64;
const GRID = 30; // grid cells in a wide window
const SNAP = 1 / 510; // alpha this near to 0 or 1 counts as 0 or 1

interface Picture {
  pixels: Uint8ClampedArray; // RGBA
  alpha: Float32Array; // 0 to 1
  width: number;
  height: number;
}

interface Tile {
  top: number;
  left: number;
  bottom: number;
  right: number;
}

/** Means over the wide window around every `step`-th pixel: of a, of I a in three channels, and of
 * I (1 - a) in three channels. */
interface Means {
  planes: Float32Array[];
  columns: number;
  step: number;
}

/** Replace the colours of RGBA bytes by those of the foreground; where alpha is 0 they are 0. */
export function cleanColours(
  pixels: Uint8ClampedArray,
  alpha: Float32Array,
  width: number,
  height: number,
): void {
  const source = { pixels: pixels.slice(), alpha: alpha.map(snapped), width, height };
  const scale = Math.max(1, Math.sqrt(width * height) / 1024);
  const step = Math.max(1, 2 * Math.trunc(((WIDE * scale) / GRID + 1) / 2) - 1);
  const wide = 2 * step * Math.round((WIDE * scale) / (2 * step));
  const narrow = Math.round(NARROW * scale);
  const side = Math.round(TILE * scale);
  const means = wideMeans(source, wide, step);
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const bottom = Math.min(height, top + side);
      const right = Math.min(width, left + side);
      const tile = { top, left, bottom, right };
      const [low, high] = extremes(source, tile, narrow);
      if (high === 0) {
        for (let y = top; y < bottom; y++) {
          pixels.fill(0, 4 * (y * width + left), 4 * (y * width + right));
        }
      } else if (low < 1) {
        fuse(pixels, source, means, tile, narrow);
      }
    }
  }
}

function snapped(a: number): number {
  return a <= SNAP ? 0 : a >= 1 - SNAP ? 1 : a;
}

/** The smallest and largest alpha that the narrow window sees from a tile. */
function extremes({ alpha, width, height }: Picture, tile: Tile, narrow: number) {
  let [low, high] = [1, 0];
  const right = Math.min(width, tile.right + narrow);
  const bottom = Math.min(height, tile.bottom + narrow);
  for (let y = Math.max(0, tile.top - narrow); y < bottom; y++) {
    const end = y * width + right;
    for (let at = y * width + Math.max(0, tile.left - narrow); at < end; at++) {
      if (alpha[at] < low) low = alpha[at];
      if (alpha[at] > high) high = alpha[at];
    }
  }
  return [low, high];
}

/** Where the `count` pixels from `start` on lie in a line of `length` that its reflections go on. */
function reflected(start: number, count: number, length: number): Int32Array {
  const period = Math.max(1, 2 * (length - 1));
  return Int32Array.from({ length: count }, (_, i) => {
    const around = (((start + i) % period) + period) % period;
    return Math.min(around, 2 * (length - 1) - around);
  });
}

function wideMeans({ pixels, alpha, width, height }: Picture, wide: number, step: number): Means {
  const span = wide / step;
  const columns = Math.ceil((width - 1) / step) + 1;
  const across = columns + span - 1;
  const down = Math.ceil((height - 1) / step) + span;
  const cells = Array.from({ length: 7 }, () => new Float32Array(across * down));
  const [a0, f1, f2, f3, b1, b2, b3] = cells;
  const xs = reflected(-wide / 2, across * step, width);
  const ys = reflected(-wide / 2, down * step, height);
  for (let j = 0; j < ys.length; j++) {
    const row = ys[j] * width;
    let cell = Math.trunc(j / step) * across;
    for (let i = 0; i < xs.length; cell++) {
      for (const end = i + step; i < end; i++) {
        const at = row + xs[i];
        const a = alpha[at];
        const rgb = 4 * at;
        if (a > 0) {
          a0[cell] += a;
          f1[cell] += a * pixels[rgb];
          f2[cell] += a * pixels[rgb + 1];
          f3[cell] += a * pixels[rgb + 2];
        }
        if (a < 1) {
          b1[cell] += (1 - a) * pixels[rgb];
          b2[cell] += (1 - a) * pixels[rgb + 1];
          b3[cell] += (1 - a) * pixels[rgb + 2];
        }
      }
    }
  }
  const factor = 1 / (wide * wide);
  const planes = cells.map((plane, k) => box(plane, across, down, span, k ? factor / 255 : factor));
  return { planes, columns, step };
}

/** Sums over windows of `span` x `span`, times `factor`; smaller by `span - 1` each way. */
function box(
  plane: Float32Array,
  width: number,
  height: number,
  span: number,
  factor: number,
): Float32Array {
  const columns = width - span + 1;
  const narrow = new Float32Array(height * columns);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let sum = 0;
    for (let x = 0; x < span - 1; x++) sum += plane[row + x];
    for (let x = 0; x < columns; x++) {
      sum += plane[row + x + span - 1];
      narrow[y * columns + x] = sum;
      sum -= plane[row + x];
    }
  }
  const out = new Float32Array((height - span + 1) * columns);
  const sums = new Float64Array(columns);
  for (let y = 0; y < height; y++) {
    const first = y - span + 1;
    for (let x = 0; x < columns; x++) sums[x] += narrow[y * columns + x];
    if (first < 0) continue;
    for (let x = 0; x < columns; x++) {
      out[first * columns + x] = sums[x] * factor;
      sums[x] -= narrow[first * columns + x];
    }
  }
  return out;
}

/** Both passes on a tile. */
function fuse(
  out: Uint8ClampedArray,
  { pixels, alpha, width, height }: Picture,
  means: Means,
  { top, left, bottom, right }: Tile,
  narrow: number,
): void {
  const before = narrow >> 1;
  const xs = reflected(left - before, right - left + narrow - 1, width);
  const ys = reflected(top - before, bottom - top + narrow - 1, height);
  // a, F' a of three channels, bB (1 - a) of three channels
  const planes = Array.from({ length: 7 }, () => new Float32Array(xs.length * ys.length));
  const wide = new Float64Array(7);
  let at = 0;
  for (const y of ys) {
    for (const x of xs) {
      const pixel = y * width + x;
      const a = alpha[pixel];
      interpolate(means, x, y, wide);
      planes[0][at] = a;
      const foreground = (1 - a * a) / (wide[0] + EPSILON);
      const background = (1 - a) / (1 - wide[0] + EPSILON);
      for (let c = 0; c < 3; c++) {
        const bB = wide[4 + c] * background;
        const first = wide[1 + c] * foreground + (a * pixels[4 * pixel + c]) / 255 - bB * a;
        planes[1 + c][at] = Math.min(1, Math.max(0, first)) * a;
        planes[4 + c][at] = bB;
      }
      at++;
    }
  }
  const factor = 1 / (narrow * narrow);
  const blurred = planes.map((plane) => box(plane, xs.length, ys.length, narrow, factor));
  at = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++, at++) {
      const pixel = y * width + x;
      const a = alpha[pixel];
      const foreground = (255 * (1 - a * a)) / (blurred[0][at] + EPSILON);
      const background = (255 * (a - a * a)) / (1 - blurred[0][at] + EPSILON);
      for (let c = 0; c < 3; c++) {
        out[4 * pixel + c] =
          a * pixels[4 * pixel + c] +
          blurred[1 + c][at] * foreground -
          blurred[4 + c][at] * background;
      }
    }
  }
}

/** The wide means at a pixel, between the four entries around it. */
function interpolate({ planes, columns, step }: Means, x: number, y: number, out: Float64Array) {
  const [i, j] = [Math.trunc(x / step), Math.trunc(y / step)];
  const [u, v] = [x / step - i, y / step - j];
  const at = j * columns + i;
  const right = at + (u > 0 ? 1 : 0);
  const below = v > 0 ? columns : 0;
  for (let k = 0; k < 7; k++) {
    const plane = planes[k];
    const upper = plane[at] + u * (plane[right] - plane[at]);
    const lower = plane[at + below] + u * (plane[right + below] - plane[at + below]);
    out[k] = upper + v * (lower - upper);
  }
}
