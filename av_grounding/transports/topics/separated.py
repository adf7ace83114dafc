"""The sound of a place as messages, computed while somebody wants it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from av_grounding.config import SeparationSettings
from av_grounding.streaming.separating import Place
from av_grounding.transports.messages import Fields, audio_fields, audio_info_fields
from av_grounding.transports.topics.table import SEPARATED, name_of
from av_grounding.types import AudioChunk, Frame, Stream

logger = logging.getLogger(__name__)
AUDIO, INFO = name_of("audio", SEPARATED), name_of("audio_info", SEPARATED)


def sound_fields(
    chunk: AudioChunk, frame_id: str, is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, Fields]]:
    """(topic, fields) of a piece of the sound; nothing of what nobody wants."""
    if is_wanted(INFO):
        yield INFO, audio_info_fields(chunk)
    if is_wanted(AUDIO):
        yield AUDIO, audio_fields(chunk, frame_id)


class WantedPlace:
    """The place that the settings name, on frames of any size.

    A point off the image is said once, and there is no sound until it lies on it.
    """

    def __init__(self) -> None:
        self._is_told = False

    def on(self, size: tuple[int, int], settings: SeparationSettings) -> Place | None:
        """On frames of (H, W) pixels; None off them."""
        if settings.target == "peak":
            return "peak"
        height, width = size
        point = (settings.x_px, settings.y_px)
        is_on = point[0] < width and point[1] < height
        if not is_on and not self._is_told:
            logger.error(
                "separation.x_px, y_px are %g, %g on images of %dx%d: expected a point of the "
                "image; %s is silent until then",
                *point, width, height, AUDIO,
            )  # fmt: skip
        self._is_told = not is_on
        return point if is_on else None


class SeparatedSound:
    """Asks a stream for the sound that the settings name, and hands it on after every frame.

    To be used by the thread that runs the stream.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._asked: tuple[Place, float] | None = None
        self._place = WantedPlace()
        self.is_heard: Callable[[], bool] = lambda: False
        """Whether somebody beside the topics wants the sound now."""
        self.on_sound: Callable[[AudioChunk], None] = lambda chunk: None
        """Takes it for them."""

    def after(
        self, frame: Frame, settings: SeparationSettings, is_wanted: Callable[[str], bool]
    ) -> Iterator[tuple[str, Fields]]:
        """(topic, fields) of the sound that is done by now; nothing of what nobody wants."""
        wanted = None
        if is_wanted(AUDIO) or is_wanted(INFO) or self.is_heard():
            place = self._place.on(frame.image.shape[:2], settings)
            wanted = None if place is None else (place, settings.lookahead_s)
        if wanted != self._asked:
            self._asked = wanted
            if wanted is None:
                self._stream.separate(None)
            else:
                latency_s = self._stream.separate(wanted[0], lookahead_s=wanted[1])
                logger.info("separating %s, %.2f s late", wanted[0], latency_s)
        while wanted is not None and (chunk := self._stream.separated()) is not None:
            self.on_sound(chunk)
            yield from sound_fields(chunk, frame.frame_id, is_wanted)
