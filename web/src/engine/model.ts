/** `pocket` on this device: onnxruntime-web runs its graphs, and `core/` does everything around them. */

import type * as Ort from "onnxruntime-web";
import { cutOut } from "../core/alpha";
import { type EverythingOptions, searchEverything } from "../core/everything";
import { type Frame, fitFrame, type Size } from "../core/frame";
import type { Mask } from "../core/mask";
import { enlargeMask, stability, visiblePart } from "../core/postprocess";
import { preprocess } from "../core/preprocess";
import { type DecoderInputs, isAmbiguous, type Prompt, toDecoderInputs } from "../core/prompts";
import { type Arrays, type Decoded, decodeViews, type Named } from "../core/views";
import type { Answer, Found } from "./engine";

/** What an exported folder says about itself in `site.json`. */
export interface Site {
  readonly weights: { readonly file: string; readonly bytes: number; readonly dtype: "float16" | "float32" };
  readonly graphs: Readonly<Record<Part, string>>;
  readonly spec: { readonly image_size: number; readonly view_size: number; readonly padded_to: number };
  readonly runtime: Readonly<
    Record<Backend, { readonly module: string; readonly glue: string; readonly wasm: string }>
  >;
}

type Part = "encoder" | "decoder" | "decoder_mask" | "proposals";
type Backend = "wasm" | "webgpu";
type Report = (part: number, what: string) => void;

const MAX_PIXELS = 50_000_000; // of a photo, as everywhere
const PREVIEW_SIDE = 512; // of masks that follow the pointer
const LOW_RES_STRIDE = 2; // pixels of the input for one logit
const CANCELLED = "cancelled";

interface Picture {
  readonly size: Size;
  readonly frame: Frame;
  readonly rgba: Uint8ClampedArray;
  readonly arrays: Arrays;
}

export class ExpectedError extends Error {}

export class Model {
  private readonly sessions = new Map<Part, Promise<Ort.InferenceSession>>();
  private readonly pictures = new Map<string, Picture>();
  private lastId = 0;
  private turn: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly ort: typeof Ort,
    private readonly site: Site,
    private readonly base: string,
    private readonly weights: Uint8Array,
    private readonly providers: string[],
  ) {}

  /** Fetch what is needed and make the sessions that the first click needs; WebGPU if it works, else WebAssembly. */
  static async load(base: string, webgpu: boolean, threads: number, report: Report): Promise<Model> {
    const site: Site = await (await fetched(`${base}site.json`)).json();
    const weights = await readWeights(base, site, report);
    report(0.75, "Starting the model");
    const tries: Backend[] = webgpu && (await hasGraphicsCard()) ? ["webgpu", "wasm"] : ["wasm"];
    let failure: unknown = null;
    for (const backend of tries) {
      try {
        const ort = await openRuntime(base, site, backend, threads);
        const providers = backend === "webgpu" ? ["webgpu", "wasm"] : ["wasm"];
        const model = new Model(ort, site, base, weights, providers);
        await model.session("encoder");
        report(0.9, "Starting the model");
        await model.session("decoder");
        report(1, "Ready");
        return model;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  get backend(): string {
    return this.providers[0];
  }

  private session(part: Part): Promise<Ort.InferenceSession> {
    let session = this.sessions.get(part);
    if (!session) {
      session = this.startSession(part);
      this.sessions.set(part, session);
    }
    return session;
  }

  private async startSession(part: Part): Promise<Ort.InferenceSession> {
    const graph = new Uint8Array(await (await fetched(this.base + this.site.graphs[part])).arrayBuffer());
    return this.ort.InferenceSession.create(graph, {
      executionProviders: this.providers,
      externalData: [{ path: "weights", data: this.weights }],
      graphOptimizationLevel: "all",
      enableMemPattern: false, // a plan for one size would be kept beside those of others, with no gain in speed
      logSeverityLevel: 3,
    });
  }

  /** Run a graph; one at a time, because a session cannot do more. */
  private async run(part: Part, feeds: Record<string, Ort.Tensor>): Promise<Record<string, Named>> {
    const before = this.turn;
    let done: () => void = () => {};
    this.turn = new Promise<void>((resolve) => {
      done = resolve;
    });
    await before;
    try {
      const out = await (await this.session(part)).run(feeds);
      const arrays: Record<string, Named> = {};
      for (const [name, tensor] of Object.entries(out)) {
        arrays[name] = { data: (await tensor.getData()) as Float32Array, dims: tensor.dims };
      }
      return arrays;
    } finally {
      done();
    }
  }

  private tensor({ data, dims }: Named): Ort.Tensor {
    return new this.ort.Tensor("float32", data, dims);
  }

  async open(file: Blob): Promise<{ id: string } & Size> {
    const { rgba, size } = await readPixels(file);
    const rgb = new Uint8Array(size.width * size.height * 3);
    for (let from = 0, to = 0; to < rgb.length; from += 4) {
      rgb[to++] = rgba[from];
      rgb[to++] = rgba[from + 1];
      rgb[to++] = rgba[from + 2];
    }
    const { image_size, padded_to } = this.site.spec;
    const { data, height, width } = preprocess(rgb, size, image_size, padded_to);
    const arrays = await this.run("encoder", { pixels: this.tensor({ data, dims: [1, 3, height, width] }) });
    const id = String(++this.lastId);
    this.pictures.set(id, { size, frame: fitFrame(size, image_size), rgba, arrays });
    return { id, ...size };
  }

  close(id: string): void {
    this.pictures.delete(id);
  }

  private picture(id: string): Picture {
    const picture = this.pictures.get(id);
    if (!picture) throw new ExpectedError("This photo is no longer open; open it again.");
    return picture;
  }

  private decode(picture: Picture, inputs: DecoderInputs, tokens: readonly number[]): Promise<Decoded> {
    const { image_size, view_size } = this.site.spec;
    const part = inputs.masks ? "decoder_mask" : "decoder";
    const names = ["coarse_embedding", "image_embedding", "skip_stride4", "skip_stride2"];
    return decodeViews(
      picture.arrays,
      inputs,
      { imageSize: image_size, viewSize: view_size },
      names,
      async (arrays, asked, maskSize) => {
        const { prompts, slots } = asked;
        const feeds: Record<string, Ort.Tensor> = {
          mask_tokens: new this.ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [tokens.length]),
          point_coords: this.tensor({ data: asked.coords, dims: [prompts, slots, 2] }),
          point_labels: this.tensor({ data: asked.labels, dims: [prompts, slots] }),
        };
        if (asked.masks && maskSize) {
          feeds.mask_input = this.tensor({ data: asked.masks, dims: [prompts, 1, maskSize.height, maskSize.width] });
        }
        for (const [name, array] of Object.entries(arrays)) feeds[name] = this.tensor(array);
        const { low_res_masks, iou_predictions } = await this.run(part, feeds);
        return { logits: low_res_masks, ious: iou_predictions };
      },
    );
  }

  private ask(picture: Picture, prompt: Prompt): Promise<Decoded> {
    const inputs = toDecoderInputs(prompt, picture.frame, this.site.spec.image_size / LOW_RES_STRIDE);
    return this.decode(picture, inputs, isAmbiguous(prompt) ? [1, 2, 3] : [0]);
  }

  async segment(id: string, prompt: Prompt): Promise<Answer> {
    const picture = this.picture(id);
    const { masks, side, logits, ious } = await this.ask(picture, prompt);
    const candidates = Array.from({ length: masks }, (_, i) => {
      const lowRes = logits.subarray(i * side * side, (i + 1) * side * side);
      return {
        mask: enlargeMask(lowRes, side, picture.frame),
        predictedIou: ious[i],
        stability: stability(visiblePart(lowRes, side, picture.frame).logits),
      };
    });
    return { candidates, best: ious.indexOf(Math.max(...ious)) };
  }

  async preview(id: string, prompt: Prompt): Promise<Mask> {
    const picture = this.picture(id);
    const { side, logits, ious } = await this.ask(picture, prompt);
    const best = ious.indexOf(Math.max(...ious));
    const scale = Math.min(1, PREVIEW_SIDE / Math.max(picture.size.width, picture.size.height));
    const original = {
      height: Math.max(1, Math.round(picture.size.height * scale)),
      width: Math.max(1, Math.round(picture.size.width * scale)),
    };
    const lowRes = logits.subarray(best * side * side, (best + 1) * side * side);
    return enlargeMask(lowRes, side, { ...picture.frame, original });
  }

  async everything(
    id: string,
    options: EverythingOptions,
    onFound: (found: Found[], done: number, total: number) => void,
    cancelled: () => boolean,
  ): Promise<void> {
    const picture = this.picture(id);
    const maps = ["objects_stride8", "objects_stride16", "objects_stride32"];
    const feeds = Object.fromEntries(maps.map((name) => [name, this.tensor(picture.arrays[name])]));
    const { boxes, objectness } = await this.run("proposals", feeds);
    const search = searchEverything({
      frame: picture.frame,
      options,
      boxes: Array.from({ length: objectness.data.length }, (_, i) => [
        boxes.data[i * 4],
        boxes.data[i * 4 + 1],
        boxes.data[i * 4 + 2],
        boxes.data[i * 4 + 3],
      ]),
      objectness: objectness.data,
      decode: (inputs, tokens) => this.decode(picture, inputs, tokens),
    });
    for await (const { found, done } of search) {
      onFound(found, done, options.maxPrompts);
      await new Promise((resolve) => setTimeout(resolve)); // so that a click, or a change of mind, gets its turn
      if (cancelled()) throw new ExpectedError(CANCELLED);
    }
  }

  cutOut(id: string, mask: Mask): Promise<ImageBitmap> {
    const { rgba, size } = this.picture(id);
    return createImageBitmap(new ImageData(cutOut(rgba, size, mask), size.width, size.height), {
      premultiplyAlpha: "none",
    });
  }
}

/** Whether WebGPU has something to compute on: many browsers know its names but have no device for it. */
async function hasGraphicsCard(): Promise<boolean> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<unknown> } };
  return Boolean(await gpu?.requestAdapter().catch(() => null));
}

async function fetched(url: string): Promise<Response> {
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new ExpectedError(`${url.split("/").pop()} could not be fetched; check the connection.`);
  return response;
}

/** A whole file, which may be packed by gzip; reports how much of it has come. */
async function unpacked(url: string, bytes: number, report: (part: number) => void): Promise<Uint8Array> {
  const response = await fetched(url);
  const chunks: Uint8Array[] = [];
  let got = 0;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    got += value.length;
    report(Math.min(1, got / bytes));
  }
  const whole = new Blob(chunks as BlobPart[]);
  const packed = chunks[0]?.[0] === 0x1f && chunks[0][1] === 0x8b;
  const stream = packed ? whole.stream().pipeThrough(new DecompressionStream("gzip")) : whole.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The weights as the graphs read them, float32; they are stored as float16, which holds them exactly. */
async function readWeights(base: string, site: Site, report: Report): Promise<Uint8Array> {
  const { file, bytes, dtype } = site.weights;
  const data = await unpacked(base + file, bytes, (part) => report(0.7 * part, "Fetching the model"));
  if (dtype === "float32") return data;
  const half = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  const bits = new Uint32Array(half.length);
  for (let i = 0; i < half.length; i++) bits[i] = halfToFloatBits(half[i]);
  return new Uint8Array(bits.buffer);
}

/** The bits of a float32 that is a float16, exactly. */
export function halfToFloatBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  let exponent = (half >> 10) & 0x1f;
  let fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent === 0) {
    if (fraction === 0) return sign;
    exponent = 1;
    while (!(fraction & 0x400)) {
      fraction <<= 1;
      exponent--;
    }
    fraction &= 0x3ff;
  }
  return sign | ((exponent + 112) << 23) | (fraction << 13);
}

async function openRuntime(base: string, site: Site, backend: Backend, threads: number): Promise<typeof Ort> {
  const { module, glue, wasm } = site.runtime[backend];
  const ort: typeof Ort = await import(base + module);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: base + glue };
  ort.env.wasm.wasmBinary = (await unpacked(base + wasm, Infinity, () => {})).buffer as ArrayBuffer;
  ort.env.logLevel = "error";
  return ort;
}

/** The pixels of an upright image, as they are stored: what is transparent is laid over white, as in Python. */
async function readPixels(file: Blob): Promise<{ rgba: Uint8ClampedArray; size: Size }> {
  const options: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "default" };
  const bitmap = await createImageBitmap(file, options).catch(() => null);
  if (!bitmap) {
    throw new ExpectedError("The browser cannot read this file as a picture; use a JPEG, PNG, WebP, GIF or AVIF.");
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    throw new ExpectedError(
      `The picture has ${width} × ${height} pixels; at most 50 million are read. Make it smaller.`,
    );
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new ExpectedError("The browser has no memory for this picture; close other pages.");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { rgba: context.getImageData(0, 0, width, height).data, size: { width, height } };
}
