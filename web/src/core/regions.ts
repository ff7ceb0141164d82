/** Small holes and islands of masks, as in `mobilesam/core/regions.py`: pixels touch at corners too. */

import { type Mask, tight } from "./mask";

interface Regions {
  readonly labels: Int32Array; // 0 for other values, otherwise the region's number from 1
  readonly areas: number[]; // by number; the first is unused
  readonly outside: boolean[]; // by number: whether it goes on beyond the window
}

function labelRegions(bits: Uint8Array, w: number, h: number, value: number, open: boolean[]): Regions {
  const labels = new Int32Array(w * h);
  const areas = [0];
  const outside = [false];
  const stack: number[] = [];
  const [left, top, right, bottom] = open;
  for (let start = 0; start < bits.length; start++) {
    if (bits[start] !== value || labels[start]) continue;
    const label = areas.length;
    let area = 0;
    let beyond = false;
    labels[start] = label;
    stack.push(start);
    while (stack.length) {
      const at = stack.pop() as number;
      const y = Math.floor(at / w);
      const x = at - y * w;
      area++;
      beyond ||= (left && x === 0) || (top && y === 0) || (right && x === w - 1) || (bottom && y === h - 1);
      for (let v = Math.max(0, y - 1); v <= Math.min(h - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(w - 1, x + 1); u++) {
          const next = v * w + u;
          if (bits[next] !== value || labels[next]) continue;
          labels[next] = label;
          stack.push(next);
        }
      }
    }
    areas.push(area);
    outside.push(beyond);
  }
  return { labels, areas, outside };
}

/** Fill holes and drop islands below this many pixels; if every island is small, the largest stays. */
export function removeSmallRegions(mask: Mask, smallest: number): Mask {
  if (!mask.w) return mask;
  const { w, h } = mask;
  // Background at the window's end goes on outside, unless the picture ends there too.
  const open = [mask.x > 0, mask.y > 0, mask.x + w < mask.width, mask.y + h < mask.height];
  const bits = mask.bits.slice();
  const holes = labelRegions(bits, w, h, 0, open);
  for (let i = 0; i < bits.length; i++) {
    const label = holes.labels[i];
    if (label && !holes.outside[label] && holes.areas[label] < smallest) bits[i] = 1;
  }
  const islands = labelRegions(bits, w, h, 1, [false, false, false, false]);
  const largest = Math.max(0, ...islands.areas);
  const first = islands.areas.indexOf(largest);
  const stays = (label: number) => islands.areas[label] >= smallest || (largest < smallest && label === first);
  for (let i = 0; i < bits.length; i++) {
    const label = islands.labels[i];
    if (label && !stays(label)) bits[i] = 0;
  }
  return tight({ ...mask, bits });
}
