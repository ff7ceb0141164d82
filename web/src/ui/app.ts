/** The page as a whole: a photo is opened, prompts are asked, answers become objects. */

import { type Mask, maskArea, maskAt, maskToRle, unionOf } from "../core/mask";
import { isEmptyPrompt, type Point, type Prompt } from "../core/prompts";
import { type Engine, EngineError, type Found, type Opened, type Label as SavedLabel } from "../engine/engine";
import { download, type Format, toFile, type Work } from "../save/formats";
import type { Entry } from "./album";
import { type Layer, NOTHING, type Scene, type Stage } from "./stage";
import {
  activeItem,
  COLOURS,
  type Doc,
  EMPTY,
  History,
  type Item,
  maskOf,
  nameOf,
  replaced,
  savedPrompt,
} from "./state";

export type ToolName = "point" | "box" | "brush" | "lasso" | "pan";

/** What the rest of the page shows of the app. */
export interface View {
  changed(): void; // anything
  say(text: string, shown?: boolean): void; // to screen readers and, unless not shown, in the status line
  busy(part: number | null, what: string): void; // null hides it
  failed(message: string): void;
}

export interface Photo {
  readonly entry: Entry;
  readonly image: Opened;
}

export class App {
  readonly history: History;
  photo: Photo | null = null;
  tool: ToolName = "point";
  label: 0 | 1 = 1;
  brush = 24; // pixels of the page
  cross: Point | null = null;
  found: readonly Found[] = [];
  picked: Found | null = null; // the one under the pointer, of what was found
  ground: string | null = null;
  cutting = false;
  dirty = false; // whether there is something that the photo's entry does not know
  unsaved = false; // whether there is something that would be lost with the page
  drawing: Pick<Scene, "box" | "line"> = { box: null, line: null };
  searching: AbortController | null = null;
  private preview: Mask | null = null;
  private wanted: Point | null = null; // the place that the preview should show
  private previewing = false;
  private cut: { key: string; picture: ImageBitmap } | null = null;
  private turn: Promise<unknown> = Promise.resolve();
  private lastId = 0;

  constructor(
    readonly engine: Engine,
    readonly stage: Stage,
    private readonly view: View,
  ) {
    this.history = new History(() => this.refresh());
  }

  get doc(): Doc {
    return this.history.doc;
  }

  /** Do one thing after the other: an answer belongs to the prompts before it. */
  private inTurn(what: () => Promise<void>): Promise<void> {
    const next = this.turn.then(what).catch((error: unknown) => this.fail(error));
    this.turn = next;
    return next;
  }

  private fail(error: unknown): void {
    this.view.busy(null, "");
    if (error instanceof DOMException && error.name === "AbortError") return;
    this.view.failed(error instanceof Error ? error.message : String(error));
    if (!(error instanceof EngineError)) console.error(error);
  }

  /** Open a photo of an album, with what was saved for it. */
  open(entry: Entry): Promise<void> {
    return this.inTurn(async () => {
      this.view.busy(0, "Opening the photo");
      const file = await entry.read();
      const shown = await createImageBitmap(file).catch(() => null);
      const image = await entry.open(file, (part, what) => this.view.busy(part, what));
      const picture = shown ?? (await createImageBitmap(await this.engine.picture(image)));
      this.close();
      this.photo = { entry, image };
      this.stage.show(picture, image);
      const saved = await entry.labels();
      this.lastId = 0;
      this.history.reset({ items: saved.map((label) => this.restored(label)), active: null });
      this.dirty = false;
      this.view.busy(null, "");
      this.view.say(`${entry.name}, ${image.width} by ${image.height} pixels.`, false);
      this.view.changed();
    });
  }

  private restored({ name, mask, prompt }: SavedLabel): Item {
    const answer = { candidates: [{ mask, predictedIou: 1, stability: 1 }], best: 0 };
    return this.newItem(prompt, answer, 0, name);
  }

  private newItem(prompt: Prompt, answer: Item["answer"], chosen: number, name = ""): Item {
    const id = ++this.lastId;
    return { id, name, colour: (id - 1) % COLOURS.length, visible: true, prompt, answer, chosen };
  }

  private close(): void {
    if (this.photo) this.engine.close(this.photo.image);
    this.searching?.abort();
    this.photo = null;
    this.found = [];
    this.picked = null;
    this.preview = null;
    this.cross = null;
    this.cutting = false;
    this.forgetCut();
  }

  /** Ask with more said about the active object, or about a new one. */
  ask(change: (prompt: Prompt) => Prompt): Promise<void> {
    return this.inTurn(async () => {
      if (!this.photo) return;
      const item = activeItem(this.doc);
      const chosen = item && savedPrompt(item, () => maskToRle(maskOf(item)));
      const prompt = change(chosen ?? {});
      this.hover(null);
      if (isEmptyPrompt(prompt)) {
        if (item) this.remove(item);
        return;
      }
      const answer = await this.engine.segment(this.photo.image, prompt);
      if (item) this.commit(replaced(this.doc, { ...item, prompt, answer, chosen: answer.best }));
      else {
        const made = this.newItem(prompt, answer, answer.best);
        this.commit({ items: [...this.doc.items, made], active: made.id });
      }
      this.tell();
    });
  }

  private commit(doc: Doc): void {
    this.touched();
    this.history.commit(doc);
  }

  point(at: Point, label: 0 | 1): Promise<void> {
    return this.ask((prompt) => ({
      ...prompt,
      points: [...(prompt.points ?? []), at],
      labels: [...(prompt.labels ?? []), label],
    }));
  }

  points(at: readonly Point[], label: 0 | 1): Promise<void> {
    return this.ask((prompt) => ({
      ...prompt,
      points: [...(prompt.points ?? []), ...at],
      labels: [...(prompt.labels ?? []), ...at.map(() => label)],
    }));
  }

  box(box: readonly [number, number, number, number]): Promise<void> {
    return this.ask((prompt) => ({ ...prompt, box }));
  }

  lasso(mask: Mask, box: readonly [number, number, number, number]): Promise<void> {
    return this.ask((prompt) => ({ ...prompt, box, mask: maskToRle(mask) }));
  }

  /** Take another of the three masks. */
  choose(number: number): void {
    const item = activeItem(this.doc);
    if (!item || number >= item.answer.candidates.length || number === item.chosen) return;
    this.commit(replaced(this.doc, { ...item, chosen: number }));
    this.tell();
  }

  private tell(): void {
    const item = activeItem(this.doc);
    if (!item || !this.photo) return;
    const { candidates } = item.answer;
    const { mask, predictedIou } = candidates[item.chosen];
    const area = maskArea(mask);
    if (!area) {
      this.view.say("Nothing was found there; click on another place.");
      return;
    }
    const share = (100 * area) / (this.photo.image.width * this.photo.image.height);
    const which = candidates.length > 1 ? `, mask ${item.chosen + 1} of ${candidates.length}` : "";
    const percent = share < 1 ? share.toFixed(1) : Math.round(share);
    const sure = Math.min(100, Math.max(0, Math.round(predictedIou * 100)));
    this.view.say(`${nameOf(item)}${which}: ${percent} % of the photo, ${sure} % sure.`);
  }

  /** Begin another object with the next prompt. */
  next(): void {
    this.history.amend({ ...this.doc, active: null });
    this.view.say("The next click begins a new object.");
  }

  activate(id: number): void {
    this.history.amend({ ...this.doc, active: id });
    this.tell();
  }

  remove(item: Item): void {
    const items = this.doc.items.filter(({ id }) => id !== item.id);
    this.commit({ items, active: this.doc.active === item.id ? null : this.doc.active });
    this.view.say(`${nameOf(item)} removed.`);
  }

  change(item: Item, changes: Partial<Pick<Item, "name" | "visible">>): void {
    this.commit(replaced(this.doc, { ...item, ...changes }));
  }

  /** Move an object up or down in its pile. */
  lift(item: Item, by: 1 | -1): void {
    const items = [...this.doc.items];
    const at = items.findIndex(({ id }) => id === item.id);
    if (at + by < 0 || at + by >= items.length) return;
    [items[at], items[at + by]] = [items[at + by], items[at]];
    this.commit({ ...this.doc, items });
    this.view.say(`${nameOf(item)} is layer ${at + by + 1} of ${items.length}.`);
  }

  private touched(): void {
    this.dirty = true;
    this.unsaved = true;
  }

  undo(): void {
    this.hover(null);
    this.touched();
    this.view.say(this.history.undo() ? "Undone." : "There is nothing to undo.");
  }

  redo(): void {
    this.touched();
    this.view.say(this.history.redo() ? "Done again." : "There is nothing to redo.");
  }

  /** Show what a click would give; only the last place counts. */
  hover(at: Point | null): void {
    if (this.found.length) {
      this.pick(at);
      return;
    }
    this.wanted = this.inside(at) && this.tool === "point" && !this.cutting ? at : null;
    if (!this.wanted) {
      if (this.preview) {
        this.preview = null;
        this.refresh();
      }
      return;
    }
    if (!this.previewing) void this.follow();
  }

  private async follow(): Promise<void> {
    this.previewing = true;
    try {
      while (this.wanted && this.photo) {
        const at = this.wanted;
        const { image } = this.photo;
        const item = activeItem(this.doc);
        const prompt = item && item.chosen === item.answer.best ? item.prompt : {};
        const mask = await this.engine.preview(image, {
          ...prompt,
          points: [...(prompt.points ?? []), at],
          labels: [...(prompt.labels ?? []), this.label],
        });
        if (this.photo?.image !== image || !this.wanted) break;
        this.preview = mask;
        this.refresh();
        if (this.wanted === at) break;
      }
    } catch {
      // The preview under the pointer is not an answer: the click itself says what is wrong.
    } finally {
      this.previewing = false;
    }
  }

  /** Whether a place lies on the photo. */
  inside(at: Point | null): at is Point {
    if (!at || !this.photo) return false;
    const { width, height } = this.photo.image;
    return at[0] >= 0 && at[1] >= 0 && at[0] < width && at[1] < height;
  }

  /** Find everything; outlines can be picked while they come. */
  async everything(): Promise<void> {
    if (this.searching) {
      this.searching.abort();
      return;
    }
    if (!this.photo) return;
    const { image } = this.photo;
    const search = new AbortController();
    this.searching = search;
    this.hover(null);
    this.found = [];
    this.view.changed();
    try {
      const onFound = (found: readonly Found[], done: number, total: number) => {
        if (this.photo?.image !== image || search.signal.aborted) return;
        this.found = [...this.found, ...found];
        this.view.busy(Math.min(1, done / total), `Everything: ${this.found.length} found`);
        this.refresh();
      };
      await this.engine.everything(image, onFound, search.signal);
      this.view.say(`${this.found.length} things found. Click on those that you want.`);
    } catch (error) {
      if (!search.signal.aborted) this.fail(error);
    } finally {
      this.searching = null;
      this.view.busy(null, "");
      this.refresh();
    }
  }

  /** Drop what was found but not picked. */
  leaveFound(): void {
    this.searching?.abort();
    this.found = [];
    this.picked = null;
    this.view.say("");
    this.refresh();
  }

  private under(at: Point): Found | null {
    const here = this.found.filter(({ mask }) => maskAt(mask, at[0], at[1]));
    return here.reduce<Found | null>(
      (best, one) => (best && best.mask.bits.length <= one.mask.bits.length ? best : one),
      null,
    );
  }

  private pick(at: Point | null): void {
    const picked = at ? this.under(at) : null;
    if (picked === this.picked) return;
    this.picked = picked;
    this.refresh();
  }

  /** Make an object of what was found at a place; the smallest of several. */
  take(at: Point): void {
    const found = this.under(at);
    if (!found) return;
    const made = this.newItem(found.prompt, { candidates: [found], best: 0 }, 0);
    this.found = this.found.filter((one) => one !== found);
    this.picked = null;
    this.commit({ items: [...this.doc.items, made], active: made.id });
    this.tell();
  }

  /** The objects that are saved and cut out: all visible ones. */
  visible(): Item[] {
    return this.doc.items.filter(({ visible, ...item }) => visible && maskOf({ visible, ...item }).w);
  }

  private work(): Work {
    const { entry, image } = this.photo as Photo;
    return {
      photo: entry.name,
      width: image.width,
      height: image.height,
      items: this.visible(),
      cutOut: (mask) => this.engine.cutOut(image, mask),
      ground: this.ground,
    };
  }

  save(format: Format): Promise<void> {
    return this.inTurn(async () => {
      if (!this.photo || !this.visible().length) {
        this.view.say("There is nothing to save yet; click on a thing first.");
        return;
      }
      const file = await toFile(format, this.work());
      download(file);
      this.unsaved = false;
      this.view.say(`${file.name} is saved with the browser's downloads.`);
    });
  }

  /** Save the objects beside the photo, through the server. */
  saveBeside(): Promise<void> {
    return this.inTurn(async () => {
      if (!this.photo?.entry.save || !this.dirty) return;
      const labels = this.doc.items.map((item): SavedLabel => {
        const mask = maskOf(item);
        return { name: item.name, mask, prompt: savedPrompt(item, () => maskToRle(mask)) };
      });
      const files = await this.photo.entry.save(labels);
      this.dirty = false;
      if (files.length) this.unsaved = false;
      if (files.length) this.view.say(`Saved beside the photo: ${files.join(", ")}.`);
      this.view.changed();
    });
  }

  /** Show the cut-out, or the photo again. */
  async showCut(on: boolean): Promise<void> {
    this.cutting = on && this.visible().length > 0;
    this.view.say(on && !this.cutting ? "There is nothing to cut out yet; click on a thing first." : "");
    this.hover(null);
    this.refresh();
  }

  setGround(ground: string | null): void {
    this.ground = ground;
    this.refresh();
  }

  private forgetCut(): void {
    this.cut?.picture.close();
    this.cut = null;
  }

  private cutKey(): string {
    return this.visible()
      .map((item) => `${item.id}:${item.chosen}:${maskArea(maskOf(item))}:${maskOf(item).x}:${maskOf(item).y}`)
      .join();
  }

  private prepareCut(): void {
    const key = this.cutKey();
    if (!this.photo || this.cut?.key === key) return;
    void this.inTurn(async () => {
      if (!this.photo || !this.cutting || this.cut?.key === this.cutKey()) return;
      const { image } = this.photo;
      const items = this.visible();
      if (!items.length) {
        this.cutting = false;
        this.refresh();
        return;
      }
      this.view.busy(1, "Softening the edge");
      const made = this.cutKey();
      const picture = await this.engine.cutOut(image, unionOf(items.map(maskOf), image));
      this.forgetCut();
      this.cut = { key: made, picture };
      this.view.busy(null, "");
      this.refresh();
    });
  }

  /** Draw the picture again, and tell the rest of the page. */
  refresh(): void {
    if (this.cutting) this.prepareCut();
    this.stage.draw(this.photo ? this.scene() : NOTHING);
    this.view.changed();
  }

  redraw(): void {
    if (this.photo) this.stage.draw(this.scene());
  }

  private scene(): Scene {
    const { doc } = this;
    const active = activeItem(doc);
    const layers: Layer[] = doc.items
      .filter(({ visible }) => visible)
      .map((item) => ({
        mask: maskOf(item),
        colour: COLOURS[item.colour],
        fill: this.found.length ? 0.6 : 1,
        strong: item.id === doc.active,
      }));
    this.found.forEach((one, i) => {
      const picked = one === this.picked;
      layers.push({ mask: one.mask, colour: COLOURS[i % COLOURS.length], fill: picked ? 1.3 : 0.35, strong: picked });
    });
    if (this.preview) {
      const colour = COLOURS[active ? active.colour : this.lastId % COLOURS.length];
      layers.push({ mask: this.preview, colour, fill: 0.7, strong: false, dashed: true });
    }
    const cut = this.cutting && this.cut ? { picture: this.cut.picture, ground: this.ground } : null;
    const prompt = active?.visible && !this.found.length ? active.prompt : null;
    return { layers, prompt, ...this.drawing, cross: this.cross, cut };
  }

  /** Take back a step that is not finished, what was found, or the cut-out, whichever is on top. */
  escape(): void {
    if (this.cutting) void this.showCut(false);
    else if (this.found.length || this.searching) this.leaveFound();
    else if (this.doc.active !== null) this.next();
  }

  /** Close the photo and begin again. */
  leave(): void {
    this.close();
    this.history.reset(EMPTY);
    this.stage.show(null, { width: 1, height: 1 });
    this.refresh();
  }
}
