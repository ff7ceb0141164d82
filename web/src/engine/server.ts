/** The engine on a server: `mobilesam serve` and `mobilesam ui`, by the routes of docs/reference/server.md. */

import { type Mask, maskToRle, type Rle, rleToMask, tight } from "../core/mask";
import type { Prompt } from "../core/prompts";
import {
  type Answer,
  type Engine,
  EngineError,
  type Folder,
  type Found,
  type Label,
  type Opened,
  type Photo,
  type Progress,
} from "./engine";

const LOGITS = "application/vnd.mobilesam.logits";
const TRIES = 5;
const LONGEST_WAIT = 10; // seconds before a busy server is asked again
const GONE = [404, 410];

interface MaskRecord {
  readonly predicted_iou: number;
  readonly stability_score: number;
  readonly segmentation: Rle;
  readonly box: [number, number, number, number];
}

interface ImageRecord {
  readonly id: string;
  readonly width: number;
  readonly height: number;
}

export class ServerEngine implements Engine {
  readonly kind = "server";
  readonly folder: Folder;
  /** How an image is sent again when the server has dropped it, and the id it has now. */
  private readonly known = new Map<string, { send: () => Promise<ImageRecord>; id: string }>();

  constructor(private readonly token: string) {
    this.folder = {
      list: async () => (await this.json<{ photos: Photo[] }>("v1/photos")).photos,
      read: async (photo) => {
        const response = await this.fetch(`v1/photos/${photo.index}`);
        return new File([await response.blob()], photo.name);
      },
      open: (photo) => this.opened(() => this.json(`v1/photos/${photo.index}/image`, { method: "POST" })),
      labels: (photo) => this.labels(photo),
      save: (photo, labels) => this.save(photo, labels),
    };
  }

  async start(progress: Progress): Promise<string> {
    progress(1, "Ready");
    return "server";
  }

  private async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
    for (let left = TRIES; ; left--) {
      const response = await fetch(new URL(path, document.baseURI), { ...init, headers }).catch((error: unknown) => {
        if (init.signal?.aborted) throw error;
        throw new EngineError("The server does not answer; start it again with mobilesam ui.");
      });
      if (response.ok) return response;
      if (response.status === 429 && left > 1) {
        const seconds = Math.min(LONGEST_WAIT, Number(response.headers.get("Retry-After")) || 1);
        await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
        continue;
      }
      throw await failure(response);
    }
  }

  private async json<T>(path: string, init: RequestInit = {}): Promise<T> {
    return (await (await this.fetch(path, init)).json()) as T;
  }

  private async opened(send: () => Promise<ImageRecord>): Promise<Opened> {
    const { id, width, height } = await send();
    this.known.set(id, { send, id });
    return { id, width, height };
  }

  open(file: File, progress: Progress): Promise<Opened> {
    progress(1, "Looking at the photo");
    return this.opened(() => this.json("v1/images", { method: "POST", body: file }));
  }

  /** Ask something about an image; one that the server has dropped is sent again. */
  private async of(image: Opened, route: string, init: RequestInit): Promise<Response> {
    const known = this.known.get(image.id);
    try {
      return await this.fetch(`v1/images/${known?.id ?? image.id}/${route}`, init);
    } catch (error) {
      if (!known || !(error instanceof StatusError) || !GONE.includes(error.status)) throw error;
      known.id = (await known.send()).id;
      return await this.fetch(`v1/images/${known.id}/${route}`, init);
    }
  }

  async segment(image: Opened, prompt: Prompt): Promise<Answer> {
    const response = await this.of(image, "segment", post({ objects: [prompt] }));
    const { images } = (await response.json()) as { images: { objects: { masks: MaskRecord[] }[] }[] };
    const candidates = images[0].objects[0].masks.map(candidate);
    const ious = candidates.map(({ predictedIou }) => predictedIou);
    return { candidates, best: ious.indexOf(Math.max(...ious)) };
  }

  async preview(image: Opened, prompt: Prompt): Promise<Mask | null> {
    const response = await this.of(image, "segment", post({ objects: [prompt] }, { Accept: LOGITS }));
    const [, height, width] = (response.headers.get("X-Mobilesam-Shape") ?? "").split(",").map(Number);
    const chosen = Number(response.headers.get("X-Mobilesam-Chosen"));
    const all = new Int8Array(await response.arrayBuffer());
    const logits = all.subarray(chosen * height * width, (chosen + 1) * height * width);
    const bits = Uint8Array.from(logits, (logit) => (logit > 0 ? 1 : 0));
    return tight({ width, height, x: 0, y: 0, w: width, h: height, bits });
  }

  async everything(
    image: Opened,
    onFound: (found: readonly Found[], done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const response = await this.of(image, "everything", { ...post({ preset: "tidy" }), signal });
    let [done, total] = [0, 1];
    for await (const line of lines(response)) {
      const record = JSON.parse(line) as {
        mask?: MaskRecord;
        progress?: [number, number];
        error?: { message: string };
      };
      if (record.error) throw new EngineError(record.error.message);
      if (record.progress) [done, total] = record.progress;
      const found = record.mask ? [asFound(record.mask)] : [];
      if (record.mask || record.progress) onFound(found, done, total);
    }
  }

  async cutOut(image: Opened, mask: Mask): Promise<ImageBitmap> {
    const response = await this.of(image, "cutout", post({ masks: [maskToRle(mask)], format: "png" }));
    return createImageBitmap(await response.blob(), { premultiplyAlpha: "none" });
  }

  async picture(image: Opened): Promise<Blob> {
    return (await this.of(image, "picture", {})).blob();
  }

  close(image: Opened): void {
    this.known.delete(image.id); // the server drops it by itself: another page may have it open
  }

  private async labels(photo: Photo): Promise<Label[]> {
    const { objects } = await this.json<{ objects: { label?: string; segmentation: Rle; prompt?: Prompt }[] }>(
      `v1/photos/${photo.index}/labels`,
    );
    return objects.map(({ label, segmentation, prompt }) => ({
      name: label ?? "",
      mask: rleToMask(segmentation),
      prompt: prompt ?? { mask: segmentation },
    }));
  }

  private async save(photo: Photo, labels: readonly Label[]): Promise<string[]> {
    const objects = labels.map(({ name, mask, prompt }) => ({
      ...(name ? { label: name } : {}),
      segmentation: maskToRle(mask),
      prompt,
    }));
    const body = { ...post({ objects }), method: "PUT" };
    return (await this.json<{ files: string[] }>(`v1/photos/${photo.index}/labels`, body)).files;
  }
}

class StatusError extends EngineError {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function failure(response: Response): Promise<StatusError> {
  const content = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  return new StatusError(response.status, content?.error?.message ?? `The server answered with ${response.status}.`);
}

function post(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
}

function candidate(record: MaskRecord) {
  return {
    mask: rleToMask(record.segmentation),
    predictedIou: record.predicted_iou,
    stability: record.stability_score,
  };
}

/** A mask of everything; box and mask together are the prompt that comes nearest to it. */
function asFound(record: MaskRecord): Found {
  return { ...candidate(record), prompt: { box: record.box, mask: record.segmentation } };
}

async function* lines(response: Response): AsyncGenerator<string> {
  const reader = (response.body as ReadableStream<Uint8Array>)
    .pipeThrough(new TextDecoderStream() as never)
    .getReader();
  let rest = "";
  for (;;) {
    const { done, value } = (await reader.read()) as { done: boolean; value?: string };
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    yield* parts.filter(Boolean);
  }
  if (rest) yield rest;
}
