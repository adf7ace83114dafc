// A click on the picture, and the sound of what lies there: small buffers one behind the other, a
// moment ahead of the loudspeaker. Nothing sounds before somebody has asked for it.

import { byId, live, show } from "./state.js";

const LEAD_S = 0.2, MOST_S = 0.8, FADE = 64;
const player = { context: null, volume: null, due: 0, heardAt: -Infinity };

export function offerSound(rateHz) {
  byId("listen").hidden = byId("listening").hidden = !rateHz;
  byId("stage").classList.toggle("listens", rateHz !== null);
}

// To be called while a click or a key is handled: a browser lets nothing sound without one.
export function startListening() {
  // At the sound's own rate there are no seams between buffers: the browser resamples the whole.
  if (player.context?.sampleRate !== live.hello.sound_rate_hz) {
    player.context?.close();
    player.context = new AudioContext({ latencyHint: "interactive", sampleRate: live.hello.sound_rate_hz });
  }
  player.context.resume();
  stopListening();
  player.volume = player.context.createGain();
  player.volume.connect(player.context.destination);
  player.due = 0;
  live.isListening = true;
  show();
}

// What is scheduled already goes silent with the volume it goes through.
export function stopListening() {
  player.volume?.disconnect();
  player.volume = null;
  player.heardAt = -Infinity;
  live.isListening = false;
  show();
}

export function play({ num_samples }, bytes) {
  const { context, volume } = player;
  if (!volume) return;
  const rateHz = context.sampleRate;
  const first = Math.ceil(context.currentTime * rateHz);
  if (player.due > first + MOST_S * rateHz) return;
  const buffer = context.createBuffer(1, num_samples, rateHz);
  const samples = buffer.getChannelData(0), data = new DataView(bytes);
  for (let i = 0; i < num_samples; i++) samples[i] = data.getInt16(2 * i, true) / 32767;
  if (samples.some((sample) => sample !== 0)) player.heardAt = performance.now();
  if (player.due < first) {
    player.due = first + Math.round(LEAD_S * rateHz);
    for (let i = 0; i < Math.min(FADE, num_samples); i++) samples[i] *= i / FADE;
  }
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(volume);
  source.start(player.due / rateHz);
  player.due += num_samples;
}

export function showListening() {
  const { spot, isListening } = live, stream = live.counters?.stream ?? {};
  byId("listen").setAttribute("aria-pressed", isListening);
  byId("listen").querySelector("span").textContent = isListening ? "Silence" : "Listen";
  let text = "Click a thing to hear it";
  if (spot) {
    const place = spot === "peak" ? "the loudest place" : `${Math.floor(spot[0] * (live.picture?.width ?? 0))}, ${Math.floor(spot[1] * (live.picture?.height ?? 0))}`;
    const isHeard = performance.now() - player.heardAt < 700;
    const late = stream.separation_latency_s ? `, ${stream.separation_latency_s.toFixed(1)} s behind` : "";
    text = isListening ? `Hearing ${place}: ${isHeard ? `sound${late}` : "silence"}` : `Somebody hears ${place}; muted here`;
  }
  if (byId("listening").textContent !== text) byId("listening").textContent = text;
}
