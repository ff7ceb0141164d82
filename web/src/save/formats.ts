/** The user's objects as files that other programs, and the command line, read. */

import { boxOfBits, type Mask, maskArea, maskBox, maskToRle, unionOf } from "../core/mask";
import { maskToPath, maskToRegions } from "../core/outlines";
import type { Prompt } from "../core/prompts";
import { COLOURS, type Item, maskOf, nameOf, savedPrompt } from "../ui/state";
import { maskToPng, pictureToPng } from "./png";
import { maskToYoloLine } from "./yolo";
import { type NamedFile, zip } from "./zip";

const UNNAMED = "object"; // the name of COCO's category, as everywhere
const SVG_TOLERANCE = 0.5; // pixels
const LABELME_TOLERANCE = 1;

/** A photo with what was found in it. */
export interface Work {
  readonly photo: string; // its file name
  readonly width: number;
  readonly height: number;
  readonly items: readonly Item[];
  readonly cutOut: (mask: Mask) => Promise<ImageBitmap>;
  readonly ground: string | null;
}

export const FORMATS = {
  mask: "Mask (PNG)",
  cutout: "Cut-out (PNG)",
  svg: "Outline (SVG)",
  coco: "COCO (JSON)",
  yolo: "YOLO (text)",
  labelme: "LabelMe (JSON)",
  prompts: "Prompts for the command line (JSON)",
} as const;

export type Format = keyof typeof FORMATS;

function stem(photo: string): string {
  return photo.replace(/^.*[\\/]/, "").replace(/\.[^.]*$/, "") || "photo";
}

function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

function json(content: unknown): Uint8Array {
  return text(`${JSON.stringify(content, null, 1)}\n`);
}

function labelOf(item: Item): string {
  return item.name || UNNAMED;
}

/** The different names, in the order in which they come. */
function namesOf(items: readonly Item[]): string[] {
  return [...new Set(items.map(labelOf))];
}

async function masks({ photo, items }: Work): Promise<NamedFile[]> {
  const several = items.length > 1;
  return Promise.all(
    items.map(async (item, i) => {
      const name = several ? `${stem(photo)}-${i + 1}-${fileName(nameOf(item))}.png` : `${stem(photo)}-mask.png`;
      return { name, data: await maskToPng(maskOf(item)) };
    }),
  );
}

function fileName(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 60);
}

async function cutout({ photo, items, width, height, cutOut, ground }: Work): Promise<NamedFile[]> {
  const picture = await cutOut(unionOf(items.map(maskOf), { width, height }));
  const data = await pictureToPng(picture, ground);
  picture.close();
  return [{ name: `${stem(photo)}-cutout.png`, data }];
}

function escaped(value: string): string {
  return value.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] as string);
}

export function toSvg({ width, height, items, photo }: Work): string {
  const paths = items.map((item) => {
    const colour = COLOURS[item.colour % COLOURS.length];
    const style = `fill="${colour}" fill-opacity="0.4" stroke="${colour}" fill-rule="evenodd"`;
    const path = maskToPath(maskOf(item), SVG_TOLERANCE);
    return `  <path id="object-${item.id}" ${style} d="${path}"><title>${escaped(nameOf(item))}</title></path>`;
  });
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`;
  return [head, `  <title>${escaped(stem(photo))}</title>`, ...paths, "</svg>", ""].join("\n");
}

export function toCoco({ photo, width, height, items }: Work): unknown {
  const names = namesOf(items);
  return {
    images: [{ id: 1, file_name: photo, width, height }],
    categories: names.map((name, i) => ({ id: i + 1, name })),
    annotations: items.map((item, i) => {
      const mask = maskOf(item);
      const [x0, y0, x1, y1] = maskBox(mask);
      return {
        id: i + 1,
        image_id: 1,
        category_id: names.indexOf(labelOf(item)) + 1,
        segmentation: maskToRle(mask),
        area: maskArea(mask),
        bbox: [x0, y0, x1 - x0, y1 - y0],
        iscrowd: 0,
      };
    }),
  };
}

function toYolo({ photo, items }: Work): NamedFile[] {
  const names = namesOf(items);
  const lines = items.map((item) => maskToYoloLine(maskOf(item), names.indexOf(labelOf(item)))).filter(Boolean);
  const listed = names.map((name, i) => `  ${i}: ${JSON.stringify(name)}`);
  return [
    { name: `labels/${stem(photo)}.txt`, data: text(`${lines.join("\n")}\n`) },
    { name: "data.yaml", data: text(["path: .", "train: images", "val: images", "names:", ...listed, ""].join("\n")) },
  ];
}

/** A mask's window in LabelMe's form: a PNG in base64 between two corners, the second inclusive. */
async function toLabelmeMask(mask: Mask) {
  const [x0, y0, x1, y1] = boxOfBits(mask.bits, mask.w, mask.h);
  const png = await maskToPng({ ...mask, width: mask.w, height: mask.h, x: 0, y: 0 });
  return {
    points: [
      [mask.x + x0, mask.y + y0],
      [mask.x + x1 - 1, mask.y + y1 - 1],
    ],
    shape_type: "mask",
    mask: btoa(Array.from(png, (byte) => String.fromCharCode(byte)).join("")),
  };
}

async function toLabelme({ photo, width, height, items }: Work): Promise<unknown> {
  const shapes: unknown[] = [];
  for (const [i, item] of items.entries()) {
    const base = { label: labelOf(item), group_id: null as number | null, description: "", flags: {} };
    const regions = maskToRegions(maskOf(item), LABELME_TOLERANCE);
    if (regions.some(({ holes }) => holes.length)) {
      shapes.push({ ...base, ...(await toLabelmeMask(maskOf(item))) });
      continue;
    }
    if (regions.length > 1) base.group_id = i + 1;
    for (const { exterior } of regions) shapes.push({ ...base, points: exterior.points, shape_type: "polygon" });
  }
  const head = { version: "5.5.0", flags: {}, shapes, imagePath: photo, imageData: null };
  return { ...head, imageHeight: height, imageWidth: width };
}

export function toPrompts({ items }: Work): { version: number; objects: (Prompt & { label?: string })[] } {
  return {
    version: 1,
    objects: items.map((item) => ({
      ...savedPrompt(item, () => maskToRle(maskOf(item))),
      ...(item.name ? { label: item.name } : {}),
    })),
  };
}

async function filesOf(format: Format, work: Work): Promise<NamedFile[]> {
  const name = stem(work.photo);
  switch (format) {
    case "mask":
      return masks(work);
    case "cutout":
      return cutout(work);
    case "svg":
      return [{ name: `${name}.svg`, data: text(toSvg(work)) }];
    case "coco":
      return [{ name: `${name}-coco.json`, data: json(toCoco(work)) }];
    case "yolo":
      return toYolo(work);
    case "labelme":
      return [{ name: `${name}.json`, data: json(await toLabelme(work)) }];
    case "prompts":
      return [{ name: `${name}-prompts.json`, data: json(toPrompts(work)) }];
  }
}

/** The file that is saved: one as it is, several as an archive. */
export async function toFile(format: Format, work: Work): Promise<NamedFile> {
  const files = await filesOf(format, work);
  if (files.length === 1) return files[0];
  return { name: `${stem(work.photo)}-${format}.zip`, data: zip(files) };
}

const TYPES: Record<string, string> = {
  png: "image/png",
  svg: "image/svg+xml",
  json: "application/json",
  zip: "application/zip",
};

/** Let the browser save a file. */
export function download({ name, data }: NamedFile): void {
  const type = TYPES[name.split(".").pop() ?? ""] ?? "text/plain";
  const url = URL.createObjectURL(new Blob([data as BlobPart], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
