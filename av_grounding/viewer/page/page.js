// The live page. Packets come over a WebSocket (see messages.py); each is acknowledged once it
// has been shown, so a slow page skips frames instead of falling behind.

const PROTOCOL = 1;
const HISTORY_MS = 60_000;
const STALE_MS = 1500;
const HEADS = ["sound", "speech"];
// Weak and strong end of each head's ramp, as in the recorded overlays: amber and blue differ in
// lightness as well as in hue and stay apart with every common colour vision deficiency.
const RAMPS = {
  sound: [[214, 72, 0], [255, 214, 64]],
  speech: [[0, 58, 196], [96, 214, 255]],
};
const MARK = { sound: "rgb(255, 214, 64)", speech: "rgb(96, 214, 255)" };

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

// ---------------------------------------------------------------- state

const settings = { view: "both", opacity: { sound: 0.6, speech: 0.6 }, theme: null };
const live = {
  hello: null, thresholds: { sound: 0.5, speech: 0.5 },
  epoch: null, nowMs: 0, nowAt: 0, originUnixMs: null,
  points: [], levels: [], utterances: [], drops: [], counters: null, numDropped: null,
  picture: null, pictureAt: 0, shownAt: [], isPaused: false, pausedNowMs: 0,
};
const memory = {
  load(store, key) { try { return store.getItem(key); } catch { return null; } },
  save(store, key, value) { try { store.setItem(key, value); } catch { /* private window */ } },
};

function streamNowMs() {
  if (live.isPaused) return live.pausedNowMs;
  return live.nowMs + Math.min(performance.now() - live.nowAt, HISTORY_MS);
}

// ---------------------------------------------------------------- connection

const connection = { socket: null, timer: 0, backoffMs: 300, isRefused: false, queue: Promise.resolve() };

function token() {
  return decodeURIComponent(location.hash.slice(1)) || memory.load(sessionStorage, "token") || "";
}

function connect() {
  clearTimeout(connection.timer);
  if (connection.socket) return;
  const socket = new WebSocket(new URL("live", location.href.replace(/^http/, "ws").replace(/#.*/, "")));
  socket.binaryType = "arraybuffer";
  connection.socket = socket;
  setState("connecting");
  socket.onopen = () => socket.send(JSON.stringify({ type: "hello", protocol: PROTOCOL, token: token() }));
  socket.onmessage = (event) => {
    connection.queue = connection.queue.then(() => receive(socket, event.data)).catch((error) => {
      console.error(error);
      socket.close();
    });
  };
  socket.onclose = (event) => {
    connection.socket = null;
    live.hello = null;
    if (event.code === 4401) return refuse();
    if (event.code === 4400) { location.reload(); return; }
    setState("lost", event.reason);
    connection.timer = setTimeout(connect, connection.backoffMs * (0.8 + 0.4 * Math.random()));
    connection.backoffMs = Math.min(connection.backoffMs * 1.7, 4000);
  };
}

function refuse() {
  setState("token");
  connection.isRefused = true;
  byId("token-form").hidden = false;
  byId("token").focus({ preventScroll: true });
}

function tell(type) {
  if (live.hello && connection.socket?.readyState === WebSocket.OPEN) connection.socket.send(JSON.stringify({ type }));
}

async function receive(socket, buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  if (header.hello) {
    live.hello = header.hello;
    live.thresholds = header.hello.thresholds;
    memory.save(sessionStorage, "token", token());
    connection.backoffMs = 300;
    connection.isRefused = false;
    byId("token-form").hidden = true;
    showFacts(header.hello.facts);
    live.epoch = null;
    live.numDropped = null;
    if (live.isPaused || document.hidden) tell("pause");
    return;
  }
  const picture = header.frame ? await decode(header.frame, buffer, 4 + size) : null;
  if (socket !== connection.socket) return;
  takeNews(header);
  if (picture && !live.isPaused) {
    live.picture?.bitmap.close();
    live.picture = picture;
    live.pictureAt = performance.now();
    live.shownAt.push(live.pictureAt);
    byId("stage").parentElement.style.setProperty("--aspect", `${picture.width} / ${picture.height}`);
  } else {
    picture?.bitmap.close();
  }
  show();
  tell("ack");
}

async function decode(frame, buffer, offset) {
  const jpeg = new Blob([new Uint8Array(buffer, offset, frame.jpeg_bytes)], { type: "image/jpeg" });
  offset += frame.jpeg_bytes;
  const heads = {};
  for (const head of HEADS) {
    const { h, w } = frame[head];
    heads[head] = smooth(new Uint8Array(buffer, offset, h * w), h, w, frame[head]);
    offset += h * w;
  }
  return { bitmap: await createImageBitmap(jpeg), width: frame.width, height: frame.height, timeMs: frame.t, number: frame.number, heads };
}

function takeNews(news) {
  if (news.epoch !== live.epoch) {
    Object.assign(live, { epoch: news.epoch, points: [], levels: [], utterances: [], drops: [] });
  }
  live.nowMs = news.now_ms;
  live.nowAt = performance.now();
  live.originUnixMs = news.origin_unix_ms ?? null;
  for (const [t, sound, speech, latency] of news.points ?? []) live.points.push({ t, sound, speech, latency });
  for (const { t, step_ms, level_dbfs, is_voiced } of news.voice ?? []) {
    level_dbfs.forEach((level, i) => live.levels.push({ t: t + i * step_ms, step: step_ms, level, voiced: is_voiced[i] === 1 }));
  }
  if (news.utterances) live.utterances = news.utterances;
  if (news.warnings) showWarnings(news.warnings);
  if (news.counters) takeCounters(news.counters);
  const horizon = live.nowMs - HISTORY_MS - 1000;
  for (const name of ["points", "levels", "drops"]) {
    const first = live[name].findIndex((item) => item.t >= horizon);
    if (first > 0) live[name].splice(0, first);
  }
}

function takeCounters(counters) {
  const dropped = (counters.num_frames_replaced ?? 0) + (counters.num_frames_too_old ?? 0);
  if (live.numDropped !== null && dropped > live.numDropped) live.drops.push({ t: live.nowMs, num: dropped - live.numDropped });
  live.numDropped = dropped;
  live.counters = counters;
  showCounters();
}

// ---------------------------------------------------------------- heatmaps

// Catmull-Rom interpolation to a grid fine enough for smooth contours; it passes through the
// values that were sent, so that a level line lies where the heatmap has that value.
function smooth(cells, h, w, facts) {
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
  return { ...facts, H, W, values, lines: null };
}

const paint = document.createElement("canvas");

// Both heads in their colours as one image, the same whichever comes first.
function paintHeads(picture, opacity) {
  const shown = HEADS.filter((head) => opacity[head] > 0);
  if (!shown.length) return null;
  const { H, W } = picture.heads[shown[0]];
  if (paint.width !== W || paint.height !== H) { paint.width = W; paint.height = H; }
  const context = paint.getContext("2d");
  const image = context.createImageData(W, H), pixels = image.data;
  for (let i = 0, p = 0; i < H * W; i++, p += 4) {
    let clear = 1, sum = 0, r = 0, g = 0, b = 0;
    for (const head of shown) {
      const value = picture.heads[head].values[i];
      if (value < 0.02) continue;
      const alpha = opacity[head] * value;
      const [weak, strong] = RAMPS[head];
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
function contour({ values, H, W }, level) {
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

// ---------------------------------------------------------------- the stage

function opacityShown() {
  const shows = (head) => settings.view === "both" || settings.view === head;
  return Object.fromEntries(HEADS.map((head) => [head, shows(head) ? settings.opacity[head] : 0]));
}

function drawScene(context, picture, x, y, width, height, opacity, ratio = 1) {
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.bitmap, x, y, width, height);
  const colours = paintHeads(picture, opacity);
  if (colours) context.drawImage(colours, x, y, width, height);
  const unit = clamp(Math.min(width, height) / 480, 0.8 * ratio, 2.4);
  const labels = [];
  for (const head of HEADS) {
    const facts = picture.heads[head];
    if (!(opacity[head] > 0) || !(facts.value >= live.thresholds[head])) continue;
    facts.lines ??= contour(facts, live.thresholds[head]);
    drawContour(context, facts.lines, head, x, y, width, height, unit);
    labels.push({ head, x: x + facts.peak[0] * width, y: y + facts.peak[1] * height, text: `${head} ${facts.score.toFixed(2)}` });
  }
  for (const label of labels) drawMark(context, label, unit);
  placeLabels(context, labels, unit, x, y, width, height);
}

function drawContour(context, lines, head, x, y, width, height, unit) {
  context.save();
  context.lineJoin = "round";
  for (const [colour, extra] of [["rgba(0, 0, 0, .75)", 2.2], [MARK[head], 0]]) {
    context.strokeStyle = colour;
    context.lineWidth = 2 * unit + extra;
    context.setLineDash(head === "speech" ? [8 * unit, 6 * unit] : []);
    for (const line of lines) {
      context.beginPath();
      line.forEach(([u, v], i) => (i ? context.lineTo(x + u * width, y + v * height) : context.moveTo(x + u * width, y + v * height)));
      context.closePath();
      context.stroke();
    }
  }
  context.restore();
}

function trace(context, head, x, y, radius) {
  context.beginPath();
  if (head === "sound") {
    context.arc(x, y, radius, 0, 2 * Math.PI);
  } else {
    const reach = 1.25 * radius;
    context.moveTo(x, y - reach); context.lineTo(x + reach, y); context.lineTo(x, y + reach); context.lineTo(x - reach, y);
  }
  context.closePath();
}

function drawMark(context, { head, x, y }, unit) {
  trace(context, head, x, y, 9 * unit);
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
    ].map(([left, top]) => ({ left: clamp(left, x + 4, x + width - wide - 4), top: clamp(top, y + 4, y + height - tall - 4), wide, tall, head: label.head }));
    const others = labels.filter((other) => other !== label).map((other) => ({ left: other.x - 12 * unit, top: other.y - 12 * unit, wide: 24 * unit, tall: 24 * unit }));
    const own = { left: label.x - 10 * unit, top: label.y - 10 * unit, wide: 20 * unit, tall: 20 * unit };
    const hits = (a, b) => a.left < b.left + b.wide && b.left < a.left + a.wide && a.top < b.top + b.tall && b.top < a.top + a.tall;
    const spot = spots.find((s) => ![...taken, ...others, own].some((o) => hits(s, o))) ?? spots[3];
    taken.push(spot);
    context.fillStyle = "rgba(8, 11, 15, .84)";
    context.beginPath(); context.roundRect(spot.left, spot.top, wide, tall, tall / 2); context.fill();
    context.strokeStyle = MARK[label.head]; context.lineWidth = 1.2 * unit; context.stroke();
    trace(context, label.head, spot.left + 15 * unit, spot.top + tall / 2, 5 * unit);
    context.fillStyle = MARK[label.head]; context.fill();
    context.fillStyle = "#fff";
    context.fillText(label.text, spot.left + 25 * unit, spot.top + tall / 2 + 0.5 * unit);
  }
}

function fitCanvas(canvas) {
  const ratio = clamp(window.devicePixelRatio || 1, 1, 2);
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  return { context: canvas.getContext("2d"), width, height, ratio };
}

function drawStage() {
  const { context, width, height, ratio } = fitCanvas(byId("stage"));
  context.clearRect(0, 0, width, height);
  const picture = live.picture;
  if (!picture || !width) return;
  const scale = Math.min(width / picture.width, height / picture.height);
  const w = picture.width * scale, h = picture.height * scale;
  const x = (width - w) / 2, y = (height - h) / 2;
  // A heatmap that is not of now must not look as if it were.
  const isStale = isPictureStale();
  drawScene(context, picture, x, y, w, h, isStale ? { sound: 0, speech: 0 } : opacityShown(), ratio);
  if (isStale) {
    context.fillStyle = "rgba(5, 7, 10, .55)";
    context.fillRect(x, y, w, h);
  }
}

function isPictureStale() {
  return !live.isPaused && live.picture !== null && performance.now() - live.pictureAt > STALE_MS;
}

function snapshot() {
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
  const scores = HEADS.map((head) => `${head} ${picture.heads[head].score.toFixed(2)}`).join("   ");
  context.fillText([scores, time?.toISOString().replace("T", " ").slice(0, 23)].filter(Boolean).join("   "), foot * 0.5, picture.height + foot / 2);
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `av_grounding-${(time ?? new Date()).toISOString().replace(/[:.]/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}

// ---------------------------------------------------------------- the last minute

const cursor = { x: null };
let ink = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "dim", "faint", "line", "panel", "sunk", "sound", "speech", "bad", "speech-soft"]) ink[name] = style.getPropertyValue(`--${name}`).trim();
}

function drawTimeline() {
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
  const tellLeft = (text, y, colour = ink.dim) => { context.fillStyle = colour; context.textAlign = "left"; context.fillText(text, 0, y); };
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
  tellLeft("Scores", middle(lanes.score) - 16, ink.text);
  tellLeft("— sound", middle(lanes.score), ink.sound);
  tellLeft("╌ speech", middle(lanes.score) + 16, ink.speech);
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
  for (const threshold of new Set(Object.values(live.thresholds))) {
    context.save();
    context.strokeStyle = ink.faint; context.setLineDash([1, 4]);
    context.beginPath(); context.moveTo(left, toY(threshold)); context.lineTo(right, toY(threshold)); context.stroke();
    context.restore();
  }
  line(context, live.points.map((p) => [p.t, p.sound]), toX, toY, ink.sound, [], 2);
  line(context, live.points.map((p) => [p.t, p.speech]), toX, toY, ink.speech, [5, 3], 2);
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
    texts.push(`sound ${point.sound.toFixed(2)}`, `speech ${point.speech.toFixed(2)}`);
    if (point.latency !== null) texts.push(duration(point.latency).join(" "));
  }
  context.strokeStyle = ink.dim; context.beginPath(); context.moveTo(x, 0); context.lineTo(x, bottom); context.stroke();
  const text = texts.join("  ·  "), wide = context.measureText(text).width + 16;
  const at = clamp(x - wide / 2, left, right - wide);
  context.fillStyle = ink.text; context.beginPath(); context.roundRect(at, 4, wide, 20, 6); context.fill();
  context.fillStyle = ink.panel; context.textAlign = "left"; context.fillText(text, at + 8, 14.5);
}

// ---------------------------------------------------------------- words and numbers

function duration(ms) {
  return Math.abs(ms) < 1000 ? [ms.toFixed(0).replace("-", "−"), "ms"] : [(ms / 1000).toFixed(Math.abs(ms) < 9950 ? 1 : 0), "s"];
}

const LATE_MS = 1000;
const STATES = { connecting: "Connecting", waiting: "Waiting for frames", live: "Live", paused: "Paused", stale: "No new frames", late: "Behind", lost: "Reconnecting", token: "Token needed" };
const state = { name: "connecting", reason: "" };

function setState(name, reason = "") {
  state.name = name;
  state.reason = reason;
  show();
}

function showState() {
  let name = state.name, notice = "";
  if (live.hello && !["lost", "token"].includes(name)) {
    name = live.isPaused ? "paused" : live.picture === null ? "waiting" : isPictureStale() ? "stale" : isLate() ? "late" : "live";
  }
  const age = live.picture ? Math.round((performance.now() - live.pictureAt) / 1000) : 0;
  if (name === "lost") notice = state.reason ? `Connection closed: ${state.reason}. Trying again` : "Connection lost. Trying again";
  if (name === "waiting") notice = "Connected. No frame has come yet";
  if (name === "stale") notice = `No new frame for ${age} s`;
  if (name === "late") notice = `Live, but ${duration(live.points.at(-1).latency).join(" ")} behind`;
  if (name === "paused") notice = "Paused";
  const shown = byId("state");
  if (shown.dataset.state !== name) {
    shown.dataset.state = name;
    byId("state-text").textContent = STATES[name];
  }
  byId("notice").hidden = !notice;
  if (byId("notice").textContent !== notice) byId("notice").textContent = notice;
}

function isLate() {
  return (live.points.at(-1)?.latency ?? 0) > LATE_MS;
}

function showFacts(facts) {
  byId("facts").textContent = Object.entries(facts).map(([name, value]) => `${name} ${value}`).join("  ·  ");
  byId("facts").title = byId("facts").textContent;
  for (const head of HEADS) byId(`tick-${head}`).style.left = `calc(${100 * live.thresholds[head]}% - 1px)`;
}

const VERDICTS = {
  sound: { present: "Source located", weak: "Heard, but not located", none: "Nothing heard" },
  speech: { present: "Object found", weak: "Words heard, nothing found", none: "No words heard" },
};

function showHeads() {
  for (const head of HEADS) {
    const facts = live.picture?.heads[head];
    if (!facts) continue;
    const isPresent = facts.value >= live.thresholds[head];
    byId(`score-${head}`).textContent = facts.score.toFixed(2);
    byId(`bar-${head}`).style.transform = `scaleX(${facts.score})`;
    byId(`verdict-${head}`).textContent = VERDICTS[head][isPresent ? "present" : facts.score > 0 ? "weak" : "none"];
    document.querySelector(`[data-head="${head}"]`).dataset.present = isPresent;
  }
}

let peak = { level: -120, at: 0 };

function showLevel() {
  const now = streamNowMs();
  const recent = live.levels.slice(-16).filter(({ t }) => now - t < 1500);
  const level = recent.length ? Math.max(...recent.map((mark) => mark.level)) : -120;
  if (level >= peak.level || performance.now() - peak.at > 1500) peak = { level, at: performance.now() };
  const share = (value) => clamp(1 + value / 70, 0, 1);
  byId("level").textContent = recent.length ? (level > -100 ? level.toFixed(0).replace("-", "−") : "silent") : "–";
  byId("level-unit").hidden = !(level > -100);
  byId("bar-level").style.transform = `scaleX(${share(level)})`;
  byId("tick-level").style.left = `calc(${100 * share(peak.level)}% - 2px)`;
  byId("voice").dataset.voiced = recent.some((mark) => mark.voiced);
  byId("voice").textContent = recent.length === 0 ? "no sound arrives" : recent.some((mark) => mark.voiced) ? "speech" : "no speech";
}

function showVitals() {
  const points = live.points, last = points.at(-1);
  const recent = last ? points.filter(({ t }) => t > last.t - 5000) : [];
  const seconds = recent.length > 1 ? (last.t - recent[0].t) / 1000 : 0;
  byId("rate").textContent = seconds > 0 ? ((recent.length - 1) / seconds).toFixed(1) : "–";
  const latencies = recent.map((p) => p.latency).filter((value) => value !== null).sort((a, b) => a - b);
  const [number, unit] = latencies.length ? duration(latencies[Math.floor(latencies.length / 2)]) : ["–", "ms"];
  byId("latency").textContent = number;
  byId("latency-unit").textContent = unit;
  if (live.picture) {
    const says = HEADS.map((head) => `${head} score ${live.picture.heads[head].score.toFixed(2)}`).join(", ");
    byId("stage").setAttribute("aria-label", `Camera, ${says}`);
  }
}

function counterRows(c) {
  const stream = c.stream ?? {}, rows = [];
  const add = (name, value, isBad = false, title = "") => { if (value !== undefined) rows.push({ name, value, isBad, title }); };
  const count = (value) => value?.toLocaleString("en");
  add("Frames answered", count(c.num_frames_published));
  if (c.num_frames_replaced !== undefined) {
    const dropped = c.num_frames_replaced + (c.num_frames_too_old ?? 0);
    add("Frames dropped", count(dropped), dropped > 0, `${c.num_frames_replaced} replaced by a newer one, ${c.num_frames_too_old} too old`);
  }
  add("Answered late", count(c.num_published_late), c.num_published_late > 0);
  add("Sound chunks lost", count(c.num_audio_overruns), c.num_audio_overruns > 0);
  add("Gaps in the sound", count(stream.num_gaps), stream.num_gaps > 0);
  if (stream.audio_lag_ms !== undefined) add("Sound behind frames", duration(stream.audio_lag_ms).join(" "));
  return rows;
}

function fill(list, rows) {
  const items = rows.flatMap(({ name, value, isBad, title }) => {
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name; detail.textContent = value; detail.className = isBad ? "bad" : "";
    if (title) detail.title = title;
    return [term, detail];
  });
  list.replaceChildren(...items);
}

function showCounters() {
  if (!live.counters) return;
  fill(byId("counters"), counterRows(live.counters));
  const flat = (object, prefix = "") => Object.entries(object).flatMap(([name, value]) => (value !== null && typeof value === "object" ? flat(value, `${name}.`) : [{ name: prefix + name, value: typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : value }]));
  if (document.querySelector("details").open) fill(byId("all-counters"), flat(live.counters));
}

function showWarnings(warnings) {
  const total = warnings.reduce((sum, { count }) => sum + count, 0);
  byId("num-warnings").textContent = total;
  byId("num-warnings").dataset.any = total > 0;
  const items = [...warnings].reverse().map(({ text, count, unix_s }) => {
    const item = document.createElement("li"), time = document.createElement("time");
    time.textContent = new Date(unix_s * 1000).toLocaleTimeString() + (count > 1 ? `, ${count} times` : "");
    item.append(time, text);
    return item;
  });
  if (!items.length) items.push(Object.assign(document.createElement("li"), { className: "none", textContent: "None so far" }));
  byId("warnings").replaceChildren(...items);
}

// ---------------------------------------------------------------- drawing in time

let isDue = false, drawnAt = 0, toldAt = 0;

function show() {
  isDue = true;
}

function tick() {
  requestAnimationFrame(tick);
  const now = performance.now();
  const isSliding = !live.isPaused && live.hello !== null && now - drawnAt > 80;
  if (!isDue && !isSliding && now - drawnAt < 500) return;
  drawStage();
  drawTimeline();
  showState();
  showHeads();
  if (!live.isPaused) showLevel();
  if (now - toldAt > 400) { toldAt = now; showVitals(); }
  isDue = false;
  drawnAt = now;
}

// ---------------------------------------------------------------- controls

function setView(view) {
  settings.view = view;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === view);
  show();
}

function setPaused(isPaused) {
  if (isPaused === live.isPaused) return;
  live.pausedNowMs = streamNowMs();
  live.isPaused = isPaused;
  tell(isPaused ? "pause" : "resume");
  byId("pause").setAttribute("aria-pressed", isPaused);
  byId("pause").querySelector("span").textContent = isPaused ? "Resume" : "Pause";
  show();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  readColours();
  show();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  memory.save(localStorage, "theme", theme);
  setTheme(theme);
}

function start() {
  setTheme(memory.load(localStorage, "theme"));
  for (const head of HEADS) {
    const slider = byId(`opacity-${head}`), kept = memory.load(localStorage, `opacity-${head}`);
    if (kept !== null) slider.value = kept;
    const take = () => { settings.opacity[head] = slider.value / 100; show(); };
    slider.addEventListener("input", take);
    slider.addEventListener("change", () => memory.save(localStorage, `opacity-${head}`, slider.value));
    take();
  }
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  for (const card of document.querySelectorAll("[data-head]")) {
    card.addEventListener("click", () => setView(settings.view === card.dataset.head ? "both" : card.dataset.head));
  }
  byId("pause").addEventListener("click", () => setPaused(!live.isPaused));
  byId("snapshot").addEventListener("click", snapshot);
  byId("theme").addEventListener("click", toggleTheme);
  document.querySelector("details").addEventListener("toggle", showCounters);
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = encodeURIComponent(byId("token").value.trim());
    byId("token").value = "";
    connect();
  });
  const timeline = byId("timeline");
  timeline.addEventListener("pointermove", (event) => { cursor.x = event.offsetX; show(); });
  timeline.addEventListener("pointerleave", () => { cursor.x = null; show(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, summary")) return;
    const views = { 1: "both", 2: "sound", 3: "speech", 4: "camera" };
    if (event.key in views) setView(views[event.key]);
    else if (event.key === " " && !event.target.matches("button")) { event.preventDefault(); setPaused(!live.isPaused); }
    else if (event.key === "s") snapshot();
    else if (event.key === "t") toggleTheme();
  });
  // Nothing is sent to a tab that nobody sees.
  document.addEventListener("visibilitychange", () => {
    if (!live.isPaused) tell(document.hidden ? "pause" : "resume");
    if (!document.hidden && !connection.isRefused) connect();
  });
  window.addEventListener("online", () => { if (!connection.isRefused) connect(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(null));
  new ResizeObserver(show).observe(document.body);
  showWarnings([]);
  connect();
  requestAnimationFrame(tick);
}

start();
