// The WebSocket to the program (see messages.py). Each packet is acknowledged once it has been
// shown, so a slow page skips frames instead of falling behind.

import { smooth } from "./heatmaps.js";
import { showCounters, showFacts, showWarnings } from "./panels.js";
import { setHeads } from "./heads.js";
import { offerSound, play, stopListening } from "./listening.js";
import { byId, HISTORY_MS, live, memory, setState, show, streamNowMs } from "./state.js";

const PROTOCOL = 3;

export const connection = { socket: null, timer: 0, backoffMs: 300, isRefused: false, queue: Promise.resolve(), setView: () => {} };

function token() {
  return decodeURIComponent(location.hash.slice(1)) || memory.load(sessionStorage, "token") || "";
}

export function connect() {
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
    const wasRefused = live.hello === null && !event.reason;
    connection.socket = null;
    live.hello = null;
    live.spot = null;
    stopListening();
    if (event.code === 4401) return refuse();
    if (event.code === 4400) { location.reload(); return; }
    setState("lost", event.reason);
    if (wasRefused) why().then((reason) => { if (reason && !live.hello) setState("lost", reason); });
    connection.timer = setTimeout(connect, connection.backoffMs * (0.8 + 0.4 * Math.random()));
    connection.backoffMs = Math.min(connection.backoffMs * 1.7, 4000);
  };
}

// A browser does not tell a page why its socket was refused; the same question without one does.
async function why() {
  const reply = await fetch("live", { method: "POST" }).catch(() => null);
  return reply?.status === 403 ? (await reply.text()).trim() : "";
}

function refuse() {
  setState("token");
  connection.isRefused = true;
  byId("token-form").hidden = false;
  byId("token").focus({ preventScroll: true });
}

export function tell(type, what = {}) {
  if (live.hello && connection.socket?.readyState === WebSocket.OPEN) connection.socket.send(JSON.stringify({ type, ...what }));
}

async function receive(socket, buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  if (header.hello) {
    live.hello = header.hello;
    setHeads(header.hello.heads, connection.setView);
    memory.save(sessionStorage, "token", token());
    connection.backoffMs = 300;
    connection.isRefused = false;
    byId("token-form").hidden = true;
    showFacts(header.hello.facts);
    offerSound(header.hello.sound_rate_hz);
    live.epoch = null;
    live.numDropped = null;
    if (live.isPaused || document.hidden) tell("pause");
    return;
  }
  if (header.spot !== undefined) live.spot = header.spot;
  if (header.sound) play(header.sound, buffer.slice(-2 * header.sound.num_samples));
  const picture = header.frame ? await decode(header.frame, buffer, 4 + size) : null;
  if (socket !== connection.socket) return;
  takeNews(header);
  if (picture && !live.isPaused) {
    live.picture?.bitmap.close();
    live.picture = picture;
    live.pictureAt = performance.now();
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
  for (const [head, facts] of Object.entries(frame.heads)) {
    const { h, w } = facts, all = new Uint8Array(h * w);
    const maps = facts.maps.map((map, i) => ({ ...map, cells: new Uint8Array(buffer, offset + i * h * w, h * w) }));
    for (const { cells } of maps) cells.forEach((value, i) => { if (value > all[i]) all[i] = value; });
    heads[head] = { ...facts, maps, ...smooth(all, h, w) };
    offset += maps.length * h * w;
  }
  return { bitmap: await createImageBitmap(jpeg), width: frame.width, height: frame.height, timeMs: frame.t, number: frame.number, heads };
}

function takeNews(news) {
  if (news.epoch !== live.epoch) {
    Object.assign(live, { epoch: news.epoch, nowMs: null, points: [], levels: [], utterances: [], drops: [] });
  }
  // Without a new stamp time goes on all the same, and what was heard is no longer now.
  if (news.now_ms !== live.nowMs) Object.assign(live, { nowMs: news.now_ms, nowAt: performance.now() });
  live.originUnixMs = news.origin_unix_ms ?? null;
  for (const [t, latency, ...scores] of news.points ?? []) live.points.push({ t, latency, scores });
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
  if (live.numDropped !== null && dropped > live.numDropped) live.drops.push({ t: streamNowMs(), at: performance.now() });
  live.numDropped = dropped;
  live.counters = counters;
  showCounters();
}
