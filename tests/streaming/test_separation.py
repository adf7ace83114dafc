"""The sound of a place in a stream: what comes out, when, and that nothing depends on chunks."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.config.streaming import StreamingConfig
from av_grounding.grounder import Grounder
from av_grounding.image import ResizeTransform
from av_grounding.streaming.offline import mask_sound
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.places import (
    NothingHeard,
    at_box,
    at_mask,
    at_peak,
    at_point,
    peak_area,
)
from av_grounding.streaming.separation import MaskedSound
from av_grounding.types import HeadAnswer, SeparationSpec
from tests.helpers.masking_backend import HOP, IMAGE, RATE_HZ, WINDOW, MaskingBackend, noise
from tests.helpers.tiny_backend import TinyBackend

CONFIG = StreamingConfig(silence_s=0.5)


def played(backend, waveform, chunk=800, place="peak", frame_s=0.1, ahead=False, ends=False):
    """Everything that comes out, by its stamps, with a frame every `frame_s`."""
    stream = GroundingStream(backend, CONFIG)
    latency_s = stream.separate(place)
    pieces, late_s, at = [], [], 0
    for number in range(1, round(len(waveform) / RATE_HZ / frame_s) + 1):
        now = number * frame_s
        until = len(waveform) if ahead else min(round(now * RATE_HZ), len(waveform))
        while at < until:
            piece = waveform[at : min(at + chunk, until)]
            stream.push_audio(piece, round(at / RATE_HZ * NS_PER_S), RATE_HZ)
            at += len(piece)
        stream.push_frame(IMAGE, round(now * NS_PER_S))
        while (one := stream.separated()) is not None:
            pieces.append(one)
            end_s = one.stamp_ns / NS_PER_S + len(one.samples) / RATE_HZ
            late_s.append(now - end_s)
    if ends:
        if at < len(waveform):
            stream.push_audio(waveform[at:], round(at / RATE_HZ * NS_PER_S), RATE_HZ)
        stream.end_sound()
        while (one := stream.separated()) is not None:
            pieces.append(one)
    return pieces, latency_s, late_s


def joined(pieces):
    assert pieces[0].stamp_ns == 0
    for one, other in pairwise(pieces):
        gap = other.stamp_ns - one.stamp_ns - len(one.samples) / RATE_HZ * NS_PER_S
        assert abs(gap) < 1e3  # a microsecond: nothing is left out
    return np.concatenate([one.samples for one in pieces])


@pytest.mark.parametrize("lookahead_s", [None, 0.32, 0.0])
def test_a_mask_of_ones_gives_the_input(lookahead_s):
    spec, waveform = MaskingBackend().spec, noise(4.0)
    ones = np.ones((513, 50), np.float32)
    masked = MaskedSound(spec, HOP, lookahead_s=lookahead_s)
    padded = np.concatenate([np.zeros(WINDOW, np.float32), waveform])
    pieces, end = [], 0
    for start in range(HOP, len(waveform) + 1, HOP):
        first, samples = masked.add_window(padded[start : start + WINDOW], ones)
        assert first == end
        end += samples.size
        assert start - end <= (masked.latency_s * RATE_HZ) - HOP
        pieces.append(samples)
    first, rest = masked.finish()
    assert first == end
    np.testing.assert_allclose(np.concatenate([*pieces, rest]), waveform, atol=1e-6)


def test_a_stream_masked_by_ones_is_its_input():
    waveform = noise(3.0)
    out = joined(played(MaskingBackend(1.0), waveform)[0])
    assert len(out) > 2.2 * RATE_HZ
    np.testing.assert_allclose(out, waveform[: len(out)], atol=1e-6)


@pytest.mark.parametrize(("chunk", "ahead"), [(37, False), (4801, False), (800, True)])
def test_chunks_change_nothing(chunk, ahead):
    waveform = noise(2.4)
    plain, other = (
        joined(played(MaskingBackend(), waveform, **how)[0])
        for how in ({}, {"chunk": chunk, "ahead": ahead})
    )
    num = min(len(plain), len(other))
    assert num > RATE_HZ
    assert plain[:num].tobytes() == other[:num].tobytes()


def test_a_replay_gives_the_same_bytes():
    waveform = noise(2.4)
    one, other = (joined(played(MaskingBackend(), waveform)[0]) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_a_stream_equals_the_clip_on_the_same_windows():
    waveform, point = noise(3.0), (20.0, 10.0)
    backend = MaskingBackend()
    streamed = joined(played(backend, waveform, place=point)[0])
    tokens = backend.encode_image(IMAGE)
    weights = at_point(*point, IMAGE.shape[:2], backend.grid(tokens))
    whole = mask_sound(
        backend, tokens, waveform, weights, HOP, CONFIG.min_context_weight, lookahead_s=0.32
    )
    np.testing.assert_allclose(streamed, whole[: len(streamed)], atol=1e-6)
    assert np.abs(streamed - waveform[: len(streamed)]).max() > 0.01


@pytest.mark.parametrize(
    ("seconds", "chunk"), [(3.0, 800), (1.97, 333), (1.41, 4801), (0.5, 8000)]
)
def test_a_stream_that_has_ended_equals_the_clip_to_its_last_sample(seconds, chunk):
    waveform, point = noise(seconds), (20.0, 10.0)
    backend = MaskingBackend()
    streamed = joined(played(backend, waveform, chunk, place=point, ends=True)[0])
    tokens = backend.encode_image(IMAGE)
    weights = at_point(*point, IMAGE.shape[:2], backend.grid(tokens))
    whole = mask_sound(
        backend, tokens, waveform, weights, HOP, CONFIG.min_context_weight, lookahead_s=0.32
    )
    assert streamed.size == whole.size == waveform.size
    np.testing.assert_allclose(streamed, whole, atol=1e-6)
    tail = slice(-round(0.3 * RATE_HZ), None)
    assert np.abs(streamed[tail] - waveform[tail]).max() > 0.01


def test_frames_after_the_sound_do_not_fade_its_end():
    waveform, stream = noise(2.3), GroundingStream(MaskingBackend(1.0), CONFIG)
    stream.separate((20.0, 10.0))
    stream.push_audio(waveform, 0, RATE_HZ)
    for number in range(1, 60):
        last = stream.push_frame(IMAGE, number * NS_PER_S // 10)
    assert not last.sound.any()  # gated long since
    stream.end_sound()
    out = stream.separated().samples
    np.testing.assert_allclose(out, waveform, atol=1e-6)
    stream.end_sound()
    assert stream.separated() is None


def test_sound_after_the_end_begins_anew():
    stream = GroundingStream(MaskingBackend(1.0), CONFIG)
    stream.separate((20.0, 10.0))
    for start_s in (0, 1):
        waveform = noise(1.0, seed=start_s)
        stream.push_audio(waveform, start_s * NS_PER_S, RATE_HZ)
        stream.push_frame(IMAGE, (start_s + 1) * NS_PER_S)
        stream.end_sound()
        one = stream.separated()
        assert one.stamp_ns == start_s * NS_PER_S
        np.testing.assert_allclose(one.samples, waveform, atol=1e-6)
        assert stream.separated() is None


def test_nothing_comes_before_its_time_or_after_its_latency():
    _, latency_s, late_s = played(MaskingBackend(), noise(4.0), frame_s=HOP / RATE_HZ)
    assert latency_s == pytest.approx(0.32 + 0.022 + 0.2)
    # With a frame at each hop; the hop itself is waited for before a frame knows its sound.
    assert min(late_s) >= latency_s - HOP / RATE_HZ - 0.05
    assert max(late_s) <= latency_s + HOP / RATE_HZ


def test_while_gated_there_is_silence_and_never_the_mixture():
    hiss = 1e-5 * noise(6.0)
    waveform = hiss + np.concatenate([noise(2.0), np.zeros(4 * RATE_HZ, "f")])
    out = joined(played(MaskingBackend(1.0), waveform)[0])
    assert np.abs(out[:RATE_HZ]).max() > 0.1
    quiet = out[round(4.5 * RATE_HZ) :]
    assert quiet.size > RATE_HZ // 2
    assert not quiet.any()


def test_dropped_hops_are_counted_and_left_out():
    backend = MaskingBackend(1.0)
    stream = GroundingStream(backend, CONFIG)
    stream.separate("peak")
    waveform = noise(1.0)
    for second in range(4):
        if second == 2:
            stream.reset()
        stream.push_audio(waveform, second * NS_PER_S, RATE_HZ)
        stream.push_frame(IMAGE, (second + 1) * NS_PER_S)
    assert stream.stats["num_separation_drops"] == 0
    starts = []
    while (one := stream.separated()) is not None:
        starts.append(one.stamp_ns)
    assert starts == [2 * NS_PER_S]


def test_a_model_without_a_separator_says_so():
    stream = GroundingStream(TinyBackend(), CONFIG)
    with pytest.raises(ValueError, match="does not separate sounds: expected a bundle with"):
        stream.separate("peak")
    with pytest.raises(ValueError, match="does not separate"):
        Grounder(TinyBackend()).separate(IMAGE, noise(1.0), RATE_HZ)
    assert stream.separated() is None


def test_a_backend_that_cannot_separate_says_so():
    backend = TinyBackend(heads=("sound",))
    backend.spec = replace(backend.spec, separation=SeparationSpec(1024, 320))
    with pytest.raises(ValueError, match="backend 'tiny' does not separate sounds: load the"):
        Grounder(backend).separate(IMAGE, noise(1.0), RATE_HZ, point=(3, 3))


@pytest.mark.parametrize(
    ("hop", "lookahead_s", "match"),
    [(1000, 0.3, "expected multiples of the 320"), (HOP, -0.1, "lookahead of -0.1 s")],
)
def test_steps_that_do_not_fit_are_refused(hop, lookahead_s, match):
    with pytest.raises(ValueError, match=match):
        MaskedSound(MaskingBackend().spec, hop, lookahead_s=lookahead_s)


def test_a_clip_and_what_is_left_add_up():
    rng = np.random.default_rng(1)
    grounder = Grounder(MaskingBackend())
    for rate_hz, shape in ((44_100, (44_100, 2)), (8_000, (6_001,)), (16_000, (500,))):
        clip = (0.1 * rng.standard_normal(shape)).astype(np.float32)
        heard = grounder.separate(IMAGE, clip, rate_hz, point=(3, 3))
        mono = clip if clip.ndim == 1 else clip.mean(axis=1)
        assert heard.separated.shape == mono.shape
        assert heard.sample_rate_hz == rate_hz
        np.testing.assert_allclose(heard.separated + heard.residual, mono, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ({"point": (48, 3)}, r"point 48,3 lies off the picture of 48x32 pixels: expected x"),
        ({"box": (5, 5, 5, 9)}, "expected left < right"),
        ({"box": (0, 0, 49, 9)}, "within the picture"),
        ({"mask": np.ones((3, 3))}, "mask of 3x3 pixels on a picture of 48x32"),
        ({"mask": np.zeros((32, 48))}, "the mask marks nothing"),
        ({"point": (1, 1), "box": (0, 0, 9, 9)}, "several places at once"),
    ],
)
def test_places_that_are_none_are_refused(place, match):
    with pytest.raises(ValueError, match=match):
        Grounder(MaskingBackend()).separate(IMAGE, noise(1.0), RATE_HZ, **place)


def test_silence_has_no_peak_and_a_point_of_it_is_silent():
    grounder = Grounder(MaskingBackend(1.0))
    with pytest.raises(ValueError, match="nothing is heard in the clip"):
        grounder.separate(IMAGE, np.zeros(RATE_HZ), RATE_HZ)
    silent = grounder.separate(IMAGE, np.zeros(RATE_HZ), RATE_HZ, point=(3, 3))
    assert not silent.separated.any()
    with pytest.raises(ValueError, match="holds no samples"):
        grounder.separate(IMAGE, np.zeros(0), RATE_HZ)


def test_places_are_the_cells_that_they_cover():
    size, grid = (32, 48), (4, 6)
    assert at_point(0, 0, size, grid).reshape(grid)[0, 0] == 1.0
    assert at_point(0, 0, size, grid).reshape(grid)[3, 5] == 0.0
    np.testing.assert_allclose(
        at_box(8, 8, 24, 12, size, grid).reshape(grid)[1], [0, 32, 32, 0, 0, 0]
    )
    assert at_box(8, 8, 24, 12, size, grid).sum() == 64
    mask = np.zeros(size)
    mask[8:12, 8:24] = 1
    np.testing.assert_allclose(at_mask(mask, size, grid) * 64, at_box(8, 8, 24, 12, size, grid))


def test_a_peak_is_attention_to_where_the_heatmap_is_high():
    logits = np.array([[[0.0, 4.0], [0.0, 0.0]]], np.float32)
    weights = at_peak(HeadAnswer(logits), scale=4.0)
    assert weights[1] == pytest.approx(1.0 / (1.0 + 3.0 * np.exp(-15.0)), rel=1e-6)
    silent = HeadAnswer(np.zeros((0, 2, 2), np.float32))
    with pytest.raises(NothingHeard, match="no peak"):
        at_peak(silent, scale=4.0)
    with pytest.raises(NothingHeard, match="no peak"):
        peak_area(silent, IMAGE.shape[:2])


class LookingBackend(MaskingBackend):
    """Looks at places alone; keeps what it was shown of them and of whole pictures."""

    def __init__(self):
        super().__init__()
        self.spec = replace(self.spec, separation=SeparationSpec(1024, 320, 16))
        self.shown = []

    def encode_image(self, image):
        self.shown.append(image)
        return super().encode_image(image)


@pytest.mark.parametrize(
    ("place", "rows", "columns"),
    [
        ({"mask": np.s_[8:20, 30:42]}, slice(8, 20), slice(30, 42)),
        ({"box": (30.0, 8.0, 41.5, 19.2)}, slice(8, 20), slice(30, 42)),
        ({"point": (35, 13)}, slice(10, 17), slice(32, 39)),
    ],
)
def test_a_place_that_is_looked_at_alone_owes_nothing_to_its_surroundings(place, rows, columns):
    if "mask" in place:
        outline = np.zeros((32, 48), bool)
        outline[place["mask"]] = True
        place = {"mask": outline}
    backend = LookingBackend()
    heard = Grounder(backend).separate(IMAGE, noise(1.0), RATE_HZ, **place)
    (alone,) = backend.shown
    assert alone.shape == (16, 16, 3)
    # What it says was looked at is what it looked at, to the pixel.
    expected = np.zeros((32, 48), np.float32)
    expected[rows, columns] = 1.0
    np.testing.assert_array_equal(heard.place, expected)
    expected = ResizeTransform.fit(*IMAGE[rows, columns].shape[:2], 16, 8)
    np.testing.assert_array_equal(alone, expected.apply(IMAGE[rows, columns]))
    assert all((maps == 1.0).all() for maps in backend.asked)


def test_a_picture_is_encoded_once_to_find_its_peak_and_to_separate_it():
    backend = MaskingBackend()
    heard = Grounder(backend).separate(IMAGE, noise(1.0), RATE_HZ)
    assert backend.num_images == 1
    expected = Grounder(MaskingBackend()).ground(IMAGE, noise(1.0), RATE_HZ)
    np.testing.assert_array_equal(heard.grounding.sound, expected.sound)


def test_live_a_place_is_looked_at_once_a_frame_whose_sound_is_masked():
    backend, waveform = LookingBackend(), noise(2.0)
    out = joined(played(backend, waveform, place=(35, 13), frame_s=0.04)[0])
    assert out.any()
    alone = [one for one in backend.shown if one.shape == (16, 16, 3)]
    assert len(backend.shown) - len(alone) == 50
    # A window a hop of 0.2 s; the first frames know none yet.
    assert 8 <= len(alone) <= 10
    np.testing.assert_array_equal(
        alone[0], ResizeTransform.fit(7, 7, 16, 8).apply(IMAGE[10:17, 32:39])
    )


def test_live_the_peak_of_the_heatmap_is_looked_at():
    logits = np.zeros((1, 4, 6), np.float32)
    logits[0, 1, 4] = 3.0
    # Cell 1, 4 of 8 pixels is centred on 11.5, 35.5; a sixth of 32 pixels around it.
    area = peak_area(HeadAnswer(logits), IMAGE.shape[:2])
    assert area == (slice(9, 15), slice(33, 39))


def test_at_its_ends_a_clip_counts_by_windows_that_it_fills():
    """A window that is half silence masks all of its sound away; one that is full lets it pass."""
    spec, waveform = MaskingBackend().spec, noise(3.0)
    masked = MaskedSound(spec, HOP)
    padded = np.concatenate([np.zeros(WINDOW, "f"), waveform, np.zeros(WINDOW, "f")])
    pieces = []
    for number in range(1, 19):
        end, window = number * HOP, padded[number * HOP : number * HOP + WINDOW]
        num_behind = max(0, end - len(waveform))
        is_full = end >= WINDOW and not num_behind
        mask = np.full((513, 50), float(is_full), np.float32)
        pieces.append(masked.add_window(window, mask, num_behind)[1])
    pieces.append(masked.finish()[1])
    out = np.concatenate(pieces)[: len(waveform)]
    # Where all windows count alike a third of it is lost.
    assert np.linalg.norm(out - waveform) < 0.1 * np.linalg.norm(waveform)
