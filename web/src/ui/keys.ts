/** The keyboard for everything: a pointer of its own on the picture, and a key for everything that has a button. */

import type { Point } from "../core/prompts";
import type { App, ToolName } from "./app";
import type { PointerInput } from "./pointer";
import type { Tools } from "./tools";

const STEP = 8; // pixels of the page that an arrow key moves the pointer
const LONG_STEP = 40;
const ZOOM = 1.25;

export interface Commands {
  tool(name: ToolName): void;
  label(label: 0 | 1): void;
  help(): void;
  open(): void;
  save(): void;
  browse(by: 1 | -1): void;
  brush(by: number): void;
}

const TOOLS: Record<string, ToolName> = { p: "point", b: "box", r: "brush", l: "lasso", h: "pan" };
const ARROWS: Record<string, Point> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export class Keys {
  constructor(
    private readonly app: App,
    private readonly tools: Tools,
    private readonly pointer: PointerInput,
    private readonly commands: Commands,
  ) {
    document.addEventListener("keydown", (event) => this.onDown(event));
    document.addEventListener("keyup", (event) => {
      if (event.key === " ") pointer.space = false;
    });
    app.stage.host.addEventListener("blur", () => {
      if (app.cross && tools.active) tools.cancel();
      app.cross = null;
      app.redraw();
    });
  }

  private onDown(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    const typing =
      target.matches("input:not([type=range]):not([type=radio]), textarea, select") || target.isContentEditable;
    if (document.querySelector("dialog[open]") || event.defaultPrevented) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    let done = false;
    if (command && !typing) done = this.withCommand(key, event.shiftKey);
    else if (!command && !typing && !event.altKey) {
      if (target === this.app.stage.host) done = this.onStage(event, key);
      done ||= this.single(key);
    }
    if (done) event.preventDefault();
  }

  private withCommand(key: string, shift: boolean): boolean {
    if (key === "z" && shift) this.app.redo();
    else if (key === "z") this.app.undo();
    else if (key === "y") this.app.redo();
    else if (key === "s") this.commands.save();
    else if (key === "o") this.commands.open();
    else return false;
    return true;
  }

  /** Keys of the picture itself: they move a pointer, press it and let go. */
  private onStage(event: KeyboardEvent, key: string): boolean {
    const { app, tools } = this;
    if (!app.photo) return false;
    const arrow = ARROWS[key];
    if (arrow) {
      const pixels = event.shiftKey ? LONG_STEP : STEP;
      const step = app.stage.length(pixels);
      if (app.tool === "pan") app.stage.pan(-arrow[0] * pixels, -arrow[1] * pixels);
      else this.moveTo([this.at()[0] + arrow[0] * step, this.at()[1] + arrow[1] * step]);
      return true;
    }
    if (key === "Enter") {
      this.press(event.shiftKey ? 0 : app.label);
      return true;
    }
    if (key === "x") {
      this.press(0);
      return true;
    }
    if (key === " ") {
      this.pointer.space = true;
      return true;
    }
    if (key === "Escape" && tools.active) {
      tools.cancel();
      return true;
    }
    return false;
  }

  private at(): Point {
    const { width, height } = this.app.photo?.image ?? { width: 1, height: 1 };
    return this.app.cross ?? [width / 2, height / 2];
  }

  private moveTo([x, y]: Point): void {
    const { app, tools } = this;
    const { width, height } = app.photo?.image ?? { width: 1, height: 1 };
    app.cross = [Math.min(Math.max(x, 0), width - 0.01), Math.min(Math.max(y, 0), height - 0.01)];
    app.stage.reveal(app.cross);
    if (tools.active && tools.drags) tools.move(app.cross);
    else tools.hover(app.cross);
    app.redraw();
  }

  private press(label: 0 | 1): void {
    const { app, tools } = this;
    const at = this.at();
    app.cross = at;
    if (tools.drags && !tools.active) {
      tools.begin(at, label);
      return;
    }
    if (!tools.drags) tools.begin(at, label);
    tools.end(at);
    app.redraw();
  }

  private single(key: string): boolean {
    const { app, commands } = this;
    const tool = TOOLS[key];
    const number = Number(key);
    const zooms: Record<string, number> = { "+": ZOOM, "=": ZOOM, "-": 1 / ZOOM };
    if (tool) commands.tool(tool);
    else if (key === "?") commands.help();
    else if (!app.photo) return false;
    else if (number >= 1 && number <= 3) app.choose(number - 1);
    else if (key === "0") app.stage.fit();
    else if (zooms[key]) app.stage.zoom(zooms[key]);
    else if (key === "e") void app.everything();
    else if (key === "c") void app.showCut(!app.cutting);
    else if (key === "n") app.next();
    else if (key === "d") commands.label(app.label ? 0 : 1);
    else if (key === "[") commands.brush(-4);
    else if (key === "]") commands.brush(4);
    else if (key === "Tab") return false;
    else if (key === "PageDown") commands.browse(1);
    else if (key === "PageUp") commands.browse(-1);
    else if (key === "," || key === ".") this.cycle(key === "." ? 1 : -1);
    else if (key === "Delete" || key === "Backspace") this.remove();
    else if (key === "Escape") app.escape();
    else return false;
    return true;
  }

  private cycle(by: 1 | -1): void {
    const { items, active } = this.app.doc;
    if (!items.length) return;
    const at = items.findIndex(({ id }) => id === active);
    const next = at < 0 ? (by > 0 ? 0 : items.length - 1) : (at + by + items.length) % items.length;
    this.app.activate(items[next].id);
  }

  private remove(): void {
    const { app } = this;
    const item = app.doc.items.find(({ id }) => id === app.doc.active);
    if (item) app.remove(item);
  }
}
