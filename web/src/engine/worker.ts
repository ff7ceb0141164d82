/** The worker that has the model: the page stays responsive while it computes. */

import { TIDY } from "../core/everything";
import type { FromWorker, Request, Requests, ToWorker } from "./messages";
import { ExpectedError, Model } from "./model";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const cancelled = new Set<number>();
let model: Promise<Model> | null = null;

function say(message: FromWorker, transfer: Transferable[] = []): void {
  scope.postMessage(message, transfer);
}

function start({ base, webgpu, threads }: Requests["start"], number: number): Promise<Model> {
  model ??= Model.load(base, webgpu, threads, (part, what) => say({ number, part: [part, what] }));
  model.catch(() => {
    model = null; // so that it can be tried again
  });
  return model;
}

async function answer(request: Request): Promise<[unknown, Transferable[]]> {
  const { number } = request;
  if (request.method === "start") return [(await start(request.body, number)).backend, []];
  if (!model) throw new ExpectedError("The model has not been started.");
  const loaded = await model;
  switch (request.method) {
    case "open":
      return [await loaded.open(request.body.file), []];
    case "segment":
      return [await loaded.segment(request.body.id, request.body.prompt), []];
    case "preview":
      return [await loaded.preview(request.body.id, request.body.prompt), []];
    case "everything":
      await loaded.everything(
        request.body.id,
        TIDY,
        (found, done, total) => say({ number, part: { found, done, total } }),
        () => cancelled.has(number),
      );
      return [null, []];
    case "cutOut": {
      const bitmap = await loaded.cutOut(request.body.id, request.body.mask);
      return [bitmap, [bitmap]];
    }
    case "close":
      loaded.close(request.body.id);
      return [null, []];
  }
}

scope.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  if ("cancel" in data) {
    cancelled.add(data.cancel);
    return;
  }
  try {
    const [result, transfer] = await answer(data);
    say({ number: data.number, result }, transfer);
  } catch (error) {
    const expected = error instanceof ExpectedError;
    say({ number: data.number, error: error instanceof Error ? error.message : String(error), expected });
  } finally {
    cancelled.delete(data.number);
  }
};
