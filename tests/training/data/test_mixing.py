"""Batches of real clips: what they hold, and what augmentation does to them."""

import numpy as np
import pytest
import torch

from av_grounding.training.data import augmentation
from av_grounding.training.data.augmentation import AugmentationConfig
from av_grounding.training.data.clips import Clip, ClipSet
from av_grounding.training.data.mixing import MixedBatches, MixingConfig, mix

RATE_HZ = 16_000
STILL = AugmentationConfig(
    crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, splice=0.0, keep_window=0.0
)


class Tones(ClipSet):
    """Clip i: a plain image of brightness i and a tone of its own, `seconds` long."""

    def __init__(self, num, first_hz, seconds=1.0):
        self.sizes, self.first_hz, self.seconds = [num], first_hz, seconds

    def read(self, index, rng):
        time_s = np.arange(round(self.seconds * RATE_HZ)) / RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * (self.first_hz + 50 * index) * time_s)
        image = np.full((40, 60, 3), 10 + index, np.uint8)
        return Clip(f"{index}", tone.astype(np.float32), RATE_HZ, image)


def batches(layout, config, **options):
    sets = Tones(6, 300, **options), Tones(6, 2000, **options)
    return MixedBatches(*sets, config, 3, layout=layout, image_px=32)


def strongest_hz(clip):
    return np.abs(np.fft.rfft(clip.numpy())).argmax() * RATE_HZ / len(clip)


def test_triplets_hold_two_clips_their_images_and_their_sum():
    config = MixingConfig(batch_size=3, clip_s=1.0, augmentation=STILL)
    batch = batches("triplets", config)[0]
    assert batch["sound_pixels"].shape == batch["speech_pixels"].shape == (3, 3, 32, 32)
    assert batch["sound_pixels"].dtype == torch.uint8
    torch.testing.assert_close(batch["mixture"], batch["sound"] + batch["speech"])
    for kind, first_hz in (("sound", 300), ("speech", 2000)):
        for clip, pixels in zip(batch[kind], batch[f"{kind}_pixels"], strict=True):
            assert strongest_hz(clip) == first_hz + 50 * (int(pixels[0, 0, 0]) - 10)
        assert not batch[f"{kind}_silent"].any()
        assert not batch[f"{kind}_foreign"].any()
        assert batch[f"{kind}_foreign"].shape == (3, 50)


def test_pairs_are_half_sound_and_half_speech():
    config = MixingConfig(batch_size=4, clip_s=1.0, augmentation=STILL)
    batch = batches("pairs", config)[1]
    assert [strongest_hz(clip) < 1000 for clip in batch["audio"]] == [True, True, False, False]
    assert batch["source"].tolist() == [0, 0, 1, 1]
    assert set(batch) == {"pixels", "audio", "silent", "foreign", "source"}


def test_a_batch_depends_on_seed_and_number_alone_and_an_epoch_has_every_clip():
    config = MixingConfig(batch_size=2, clip_s=1.0)
    first, again = (batches("triplets", config) for _ in range(2))
    assert all(torch.equal(first[4][key], again[4][key]) for key in first[4])
    still = MixingConfig(batch_size=2, clip_s=1.0, augmentation=STILL)
    shown = [batches("triplets", still)[n]["sound_pixels"][:, 0, 0, 0] for n in range(3)]
    assert sorted(torch.cat(shown).tolist()) == [10, 11, 12, 13, 14, 15]


def test_short_clips_are_padded_with_silence_and_long_ones_cut():
    config = MixingConfig(batch_size=2, clip_s=1.0, augmentation=STILL)
    batch = batches("triplets", config, seconds=0.5)[0]
    assert batch["sound"].shape == (2, RATE_HZ)
    assert not batch["sound"][:, RATE_HZ // 2 :].any()
    assert batch["sound_silent"].tolist() == [[0.0] * 25 + [1.0] * 25] * 2
    assert batches("triplets", config, seconds=1.7)[0]["sound"].shape == (2, RATE_HZ)


def test_spliced_pieces_are_foreign_and_never_in_the_mixture():
    spliced = AugmentationConfig(
        crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, splice=1.0, keep_window=0.0,
        splice_s=(0.3, 0.4),
    )  # fmt: skip
    batch = batches("triplets", MixingConfig(batch_size=3, clip_s=1.0, augmentation=spliced))[0]
    plain = batches("triplets", MixingConfig(batch_size=3, clip_s=1.0, augmentation=STILL))[0]
    for i in range(3):
        changed = (batch["sound"][i] != plain["sound"][i]).float().unflatten(0, (50, -1)).mean(1)
        foreign = batch["sound_foreign"][i]
        assert foreign.max() == 1.0
        assert 10 <= (foreign > 0).sum() <= 22
        assert not changed[foreign == 0].any()
        assert (changed[foreign == 1.0] > 0.9).all()
    mixed = batch["mixture"] - plain["speech"]
    torch.testing.assert_close(mixed, plain["sound"], atol=1e-4, rtol=1e-3)


def test_a_kept_window_is_all_that_is_heard():
    config = AugmentationConfig(splice=0.0, keep_window=1.0)
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(20):
        clip, silent, foreign = augmentation.augment_clip(
            np.ones(1000, np.float32), np.zeros(1000, np.float32), np.zeros(10, np.float32),
            config, rng,
        )  # fmt: skip
        np.testing.assert_allclose(silent, 1 - clip.reshape(10, 100).mean(axis=1), atol=1e-6)
        assert np.abs(np.diff(clip)).sum() <= 2
        assert not foreign.any()
        lengths.add(int(clip.sum()))
    assert min(lengths) >= 100
    assert len(lengths) > 10


def test_mixtures_have_the_asked_level():
    torch.manual_seed(0)
    sound, speech = torch.randn(3, 1000), 0.1 * torch.randn(3, 1000)
    speech[2] = 0.0
    ratio = torch.tensor([6.0, -6.0, 3.0])
    found = mix(sound, speech, ratio) - speech
    level = 20 * torch.log10(found.square().mean(1).sqrt() / speech.square().mean(1).sqrt())
    torch.testing.assert_close(level[:2], ratio[:2], atol=1e-3, rtol=1e-3)
    assert torch.equal(found[2], sound[2])


def test_images_are_cropped_flipped_and_coloured():
    rng = np.random.default_rng(0)
    ramp = np.tile(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (40, 1, 3))
    crop = AugmentationConfig(crop_scale=(0.1, 0.5), flip=0.0, jitter=0.0, grayscale=0.0)
    spans = []
    for _ in range(20):
        image = augmentation.augment_image(ramp, 32, crop, rng)
        assert image.shape == (32, 32, 3)
        spans.append(int(image[0, -1, 0]) - int(image[0, 0, 0]))
    assert min(spans) > 20
    assert max(spans) - min(spans) > 30
    flipped = augmentation.augment_image(ramp, 32, AugmentationConfig(
        crop_scale=(1.0, 1.0), flip=1.0, jitter=0.0, grayscale=0.0), rng)  # fmt: skip
    assert flipped[0, 0, 0] > flipped[0, -1, 0]
    colours = np.zeros((8, 8, 3), np.uint8) + np.uint8([200, 60, 20])
    grey = augmentation.augment_image(colours, 8, AugmentationConfig(
        crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=1.0), rng)  # fmt: skip
    assert np.ptp(grey.astype(int), axis=2).max() == 0
    jittered = [augmentation.jitter_colour(colours, 0.2, rng)[0, 0].tolist() for _ in range(5)]
    assert len({tuple(colour) for colour in jittered}) == 5
    same = augmentation.jitter_colour(colours, 0.0, rng)
    assert np.abs(same.astype(int) - colours).max() <= 1


def test_settings_and_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="layout is 'trios'; expected one of triplets, pairs"):
        batches("trios", MixingConfig())
    with pytest.raises(ValueError, match="batch_size is 5; expected an even number"):
        batches("pairs", MixingConfig(batch_size=5))
    with pytest.raises(ValueError, match="sound: 6 clips for batches of 9"):
        batches("triplets", MixingConfig(batch_size=9))
