/** Prompts, and how they become the decoder's inputs, as in `mobilesam/core/prompts.py`. */

import { type Frame, gridSize, type Size } from "./frame";
import { fullBits, type Mask, type Rle, rleToMask } from "./mask";

export const [FOREGROUND, BACKGROUND, PAD] = [1, 0, -1];
export const BOX_CORNERS = [2, 3] as const;
const MASK_LOGIT = 8;

export type Point = readonly [number, number];

/** What is known about one object, in pixels of the image. A prompt file says the same. */
export interface Prompt {
  readonly points?: readonly Point[];
  readonly labels?: readonly (0 | 1)[];
  readonly box?: readonly [number, number, number, number];
  readonly mask?: Rle;
}

/** Prompts with the same number of slots, in pixels of the network's input. */
export interface DecoderInputs {
  readonly prompts: number;
  readonly slots: number;
  readonly coords: Float32Array; // (B, N, 2)
  readonly labels: Float32Array; // (B, N)
  readonly masks: Float32Array | null; // (B, 1, side, side)
}

/** Whether a prompt may mean a part or the whole, so that it gets three masks. */
export function isAmbiguous(prompt: Prompt): boolean {
  return prompt.points?.length === 1 && !prompt.box && !prompt.mask;
}

export function isEmptyPrompt(prompt: Prompt): boolean {
  return !prompt.points?.length && !prompt.box && !prompt.mask;
}

function toInput(frame: Frame, [x, y]: Point): Point {
  const { original, input } = frame;
  return [x * (input.width / original.width), y * (input.height / original.height)];
}

/** A box that reaches outside the image is cut off there, as everywhere. */
function clipped(box: readonly number[], { width, height }: Size): [number, number, number, number] {
  return [Math.max(box[0], 0), Math.max(box[1], 0), Math.min(box[2], width), Math.min(box[3], height)];
}

export function toDecoderInputs(prompt: Prompt, frame: Frame, maskSide: number): DecoderInputs {
  const points = prompt.points ?? [];
  const coords: number[] = [];
  const labels: number[] = [];
  points.forEach((point, i) => {
    coords.push(...toInput(frame, point));
    labels.push(prompt.labels?.[i] ?? FOREGROUND);
  });
  if (prompt.box) {
    const [x0, y0, x1, y1] = clipped(prompt.box, frame.original);
    coords.push(...toInput(frame, [x0, y0]), ...toInput(frame, [x1, y1]));
    labels.push(...BOX_CORNERS);
  } else if (points.length) {
    coords.push(0, 0);
    labels.push(PAD);
  }
  return {
    prompts: 1,
    slots: labels.length,
    coords: Float32Array.from(coords),
    labels: Float32Array.from(labels),
    masks: prompt.mask ? maskToLogits(rleToMask(prompt.mask), maskSide, frame) : null,
  };
}

/** Single points (N, 2), each with the pad that SAM adds if there is no box. */
export function pointsToDecoderInputs(points: readonly Point[], frame: Frame): DecoderInputs {
  const coords = new Float32Array(points.length * 4);
  const labels = new Float32Array(points.length * 2);
  points.forEach((point, i) => {
    coords.set(toInput(frame, point), i * 4);
    labels.set([FOREGROUND, PAD], i * 2);
  });
  return { prompts: points.length, slots: 2, coords, labels, masks: null };
}

export function boxesToDecoderInputs(boxes: readonly (readonly number[])[], frame: Frame): DecoderInputs {
  const coords = new Float32Array(boxes.length * 4);
  const labels = new Float32Array(boxes.length * 2);
  boxes.forEach(([x0, y0, x1, y1], i) => {
    coords.set([...toInput(frame, [x0, y0]), ...toInput(frame, [x1, y1])], i * 4);
    labels.set(BOX_CORNERS, i * 2);
  });
  return { prompts: boxes.length, slots: 2, coords, labels, masks: null };
}

/** How much of each pixel of a side each of `cells` covers: for each cell, its first pixel and the parts. */
function areaParts(length: number, cells: number): { first: number; parts: number[] }[] {
  const out: { first: number; parts: number[] }[] = [];
  const edge = (i: number) => (i === cells ? length : (length / cells) * i);
  for (let i = 0; i < cells; i++) {
    const [start, stop] = [edge(i), edge(i + 1)];
    const first = Math.floor(start);
    const parts: number[] = [];
    let sum = 0;
    for (let at = first; at < stop; at++) {
      const overlap = Math.max(0, Math.min(at + 1, stop) - Math.max(at, start));
      parts.push(overlap);
      sum += overlap;
    }
    out.push({ first, parts: parts.map((part) => Math.fround(part / sum)) });
  }
  return out;
}

/** A mask of the image as mask-prompt logits (1, side, side): how much of each cell is object, -8 to 8. */
export function maskToLogits(mask: Mask, side: number, frame: Frame): Float32Array {
  const grid = gridSize(frame, side);
  const bits = fullBits(mask);
  const rows = areaParts(mask.height, grid.height);
  const columns = areaParts(mask.width, grid.width);
  const logits = new Float32Array(side * side).fill(-MASK_LOGIT);
  const line = new Float64Array(mask.width);
  rows.forEach((row, y) => {
    line.fill(0);
    row.parts.forEach((part, k) => {
      const from = Math.min(row.first + k, mask.height - 1) * mask.width;
      for (let x = 0; x < mask.width; x++) line[x] += part * bits[from + x];
    });
    columns.forEach((column, x) => {
      let share = 0;
      column.parts.forEach((part, k) => {
        share += part * line[Math.min(column.first + k, mask.width - 1)];
      });
      logits[y * side + x] = (2 * Math.fround(share) - 1) * MASK_LOGIT;
    });
  });
  return logits;
}
