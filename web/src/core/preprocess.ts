/** From an image to a network's input, as in `mobilesam/core/preprocess.py`. */

import { inputSizeOf, type Size } from "./frame";
import { resizeImage } from "./resize";

const MEAN = [123.675, 116.28, 103.53].map(Math.fround); // ImageNet's, in 0..255
const DEVIATION = [58.395, 57.12, 57.375].map(Math.fround);

export interface Pixels extends Size {
  readonly data: Float32Array; // (1, 3, height, width)
}

/** Resize (H, W, 3) bytes until the longer side is the input's, normalise, and pad with zeros. */
export function preprocess(image: Uint8Array, size: Size, imageSize: number, paddedTo: number): Pixels {
  const inner = inputSizeOf(size, imageSize);
  const resized = resizeImage(image, size, inner);
  const padded = (side: number) => Math.min(imageSize, Math.ceil(side / paddedTo) * paddedTo);
  const [height, width] = [padded(inner.height), padded(inner.width)];
  const data = new Float32Array(3 * height * width);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < inner.height; y++) {
      let to = (channel * height + y) * width;
      let from = y * inner.width * 3 + channel;
      for (let x = 0; x < inner.width; x++, to++, from += 3) {
        data[to] = Math.fround(resized[from] - MEAN[channel]) / DEVIATION[channel];
      }
    }
  }
  return { data, height, width };
}
