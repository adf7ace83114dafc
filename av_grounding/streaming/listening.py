"""What each head listens to at a given moment: what was audible lately, or an utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.aggregator import Slots
from av_grounding.streaming.pooling import (
    AudioQuery,
    Queries,
    has_evidence,
    pool,
    recency_weights,
)
from av_grounding.types import HeadSpec, ModelSpec

if TYPE_CHECKING:
    from av_grounding.streaming.hearing import Hearing


def listen_now(hearing: Hearing, spec: ModelSpec, config: StreamingConfig, now: int) -> Queries:
    """What the heads go by at sample `now`, from the windows merged so far.

    "recent": every audible token, weighted by recency; nothing once `silence_s` passed without
    an audible frame. "utterance": the tokens of the current or last utterance; nothing once
    `hold_s` passed since its last voiced sample.
    """
    slots = hearing.aggregator.read()
    if not slots.trust.size:
        return {}
    listen = {"recent": _recent, "utterance": _utterance}
    queries = {
        head.name: listen[head.listens](hearing, slots, spec, head, config, now)
        for head in spec.heads
    }
    return {name: query for name, query in queries.items() if query is not None}


def is_fresh(
    slots: Slots, marked: Bool[np.ndarray, " n"], spec: ModelSpec, head: HeadSpec, since: int
) -> bool:
    """Whether the newest marked token is of sample `since` or later, or as new as one can be.

    Level and voice activity go on while anything is heard: under a ringing phone an utterance
    never ends, and under speech no silence begins. A head with an evidence floor knows better.
    """
    if head.min_token_norm <= 0.0:
        return True
    last_token_s = spec.first_token_s + (spec.num_tokens - 1) * spec.token_stride_s
    # Even the newest token of a window may stand for a moment well before the window's end.
    behind = (spec.window_s - last_token_s) * spec.sample_rate_hz - np.diff(slots.bounds[:2])[0]
    return bool(slots.centres[marked].max() >= since - max(0.0, behind))


def _recent(
    hearing: Hearing,
    slots: Slots,
    spec: ModelSpec,
    head: HeadSpec,
    config: StreamingConfig,
    now: int,
) -> AudioQuery | None:
    silence = round(config.silence_s * spec.sample_rate_hz)
    _, audible = hearing.voice.audible_frames(
        max(0, now - silence), hearing.merged_end, config.gate_dbfs
    )
    if not audible.any():
        return None
    heard = hearing.voice.slots_audible(slots.bounds, hearing.merged_end, config.gate_dbfs)
    decay = recency_weights(slots.centres, now, config.recency_s * spec.sample_rate_hz)
    evident = heard & has_evidence(slots, spec, head)
    if not evident.any() or not is_fresh(slots, evident, spec, head, now - silence):
        return None
    return pool(slots.vectors[spec.heads.index(head)], slots.trust * decay * evident)


def _utterance(
    hearing: Hearing,
    slots: Slots,
    spec: ModelSpec,
    head: HeadSpec,
    config: StreamingConfig,
    now: int,
) -> AudioQuery | None:
    since = now - round((config.max_utterance_s + config.hold_s) * spec.sample_rate_hz)
    utterances = hearing.voice.utterances(max(0, since), hearing.merged_end, config.gate_dbfs)
    hold = round(config.hold_s * spec.sample_rate_hz)
    if not utterances or now - utterances[-1].stop > hold:
        return None
    stop = utterances[-1].stop
    longest = round(config.max_utterance_s * spec.sample_rate_hz)
    start = max(utterances[-1].start, stop - longest)
    centres = slots.centres
    marked = (centres >= start) & (centres < stop) & has_evidence(slots, spec, head)
    if not marked.any() or not is_fresh(slots, marked, spec, head, now - hold):
        return None
    return AudioQuery(slots.vectors[spec.heads.index(head)][marked], slots.trust[marked])


def listen_to_clip(
    hearing: Hearing,
    spec: ModelSpec,
    config: StreamingConfig,
    num_samples: int,
    word_span: tuple[int, int] | None = None,
) -> Queries:
    """What the heads go by in a whole clip: all audible tokens alike, those of all utterances.

    `word_span` in samples replaces voice activity: the tokens whose centre it holds, with weight
    1 (or the nearest token, if it holds none).
    """
    slots = hearing.aggregator.read()
    in_clip = slots.bounds[:-1] < num_samples
    # The frame in which the clip ends counts, filled up with the silence that follows.
    frame = hearing.voice.frame_samples
    stop = -(-num_samples // frame) * frame
    queries: dict[str, AudioQuery] = {}
    for index, head in enumerate(spec.heads):
        evident = in_clip & has_evidence(slots, spec, head)
        vectors, trust = slots.vectors[index], slots.trust
        if head.listens == "recent":
            heard = hearing.voice.slots_audible(slots.bounds, stop, config.gate_dbfs)
            query = pool(vectors, trust * (evident & heard))
            if query is not None:
                queries[head.name] = query
            continue
        if word_span is not None:
            marked = _in_span(slots, word_span)
            trust = (trust > 0.0).astype(np.float32)
        else:
            marked = np.zeros(trust.size, bool)
            for utterance in hearing.voice.utterances(0, stop, config.gate_dbfs):
                marked |= (slots.centres >= utterance.start) & (slots.centres < utterance.stop)
        marked &= evident
        if marked.any():
            queries[head.name] = AudioQuery(vectors[marked], trust[marked])
    return queries


def _in_span(slots: Slots, span: tuple[int, int]) -> np.ndarray:
    marked = (slots.centres >= span[0]) & (slots.centres < span[1])
    if not marked.any():
        marked[np.argmin(np.abs(slots.centres - sum(span) / 2))] = True
    return marked
