/** Segment everything, as in `mobilesam/segment/everything`: boxes of objects, then points where no mask lies yet. */

import { selectBoxes } from "./boxes";
import type { Frame } from "./frame";
import type { Box, Mask } from "./mask";
import { maskArea } from "./mask";
import { enlargeWindow, stability, visiblePart, windowToMask } from "./postprocess";
import { boxesToDecoderInputs, type DecoderInputs, type Point, type Prompt, pointsToDecoderInputs } from "./prompts";
import { removeSmallRegions } from "./regions";
import type { Decoded } from "./views";

const AT_ONCE = 8; // prompts in one call
const HYBRID_BOXES = 0.625; // of the prompts: the rest is for what no box holds
const STABILITY_MARGIN = 0.01; // how far low-resolution stability may be off
const LARGEST = 0.1; // part of the image; what lies in a larger mask may still be something of its own
const COARSEST = 4; // points per side of the first look at what no mask explains
const FINEST = 32;
const SPREAD_BITS = 12;
const CONFIDENCE = 0.01;
const PROPOSAL_NMS = 0.8;

/** The options for results that people look at: `EverythingOptions.tidy` in Python. */
export const TIDY = { maxPrompts: 64, maskNms: 0.6, predictedIou: 0.5, stability: 0.25, smallest: 100 };
export type EverythingOptions = typeof TIDY;

export interface FoundMask {
  readonly mask: Mask;
  readonly predictedIou: number;
  readonly stability: number;
  readonly area: number;
  readonly prompt: Prompt; // what it was found by
  readonly token: number; // which of its masks it is
}

type Decode = (inputs: DecoderInputs, tokens: readonly number[]) => Promise<Decoded>;

interface Good {
  readonly row: number;
  readonly token: number;
  readonly iou: number;
  readonly lowRes: Float32Array;
  readonly mask: Mask;
  readonly stability: number;
}

/** The masks so far, as bits of their visible logits, and the places that they explain. */
class Found {
  private readonly bits: Uint32Array[] = [];
  private readonly areas: number[] = [];
  private explained: Uint8Array | null = null;
  private size = { height: 1, width: 1 };

  constructor(private readonly threshold: number) {}

  offer(logits: Float32Array, size: { height: number; width: number }): boolean {
    const bits = new Uint32Array(Math.ceil(logits.length / 32));
    let area = 0;
    logits.forEach((logit, i) => {
      if (!(logit > 0)) return;
      bits[i >> 5] |= 1 << (i & 31);
      area++;
    });
    if (this.bits.some((other, k) => this.repeats(other, this.areas[k], bits, area))) return false;
    this.bits.push(bits);
    this.areas.push(area);
    if (area <= LARGEST * logits.length) {
      this.size = size;
      this.explained ??= new Uint8Array(logits.length);
      for (let i = 0; i < logits.length; i++) if (logits[i] > 0) this.explained[i] = 1;
    }
    return true;
  }

  private repeats(other: Uint32Array, otherArea: number, bits: Uint32Array, area: number): boolean {
    let overlap = 0;
    for (let i = 0; i < bits.length; i++) overlap += countBits(bits[i] & other[i]);
    return overlap > this.threshold * (otherArea + area - overlap);
  }

  explains([x, y]: Point): boolean {
    if (!this.explained) return false;
    const { height, width } = this.size;
    const column = Math.min(Math.trunc(x * width), width - 1);
    return this.explained[Math.min(Math.trunc(y * height), height - 1) * width + column] === 1;
  }
}

function countBits(value: number): number {
  let v = value - ((value >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return (((v + (v >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
}

/** A grid of side x side points in 0..1, in an order in which the first ones, however many, spread over the image. */
export function spreadGrid(side: number): Point[] {
  const points: Point[] = [];
  for (let i = 0; i < side * side; i++) points.push([((i % side) + 0.5) / side, (Math.floor(i / side) + 0.5) / side]);
  const place = ([x, y]: Point) => {
    const cells = [x, y].map((v) => Math.min(Math.floor(v * 2 ** SPREAD_BITS), 2 ** SPREAD_BITS - 1));
    let number = 0;
    for (let bit = 0; bit < SPREAD_BITS; bit++) {
      for (const axis of [0, 1]) {
        number |= ((cells[axis] >> (SPREAD_BITS - 1 - bit)) & 1) << (2 * bit + axis);
      }
    }
    return number;
  };
  return points
    .map((point, i) => ({ point, i, key: place(point) }))
    .sort((a, b) => a.key - b.key || a.i - b.i)
    .map(({ point }) => point);
}

export interface Search {
  readonly frame: Frame;
  readonly options: EverythingOptions;
  readonly boxes: readonly Box[]; // of the network's input
  readonly objectness: ArrayLike<number>;
  readonly decode: Decode;
}

/** Yield the masks of an image as they are found, with how many prompts are done. */
export async function* searchEverything(search: Search): AsyncGenerator<{ found: FoundMask[]; done: number }> {
  const { frame, options } = search;
  const { original, input } = frame;
  const scaleX = Math.fround(original.width / input.width);
  const scaleY = Math.fround(original.height / input.height);
  const scaled = search.boxes.map(([x0, y0, x1, y1]): Box => {
    const f = Math.fround;
    return [f(x0 * scaleX), f(y0 * scaleY), f(x1 * scaleX), f(y1 * scaleY)];
  });
  const most = Math.max(1, Math.trunc(options.maxPrompts * HYBRID_BOXES));
  const limits = { confidence: CONFIDENCE, nms: PROPOSAL_NMS, most };
  const boxes = selectBoxes(scaled, search.objectness, original, limits);
  const found = new Found(options.maskNms);
  let done = 0;
  const keep = (good: Good, prompt: Prompt): FoundMask[] => {
    const { size, logits } = visiblePart(good.lowRes, sideOf(good.lowRes), frame);
    if (!found.offer(logits, size)) return [];
    const mask = removeSmallRegions(good.mask, options.smallest);
    const { iou: predictedIou, stability: stable, token } = good;
    return [{ mask, predictedIou, stability: stable, area: maskArea(mask), prompt, token }];
  };
  for (let start = 0; start < boxes.length; start += AT_ONCE) {
    const batch = boxes.slice(start, start + AT_ONCE);
    const xyxy = batch.map(({ box }) => box);
    const good = await decodeGood(search, boxesToDecoderInputs(xyxy, frame), [0]);
    done += batch.length;
    yield { found: good.flatMap((one) => keep(one, { box: [...xyxy[one.row]] as Box })), done };
  }
  let left = options.maxPrompts - done;
  for (let side = COARSEST; side <= FINEST && left > 0; side *= 2) {
    let points = spreadGrid(side);
    while (points.length && left > 0) {
      points = points.filter((point) => !found.explains(point));
      const batch = points.slice(0, Math.min(AT_ONCE, left));
      points = points.slice(AT_ONCE);
      if (!batch.length) break;
      left -= batch.length;
      done += batch.length;
      const places = batch.map(([x, y]): Point => [x * original.width, y * original.height]);
      const good = await decodeGood(search, pointsToDecoderInputs(places, frame), [1, 2, 3]);
      good.sort((a, b) => b.iou - a.iou);
      yield { found: good.flatMap((one) => keep(one, { points: [places[one.row]], labels: [1] })), done };
    }
  }
}

function sideOf(lowRes: Float32Array): number {
  return Math.round(Math.sqrt(lowRes.length));
}

/** Decode prompts and keep the good masks, the cheapest question first. */
async function decodeGood(search: Search, inputs: DecoderInputs, tokens: readonly number[]): Promise<Good[]> {
  const { frame, options } = search;
  const { masks, side, logits, ious } = await search.decode(inputs, tokens);
  const good: Good[] = [];
  for (let i = 0; i < inputs.prompts * masks; i++) {
    if (!(ious[i] > options.predictedIou)) continue;
    const lowRes = logits.subarray(i * side * side, (i + 1) * side * side);
    if (stability(visiblePart(lowRes, side, frame).logits) < options.stability - STABILITY_MARGIN) continue;
    const window = enlargeWindow(lowRes, side, -1, frame);
    if (!window) continue;
    const exact = stability(window.logits);
    if (exact < options.stability) continue;
    const mask = windowToMask(window, frame.original);
    good.push({ row: Math.floor(i / masks), token: i % masks, iou: ious[i], lowRes, mask, stability: exact });
  }
  return good;
}
