/** The picture with everything drawn on it: two canvases, one view of zoom and place. */

import type { Mask } from "../core/mask";
import { simplifyRing, traceRings } from "../core/outlines";
import type { Point, Prompt } from "../core/prompts";

const MARGIN = 24; // pixels around a picture that fits
const MOST_ZOOM = 32;
const TINT = 0.36;
const OUTLINE_TOLERANCE = 0.75; // pixels of the mask

/** A mask as it is drawn: tinted in one colour, with its outline. */
interface Drawn {
  readonly colour: string;
  readonly tint: OffscreenCanvas | null;
  readonly path: Path2D;
}

export interface Layer {
  readonly mask: Mask;
  readonly colour: string;
  readonly fill: number; // how much of the tint, 0 to 1
  readonly strong: boolean;
  readonly dashed?: boolean;
}

/** What is on the picture. */
export interface Scene {
  readonly layers: readonly Layer[];
  readonly prompt: Prompt | null;
  readonly box: readonly [Point, Point] | null; // while it is drawn
  readonly line: { readonly points: readonly Point[]; readonly width: number; readonly closed: boolean } | null;
  readonly cross: Point | null; // the keyboard's pointer
  readonly cut: { readonly picture: ImageBitmap; readonly ground: string | null } | null;
}

export const NOTHING: Scene = { layers: [], prompt: null, box: null, line: null, cross: null, cut: null };

export class Stage {
  private readonly base: CanvasRenderingContext2D;
  private readonly over: CanvasRenderingContext2D;
  private readonly drawn = new WeakMap<Mask, Drawn>();
  private picture: ImageBitmap | null = null;
  private size = { width: 1, height: 1 };
  private scale = 1;
  private x = 0; // of the picture's corner, in pixels of the page
  private y = 0;
  private fitted = true;
  private waiting = false;
  private scene: Scene = NOTHING;

  constructor(
    readonly host: HTMLElement,
    base: HTMLCanvasElement,
    over: HTMLCanvasElement,
    private readonly onView: (zoom: number) => void,
  ) {
    this.base = base.getContext("2d") as CanvasRenderingContext2D;
    this.over = over.getContext("2d") as CanvasRenderingContext2D;
    new ResizeObserver(() => this.resize()).observe(host);
  }

  /** Show another picture; its size in pixels may differ from the bitmap's. */
  show(picture: ImageBitmap | null, size: { width: number; height: number }): void {
    this.picture?.close();
    this.picture = picture;
    this.size = size;
    this.scene = NOTHING;
    this.resize();
    this.fit();
  }

  draw(scene: Scene): void {
    this.scene = scene;
    this.refresh();
  }

  private resize(): void {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.host;
    for (const { canvas } of [this.base, this.over]) {
      canvas.width = Math.max(1, Math.round(clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    }
    if (this.fitted) this.fit();
    this.paint();
  }

  fit(): void {
    const { clientWidth, clientHeight } = this.host;
    const margin = Math.min(MARGIN, clientWidth / 20);
    const across = (clientWidth - 2 * margin) / this.size.width;
    const down = (clientHeight - 2 * margin) / this.size.height;
    this.scale = Math.max(0.001, Math.min(across, down, 4));
    this.x = (clientWidth - this.size.width * this.scale) / 2;
    this.y = (clientHeight - this.size.height * this.scale) / 2;
    this.fitted = true;
    this.view();
  }

  /** Zoom by a factor around a place of the page; the middle if none is given. */
  zoom(factor: number, at?: { x: number; y: number }): void {
    const { clientWidth, clientHeight } = this.host;
    const place = at ?? { x: clientWidth / 2, y: clientHeight / 2 };
    const least = Math.min(clientWidth / this.size.width, clientHeight / this.size.height) / 4;
    const scale = Math.min(MOST_ZOOM, Math.max(least, this.scale * factor));
    this.x = place.x - ((place.x - this.x) * scale) / this.scale;
    this.y = place.y - ((place.y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.view();
  }

  pan(dx: number, dy: number): void {
    const { clientWidth, clientHeight } = this.host;
    const keep = 48; // pixels of the picture that stay in sight
    this.x = Math.min(clientWidth - keep, Math.max(keep - this.size.width * this.scale, this.x + dx));
    this.y = Math.min(clientHeight - keep, Math.max(keep - this.size.height * this.scale, this.y + dy));
    this.fitted = false;
    this.view();
  }

  private view(): void {
    this.onView(this.scale);
    this.refresh();
  }

  /** A place of the page in pixels of the picture. */
  toPicture(x: number, y: number): Point {
    const box = this.host.getBoundingClientRect();
    return [(x - box.left - this.x) / this.scale, (y - box.top - this.y) / this.scale];
  }

  toPage([x, y]: Point): Point {
    const box = this.host.getBoundingClientRect();
    return [box.left + this.x + x * this.scale, box.top + this.y + y * this.scale];
  }

  /** A length in pixels of the page, in pixels of the picture. */
  length(pixels: number): number {
    return pixels / this.scale;
  }

  /** Bring a place of the picture into sight. */
  reveal(point: Point): void {
    const [x, y] = [this.x + point[0] * this.scale, this.y + point[1] * this.scale];
    const { clientWidth, clientHeight } = this.host;
    const edge = 32;
    const into = (value: number, length: number) =>
      value < edge ? edge - value : value > length - edge ? length - edge - value : 0;
    const [dx, dy] = [into(x, clientWidth), into(y, clientHeight)];
    if (dx || dy) this.pan(dx, dy);
  }

  private refresh(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  private paint(): void {
    const ratio = devicePixelRatio || 1;
    const { base, over, scene } = this;
    for (const context of [base, over]) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    }
    if (!this.picture) return;
    base.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, this.x * ratio, this.y * ratio);
    base.imageSmoothingEnabled = this.scale < 3;
    base.imageSmoothingQuality = "high";
    const { width, height } = this.size;
    if (scene.cut) {
      this.ground(scene.cut.ground);
      base.drawImage(scene.cut.picture, 0, 0, width, height);
      return;
    }
    base.drawImage(this.picture, 0, 0, width, height);
    over.setTransform(base.getTransform());
    for (const layer of scene.layers) this.layer(layer);
    this.prompt(scene);
  }

  /** What a cut-out lies on: a colour, or squares that stand for nothing. */
  private ground(colour: string | null): void {
    const { base } = this;
    const { width, height } = this.size;
    base.fillStyle = colour ?? "#fff";
    base.fillRect(0, 0, width, height);
    if (colour) return;
    const side = this.length(9);
    base.fillStyle = "#d9d9de";
    for (let y = 0, row = 0; y < height; y += side, row++) {
      for (let x = (row % 2) * side; x < width; x += 2 * side) {
        base.fillRect(x, y, Math.min(side, width - x), Math.min(side, height - y));
      }
    }
  }

  private ready(mask: Mask, colour: string): Drawn {
    const kept = this.drawn.get(mask);
    if (kept?.colour === colour) return kept;
    const made = { colour, tint: tinted(mask, colour), path: smoothOutline(mask) };
    this.drawn.set(mask, made);
    return made;
  }

  private layer({ mask, colour, fill, strong, dashed }: Layer): void {
    if (!mask.w) return;
    const { over } = this;
    const { tint, path } = this.ready(mask, colour);
    over.save();
    over.scale(this.size.width / mask.width, this.size.height / mask.height); // a preview's mask is smaller
    const unit = (this.length(1) * mask.width) / this.size.width;
    if (tint && fill) {
      over.globalAlpha = TINT * fill;
      over.drawImage(tint, mask.x, mask.y);
      over.globalAlpha = 1;
    }
    over.lineJoin = "round";
    if (strong) {
      over.strokeStyle = "rgba(255, 255, 255, 0.92)";
      over.lineWidth = 4.5 * unit;
      over.stroke(path);
    }
    if (dashed) over.setLineDash([5 * unit, 4 * unit]);
    over.strokeStyle = dashed ? "#fff" : colour;
    over.lineWidth = (strong ? 2.25 : 1.75) * unit;
    over.stroke(path);
    over.restore();
  }

  private prompt({ prompt, box, line, cross }: Scene): void {
    const { over } = this;
    const unit = this.length(1);
    if (prompt?.box) this.frame([prompt.box[0], prompt.box[1]], [prompt.box[2], prompt.box[3]], true);
    if (box) this.frame(box[0], box[1], false);
    if (line && line.points.length > 0) {
      over.beginPath();
      line.points.forEach(([x, y], i) => {
        if (i) over.lineTo(x, y);
        else over.moveTo(x, y);
      });
      over.lineCap = "round";
      over.lineJoin = "round";
      over.strokeStyle = line.closed ? "#fff" : "rgba(255, 255, 255, 0.65)";
      over.lineWidth = line.closed ? 2 * unit : line.width;
      if (line.closed) {
        over.setLineDash([6 * unit, 4 * unit]);
        over.fillStyle = "rgba(255, 255, 255, 0.18)";
        over.fill();
      }
      over.stroke();
      over.setLineDash([]);
    }
    prompt?.points?.forEach((point, i) => {
      this.dot(point, prompt.labels?.[i] !== 0);
    });
    if (cross) this.cross(cross);
  }

  private frame([ax, ay]: Point, [bx, by]: Point, done: boolean): void {
    const { over } = this;
    const unit = this.length(1);
    const rectangle = [Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay)] as const;
    over.strokeStyle = "rgba(0, 0, 0, 0.55)";
    over.lineWidth = 3 * unit;
    over.strokeRect(...rectangle);
    over.strokeStyle = "#fff";
    over.lineWidth = 1.5 * unit;
    if (done) over.setLineDash([5 * unit, 4 * unit]);
    over.strokeRect(...rectangle);
    over.setLineDash([]);
  }

  /** A point: a disc with a plus where it belongs, a minus where it does not. Not told apart by colour alone. */
  private dot([x, y]: Point, belongs: boolean): void {
    const { over } = this;
    const unit = this.length(1);
    over.beginPath();
    over.arc(x, y, 8 * unit, 0, 7);
    over.fillStyle = belongs ? "#0a7d3c" : "#c2271c";
    over.fill();
    over.strokeStyle = "#fff";
    over.lineWidth = 2 * unit;
    over.stroke();
    over.beginPath();
    over.moveTo(x - 3.5 * unit, y);
    over.lineTo(x + 3.5 * unit, y);
    if (belongs) {
      over.moveTo(x, y - 3.5 * unit);
      over.lineTo(x, y + 3.5 * unit);
    }
    over.lineCap = "round";
    over.stroke();
  }

  private cross([x, y]: Point): void {
    const { over } = this;
    const unit = this.length(1);
    for (const [colour, width] of [
      ["rgba(0, 0, 0, 0.75)", 4],
      ["#fff", 1.75],
    ] as const) {
      over.beginPath();
      over.strokeStyle = colour;
      over.lineWidth = width * unit;
      for (const [dx, dy] of [
        [1, 0],
        [-1, 0],
        [0, 1],
        [0, -1],
      ]) {
        over.moveTo(x + dx * 5 * unit, y + dy * 5 * unit);
        over.lineTo(x + dx * 16 * unit, y + dy * 16 * unit);
      }
      over.stroke();
    }
  }
}

/** A mask's outlines without the steps of its pixels: curves through the middles of their sides. */
function smoothOutline(mask: Mask): Path2D {
  const path = new Path2D();
  for (const ring of traceRings(mask)) {
    const { points } = simplifyRing(ring, OUTLINE_TOLERANCE);
    const middle = (i: number): Point => {
      const [[ax, ay], [bx, by]] = [points[i % points.length], points[(i + 1) % points.length]];
      return [(ax + bx) / 2, (ay + by) / 2];
    };
    path.moveTo(...middle(0));
    for (let i = 1; i <= points.length; i++) path.quadraticCurveTo(...points[i % points.length], ...middle(i));
    path.closePath();
  }
  return path;
}

/** A mask's window in one colour, transparent elsewhere. */
function tinted(mask: Mask, colour: string): OffscreenCanvas | null {
  if (!mask.w) return null;
  const canvas = new OffscreenCanvas(mask.w, mask.h);
  const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
  const data = context.createImageData(mask.w, mask.h);
  const value = Number.parseInt(colour.slice(1), 16);
  // In the order of the bytes: red first, alpha last.
  const pixel = 0xff000000 | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16);
  const pixels = new Int32Array(data.data.buffer);
  for (let i = 0; i < pixels.length; i++) if (mask.bits[i]) pixels[i] = pixel;
  context.putImageData(data, 0, 0);
  return canvas;
}
