// The last minute: level, scores, latency.

import { duration } from "./panels.js";
import { inkOf, words } from "./heads.js";
import { fitCanvas } from "./stage.js";
import { byId, clamp, HISTORY_MS, live, streamNowMs } from "./state.js";

export const cursor = { x: null };
const ink = {};

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "dim", "faint", "line", "panel", "sunk", "sound", "speech", "bad", "speech-soft"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
}

export function drawTimeline() {
  const { context, width, height, ratio } = fitCanvas(byId("timeline"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const W = width / ratio, H = height / ratio;
  context.clearRect(0, 0, W, H);
  if (!W) return;
  const isNarrow = W < 520;
  const left = isNarrow ? 60 : 82, right = W - (isNarrow ? 38 : 52), foot = 18, gap = 11;
  const each = (H - foot - 2 * gap) / 3.3;
  const now = streamNowMs();
  const toX = (t) => right - ((now - t) / HISTORY_MS) * (right - left);
  const lanes = { level: [2, each], score: [2 + each + gap, 1.3 * each], latency: [2 + 2.3 * each + 2 * gap, each] };
  context.font = `11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = 1;
  const tellLeft = (text, y, colour = ink.dim) => { context.fillStyle = colour; context.textAlign = "left"; context.fillText(text, 0, y, left - 6); };
  const tellRight = (text, y, colour = ink.faint) => { context.fillStyle = colour; context.textAlign = "left"; context.fillText(text, right + 6, y); };
  for (let s = 0; s <= 60; s += isNarrow ? 20 : 10) {
    const x = Math.round(toX(now - s * 1000)) + 0.5;
    context.strokeStyle = ink.line;
    context.beginPath(); context.moveTo(x, 0); context.lineTo(x, H - foot); context.stroke();
    context.fillStyle = ink.faint; context.textAlign = s === 0 ? "right" : "center";
    context.fillText(s === 0 ? "now" : `−${s} s`, s === 0 ? right + 12 : x, H - foot / 2 + 1);
  }
  context.save();
  context.beginPath(); context.rect(left, 0, right - left + 0.5, H - foot); context.clip();
  drawLevelLane(context, lanes.level, toX, left, right);
  drawScoreLane(context, lanes.score, toX, left, right);
  const latencyTop = drawLatencyLane(context, lanes.latency, toX, left, right);
  context.restore();
  for (const [top, tall] of Object.values(lanes)) {
    context.strokeStyle = ink.line; context.strokeRect(left + 0.5, Math.round(top) + 0.5, Math.round(right - left), Math.round(tall));
  }
  const middle = ([top, tall]) => top + tall / 2;
  tellLeft("Level", middle(lanes.level) - 16, ink.text);
  tellLeft(isNarrow ? "▬ utter." : "▬ utterance", middle(lanes.level), ink.speech);
  tellLeft("▪ speech", middle(lanes.level) + 16, ink.speech);
  tellRight("0 dB", lanes.level[0] + 6); tellRight("−70", lanes.level[0] + lanes.level[1] - 5);
  const row = Math.min(16, (lanes.score[1] - 10) / (live.heads.length + 0.5));
  const title = live.heads.length > 2 ? lanes.score[0] + 6 : middle(lanes.score) - 16;
  tellLeft("Scores", title, ink.text);
  live.heads.forEach((style, i) => {
    tellLeft(`${style.is_dashed ? "╌" : "—"} ${words(style.name)}`, title + row * (i + 1), inkOf(style));
  });
  tellRight("1", lanes.score[0] + 6); tellRight("0", lanes.score[0] + lanes.score[1] - 5);
  tellLeft("Latency", middle(lanes.latency) - (live.drops.length ? 8 : 0), ink.text);
  if (live.drops.length) tellLeft("▾ dropped", middle(lanes.latency) + 8, ink.bad);
  tellRight(duration(latencyTop).join(" "), lanes.latency[0] + 6); tellRight("0", lanes.latency[0] + lanes.latency[1] - 5);
  if (cursor.x !== null && cursor.x >= left && cursor.x <= right) drawCursor(context, now, left, right, H - foot);
}

function drawLevelLane(context, [top, tall], toX, left, right) {
  const toY = (level) => top + 5 + (tall - 11) * clamp(-level / 70, 0, 1);
  for (const [start, stop] of live.utterances) {
    const x = toX(start), w = Math.max(2, toX(stop) - x);
    context.fillStyle = ink["speech-soft"]; context.fillRect(x, top, w, tall);
    context.fillStyle = ink.speech; context.fillRect(x, top, w, 4);
  }
  // The loudest of what falls on one pixel.
  const columns = new Map();
  for (const { t, step, level, voiced } of live.levels) {
    const x = Math.floor(toX(t));
    if (x < left - 2 || x > right + 2) continue;
    const column = columns.get(x) ?? { level: -120, voiced: false, w: Math.max(1, Math.ceil(toX(t + step) - x)) };
    column.level = Math.max(column.level, level); column.voiced ||= voiced;
    columns.set(x, column);
  }
  for (const [x, { level, voiced, w }] of columns) {
    const y = toY(level), bottom = top + tall - 6;
    context.fillStyle = ink.faint;
    if (y < bottom) context.fillRect(x, y, w, bottom - y);
    context.fillStyle = ink.speech;
    if (voiced) context.fillRect(x, bottom + 1, w, 4);
  }
}

function line(context, points, toX, toY, colour, dash, width) {
  context.save();
  context.strokeStyle = colour; context.lineWidth = width; context.lineJoin = "round"; context.setLineDash(dash);
  context.beginPath();
  let last = null;
  for (const [t, value] of points) {
    if (value === null) { last = null; continue; }
    // A pause of the frames is a gap in the line.
    if (last === null || t - last > 700 || t < last) context.moveTo(toX(t), toY(value)); else context.lineTo(toX(t), toY(value));
    last = t;
  }
  context.stroke();
  context.restore();
}

function drawScoreLane(context, [top, tall], toX, left, right) {
  const toY = (score) => top + 3 + (tall - 6) * (1 - score);
  for (const threshold of new Set(live.heads.map((style) => style.threshold))) {
    context.save();
    context.strokeStyle = ink.faint; context.setLineDash([1, 4]);
    context.beginPath(); context.moveTo(left, toY(threshold)); context.lineTo(right, toY(threshold)); context.stroke();
    context.restore();
  }
  live.heads.forEach((style, i) => {
    line(context, live.points.map((p) => [p.t, p.scores[i]]), toX, toY, inkOf(style), style.is_dashed ? [5, 3] : [], 2);
  });
}

function drawLatencyLane(context, [top, tall], toX) {
  const known = live.points.map((p) => p.latency).filter((value) => value !== null);
  const most = known.length ? Math.max(...known) : 0;
  const scale = [50, 100, 200, 500, 1000, 2000, 5000].find((limit) => most <= limit) ?? 10_000;
  const toY = (latency) => top + 3 + (tall - 6) * (1 - clamp(latency / scale, 0, 1));
  line(context, live.points.map((p) => [p.t, p.latency]), toX, toY, ink.text, [], 1.4);
  context.fillStyle = ink.bad;
  for (const { t } of live.drops) {
    const x = toX(t);
    context.beginPath(); context.moveTo(x - 4, top + 1); context.lineTo(x + 4, top + 1); context.lineTo(x, top + 8); context.closePath(); context.fill();
  }
  return scale;
}

function drawCursor(context, now, left, right, bottom) {
  const x = cursor.x, t = now - ((right - x) / (right - left)) * HISTORY_MS;
  const nearest = (items) => items.reduce((best, item) => (Math.abs(item.t - t) < Math.abs((best?.t ?? Infinity) - t) ? item : best), null);
  const point = nearest(live.points), mark = nearest(live.levels);
  const texts = [`${((t - now) / 1000).toFixed(1)} s`];
  if (mark && Math.abs(mark.t - t) < 500) texts.push(`${mark.level} dBFS${mark.voiced ? ", speech" : ""}`);
  if (point && Math.abs(point.t - t) < 500) {
    live.heads.forEach((style, i) => texts.push(`${style.name} ${point.scores[i].toFixed(2)}`));
    if (point.latency !== null) texts.push(duration(point.latency).join(" "));
  }
  context.strokeStyle = ink.dim; context.beginPath(); context.moveTo(x, 0); context.lineTo(x, bottom); context.stroke();
  const text = texts.join("  ·  "), wide = context.measureText(text).width + 16;
  const at = clamp(x - wide / 2, left, right - wide);
  context.fillStyle = ink.text; context.beginPath(); context.roundRect(at, 4, wide, 20, 6); context.fill();
  context.fillStyle = ink.panel; context.textAlign = "left"; context.fillText(text, at + 8, 14.5);
}
