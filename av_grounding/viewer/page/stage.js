// The camera with every head's heatmap, and its snapshot.

import { claims, paintHeads } from "./heatmaps.js";
import { strong, words } from "./heads.js";
import { byId, clamp, isPictureStale, live, settings } from "./state.js";

const MARK_PX = 16;

function opacityShown() {
  const shows = (head) => settings.view === "both" || settings.view === head;
  return Object.fromEntries(live.heads.map(({ name }) => [name, shows(name) ? settings.opacity[name] : 0]));
}

function drawScene(context, picture, x, y, width, height, opacity, ratio = 1) {
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.bitmap, x, y, width, height);
  const colours = paintHeads(picture, opacity);
  if (colours) context.drawImage(colours, x, y, width, height);
  const unit = clamp(Math.min(width, height) / 480, 0.8 * ratio, 2.4);
  const labels = [];
  for (const style of live.heads) {
    const facts = picture.heads[style.name];
    if (!facts || !(opacity[style.name] > 0)) continue;
    for (const { label, peak, value, lines } of claims(facts, style.threshold)) {
      drawContour(context, lines, style, x, y, width, height, unit);
      labels.push({ style, x: x + peak[0] * width, y: y + peak[1] * height, text: `${label ?? words(style.name)} ${value.toFixed(2)}` });
    }
  }
  for (const label of labels) drawMark(context, label, unit);
  placeLabels(context, labels, unit, x, y, width, height);
}

function drawContour(context, lines, style, x, y, width, height, unit) {
  context.save();
  context.lineJoin = "round";
  for (const [colour, extra] of [["rgba(0, 0, 0, .75)", 2.2], [strong(style), 0]]) {
    context.strokeStyle = colour;
    context.lineWidth = 2 * unit + extra;
    context.setLineDash(style.is_dashed ? [8 * unit, 6 * unit] : []);
    for (const line of lines) {
      context.beginPath();
      line.forEach(([u, v], i) => (i ? context.lineTo(x + u * width, y + v * height) : context.moveTo(x + u * width, y + v * height)));
      context.closePath();
      context.stroke();
    }
  }
  context.restore();
}

function trace(context, { mark }, x, y, radius) {
  const reach = 1.25 * radius;
  context.beginPath();
  if (mark === "disc") context.arc(x, y, radius, 0, 2 * Math.PI);
  if (mark === "square") context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
  if (mark === "diamond") { context.moveTo(x, y - reach); context.lineTo(x + reach, y); context.lineTo(x, y + reach); context.lineTo(x - reach, y); }
  if (mark === "triangle") { context.moveTo(x, y - reach); context.lineTo(x + reach, y + radius); context.lineTo(x - reach, y + radius); }
  context.closePath();
}

function drawMark(context, { style, x, y }, unit) {
  trace(context, style, x, y, 9 * unit);
  context.strokeStyle = "rgba(0, 0, 0, .8)"; context.lineWidth = 6 * unit; context.stroke();
  context.strokeStyle = "#fff"; context.lineWidth = 3 * unit; context.stroke();
}

// Each label beside its mark, inside the picture, and clear of the other one.
function placeLabels(context, labels, unit, x, y, width, height) {
  const size = Math.round(15 * unit), tall = size + 11 * unit;
  context.font = `600 ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
  context.textBaseline = "middle";
  const taken = [];
  for (const label of labels) {
    const wide = context.measureText(label.text).width + 34 * unit, off = 17 * unit;
    const spots = [
      [label.x + off, label.y - tall / 2], [label.x - off - wide, label.y - tall / 2],
      [label.x - wide / 2, label.y - off - tall], [label.x - wide / 2, label.y + off],
    ].map(([left, top]) => ({ left: clamp(left, x + 4, x + width - wide - 4), top: clamp(top, y + 4, y + height - tall - 4), wide, tall, style: label.style }));
    const others = labels.filter((other) => other !== label).map((other) => ({ left: other.x - 12 * unit, top: other.y - 12 * unit, wide: 24 * unit, tall: 24 * unit }));
    const own = { left: label.x - 10 * unit, top: label.y - 10 * unit, wide: 20 * unit, tall: 20 * unit };
    const hits = (a, b) => a.left < b.left + b.wide && b.left < a.left + a.wide && a.top < b.top + b.tall && b.top < a.top + a.tall;
    const spot = spots.find((s) => ![...taken, ...others, own].some((o) => hits(s, o))) ?? spots[3];
    taken.push(spot);
    context.fillStyle = "rgba(8, 11, 15, .84)";
    context.beginPath(); context.roundRect(spot.left, spot.top, wide, tall, tall / 2); context.fill();
    context.strokeStyle = strong(label.style); context.lineWidth = 1.2 * unit; context.stroke();
    trace(context, label.style, spot.left + 15 * unit, spot.top + tall / 2, 5 * unit);
    context.fillStyle = strong(label.style); context.fill();
    context.fillStyle = "#fff";
    context.fillText(label.text, spot.left + 25 * unit, spot.top + tall / 2 + 0.5 * unit);
  }
}

export function fitCanvas(canvas) {
  const ratio = clamp(window.devicePixelRatio || 1, 1, 2);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return { context: canvas.getContext("2d"), width, height, ratio };
}

// Where the picture lies on a stage of this size.
function fit(picture, width, height) {
  const scale = Math.min(width / picture.width, height / picture.height);
  const w = picture.width * scale, h = picture.height * scale;
  return { x: (width - w) / 2, y: (height - h) / 2, w, h };
}

// A point of the stage as shares of the picture, null beside it; and whether it is on the mark.
export function spotAt(offsetX, offsetY) {
  const { clientWidth, clientHeight } = byId("stage");
  if (!live.picture) return null;
  const { x, y, w, h } = fit(live.picture, clientWidth, clientHeight);
  const spot = { x: (offsetX - x) / w, y: (offsetY - y) / h };
  if (!(spot.x >= 0 && spot.x < 1 && spot.y >= 0 && spot.y < 1)) return null;
  const isPoint = Array.isArray(live.spot);
  return { ...spot, isMark: isPoint && Math.hypot((spot.x - live.spot[0]) * w, (spot.y - live.spot[1]) * h) < MARK_PX };
}

function drawSpot(context, [u, v], { x, y, w, h }, ratio) {
  const radius = MARK_PX * ratio;
  for (const [colour, wide] of [["rgba(0, 0, 0, .8)", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide * ratio;
    for (const share of [0.2, 1]) {
      context.beginPath();
      context.arc(x + u * w, y + v * h, share * radius, 0, 2 * Math.PI);
      context.stroke();
    }
  }
}

export function drawStage() {
  const { context, width, height, ratio } = fitCanvas(byId("stage"));
  context.clearRect(0, 0, width, height);
  const picture = live.picture;
  if (!picture || !width) return;
  const place = fit(picture, width, height), { x, y, w, h } = place;
  // A heatmap that is not of now must not look as if it were.
  const isStale = isPictureStale();
  drawScene(context, picture, x, y, w, h, isStale ? {} : opacityShown(), ratio);
  if (isStale) {
    context.fillStyle = "rgba(5, 7, 10, .55)";
    context.fillRect(x, y, w, h);
  }
  if (Array.isArray(live.spot)) drawSpot(context, live.spot, place, ratio);
}

export function snapshot() {
  const picture = live.picture;
  if (!picture) return;
  const canvas = document.createElement("canvas");
  const foot = Math.max(26, Math.round(picture.height * 0.055));
  canvas.width = picture.width; canvas.height = picture.height + foot;
  const context = canvas.getContext("2d");
  drawScene(context, picture, 0, 0, picture.width, picture.height, opacityShown());
  context.fillStyle = "#0c0f13"; context.fillRect(0, picture.height, canvas.width, foot);
  context.fillStyle = "#e9edf2"; context.textBaseline = "middle";
  context.font = `${Math.round(foot * 0.5)}px system-ui, "DejaVu Sans", sans-serif`;
  const time = live.originUnixMs === null ? null : new Date(live.originUnixMs + picture.timeMs);
  const scores = Object.entries(picture.heads).map(([head, facts]) => `${head} ${facts.score.toFixed(2)}`).join("   ");
  context.fillText([scores, time?.toISOString().replace("T", " ").slice(0, 23)].filter(Boolean).join("   "), foot * 0.5, picture.height + foot / 2);
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `av_grounding-${(time ?? new Date()).toISOString().replace(/[:.]/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}
