/**
 * Resizing, as in `mobilesam/core/resize.py`: Pillow's antialiased bilinear filter for images, in its own
 * fixed-point arithmetic, and separable linear maps for logits. A canvas resizes differently, which costs 4 % of IoU.
 */

import type { Frame, Size } from "./frame";

const PRECISION_BITS = 22; // of Pillow's coefficients for 8-bit samples: 32 - 8 - 2

interface Coefficients {
  readonly start: Int32Array;
  readonly count: Int32Array;
  readonly values: Int32Array;
  readonly stride: number;
}

/** Which samples each output averages, and by how much, in Pillow's fixed point. */
function coefficients(length: number, newLength: number): Coefficients {
  const scale = length / newLength;
  const filterScale = Math.max(scale, 1);
  const support = filterScale; // the bilinear filter reaches one pixel of the smaller picture
  const stride = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(newLength);
  const count = new Int32Array(newLength);
  const values = new Int32Array(newLength * stride);
  const weights = new Float64Array(stride);
  for (let i = 0; i < newLength; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const many = Math.min(length, Math.trunc(centre + support + 0.5)) - first;
    let sum = 0;
    for (let k = 0; k < many; k++) {
      const distance = Math.abs((k + first - centre + 0.5) / filterScale);
      weights[k] = distance < 1 ? 1 - distance : 0;
      sum += weights[k];
    }
    for (let k = 0; k < many; k++) {
      const weight = sum ? weights[k] / sum : weights[k];
      values[i * stride + k] = Math.trunc(0.5 + weight * 2 ** PRECISION_BITS);
    }
    start[i] = first;
    count[i] = many;
  }
  return { start, count, values, stride };
}

function toByte(sum: number): number {
  const value = sum >> PRECISION_BITS;
  return Math.min(Math.max(value, 0), 255);
}

/** Resize (height, width, 3) bytes along the width. */
function resizeRows(image: Uint8Array, height: number, width: number, newWidth: number): Uint8Array {
  const { start, count, values, stride } = coefficients(width, newWidth);
  const out = new Uint8Array(height * newWidth * 3);
  const half = 1 << (PRECISION_BITS - 1);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      let r = half;
      let g = half;
      let b = half;
      let from = (y * width + start[x]) * 3;
      for (let k = x * stride, end = k + count[x]; k < end; k++, from += 3) {
        const weight = values[k];
        r += image[from] * weight;
        g += image[from + 1] * weight;
        b += image[from + 2] * weight;
      }
      out[at++] = toByte(r);
      out[at++] = toByte(g);
      out[at++] = toByte(b);
    }
  }
  return out;
}

/** Resize (height, width, 3) bytes along the height. */
function resizeColumns(image: Uint8Array, height: number, width: number, newHeight: number): Uint8Array {
  const { start, count, values, stride } = coefficients(height, newHeight);
  const row = width * 3;
  const out = new Uint8Array(newHeight * row);
  const sums = new Int32Array(row);
  for (let y = 0; y < newHeight; y++) {
    sums.fill(1 << (PRECISION_BITS - 1));
    for (let k = 0; k < count[y]; k++) {
      const weight = values[y * stride + k];
      const from = (start[y] + k) * row;
      for (let x = 0; x < row; x++) sums[x] += image[from + x] * weight;
    }
    for (let x = 0; x < row; x++) out[y * row + x] = toByte(sums[x]);
  }
  return out;
}

/** Resize an image of (height, width, 3) bytes to another size, the same to the bit as Pillow. */
export function resizeImage(image: Uint8Array, size: Size, to: Size): Uint8Array {
  let out = image;
  if (to.width !== size.width) out = resizeRows(out, size.height, size.width, to.width);
  if (to.height !== size.height) out = resizeColumns(out, size.height, to.width, to.height);
  return out;
}

/** A linear map along one axis in which output n reads the inputs `index[n * taps + k]`. */
export interface Taps {
  readonly taps: number;
  readonly length: number;
  readonly index: Int32Array;
  readonly weight: Float32Array;
}

/** The two samples that bilinear resampling reads at each place, with pixel centres and clamped ends. */
function bilinear(length: number, newLength: number, i: number): [number, number, number, number] {
  const position = Math.min(length - 1, Math.max(0, (i + 0.5) * (length / newLength) - 0.5));
  const low = Math.min(Math.floor(position), length - 1);
  const part = position - low;
  return [low, Math.min(low + 1, length - 1), Math.fround(1 - part), Math.fround(part)];
}

/** The map from a mask's cells to the square, cut to the image, and to the image's own pixels: one map. */
function axisTaps(lowRes: number, side: number, inner: number, outer: number): Taps {
  const rows: Map<number, number>[] = [];
  let taps = 1;
  for (let i = 0; i < outer; i++) {
    const row = new Map<number, number>();
    const [low, high, lowWeight, highWeight] = bilinear(inner, outer, i);
    for (const [at, outerWeight] of [
      [low, lowWeight],
      [high, highWeight],
    ]) {
      const [first, second, firstWeight, secondWeight] = bilinear(lowRes, side, at);
      for (const [cell, weight] of [
        [first, firstWeight],
        [second, secondWeight],
      ]) {
        if (weight * outerWeight) row.set(cell, (row.get(cell) ?? 0) + weight * outerWeight);
      }
    }
    taps = Math.max(taps, row.size);
    rows.push(row);
  }
  const index = new Int32Array(outer * taps);
  const weight = new Float32Array(outer * taps);
  rows.forEach((row, i) => {
    const cells = [...row.keys()].sort((a, b) => a - b);
    for (let k = 0; k < taps; k++) {
      const cell = cells[Math.min(k, cells.length - 1)];
      index[i * taps + k] = cell;
      weight[i * taps + k] = k < cells.length ? (row.get(cell) ?? 0) : 0;
    }
  });
  return { taps, length: outer, index, weight };
}

const known = new Map<string, [Taps, Taps]>();

/** The maps of rows and columns from a low-resolution mask to the image's size; a few sizes are kept. */
export function enlargingTaps(lowRes: number, frame: Frame): [Taps, Taps] {
  const { original, input, side } = frame;
  const key = [lowRes, side, input.height, input.width, original.height, original.width].join();
  const kept = known.get(key);
  if (kept) return kept;
  if (known.size > 15) known.clear();
  const taps: [Taps, Taps] = [
    axisTaps(lowRes, side, input.height, original.height),
    axisTaps(lowRes, side, input.width, original.width),
  ];
  known.set(key, taps);
  return taps;
}

/** The outputs [start, stop) that read an input from `first` to `last`. */
export function reading(map: Taps, first: number, last: number): [number, number] {
  let start = map.length;
  let stop = 0;
  for (let i = 0; i < map.length; i++) {
    if (map.index[(i + 1) * map.taps - 1] >= first && start === map.length) start = i;
    if (map.index[i * map.taps] <= last) stop = i + 1;
  }
  return [start, stop];
}
