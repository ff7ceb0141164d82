/** Several files as one: a ZIP archive without packing. */

import { crc32, joined } from "./png";

export interface NamedFile {
  readonly name: string;
  readonly data: Uint8Array;
}

const NO_TIME = 0x00210000; // 1980-01-01, the earliest possible: the same files give the same archive
const UTF8_NAMES = 0x0800;

export function zip(files: readonly NamedFile[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const { name, data } of files) {
    const path = new TextEncoder().encode(name);
    const common = new Uint8Array(26);
    const view = new DataView(common.buffer);
    view.setUint16(0, 20, true); // version needed
    view.setUint16(2, UTF8_NAMES, true);
    view.setUint32(6, NO_TIME, true);
    view.setUint32(10, crc32(data), true);
    view.setUint32(14, data.length, true);
    view.setUint32(18, data.length, true);
    view.setUint16(22, path.length, true);
    const local = joined([new Uint8Array([0x50, 0x4b, 3, 4]), common, path, data]);
    const rest = new Uint8Array(14); // comment, disk and attributes, then where the file begins
    new DataView(rest.buffer).setUint32(10, at, true);
    directory.push(joined([new Uint8Array([0x50, 0x4b, 1, 2, 20, 0]), common, rest, path]));
    parts.push(local);
    at += local.length;
  }
  const index = joined(directory);
  const end = new Uint8Array(22);
  const view = new DataView(end.buffer);
  view.setUint32(0, 0x06054b50, true);
  view.setUint16(8, files.length, true);
  view.setUint16(10, files.length, true);
  view.setUint32(12, index.length, true);
  view.setUint32(16, at, true);
  return joined([...parts, index, end]);
}
