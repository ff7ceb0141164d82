/** The photos that can be opened one after the other: the user's files, or those that the server was given. */

import type { Engine, Folder, Label, Opened, Photo, Progress } from "../engine/engine";

export interface Entry {
  readonly name: string;
  done: boolean;
  read(): Promise<File>;
  open(file: File, progress: Progress): Promise<Opened>;
  labels(): Promise<readonly Label[]>;
  /** Keep what was found for when the photo is opened again; returns the files that hold it. */
  save(labels: readonly Label[]): Promise<readonly string[]>;
}

/** The user's files; what was found in them is kept as long as the page is open. */
export function albumOfFiles(files: readonly File[], engine: Engine): Entry[] {
  return files.map((file) => {
    let kept: readonly Label[] = [];
    const entry: Entry = {
      name: file.name,
      done: false,
      read: async () => file,
      open: (content, progress) => engine.open(content, progress),
      labels: async () => kept,
      save: async (labels) => {
        kept = labels;
        entry.done = labels.length > 0;
        return [];
      },
    };
    return entry;
  });
}

function entryOf(photo: Photo, folder: Folder): Entry {
  const entry: Entry = {
    name: photo.name,
    done: photo.done,
    read: () => folder.read(photo),
    open: (file) => folder.open(photo, file),
    labels: () => folder.labels(photo),
    save: async (labels) => {
      const files = await folder.save(photo, labels);
      entry.done = labels.length > 0;
      return files;
    },
  };
  return entry;
}

/** The photos that the server was given; empty if it was given none. */
export async function albumOfServer(engine: Engine): Promise<Entry[]> {
  const { folder } = engine;
  if (!folder) return [];
  return (await folder.list()).map((photo) => entryOf(photo, folder));
}
