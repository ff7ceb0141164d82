// Runs functions of the page's arithmetic on cases from standard input; tests/page/test_arithmetic.py compares.
import * as page from "./arithmetic.mjs";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const cases = JSON.parse(Buffer.concat(chunks).toString());

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const floats = (text) => {
  const data = bytes(text);
  return new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
};
const base64 = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
const size = ([height, width]) => ({ height, width });
const inputs = ({ prompts, slots, coords, labels, masks }) => ({
  prompts,
  slots,
  coords: floats(coords),
  labels: floats(labels),
  masks: masks && floats(masks),
});

const run = {
  resize: (c) => base64(page.resizeImage(bytes(c.image), size(c.size), size(c.to))),
  preprocess: (c) => {
    const { data, height, width } = page.preprocess(bytes(c.image), size(c.size), c.imageSize, c.paddedTo);
    return { data: base64(data), height, width };
  },
  enlarge: (c) => page.maskToRle(page.enlargeMask(floats(c.logits), c.side, page.fitFrame(size(c.size), c.square))),
  stability: (c) => {
    const frame = page.fitFrame(size(c.size), c.square);
    return page.stability(page.visiblePart(floats(c.logits), c.side, frame).logits);
  },
  maskLogits: (c) => base64(page.maskToLogits(page.rleToMask(c.mask), c.side, page.fitFrame(size(c.size), c.square))),
  inputs: (c) => {
    const made = page.toDecoderInputs(c.prompt, page.fitFrame(size(c.size), c.square), c.side);
    return { coords: base64(made.coords), labels: base64(made.labels) };
  },
  views: (c) => {
    const asked = inputs(c.inputs);
    return Array.from({ length: asked.prompts }, (_, i) => page.chooseView(asked, i, c.spec, size(c.shape)));
  },
  select: (c) => page.selectBoxes(c.boxes, c.scores, size(c.size), c.limits).map(({ box, score }) => [...box, score]),
  rle: (c) => page.maskToRle(page.rleToMask(c.mask)),
  small: (c) => page.maskToRle(page.removeSmallRegions(page.rleToMask(c.mask), c.smallest)),
  grid: (c) => page.spreadGrid(c.side),
  polygon: (c) => page.maskToRle(page.polygonToMask(c.points, size(c.size))),
  regions: (c) =>
    page.maskToRegions(page.rleToMask(c.mask), c.tolerance).map(({ exterior, holes }) => ({
      exterior: exterior.points,
      holes: holes.map((hole) => hole.points),
    })),
  alpha: (c) => base64(page.cutOut(bytes(c.image), size(c.size), page.rleToMask(c.mask))),
};

process.stdout.write(JSON.stringify(cases.map((c) => run[c.what](c))));
