/**
 * Soft edges, after `mobilesam/draw/alpha.py`: a guided filter makes the edge follow the photo's own colours on a small
 * copy, and what it found there, linear in the colours, is applied to the photo's own pixels. Then soft pixels lose the
 * colour of what was behind them.
 */

import type { Size } from "./frame";
import { type Mask, maskBox } from "./mask";

const WORK_PIXELS = 250_000; // of the copy that the band is worked out on
const NEAR = 0.015; // the band's half width, in the root of the worked part's area
const SMOOTH = 1e-4; // variances of colours (0..1) below it are noise
const STEEP = 1.2; // by how much the filtered edge is steepened around a half
const COLOUR_REACH = 0.05; // how far the object's and the ground's colours are looked for, in the same root

interface Plane {
  readonly w: number;
  readonly h: number;
  readonly data: Float32Array;
}

/** The mean of each pixel's window; at the border, of the part inside the picture. */
function boxMean({ w, h, data }: Plane, radius: number): Plane {
  const across = new Float32Array(w * h);
  const out = new Float32Array(w * h);
  const sums = new Float64Array(Math.max(w, h) + 1);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) sums[x + 1] = sums[x] + data[y * w + x];
    for (let x = 0; x < w; x++) {
      const [low, high] = [Math.max(0, x - radius), Math.min(w, x + radius + 1)];
      across[y * w + x] = (sums[high] - sums[low]) / (high - low);
    }
  }
  for (let x = 0; x < w; x++) {
    for (let y = 0; y < h; y++) sums[y + 1] = sums[y] + across[y * w + x];
    for (let y = 0; y < h; y++) {
      const [low, high] = [Math.max(0, y - radius), Math.min(h, y + radius + 1)];
      out[y * w + x] = (sums[high] - sums[low]) / (high - low);
    }
  }
  return { w, h, data: out };
}

function times(a: Plane, b: Plane): Plane {
  return { w: a.w, h: a.h, data: a.data.map((value, i) => value * b.data[i]) };
}

/** Average the pixels of a window into each of (h, w) cells. */
function shrink(read: (x: number, y: number) => number, box: readonly number[], w: number, h: number): Plane {
  const data = new Float32Array(w * h);
  const [x0, y0, x1, y1] = box;
  for (let y = 0; y < h; y++) {
    const top = y0 + Math.floor((y * (y1 - y0)) / h);
    const bottom = Math.max(top + 1, y0 + Math.floor(((y + 1) * (y1 - y0)) / h));
    for (let x = 0; x < w; x++) {
      const left = x0 + Math.floor((x * (x1 - x0)) / w);
      const right = Math.max(left + 1, x0 + Math.floor(((x + 1) * (x1 - x0)) / w));
      let sum = 0;
      for (let v = top; v < bottom; v++) for (let u = left; u < right; u++) sum += read(u, v);
      data[y * w + x] = sum / ((bottom - top) * (right - left));
    }
  }
  return { w, h, data };
}

/** A place of the large window between the pixels of its small copy. */
function sampler(w: number, h: number, scaleX: number, scaleY: number) {
  return (planes: readonly Plane[], x: number, y: number, out: Float64Array): void => {
    const px = Math.min(Math.max((x + 0.5) * scaleX - 0.5, 0), w - 1);
    const py = Math.min(Math.max((y + 0.5) * scaleY - 0.5, 0), h - 1);
    const [u, v] = [Math.floor(px), Math.floor(py)];
    const [a, b] = [px - u, py - v];
    const [right, below] = [Math.min(u + 1, w - 1), Math.min(v + 1, h - 1)];
    planes.forEach(({ data }, k) => {
      const upper = data[v * w + u] * (1 - a) + data[v * w + right] * a;
      const lower = data[below * w + u] * (1 - a) + data[below * w + right] * a;
      out[k] = upper * (1 - b) + lower * b;
    });
  };
}

/** Solve three linear equations with a symmetric matrix a b c / d e / f. */
function solve(m: readonly number[], r: readonly number[]): [number, number, number] {
  const [a, b, c, d, e, f] = m;
  const [A, B, C] = [d * f - e * e, c * e - b * f, b * e - c * d];
  const [D, E, F] = [a * f - c * c, b * c - a * e, a * d - b * b];
  const det = a * A + b * B + c * C;
  return [
    (A * r[0] + B * r[1] + C * r[2]) / det,
    (B * r[0] + D * r[1] + E * r[2]) / det,
    (C * r[0] + E * r[1] + F * r[2]) / det,
  ];
}

/** The guided filter's linear functions of colour: three slopes and an offset, averaged over their windows. */
function guided(image: readonly Plane[], target: Plane, radius: number): Plane[] {
  const { w, h } = target;
  const means = [...image, target].map((plane) => boxMean(plane, radius));
  const pairs = [0, 1, 2].flatMap((i) => [0, 1, 2].slice(i).map((j) => [i, j] as const));
  const squares = pairs.map(([i, j]) => boxMean(times(image[i], image[j]), radius));
  const mixed = image.map((plane) => boxMean(times(plane, target), radius));
  const field = [0, 1, 2, 3].map((): Plane => ({ w, h, data: new Float32Array(w * h) }));
  for (let at = 0; at < w * h; at++) {
    const level = means[3].data[at];
    const matrix = pairs.map(
      ([i, j], k) => squares[k].data[at] - means[i].data[at] * means[j].data[at] + (i === j ? SMOOTH : 0),
    );
    const slopes = solve(
      matrix,
      mixed.map((plane, i) => plane.data[at] - means[i].data[at] * level),
    );
    let offset = level;
    slopes.forEach((slope, i) => {
      field[i].data[at] = slope;
      offset -= slope * means[i].data[at];
    });
    field[3].data[at] = offset;
  }
  return field.map((plane) => boxMean(plane, radius));
}

/** The colour of what is surely the object, or surely behind it, averaged over the surroundings. */
function coloursAround(image: readonly Plane[], share: Plane): Plane[] {
  const { w, h } = share;
  const weight: Plane = { w, h, data: share.data.map((value) => Math.min(1, Math.max(0, 2 * value - 1)) ** 2) };
  const out = image.map((): Plane => ({ w, h, data: new Float32Array(w * h) }));
  const missing = new Uint8Array(w * h).fill(1);
  for (const reach of [COLOUR_REACH / 6, COLOUR_REACH / 2, COLOUR_REACH * 2, 1]) {
    const radius = Math.max(1, Math.round(reach * Math.sqrt(w * h)));
    const sum = boxMean(weight, radius).data;
    const colours = image.map((plane) => boxMean(times(plane, weight), radius).data);
    let left = 0;
    for (let i = 0; i < w * h; i++) {
      if (!missing[i]) continue;
      if (sum[i] > 1e-3) {
        missing[i] = 0;
        colours.forEach((colour, c) => {
          out[c].data[i] = colour[i] / sum[i];
        });
      } else left++;
    }
    if (!left) break;
  }
  return out;
}

function edgeWithin(part: Plane, radius: number): Uint8Array {
  return Uint8Array.from(boxMean(part, radius).data, (mean) => (mean > 1e-4 && mean < 1 - 1e-4 ? 1 : 0));
}

/**
 * Cut a mask out of a photo, with a soft edge.
 *
 * @param image RGBA bytes of the whole photo.
 * @returns RGBA bytes of the whole photo, with the object's alpha, and soft pixels in the object's own colours.
 */
export function cutOut(image: Uint8Array | Uint8ClampedArray, size: Size, mask: Mask): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint8ClampedArray(image.length);
  for (let y = 0; y < mask.h; y++) {
    for (let x = 0; x < mask.w; x++) {
      if (!mask.bits[y * mask.w + x]) continue;
      const at = ((y + mask.y) * size.width + x + mask.x) * 4;
      out.set(image.subarray(at, at + 3), at);
      out[at + 3] = 255;
    }
  }
  const [bx0, by0, bx1, by1] = maskBox(mask);
  if (!bx1) return out;
  const margin = 4 + Math.round(0.1 * Math.sqrt((bx1 - bx0) * (by1 - by0)));
  const [x0, y0] = [Math.max(0, bx0 - margin), Math.max(0, by0 - margin)];
  const [x1, y1] = [Math.min(size.width, bx1 + margin), Math.min(size.height, by1 + margin)];
  const scale = Math.min(1, Math.sqrt(WORK_PIXELS / ((x1 - x0) * (y1 - y0))));
  const w = Math.max(2, Math.round((x1 - x0) * scale));
  const h = Math.max(2, Math.round((y1 - y0) * scale));
  const box = [x0, y0, x1, y1];
  const small = [0, 1, 2].map((c) => shrink((x, y) => image[(y * size.width + x) * 4 + c] / 255, box, w, h));
  const part = shrink((x, y) => out[(y * size.width + x) * 4 + 3] / 255, box, w, h);
  const root = Math.sqrt(w * h);
  const band = edgeWithin(part, Math.max(1, Math.round(NEAR * root)));
  const linear = guided(small, part, Math.max(1, Math.round(NEAR * 1.5 * root)));
  const found: Plane = {
    w,
    h,
    data: part.data.map((value, i) => {
      if (!band[i]) return value;
      const colour = small.reduce((sum, plane, c) => sum + plane.data[i] * linear[c].data[i], linear[3].data[i]);
      return Math.min(1, Math.max(0, colour));
    }),
  };
  const fore = coloursAround(small, found);
  const ground = coloursAround(small, { w, h, data: found.data.map((value) => 1 - value) });
  const sample = sampler(w, h, w / (x1 - x0), h / (y1 - y0));
  const values = new Float64Array(10);
  const planes = [...linear, ...fore, ...ground];
  for (let y = y0; y < y1; y++) {
    const v = Math.floor(((y - y0) * h) / (y1 - y0));
    for (let x = x0; x < x1; x++) {
      if (!band[v * w + Math.floor(((x - x0) * w) / (x1 - x0))]) continue;
      const at = (y * size.width + x) * 4;
      sample(planes, x - x0, y - y0, values);
      let alpha = values[3];
      for (let c = 0; c < 3; c++) alpha += (values[c] * image[at + c]) / 255;
      alpha = Math.min(1, Math.max(0, (alpha - 0.5) * STEEP + 0.5));
      out[at + 3] = Math.round(alpha * 255);
      for (let c = 0; c < 3; c++) {
        const own = image[at + c];
        const object = values[4 + c] * 255;
        const move = (1 - alpha) * (object - values[7 + c] * 255);
        // Where alpha is low this would go too far: no pixel is moved past the object's own colour.
        const left = object - own;
        out[at + c] = own + (move > 0 ? Math.min(move, Math.max(left, 0)) : Math.max(move, Math.min(left, 0)));
      }
    }
  }
  return out;
}
