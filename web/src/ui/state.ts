/** What the user has made: named objects in layers, with undo and redo. */

import type { Mask } from "../core/mask";
import type { Prompt } from "../core/prompts";
import type { Answer } from "../engine/engine";

/** An object: what was said about it, and what the model answered. */
export interface Item {
  readonly id: number;
  readonly name: string;
  readonly colour: number;
  readonly visible: boolean;
  readonly prompt: Prompt;
  readonly answer: Answer;
  readonly chosen: number;
}

export interface Doc {
  readonly items: readonly Item[]; // the last lies on top
  readonly active: number | null; // id of the object that prompts go to; null for a new one
}

export const EMPTY: Doc = { items: [], active: null };
const MOST_STEPS = 200;

/** Colours that differ in lightness as well as in hue (after Okabe and Ito), as in Python's overlays. */
export const COLOURS = ["#009ef0", "#f08c00", "#00be78", "#dc50b4", "#f0dc28", "#7864f0", "#e63c28"];

export function maskOf(item: Item): Mask {
  return item.answer.candidates[item.chosen].mask;
}

export function activeItem(doc: Doc): Item | null {
  return doc.items.find(({ id }) => id === doc.active) ?? null;
}

export function replaced(doc: Doc, item: Item): Doc {
  return { ...doc, items: doc.items.map((other) => (other.id === item.id ? item : other)) };
}

/** What an item is called if it has no name. */
export function nameOf(item: Item): string {
  return item.name || `Object ${item.id}`;
}

/** The prompt that gives an item's mask; if the user chose another mask than the model, with that mask. */
export function savedPrompt(item: Item, rle: () => NonNullable<Prompt["mask"]>): Prompt {
  return item.chosen === item.answer.best ? item.prompt : { ...item.prompt, mask: rle() };
}

export class History {
  private past: Doc[] = [];
  private future: Doc[] = [];
  private now: Doc = EMPTY;

  constructor(private readonly changed: () => void) {}

  get doc(): Doc {
    return this.now;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  commit(doc: Doc): void {
    this.past = [...this.past.slice(-MOST_STEPS), this.now];
    this.future = [];
    this.now = doc;
    this.changed();
  }

  /** Change something that is not a step of its own, such as which object is chosen. */
  amend(doc: Doc): void {
    this.now = doc;
    this.changed();
  }

  undo(): boolean {
    const before = this.past.pop();
    if (!before) return false;
    this.future.push(this.now);
    this.now = before;
    this.changed();
    return true;
  }

  redo(): boolean {
    const after = this.future.pop();
    if (!after) return false;
    this.past.push(this.now);
    this.now = after;
    this.changed();
    return true;
  }

  reset(doc: Doc): void {
    this.past = [];
    this.future = [];
    this.now = doc;
    this.changed();
  }
}
