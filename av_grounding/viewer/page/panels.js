// Words and numbers around the picture.

import { byId, clamp, isPictureStale, live, pictureAgeMs, state, streamNowMs } from "./state.js";

export function duration(ms) {
  return Math.abs(ms) < 1000 ? [ms.toFixed(0).replace("-", "−"), "ms"] : [(ms / 1000).toFixed(Math.abs(ms) < 9950 ? 1 : 0), "s"];
}

const LATE_MS = 1000;
const STATES = { connecting: "Connecting", waiting: "Waiting for frames", live: "Live", paused: "Paused", stale: "No new frames", late: "Behind", lost: "Reconnecting", token: "Token needed" };

export function showState() {
  let name = state.name, notice = "";
  if (live.hello && !["lost", "token"].includes(name)) {
    name = live.isPaused ? "paused" : live.picture === null ? "waiting" : isPictureStale() ? "stale" : isLate() ? "late" : "live";
  }
  const age = Math.round(pictureAgeMs() / 1000);
  const isDropping = performance.now() - (live.drops.at(-1)?.at ?? -Infinity) < 3000;
  if (name === "lost") notice = state.reason ? `Connection closed: ${state.reason}. Trying again` : "Connection lost. Trying again";
  if (name === "waiting") notice = "Connected. No frame has come yet";
  if (name === "stale") notice = isDropping ? `No answer for ${age} s: frames are dropped, the machine is too slow` : `No new frame for ${age} s`;
  if (name === "late") notice = `Live, but ${duration(live.points.at(-1).latency).join(" ")} behind`;
  if (name === "paused") notice = isPictureStale() ? `Paused, ${age} s after the last answer` : "Paused";
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

export function showFacts(facts) {
  byId("facts").textContent = Object.entries(facts).map(([name, value]) => `${name} ${value}`).join("  ·  ");
  byId("facts").title = byId("facts").textContent;
}

export function showHeads() {
  for (const { name: head, threshold, verdicts } of live.heads) {
    const facts = live.picture?.heads[head];
    if (!facts) continue;
    if (isPictureStale()) {
      byId(`score-${head}`).textContent = "–";
      byId(`bar-${head}`).style.transform = "scaleX(0)";
      byId(`verdict-${head}`).textContent = "No new answer";
      byId(`card-${head}`).dataset.present = false;
      continue;
    }
    const isPresent = facts.score > 0 && facts.score >= threshold;
    byId(`score-${head}`).textContent = facts.score.toFixed(2);
    byId(`bar-${head}`).style.transform = `scaleX(${facts.score})`;
    byId(`verdict-${head}`).textContent = verdicts[isPresent ? 2 : facts.score > 0 ? 1 : 0];
    byId(`card-${head}`).dataset.present = isPresent;
  }
}

let peak = { level: -120, at: 0 };

export function showLevel() {
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

export function showVitals() {
  const points = live.points, last = points.at(-1);
  const recent = last && !isPictureStale() ? points.filter(({ t }) => t > last.t - 5000) : [];
  const seconds = recent.length > 1 ? (last.t - recent[0].t) / 1000 : 0;
  byId("rate").textContent = seconds > 0 ? ((recent.length - 1) / seconds).toFixed(1) : "–";
  const latencies = recent.map((p) => p.latency).filter((value) => value !== null).sort((a, b) => a - b);
  const [number, unit] = latencies.length ? duration(latencies[Math.floor(latencies.length / 2)]) : ["–", "ms"];
  byId("latency").textContent = number;
  byId("latency-unit").textContent = unit;
  if (live.picture) {
    const says = Object.entries(live.picture.heads).map(([head, facts]) => `${head} score ${facts.score.toFixed(2)}`).join(", ");
    byId("stage").setAttribute("aria-label", isPictureStale() ? "Camera, an old picture" : `Camera, ${says}`);
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
  const lag = stream.audio_lag_ms;
  if (lag !== undefined) add(`Sound ${lag < 0 ? "ahead of" : "behind"} frames`, duration(Math.abs(lag)).join(" "));
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

export function showCounters() {
  if (!live.counters) return;
  fill(byId("counters"), counterRows(live.counters));
  const flat = (object, prefix = "") => Object.entries(object).flatMap(([name, value]) => (value !== null && typeof value === "object" ? flat(value, `${name}.`) : [{ name: prefix + name, value: typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : value }]));
  if (document.querySelector("details").open) fill(byId("all-counters"), flat(live.counters));
}

export function showWarnings(warnings) {
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
