"""The settings of the streaming core, each with the name that it has as a parameter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StrictFloat, model_validator

from av_grounding.config.checking import Integer, Whole, setting, settings

MAX_HISTORY_S = 60.0


@settings
class StreamingConfig:
    """How the stream listens, pools and gates. ValueError for values beyond their ranges."""

    gate_dbfs: StrictFloat = setting(-50.0, range=(-120.0, 0.0), name="gate.min_dbfs", live=True)
    """Sound quieter than this, over one frame of the voice detector, is silence to all heads."""
    silence_s: StrictFloat = setting(1.0, range=(0.0, 60.0), section="sound", live=True)
    """The sound heatmap is zero once nothing was audible for this long."""
    recency_s: StrictFloat = setting(0.7, range=(0.01, 60.0), section="sound", live=True)
    """Time constant of the exponential with which the sound head forgets."""
    vad_aggressiveness: Integer = setting(2, range=(0, 3), section="speech", live=True)
    """Mode of the voice detector (webrtcvad): 0 takes most for speech, 3 least."""
    vad_frame_ms: Annotated[Literal[10, 20, 30], Whole] = setting(20, section="speech", live=True)
    """Milliseconds of sound that the voice detector and the gate judge at a time."""
    hangover_s: StrictFloat = setting(0.3, range=(0.0, 5.0), section="speech", live=True)
    """Pauses up to this long do not end an utterance."""
    min_utterance_s: StrictFloat = setting(0.15, range=(0.01, 5.0), section="speech", live=True)
    """An utterance holds at least this much voiced sound; less is taken for noise."""
    hold_s: StrictFloat = setting(1.5, range=(0.0, 60.0), section="speech", live=True)
    """The speech heatmap stands this long after the last voiced sound, then it is zero."""
    max_utterance_s: StrictFloat = setting(4.0, range=(0.5, 30.0), section="speech", live=True)
    """Of a longer utterance only the last part is grounded; bounds the cost of a frame."""
    # Not live: a hop beyond the model's window is refused where the stream is made.
    hop_s: StrictFloat = setting(0.0, range=(0.0, 10.0), section="audio")
    """Step between audio windows; 0: the model's."""
    audio_offset_s: StrictFloat = setting(
        0.0, range=(-5.0, 5.0), name="sync.offset_ms", scale=1e3, live=True
    )
    """Added to audio stamps: positive where they are too early."""
    min_context_weight: StrictFloat = setting(0.1, range=(1e-3, 1.0), section="audio", live=True)
    """Weight of a token at the edge of its window, relative to one with full context."""
    lookahead_s: StrictFloat = setting(
        0.0, range=(0.0, 10.0), name="sync.lookahead_ms", scale=1e3, live=True
    )
    """Audio up to this long after the frame's stamp may answer it, if it is there already."""
    stamp_guard_s: StrictFloat = setting(0.01, range=(0.0, 1.0), section="sync", live=True)
    """A window counts for a frame once it ended this long before it: stamps that jitter by
    less cannot move a frame across the end of a window."""
    gap_tolerance_s: StrictFloat = setting(0.06, range=(0.001, 1.0), section="sync", live=True)
    """Disagreement of a chunk's stamp with the timeline that is taken for jitter (or 1.5
    chunks, if that is more, but never over 0.25 s)."""
    max_gap_s: StrictFloat = setting(10.0, range=(0.1, 60.0), section="sync", live=True)
    """A longer gap starts a new timeline instead of being filled with zeros."""
    max_backstep_s: StrictFloat = setting(1.0, range=(0.1, 60.0), section="sync", live=True)
    """Stamps that step back by less are an overlap, whose repeated part is left out; by more,
    a new timeline starts."""
    clock_fit_s: StrictFloat = setting(30.0, range=(1.0, 600.0), section="sync", live=True)
    """How much of the past the fit of stamps to samples looks at."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> StreamingConfig:
        for long, short, why in (
            ("hold_s", "hangover_s", "the heatmap would vanish within an utterance"),
            ("max_utterance_s", "min_utterance_s", "no utterance would be long enough"),
            ("max_gap_s", "gap_tolerance_s", "what is taken for jitter would start a timeline"),
        ):
            if getattr(self, long) < getattr(self, short):
                raise ValueError(
                    f"got {long} {getattr(self, long):g}, expected at least {short} "
                    f"({getattr(self, short):g}): {why}"
                )
        return self

    @property
    def history_s(self) -> float:
        """How far back tokens and voice marks are kept: as far as any of the weights reaches."""
        # Twelve time constants: what is older would weigh less than 1e-5.
        reach_s = max(self.silence_s, self.max_utterance_s + self.hold_s, 12.0 * self.recency_s)
        return min(reach_s, MAX_HISTORY_S)
