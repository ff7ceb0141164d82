/** What each tool makes of a gesture. */

import { maskBox, polygonToMask } from "../core/mask";
import type { Point } from "../core/prompts";
import type { App } from "./app";
import type { Gestures, Label } from "./pointer";

const LEAST_DRAG = 4; // pixels of the page; less is a click
const STROKE_POINTS = 5; // that stand for a brushed line: more add nothing
const BRUSH_APART = 1.5; // least distance between two of them, in brush widths

export class Tools implements Gestures {
  private path: Point[] = [];
  private label: Label = 1;

  constructor(private readonly app: App) {}

  /** Whether one draws with the tool instead of clicking. */
  get drags(): boolean {
    return ["box", "brush", "lasso"].includes(this.app.tool) && !this.app.found.length;
  }

  get active(): boolean {
    return this.path.length > 0;
  }

  private clamped([x, y]: Point): Point {
    const { width, height } = this.app.photo?.image ?? { width: 1, height: 1 };
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  }

  begin(at: Point, label: Label): void {
    if (!this.app.photo || this.app.cutting) return;
    this.label = label;
    if (!this.drags) {
      this.path = [at];
      return;
    }
    this.path = [this.clamped(at)];
    this.show();
  }

  move(at: Point): void {
    if (!this.path.length || !this.drags) return;
    const place = this.clamped(at);
    const [x, y] = this.path[this.path.length - 1];
    if (Math.hypot(place[0] - x, place[1] - y) < this.app.stage.length(1)) return;
    if (this.app.tool === "box") this.path = [this.path[0], place];
    else this.path.push(place);
    this.show();
  }

  private show(): void {
    const { app, path } = this;
    if (app.tool === "box") app.drawing = { box: [path[0], path[path.length - 1]], line: null };
    else {
      const width = app.stage.length(app.brush);
      app.drawing = { box: null, line: { points: [...path], width, closed: app.tool === "lasso" } };
    }
    app.redraw();
  }

  end(at: Point): void {
    if (!this.path.length) return;
    const path = this.drags ? this.path : [at];
    this.cancel();
    const { app } = this;
    if (app.cutting) return;
    if (app.found.length) {
      if (app.inside(at)) app.take(at);
      return;
    }
    const long = path.some(([x, y]) => Math.hypot(x - path[0][0], y - path[0][1]) > app.stage.length(LEAST_DRAG));
    if (app.tool === "box" && long) this.box(path);
    else if (app.tool === "brush" && long) void app.points(this.spread(path), this.label);
    else if (app.tool === "lasso" && path.length > 4 && long) this.lasso(path);
    else if (app.inside(path[0])) void app.point(path[0], this.label);
  }

  cancel(): void {
    this.path = [];
    this.app.drawing = { box: null, line: null };
    this.app.redraw();
  }

  hover(at: Point | null): void {
    this.app.hover(at);
  }

  private box(path: readonly Point[]): void {
    const [[ax, ay], [bx, by]] = [path[0], path[path.length - 1]];
    const box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)] as const;
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) void this.app.box(box);
  }

  /** Some points of a brushed line, evenly along it: the model understands points, and a few of them are enough. */
  private spread(path: readonly Point[]): Point[] {
    const { app } = this;
    const lengths = path.slice(1).map(([x, y], i) => Math.hypot(x - path[i][0], y - path[i][1]));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const apart = BRUSH_APART * app.stage.length(app.brush);
    const many = Math.min(STROKE_POINTS, Math.max(2, Math.floor(total / apart) + 1));
    const points: Point[] = [];
    let [walked, at] = [0, 0];
    for (let n = 0; n < many; n++) {
      const place = (total * (n + 0.5)) / many;
      while (at < lengths.length - 1 && walked + lengths[at] < place) walked += lengths[at++];
      const part = lengths[at] ? (place - walked) / lengths[at] : 0;
      const [[ax, ay], [bx, by]] = [path[at], path[at + 1]];
      points.push([ax + part * (bx - ax), ay + part * (by - ay)]);
    }
    return points.filter((point) => app.inside(point));
  }

  private lasso(path: readonly Point[]): void {
    const { app } = this;
    if (!app.photo) return;
    const mask = polygonToMask(path, app.photo.image);
    if (mask.w) void app.lasso(mask, maskBox(mask));
  }
}
