"""What a Grounder answers through the harness: the same maps, unsaturated; streams; noise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import wavfile

from av_grounding.evaluation.benchmark import AudioClip
from av_grounding.evaluation.noise import NoiseBank
from av_grounding.evaluation.prediction import (
    GATED_LOGIT,
    WORD_MARGIN_S,
    GrounderPredictor,
    StreamingOptions,
)
from av_grounding.evaluation.scoring.rows import sigmoid
from av_grounding.grounder import Grounder
from av_grounding.image import ResizeTransform
from av_grounding.types import HeadCalibration
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_separator import save_small_separator


@pytest.fixture(scope="module")
def grounder(tmp_path_factory):
    loaded = Grounder.load(save_small_bundle(tmp_path_factory.mktemp("bundle")))
    calibration = {"sound": HeadCalibration(3.0, -0.5), "speech": HeadCalibration(2.0, 0.1)}
    return loaded.with_spec(loaded.spec.with_heads(calibration=calibration))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).integers(256, size=(64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip():
    samples = 0.1 * np.random.default_rng(1).standard_normal(24_000)
    return AudioClip(samples.astype(np.float32), 16_000)


def test_calibrated_logits_are_the_heatmaps(grounder, picture, clip):
    grids = GrounderPredictor(grounder).ground(picture, clip)
    expected = grounder.ground(picture, clip.waveform, clip.sample_rate_hz)
    for head in ("sound", "speech"):
        assert np.ptp(expected.heatmap(head)) > 0.0
        np.testing.assert_allclose(
            sigmoid(grids.logits[head][0]), expected.heatmap(head), atol=1e-6
        )
    span = (0.5, 0.9)
    timed = GrounderPredictor(grounder).ground(picture, clip, span)
    wide = (span[0] - WORD_MARGIN_S, span[1] + WORD_MARGIN_S)
    expected = grounder.ground(picture, clip.waveform, 16_000, word_span_s=wide)
    np.testing.assert_allclose(sigmoid(timed.logits["speech"][0]), expected.speech, atol=1e-6)


def test_strong_similarities_stay_apart(grounder, picture, clip):
    spec = grounder.spec
    steep = dict.fromkeys(spec.head_names, HeadCalibration(5000.0, 0.0))
    sharp = grounder.with_spec(spec.with_heads(calibration=steep))
    shown = sharp.ground(picture, clip.waveform, 16_000).sound
    logits = GrounderPredictor(sharp).ground(picture, clip).logits["sound"][0]
    assert np.unique(shown).size < np.unique(logits).size == logits.size
    plain = GrounderPredictor(grounder).ground(picture, clip).logits["sound"][0]
    np.testing.assert_allclose(logits / 5000.0, (plain + 0.5) / 3.0, atol=1e-5)


def test_silence_is_gated(grounder, picture):
    for clip in (None, AudioClip(np.zeros(16_000, np.float32), 16_000)):
        grids = GrounderPredictor(grounder).ground(picture, clip)
        assert grids.gated == ("sound", "speech")
        assert np.all(grids.logits["speech"] == GATED_LOGIT)
        assert sigmoid(grids.logits["sound"]).max() < 1e-6


def test_features_give_the_backends_similarities(grounder, picture, clip):
    features = GrounderPredictor(grounder).features(picture, clip)
    spec = grounder.spec
    placement = ResizeTransform.fit(64, 80, spec.short_side_px, spec.patch_px)
    tokens = grounder.backend.encode_image(placement.apply(picture))
    volume = grounder.backend.similarity(tokens, features.tokens)
    expected = np.einsum("kcr,ktc->ktr", features.image, features.tokens)
    np.testing.assert_allclose(volume, expected, atol=1e-5)
    assert features.tokens.shape[1] == pytest.approx(1.5 / spec.token_stride_s, abs=1)


def test_stream_of_one_moment_is_the_streams_own_frame(grounder, picture, clip):
    predictor = GrounderPredictor(grounder, StreamingOptions(hop_s=0.32))
    grids = predictor.ground(picture, clip, None, 1.0)
    stream = grounder.stream(replace(grounder.config, hop_s=0.32))
    stream.push_audio(clip.waveform, 0, 16_000)
    expected = stream.push_frame(picture, 1_000_000_000)
    np.testing.assert_allclose(sigmoid(grids.logits["sound"][0]), expected.sound, atol=1e-6)
    assert predictor.describe()["hop_s"] == 0.32
    whole = GrounderPredictor(grounder).ground(picture, clip)
    assert not np.allclose(whole.logits["sound"], grids.logits["sound"], atol=1e-4)


def test_stream_of_a_whole_clip_is_a_mean_of_frames_and_windows_may_differ(
    grounder, picture, clip
):
    predictor = GrounderPredictor(grounder, StreamingOptions(window_s=1.28))
    assert predictor.describe()["window_s"] == pytest.approx(1.28)
    grids = predictor.ground(picture, clip)
    assert "sound" not in grids.gated
    shown = [predictor.ground(picture, clip, None, 0.25 * n) for n in range(1, 11)]
    lit = [one.logits["sound"] for one in shown if "sound" not in one.gated]
    assert 0 < len(lit) <= 10
    np.testing.assert_allclose(grids.logits["sound"], np.mean(lit, axis=0), atol=1e-4)
    with pytest.raises(ValueError, match="at least the hop"):
        GrounderPredictor(grounder, StreamingOptions(window_s=0.01))


def test_noise_has_the_level_that_was_asked_for(tmp_path, clip):
    rng = np.random.default_rng(2)
    noise = (8000 * rng.standard_normal(8_000)).clip(-32768, 32767).astype(np.int16)
    wavfile.write(tmp_path / "hiss.wav", 8_000, noise)
    (tmp_path / "notes.txt").write_text("not a recording")
    quiet = AudioClip(clip.waveform * np.float32(0.1), 16_000)
    for snr_db in (0.0, 12.0):
        bank = NoiseBank(tmp_path, snr_db)
        noisy = bank.add(quiet, "sample 1")
        added = noisy.waveform - quiet.waveform
        ratio = np.mean(quiet.waveform**2) / np.mean(added**2)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.05)
        np.testing.assert_array_equal(bank.add(quiet, "sample 1").waveform, noisy.waveform)
        assert not np.array_equal(bank.add(quiet, "sample 2").waveform, noisy.waveform)
    loud = NoiseBank(tmp_path, -20.0).add(AudioClip(clip.waveform * 5, 16_000), "sample 1")
    assert np.abs(loud.waveform).max() == pytest.approx(1.0)
    silent = AudioClip(np.zeros(100, np.float32), 16_000)
    assert bank.add(silent, "x") is silent
    assert bank.describe()["num_silent_clips_without_noise"] == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no recording"):
        NoiseBank(tmp_path / "empty", 0.0)
    with pytest.raises(NotADirectoryError, match="no such directory"):
        NoiseBank(tmp_path / "nowhere", 0.0)


def test_a_model_with_vectors_of_wholes_gives_them_of_the_clips_middle(tmp_path):
    grounder = Grounder.load(save_small_separator(tmp_path / "bundle"), backend="torch")
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(60, 80, 3), dtype=np.uint8)
    waveform = 0.1 * rng.standard_normal(60_000).astype(np.float32)
    predictor = GrounderPredictor(grounder)
    found = predictor.features(image, AudioClip(waveform, 16_000)).wholes
    assert [np.linalg.norm(one) for one in found] == pytest.approx([1.0, 1.0], abs=1e-5)
    start = (60_000 - 40_960) // 2
    middle = AudioClip(waveform[start : start + 40_960], 16_000)
    np.testing.assert_array_equal(predictor.features(image, middle).wholes[1], found[1])
    other = predictor.features(image, AudioClip(waveform[:40_960], 16_000)).wholes[1]
    assert not np.array_equal(other, found[1])  # a random model tells little apart
    plain = Grounder.load(save_small_bundle(tmp_path / "plain"), backend="torch")
    assert GrounderPredictor(plain).features(image, middle).wholes is None
