/** Masks: a window of ones and zeros in a picture, and its run lengths as in COCO. */

import type { Size } from "./frame";

/** A mask that is 0 outside its window. `bits` has a byte for each pixel of the window, row by row. */
export interface Mask {
  readonly width: number;
  readonly height: number;
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
  readonly bits: Uint8Array;
}

export interface Rle {
  readonly size: readonly [number, number];
  readonly counts: string;
}

export type Box = readonly [number, number, number, number];

export function emptyMask(size: Size): Mask {
  return { width: size.width, height: size.height, x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0) };
}

export function maskArea(mask: Mask): number {
  let area = 0;
  for (const bit of mask.bits) area += bit;
  return area;
}

/** The tight box x0, y0, x1, y1 of ones in (h, w) values, with exclusive far edges; zeros if there are none. */
export function boxOfBits(bits: ArrayLike<number>, w: number, h: number): Box {
  let [x0, y0, x1, y1] = [w, h, 0, 0];
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) {
      if (!bits[i]) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 ? [x0, y0, x1, y1] : [0, 0, 0, 0];
}

export function maskBox(mask: Mask): Box {
  const [x0, y0, x1, y1] = boxOfBits(mask.bits, mask.w, mask.h);
  return x1 ? [x0 + mask.x, y0 + mask.y, x1 + mask.x, y1 + mask.y] : [0, 0, 0, 0];
}

/** The same mask with a window that it just fills. */
export function tight(mask: Mask): Mask {
  const [x0, y0, x1, y1] = boxOfBits(mask.bits, mask.w, mask.h);
  if (!x1) return emptyMask(mask);
  if (x1 - x0 === mask.w && y1 - y0 === mask.h) return mask;
  const bits = new Uint8Array((x1 - x0) * (y1 - y0));
  for (let y = y0; y < y1; y++) {
    bits.set(mask.bits.subarray(y * mask.w + x0, y * mask.w + x1), (y - y0) * (x1 - x0));
  }
  return { ...mask, x: mask.x + x0, y: mask.y + y0, w: x1 - x0, h: y1 - y0, bits };
}

export function maskAt(mask: Mask, x: number, y: number): boolean {
  const [column, row] = [Math.floor(x) - mask.x, Math.floor(y) - mask.y];
  return column >= 0 && row >= 0 && column < mask.w && row < mask.h && mask.bits[row * mask.w + column] === 1;
}

/** The mask (height, width) as a byte for each pixel of the whole picture. */
export function fullBits(mask: Mask): Uint8Array {
  const full = new Uint8Array(mask.width * mask.height);
  for (let y = 0; y < mask.h; y++) {
    full.set(mask.bits.subarray(y * mask.w, (y + 1) * mask.w), (y + mask.y) * mask.width + mask.x);
  }
  return full;
}

/** What any of several masks of one picture covers. */
export function unionOf(masks: readonly Mask[], size: Size): Mask {
  if (masks.length === 1) return masks[0];
  const bits = new Uint8Array(size.width * size.height);
  for (const mask of masks) {
    for (let y = 0, i = 0; y < mask.h; y++) {
      let at = (y + mask.y) * size.width + mask.x;
      for (let x = 0; x < mask.w; x++, i++, at++) bits[at] |= mask.bits[i];
    }
  }
  return tight({ width: size.width, height: size.height, x: 0, y: 0, w: size.width, h: size.height, bits });
}

export function maskToRle(mask: Mask): Rle {
  const counts: number[] = [];
  let last = 0; // where the open run began
  let value = 0;
  for (let x = 0; x < mask.w; x++) {
    const column = (mask.x + x) * mask.height;
    if (value && (mask.y > 0 || mask.h < mask.height)) {
      // Above the window is background, so a run that reached the window's end has ended there.
      const at = column - mask.height + mask.y + mask.h;
      counts.push(at - last);
      last = at;
      value = 0;
    }
    for (let y = 0; y < mask.h; y++) {
      const bit = mask.bits[y * mask.w + x];
      if (bit !== value) {
        const at = column + mask.y + y;
        counts.push(at - last);
        last = at;
        value = bit;
      }
    }
  }
  const total = mask.width * mask.height;
  if (value) {
    const at = (mask.x + mask.w - 1) * mask.height + mask.y + mask.h;
    counts.push(at - last);
    last = at;
  }
  if (total > last || counts.length === 0) counts.push(total - last);
  return { size: [mask.height, mask.width], counts: countsToText(counts) };
}

/** COCO's text: each count as its difference from the one before the last, five bits a character. */
export function countsToText(counts: readonly number[]): string {
  let out = "";
  for (let i = 0; i < counts.length; i++) {
    let value = i > 2 ? counts[i] - counts[i - 2] : counts[i];
    for (;;) {
      const group = value & 0x1f;
      value >>= 5;
      const done = value === (group & 0x10 ? -1 : 0);
      out += String.fromCharCode(48 + (done ? group : group | 0x20));
      if (done) break;
    }
  }
  return out;
}

export function textToCounts(text: string): number[] {
  const counts: number[] = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    for (;;) {
      const group = text.charCodeAt(at++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
      if (!(group & 0x20)) {
        if (group & 0x10 && shift < 32) value |= -1 << shift;
        break;
      }
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  return counts;
}

export function rleToMask(rle: Rle): Mask {
  const [height, width] = rle.size;
  const counts = textToCounts(rle.counts);
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  const runs: [number, number][] = [];
  for (let i = 0, at = 0; i < counts.length; at += counts[i], i++) {
    if (i % 2 === 0 || counts[i] === 0) continue;
    const end = at + counts[i];
    runs.push([at, end]);
    const [first, last] = [Math.floor(at / height), Math.floor((end - 1) / height)];
    x0 = Math.min(x0, first);
    x1 = Math.max(x1, last + 1);
    y0 = Math.min(y0, first === last ? at - first * height : 0);
    y1 = Math.max(y1, first === last ? end - last * height : height);
  }
  if (!x1) return emptyMask({ height, width });
  const [w, h] = [x1 - x0, y1 - y0];
  const bits = new Uint8Array(w * h);
  for (const [start, end] of runs) {
    let x = Math.floor(start / height);
    let y = start - x * height;
    for (let at = start; at < end; at++) {
      bits[(y - y0) * w + x - x0] = 1;
      if (++y === height) {
        y = 0;
        x++;
      }
    }
  }
  return tight({ width, height, x: x0, y: y0, w, h, bits });
}

/** What lies inside a closed line of points, by the even-odd rule at the pixels' centres. */
export function polygonToMask(points: readonly (readonly [number, number])[], size: Size): Mask {
  const bits = new Uint8Array(size.width * size.height);
  for (let y = 0; y < size.height; y++) {
    const crossings: number[] = [];
    for (let i = 0; i < points.length; i++) {
      const [ax, ay] = points[i];
      const [bx, by] = points[(i + 1) % points.length];
      const middle = y + 0.5;
      if (ay <= middle === by <= middle) continue;
      crossings.push(ax + ((middle - ay) / (by - ay)) * (bx - ax));
    }
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5));
      const to = Math.min(size.width, Math.ceil(crossings[i + 1] - 0.5));
      if (to > from) bits.fill(1, y * size.width + from, y * size.width + to);
    }
  }
  return tight({ width: size.width, height: size.height, x: 0, y: 0, w: size.width, h: size.height, bits });
}
