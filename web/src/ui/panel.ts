/** The panel beside the picture: the choice of masks, the pile of objects, the cut-out and saving. */

import type { Mask } from "../core/mask";
import { FORMATS, type Format } from "../save/formats";
import type { App } from "./app";
import { byId, icon, make } from "./dom";
import { activeItem, COLOURS, type Item, nameOf } from "./state";

const THUMB = 88; // pixels of a mask's picture
const GROUNDS: readonly (readonly [string, string | null])[] = [
  ["Transparent", null],
  ["White", "#ffffff"],
  ["Black", "#000000"],
  ["Sand", "#e9e2d4"],
  ["Sky", "#bfdcf5"],
];

export class Panel {
  private readonly thumbs = new WeakMap<Mask, string>();
  private shown = "";
  private readonly format = byId<HTMLSelectElement>("format");

  constructor(private readonly app: App) {
    for (const [value, label] of Object.entries(FORMATS)) this.format.append(make("option", { value }, label));
    byId("save").addEventListener("click", () => this.save());
    byId("everything").addEventListener("click", () => void app.everything());
    byId("cut").addEventListener("click", () => void app.showCut(!app.cutting));
    byId("new").addEventListener("click", () => app.next());
    byId("found-done").addEventListener("click", () => app.leaveFound());
    this.grounds();
  }

  save(): void {
    void this.app.save(this.format.value as Format);
  }

  private grounds(): void {
    const host = byId("grounds");
    GROUNDS.forEach(([name, colour], i) => {
      const button = make("input", {
        type: "radio",
        name: "ground",
        value: name,
        "aria-label": name,
        title: name,
        class: colour ? "swatch" : "swatch nothing",
        onchange: () => this.app.setGround(colour),
      });
      button.checked = i === 0;
      if (colour) button.style.background = colour;
      host.append(button);
    });
    const own = make("input", {
      type: "color",
      value: "#ffb84d",
      "aria-label": "Another colour",
      title: "Another colour",
      oninput: () => {
        for (const radio of host.querySelectorAll<HTMLInputElement>("[type=radio]")) radio.checked = false;
        this.app.setGround(own.value);
      },
    });
    host.append(own);
  }

  /** Show what has changed. */
  update(): void {
    const { app } = this;
    const item = activeItem(app.doc);
    this.choices(item);
    this.items();
    const empty = app.doc.items.length === 0;
    byId("empty").hidden = !empty;
    byId("new").hidden = empty;
    byId<HTMLButtonElement>("new").disabled = app.doc.active === null;
    byId<HTMLButtonElement>("save").disabled = empty;
    byId<HTMLButtonElement>("cut").disabled = empty;
    byId("cut").setAttribute("aria-pressed", String(app.cutting));
    byId("grounds-field").hidden = !app.cutting;
    byId("everything-label").textContent = app.searching ? "Stop" : "Find everything";
    byId("found").hidden = !app.found.length || Boolean(app.searching);
    byId("found-count").textContent = `${app.found.length} left. Click on those that you want.`;
  }

  private choices(item: Item | null): void {
    const host = byId("choices");
    const field = byId("choices-field");
    const many = item && item.answer.candidates.length > 1;
    field.hidden = !many;
    if (!many) {
      host.replaceChildren();
      return;
    }
    const focused = host.contains(document.activeElement);
    host.replaceChildren(
      ...item.answer.candidates.map((candidate, i) => {
        const sure = Math.min(100, Math.max(0, Math.round(candidate.predictedIou * 100)));
        const radio = make("input", {
          type: "radio",
          name: "choice",
          value: String(i),
          "aria-label": `Mask ${i + 1} of ${item.answer.candidates.length}, ${sure} % sure`,
          onchange: () => this.app.choose(i),
        });
        radio.checked = i === item.chosen;
        const picture = make("img", { src: this.thumb(candidate.mask), alt: "", width: THUMB, height: THUMB });
        return make("label", { class: "choice" }, radio, picture, make("span", {}, `${sure} %`));
      }),
    );
    if (focused) host.querySelector<HTMLInputElement>(":checked")?.focus();
  }

  /** A small picture of a mask in its photo's place. */
  private thumb(mask: Mask): string {
    const kept = this.thumbs.get(mask);
    if (kept) return kept;
    const canvas = make("canvas", { width: THUMB * 2, height: THUMB * 2 });
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    const scale = (THUMB * 2 - 16) / Math.max(mask.width, mask.height);
    const left = (THUMB * 2 - mask.width * scale) / 2;
    const top = (THUMB * 2 - mask.height * scale) / 2;
    context.fillStyle = "rgba(128, 128, 128, 0.22)";
    context.fillRect(left, top, mask.width * scale, mask.height * scale);
    if (mask.w) {
      const small = new ImageData(mask.w, mask.h);
      const pixels = new Uint32Array(small.data.buffer);
      for (let i = 0; i < pixels.length; i++) if (mask.bits[i]) pixels[i] = 0xfff09e00;
      const part = new OffscreenCanvas(mask.w, mask.h);
      part.getContext("2d")?.putImageData(small, 0, 0);
      context.imageSmoothingQuality = "high";
      context.drawImage(part, left + mask.x * scale, top + mask.y * scale, mask.w * scale, mask.h * scale);
    }
    const url = canvas.toDataURL();
    this.thumbs.set(mask, url);
    return url;
  }

  /** The pile of objects, the topmost first; it is rebuilt only when it has changed. */
  private items(): void {
    const { doc } = this.app;
    const key = JSON.stringify([doc.active, doc.items.map(({ id, name, visible }) => [id, name, visible])]);
    if (key === this.shown) return;
    this.shown = key;
    const host = byId("items");
    const focused = (document.activeElement as HTMLElement | null)?.dataset?.focus;
    host.replaceChildren(...[...doc.items].reverse().map((item) => this.item(item)));
    if (focused) host.querySelector<HTMLElement>(`[data-focus="${focused}"]`)?.focus();
  }

  private item(item: Item): HTMLLIElement {
    const { app } = this;
    const active = item.id === app.doc.active;
    const button = (name: string, label: string, act: () => void, more: Record<string, string | boolean> = {}) =>
      make(
        "button",
        {
          type: "button",
          class: "small",
          "aria-label": label,
          title: label,
          "data-focus": `${name}-${item.id}`,
          ...more,
          onclick: act,
        },
        icon(name),
      );
    const swatch = make("button", {
      type: "button",
      class: "swatch",
      "aria-pressed": String(active),
      "aria-label": `Choose ${nameOf(item)}`,
      title: "Choose",
      "data-focus": `choose-${item.id}`,
      onclick: () => app.activate(item.id),
    });
    swatch.style.background = COLOURS[item.colour];
    const name = make("input", {
      type: "text",
      value: item.name,
      placeholder: `Object ${item.id}`,
      maxlength: 256,
      autocomplete: "off",
      spellcheck: "false",
      "aria-label": `Name of object ${item.id}`,
      "data-focus": `name-${item.id}`,
      onfocus: () => {
        if (app.doc.active !== item.id) app.activate(item.id);
      },
      onchange: (event: Event) => app.change(item, { name: (event.target as HTMLInputElement).value.trim() }),
      onkeydown: (event: KeyboardEvent) => {
        if (event.key === "Enter") app.stage.host.focus();
      },
    });
    const row = make(
      "li",
      { class: active ? "item active" : "item" },
      swatch,
      name,
      button("up", `Move ${nameOf(item)} up`, () => app.lift(item, 1)),
      button("down", `Move ${nameOf(item)} down`, () => app.lift(item, -1)),
      button(item.visible ? "eye" : "hidden", item.visible ? `Hide ${nameOf(item)}` : `Show ${nameOf(item)}`, () =>
        app.change(item, { visible: !item.visible }),
      ),
      button("trash", `Remove ${nameOf(item)}`, () => app.remove(item)),
    );
    return row;
  }
}
