/** What the page and its worker say to each other. */

import type { Prompt } from "../core/prompts";

export interface Requests {
  start: { base: string; webgpu: boolean; threads: number };
  open: { file: Blob };
  segment: { id: string; prompt: Prompt };
  preview: { id: string; prompt: Prompt };
  everything: { id: string };
  cutOut: { id: string; mask: import("../core/mask").Mask };
  close: { id: string };
}

export type Method = keyof Requests;

export type Request = { [M in Method]: { number: number; method: M; body: Requests[M] } }[Method];

export type ToWorker = Request | { cancel: number };

export type FromWorker =
  | { number: number; result: unknown }
  | { number: number; error: string; expected: boolean }
  | { number: number; part: unknown };
