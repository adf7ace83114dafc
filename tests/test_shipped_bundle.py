"""The bundle that ships: it must ground mixtures, and keep the identity the run time rests on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from av_grounding import Grounder
from av_grounding.backends.caching import CachingBackend
from av_grounding.evaluation.metrics.ranking import average_precision
from av_grounding.image import resize_heatmap
from av_grounding.modeling import similarity
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.synthetic.scene import instance_seed
from av_grounding.synthetic.sounds import synthesize_sound
from av_grounding.synthetic.speech import VOICES, synthesize_utterance

BUNDLE = Path(__file__).parents[1] / "models" / "synthetic-small"
NUM_SAMPLES = 24


@pytest.fixture(scope="module")
def grounder():
    return Grounder.load(BUNDLE, backend="torch", device="cpu")


@pytest.fixture(scope="module")
def keeping(grounder):
    """The same, and no picture is encoded twice."""
    return Grounder(CachingBackend(grounder.backend), grounder.config)


@pytest.fixture(scope="module")
def samples():
    world = SyntheticSamples("test", seed=77)
    return [(world[i], world.absent(i)) for i in range(NUM_SAMPLES)]


def test_it_is_small():
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 12 * 2**20


def test_the_pooled_vectors_heatmap_is_the_time_mean_of_the_volume(grounder, samples):
    model, sample = grounder.model, samples[0][0]
    window = sample.mixture[: grounder.spec.num_window_samples]
    with torch.inference_mode():
        pixels = torch.from_numpy(sample.image.copy()).permute(2, 0, 1)[None] / 255.0
        image = model.encode_image(pixels[..., :160, :160])
        audio = model.encode_audio(torch.from_numpy(window.copy())[None])
        weight = torch.rand(1, audio.shape[-1], generator=torch.Generator().manual_seed(0))
        from_volume = similarity.heatmap(similarity.similarity_volume(audio, image), weight)
        from_pooled = model.ground(image, similarity.pool_audio(audio, weight)[:, :, None])
    torch.testing.assert_close(from_pooled[:, :, 0], from_volume, rtol=0, atol=1e-5)


def test_the_model_gives_the_tokens_its_spec_promises(grounder):
    spec = grounder.spec
    tokens = grounder.backend.encode_audio(np.zeros(spec.num_window_samples, np.float32))
    assert tokens.shape[0] == len(spec.heads) == 2
    assert tokens.shape[2] == spec.num_tokens


def test_mixtures_are_separated_onto_the_right_objects(keeping, samples):
    precision, hit, leaked = ({"sound": [], "speech": []} for _ in range(3))
    for sample, _ in samples:
        maps = keeping.ground(sample.image, sample.mixture, 16_000)
        for head, other in (("sound", "speech"), ("speech", "sound")):
            heatmap = resize_heatmap(maps.heatmap(head), *sample.image.shape[:2])
            mask, wrong = getattr(sample, f"mask_{head}"), getattr(sample, f"mask_{other}")
            peak = np.unravel_index(heatmap.argmax(), heatmap.shape)
            precision[head].append(average_precision(heatmap, mask))
            hit[head].append(mask[peak])
            leaked[head].append(wrong[peak])
    # Guards against regression, some points under what the model card states for 500 samples;
    # 24 samples carry a standard error of about four points.
    for head, least_precision, least_hit in (("sound", 0.82, 0.87), ("speech", 0.74, 0.79)):
        assert np.mean(precision[head]) >= least_precision, (head, precision[head])
        assert np.mean(hit[head]) >= least_hit, (head, hit[head])
        assert np.mean(leaked[head]) <= 0.1, (head, leaked[head])


def test_what_is_absent_stays_dark(keeping, samples):
    lit = {"silence": [], "noise": [], "sound": [], "speech": []}
    for sample, absent in samples:
        for case, waveform in absent.items():
            maps = keeping.ground(sample.image, waveform, 16_000)
            lit[case].append(max(maps.sound.max(), maps.speech.max()) >= 0.5)
    assert not any(lit["silence"])
    assert not any(lit["noise"])
    assert np.mean(lit["sound"] + lit["speech"]) <= 0.25


def test_a_quiet_microphone_hears_the_same(grounder, samples):
    sample = samples[1][0]
    loud = grounder.ground(sample.image, sample.sound, 16_000)
    quiet = grounder.ground(sample.image, 0.1 * sample.sound, 16_000)
    np.testing.assert_allclose(quiet.sound, loud.sound, atol=0.05)


def stream_to_the_end(grounder, image, waveform):
    stream = grounder.stream()
    stream.push_audio(waveform, 0, 16_000)
    return stream.push_frame(image, round(len(waveform) / 16_000 * 1e9))


def test_mere_speech_does_not_keep_an_old_sound_alive(grounder, samples):
    """Level and voice activity cannot tell: speech is loud, and a phone counts as a voice."""
    sample = samples[2][0]
    sound = synthesize_sound("phone", instance_seed(np.random.default_rng(1), "test"), 2.0)
    speech = synthesize_utterance(
        "dog", "do you know where the {noun} is", VOICES["test"][1], 3
    ).waveform
    assert stream_to_the_end(grounder, sample.image, sound).sound.any()
    later = np.concatenate([sound, speech, speech])
    assert not stream_to_the_end(grounder, sample.image, later).sound.any()


def test_a_mere_sound_does_not_keep_an_old_word_alive(grounder, samples):
    sample = samples[2][0]
    sound = synthesize_sound("phone", instance_seed(np.random.default_rng(1), "test"), 4.0)
    speech = synthesize_utterance("dog", "look at the {noun}", VOICES["test"][1], 3).waveform
    assert stream_to_the_end(grounder, sample.image, speech).speech.any()
    later = np.concatenate([speech, sound])
    assert not stream_to_the_end(grounder, sample.image, later).speech.any()
