/** The engine on this device: a worker with the model. Nothing leaves the browser. */

import type { Mask } from "../core/mask";
import type { Prompt } from "../core/prompts";
import { type Answer, type Engine, EngineError, type Found, type Opened, type Progress } from "./engine";
import type { FromWorker, Method, Requests } from "./messages";

const MOST_THREADS = 4; // more are no faster for a model of this size

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onPart: (part: unknown) => void;
}

export class DeviceEngine implements Engine {
  readonly kind = "device";
  readonly folder = null;
  private readonly waiting = new Map<number, Waiting>();
  private worker: Worker | null = null;
  private number = 0;
  private started: Promise<string> | null = null;
  private readonly listeners = new Set<Progress>();

  constructor(private readonly webgpu: boolean) {}

  start(progress: Progress): Promise<string> {
    this.listeners.add(progress);
    this.started ??= this.load().catch((error: unknown) => {
      this.started = null;
      throw error;
    });
    return this.started.finally(() => this.listeners.delete(progress));
  }

  /** Load the model; returns what runs it, wasm or webgpu. */
  private async load(): Promise<string> {
    const threads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
    const base = new URL(".", document.baseURI).href;
    const body = { base, webgpu: this.webgpu, threads };
    return (await this.ask("start", body, (part) => {
      for (const listener of this.listeners) listener(...(part as [number, string]));
    })) as string;
  }

  private ask<M extends Method>(
    method: M,
    body: Requests[M],
    onPart: (part: unknown) => void = () => {},
    signal?: AbortSignal,
  ): Promise<unknown> {
    this.worker ??= this.startWorker();
    const { worker } = this;
    const number = ++this.number;
    signal?.addEventListener("abort", () => worker.postMessage({ cancel: number }), { once: true });
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject, onPart });
      worker.postMessage({ number, method, body });
    });
  }

  private startWorker(): Worker {
    const worker = new Worker(new URL("worker.js", document.baseURI), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      const waiting = this.waiting.get(data.number);
      if (!waiting) return;
      if ("part" in data) {
        waiting.onPart(data.part);
        return;
      }
      this.waiting.delete(data.number);
      if ("result" in data) waiting.resolve(data.result);
      else waiting.reject(new EngineError(data.expected ? data.error : `The model has failed: ${data.error}`));
    };
    worker.onerror = () => {
      for (const waiting of this.waiting.values())
        waiting.reject(new EngineError("The model has stopped; reload the page."));
      this.waiting.clear();
      worker.terminate();
      this.worker = null;
      this.started = null;
    };
    return worker;
  }

  async open(file: File, progress: Progress): Promise<Opened> {
    await this.start(progress);
    progress(1, "Looking at the photo");
    return (await this.ask("open", { file })) as Opened;
  }

  async segment(image: Opened, prompt: Prompt): Promise<Answer> {
    return (await this.ask("segment", { id: image.id, prompt })) as Answer;
  }

  async preview(image: Opened, prompt: Prompt): Promise<Mask | null> {
    return (await this.ask("preview", { id: image.id, prompt })) as Mask;
  }

  async everything(
    image: Opened,
    onFound: (found: readonly Found[], done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    await this.ask(
      "everything",
      { id: image.id },
      (part) => {
        const { found, done, total } = part as { found: Found[]; done: number; total: number };
        onFound(found, done, total);
      },
      signal,
    );
  }

  async cutOut(image: Opened, mask: Mask): Promise<ImageBitmap> {
    return (await this.ask("cutOut", { id: image.id, mask })) as ImageBitmap;
  }

  picture(): Promise<Blob> {
    return Promise.reject(new EngineError("The browser cannot show this picture."));
  }

  close(image: Opened): void {
    void this.ask("close", { id: image.id });
  }
}
