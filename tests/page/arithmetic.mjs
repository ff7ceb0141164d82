// src/core/mask.ts
function emptyMask(size) {
  return { width: size.width, height: size.height, x: 0, y: 0, w: 0, h: 0, bits: new Uint8Array(0) };
}
function maskArea(mask) {
  let area = 0;
  for (const bit of mask.bits) area += bit;
  return area;
}
function boxOfBits(bits, w, h) {
  let [x0, y0, x1, y1] = [w, h, 0, 0];
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) {
      if (!bits[i]) continue;
      if (x < x0) x0 = x;
      if (x >= x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return x1 ? [x0, y0, x1, y1] : [0, 0, 0, 0];
}
function maskBox(mask) {
  const [x0, y0, x1, y1] = boxOfBits(mask.bits, mask.w, mask.h);
  return x1 ? [x0 + mask.x, y0 + mask.y, x1 + mask.x, y1 + mask.y] : [0, 0, 0, 0];
}
function tight(mask) {
  const [x0, y0, x1, y1] = boxOfBits(mask.bits, mask.w, mask.h);
  if (!x1) return emptyMask(mask);
  if (x1 - x0 === mask.w && y1 - y0 === mask.h) return mask;
  const bits = new Uint8Array((x1 - x0) * (y1 - y0));
  for (let y = y0; y < y1; y++) {
    bits.set(mask.bits.subarray(y * mask.w + x0, y * mask.w + x1), (y - y0) * (x1 - x0));
  }
  return { ...mask, x: mask.x + x0, y: mask.y + y0, w: x1 - x0, h: y1 - y0, bits };
}
function maskAt(mask, x, y) {
  const [column, row] = [Math.floor(x) - mask.x, Math.floor(y) - mask.y];
  return column >= 0 && row >= 0 && column < mask.w && row < mask.h && mask.bits[row * mask.w + column] === 1;
}
function fullBits(mask) {
  const full = new Uint8Array(mask.width * mask.height);
  for (let y = 0; y < mask.h; y++) {
    full.set(mask.bits.subarray(y * mask.w, (y + 1) * mask.w), (y + mask.y) * mask.width + mask.x);
  }
  return full;
}
function unionOf(masks, size) {
  if (masks.length === 1) return masks[0];
  const bits = new Uint8Array(size.width * size.height);
  for (const mask of masks) {
    for (let y = 0, i = 0; y < mask.h; y++) {
      let at = (y + mask.y) * size.width + mask.x;
      for (let x = 0; x < mask.w; x++, i++, at++) bits[at] |= mask.bits[i];
    }
  }
  return tight({ width: size.width, height: size.height, x: 0, y: 0, w: size.width, h: size.height, bits });
}
function maskToRle(mask) {
  const counts = [];
  let last = 0;
  let value = 0;
  for (let x = 0; x < mask.w; x++) {
    const column = (mask.x + x) * mask.height;
    if (value && (mask.y > 0 || mask.h < mask.height)) {
      const at = column - mask.height + mask.y + mask.h;
      counts.push(at - last);
      last = at;
      value = 0;
    }
    for (let y = 0; y < mask.h; y++) {
      const bit = mask.bits[y * mask.w + x];
      if (bit !== value) {
        const at = column + mask.y + y;
        counts.push(at - last);
        last = at;
        value = bit;
      }
    }
  }
  const total = mask.width * mask.height;
  if (value) {
    const at = (mask.x + mask.w - 1) * mask.height + mask.y + mask.h;
    counts.push(at - last);
    last = at;
  }
  if (total > last || counts.length === 0) counts.push(total - last);
  return { size: [mask.height, mask.width], counts: countsToText(counts) };
}
function countsToText(counts) {
  let out = "";
  for (let i = 0; i < counts.length; i++) {
    let value = i > 2 ? counts[i] - counts[i - 2] : counts[i];
    for (; ; ) {
      const group = value & 31;
      value >>= 5;
      const done = value === (group & 16 ? -1 : 0);
      out += String.fromCharCode(48 + (done ? group : group | 32));
      if (done) break;
    }
  }
  return out;
}
function textToCounts(text) {
  const counts = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    for (; ; ) {
      const group = text.charCodeAt(at++) - 48;
      value |= (group & 31) << shift;
      shift += 5;
      if (!(group & 32)) {
        if (group & 16 && shift < 32) value |= -1 << shift;
        break;
      }
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  return counts;
}
function rleToMask(rle) {
  const [height, width] = rle.size;
  const counts = textToCounts(rle.counts);
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  const runs = [];
  for (let i = 0, at = 0; i < counts.length; at += counts[i], i++) {
    if (i % 2 === 0 || counts[i] === 0) continue;
    const end = at + counts[i];
    runs.push([at, end]);
    const [first, last] = [Math.floor(at / height), Math.floor((end - 1) / height)];
    x0 = Math.min(x0, first);
    x1 = Math.max(x1, last + 1);
    y0 = Math.min(y0, first === last ? at - first * height : 0);
    y1 = Math.max(y1, first === last ? end - last * height : height);
  }
  if (!x1) return emptyMask({ height, width });
  const [w, h] = [x1 - x0, y1 - y0];
  const bits = new Uint8Array(w * h);
  for (const [start, end] of runs) {
    let x = Math.floor(start / height);
    let y = start - x * height;
    for (let at = start; at < end; at++) {
      bits[(y - y0) * w + x - x0] = 1;
      if (++y === height) {
        y = 0;
        x++;
      }
    }
  }
  return tight({ width, height, x: x0, y: y0, w, h, bits });
}
function polygonToMask(points, size) {
  const bits = new Uint8Array(size.width * size.height);
  for (let y = 0; y < size.height; y++) {
    const crossings = [];
    for (let i = 0; i < points.length; i++) {
      const [ax, ay] = points[i];
      const [bx, by] = points[(i + 1) % points.length];
      const middle = y + 0.5;
      if (ay <= middle === by <= middle) continue;
      crossings.push(ax + (middle - ay) / (by - ay) * (bx - ax));
    }
    crossings.sort((a, b) => a - b);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const from = Math.max(0, Math.ceil(crossings[i] - 0.5));
      const to = Math.min(size.width, Math.ceil(crossings[i + 1] - 0.5));
      if (to > from) bits.fill(1, y * size.width + from, y * size.width + to);
    }
  }
  return tight({ width: size.width, height: size.height, x: 0, y: 0, w: size.width, h: size.height, bits });
}

// src/core/alpha.ts
var WORK_PIXELS = 25e4;
var NEAR = 0.015;
var SMOOTH = 1e-4;
var STEEP = 1.2;
var COLOUR_REACH = 0.05;
function boxMean({ w, h, data }, radius) {
  const across = new Float32Array(w * h);
  const out = new Float32Array(w * h);
  const sums = new Float64Array(Math.max(w, h) + 1);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) sums[x + 1] = sums[x] + data[y * w + x];
    for (let x = 0; x < w; x++) {
      const [low, high] = [Math.max(0, x - radius), Math.min(w, x + radius + 1)];
      across[y * w + x] = (sums[high] - sums[low]) / (high - low);
    }
  }
  for (let x = 0; x < w; x++) {
    for (let y = 0; y < h; y++) sums[y + 1] = sums[y] + across[y * w + x];
    for (let y = 0; y < h; y++) {
      const [low, high] = [Math.max(0, y - radius), Math.min(h, y + radius + 1)];
      out[y * w + x] = (sums[high] - sums[low]) / (high - low);
    }
  }
  return { w, h, data: out };
}
function times(a, b) {
  return { w: a.w, h: a.h, data: a.data.map((value, i) => value * b.data[i]) };
}
function shrink(read, box, w, h) {
  const data = new Float32Array(w * h);
  const [x0, y0, x1, y1] = box;
  for (let y = 0; y < h; y++) {
    const top = y0 + Math.floor(y * (y1 - y0) / h);
    const bottom = Math.max(top + 1, y0 + Math.floor((y + 1) * (y1 - y0) / h));
    for (let x = 0; x < w; x++) {
      const left = x0 + Math.floor(x * (x1 - x0) / w);
      const right = Math.max(left + 1, x0 + Math.floor((x + 1) * (x1 - x0) / w));
      let sum = 0;
      for (let v = top; v < bottom; v++) for (let u = left; u < right; u++) sum += read(u, v);
      data[y * w + x] = sum / ((bottom - top) * (right - left));
    }
  }
  return { w, h, data };
}
function sampler(w, h, scaleX, scaleY) {
  return (planes, x, y, out) => {
    const px = Math.min(Math.max((x + 0.5) * scaleX - 0.5, 0), w - 1);
    const py = Math.min(Math.max((y + 0.5) * scaleY - 0.5, 0), h - 1);
    const [u, v] = [Math.floor(px), Math.floor(py)];
    const [a, b] = [px - u, py - v];
    const [right, below] = [Math.min(u + 1, w - 1), Math.min(v + 1, h - 1)];
    planes.forEach(({ data }, k) => {
      const upper = data[v * w + u] * (1 - a) + data[v * w + right] * a;
      const lower = data[below * w + u] * (1 - a) + data[below * w + right] * a;
      out[k] = upper * (1 - b) + lower * b;
    });
  };
}
function solve(m, r) {
  const [a, b, c, d, e, f] = m;
  const [A, B, C] = [d * f - e * e, c * e - b * f, b * e - c * d];
  const [D, E, F] = [a * f - c * c, b * c - a * e, a * d - b * b];
  const det = a * A + b * B + c * C;
  return [
    (A * r[0] + B * r[1] + C * r[2]) / det,
    (B * r[0] + D * r[1] + E * r[2]) / det,
    (C * r[0] + E * r[1] + F * r[2]) / det
  ];
}
function guided(image, target, radius) {
  const { w, h } = target;
  const means = [...image, target].map((plane) => boxMean(plane, radius));
  const pairs = [0, 1, 2].flatMap((i) => [0, 1, 2].slice(i).map((j) => [i, j]));
  const squares = pairs.map(([i, j]) => boxMean(times(image[i], image[j]), radius));
  const mixed = image.map((plane) => boxMean(times(plane, target), radius));
  const field = [0, 1, 2, 3].map(() => ({ w, h, data: new Float32Array(w * h) }));
  for (let at = 0; at < w * h; at++) {
    const level = means[3].data[at];
    const matrix = pairs.map(
      ([i, j], k) => squares[k].data[at] - means[i].data[at] * means[j].data[at] + (i === j ? SMOOTH : 0)
    );
    const slopes = solve(
      matrix,
      mixed.map((plane, i) => plane.data[at] - means[i].data[at] * level)
    );
    let offset = level;
    slopes.forEach((slope, i) => {
      field[i].data[at] = slope;
      offset -= slope * means[i].data[at];
    });
    field[3].data[at] = offset;
  }
  return field.map((plane) => boxMean(plane, radius));
}
function coloursAround(image, share) {
  const { w, h } = share;
  const weight = { w, h, data: share.data.map((value) => Math.min(1, Math.max(0, 2 * value - 1)) ** 2) };
  const out = image.map(() => ({ w, h, data: new Float32Array(w * h) }));
  const missing = new Uint8Array(w * h).fill(1);
  for (const reach of [COLOUR_REACH / 6, COLOUR_REACH / 2, COLOUR_REACH * 2, 1]) {
    const radius = Math.max(1, Math.round(reach * Math.sqrt(w * h)));
    const sum = boxMean(weight, radius).data;
    const colours = image.map((plane) => boxMean(times(plane, weight), radius).data);
    let left = 0;
    for (let i = 0; i < w * h; i++) {
      if (!missing[i]) continue;
      if (sum[i] > 1e-3) {
        missing[i] = 0;
        colours.forEach((colour, c) => {
          out[c].data[i] = colour[i] / sum[i];
        });
      } else left++;
    }
    if (!left) break;
  }
  return out;
}
function edgeWithin(part, radius) {
  return Uint8Array.from(boxMean(part, radius).data, (mean) => mean > 1e-4 && mean < 1 - 1e-4 ? 1 : 0);
}
function cutOut(image, size, mask) {
  const out = new Uint8ClampedArray(image.length);
  for (let y = 0; y < mask.h; y++) {
    for (let x = 0; x < mask.w; x++) {
      if (!mask.bits[y * mask.w + x]) continue;
      const at = ((y + mask.y) * size.width + x + mask.x) * 4;
      out.set(image.subarray(at, at + 3), at);
      out[at + 3] = 255;
    }
  }
  const [bx0, by0, bx1, by1] = maskBox(mask);
  if (!bx1) return out;
  const margin = 4 + Math.round(0.1 * Math.sqrt((bx1 - bx0) * (by1 - by0)));
  const [x0, y0] = [Math.max(0, bx0 - margin), Math.max(0, by0 - margin)];
  const [x1, y1] = [Math.min(size.width, bx1 + margin), Math.min(size.height, by1 + margin)];
  const scale = Math.min(1, Math.sqrt(WORK_PIXELS / ((x1 - x0) * (y1 - y0))));
  const w = Math.max(2, Math.round((x1 - x0) * scale));
  const h = Math.max(2, Math.round((y1 - y0) * scale));
  const box = [x0, y0, x1, y1];
  const small = [0, 1, 2].map((c) => shrink((x, y) => image[(y * size.width + x) * 4 + c] / 255, box, w, h));
  const part = shrink((x, y) => out[(y * size.width + x) * 4 + 3] / 255, box, w, h);
  const root = Math.sqrt(w * h);
  const band = edgeWithin(part, Math.max(1, Math.round(NEAR * root)));
  const linear = guided(small, part, Math.max(1, Math.round(NEAR * 1.5 * root)));
  const found = {
    w,
    h,
    data: part.data.map((value, i) => {
      if (!band[i]) return value;
      const colour = small.reduce((sum, plane, c) => sum + plane.data[i] * linear[c].data[i], linear[3].data[i]);
      return Math.min(1, Math.max(0, colour));
    })
  };
  const fore = coloursAround(small, found);
  const ground = coloursAround(small, { w, h, data: found.data.map((value) => 1 - value) });
  const sample = sampler(w, h, w / (x1 - x0), h / (y1 - y0));
  const values = new Float64Array(10);
  const planes = [...linear, ...fore, ...ground];
  for (let y = y0; y < y1; y++) {
    const v = Math.floor((y - y0) * h / (y1 - y0));
    for (let x = x0; x < x1; x++) {
      if (!band[v * w + Math.floor((x - x0) * w / (x1 - x0))]) continue;
      const at = (y * size.width + x) * 4;
      sample(planes, x - x0, y - y0, values);
      let alpha = values[3];
      for (let c = 0; c < 3; c++) alpha += values[c] * image[at + c] / 255;
      alpha = Math.min(1, Math.max(0, (alpha - 0.5) * STEEP + 0.5));
      out[at + 3] = Math.round(alpha * 255);
      for (let c = 0; c < 3; c++) {
        const own = image[at + c];
        const object = values[4 + c] * 255;
        const move = (1 - alpha) * (object - values[7 + c] * 255);
        const left = object - own;
        out[at + c] = own + (move > 0 ? Math.min(move, Math.max(left, 0)) : Math.max(move, Math.min(left, 0)));
      }
    }
  }
  return out;
}

// src/core/boxes.ts
function iou(a, b) {
  const f = Math.fround;
  const wide = Math.max(0, f(Math.min(a[2], b[2]) - Math.max(a[0], b[0])));
  const tall = Math.max(0, f(Math.min(a[3], b[3]) - Math.max(a[1], b[1])));
  const overlap = f(wide * tall);
  const area = (box) => f(f(box[2] - box[0]) * f(box[3] - box[1]));
  const union = f(f(area(a) + area(b)) - overlap);
  return union > 0 ? f(overlap / union) : 0;
}
function nonMaximumSuppression(boxes, scores, threshold, most) {
  const rounded = boxes.map((box) => box.map(Math.fround));
  const order = Array.from(boxes.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  const kept = [];
  for (const i of order) {
    if (kept.length === most) break;
    if (kept.every((k) => iou(rounded[k], rounded[i]) <= threshold)) kept.push(i);
  }
  return kept;
}
function selectBoxes(boxes, scores, size, limits) {
  const found = [];
  boxes.forEach((box, i) => {
    if (!(scores[i] >= limits.confidence) || !box.every(Number.isFinite)) return;
    const inside = [
      Math.min(Math.max(box[0], 0), size.width),
      Math.min(Math.max(box[1], 0), size.height),
      Math.min(Math.max(box[2], 0), size.width),
      Math.min(Math.max(box[3], 0), size.height)
    ];
    if (inside[2] - inside[0] >= 1 && inside[3] - inside[1] >= 1) found.push({ box: inside, score: scores[i] });
  });
  const kept = nonMaximumSuppression(
    found.map(({ box }) => box),
    found.map(({ score }) => score),
    limits.nms,
    limits.most
  );
  return kept.map((i) => found[i]);
}

// src/core/frame.ts
function inputSizeOf(original, side) {
  const scale = side / Math.max(original.height, original.width);
  const scaled = (length) => Math.max(1, Math.floor(length * scale + 0.5));
  return { height: scaled(original.height), width: scaled(original.width) };
}
function fitFrame(original, side) {
  return { original, input: inputSizeOf(original, side), side };
}
function gridSize(frame, cells) {
  const of = (length) => Math.max(1, Math.ceil(length * cells / frame.side));
  return { height: of(frame.input.height), width: of(frame.input.width) };
}

// src/core/resize.ts
var PRECISION_BITS = 22;
function coefficients(length, newLength) {
  const scale = length / newLength;
  const filterScale = Math.max(scale, 1);
  const support = filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const start = new Int32Array(newLength);
  const count = new Int32Array(newLength);
  const values = new Int32Array(newLength * stride);
  const weights = new Float64Array(stride);
  for (let i = 0; i < newLength; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const many = Math.min(length, Math.trunc(centre + support + 0.5)) - first;
    let sum = 0;
    for (let k = 0; k < many; k++) {
      const distance = Math.abs((k + first - centre + 0.5) / filterScale);
      weights[k] = distance < 1 ? 1 - distance : 0;
      sum += weights[k];
    }
    for (let k = 0; k < many; k++) {
      const weight = sum ? weights[k] / sum : weights[k];
      values[i * stride + k] = Math.trunc(0.5 + weight * 2 ** PRECISION_BITS);
    }
    start[i] = first;
    count[i] = many;
  }
  return { start, count, values, stride };
}
function toByte(sum) {
  const value = sum >> PRECISION_BITS;
  return Math.min(Math.max(value, 0), 255);
}
function resizeRows(image, height, width, newWidth) {
  const { start, count, values, stride } = coefficients(width, newWidth);
  const out = new Uint8Array(height * newWidth * 3);
  const half = 1 << PRECISION_BITS - 1;
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      let r = half;
      let g = half;
      let b = half;
      let from = (y * width + start[x]) * 3;
      for (let k = x * stride, end = k + count[x]; k < end; k++, from += 3) {
        const weight = values[k];
        r += image[from] * weight;
        g += image[from + 1] * weight;
        b += image[from + 2] * weight;
      }
      out[at++] = toByte(r);
      out[at++] = toByte(g);
      out[at++] = toByte(b);
    }
  }
  return out;
}
function resizeColumns(image, height, width, newHeight) {
  const { start, count, values, stride } = coefficients(height, newHeight);
  const row = width * 3;
  const out = new Uint8Array(newHeight * row);
  const sums = new Int32Array(row);
  for (let y = 0; y < newHeight; y++) {
    sums.fill(1 << PRECISION_BITS - 1);
    for (let k = 0; k < count[y]; k++) {
      const weight = values[y * stride + k];
      const from = (start[y] + k) * row;
      for (let x = 0; x < row; x++) sums[x] += image[from + x] * weight;
    }
    for (let x = 0; x < row; x++) out[y * row + x] = toByte(sums[x]);
  }
  return out;
}
function resizeImage(image, size, to) {
  let out = image;
  if (to.width !== size.width) out = resizeRows(out, size.height, size.width, to.width);
  if (to.height !== size.height) out = resizeColumns(out, size.height, to.width, to.height);
  return out;
}
function bilinear(length, newLength, i) {
  const position = Math.min(length - 1, Math.max(0, (i + 0.5) * (length / newLength) - 0.5));
  const low = Math.min(Math.floor(position), length - 1);
  const part = position - low;
  return [low, Math.min(low + 1, length - 1), Math.fround(1 - part), Math.fround(part)];
}
function axisTaps(lowRes, side, inner, outer) {
  const rows = [];
  let taps = 1;
  for (let i = 0; i < outer; i++) {
    const row = /* @__PURE__ */ new Map();
    const [low, high, lowWeight, highWeight] = bilinear(inner, outer, i);
    for (const [at, outerWeight] of [
      [low, lowWeight],
      [high, highWeight]
    ]) {
      const [first, second, firstWeight, secondWeight] = bilinear(lowRes, side, at);
      for (const [cell, weight2] of [
        [first, firstWeight],
        [second, secondWeight]
      ]) {
        if (weight2 * outerWeight) row.set(cell, (row.get(cell) ?? 0) + weight2 * outerWeight);
      }
    }
    taps = Math.max(taps, row.size);
    rows.push(row);
  }
  const index = new Int32Array(outer * taps);
  const weight = new Float32Array(outer * taps);
  rows.forEach((row, i) => {
    const cells = [...row.keys()].sort((a, b) => a - b);
    for (let k = 0; k < taps; k++) {
      const cell = cells[Math.min(k, cells.length - 1)];
      index[i * taps + k] = cell;
      weight[i * taps + k] = k < cells.length ? row.get(cell) ?? 0 : 0;
    }
  });
  return { taps, length: outer, index, weight };
}
var known = /* @__PURE__ */ new Map();
function enlargingTaps(lowRes, frame) {
  const { original, input, side } = frame;
  const key = [lowRes, side, input.height, input.width, original.height, original.width].join();
  const kept = known.get(key);
  if (kept) return kept;
  if (known.size > 15) known.clear();
  const taps = [
    axisTaps(lowRes, side, input.height, original.height),
    axisTaps(lowRes, side, input.width, original.width)
  ];
  known.set(key, taps);
  return taps;
}
function reading(map, first, last) {
  let start = map.length;
  let stop = 0;
  for (let i = 0; i < map.length; i++) {
    if (map.index[(i + 1) * map.taps - 1] >= first && start === map.length) start = i;
    if (map.index[i * map.taps] <= last) stop = i + 1;
  }
  return [start, stop];
}

// src/core/postprocess.ts
var STABILITY_OFFSET = 1;
function applyRows(map, start, stop, values, width) {
  const out = new Float32Array((stop - start) * width);
  for (let i = start; i < stop; i++) {
    const to = (i - start) * width;
    for (let k = 0; k < map.taps; k++) {
      const weight = map.weight[i * map.taps + k];
      const from = map.index[i * map.taps + k] * width;
      if (k > 0 && weight === 0) continue;
      if (k === 0) for (let x = 0; x < width; x++) out[to + x] = weight * values[from + x];
      else for (let x = 0; x < width; x++) out[to + x] += Math.fround(weight * values[from + x]);
    }
  }
  return out;
}
function applyColumns(map, start, stop, values, side) {
  const height = values.length / side;
  const width = stop - start;
  const out = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let i = start; i < stop; i++) {
      const at = i * map.taps;
      let sum = Math.fround(map.weight[at] * values[y * side + map.index[at]]);
      for (let k = 1; k < map.taps; k++) {
        const weight = map.weight[at + k];
        if (weight) sum = Math.fround(sum + Math.fround(weight * values[y * side + map.index[at + k]]));
      }
      out[y * width + i - start] = sum;
    }
  }
  return out;
}
function enlargeWindow(lowRes, side, floor, frame) {
  let [x0, y0, x1, y1] = [side, side, -1, -1];
  for (let y = 0, i = 0; y < side; y++) {
    for (let x = 0; x < side; x++, i++) {
      if (!(lowRes[i] > floor)) continue;
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      y1 = y;
    }
  }
  if (x1 < 0) return null;
  const [rows, columns] = enlargingTaps(side, frame);
  const [top, bottom] = reading(rows, y0, y1);
  const [left, right] = reading(columns, x0, x1);
  if (top >= bottom || left >= right) return null;
  const narrow = applyColumns(columns, left, right, lowRes, side);
  const logits = applyRows(rows, top, bottom, narrow, right - left);
  return { x: left, y: top, w: right - left, h: bottom - top, logits };
}
function windowToMask(window, size) {
  if (!window) return emptyMask(size);
  const { x, y, w, h } = window;
  const bits = new Uint8Array(w * h);
  for (let i = 0; i < bits.length; i++) bits[i] = window.logits[i] > 0 ? 1 : 0;
  return tight({ width: size.width, height: size.height, x, y, w, h, bits });
}
function enlargeMask(lowRes, side, frame) {
  return windowToMask(enlargeWindow(lowRes, side, 0, frame), frame.original);
}
function visiblePart(lowRes, side, frame) {
  const size = gridSize(frame, side);
  const logits = new Float32Array(size.height * size.width);
  for (let y = 0; y < size.height; y++) {
    logits.set(lowRes.subarray(y * side, y * side + size.width), y * size.width);
  }
  return { size, logits };
}
function stability(logits, offset = STABILITY_OFFSET) {
  let inner = 0;
  let outer = 0;
  for (const logit of logits) {
    if (logit > offset) inner++;
    if (logit > -offset) outer++;
  }
  return Math.fround(inner / Math.max(outer, 1));
}

// src/core/prompts.ts
var [FOREGROUND, BACKGROUND, PAD] = [1, 0, -1];
var BOX_CORNERS = [2, 3];
var MASK_LOGIT = 8;
function isAmbiguous(prompt) {
  return prompt.points?.length === 1 && !prompt.box && !prompt.mask;
}
function isEmptyPrompt(prompt) {
  return !prompt.points?.length && !prompt.box && !prompt.mask;
}
function toInput(frame, [x, y]) {
  const { original, input } = frame;
  return [x * (input.width / original.width), y * (input.height / original.height)];
}
function clipped(box, { width, height }) {
  return [Math.max(box[0], 0), Math.max(box[1], 0), Math.min(box[2], width), Math.min(box[3], height)];
}
function toDecoderInputs(prompt, frame, maskSide) {
  const points = prompt.points ?? [];
  const coords = [];
  const labels = [];
  points.forEach((point, i) => {
    coords.push(...toInput(frame, point));
    labels.push(prompt.labels?.[i] ?? FOREGROUND);
  });
  if (prompt.box) {
    const [x0, y0, x1, y1] = clipped(prompt.box, frame.original);
    coords.push(...toInput(frame, [x0, y0]), ...toInput(frame, [x1, y1]));
    labels.push(...BOX_CORNERS);
  } else if (points.length) {
    coords.push(0, 0);
    labels.push(PAD);
  }
  return {
    prompts: 1,
    slots: labels.length,
    coords: Float32Array.from(coords),
    labels: Float32Array.from(labels),
    masks: prompt.mask ? maskToLogits(rleToMask(prompt.mask), maskSide, frame) : null
  };
}
function pointsToDecoderInputs(points, frame) {
  const coords = new Float32Array(points.length * 4);
  const labels = new Float32Array(points.length * 2);
  points.forEach((point, i) => {
    coords.set(toInput(frame, point), i * 4);
    labels.set([FOREGROUND, PAD], i * 2);
  });
  return { prompts: points.length, slots: 2, coords, labels, masks: null };
}
function boxesToDecoderInputs(boxes, frame) {
  const coords = new Float32Array(boxes.length * 4);
  const labels = new Float32Array(boxes.length * 2);
  boxes.forEach(([x0, y0, x1, y1], i) => {
    coords.set([...toInput(frame, [x0, y0]), ...toInput(frame, [x1, y1])], i * 4);
    labels.set(BOX_CORNERS, i * 2);
  });
  return { prompts: boxes.length, slots: 2, coords, labels, masks: null };
}
function areaParts(length, cells) {
  const out = [];
  const edge = (i) => i === cells ? length : length / cells * i;
  for (let i = 0; i < cells; i++) {
    const [start, stop] = [edge(i), edge(i + 1)];
    const first = Math.floor(start);
    const parts = [];
    let sum = 0;
    for (let at = first; at < stop; at++) {
      const overlap = Math.max(0, Math.min(at + 1, stop) - Math.max(at, start));
      parts.push(overlap);
      sum += overlap;
    }
    out.push({ first, parts: parts.map((part) => Math.fround(part / sum)) });
  }
  return out;
}
function maskToLogits(mask, side, frame) {
  const grid = gridSize(frame, side);
  const bits = fullBits(mask);
  const rows = areaParts(mask.height, grid.height);
  const columns = areaParts(mask.width, grid.width);
  const logits = new Float32Array(side * side).fill(-MASK_LOGIT);
  const line = new Float64Array(mask.width);
  rows.forEach((row, y) => {
    line.fill(0);
    row.parts.forEach((part, k) => {
      const from = Math.min(row.first + k, mask.height - 1) * mask.width;
      for (let x = 0; x < mask.width; x++) line[x] += part * bits[from + x];
    });
    columns.forEach((column, x) => {
      let share = 0;
      column.parts.forEach((part, k) => {
        share += part * line[Math.min(column.first + k, mask.width - 1)];
      });
      logits[y * side + x] = (2 * Math.fround(share) - 1) * MASK_LOGIT;
    });
  });
  return logits;
}

// src/core/regions.ts
function labelRegions(bits, w, h, value, open) {
  const labels = new Int32Array(w * h);
  const areas = [0];
  const outside = [false];
  const stack = [];
  const [left, top, right, bottom] = open;
  for (let start = 0; start < bits.length; start++) {
    if (bits[start] !== value || labels[start]) continue;
    const label = areas.length;
    let area = 0;
    let beyond = false;
    labels[start] = label;
    stack.push(start);
    while (stack.length) {
      const at = stack.pop();
      const y = Math.floor(at / w);
      const x = at - y * w;
      area++;
      beyond ||= left && x === 0 || top && y === 0 || right && x === w - 1 || bottom && y === h - 1;
      for (let v = Math.max(0, y - 1); v <= Math.min(h - 1, y + 1); v++) {
        for (let u = Math.max(0, x - 1); u <= Math.min(w - 1, x + 1); u++) {
          const next = v * w + u;
          if (bits[next] !== value || labels[next]) continue;
          labels[next] = label;
          stack.push(next);
        }
      }
    }
    areas.push(area);
    outside.push(beyond);
  }
  return { labels, areas, outside };
}
function removeSmallRegions(mask, smallest) {
  if (!mask.w) return mask;
  const { w, h } = mask;
  const open = [mask.x > 0, mask.y > 0, mask.x + w < mask.width, mask.y + h < mask.height];
  const bits = mask.bits.slice();
  const holes = labelRegions(bits, w, h, 0, open);
  for (let i = 0; i < bits.length; i++) {
    const label = holes.labels[i];
    if (label && !holes.outside[label] && holes.areas[label] < smallest) bits[i] = 1;
  }
  const islands = labelRegions(bits, w, h, 1, [false, false, false, false]);
  const largest = Math.max(0, ...islands.areas);
  const first = islands.areas.indexOf(largest);
  const stays = (label) => islands.areas[label] >= smallest || largest < smallest && label === first;
  for (let i = 0; i < bits.length; i++) {
    const label = islands.labels[i];
    if (label && !stays(label)) bits[i] = 0;
  }
  return tight({ ...mask, bits });
}

// src/core/everything.ts
var AT_ONCE = 8;
var HYBRID_BOXES = 0.625;
var STABILITY_MARGIN = 0.01;
var LARGEST = 0.1;
var COARSEST = 4;
var FINEST = 32;
var SPREAD_BITS = 12;
var CONFIDENCE = 0.01;
var PROPOSAL_NMS = 0.8;
var TIDY = { maxPrompts: 64, maskNms: 0.6, predictedIou: 0.5, stability: 0.25, smallest: 100 };
var Found = class {
  constructor(threshold) {
    this.threshold = threshold;
  }
  threshold;
  bits = [];
  areas = [];
  explained = null;
  size = { height: 1, width: 1 };
  offer(logits, size) {
    const bits = new Uint32Array(Math.ceil(logits.length / 32));
    let area = 0;
    logits.forEach((logit, i) => {
      if (!(logit > 0)) return;
      bits[i >> 5] |= 1 << (i & 31);
      area++;
    });
    if (this.bits.some((other, k) => this.repeats(other, this.areas[k], bits, area))) return false;
    this.bits.push(bits);
    this.areas.push(area);
    if (area <= LARGEST * logits.length) {
      this.size = size;
      this.explained ??= new Uint8Array(logits.length);
      for (let i = 0; i < logits.length; i++) if (logits[i] > 0) this.explained[i] = 1;
    }
    return true;
  }
  repeats(other, otherArea, bits, area) {
    let overlap = 0;
    for (let i = 0; i < bits.length; i++) overlap += countBits(bits[i] & other[i]);
    return overlap > this.threshold * (otherArea + area - overlap);
  }
  explains([x, y]) {
    if (!this.explained) return false;
    const { height, width } = this.size;
    const column = Math.min(Math.trunc(x * width), width - 1);
    return this.explained[Math.min(Math.trunc(y * height), height - 1) * width + column] === 1;
  }
};
function countBits(value) {
  let v = value - (value >>> 1 & 1431655765);
  v = (v & 858993459) + (v >>> 2 & 858993459);
  return (v + (v >>> 4) & 252645135) * 16843009 >>> 24;
}
function spreadGrid(side) {
  const points = [];
  for (let i = 0; i < side * side; i++) points.push([(i % side + 0.5) / side, (Math.floor(i / side) + 0.5) / side]);
  const place = ([x, y]) => {
    const cells = [x, y].map((v) => Math.min(Math.floor(v * 2 ** SPREAD_BITS), 2 ** SPREAD_BITS - 1));
    let number = 0;
    for (let bit = 0; bit < SPREAD_BITS; bit++) {
      for (const axis of [0, 1]) {
        number |= (cells[axis] >> SPREAD_BITS - 1 - bit & 1) << 2 * bit + axis;
      }
    }
    return number;
  };
  return points.map((point, i) => ({ point, i, key: place(point) })).sort((a, b) => a.key - b.key || a.i - b.i).map(({ point }) => point);
}
async function* searchEverything(search) {
  const { frame, options } = search;
  const { original, input } = frame;
  const scaleX = Math.fround(original.width / input.width);
  const scaleY = Math.fround(original.height / input.height);
  const scaled = search.boxes.map(([x0, y0, x1, y1]) => {
    const f = Math.fround;
    return [f(x0 * scaleX), f(y0 * scaleY), f(x1 * scaleX), f(y1 * scaleY)];
  });
  const most = Math.max(1, Math.trunc(options.maxPrompts * HYBRID_BOXES));
  const limits = { confidence: CONFIDENCE, nms: PROPOSAL_NMS, most };
  const boxes = selectBoxes(scaled, search.objectness, original, limits);
  const found = new Found(options.maskNms);
  let done = 0;
  const keep = (good, prompt) => {
    const { size, logits } = visiblePart(good.lowRes, sideOf(good.lowRes), frame);
    if (!found.offer(logits, size)) return [];
    const mask = removeSmallRegions(good.mask, options.smallest);
    const { iou: predictedIou, stability: stable, token } = good;
    return [{ mask, predictedIou, stability: stable, area: maskArea(mask), prompt, token }];
  };
  for (let start = 0; start < boxes.length; start += AT_ONCE) {
    const batch = boxes.slice(start, start + AT_ONCE);
    const xyxy = batch.map(({ box }) => box);
    const good = await decodeGood(search, boxesToDecoderInputs(xyxy, frame), [0]);
    done += batch.length;
    yield { found: good.flatMap((one) => keep(one, { box: [...xyxy[one.row]] })), done };
  }
  let left = options.maxPrompts - done;
  for (let side = COARSEST; side <= FINEST && left > 0; side *= 2) {
    let points = spreadGrid(side);
    while (points.length && left > 0) {
      points = points.filter((point) => !found.explains(point));
      const batch = points.slice(0, Math.min(AT_ONCE, left));
      points = points.slice(AT_ONCE);
      if (!batch.length) break;
      left -= batch.length;
      done += batch.length;
      const places = batch.map(([x, y]) => [x * original.width, y * original.height]);
      const good = await decodeGood(search, pointsToDecoderInputs(places, frame), [1, 2, 3]);
      good.sort((a, b) => b.iou - a.iou);
      yield { found: good.flatMap((one) => keep(one, { points: [places[one.row]], labels: [1] })), done };
    }
  }
}
function sideOf(lowRes) {
  return Math.round(Math.sqrt(lowRes.length));
}
async function decodeGood(search, inputs, tokens) {
  const { frame, options } = search;
  const { masks, side, logits, ious } = await search.decode(inputs, tokens);
  const good = [];
  for (let i = 0; i < inputs.prompts * masks; i++) {
    if (!(ious[i] > options.predictedIou)) continue;
    const lowRes = logits.subarray(i * side * side, (i + 1) * side * side);
    if (stability(visiblePart(lowRes, side, frame).logits) < options.stability - STABILITY_MARGIN) continue;
    const window = enlargeWindow(lowRes, side, -1, frame);
    if (!window) continue;
    const exact = stability(window.logits);
    if (exact < options.stability) continue;
    const mask = windowToMask(window, frame.original);
    good.push({ row: Math.floor(i / masks), token: i % masks, iou: ious[i], lowRes, mask, stability: exact });
  }
  return good;
}

// src/core/outlines.ts
var HALVINGS = 4;
var LOSS = 0.1;
function traceRings(mask) {
  const { w, h, bits } = mask;
  const at = (x, y) => x >= 0 && y >= 0 && x < w && y < h && bits[y * w + x] === 1;
  const seen = new Uint8Array(w * h);
  const rings = [];
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!at(x, y) || at(x, y - 1) || seen[y * w + x]) continue;
      const points = [];
      let [px, py, dx, dy] = [x, y, 1, 0];
      do {
        if (dx === 1) seen[py * w + px] = 1;
        const [nx, ny] = [px + dx, py + dy];
        const right = at(nx + (dx - dy - 1) / 2, ny + (dy + dx - 1) / 2);
        const left = at(nx + (dx + dy - 1) / 2, ny + (dy - dx - 1) / 2);
        let turn2 = [dx, dy];
        if (!right) turn2 = [-dy, dx];
        else if (left) turn2 = [dy, -dx];
        [px, py] = [nx, ny];
        if (turn2[0] !== dx || turn2[1] !== dy) points.push([nx + mask.x, ny + mask.y]);
        [dx, dy] = turn2;
      } while (px !== x || py !== y || dx !== 1 || dy !== 0);
      rings.push(...splitAtTouches(points));
    }
  }
  return rings;
}
function splitAtTouches(points) {
  const rings = [];
  const way = [];
  const places = /* @__PURE__ */ new Map();
  for (const point of points) {
    const key = point.join();
    const before = places.get(key);
    if (before !== void 0) {
      const loop = way.splice(before);
      for (const one of loop) places.delete(one.join());
      rings.push({ points: loop, area: areaOf(loop) });
    }
    places.set(key, way.length);
    way.push(point);
  }
  return [{ points: way, area: areaOf(way) }, ...rings];
}
function areaOf(points) {
  return points.reduce((sum, [x, y], i) => {
    const [u, v] = points[(i + 1) % points.length];
    return sum + x * v - u * y;
  }, 0) / 2;
}
function perimeter(points) {
  return points.reduce((sum, [x, y], i) => {
    const [u, v] = points[(i + 1) % points.length];
    return sum + Math.abs(u - x) + Math.abs(v - y);
  }, 0);
}
function simplifyRing(ring, tolerance) {
  const { points } = ring;
  const limit = Math.min(tolerance, LOSS * Math.abs(ring.area) / Math.max(1, perimeter(points)));
  if (points.length < 5 || limit <= 0) return ring;
  const keep = new Uint8Array(points.length);
  let far = 0;
  points.forEach(([x, y], i) => {
    const apart = ([u, v]) => (u - points[0][0]) ** 2 + (v - points[0][1]) ** 2;
    if (apart([x, y]) > apart(points[far])) far = i;
  });
  keep[0] = 1;
  keep[far] = 1;
  const pending = [
    [0, far],
    [far, points.length]
  ];
  while (pending.length) {
    const [from, to] = pending.pop();
    const [ax, ay] = points[from];
    const [bx, by] = points[to % points.length];
    const length = (bx - ax) ** 2 + (by - ay) ** 2;
    let worst = 0;
    let which = -1;
    for (let i = from + 1; i < to; i++) {
      const [x, y] = points[i];
      const along = length ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
      const distance = Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay));
      if (distance > worst) [worst, which] = [distance, i];
    }
    if (which < 0 || worst <= limit) continue;
    keep[which] = 1;
    pending.push([from, which], [which, to]);
  }
  const kept = points.filter((_, i) => keep[i]);
  return kept.length < 3 ? ring : { points: kept, area: ring.area };
}
function simplifyRings(rings, tolerance) {
  const tolerances = rings.map(() => tolerance);
  for (let left = HALVINGS; ; left--) {
    const simple = rings.map((ring, i) => simplifyRing(ring, tolerances[i]));
    const wrong = inContact(simple).filter((i) => tolerances[i] > 0);
    if (!wrong.length) return simple;
    for (const i of wrong) tolerances[i] = left > 0 ? tolerances[i] / 2 : 0;
  }
}
function inContact(rings) {
  const sides = rings.flatMap(
    ({ points }, ring) => points.map((from, i) => ({ ring, from, to: points[(i + 1) % points.length] }))
  );
  const left = ({ from, to }) => Math.min(from[0], to[0]);
  sides.sort((a, b) => left(a) - left(b));
  const found = /* @__PURE__ */ new Set();
  sides.forEach((one, i) => {
    const right = Math.max(one.from[0], one.to[0]);
    for (let k = i + 1; k < sides.length && left(sides[k]) <= right; k++) {
      const other = sides[k];
      if (found.has(one.ring) && found.has(other.ring)) continue;
      if (meet(one, other)) found.add(one.ring).add(other.ring);
    }
  });
  return [...found];
}
function meet(a, b) {
  const low = (side) => Math.min(side.from[1], side.to[1]);
  const high = (side) => Math.max(side.from[1], side.to[1]);
  if (low(a) > high(b) || low(b) > high(a)) return false;
  const corners = [a.from, a.to].filter((p) => [b.from, b.to].some((q) => p[0] === q[0] && p[1] === q[1]));
  if (corners.length === 2) return true;
  const turns = [turn(a, b.from), turn(a, b.to), turn(b, a.from), turn(b, a.to)];
  if (corners.length === 1) {
    return turns.every((one) => one === 0) && ahead(a, b, corners[0]) > 0;
  }
  if (turns.every((one) => one === 0)) return true;
  return turns[0] * turns[1] <= 0 && turns[2] * turns[3] <= 0;
}
function turn({ from, to }, [x, y]) {
  return Math.sign((to[0] - from[0]) * (y - from[1]) - (to[1] - from[1]) * (x - from[0]));
}
function ahead(a, b, corner) {
  const other = ({ from, to }) => from[0] === corner[0] && from[1] === corner[1] ? to : from;
  const [p, q] = [other(a), other(b)];
  return (p[0] - corner[0]) * (q[0] - corner[0]) + (p[1] - corner[1]) * (q[1] - corner[1]);
}
function encloses(ring, [x, y]) {
  let inside = false;
  ring.points.forEach(([ax, ay], i) => {
    const [bx, by] = ring.points[(i + 1) % ring.points.length];
    if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}
function besideHole({ points }) {
  const [[ax, ay], [bx, by]] = points;
  const [dx, dy] = [Math.sign(bx - ax), Math.sign(by - ay)];
  return [(ax + bx) / 2 - dy / 4, (ay + by) / 2 + dx / 4];
}
function maskToRegions(mask, tolerance) {
  const rings = traceRings(mask);
  const simple = new Map(simplifyRings(rings, tolerance).map((ring, i) => [rings[i], ring]));
  const outer = rings.filter(({ area }) => area > 0).sort((a, b) => b.area - a.area);
  const holes = new Map(outer.map((ring) => [ring, []]));
  for (const hole of rings.filter(({ area }) => area < 0)) {
    const around = outer.filter((ring) => encloses(ring, besideHole(hole)));
    const own = around[around.length - 1] ?? outer[0];
    holes.get(own)?.push(hole);
  }
  const simplified = (ring) => simple.get(ring);
  return outer.map((ring) => ({
    exterior: simplified(ring),
    holes: (holes.get(ring) ?? []).map(simplified)
  }));
}
function maskToPath(mask, tolerance) {
  return simplifyRings(traceRings(mask), tolerance).map(({ points }) => `M${points.map(([x, y]) => `${x} ${y}`).join("L")}Z`).join("");
}

// src/core/preprocess.ts
var MEAN = [123.675, 116.28, 103.53].map(Math.fround);
var DEVIATION = [58.395, 57.12, 57.375].map(Math.fround);
function preprocess(image, size, imageSize, paddedTo) {
  const inner = inputSizeOf(size, imageSize);
  const resized = resizeImage(image, size, inner);
  const padded = (side) => Math.min(imageSize, Math.ceil(side / paddedTo) * paddedTo);
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

// src/core/views.ts
var LARGEST2 = 0.5;
var AROUND = 1;
var LEAST_AROUND = 1 / 8;
var SIDES = [3 / 8, 1 / 2, 3 / 4, 1];
var STEP = 16;
var BEYOND = -10;
var REDUCED = "whole_";
var WHOLE = [0, 0, 0, 0];
function bounds(inputs, i, shape, chosen) {
  const low = [Infinity, Infinity];
  const high = [-Infinity, -Infinity];
  for (let n = 0; n < inputs.slots; n++) {
    const at = i * inputs.slots + n;
    if (!chosen(inputs.labels[at])) continue;
    const limits = [shape.width, shape.height];
    for (const axis of [0, 1]) {
      const value = Math.min(Math.max(inputs.coords[at * 2 + axis], 0), limits[axis]);
      low[axis] = Math.min(low[axis], value);
      high[axis] = Math.max(high[axis], value);
    }
  }
  return [low, high];
}
function extent(inputs, i, spec, shape) {
  const [first, second] = BOX_CORNERS;
  const [low, high] = bounds(inputs, i, shape, (l) => l === FOREGROUND || l === first || l === second);
  const labels = inputs.labels.subarray(i * inputs.slots, (i + 1) * inputs.slots);
  if (labels.includes(first) && labels.includes(second)) return [low, high];
  let box = [0, 0, shape.width, shape.height];
  if (inputs.masks) {
    const side = Math.round(Math.sqrt(inputs.masks.length / inputs.prompts));
    const pixels = spec.imageSize / side;
    const [rows, columns] = [Math.trunc(shape.height / pixels), Math.trunc(shape.width / pixels)];
    const inside = new Uint8Array(rows * columns);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        inside[y * columns + x] = inputs.masks[(i * side + y) * side + x] > 0 ? 1 : 0;
      }
    }
    const found = boxOfBits(inside, columns, rows);
    if (found[2]) box = found.map((value) => value * pixels);
  }
  return [
    [Math.min(low[0], box[0]), Math.min(low[1], box[1])],
    [Math.max(high[0], box[2]), Math.max(high[1], box[3])]
  ];
}
function chooseView(inputs, i, spec, shape) {
  const [low, high] = extent(inputs, i, spec, shape);
  const [least, most] = bounds(inputs, i, shape, (label) => label !== PAD);
  const limits = [shape.width, shape.height];
  const longer = Math.max(high[0] - low[0], high[1] - low[1]);
  const around = Math.max(AROUND * longer, LEAST_AROUND * spec.viewSize);
  for (const axis of [0, 1]) {
    least[axis] = Math.min(low[axis], least[axis]);
    most[axis] = Math.max(high[axis], most[axis]);
  }
  const wanted = Math.max(longer + 2 * around, Math.max(most[0] - least[0], most[1] - least[1]) + STEP);
  const lengths = SIDES.map((side2) => side2 * spec.viewSize);
  const side = lengths.find((length) => length >= wanted) ?? lengths[lengths.length - 1];
  const corner = [];
  const size = [];
  for (const axis of [0, 1]) {
    size[axis] = Math.min(side, limits[axis]);
    let at = (low[axis] + high[axis] - size[axis]) / 2;
    at = Math.min(Math.max(at, most[axis] - size[axis]), least[axis]);
    corner[axis] = Math.min(Math.max(Math.floor(at / STEP) * STEP, 0), limits[axis] - size[axis]);
    const fits = corner[axis] <= least[axis] && most[axis] <= corner[axis] + size[axis];
    if (!fits || high[axis] - low[axis] > LARGEST2 * spec.viewSize) return WHOLE;
  }
  return [Math.trunc(corner[0]), Math.trunc(corner[1]), Math.trunc(size[0]), Math.trunc(size[1])];
}
function shapeOf(embedding, spec) {
  const [, , height, width] = embedding.image_embedding.dims;
  const stride = Math.floor(spec.imageSize / Math.max(height, width));
  return { height: height * stride, width: width * stride };
}
function cutOf(spec, height, width, view, shape) {
  const stride = Math.floor(spec.imageSize / Math.max(height, width));
  const [x, y, w, h] = view[2] ? view : [0, 0, shape.width, shape.height];
  const [top, left] = [Math.floor(y / stride), Math.floor(x / stride)];
  return {
    top,
    left,
    rows: Math.min(height, Math.floor((y + h) / stride)) - top,
    columns: Math.min(width, Math.floor((x + w) / stride)) - left
  };
}
function cutArray(array, views, spec, shape) {
  const [, channels, height, width] = array.dims;
  const cuts = views.map((view) => cutOf(spec, height, width, view, shape));
  const { rows, columns } = cuts[0];
  const data = new Float32Array(views.length * channels * rows * columns);
  let to = 0;
  for (const { top, left } of cuts) {
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < rows; y++, to += columns) {
        const from = (c * height + top + y) * width + left;
        data.set(array.data.subarray(from, from + columns), to);
      }
    }
  }
  return { data, dims: [views.length, channels, rows, columns] };
}
function inView(inputs, numbers, views, spec, shape) {
  const { slots } = inputs;
  const coords = new Float32Array(numbers.length * slots * 2);
  const labels = new Float32Array(numbers.length * slots);
  numbers.forEach((number, i) => {
    const [x, y, width2] = views[i];
    const scale = width2 ? 1 : spec.viewSize / spec.imageSize;
    labels.set(inputs.labels.subarray(number * slots, (number + 1) * slots), i * slots);
    for (let n = 0; n < slots * 2; n++) {
      const corner = n % 2 ? y : x;
      coords[i * slots * 2 + n] = (inputs.coords[number * slots * 2 + n] - corner + 0.5) * scale - 0.5;
    }
  });
  if (!inputs.masks) {
    return { inputs: { prompts: numbers.length, slots, coords, labels, masks: null }, maskSize: null };
  }
  const side = Math.round(Math.sqrt(inputs.masks.length / inputs.prompts));
  const parts = numbers.map((number, i) => {
    const data = inputs.masks.subarray(number * side * side, (number + 1) * side * side);
    return cutArray({ data, dims: [1, 1, side, side] }, [views[i]], spec, shape);
  });
  const [, , height, width] = parts[0].dims;
  const masks = new Float32Array(numbers.length * height * width);
  parts.forEach((part, i) => {
    masks.set(part.data, i * height * width);
  });
  return {
    inputs: { prompts: numbers.length, slots, coords, labels, masks },
    maskSize: { height, width }
  };
}
async function decodeViews(embedding, inputs, spec, names, run) {
  const shape = shapeOf(embedding, spec);
  const views = Array.from({ length: inputs.prompts }, (_, i) => chooseView(inputs, i, spec, shape));
  const groups = /* @__PURE__ */ new Map();
  views.forEach((view, i) => {
    const key = `${view[2]},${view[3]}`;
    groups.set(key, [...groups.get(key) ?? [], i]);
  });
  let out = null;
  for (const numbers of groups.values()) {
    const shown = numbers.map((i) => views[i]);
    const arrays = {};
    for (const name of names) {
      arrays[name] = shown[0][2] ? cutArray(embedding[name], shown, spec, shape) : embedding[REDUCED + name] ?? embedding[name];
    }
    const asked = inView(inputs, numbers, shown, spec, shape);
    const { logits, ious } = await run(arrays, asked.inputs, asked.maskSize);
    const [, masks, rows, columns] = logits.dims;
    if (!out) {
      const stride = Math.floor((shown[0][2] || shape.width) / columns);
      const side2 = Math.floor(spec.imageSize / stride);
      out = {
        masks,
        side: side2,
        logits: new Float32Array(inputs.prompts * masks * side2 * side2).fill(BEYOND),
        ious: new Float32Array(inputs.prompts * masks)
      };
    }
    const { side } = out;
    for (let n = 0; n < numbers.length; n++) {
      out.ious.set(ious.data.subarray(n * masks, (n + 1) * masks), numbers[n] * masks);
      const { top, left } = cutOf(spec, side, side, shown[n], shape);
      for (let m = 0; m < masks; m++) {
        for (let y = 0; y < rows; y++) {
          const from = ((n * masks + m) * rows + y) * columns;
          const to = ((numbers[n] * masks + m) * side + top + y) * side + left;
          out.logits.set(logits.data.subarray(from, from + columns), to);
        }
      }
    }
  }
  if (!out) return { masks: 0, side: 0, logits: new Float32Array(0), ious: new Float32Array(0) };
  goOnBelow(out, spec, shape);
  return out;
}
function goOnBelow({ logits, side }, spec, shape) {
  const height = Math.floor(shape.height * side / spec.imageSize);
  const width = Math.floor(shape.width * side / spec.imageSize);
  for (let at = 0; at < logits.length; at += side * side) {
    if (height < side) logits.copyWithin(at + height * side, at + (height - 1) * side, at + height * side);
    if (width < side) {
      for (let y = 0; y < side; y++) logits[at + y * side + width] = logits[at + y * side + width - 1];
    }
  }
}
export {
  BACKGROUND,
  BOX_CORNERS,
  FOREGROUND,
  PAD,
  STABILITY_OFFSET,
  TIDY,
  WHOLE,
  boxOfBits,
  boxesToDecoderInputs,
  chooseView,
  countsToText,
  cutOut,
  decodeViews,
  emptyMask,
  enlargeMask,
  enlargeWindow,
  enlargingTaps,
  fitFrame,
  fullBits,
  gridSize,
  inputSizeOf,
  isAmbiguous,
  isEmptyPrompt,
  maskArea,
  maskAt,
  maskBox,
  maskToLogits,
  maskToPath,
  maskToRegions,
  maskToRle,
  nonMaximumSuppression,
  pointsToDecoderInputs,
  polygonToMask,
  preprocess,
  reading,
  removeSmallRegions,
  resizeImage,
  rleToMask,
  searchEverything,
  selectBoxes,
  shapeOf,
  simplifyRing,
  simplifyRings,
  spreadGrid,
  stability,
  textToCounts,
  tight,
  toDecoderInputs,
  traceRings,
  unionOf,
  visiblePart,
  windowToMask
};
