"""What an option such as --view, --dds or --record adds to a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_grounding.streaming.runner import Runner
    from av_grounding.streaming.tapping import TappedStream
    from av_grounding.types import Sink


class Addition:
    """A sink, and what it wants of the run beside frames and heatmaps."""

    takes_last_sound = False
    """Whether the run ends with the sound behind its last frame, and not with that frame."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def connect(self, stream: TappedStream, runner: Runner | None) -> None:
        """Called before the first frame; without a runner the run is not paced."""

    def describe(self) -> dict[str, Any]:
        """Entries for report.json, once the run is over."""
        return {}

    def readable(self) -> list[str]:
        """Lines for people, once the run is over."""
        return []
