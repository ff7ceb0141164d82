/** Everything is joined here: the engine, the picture, the tools and what is around them. */

import { DeviceEngine } from "../engine/device";
import { type Engine, EngineError } from "../engine/engine";
import { ServerEngine } from "../engine/server";
import { albumOfFiles, albumOfServer, type Entry } from "./album";
import { App, type ToolName } from "./app";
import { byId } from "./dom";
import { Keys } from "./keys";
import { registerOffline } from "./offline";
import { Panel } from "./panel";
import { PointerInput } from "./pointer";
import { Stage } from "./stage";
import { Tools } from "./tools";
import { Webcam } from "./webcam";

const HINTS: Record<ToolName, string> = {
  point: "Click on a thing. Right-click, or Alt-click, on what does not belong to it.",
  box: "Drag a box around a thing.",
  brush: "Brush over a thing. Brush with the right button over what does not belong.",
  lasso: "Draw a line around a thing.",
  pan: "Drag to move the picture. Scroll or pinch to zoom.",
};
const TOUCH_HINTS: Partial<Record<ToolName, string>> = {
  point: "Tap on a thing. Hold your finger on what does not belong to it.",
  brush: "Brush over a thing with your finger.",
  pan: "Drag to move the picture. Pinch to zoom.",
};
const CUT_HINT = "This is your cut-out. Choose what lies behind it, then save it.";
const SHOWN_FOR = 8000; // milliseconds of a message about what went wrong
const WEBGPU = "mobilesam-webgpu"; // where the browser keeps the choice
const THEME = "mobilesam-theme";
const FIRST_VISIT = "Fetching the model, once (14 MB) …";

/** What the browser keeps of the user's choices; nothing if it may not. */
function recall(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // The choice holds until the page is closed.
  }
}

function engineOfPage(): Engine {
  if (document.documentElement.dataset.engine === "device") {
    return new DeviceEngine(recall(WEBGPU) === "1");
  }
  const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
  return new ServerEngine(token);
}

class Page {
  private readonly engine = engineOfPage();
  private readonly stage = new Stage(
    byId("stage"),
    byId<HTMLCanvasElement>("base"),
    byId<HTMLCanvasElement>("over"),
    (zoom) => {
      byId("zoom-value").textContent = `${Math.round(zoom * 100)} %`;
    },
  );
  private readonly app = new App(this.engine, this.stage, {
    changed: () => this.update(),
    say: (text, shown) => this.say(text, shown),
    busy: (part, what) => this.busy(part, what),
    failed: (message) => this.failed(message),
  });
  private readonly tools = new Tools(this.app);
  private readonly panel = new Panel(this.app);
  private album: Entry[] = [];
  private at = 0;
  private told = "";
  private timer = 0;

  constructor() {
    const pointer = new PointerInput(this.stage, this.tools, {
      pans: () => this.app.tool === "pan",
      drags: () => this.tools.drags,
      label: () => this.app.label,
    });
    new Keys(this.app, this.tools, pointer, {
      tool: (name) => this.tool(name),
      label: (label) => this.label(label),
      help: () => byId<HTMLDialogElement>("help").showModal(),
      open: () => byId<HTMLInputElement>("file").click(),
      save: () => this.panel.save(),
      browse: (by) => void this.browse(by),
      brush: (by) => this.brush(this.app.brush + by),
    });
    this.buttons();
    this.ways();
    this.settings();
    this.update();
    document.documentElement.dataset.kind = this.engine.kind;
    byId("private").textContent =
      this.engine.kind === "device"
        ? "Nothing leaves this device. After the first visit it works without a network."
        : "Your photos go to your own server only, and to nobody else.";
    if (this.engine.kind === "device") void this.warmUp();
    else void this.folder();
  }

  /** Fetch the model while the user looks for a photo. */
  private async warmUp(): Promise<void> {
    byId("model-state").textContent = navigator.serviceWorker?.controller ? "" : FIRST_VISIT;
    await registerOffline(() => this.app.photo === null);
    await this.engine
      .start((part, what) => {
        byId("model-state").textContent = part < 1 ? `${what} … ${Math.round(part * 100)} %` : "The model is ready.";
      })
      .then((backend) => {
        byId("model-state").textContent = "The model is ready.";
        byId("webgpu-state").textContent =
          byId<HTMLInputElement>("webgpu").checked && backend !== "webgpu"
            ? "No graphics card can be used here; the processor computes."
            : "";
      })
      .catch((error: unknown) => this.failed(error instanceof Error ? error.message : String(error)));
  }

  private async folder(): Promise<void> {
    byId("model-state").hidden = true;
    try {
      this.album = await albumOfServer(this.engine);
    } catch (error) {
      this.failed(error instanceof Error ? error.message : String(error));
    }
    if (this.album.length) await this.openAt(0);
  }

  private buttons(): void {
    const { app, stage } = this;
    const on = (id: string, act: () => void) => byId(id).addEventListener("click", act);
    for (const button of document.querySelectorAll<HTMLElement>("[data-tool]")) {
      button.addEventListener("click", () => this.tool(button.dataset.tool as ToolName));
    }
    for (const button of document.querySelectorAll<HTMLElement>("[data-label]")) {
      button.addEventListener("click", () => this.label(button.dataset.label === "1" ? 1 : 0));
    }
    on("undo", () => app.undo());
    on("redo", () => app.redo());
    on("zoom-in", () => stage.zoom(1.25));
    on("zoom-out", () => stage.zoom(1 / 1.25));
    on("zoom-fit", () => stage.fit());
    on("previous", () => void this.browse(-1));
    on("next", () => void this.browse(1));
    on("help-open", () => byId<HTMLDialogElement>("help").showModal());
    on("panel-toggle", () => {
      const open = byId("workspace").classList.toggle("panel-open");
      byId("panel-toggle").setAttribute("aria-expanded", String(open));
    });
    on("settings-open", () => byId<HTMLDialogElement>("settings").showModal());
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close();
      });
    }
    byId<HTMLInputElement>("brush-size").addEventListener("input", (event) => {
      this.brush(Number((event.target as HTMLInputElement).value));
    });
  }

  /** The ways in which photos come: chosen, photographed, dropped, pasted, or the sample. */
  private ways(): void {
    for (const id of ["file", "camera"]) {
      const input = byId<HTMLInputElement>(id);
      input.addEventListener("change", () => {
        void this.openFiles([...(input.files ?? [])]);
        input.value = "";
      });
    }
    for (const button of document.querySelectorAll<HTMLElement>("[data-open]")) {
      button.addEventListener("click", () => byId(button.dataset.open as string).click());
    }
    new Webcam(
      (photo) => void this.openFiles([photo]),
      (message) => this.failed(message),
    );
    byId("sample").addEventListener("click", () => void this.sample());
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])].filter(({ type }) => type.startsWith("image/"));
      if (files.length) void this.openFiles(files);
    });
    const { body } = document;
    document.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      body.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) body.classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      body.classList.remove("dropping");
      void this.openFiles([...(event.dataTransfer?.files ?? [])]);
    });
    document.addEventListener("visibilitychange", () => {
      // Nothing is lost when the page is put away: with a server, labels are saved beside the photo.
      if (document.hidden && this.engine.folder) void this.app.saveBeside();
    });
    addEventListener("beforeunload", (event) => {
      if (this.app.unsaved) event.preventDefault();
    });
  }

  private settings(): void {
    const theme = byId<HTMLSelectElement>("theme");
    theme.value = recall(THEME) ?? "auto";
    const apply = () => {
      document.documentElement.dataset.theme = theme.value;
      keep(THEME, theme.value);
    };
    theme.addEventListener("change", apply);
    apply();
    const webgpu = byId<HTMLInputElement>("webgpu");
    webgpu.checked = recall(WEBGPU) === "1";
    webgpu.addEventListener("change", () => {
      keep(WEBGPU, webgpu.checked ? "1" : "0");
      location.reload();
    });
  }

  private async sample(): Promise<void> {
    const response = await fetch(new URL("sample.jpg", document.baseURI));
    await this.openFiles([new File([await response.blob()], "coffee.jpg", { type: "image/jpeg" })]);
  }

  private async openFiles(files: File[]): Promise<void> {
    if (!files.length) return;
    await this.app.saveBeside();
    this.album = albumOfFiles(files, this.engine);
    await this.openAt(0);
  }

  private async openAt(number: number): Promise<void> {
    this.at = number;
    await this.app.open(this.album[number]);
    this.update();
    if (this.app.photo) this.stage.host.focus({ preventScroll: true });
  }

  private async browse(by: 1 | -1): Promise<void> {
    const next = this.at + by;
    if (next < 0 || next >= this.album.length) {
      this.say(by > 0 ? "This is the last photo." : "This is the first photo.");
      return;
    }
    await this.app.saveBeside();
    await this.openAt(next);
  }

  private tool(name: ToolName): void {
    const { app } = this;
    app.tool = name;
    if (this.tools.active) this.tools.cancel();
    app.hover(null);
    this.told = "";
    this.update();
    byId("live").textContent = `${name}: ${this.hint()}`;
  }

  private label(label: 0 | 1): void {
    this.app.label = label;
    this.update();
    byId("live").textContent = label ? "Clicks say: belongs." : "Clicks say: does not belong.";
  }

  private brush(size: number): void {
    this.app.brush = Math.min(96, Math.max(4, size));
    byId<HTMLInputElement>("brush-size").value = String(this.app.brush);
  }

  private hint(): string {
    const { app } = this;
    if (app.cutting) return CUT_HINT;
    if (app.found.length && !app.searching)
      return "Click on the outlines that you want. Press Escape to let go of the rest.";
    const touch = matchMedia("(pointer: coarse)").matches;
    return (touch && TOUCH_HINTS[app.tool]) || HINTS[app.tool];
  }

  private say(text: string, shown = true): void {
    this.told = shown ? text : "";
    byId("live").textContent = text;
    this.update();
  }

  private busy(part: number | null, what: string): void {
    const busy = byId("busy");
    busy.hidden = part === null;
    byId("busy-what").textContent = what;
    const bar = byId<HTMLProgressElement>("busy-part");
    if (part === null || part >= 1 || part <= 0) bar.removeAttribute("value");
    else bar.value = part;
    document.body.setAttribute("aria-busy", String(part !== null));
  }

  private failed(message: string): void {
    const box = byId("failure");
    byId("failure-text").textContent = message;
    box.hidden = false;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      box.hidden = true;
    }, SHOWN_FOR);
  }

  private update(): void {
    const { app, album } = this;
    const open = app.photo !== null;
    byId("welcome").hidden = open;
    byId("workspace").hidden = !open;
    for (const element of document.querySelectorAll<HTMLElement>(".with-photo")) element.hidden = !open;
    byId("photo-name").textContent = app.photo?.entry.name ?? "";
    byId("album").hidden = !open || album.length < 2;
    byId("album-place").textContent = `${this.at + 1} / ${album.length}`;
    byId<HTMLButtonElement>("previous").disabled = this.at === 0;
    byId<HTMLButtonElement>("next").disabled = this.at >= album.length - 1;
    byId<HTMLButtonElement>("undo").disabled = !app.history.canUndo;
    byId<HTMLButtonElement>("redo").disabled = !app.history.canRedo;
    for (const button of document.querySelectorAll<HTMLElement>("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === app.tool));
    }
    for (const button of document.querySelectorAll<HTMLElement>("[data-label]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.label) === app.label));
    }
    byId("brush-field").hidden = app.tool !== "brush";
    byId("stage").dataset.cursor = app.cutting || app.found.length ? "pick" : app.tool;
    byId("hint").textContent = this.told || this.hint();
    this.panel.update();
  }
}

try {
  const page = new Page();
  Object.assign(globalThis, { mobilesam: page }); // for use in the console, and for tests
} catch (error) {
  if (!(error instanceof EngineError)) throw error;
}
