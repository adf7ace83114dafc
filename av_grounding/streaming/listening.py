"""What a frame at a given moment listens to: audible tokens for sound, an utterance for speech."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from av_grounding.streaming.aggregator import Slots
from av_grounding.streaming.config import StreamingConfig
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.pooling import Evidence, has_evidence, pool, recency_weights
from av_grounding.types import ModelSpec


def listen_now(hearing: Hearing, spec: ModelSpec, config: StreamingConfig, now: int) -> Evidence:
    """Evidence at sample `now`, from the windows merged so far.

    Sound head: every audible token, weighted by recency; nothing once `silence_s` passed without
    an audible frame. Speech head: the tokens of the current or last utterance; nothing once
    `hold_s` passed since its last voiced sample.
    """
    slots = hearing.aggregator.read()
    sound = speech = speech_weights = None
    if slots.trust.size and "sound" in spec.heads:
        sound = _recent_sound(hearing, slots, spec, config, now)
    if slots.trust.size and "speech" in spec.heads:
        since = now - round((config.max_utterance_s + config.hold_s) * spec.sample_rate_hz)
        utterances = hearing.voice.utterances(max(0, since), hearing.merged_end, config.gate_dbfs)
        hold = round(config.hold_s * spec.sample_rate_hz)
        if utterances and now - utterances[-1].stop <= hold:
            stop = utterances[-1].stop
            longest = round(config.max_utterance_s * spec.sample_rate_hz)
            start = max(utterances[-1].start, stop - longest)
            centres = slots.centres
            marked = (centres >= start) & (centres < stop) & has_evidence(slots, spec, "speech")
            if marked.any() and is_fresh(centres[marked], spec, "speech", now, hold):
                speech = slots.vectors[spec.heads.index("speech")][marked]
                speech_weights = slots.trust[marked]
    return Evidence(sound, speech, speech_weights)


def is_fresh(
    centres: Float[np.ndarray, " n"], spec: ModelSpec, head: str, now: int, longest: int
) -> bool:
    """Whether the newest evident token is at most `longest` samples old.

    Level and voice activity go on while anything is heard: under a ringing phone an utterance
    never ends, and under speech no silence begins. A head with an evidence floor knows better.
    """
    if spec.min_token_norm.get(head, 0.0) <= 0.0:
        return True
    return bool(now - centres.max() <= longest)


def _recent_sound(
    hearing: Hearing, slots: Slots, spec: ModelSpec, config: StreamingConfig, now: int
) -> np.ndarray | None:
    silence = round(config.silence_s * spec.sample_rate_hz)
    _, audible = hearing.voice.audible_frames(
        max(0, now - silence), hearing.merged_end, config.gate_dbfs
    )
    if not audible.any():
        return None
    heard = hearing.voice.slots_audible(slots.bounds, hearing.merged_end, config.gate_dbfs)
    decay = recency_weights(slots.centres, now, config.recency_s * spec.sample_rate_hz)
    evident = heard & has_evidence(slots, spec, "sound")
    if not evident.any() or not is_fresh(slots.centres[evident], spec, "sound", now, silence):
        return None
    weights = slots.trust * decay * evident
    return pool(slots.vectors[spec.heads.index("sound")], weights)


def listen_to_clip(
    hearing: Hearing,
    spec: ModelSpec,
    config: StreamingConfig,
    num_samples: int,
    word_span: tuple[int, int] | None = None,
) -> Evidence:
    """Evidence of a whole clip: every audible token alike, and the tokens of every utterance.

    `word_span` in samples replaces voice activity: the tokens whose centre it holds, with weight
    1 (or the nearest token, if it holds none).
    """
    slots = hearing.aggregator.read()
    in_clip = slots.bounds[:-1] < num_samples
    # The frame in which the clip ends counts, filled up with the silence that follows.
    frame = hearing.voice.frame_samples
    stop = -(-num_samples // frame) * frame
    sound = speech = speech_weights = None
    if "sound" in spec.heads:
        heard = hearing.voice.slots_audible(slots.bounds, stop, config.gate_dbfs)
        weights = slots.trust * (in_clip & heard & has_evidence(slots, spec, "sound"))
        sound = pool(slots.vectors[spec.heads.index("sound")], weights)
    if "speech" in spec.heads:
        vectors = slots.vectors[spec.heads.index("speech")]
        trust = slots.trust
        if word_span is not None:
            marked = (slots.centres >= word_span[0]) & (slots.centres < word_span[1])
            if not marked.any():
                marked[np.argmin(np.abs(slots.centres - sum(word_span) / 2))] = True
            trust = (slots.trust > 0.0).astype(np.float32)
        else:
            marked = np.zeros(slots.trust.size, bool)
            for utterance in hearing.voice.utterances(0, stop, config.gate_dbfs):
                marked |= (slots.centres >= utterance.start) & (slots.centres < utterance.stop)
        marked = marked & in_clip & has_evidence(slots, spec, "speech")
        if marked.any():
            speech, speech_weights = vectors[marked], trust[marked]
    return Evidence(sound, speech, speech_weights)
