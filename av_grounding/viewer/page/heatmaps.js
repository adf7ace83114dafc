// From the cells of a heatmap to colours and contours.

import { clamp, live } from "./state.js";

// Catmull-Rom interpolation to a grid fine enough for smooth contours; it passes through the
// values that were sent, so that a level line lies where the heatmap has that value.
export function smooth(cells, h, w) {
  const factor = clamp(Math.floor(192 / Math.max(h, w)), 1, 16);
  const H = h * factor, W = w * factor;
  const rows = new Float32Array(h * W), values = new Float32Array(H * W);
  const taps = (size, n) => Array.from({ length: n }, (_, i) => {
    const x = (i + 0.5) / factor - 0.5, k = Math.floor(x), f = x - k;
    const at = [k - 1, k, k + 1, k + 2].map((j) => clamp(j, 0, size - 1));
    const weight = [f * (-0.5 + f * (1 - 0.5 * f)), 1 + f * f * (1.5 * f - 2.5), f * (0.5 + f * (2 - 1.5 * f)), f * f * (0.5 * f - 0.5)];
    return { at, weight };
  });
  if (cells.some((value) => value > 0)) {
    const across = taps(w, W), down = taps(h, H);
    for (let y = 0; y < h; y++) for (let x = 0; x < W; x++) {
      const { at, weight } = across[x];
      rows[y * W + x] = (cells[y * w + at[0]] * weight[0] + cells[y * w + at[1]] * weight[1] + cells[y * w + at[2]] * weight[2] + cells[y * w + at[3]] * weight[3]) / 255;
    }
    for (let y = 0; y < H; y++) {
      const { at, weight } = down[y];
      for (let x = 0; x < W; x++) {
        const value = rows[at[0] * W + x] * weight[0] + rows[at[1] * W + x] * weight[1] + rows[at[2] * W + x] * weight[2] + rows[at[3] * W + x] * weight[3];
        values[y * W + x] = clamp(value, 0, 1);
      }
    }
  }
  return { H, W, values };
}

// The maps that claim something, each with its outline, which is found when it is first drawn.
export function claims({ maps, score, h, w, ...all }, threshold) {
  const found = maps.filter(({ value }) => value > 0 && value >= threshold);
  for (const map of found) map.lines ??= contour(maps.length === 1 ? all : smooth(map.cells, h, w), threshold);
  return found;
}

const paint = document.createElement("canvas");

// All heads in their colours as one image, the same whichever comes first.
export function paintHeads(picture, opacity) {
  const shown = live.heads.filter(({ name }) => opacity[name] > 0 && picture.heads[name]);
  if (!shown.length) return null;
  const { H, W } = picture.heads[shown[0].name];
  if (paint.width !== W || paint.height !== H) { paint.width = W; paint.height = H; }
  const context = paint.getContext("2d");
  const image = context.createImageData(W, H), pixels = image.data;
  for (let i = 0, p = 0; i < H * W; i++, p += 4) {
    let clear = 1, sum = 0, r = 0, g = 0, b = 0;
    for (const { name, weak, strong } of shown) {
      const value = picture.heads[name].values[i];
      if (value < 0.02) continue;
      const alpha = opacity[name] * value;
      clear *= 1 - alpha;
      sum += alpha;
      r += alpha * (weak[0] + (strong[0] - weak[0]) * value);
      g += alpha * (weak[1] + (strong[1] - weak[1]) * value);
      b += alpha * (weak[2] + (strong[2] - weak[2]) * value);
    }
    if (!sum) continue;
    pixels[p] = r / sum; pixels[p + 1] = g / sum; pixels[p + 2] = b / sum;
    pixels[p + 3] = 255 * (1 - clear);
  }
  context.putImageData(image, 0, 0);
  return paint;
}

// Marching squares at one level, linked into lines of [x, y] in shares of the picture. The grid
// has a border of zeros, so that every line is closed or leaves nowhere.
export function contour({ values, H, W }, level) {
  const at = (x, y) => (x < 0 || y < 0 || x >= W || y >= H ? 0 : values[y * W + x]);
  const next = new Map();
  const cross = (x0, y0, x1, y1) => {
    const a = at(x0, y0), b = at(x1, y1), f = (level - a) / (b - a);
    return [clamp((x0 + (x1 - x0) * f + 0.5) / W, 0, 1), clamp((y0 + (y1 - y0) * f + 0.5) / H, 0, 1)];
  };
  const key = (x, y, side) => `${x},${y},${side}`;
  for (let y = -1; y < H; y++) for (let x = -1; x < W; x++) {
    const code = (at(x, y) >= level) | ((at(x + 1, y) >= level) << 1) | ((at(x + 1, y + 1) >= level) << 2) | ((at(x, y + 1) >= level) << 3);
    if (code === 0 || code === 15) continue;
    const sides = {
      t: [key(x, y, "h"), () => cross(x, y, x + 1, y)], r: [key(x + 1, y, "v"), () => cross(x + 1, y, x + 1, y + 1)],
      b: [key(x, y + 1, "h"), () => cross(x, y + 1, x + 1, y + 1)], l: [key(x, y, "v"), () => cross(x, y, x, y + 1)],
    };
    for (const [from, to] of SEGMENTS[code]) next.set(sides[from][0], { to: sides[to][0], point: sides[from][1]() });
  }
  const lines = [];
  while (next.size) {
    let [start] = next.keys();
    const line = [];
    for (let here = start; next.has(here);) {
      const { to, point } = next.get(here);
      next.delete(here);
      line.push(point);
      here = to;
    }
    if (line.length > 2) lines.push(line);
  }
  return lines;
}
// Directed so that the higher side lies always on the same hand: segments link head to tail.
const SEGMENTS = [
  [], ["lt"], ["tr"], ["lr"], ["rb"], ["lt", "rb"], ["tb"], ["lb"],
  ["bl"], ["bt"], ["tr", "bl"], ["br"], ["rl"], ["rt"], ["tl"], [],
];
