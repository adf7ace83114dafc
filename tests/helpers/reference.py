"""The stream's answer computed the long way: every window, the full volume, plain loops."""

from __future__ import annotations

import numpy as np
import webrtcvad

from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform

FRAME = 320


def voice_marks(waveform: np.ndarray, config: StreamingConfig) -> tuple[list[bool], list[bool]]:
    """(voiced, audible) per 20 ms."""
    vad = webrtcvad.Vad(int(config.vad_aggressiveness))
    voiced, audible = [], []
    for start in range(0, waveform.size - FRAME + 1, FRAME):
        frame = waveform[start : start + FRAME].astype(np.float64)
        pcm = (waveform[start : start + FRAME] * 32767).astype(np.int16).tobytes()
        audible.append(10 * np.log10(np.mean(frame**2) + 1e-30) > config.gate_dbfs)
        voiced.append(vad.is_speech(pcm, 16_000) and audible[-1])
    return voiced, audible


def slot_tokens(backend, waveform: np.ndarray, end: int, config: StreamingConfig):
    """Per slot the (k, c) weighted mean and the summed weight, from all windows up to `end`."""
    spec = backend.spec
    window, hop = spec.num_window_samples, round(spec.hop_s * spec.sample_rate_hz)
    stride = window // spec.num_tokens
    sums, weights = {}, {}
    for stop in range(hop, end + 1, hop):
        padded = np.concatenate([np.zeros(window, np.float32), waveform[:stop]])[-window:]
        tokens = backend.encode_audio(padded)
        for i in range(spec.num_tokens):
            centre_s = (i + 0.5) * spec.token_stride_s
            side_s = min(centre_s, spec.window_s - centre_s)
            low = config.min_context_weight
            weight = low + (1 - low) * min(1.0, side_s / spec.context_s)
            slot = (stop - window) // stride + i
            if slot >= 0:
                sums[slot] = sums.get(slot, 0.0) + weight * tokens[:, :, i].astype(np.float64)
                weights[slot] = weights.get(slot, 0.0) + weight
    return {slot: sums[slot] / weights[slot] for slot in sums}, weights


def utterance_of(voiced: list[bool], config: StreamingConfig) -> list[tuple[int, int]]:
    """Utterances in samples, with a state machine instead of array arithmetic."""
    found, start, last, count = [], None, None, 0
    hangover = round(config.hangover_s * 50)
    shortest = int(np.ceil(config.min_utterance_s * 50))
    for i, is_voiced in enumerate([*voiced, *[False] * (hangover + 1)]):
        if is_voiced:
            start = i if start is None else start
            last, count = i, count + 1
        elif start is not None and i - last > hangover:
            if count >= shortest:
                found.append((start * FRAME, (last + 1) * FRAME))
            start, count = None, 0
    return found


def stream_maps(backend, image, waveform, end: int, config: StreamingConfig):
    """Both maps for a frame that has heard `waveform[:end]`, where `end` is a whole hop."""
    spec = backend.spec
    voiced, audible = voice_marks(waveform[:end], config)
    vectors, weights = slot_tokens(backend, waveform, end, config)
    stride = spec.num_window_samples // spec.num_tokens
    height, width = image.shape[:2]
    placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
    image_tokens = backend.encode_image(placement.apply(image))
    maps, total = {}, {"sound": 0.0, "speech": 0.0}
    utterances = utterance_of(voiced, config)
    for slot in sorted(vectors):
        centre = (slot + 0.5) * stride
        volume = backend.similarity(image_tokens, vectors[slot][:, None, :].astype(np.float32))
        trust = min(1.0, weights[slot])
        recent = np.exp((centre - end) / spec.sample_rate_hz / config.recency_s)
        frames = range(slot * stride // FRAME, (slot + 1) * stride // FRAME)
        roles = {"sound": trust * recent * any(audible[f] for f in frames if f < len(audible))}
        if not any(audible[-round(config.silence_s * 50) :]):
            roles["sound"] = 0.0
        roles["speech"] = 0.0
        if utterances and end - utterances[-1][1] <= config.hold_s * spec.sample_rate_hz:
            start, stop = utterances[-1]
            start = max(start, stop - round(config.max_utterance_s * spec.sample_rate_hz))
            logits = spec.head("speech").calibration.scale * volume[1, 0]
            peak = max(0.0, logits.max() - logits.mean()) ** spec.head("speech").salience_power
            roles["speech"] = trust * peak * (start <= centre < stop)
        for head, (name, weight) in enumerate(roles.items()):
            maps[name] = maps.get(name, 0.0) + weight * volume[head, 0]
            total[name] += weight
    rows, columns = image_tokens.shape[2:]
    answer = {}
    for name, weight in total.items():
        if weight > 0.0:
            logits = maps[name] / weight
            answer[name] = spec.head(name).calibration(logits).reshape(rows, columns)
        else:
            answer[name] = np.zeros((rows, columns), np.float32)
    return answer
