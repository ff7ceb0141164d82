/** Mouse, pen, fingers and the keyboard's pointer become gestures on the picture. */

import type { Point } from "../core/prompts";
import type { Stage } from "./stage";

export type Label = 0 | 1;

/** What a tool makes of a gesture, in pixels of the picture. */
export interface Gestures {
  begin(at: Point, label: Label): void;
  move(at: Point): void;
  end(at: Point): void;
  cancel(): void;
  /** The pointer rests on a place, or has left. */
  hover(at: Point | null): void;
}

const SLOP = 6; // pixels that a finger may move in a tap
const LONG_PRESS = 450; // milliseconds after which a tap means "does not belong"
const WHEEL_STEP = 0.0015;

export interface PointerOptions {
  readonly pans: () => boolean; // whether a drag moves the picture
  readonly drags: () => boolean; // whether the tool is drawn with
  readonly label: () => Label; // of a plain click
}

export class PointerInput {
  private readonly down = new Map<number, Point>(); // where each pointer is, on the page
  private mode: "idle" | "tool" | "pan" | "pinch" = "idle";
  private start: Point = [0, 0];
  private label: Label = 1;
  private timer = 0;
  /** Whether the space bar is held: a drag then moves the picture. */
  space = false;

  constructor(
    private readonly stage: Stage,
    private readonly gestures: Gestures,
    private readonly options: PointerOptions,
  ) {
    const { host } = stage;
    host.addEventListener("pointerdown", (event) => this.onDown(event));
    host.addEventListener("pointermove", (event) => this.onMove(event));
    host.addEventListener("pointerup", (event) => this.onUp(event));
    host.addEventListener("pointercancel", (event) => this.onCancel(event));
    host.addEventListener("pointerleave", () => gestures.hover(null));
    host.addEventListener("contextmenu", (event) => event.preventDefault());
    host.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
  }

  private at(event: PointerEvent): Point {
    return this.stage.toPicture(event.clientX, event.clientY);
  }

  private onDown(event: PointerEvent): void {
    const { host } = this.stage;
    host.focus({ preventScroll: true });
    this.down.set(event.pointerId, [event.clientX, event.clientY]);
    try {
      host.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that is already gone cannot be captured.
    }
    this.gestures.hover(null);
    if (this.down.size === 2) {
      clearTimeout(this.timer);
      if (this.mode === "tool") this.gestures.cancel();
      this.mode = "pinch";
      return;
    }
    if (this.down.size > 2) return;
    this.start = [event.clientX, event.clientY];
    const plain = this.options.label();
    this.label = event.button === 2 || event.altKey ? 0 : plain;
    if (event.button === 1 || this.space || this.options.pans()) {
      this.mode = "pan";
      return;
    }
    this.mode = "tool";
    if (event.pointerType === "touch" && !this.options.drags()) {
      this.timer = window.setTimeout(() => {
        this.label = 0;
        navigator.vibrate?.(15);
      }, LONG_PRESS);
    }
    if (this.options.drags()) this.gestures.begin(this.at(event), this.label);
  }

  private onMove(event: PointerEvent): void {
    const before = this.down.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch" && !this.options.pans()) this.gestures.hover(this.at(event));
      return;
    }
    const now: Point = [event.clientX, event.clientY];
    if (this.mode === "pinch") this.pinch(event.pointerId, now);
    this.down.set(event.pointerId, now);
    if (this.mode === "pan") this.stage.pan(now[0] - before[0], now[1] - before[1]);
    if (this.mode !== "tool") return;
    if (this.options.drags()) {
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.gestures.move(this.at(one));
    } else if (Math.hypot(now[0] - this.start[0], now[1] - this.start[1]) > SLOP) {
      clearTimeout(this.timer);
      // A finger that moves on a picture moves the picture; a mouse that slips a little still clicks.
      if (event.pointerType === "touch") this.mode = "pan";
    }
  }

  private pinch(moved: number, now: Point): void {
    const others = [...this.down].filter(([id]) => id !== moved);
    const before = this.down.get(moved);
    if (others.length !== 1 || !before) return;
    const still = others[0][1];
    const apart = (a: Point) => Math.max(1, Math.hypot(a[0] - still[0], a[1] - still[1]));
    const box = this.stage.host.getBoundingClientRect();
    const middle = { x: (now[0] + still[0]) / 2 - box.left, y: (now[1] + still[1]) / 2 - box.top };
    this.stage.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.stage.zoom(apart(now) / apart(before), middle);
  }

  private onUp(event: PointerEvent): void {
    clearTimeout(this.timer);
    if (!this.down.delete(event.pointerId)) return;
    if (this.mode === "tool") {
      if (!this.options.drags()) this.gestures.begin(this.at(event), this.label);
      this.gestures.end(this.at(event));
    }
    if (this.down.size === 0) this.mode = "idle";
  }

  private onCancel(event: PointerEvent): void {
    clearTimeout(this.timer);
    this.down.delete(event.pointerId);
    if (this.mode === "tool") this.gestures.cancel();
    if (this.down.size === 0) this.mode = "idle";
  }

  private onWheel(event: WheelEvent): void {
    event.preventDefault();
    const box = this.stage.host.getBoundingClientRect();
    if (event.shiftKey || (event.deltaX !== 0 && !event.ctrlKey)) {
      const [dx, dy] = event.shiftKey && !event.deltaX ? [event.deltaY, 0] : [event.deltaX, event.deltaY];
      this.stage.pan(-dx, -dy);
      return;
    }
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1;
    const speed = event.ctrlKey ? 6 : 1; // a pinch on a touch pad comes as small steps with Ctrl
    const factor = Math.exp(-event.deltaY * lines * speed * WHEEL_STEP);
    this.stage.zoom(factor, { x: event.clientX - box.left, y: event.clientY - box.top });
  }
}
