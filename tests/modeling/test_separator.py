"""The unified model of 003: its parts, its bundle, and what its masks can reach at best."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from av_grounding.audio import Stft
from av_grounding.backends import load_backend
from av_grounding.evaluation.benchmarks.synthetic import Key
from av_grounding.evaluation.benchmarks.synthetic_kinds import draw_classes, sum_sounds
from av_grounding.evaluation.metrics.separation import separation_scores
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import spec_from_json, spec_to_json
from av_grounding.modeling.conv_audio import LogMel
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.separator import (
    SeparatingConfig,
    SeparatingEncoder,
    Separator,
    spread_over_bins,
)
from av_grounding.modeling.spectrogram import SpectrogramBackbone
from av_grounding.training.recipes.oneavm import OneAvmConfig, mask_targets
from tests.helpers.small_separator import CONFIG, save_small_separator, separator_spec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_separator(tmp_path_factory.mktemp("separator"))


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_sees_the_spectrum_that_is_masked(is_training):
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(16_000).astype(np.float32)
    log_mel = LogMel(num_mels=64, window=1024, hop=320).train(is_training)
    seen = log_mel.power(torch.from_numpy(waveform)[None])[0].numpy()
    masked = log_mel.mel.numpy() @ np.abs(Stft(1024, 320)(waveform)) ** 2
    np.testing.assert_allclose(seen, masked, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("num_mels", "window"), [(128, 1024), (64, 1024), (128, 400)])
def test_a_mask_on_mel_bands_covers_every_bin(num_mels, window):
    spread = spread_over_bins(LogMel(num_mels=num_mels, window=window).mel)
    np.testing.assert_allclose(spread.sum(dim=0), 1.0, atol=1e-5)


def test_tokens_and_masks_have_the_promised_shapes():
    model = SeparatingEncoder(CONFIG).eval()
    waveform, pixels = torch.randn(2, 40_960), torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        tokens = model.encode_image(pixels)
        assert model.encode_audio(waveform).shape == (2, 1, 8, 8)
        conditions = model.condition(tokens, torch.rand(2, 3, 16 * 24))
        masks = model.masks(waveform, conditions)
    assert masks.shape == (2, 3, 513, 128)
    assert 0.0 <= masks.min() <= masks.max() <= 1.0
    np.testing.assert_allclose(conditions.norm(dim=2), 1.0, atol=1e-5)


def test_a_condition_is_the_mean_of_the_places_tokens():
    model = SeparatingEncoder(CONFIG).eval()
    tokens = torch.nn.functional.normalize(torch.randn(1, 1, 8, 2, 2), dim=2)
    weights = torch.tensor([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]])
    found = model.condition(tokens, weights)[0]
    cells = tokens[0, 0].flatten(1)
    torch.testing.assert_close(found[0], cells[:, 0])
    for row, mean in ((1, cells[:, :2].mean(1)), (2, cells.mean(1))):
        torch.testing.assert_close(found[row], mean / mean.norm())


def test_the_gain_of_a_microphone_changes_no_mask():
    model = SeparatingEncoder(CONFIG).eval()
    waveform, condition = torch.randn(1, 40_960), torch.randn(1, 1, 8)
    with torch.inference_mode():
        loud, quiet = (model.masks(gain * waveform, condition) for gain in (1.0, 0.05))
    torch.testing.assert_close(loud, quiet, atol=1e-3, rtol=0.0)


def test_hard_masks_are_the_soft_ones_at_one_half():
    soft = SeparatingEncoder(CONFIG).eval()
    hard = SeparatingEncoder(SeparatingConfig(**{**vars(CONFIG), "mask": "hard"})).eval()
    hard.load_state_dict(soft.state_dict())
    waveform, condition = torch.randn(1, 40_960), torch.randn(1, 1, 8)
    with torch.inference_mode():
        logits = soft.mask_logits(waveform, condition)
        expected = torch.einsum("mf,bnmt->bnft", soft.spread, (logits > 0).float())
        torch.testing.assert_close(hard.masks(waveform, condition), expected)


@pytest.mark.parametrize(("num_convs", "depth"), [(1, 4), (2, 8), (3, 12), (4, 16)])
def test_depths_are_those_of_figure_5(num_convs, depth):
    separator = Separator((64, 64, 128, 256, 512), 8, num_convs)
    kernels = [m for m in separator.ups.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(kernels) == depth


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mask": "both"}, "mask is 'both'; expected one of soft, hard"),
        ({"heads": ("speech",)}, "expected one named sound"),
        ({"audio_backbone": "conv", "audio_options": {}}, "has no stages"),
        ({"audio_options": {"num_mels": 40}}, "40 mel bands for 4 stages; expected a multiple"),
        ({"separator_options": {"num_convs": 0}}, "num_convs is 0; expected at least 1"),
    ],
)
def test_contradictions_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        SeparatingEncoder(SeparatingConfig(**{**vars(CONFIG), **change}))


def test_a_bundle_comes_back_as_it_was_saved(bundle):
    loaded = load_bundle(bundle)
    assert type(loaded.model) is SeparatingEncoder
    assert loaded.model.config == CONFIG
    assert loaded.spec == separator_spec(loaded.model)
    assert spec_from_json(spec_to_json(loaded.spec)) == loaded.spec


def test_a_spec_without_a_separator_stays_as_it_was_written(bundle):
    plain = separator_spec(load_bundle(bundle).model, separation=None)
    assert "separation" not in spec_to_json(plain)
    assert spec_from_json(spec_to_json(plain)) == plain


@pytest.mark.parametrize("stft", [(1024, 600), (1 << 20, 320), (1024, 0)])
def test_an_stft_that_cannot_be_is_refused(bundle, stft):
    values = spec_to_json(load_bundle(bundle).spec)
    values["separation"] = dict(zip(("stft_window", "stft_hop"), stft, strict=True))
    with pytest.raises(ValueError, match="expected up to 65536 samples"):
        spec_from_json(values)


def test_a_crop_that_cannot_be_is_refused(bundle):
    values = spec_to_json(load_bundle(bundle).spec)
    values["separation"]["crop_px"] = -1
    with pytest.raises(ValueError, match="looks at places of -1 pixels; expected 0 to 8192"):
        spec_from_json(values)


def test_context_is_what_a_token_hears():
    torch.manual_seed(0)
    backbone = SpectrogramBackbone(num_mels=32, widths=(4, 4, 8, 8), dim=8).eval()
    waveform = 0.1 * torch.randn(1, 81_920)
    changed = waveform.clone()
    centre = round(8.5 * backbone.token_samples)
    reach = round(backbone.context_s * 16_000) + backbone.token_samples // 2
    changed[:, : centre - reach] = 0.0
    changed[:, centre + reach :] = 0.0
    with torch.inference_mode():
        tokens = [backbone(one)[0, :, 8] for one in (waveform, changed)]
    torch.testing.assert_close(*tokens)


def test_the_backend_separates_a_window(bundle):
    backend = load_backend(bundle, "torch", "cpu")
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(64, 64, 3), dtype=np.uint8)
    window = 0.1 * rng.standard_normal(40_960).astype(np.float32)
    tokens, maps = backend.encode_image(image), np.eye(2, 256, dtype=np.float32)
    masks = backend.separation_masks(tokens, window, maps)
    assert masks.shape == (2, 513, 128)
    with torch.inference_mode():
        condition = backend.model.condition(tokens[None], torch.from_numpy(maps[None, :1]))
        alone = backend.model.masks(torch.from_numpy(window)[None], condition)
    np.testing.assert_allclose(masks[0], alone[0, 0], atol=1e-5)
    assert np.abs(masks[0] - masks[1]).max() > 0.01


def test_a_dual_encoder_separates_nothing(tmp_path):
    from tests.helpers.small_bundle import save_small_bundle

    backend = load_backend(save_small_bundle(tmp_path), "torch", "cpu")
    assert type(backend.model) is DualEncoder
    window, maps = np.zeros(40_960, np.float32), np.ones((1, 4), np.float32)
    assert backend.separation_masks(None, window, maps) is None


def test_the_literal_target_caps_even_its_oracle():
    """The printed formula's oracle has a SIR far above its SDR and a SAR just above it."""
    log_mel = LogMel(num_mels=128, window=1024, hop=320)
    spread, stft = spread_over_bins(log_mel.mel).numpy(), Stft(1024, 320)
    means = {}
    for target in ("dominant", "literal"):
        rows = []
        for index in range(6):
            key = Key("synthetic-separation", 0)
            total = sum_sounds(key, index, draw_classes(key, index, 2))
            parts = np.stack(total.parts)[:, :40_960]
            masks, _ = mask_targets(
                log_mel.power,
                *torch.from_numpy(parts[:, None]),
                OneAvmConfig(mask_target=target),
            )
            spectrum = stft(parts.sum(axis=0))
            estimates = [
                stft.inverse(spectrum * (spread.T @ mask.numpy()), parts.shape[1])
                for mask in masks
            ]
            if all(np.any(estimate) for estimate in estimates):
                rows.append(separation_scores(parts, np.stack(estimates)))
        means[target] = {
            name: np.mean([getattr(row, name) for row in rows]) for name in ("sdr", "sir", "sar")
        }
    assert means["dominant"]["sdr"] > 11.0
    assert means["literal"]["sdr"] < 5.0
    assert means["literal"]["sir"] > means["literal"]["sdr"] + 6.0
    assert means["literal"]["sar"] < means["literal"]["sdr"] + 2.0


@torch.no_grad()
def test_what_is_heard_decides_between_what_a_place_may_show():
    torch.manual_seed(0)
    config = SeparatingConfig(
        image_options={"dim": 16},
        audio_options={"dim": 16, "num_mels": 32, "widths": [4, 4, 8, 8]},
        head_dim=3,
        evidence=False,
        audio_aligner="prototypes",
        fuses_heard=True,
    )
    model = SeparatingEncoder(config).eval()
    place = torch.tensor([[[0.8, 0.6, 0.0]]])
    features = torch.rand(1, 16, 8)
    heard = model.audio_aligner(features)[0, 0].amax(dim=-1)
    fused = model.fused(place, features)[0, 0]
    assert fused.norm() == pytest.approx(1.0, abs=1e-5)
    assert fused[2] == 0.0
    ratio = 0.8 * (heard[0] + 0.1) / (0.6 * (heard[1] + 0.1))
    assert (fused[0] / fused[1]).item() == pytest.approx(ratio.item(), rel=1e-4)
    waveform = torch.randn(1, 20_480)
    told = model.mask_logits(waveform, place)
    alone = SeparatingEncoder(replace(config, fuses_heard=False)).eval()
    alone.load_state_dict(model.state_dict())
    assert not torch.allclose(told, alone.mask_logits(waveform, place))
    with pytest.raises(ValueError, match="expected prototypes"):
        SeparatingConfig(fuses_heard=True)
