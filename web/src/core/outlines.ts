/** Outlines of a mask along its pixels' edges, and fewer points for them. */

import type { Mask } from "./mask";
import type { Point } from "./prompts";

export interface Ring {
  readonly points: readonly Point[]; // corners of pixels, not closed by repeating the first
  readonly area: number; // of what it encloses; negative for holes
}

export interface Region {
  readonly exterior: Ring;
  readonly holes: readonly Ring[];
}

const LOSS = 0.1; // part of a shape that simplifying may take: the tolerance is at most this times area by perimeter

/** Trace all outlines, around regions clockwise on the screen, around holes the other way. */
export function traceRings(mask: Mask): Ring[] {
  const { w, h, bits } = mask;
  const at = (x: number, y: number) => x >= 0 && y >= 0 && x < w && y < h && bits[y * w + x] === 1;
  // An edge that goes right along the top of pixel (x, y) is where a ring begins; each is walked once.
  const seen = new Uint8Array(w * h);
  const rings: Ring[] = [];
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!at(x, y) || at(x, y - 1) || seen[y * w + x]) continue;
      const points: Point[] = [];
      let [px, py, dx, dy] = [x, y, 1, 0];
      let area = 0;
      do {
        if (dx === 1) seen[py * w + px] = 1;
        const [nx, ny] = [px + dx, py + dy];
        area += px * ny - nx * py;
        // The pixels ahead of the corner, right and left of the way; the mask is to the right.
        const right = at(nx + (dx - dy - 1) / 2, ny + (dy + dx - 1) / 2);
        const left = at(nx + (dx + dy - 1) / 2, ny + (dy - dx - 1) / 2);
        let turn: [number, number] = [dx, dy];
        if (!right) turn = [-dy, dx];
        else if (left) turn = [dy, -dx];
        [px, py] = [nx, ny];
        if (turn[0] !== dx || turn[1] !== dy) points.push([nx + mask.x, ny + mask.y]);
        [dx, dy] = turn;
      } while (px !== x || py !== y || dx !== 1 || dy !== 0);
      rings.push({ points, area: area / 2 });
    }
  }
  return rings;
}

function perimeter(points: readonly Point[]): number {
  return points.reduce((sum, [x, y], i) => {
    const [u, v] = points[(i + 1) % points.length];
    return sum + Math.abs(u - x) + Math.abs(v - y);
  }, 0);
}

/** Douglas and Peucker's method on a closed ring, from its two points that lie farthest apart. */
export function simplifyRing(ring: Ring, tolerance: number): Ring {
  const { points } = ring;
  const limit = Math.min(tolerance, (LOSS * Math.abs(ring.area)) / Math.max(1, perimeter(points)));
  if (points.length < 5 || limit <= 0) return ring;
  const keep = new Uint8Array(points.length);
  let far = 0;
  points.forEach(([x, y], i) => {
    const apart = ([u, v]: Point) => (u - points[0][0]) ** 2 + (v - points[0][1]) ** 2;
    if (apart([x, y]) > apart(points[far])) far = i;
  });
  keep[0] = 1;
  keep[far] = 1;
  const pending: [number, number][] = [
    [0, far],
    [far, points.length],
  ];
  while (pending.length) {
    const [from, to] = pending.pop() as [number, number];
    const [ax, ay] = points[from];
    const [bx, by] = points[to % points.length];
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    let worst = 0;
    let which = -1;
    for (let i = from + 1; i < to; i++) {
      const [x, y] = points[i];
      const along = length ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
      const distance = Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay));
      if (distance > worst) [worst, which] = [distance, i];
    }
    if (which < 0 || worst <= limit) continue;
    keep[which] = 1;
    pending.push([from, which], [which, to]);
  }
  const kept = points.filter((_, i) => keep[i]);
  return kept.length < 3 ? ring : { points: kept, area: ring.area };
}

function encloses(ring: Ring, [x, y]: Point): boolean {
  let inside = false;
  ring.points.forEach(([ax, ay], i) => {
    const [bx, by] = ring.points[(i + 1) % ring.points.length];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}

/** A mask's regions with their holes, the largest first. */
export function maskToRegions(mask: Mask, tolerance: number): Region[] {
  const rings = traceRings(mask);
  const outer = rings.filter(({ area }) => area > 0).sort((a, b) => b.area - a.area);
  const holes = new Map<Ring, Ring[]>(outer.map((ring) => [ring, []]));
  for (const hole of rings.filter(({ area }) => area < 0)) {
    const [x, y] = hole.points[0];
    // A place inside the mask beside the hole: of all outlines around it, the smallest is its own.
    const around = outer.filter((ring) => -hole.area < ring.area && encloses(ring, [x + 0.25, y + 0.25]));
    const own = around[around.length - 1] ?? outer[0];
    holes.get(own)?.push(hole);
  }
  return outer.map((ring) => ({
    exterior: simplifyRing(ring, tolerance),
    holes: (holes.get(ring) ?? []).map((hole) => simplifyRing(hole, tolerance)),
  }));
}

/** The outlines of a mask as an SVG path, even-odd. */
export function maskToPath(mask: Mask, tolerance: number): string {
  return traceRings(mask)
    .map((ring) => {
      const { points } = simplifyRing(ring, tolerance);
      return `M${points.map(([x, y]) => `${x} ${y}`).join("L")}Z`;
    })
    .join("");
}
