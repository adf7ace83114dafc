// What the page knows, and whether it is to be drawn anew.

export const HISTORY_MS = 60_000;
const STALE_MS = 1500;

export const byId = (id) => document.getElementById(id);
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export const settings = { view: "both", opacity: {}, theme: null };
export const live = {
  hello: null, heads: [], headsKey: "",
  epoch: null, nowMs: 0, nowAt: 0, originUnixMs: null,
  points: [], levels: [], utterances: [], drops: [], counters: null, numDropped: null,
  spot: null, isListening: false,
  picture: null, pictureAt: 0, isPaused: false, pausedNowMs: 0, pausedAt: 0,
};
export const memory = {
  load(store, key) { try { return store.getItem(key); } catch { return null; } },
  save(store, key, value) { try { store.setItem(key, value); } catch { /* private window */ } },
};

export function streamNowMs() {
  if (live.isPaused) return live.pausedNowMs;
  return live.nowMs + Math.min(performance.now() - live.nowAt, HISTORY_MS);
}

// Pausing makes nothing newer than it was.
export function pictureAgeMs() {
  return (live.isPaused ? live.pausedAt : performance.now()) - live.pictureAt;
}

export function isPictureStale() {
  return live.picture !== null && pictureAgeMs() > STALE_MS;
}

export const state = { name: "connecting", reason: "" };

export function setState(name, reason = "") {
  state.name = name;
  state.reason = reason;
  show();
}

export const drawing = { isDue: false };

export function show() {
  drawing.isDue = true;
}
