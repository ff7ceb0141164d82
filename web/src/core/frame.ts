/** Where an image lies in a network's square input, as in `mobilesam/core/frame.py`. */

export interface Size {
  readonly height: number;
  readonly width: number;
}

export interface Frame {
  readonly original: Size;
  readonly input: Size;
  readonly side: number;
}

/** The size of an image whose longer side becomes `side`; with SAM's rounding, and at least a pixel. */
export function inputSizeOf(original: Size, side: number): Size {
  const scale = side / Math.max(original.height, original.width);
  const scaled = (length: number) => Math.max(1, Math.floor(length * scale + 0.5));
  return { height: scaled(original.height), width: scaled(original.width) };
}

export function fitFrame(original: Size, side: number): Frame {
  return { original, input: inputSizeOf(original, side), side };
}

/** How many cells of a square of `cells` a side show some of the image. */
export function gridSize(frame: Frame, cells: number): Size {
  const of = (length: number) => Math.max(1, Math.ceil((length * cells) / frame.side));
  return { height: of(frame.input.height), width: of(frame.input.width) };
}
