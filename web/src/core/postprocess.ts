/** From low-resolution logits to masks, as in `mobilesam/core/postprocess.py`. */

import { type Frame, gridSize, type Size } from "./frame";
import { emptyMask, type Mask, tight } from "./mask";
import { enlargingTaps, reading, type Taps } from "./resize";

export const STABILITY_OFFSET = 1;

export interface Window {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
  readonly logits: Float32Array;
}

/** Map the rows [start, stop) of outputs over (rows, width) values, in float32 as NumPy does. */
function applyRows(map: Taps, start: number, stop: number, values: Float32Array, width: number): Float32Array {
  const out = new Float32Array((stop - start) * width);
  for (let i = start; i < stop; i++) {
    const to = (i - start) * width;
    for (let k = 0; k < map.taps; k++) {
      const weight = map.weight[i * map.taps + k];
      const from = map.index[i * map.taps + k] * width;
      if (k > 0 && weight === 0) continue;
      if (k === 0) for (let x = 0; x < width; x++) out[to + x] = weight * values[from + x];
      else for (let x = 0; x < width; x++) out[to + x] += Math.fround(weight * values[from + x]);
    }
  }
  return out;
}

/** Map the columns [start, stop) of outputs over (height, side) values. */
function applyColumns(map: Taps, start: number, stop: number, values: Float32Array, side: number): Float32Array {
  const height = values.length / side;
  const width = stop - start;
  const out = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let i = start; i < stop; i++) {
      const at = i * map.taps;
      let sum = Math.fround(map.weight[at] * values[y * side + map.index[at]]);
      for (let k = 1; k < map.taps; k++) {
        const weight = map.weight[at + k];
        if (weight) sum = Math.fround(sum + Math.fround(weight * values[y * side + map.index[at + k]]));
      }
      out[y * width + i - start] = sum;
    }
  }
  return out;
}

/** Enlarge one mask's logits (side, side) where they can be above a floor; null if they are nowhere. */
export function enlargeWindow(lowRes: Float32Array, side: number, floor: number, frame: Frame): Window | null {
  let [x0, y0, x1, y1] = [side, side, -1, -1];
  for (let y = 0, i = 0; y < side; y++) {
    for (let x = 0; x < side; x++, i++) {
      if (!(lowRes[i] > floor)) continue;
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      y1 = y;
    }
  }
  if (x1 < 0) return null;
  const [rows, columns] = enlargingTaps(side, frame);
  const [top, bottom] = reading(rows, y0, y1);
  const [left, right] = reading(columns, x0, x1);
  if (top >= bottom || left >= right) return null;
  const narrow = applyColumns(columns, left, right, lowRes, side);
  const logits = applyRows(rows, top, bottom, narrow, right - left);
  return { x: left, y: top, w: right - left, h: bottom - top, logits };
}

/** The mask where a window's logits are above 0. */
export function windowToMask(window: Window | null, size: Size): Mask {
  if (!window) return emptyMask(size);
  const { x, y, w, h } = window;
  const bits = new Uint8Array(w * h);
  for (let i = 0; i < bits.length; i++) bits[i] = window.logits[i] > 0 ? 1 : 0;
  return tight({ width: size.width, height: size.height, x, y, w, h, bits });
}

export function enlargeMask(lowRes: Float32Array, side: number, frame: Frame): Mask {
  return windowToMask(enlargeWindow(lowRes, side, 0, frame), frame.original);
}

/** The part (h, w) of logits that shows some of the image. */
export function visiblePart(lowRes: Float32Array, side: number, frame: Frame): { size: Size; logits: Float32Array } {
  const size = gridSize(frame, side);
  const logits = new Float32Array(size.height * size.width);
  for (let y = 0; y < size.height; y++) {
    logits.set(lowRes.subarray(y * side, y * side + size.width), y * size.width);
  }
  return { size, logits };
}

/** How little a mask changes with its threshold, 0 to 1. */
export function stability(logits: Float32Array, offset = STABILITY_OFFSET): number {
  let inner = 0;
  let outer = 0;
  for (const logit of logits) {
    if (logit > offset) inner++;
    if (logit > -offset) outer++;
  }
  return Math.fround(inner / Math.max(outer, 1));
}
