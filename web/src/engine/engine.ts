/** What answers prompts: the server, or the model on this device. The page knows no other difference. */

import type { Mask } from "../core/mask";
import type { Prompt } from "../core/prompts";

/** An image that an engine has looked at. */
export interface Opened {
  readonly id: string;
  readonly width: number;
  readonly height: number;
}

/** One mask of an object, with the model's own opinion of it. */
export interface Candidate {
  readonly mask: Mask;
  readonly predictedIou: number;
  readonly stability: number;
}

/** One mask of a prompt, or three if it is ambiguous; `best` is the model's own choice. */
export interface Answer {
  readonly candidates: readonly Candidate[];
  readonly best: number;
}

/** A mask of segment everything, with a prompt that stands for it. */
export interface Found extends Candidate {
  readonly prompt: Prompt;
}

export type Progress = (part: number, what: string) => void;

export interface Photo {
  readonly index: number;
  readonly name: string;
  readonly done: boolean;
}

/** An object as it is saved beside its photo. */
export interface Label {
  readonly name: string;
  readonly mask: Mask;
  readonly prompt: Prompt;
}

/** Photos of a folder that the server was given. */
export interface Folder {
  list(): Promise<readonly Photo[]>;
  read(photo: Photo): Promise<File>;
  open(photo: Photo, file: File): Promise<Opened>;
  labels(photo: Photo): Promise<readonly Label[]>;
  save(photo: Photo, labels: readonly Label[]): Promise<readonly string[]>;
}

export interface Engine {
  readonly kind: "server" | "device";
  /** The photos besides those that the user brings; null without a server. */
  readonly folder: Folder | null;
  /** Prepare what takes time, and say what does the computing; may be called more than once. */
  start(progress: Progress): Promise<string>;
  open(file: File, progress: Progress): Promise<Opened>;
  segment(image: Opened, prompt: Prompt): Promise<Answer>;
  /** The best mask of a prompt, no larger than what a screen shows, so it may be smaller than the image. */
  preview(image: Opened, prompt: Prompt): Promise<Mask | null>;
  everything(
    image: Opened,
    onFound: (found: readonly Found[], done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /** The photo with a soft edge around a mask, as large as the image, transparent elsewhere. */
  cutOut(image: Opened, mask: Mask): Promise<ImageBitmap>;
  /** The upright picture of a file that the browser itself cannot show. */
  picture(image: Opened): Promise<Blob>;
  close(image: Opened): void;
}

/** Something went wrong that a person can mend; the message says how. */
export class EngineError extends Error {}
