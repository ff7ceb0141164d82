/** Boxes x0, y0, x1, y1, as in `mobilesam/core/boxes.py`. */

import type { Box } from "./mask";

function iou(a: readonly number[], b: readonly number[]): number {
  const f = Math.fround;
  const wide = Math.max(0, f(Math.min(a[2], b[2]) - Math.max(a[0], b[0])));
  const tall = Math.max(0, f(Math.min(a[3], b[3]) - Math.max(a[1], b[1])));
  const overlap = f(wide * tall);
  const area = (box: readonly number[]) => f(f(box[2] - box[0]) * f(box[3] - box[1]));
  const union = f(f(area(a) + area(b)) - overlap);
  return union > 0 ? f(overlap / union) : 0;
}

/** The numbers of the boxes that stay, by falling score; one goes if its IoU with a better one is above the threshold. */
export function nonMaximumSuppression(
  boxes: readonly (readonly number[])[],
  scores: ArrayLike<number>,
  threshold: number,
  most: number,
): number[] {
  const rounded = boxes.map((box) => box.map(Math.fround));
  const order = Array.from(boxes.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  const kept: number[] = [];
  for (const i of order) {
    if (kept.length === most) break;
    if (kept.every((k) => iou(rounded[k], rounded[i]) <= threshold)) kept.push(i);
  }
  return kept;
}

/** Of a detector's boxes (N, 4) in an image, the likeliest that do not repeat each other. */
export function selectBoxes(
  boxes: readonly Box[],
  scores: ArrayLike<number>,
  size: { readonly width: number; readonly height: number },
  limits: { readonly confidence: number; readonly nms: number; readonly most: number },
): { box: Box; score: number }[] {
  const found: { box: Box; score: number }[] = [];
  boxes.forEach((box, i) => {
    if (!(scores[i] >= limits.confidence) || !box.every(Number.isFinite)) return;
    const inside: Box = [
      Math.min(Math.max(box[0], 0), size.width),
      Math.min(Math.max(box[1], 0), size.height),
      Math.min(Math.max(box[2], 0), size.width),
      Math.min(Math.max(box[3], 0), size.height),
    ];
    if (inside[2] - inside[0] >= 1 && inside[3] - inside[1] >= 1) found.push({ box: inside, score: scores[i] });
  });
  const kept = nonMaximumSuppression(
    found.map(({ box }) => box),
    found.map(({ score }) => score),
    limits.nms,
    limits.most,
  );
  return kept.map((i) => found[i]);
}
