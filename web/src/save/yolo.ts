/**
 * YOLO's lines, after `mobilesam/formats/yolo.py`: training fills a line's points with the pixels of its outline, so
 * the points are the outermost pixels of the mask; holes and further parts are reached by bridges, walked there and back.
 */

import type { Mask } from "../core/mask";
import { maskToRegions, type Region, type Ring } from "../core/outlines";
import type { Point } from "../core/prompts";

const TOLERANCE = 1; // pixels
const IN_PIXEL = 0.45; // of a pixel from its edge: cutting off and rounding both give this pixel
const LEAST_PART = 0.002; // of an object's area; smaller parts are not worth their bridge
const MOST_RINGS = 200;

/** The way along the pixels inside an outline, by its corners: for each, the pixel of the mask that lies in it. */
function pixels(ring: Ring): Point[] {
  const { points } = ring;
  return points.map(([x, y], i): Point => {
    const [px, py] = points[(i + points.length - 1) % points.length];
    const [nx, ny] = points[(i + 1) % points.length];
    // The mask lies to the right of the way: of the two edges' directions, both turned to the right.
    const dx = Math.sign(py - y) + Math.sign(y - ny);
    const dy = Math.sign(x - px) + Math.sign(nx - x);
    return [x + (dx < 0 ? -1 : 0), y + (dy < 0 ? -1 : 0)];
  });
}

/** Go from the nearest point of what is joined to a ring, around it and back. */
function bridged(way: readonly Point[], ring: readonly Point[]): Point[] {
  let [best, from, to] = [Infinity, 0, 0];
  way.forEach(([x, y], i) => {
    ring.forEach(([u, v], k) => {
      const distance = (u - x) ** 2 + (v - y) ** 2;
      if (distance < best) [best, from, to] = [distance, i, k];
    });
  });
  const around = [...ring.slice(to), ...ring.slice(0, to), ring[to]];
  return [...way.slice(0, from + 1), ...around, ...way.slice(from)];
}

/** A mask's line for a class; empty for an empty mask. */
export function maskToYoloLine(mask: Mask, classNumber: number): string {
  const regions = maskToRegions(mask, TOLERANCE);
  if (!regions.length) return "";
  const least = LEAST_PART * regions[0].exterior.area;
  const worth = regions.filter(({ exterior }, i) => i === 0 || exterior.area >= least);
  const rings = worth.flatMap(({ exterior, holes }: Region) => [exterior, ...holes]).slice(0, MOST_RINGS);
  const way = rings.slice(1).reduce((joined, ring) => bridged(joined, pixels(ring)), pixels(rings[0]));
  const numbers = way.flatMap(([x, y]) => [(x + IN_PIXEL) / mask.width, (y + IN_PIXEL) / mask.height]);
  return [String(classNumber), ...numbers.map((value) => Number(value.toPrecision(7)).toString())].join(" ");
}
