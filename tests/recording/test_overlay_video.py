"""The overlay video: picture and sound in step, any size, and a file that was cut."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from av_grounding.image import letterbox
from av_grounding.recording.overlay_video import cut_to_complete_fragments, video_size
from av_grounding.recording.recorder import Recorder
from av_grounding.types import AudioChunk, Frame
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


DAY_NS = 86_400 * 10**9


@pytest.mark.parametrize("off_ns", [DAY_NS, -START_NS + 4_000 * 10**9, -DAY_NS, 2**62])
@pytest.mark.parametrize("what", ["a chunk", "a frame", "the first frame", "all sound"])
def test_wrong_stamps_cost_what_carries_them_and_no_time(tmp_path, caplog, what, off_ns):
    """A clock that is set back by NTP, stamps since boot, and whatever fits into 64 bits."""
    recorder = Recorder(tmp_path, 10)
    began_s = time.process_time()
    for index in range(20):
        is_off = index == {"a frame": 12, "the first frame": 0}.get(what)
        shown = frame(index / 10)
        shown = Frame(shown.image, shown.stamp_ns + (off_ns if is_off else 0))
        recorder.write(shown, answer(shown.stamp_ns, value=0.0))
        for part in range(5):
            chunk = beep_chunk(1600 * index + 320 * part, 320, 16_000, 1.5)
            is_off = what == "all sound" or (what == "a chunk" and (index, part) == (5, 0))
            recorder.write_audio(replace(chunk, stamp_ns=chunk.stamp_ns + (off_ns * is_off)))
    recorder.finish({})
    assert time.process_time() - began_s < 5.0
    counts = recorder.describe()
    num_left_out = {"a frame": 1, "the first frame": 1}.get(what, 0)
    assert counts["num_implausible_frames"] == num_left_out
    assert counts["num_video_frames"] == 20 - num_left_out
    assert (tmp_path / "overlay.mp4").stat().st_size < 200_000
    with np.load(tmp_path / "heatmaps.npz") as saved:
        assert len(saved["stamp_ns"]) == 20  # every answer is kept, with the stamp that it has
    track = sound_track(tmp_path / "overlay.mp4")
    if what == "all sound":
        assert counts["num_implausible_chunks"] == 100
        assert not np.abs(track).max(initial=0.0) > 0.1
    else:
        most = {"a chunk": 1, "the first frame": 10}.get(what, 0)
        assert counts["num_implausible_chunks"] <= most
        # Without the first frame's time the others move up by one.
        expected_s = 1.5 - (0.1 if what == "the first frame" else 0.0)
        assert onset_s(track) == pytest.approx(expected_s, abs=0.03)
        assert len(track) / 48_000 == pytest.approx(2.0, abs=0.15)
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == (counts["num_implausible_frames"] > 0) + (
        counts["num_implausible_chunks"] > 0
    )


def test_sound_that_comes_back_is_in_step_and_has_little_to_fill(tmp_path):
    """The microphone is off for ten minutes; frames come every 30 s meanwhile."""
    recorder = Recorder(tmp_path, 1)
    slowest_s = 0.0
    for index in range(21):
        began_s = time.process_time()
        recorder.write(frame(30.0 * index), answer(index, value=0.0))
        if index in (0, 20):
            for first in range(0, 16_000, 320):
                chunk = beep_chunk(first, 320, 16_000, 0.5)
                late_ns = 30 * index * 10**9
                recorder.write_audio(replace(chunk, stamp_ns=chunk.stamp_ns + late_ns))
        slowest_s = max(slowest_s, time.process_time() - began_s)
    recorder.close()
    assert slowest_s < 2.0
    track = sound_track(tmp_path / "overlay.mp4")
    loud_s = np.flatnonzero(np.abs(track) > 0.15) / 48_000
    assert loud_s[0] == pytest.approx(0.5, abs=0.01)
    assert loud_s[loud_s > 10.0][0] == pytest.approx(600.5, abs=0.01)
    assert recorder.describe()["num_implausible_chunks"] == 0


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
