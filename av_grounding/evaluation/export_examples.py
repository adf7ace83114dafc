"""Examples for an export from what a robot recorded: pictures, each with the sound before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import NS_PER_S, resample, to_clean_mono
from av_grounding.backends.parity import Examples
from av_grounding.image import ResizeTransform
from av_grounding.types import AudioChunk, EncodedFrame, Frame, ModelSpec

LONGEST_S = 600.0
"""Of a recording, more is not read."""
PICTURE_EVERY_S = 0.5


@dataclass
class ExampleRecording:
    """Pictures in the model's input size with their stamps, and the sound from its first stamp."""

    spec: ModelSpec
    image_size: tuple[int, int]
    """(H, W) that pictures are brought to."""
    pictures: list[tuple[int, UInt8[np.ndarray, "H W 3"]]] = field(default_factory=list)
    chunks: list[Float32[np.ndarray, " s"]] = field(default_factory=list)
    begin_ns: int = 0
    sample_rate_hz: int = 0

    def read(self, items: Iterable[Frame | EncodedFrame | AudioChunk]) -> None:
        """Take in what a source gives, until it ends or for `LONGEST_S`."""
        first_ns: int | None = None
        for item in items:
            first_ns = item.stamp_ns if first_ns is None else first_ns
            if (item.stamp_ns - first_ns) / NS_PER_S > LONGEST_S:
                return
            if isinstance(item, AudioChunk):
                self._hear(item)
            elif not self.pictures or (
                item.stamp_ns - self.pictures[-1][0] >= PICTURE_EVERY_S * NS_PER_S
            ):
                frame = item.decode() if isinstance(item, EncodedFrame) else item
                if frame is not None:
                    picture = ResizeTransform(*frame.image.shape[:2], *self.image_size)
                    self.pictures.append((frame.stamp_ns, picture.apply(frame.image)))

    def _hear(self, chunk: AudioChunk) -> None:
        if not self.chunks:
            self.begin_ns, self.sample_rate_hz = chunk.stamp_ns, chunk.sample_rate_hz
        samples = to_clean_mono(chunk.samples)[0]
        if chunk.sample_rate_hz != self.sample_rate_hz:
            samples = resample(samples, chunk.sample_rate_hz, self.sample_rate_hz)
        self.chunks.append(samples)

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each picture with the window of sound that ends with it; silence before the sound."""
        if not (self.pictures and self.chunks):
            return []
        heard = resample(
            np.concatenate(self.chunks), self.sample_rate_hz, self.spec.sample_rate_hz
        )
        num = self.spec.num_window_samples
        pairs = []
        for stamp_ns, picture in self.pictures:
            end = round((stamp_ns - self.begin_ns) / NS_PER_S * self.spec.sample_rate_hz)
            # What begins with the recording is as good an example with the sound that follows.
            end = min(max(end, num), heard.size)
            window = np.zeros(num, np.float32)
            part = heard[max(0, end - num) : end]
            window[num - part.size :] = part
            pairs.append((picture, window))
        return pairs


def split_examples(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], num: int, what: str
) -> tuple[Examples, Examples]:
    """(calibration, test): up to `num` pairs of each, evenly over all, none in both.

    Raises ValueError where there are fewer than two; `what` names where they were looked for.
    """
    if len(pairs) < 2:
        raise ValueError(
            f"{what} gives {len(pairs)} pictures with sound; expected at least 2, half a second "
            "apart: name a longer recording"
        )
    chosen = np.linspace(0, len(pairs) - 1, min(2 * num, len(pairs))).astype(int)
    halves = [[pairs[index] for index in chosen[first::2]] for first in (0, 1)]
    calibration, test = (
        Examples([image for image, _ in half], [window for _, window in half]) for half in halves
    )
    return calibration, test
