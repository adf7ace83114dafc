"""The parameters of the streaming core."""

from __future__ import annotations

from dataclasses import dataclass, fields

MAX_HISTORY_S = 60.0


def _ranges() -> dict[str, tuple[float, float]]:
    return {
        "gate_dbfs": (-120.0, 0.0),
        "silence_s": (0.0, 60.0),
        "recency_s": (0.01, 60.0),
        "vad_aggressiveness": (0, 3),
        "vad_frame_ms": (10, 30),
        "hangover_s": (0.0, 5.0),
        "min_utterance_s": (0.01, 5.0),
        "hold_s": (0.0, 60.0),
        "max_utterance_s": (0.5, 30.0),
        "hop_s": (0.0, 10.0),
        "audio_offset_s": (-5.0, 5.0),
        "min_context_weight": (1e-3, 1.0),
        "lookahead_s": (0.0, 10.0),
        "stamp_guard_s": (0.0, 1.0),
        "gap_tolerance_s": (0.001, 1.0),
        "max_gap_s": (0.1, 60.0),
        "max_backstep_s": (0.1, 60.0),
        "clock_fit_s": (1.0, 600.0),
    }


@dataclass(frozen=True)
class StreamingConfig:
    """How the stream listens, pools and gates. Every value is checked against its range."""

    gate_dbfs: float = -50.0
    """Sound below this level, measured over one voice-activity frame, counts as silence."""
    silence_s: float = 1.0
    """The sound heatmap is zero once nothing was audible for this long."""
    recency_s: float = 0.7
    """Time constant of the exponential with which the sound head forgets."""
    vad_aggressiveness: int = 2
    """webrtcvad mode: 0 takes most for speech, 3 least."""
    vad_frame_ms: int = 20
    """10, 20 or 30: what webrtcvad accepts."""
    hangover_s: float = 0.3
    """Pauses up to this long do not end an utterance."""
    min_utterance_s: float = 0.15
    """An utterance holds at least this much voiced sound; less is taken for noise."""
    hold_s: float = 1.5
    """The speech heatmap stands this long after the last voiced sound, then it is zero."""
    max_utterance_s: float = 4.0
    """Of a longer utterance only the last part is grounded; bounds the cost of a frame."""
    hop_s: float = 0.0
    """Step between audio windows; 0 takes the model's."""
    audio_offset_s: float = 0.0
    """Added to audio stamps: positive where sound arrives with stamps that are too early."""
    min_context_weight: float = 0.1
    """Weight of a token at the very edge of its window, relative to one with full context."""
    lookahead_s: float = 0.0
    """A frame uses sound up to this long after its own stamp, where it has arrived already."""
    stamp_guard_s: float = 0.01
    """A window counts for a frame once it ended this long before it: stamps that jitter by less
    cannot move a frame across the end of a window."""
    gap_tolerance_s: float = 0.06
    """Disagreement of a chunk's stamp with the timeline that is taken for jitter (or 1.5 chunks,
    if that is more, but never over 0.25 s)."""
    max_gap_s: float = 10.0
    """A longer gap starts a new timeline instead of being filled with zeros."""
    max_backstep_s: float = 1.0
    """Stamps that step back by less are an overlap, whose repeated part is left out; by more, a
    new timeline starts."""
    clock_fit_s: float = 30.0
    """How much of the past the fit of stamps to samples looks at."""

    def __post_init__(self) -> None:
        ranges = _ranges()
        for parameter in fields(self):
            low, high = ranges[parameter.name]
            value = getattr(self, parameter.name)
            if not low <= value <= high:
                raise ValueError(f"{parameter.name} {value}: expected {low} to {high}")
        if self.vad_frame_ms not in (10, 20, 30):
            raise ValueError(f"vad_frame_ms {self.vad_frame_ms}: expected 10, 20 or 30")
        if self.hold_s < self.hangover_s:
            raise ValueError(
                f"hold_s {self.hold_s}: expected at least hangover_s ({self.hangover_s}), or the "
                "heatmap would vanish within an utterance"
            )

    @property
    def history_s(self) -> float:
        """How far back tokens and voice marks are kept: as far as any of the weights reaches."""
        # Twelve time constants: what is older would weigh less than 1e-5.
        reach_s = max(self.silence_s, self.max_utterance_s + self.hold_s, 12.0 * self.recency_s)
        return min(reach_s, MAX_HISTORY_S)
