/**
 * The part of an input that a prompt is decoded from, as in `mobilesam/core/views.py`: an object that is known to be
 * small is decoded from a window around it, as fine as the encoder saw it, anything else from the whole, reduced.
 */

import type { Size } from "./frame";
import { boxOfBits } from "./mask";
import { BOX_CORNERS, type DecoderInputs, FOREGROUND, PAD } from "./prompts";

const LARGEST = 0.5; // longer side of an object that is decoded from a window, in sides of the largest window
const AROUND = 1; // what a window shows beyond an object on each side, in the object's longer side,
const LEAST_AROUND = 1 / 8; // but at least this, in sides of the largest window
const SIDES = [3 / 8, 1 / 2, 3 / 4, 1]; // of windows, in sides of the largest
const STEP = 16; // pixels of the input; windows begin at multiples
const BEYOND = -10; // the logit of what a view does not show
const REDUCED = "whole_";

export interface Spec {
  readonly imageSize: number;
  readonly viewSize: number;
}

/** x, y, width, height in pixels of the input; a width of 0 means the whole. */
export type View = readonly [number, number, number, number];
export const WHOLE: View = [0, 0, 0, 0];

/** A float32 array (B, C, h, w) or (B, C). */
export interface Named {
  readonly data: Float32Array;
  readonly dims: readonly number[];
}
export type Arrays = Readonly<Record<string, Named>>;

export interface Decoded {
  readonly masks: number; // M
  readonly side: number;
  readonly logits: Float32Array; // (B, M, side, side)
  readonly ious: Float32Array; // (B, M)
}

type Run = (arrays: Arrays, inputs: DecoderInputs, maskSize: Size | null) => Promise<{ logits: Named; ious: Named }>;

type Corner = [number, number];

/** The bounds of the chosen points of prompt i, those beyond the input at its edge. */
function bounds(inputs: DecoderInputs, i: number, shape: Size, chosen: (label: number) => boolean): [Corner, Corner] {
  const low: Corner = [Infinity, Infinity];
  const high: Corner = [-Infinity, -Infinity];
  for (let n = 0; n < inputs.slots; n++) {
    const at = i * inputs.slots + n;
    if (!chosen(inputs.labels[at])) continue;
    const limits = [shape.width, shape.height];
    for (const axis of [0, 1]) {
      const value = Math.min(Math.max(inputs.coords[at * 2 + axis], 0), limits[axis]);
      low[axis] = Math.min(low[axis], value);
      high[axis] = Math.max(high[axis], value);
    }
  }
  return [low, high];
}

/** What a prompt says about its object: its box or what its mask covers, and its foreground points. */
function extent(inputs: DecoderInputs, i: number, spec: Spec, shape: Size): [Corner, Corner] {
  const [first, second] = BOX_CORNERS;
  const [low, high] = bounds(inputs, i, shape, (l) => l === FOREGROUND || l === first || l === second);
  const labels = inputs.labels.subarray(i * inputs.slots, (i + 1) * inputs.slots);
  if (labels.includes(first) && labels.includes(second)) return [low, high];
  let box: readonly number[] = [0, 0, shape.width, shape.height];
  if (inputs.masks) {
    const side = Math.round(Math.sqrt(inputs.masks.length / inputs.prompts));
    const pixels = spec.imageSize / side;
    const [rows, columns] = [Math.trunc(shape.height / pixels), Math.trunc(shape.width / pixels)];
    const inside = new Uint8Array(rows * columns);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        inside[y * columns + x] = inputs.masks[(i * side + y) * side + x] > 0 ? 1 : 0;
      }
    }
    const found = boxOfBits(inside, columns, rows);
    if (found[2]) box = found.map((value) => value * pixels);
  }
  return [
    [Math.min(low[0], box[0]), Math.min(low[1], box[1])],
    [Math.max(high[0], box[2]), Math.max(high[1], box[3])],
  ];
}

/** The window of a prompt whose object is small, and the whole for others. */
export function chooseView(inputs: DecoderInputs, i: number, spec: Spec, shape: Size): View {
  const [low, high] = extent(inputs, i, spec, shape);
  const [least, most] = bounds(inputs, i, shape, (label) => label !== PAD);
  const limits = [shape.width, shape.height];
  const longer = Math.max(high[0] - low[0], high[1] - low[1]);
  const around = Math.max(AROUND * longer, LEAST_AROUND * spec.viewSize);
  for (const axis of [0, 1]) {
    least[axis] = Math.min(low[axis], least[axis]);
    most[axis] = Math.max(high[axis], most[axis]);
  }
  const wanted = Math.max(longer + 2 * around, Math.max(most[0] - least[0], most[1] - least[1]) + STEP);
  const lengths = SIDES.map((side) => side * spec.viewSize);
  const side = lengths.find((length) => length >= wanted) ?? lengths[lengths.length - 1];
  const corner: number[] = [];
  const size: number[] = [];
  for (const axis of [0, 1]) {
    size[axis] = Math.min(side, limits[axis]);
    let at = (low[axis] + high[axis] - size[axis]) / 2;
    at = Math.min(Math.max(at, most[axis] - size[axis]), least[axis]);
    corner[axis] = Math.min(Math.max(Math.floor(at / STEP) * STEP, 0), limits[axis] - size[axis]);
    const fits = corner[axis] <= least[axis] && most[axis] <= corner[axis] + size[axis];
    if (!fits || high[axis] - low[axis] > LARGEST * spec.viewSize) return WHOLE;
  }
  return [Math.trunc(corner[0]), Math.trunc(corner[1]), Math.trunc(size[0]), Math.trunc(size[1])];
}

/** Height and width of the input that arrays come from; its longer side is always full. */
export function shapeOf(embedding: Arrays, spec: Spec): Size {
  const [, , height, width] = embedding.image_embedding.dims;
  const stride = Math.floor(spec.imageSize / Math.max(height, width));
  return { height: height * stride, width: width * stride };
}

interface Cut {
  readonly top: number;
  readonly left: number;
  readonly rows: number;
  readonly columns: number;
}

/** Which rows and columns of an input's array (h, w) a view shows. */
function cutOf(spec: Spec, height: number, width: number, view: View, shape: Size): Cut {
  const stride = Math.floor(spec.imageSize / Math.max(height, width));
  const [x, y, w, h] = view[2] ? view : [0, 0, shape.width, shape.height];
  const [top, left] = [Math.floor(y / stride), Math.floor(x / stride)];
  return {
    top,
    left,
    rows: Math.min(height, Math.floor((y + h) / stride)) - top,
    columns: Math.min(width, Math.floor((x + w) / stride)) - left,
  };
}

/** The parts of an array (1, C, h, w) in several views of one size, (B, C, h', w'). */
function cutArray(array: Named, views: readonly View[], spec: Spec, shape: Size): Named {
  const [, channels, height, width] = array.dims;
  const cuts = views.map((view) => cutOf(spec, height, width, view, shape));
  const { rows, columns } = cuts[0];
  const data = new Float32Array(views.length * channels * rows * columns);
  let to = 0;
  for (const { top, left } of cuts) {
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < rows; y++, to += columns) {
        const from = (c * height + top + y) * width + left;
        data.set(array.data.subarray(from, from + columns), to);
      }
    }
  }
  return { data, dims: [views.length, channels, rows, columns] };
}

/** Some prompts as the decoder gets them in their views. */
function inView(
  inputs: DecoderInputs,
  numbers: readonly number[],
  views: readonly View[],
  spec: Spec,
  shape: Size,
): { inputs: DecoderInputs; maskSize: Size | null } {
  const { slots } = inputs;
  const coords = new Float32Array(numbers.length * slots * 2);
  const labels = new Float32Array(numbers.length * slots);
  numbers.forEach((number, i) => {
    const [x, y, width] = views[i];
    const scale = width ? 1 : spec.viewSize / spec.imageSize;
    labels.set(inputs.labels.subarray(number * slots, (number + 1) * slots), i * slots);
    for (let n = 0; n < slots * 2; n++) {
      const corner = n % 2 ? y : x;
      coords[i * slots * 2 + n] = (inputs.coords[number * slots * 2 + n] - corner + 0.5) * scale - 0.5;
    }
  });
  if (!inputs.masks) {
    return { inputs: { prompts: numbers.length, slots, coords, labels, masks: null }, maskSize: null };
  }
  const side = Math.round(Math.sqrt(inputs.masks.length / inputs.prompts));
  const parts = numbers.map((number, i) => {
    const data = (inputs.masks as Float32Array).subarray(number * side * side, (number + 1) * side * side);
    return cutArray({ data, dims: [1, 1, side, side] }, [views[i]], spec, shape);
  });
  const [, , height, width] = parts[0].dims;
  const masks = new Float32Array(numbers.length * height * width);
  parts.forEach((part, i) => {
    masks.set(part.data, i * height * width);
  });
  return {
    inputs: { prompts: numbers.length, slots, coords, labels, masks },
    maskSize: { height, width },
  };
}

/** Decode each prompt from its view, and return logits and predicted IoUs of the whole, square input. */
export async function decodeViews(
  embedding: Arrays,
  inputs: DecoderInputs,
  spec: Spec,
  names: readonly string[],
  run: Run,
): Promise<Decoded> {
  const shape = shapeOf(embedding, spec);
  const views = Array.from({ length: inputs.prompts }, (_, i) => chooseView(inputs, i, spec, shape));
  const groups = new Map<string, number[]>();
  views.forEach((view, i) => {
    const key = `${view[2]},${view[3]}`;
    groups.set(key, [...(groups.get(key) ?? []), i]);
  });
  let out: Decoded | null = null;
  for (const numbers of groups.values()) {
    const shown = numbers.map((i) => views[i]);
    const arrays: Record<string, Named> = {};
    for (const name of names) {
      arrays[name] = shown[0][2]
        ? cutArray(embedding[name], shown, spec, shape)
        : (embedding[REDUCED + name] ?? embedding[name]);
    }
    const asked = inView(inputs, numbers, shown, spec, shape);
    const { logits, ious } = await run(arrays, asked.inputs, asked.maskSize);
    const [, masks, rows, columns] = logits.dims;
    if (!out) {
      const stride = Math.floor((shown[0][2] || shape.width) / columns);
      const side = Math.floor(spec.imageSize / stride);
      out = {
        masks,
        side,
        logits: new Float32Array(inputs.prompts * masks * side * side).fill(BEYOND),
        ious: new Float32Array(inputs.prompts * masks),
      };
    }
    const { side } = out;
    for (let n = 0; n < numbers.length; n++) {
      out.ious.set(ious.data.subarray(n * masks, (n + 1) * masks), numbers[n] * masks);
      const { top, left } = cutOf(spec, side, side, shown[n], shape);
      for (let m = 0; m < masks; m++) {
        for (let y = 0; y < rows; y++) {
          const from = ((n * masks + m) * rows + y) * columns;
          const to = ((numbers[n] * masks + m) * side + top + y) * side + left;
          out.logits.set(logits.data.subarray(from, from + columns), to);
        }
      }
    }
  }
  if (!out) return { masks: 0, side: 0, logits: new Float32Array(0), ious: new Float32Array(0) };
  goOnBelow(out, spec, shape);
  return out;
}

/** Repeat the last row and column once in the padding: enlarging looks one further than the picture. */
function goOnBelow({ logits, side }: Decoded, spec: Spec, shape: Size): void {
  const height = Math.floor((shape.height * side) / spec.imageSize);
  const width = Math.floor((shape.width * side) / spec.imageSize);
  for (let at = 0; at < logits.length; at += side * side) {
    if (height < side) logits.copyWithin(at + height * side, at + (height - 1) * side, at + height * side);
    if (width < side) {
      for (let y = 0; y < side; y++) logits[at + y * side + width] = logits[at + y * side + width - 1];
    }
  }
}
