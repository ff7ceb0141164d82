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

const HALVINGS = 4; // of the tolerance, before a ring is left as it is
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
      do {
        if (dx === 1) seen[py * w + px] = 1;
        const [nx, ny] = [px + dx, py + dy];
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
      rings.push(...splitAtTouches(points));
    }
  }
  return rings;
}

/** Split a ring that touches itself at a corner, where two pixels meet diagonally, into rings that do not. */
function splitAtTouches(points: readonly Point[]): Ring[] {
  const rings: Ring[] = [];
  const way: Point[] = [];
  const places = new Map<string, number>(); // of each corner on the way
  for (const point of points) {
    const key = point.join();
    const before = places.get(key);
    if (before !== undefined) {
      const loop = way.splice(before);
      for (const one of loop) places.delete(one.join());
      rings.push({ points: loop, area: areaOf(loop) });
    }
    places.set(key, way.length);
    way.push(point);
  }
  return [{ points: way, area: areaOf(way) }, ...rings];
}

function areaOf(points: readonly Point[]): number {
  return (
    points.reduce((sum, [x, y], i) => {
      const [u, v] = points[(i + 1) % points.length];
      return sum + x * v - u * y;
    }, 0) / 2
  );
}

function perimeter(points: readonly Point[]): number {
  return points.reduce((sum, [x, y], i) => {
    const [u, v] = points[(i + 1) % points.length];
    return sum + Math.abs(u - x) + Math.abs(v - y);
  }, 0);
}

/** Douglas and Peucker's method on a closed ring, from its two points that lie farthest apart; it may then cross itself. */
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

/** Simplify rings together, each less where it would cross or touch itself or another. */
export function simplifyRings(rings: readonly Ring[], tolerance: number): Ring[] {
  const tolerances = rings.map(() => tolerance);
  for (let left = HALVINGS; ; left--) {
    const simple = rings.map((ring, i) => simplifyRing(ring, tolerances[i]));
    const wrong = inContact(simple).filter((i) => tolerances[i] > 0);
    if (!wrong.length) return simple;
    for (const i of wrong) tolerances[i] = left > 0 ? tolerances[i] / 2 : 0;
  }
}

interface Side {
  readonly ring: number;
  readonly from: Point;
  readonly to: Point;
}

/** Numbers of the rings whose sides meet elsewhere than at a common corner. */
function inContact(rings: readonly Ring[]): number[] {
  const sides = rings.flatMap(({ points }, ring) =>
    points.map((from, i): Side => ({ ring, from, to: points[(i + 1) % points.length] })),
  );
  const left = ({ from, to }: Side) => Math.min(from[0], to[0]);
  sides.sort((a, b) => left(a) - left(b));
  const found = new Set<number>();
  sides.forEach((one, i) => {
    const right = Math.max(one.from[0], one.to[0]);
    for (let k = i + 1; k < sides.length && left(sides[k]) <= right; k++) {
      const other = sides[k];
      if (found.has(one.ring) && found.has(other.ring)) continue;
      if (meet(one, other)) found.add(one.ring).add(other.ring);
    }
  });
  return [...found];
}

/** Whether two sides have a point in common that is not a corner of both. */
function meet(a: Side, b: Side): boolean {
  const low = (side: Side) => Math.min(side.from[1], side.to[1]);
  const high = (side: Side) => Math.max(side.from[1], side.to[1]);
  if (low(a) > high(b) || low(b) > high(a)) return false;
  const corners = [a.from, a.to].filter((p) => [b.from, b.to].some((q) => p[0] === q[0] && p[1] === q[1]));
  if (corners.length === 2) return true; // the same side twice
  const turns = [turn(a, b.from), turn(a, b.to), turn(b, a.from), turn(b, a.to)];
  if (corners.length === 1) {
    // Beyond a common corner they meet only if one lies along the other.
    return turns.every((one) => one === 0) && ahead(a, b, corners[0]) > 0;
  }
  if (turns.every((one) => one === 0)) return true; // on one line, and their boxes meet
  return turns[0] * turns[1] <= 0 && turns[2] * turns[3] <= 0;
}

/** On which side of a line a point lies: -1, 0 on it, or 1. */
function turn({ from, to }: Side, [x, y]: Point): number {
  return Math.sign((to[0] - from[0]) * (y - from[1]) - (to[1] - from[1]) * (x - from[0]));
}

/** How far two sides go the same way from a common corner; negative where they go apart. */
function ahead(a: Side, b: Side, corner: Point): number {
  const other = ({ from, to }: Side) => (from[0] === corner[0] && from[1] === corner[1] ? to : from);
  const [p, q] = [other(a), other(b)];
  return (p[0] - corner[0]) * (q[0] - corner[0]) + (p[1] - corner[1]) * (q[1] - corner[1]);
}

function encloses(ring: Ring, [x, y]: Point): boolean {
  let inside = false;
  ring.points.forEach(([ax, ay], i) => {
    const [bx, by] = ring.points[(i + 1) % ring.points.length];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}

/** A place in the mask beside a hole: the mask lies to the right of the way around it. */
function besideHole({ points }: Ring): Point {
  const [[ax, ay], [bx, by]] = points;
  const [dx, dy] = [Math.sign(bx - ax), Math.sign(by - ay)];
  return [(ax + bx) / 2 - dy / 4, (ay + by) / 2 + dx / 4];
}

/** A mask's regions with their holes, the largest first. */
export function maskToRegions(mask: Mask, tolerance: number): Region[] {
  const rings = traceRings(mask);
  const simple = new Map(simplifyRings(rings, tolerance).map((ring, i) => [rings[i], ring]));
  const outer = rings.filter(({ area }) => area > 0).sort((a, b) => b.area - a.area);
  const holes = new Map<Ring, Ring[]>(outer.map((ring) => [ring, []]));
  for (const hole of rings.filter(({ area }) => area < 0)) {
    const around = outer.filter((ring) => encloses(ring, besideHole(hole)));
    const own = around[around.length - 1] ?? outer[0]; // the smallest
    holes.get(own)?.push(hole);
  }
  const simplified = (ring: Ring) => simple.get(ring) as Ring;
  return outer.map((ring) => ({
    exterior: simplified(ring),
    holes: (holes.get(ring) ?? []).map(simplified),
  }));
}

/** The outlines of a mask as an SVG path, even-odd. */
export function maskToPath(mask: Mask, tolerance: number): string {
  return simplifyRings(traceRings(mask), tolerance)
    .map(({ points }) => `M${points.map(([x, y]) => `${x} ${y}`).join("L")}Z`)
    .join("");
}
