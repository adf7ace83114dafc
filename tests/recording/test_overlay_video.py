"""The overlay video: picture and sound in step, any size, and a file that was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from av_grounding.image import letterbox
from av_grounding.recording.overlay_video import cut_to_complete_fragments, video_size
from av_grounding.recording.recorder import Recorder
from av_grounding.types import AudioChunk
from tests.helpers.recording import (
    RNG,
    START_NS,
    answer,
    beep_chunk,
    frame,
    onset_s,
    pictures,
    sound_track,
    start_child,
)


@pytest.mark.parametrize(
    ("rate_hz", "chunk", "channels"),
    [(48_000, 960, 1), (16_000, 1600, 2), (8_000, 37, 1), (44_100, 882, 6), (96_000, 1, 1)],
)
def test_sound_is_in_step_with_the_picture(tmp_path, rate_hz, chunk, channels):
    """A flash and a beep at 0.5 s; the microphone began 0.3 s before the camera, stamps jitter."""
    if chunk == 1:
        chunk = 480
    recorder = Recorder(tmp_path, 25)
    events = [(t, "frame") for t in (0.0, 0.04, 0.11, 0.2, 0.43, 0.5, 0.54, 0.62, 0.8, 0.9)]
    first_s, num_samples = -0.3, round(1.3 * rate_hz)
    chunks = {}
    for first in range(0, num_samples, chunk):
        part = beep_chunk(first, min(chunk, num_samples - first), rate_hz, 0.5, first_s, channels)
        end_s = first_s + (first + chunk) / rate_hz
        jitter_ns = round(RNG.uniform(-4e6, 4e6))
        chunks[end_s] = AudioChunk(part.samples, part.stamp_ns + jitter_ns, rate_hz)
        events.append((end_s, "audio"))
    for time_s, kind in sorted(events):
        if kind == "audio":
            recorder.write_audio(chunks[time_s])
        else:
            image = np.full((96, 128, 3), 255 if 0.5 <= time_s < 0.7 else 0, np.uint8)
            recorder.write(frame(time_s, image), answer(0, value=0.0))
    recorder.close()
    shown = pictures(tmp_path / "overlay.mp4")
    flash_s = next(t for t, image in shown if image[60:].mean() > 128)
    track = sound_track(tmp_path / "overlay.mp4")
    assert flash_s == pytest.approx(0.5, abs=0.005)
    assert abs(onset_s(track) - flash_s) < 0.01
    spectrum = np.abs(np.fft.rfft(track[25_000:33_000]))
    assert np.argmax(spectrum) * 6 == pytest.approx(1000, abs=12)
    assert np.abs(track[25_000:33_000]).max() == pytest.approx(0.5, abs=0.08)
    assert len(track) / 48_000 == pytest.approx(1.0, abs=0.05)


def record_sound(directory: Path, chunks: list[AudioChunk], seconds: float) -> np.ndarray:
    recorder = Recorder(directory, 1)
    todo = list(chunks)
    for index in range(round(seconds) + 1):
        recorder.write(frame(index), answer(0, value=0.0))
        while todo and todo[0].stamp_ns < START_NS + (index + 1) * 1e9:
            recorder.write_audio(todo.pop(0))
    for chunk in todo:
        recorder.write_audio(chunk)
    recorder.close()
    return sound_track(directory / "overlay.mp4")


def test_gaps_become_silence_and_overlaps_are_cut(tmp_path):
    rate_hz = 16_000
    chunks = [beep_chunk(first, 320, rate_hz, 1.5) for first in range(0, 2 * rate_hz, 320)]
    with_gap = [c for c in chunks if not 0.4 <= (c.stamp_ns - START_NS) / 1e9 < 1.1]
    track = record_sound(tmp_path / "gap", with_gap, 2.0)
    assert onset_s(track) == pytest.approx(1.5, abs=0.01)
    assert len(track) / 48_000 == pytest.approx(2.0, abs=0.05)
    # The first second comes twice.
    track = record_sound(tmp_path / "twice", chunks[:50] + chunks, 2.0)
    assert onset_s(track) == pytest.approx(1.5, abs=0.01)
    assert len(track) / 48_000 == pytest.approx(2.0, abs=0.05)


def test_a_drifting_microphone_stays_in_step(tmp_path):
    """A microphone that is 0.8 % slow would be 80 ms off after 10 s."""
    rate_hz, true_hz = 16_000, 15_872
    chunks = []
    for first in range(0, 10 * true_hz, 320):
        seconds = np.arange(first, first + 320) / true_hz
        tone = 0.5 * np.sin(2 * np.pi * 1000 * seconds) * (seconds >= 9.5)
        stamp_ns = START_NS + round(first / true_hz * 1e9)
        chunks.append(AudioChunk(tone.astype(np.float32), stamp_ns, rate_hz))
    track = record_sound(tmp_path, chunks, 10.0)
    assert onset_s(track) == pytest.approx(9.5, abs=0.035)


def test_the_sample_rate_may_change(tmp_path):
    slow = [beep_chunk(first, 160, 8_000, 0.5) for first in range(0, 8_000, 160)]
    fast = [beep_chunk(first, 960, 48_000, 1.5) for first in range(48_000, 96_000, 960)]
    fast = [AudioChunk(np.stack([c.samples] * 2, 1), c.stamp_ns, 48_000) for c in fast]
    track = record_sound(tmp_path, slow + fast, 2.0)
    assert onset_s(track) == pytest.approx(0.5, abs=0.01)
    assert onset_s(track[48_000:]) == pytest.approx(0.5, abs=0.01)
    assert np.abs(track[36_000:48_000]).max() < 0.02


def test_bad_samples_do_no_harm(tmp_path):
    chunks = [beep_chunk(first, 320, 16_000, 0.5) for first in range(0, 16_000, 320)]
    bad = np.array([np.nan, np.inf, -np.inf, 1e9] * 80, np.float32)
    chunks[5] = AudioChunk(bad, chunks[5].stamp_ns, 16_000)
    chunks[6] = AudioChunk(np.zeros((0, 2), np.float32), chunks[6].stamp_ns, 16_000)
    chunks[7] = AudioChunk(np.full(320, 16_384, np.int16), chunks[7].stamp_ns, 16_000)
    track = record_sound(tmp_path, chunks, 1.0)
    assert np.isfinite(track).all()
    assert onset_s(track[20_000:], 0.15) + 20_000 / 48_000 == pytest.approx(0.5, abs=0.025)


@pytest.mark.parametrize("size", [(1, 1), (97, 131), (1200, 2400), (3, 900)])
def test_any_frame_size(tmp_path, size):
    recorder = Recorder(tmp_path, 25)
    for index in range(2):
        recorder.write(
            frame(index * 0.1, np.full((*size, 3), 150, np.uint8)), answer(0, value=0.0)
        )
    recorder.close()
    (_, image), _ = pictures(tmp_path / "overlay.mp4")
    assert image.shape[:2] == video_size(*size)
    assert max(image.shape) <= 1920
    assert image[image.shape[0] // 2, image.shape[1] // 2].mean() == pytest.approx(150, abs=8)


def test_letterbox_keeps_pixels_and_proportions():
    image = RNG.integers(0, 256, (97, 131, 3)).astype(np.uint8)
    padded = letterbox(image, *video_size(97, 131))
    assert padded.shape == (98, 132, 3)
    np.testing.assert_array_equal(padded[:97, :131], image)
    tall = letterbox(np.full((200, 50, 3), 9, np.uint8), 100, 100)
    columns = np.flatnonzero(tall[50].any(axis=1))
    assert (columns[0], columns[-1]) == (37, 61)


def test_early_sound_is_bounded(tmp_path):
    recorder = Recorder(tmp_path)
    for first in range(0, 30 * 8_000, 8_000):
        recorder.write_audio(beep_chunk(first, 8_000, 8_000, 0.0))
    recorder.write(frame(29.0), answer(0))
    recorder.close()
    assert len(sound_track(tmp_path / "overlay.mp4")) / 48_000 == pytest.approx(1.0, abs=0.05)


def test_a_cut_fragment_is_dropped(tmp_path):
    """Cut anywhere, the file decodes strictly and holds at least the complete seconds."""
    child = start_child(tmp_path)
    assert child.stdout.readline() == "READY\n"
    child.kill()
    child.wait()
    whole = (tmp_path / "overlay.part.mp4").read_bytes()
    second = whole.rindex(b"moof") - 4
    cut = tmp_path / "cut.mp4"
    for end in (second + 30, second - 30, (second + len(whole)) // 2):
        cut.write_bytes(whole[:end])
        cut_to_complete_fragments(cut)
        assert len(pictures(cut)) >= 10
        assert len(cut.read_bytes()) <= end
    cut.write_bytes(whole[:40])
    cut_to_complete_fragments(cut)
    assert cut.read_bytes() == whole[:40]
