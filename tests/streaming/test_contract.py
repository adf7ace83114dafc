"""Answers that are no single grid: regions, several sources, one token a window, other heads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.offline import ground_clip
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import MAX_LOGIT, HeadAnswer, sigmoid
from tests.helpers import signals
from tests.helpers.other_backends import OneTokenBackend, RegionBackend, SourcesBackend
from tests.helpers.tiny_backend import TinyBackend

IMAGE = signals.picture(96, 120)
WAVE = signals.scene()
VOWEL = signals.vowel(1.5)


def answer_of(backend, wave=VOWEL, config=None):
    stream = GroundingStream(backend, config)
    stream.push_audio(wave, 0, 16_000)
    return stream.push_frame(IMAGE, round(len(wave) / 16_000 * 1e9))


def test_regions_are_pooled_first_and_painted_last():
    backend = RegionBackend()
    answer = answer_of(backend)
    tokens = backend.encode_image(signals_input(backend))
    masks = backend.masks(tokens)
    logits = answer["sound"].logits[0]
    # A pixel that no region covers is as dark as can be; every other has one region's value.
    assert (logits[~masks.any(axis=0)] == -MAX_LOGIT).all()
    assert (~masks.any(axis=0)).any()
    of_region = [logits[mask].min() for mask in masks]
    for y, x in zip(*np.nonzero(masks.any(axis=0)), strict=True):
        assert logits[y, x] == max(of_region[r] for r in range(4) if masks[r, y, x])
    assert len(np.unique(logits)) >= 4
    np.testing.assert_array_equal(answer.sound, sigmoid(logits))


def signals_input(backend):
    from av_grounding.image import ResizeTransform

    fit = ResizeTransform.fit(*IMAGE.shape[:2], backend.spec.short_side_px, backend.spec.patch_px)
    return fit.apply(IMAGE)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num_tokens=st.integers(1, 20))
def test_the_region_map_of_the_pooled_vector_is_the_mean_of_the_tokens_maps(seed, num_tokens):
    rng = np.random.default_rng(seed)
    backend = RegionBackend(seed=seed)
    tokens = backend.encode_image(signals_input(backend))
    vectors = rng.standard_normal((2, num_tokens, 6)).astype(np.float32)
    shares = rng.dirichlet(np.ones(num_tokens)).astype(np.float32)
    pooled = np.einsum("knc,n->kc", vectors, shares)[:, None]
    mean = np.einsum("knr,n->kr", backend.similarity(tokens, vectors), shares)
    np.testing.assert_allclose(backend.similarity(tokens, pooled)[:, 0], mean, atol=1e-5)


@pytest.mark.parametrize("num_sources", [1, 3])
def test_each_source_has_a_map_and_a_name_and_the_heatmap_is_their_maximum(num_sources):
    answer = answer_of(SourcesBackend(num_sources=num_sources))
    for head in ("sound", "speech"):
        maps = answer[head].heatmaps
        assert maps.shape == (num_sources, 4, 5)
        np.testing.assert_array_equal(answer.heatmap(head), maps.max(axis=0))
        assert answer.score(head) == maps.max()
        assert answer[head].labels == tuple(f"source {i + 1}" for i in range(num_sources))
    assert answer["sound"].logits[0].tobytes() != answer["speech"].logits[0].tobytes()


def test_in_silence_no_source_has_a_map():
    answer = answer_of(SourcesBackend(), signals.silence(2.0))
    assert answer["sound"].logits.shape == (0, 4, 5)
    assert answer["sound"].labels == ()
    np.testing.assert_array_equal(answer.sound, np.zeros((4, 5)))
    assert answer.score("sound") == 0.0


@pytest.mark.parametrize("backend", [RegionBackend, SourcesBackend, OneTokenBackend])
def test_the_answer_does_not_depend_on_how_the_sound_was_cut(backend):
    def play(cuts):
        stream, answers = GroundingStream(backend()), []
        pieces = np.split(WAVE, sorted(cuts))
        at = 0
        for piece in pieces:
            stream.push_audio(piece, round(at / 16_000 * 1e9), 16_000)
            at += len(piece)
        for tenth in range(0, round(len(WAVE) / 1600), 3):
            answer = stream.push_frame(IMAGE, tenth * 100_000_000)
            answers.append({head: answer[head].logits.tobytes() for head in answer.heads})
        return answers

    rng = np.random.default_rng(0)
    whole = play([])
    assert len({answer["sound"] for answer in whole}) > 3
    assert play(rng.integers(1, len(WAVE), 7)) == whole


@pytest.mark.parametrize("backend", [RegionBackend, SourcesBackend])
def test_a_clip_is_answered_by_regions_and_sources_too(backend):
    answer = ground_clip(backend(), IMAGE, WAVE, 16_000)
    expected = 3 if backend is SourcesBackend else 1
    assert {head: len(answer[head].logits) for head in answer.heads} == {
        "sound": expected, "speech": expected,
    }  # fmt: skip
    assert answer.sound.any()


@pytest.mark.parametrize("hop_s", [0.1, 0.2, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("offset_s", [None, 1.5])
@pytest.mark.parametrize("floor", [0.0, 1e-3])
def test_one_token_a_window_is_stamped_right_and_stays_lit(hop_s, offset_s, floor):
    floors = {"sound": floor}
    backend = OneTokenBackend(hop_s=hop_s, token_offset_s=offset_s, min_token_norm=floors)
    stream = GroundingStream(backend)
    wave = np.tile(signals.hiss(1.0), 12)
    lit = []
    for hop in range(1, round(11.0 / hop_s)):
        start, stop = round((hop - 1) * hop_s * 16_000), round(hop * hop_s * 16_000)
        stream.push_audio(wave[start:stop], round(start / 16_000 * 1e9), 16_000)
        answer = stream.push_frame(IMAGE, round((stop / 16_000 + 0.02) * 1e9))
        if stop / 16_000 == 10.0:
            slots = stream._hearing.aggregator.read()
            newest = slots.centres[-1] / 16_000
            stated = 10.0 - 3.0 + backend.spec.token_offset_s
            assert abs(newest - stated) <= hop_s / 2 + 1e-9
            assert slots.trust[-1] == 1.0
        lit.append((stop / 16_000, bool(answer.sound.any())))
    first_s = 3.0 - backend.spec.token_offset_s + 2 * hop_s
    assert [at for at, is_lit in lit if at >= first_s and not is_lit] == []
    # And once the sound is over, it is dark again.
    end_ns = round(lit[-1][0] * 1e9)
    stream.push_audio(np.zeros(80_000, np.float32), end_ns, 16_000)
    assert not stream.push_frame(IMAGE, end_ns + 5_000_000_000).sound.any()


def test_a_token_without_an_offset_lies_in_the_middle_of_its_stride():
    spec = TinyBackend().spec
    assert spec.first_token_s == spec.token_stride_s / 2


def test_labels_and_audio_come_one_for_each_map_or_not_at_all():
    logits = np.zeros((2, 3, 3), np.float32)
    assert HeadAnswer(logits, ("cat", "dog")).labels == ("cat", "dog")
    with pytest.raises(ValueError, match="1 labels for 2 maps: expected one each or none"):
        HeadAnswer(logits, ("cat",))


def test_heads_of_any_name_listen_as_they_say():
    answer = answer_of(TinyBackend(heads=("music",)), config=StreamingConfig())
    assert list(answer.heads) == ["music"]
    assert answer.heatmap("music").any()
    with pytest.raises(KeyError, match="no head 'speech': this model has music"):
        answer.speech  # noqa: B018
