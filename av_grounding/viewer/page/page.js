// The live page: draws when something has changed, and obeys its controls.

import { connect, connection, tell } from "./connection.js";
import { showListening, startListening, stopListening } from "./listening.js";
import { showCounters, showHeads, showLevel, showState, showVitals, showWarnings } from "./panels.js";
import { drawStage, snapshot, spotAt } from "./stage.js";
import { byId, drawing, live, memory, settings, show, streamNowMs } from "./state.js";
import { cursor, drawTimeline, readColours } from "./timeline.js";

let drawnAt = 0, toldAt = 0;

function tick() {
  requestAnimationFrame(tick);
  const now = performance.now();
  const isSliding = !live.isPaused && live.hello !== null && now - drawnAt > 80;
  if (!drawing.isDue && !isSliding && now - drawnAt < 500) return;
  drawStage();
  drawTimeline();
  showState();
  showHeads();
  showListening();
  if (!live.isPaused) showLevel();
  if (now - toldAt > 400) { toldAt = now; showVitals(); }
  drawing.isDue = false;
  drawnAt = now;
}

function setView(view) {
  settings.view = view;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === view);
  show();
}

function setPaused(isPaused) {
  if (isPaused === live.isPaused) return;
  live.pausedNowMs = streamNowMs();
  live.pausedAt = performance.now();
  live.isPaused = isPaused;
  tell(isPaused ? "pause" : "resume");
  byId("pause").setAttribute("aria-pressed", isPaused);
  byId("pause").querySelector("span").textContent = isPaused ? "Resume" : "Pause";
  show();
}

function listen(spot) {
  startListening();
  tell("listen", spot);
}

function mute() {
  stopListening();
  tell("mute");
}

function clickStage(event) {
  const spot = live.hello?.sound_rate_hz && !live.isPaused ? spotAt(event.offsetX, event.offsetY) : null;
  if (!spot) return;
  if (spot.isMark && live.isListening) mute();
  else listen({ x: spot.x, y: spot.y });
}

function toggleListening() {
  if (live.isListening) mute();
  else if (live.hello?.sound_rate_hz && !live.isPaused) listen(Array.isArray(live.spot) ? { x: live.spot[0], y: live.spot[1] } : {});
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
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => setView(button.dataset.view));
  connection.setView = setView;
  byId("pause").addEventListener("click", () => setPaused(!live.isPaused));
  byId("snapshot").addEventListener("click", snapshot);
  byId("stage").addEventListener("click", clickStage);
  byId("listen").addEventListener("click", toggleListening);
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
    const views = ["both", ...live.heads.map((style) => style.name), "camera"];
    const view = views[Number(event.key) - 1];
    if (event.key !== " " && view) setView(view);
    else if (event.key === " " && !event.target.matches("button")) { event.preventDefault(); setPaused(!live.isPaused); }
    else if (event.key === "s") snapshot();
    else if (event.key === "l") toggleListening();
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
