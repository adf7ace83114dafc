"""A rosbag2 as SOURCE: pictures and sound of its topics, paced as live or as fast as asked for.

Our own recordings keep the order in which the model took things in, and played as fast as
possible they give the same answers again: one source hands out frames and sound in that order.
Of other bags every frame gets the sound up to its stamp, as with media files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from av_grounding.audio import NS_PER_S, chunk_duration_ns
from av_grounding.config import AudioSettings
from av_grounding.sources.playback import PlaybackClock
from av_grounding.transports import messages
from av_grounding.transports.bag.choice import ORDER, TopicChoice, first, read_facts
from av_grounding.transports.bag.reader import Bag, BagTopic, RawMessage
from av_grounding.transports.messages import MalformedCounter, MalformedMessage, VideoDecoder
from av_grounding.types import AudioChunk, Frame, Source

logger = logging.getLogger(__name__)

MAX_RATE_HZ = 1000.0
"""A rate beyond this says that the log times say nothing."""
SAME_CLOCK_S = 10.0
"""Stamps within this of the log time are of the clock that the bag was recorded by."""


class BagPlayback:
    """What of a bag is played: its picture and its sound, and the clock that both share.

    `image` and `audio` name topics; by default the only one of a fitting type. `audio` "none"
    leaves the sound out; `settings` say of it what its messages do not. Raises ValueError that
    lists the topics where the choice is not clear.
    """

    def __init__(
        self,
        bag: Bag,
        image: str | None = None,
        audio: str | None = None,
        *,
        realtime: bool = True,
        settings: AudioSettings | None = None,
    ) -> None:
        self.bag = bag
        self._settings = settings or AudioSettings()
        self.clock = PlaybackClock(realtime)
        self.malformed = MalformedCounter()
        self.facts = read_facts(bag)
        choice = TopicChoice(bag, self._settings)
        self.image = choice.choose("image", image)
        self.audio = None if audio == "none" else choice.choose("audio", audio)
        self._layout = choice.layout_of(self.audio)
        self._choice = choice
        self._decoder = VideoDecoder()
        self._zero_stamp_ns, self._sound_shift_ns = self._find_clocks()

    @property
    def is_in_order(self) -> bool:
        """Whether the bag keeps the order in which a model took its messages in."""
        return self.facts.get("order") == ORDER

    def sources(self) -> tuple[Source | None, Source | None]:
        """Frames and sound; as fast as possible and in order, the first source gives both."""
        if self.is_in_order and not self.clock.realtime and self.image is not None:
            names = [topic for topic in (self.image, self.audio) if topic is not None]
            return BagSource(self, names, self._frame_rate_hz()), None
        video = audio = None
        if self.image is not None:
            video = BagSource(self, [self.image], self._frame_rate_hz())
        if self.audio is not None:
            audio = BagSource(self, [self.audio])
        return video, audio

    def missing(self, role: str) -> str:
        """Why nothing was chosen: what is there and cannot be read, and what can."""
        return self._choice.missing(role)

    def item(self, message: RawMessage, decoder: VideoDecoder | None = None) -> Frame | AudioChunk:
        """The message with the stamp that the clock gives it; MalformedMessage.

        Of compressed video every message must be handed in, in order and to the same `decoder`.
        """
        try:
            decoded = self.bag.decode(message)
        except ValueError as error:
            raise MalformedMessage("damaged", str(error)) from error
        if self.audio is not None and message.topic == self.audio.name:
            chunk = self._decode_sound(message, decoded)
            return replace(chunk, stamp_ns=self._stamp(chunk.stamp_ns + self._sound_shift_ns))
        frame = messages.decode_picture(decoded, decoder or self._decoder)
        stamp_ns = frame.stamp_ns
        if stamp_ns == 0 and not self.is_in_order:
            # Drivers that set no stamp leave zero; when it was received is the best guess.
            stamp_ns = message.log_ns
        return Frame(frame.image, self._stamp(stamp_ns), frame.frame_id)

    def due_ns(self, message: RawMessage) -> int:
        """When the message is delivered, from the start of the bag on."""
        return message.log_ns - self.bag.start_ns

    def _stamp(self, stamp_ns: int) -> int:
        return self.clock.stamp(
            stamp_ns - self._zero_stamp_ns if self.clock.realtime else stamp_ns
        )

    def _frame_rate_hz(self) -> float:
        assert self.image is not None
        duration_s = self.bag.duration_s
        rate_hz = self.image.num_messages / duration_s if duration_s > 0.0 else 0.0
        return rate_hz if rate_hz <= MAX_RATE_HZ else 0.0

    def _decode_sound(self, message: RawMessage, decoded: Any) -> AudioChunk:
        chunk = messages.decode_audio(
            decoded,
            self._layout,
            received_ns=message.log_ns,
            stamp_reference=self._settings.stamp_reference,
        )
        if chunk.stamp_ns or self.is_in_order:
            return chunk
        # As of pictures; a chunk is handed over once its last sample is in.
        return replace(chunk, stamp_ns=message.log_ns - chunk_duration_ns(chunk))

    def _find_clocks(self) -> tuple[int, int]:
        """The stamp of a picture taken at the start of the bag, and what sound's lack to it.

        Both follow one clock in most bags. Where their stamps lie far apart when they are
        recorded together, the log times say how far.
        """
        behind = [
            None if topic is None else self._behind_ns(topic) for topic in (self.image, self.audio)
        ]
        picture_ns, sound_ns = (0 if ns is None else ns for ns in behind)
        limit_ns = SAME_CLOCK_S * NS_PER_S
        shift_ns = 0 if None in (self.image, self.audio) else sound_ns - picture_ns
        if self.is_in_order or abs(shift_ns) <= limit_ns:  # in order: as the model took it
            shift_ns = 0
        else:
            logger.warning(
                "%s: sound and pictures are stamped by clocks %.1f s apart; they are paired by "
                "the times at which they were recorded: stamp both by one clock",
                self.bag.path,
                abs(shift_ns) / NS_PER_S,
            )
        first_ns = picture_ns if self.image is not None else sound_ns
        return self.bag.start_ns - (first_ns if abs(first_ns) > limit_ns else 0), shift_ns

    def _behind_ns(self, topic: BagTopic) -> int | None:
        """How long before its log time a message is stamped, the median of the first few.

        None where nothing says so: what has no stamp goes by its log time.
        """
        found = []
        for message in first(self.bag, topic.name):
            try:
                decoded = self.bag.decode(message)
                if topic is self.audio:
                    chunk = self._decode_sound(message, decoded)
                    found.append(message.log_ns - chunk.stamp_ns - chunk_duration_ns(chunk))
                    continue
                stamp = getattr(decoded, "timestamp", None) or decoded.header.stamp
                if stamp_ns := messages.stamp_ns_of(stamp):
                    found.append(message.log_ns - stamp_ns)
            except ValueError:
                continue
        return sorted(found)[len(found) // 2] if found else None


class BagSource:
    """Some topics of a bag as a Source; `close` ends the iteration from any thread."""

    def __init__(
        self, playback: BagPlayback, topics: list[BagTopic], frame_rate_hz: float = 0.0
    ) -> None:
        self.duration_s = playback.bag.duration_s
        self.frame_rate_hz = frame_rate_hz
        self.holds_sound = playback.audio in topics
        self._playback = playback
        self._names = [topic.name for topic in topics]
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        playback, decoder = self._playback, VideoDecoder()
        for message in playback.bag.messages(self._names):
            if self._closed.is_set():
                return
            try:
                # Decoded before it is due: what a driver does before it hands over.
                item = playback.item(message, decoder)
            except MalformedMessage as error:
                playback.malformed.add(message.topic, error)
                continue
            if not playback.clock.wait(playback.due_ns(message), self._closed):
                return
            yield item

    def close(self) -> None:
        self._closed.set()


def open_bag(
    path: str | Path,
    image: str | None = None,
    audio: str | None = None,
    *,
    realtime: bool = True,
    settings: AudioSettings | None = None,
) -> tuple[Source, Source | None, BagPlayback]:
    """Sources of a bag's pictures and sound, and the playback both belong to.

    A bag of which only a part can be read is played as far as it goes; one warning says what is
    wrong. ValueError or FileNotFoundError where there is nothing to play.
    """
    bag = Bag(path)
    playback = BagPlayback(bag, image, audio, realtime=realtime, settings=settings)
    if bag.fault:
        logger.warning("%s: %s; playing the %.1f s there are", path, bag.fault, bag.duration_s)
    if playback.image is None:
        raise ValueError(
            f"{path}: no topic with pictures that are read; {playback.missing('image')}"
        )
    if playback.audio is None and audio != "none":
        logger.warning(
            "%s: no sound in it that is read; the heatmaps will be empty; %s",
            path,
            playback.missing("audio"),
        )
    return (*playback.sources(), playback)
