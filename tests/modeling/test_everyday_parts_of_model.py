"""The everyday bundle's parts: EfficientNet-Lite, the effects trunk, classes and prototypes."""

import pytest
import torch
from torch.nn import functional as F

from av_grounding.modeling.classes import ClassAligner
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.effects_audio import EffectsBackbone, EffectsSpectrogram
from av_grounding.modeling.efficientnet_lite import EfficientNetLiteBackbone, SameConvNorm
from av_grounding.modeling.per_head import AlignerPerHead, TrunkPerHead

SMALL = {"hop": 192, "num_mels": 16, "widths": [4, 4, 4], "dim": 8, "dilations": [1]}
TRUNKS = {"sound": "conv", "sound_options": SMALL, "speech": "conv", "speech_options": SMALL}


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_convolutions_pad_as_tensorflow_does(kernel, stride):
    layer = SameConvNorm(1, 1, kernel, stride, linear=True).eval()
    x = torch.rand(1, 1, 8, 12)
    total = max(kernel - stride, 0)
    before = total // 2
    padded = F.pad(x, (before, total - before, before, total - before))
    expected = F.conv2d(padded, layer[1].weight, stride=stride) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape[2:] == (8 // stride, 12 // stride)


def test_efficientnet_has_a_cell_per_32_pixels_and_its_known_size():
    backbone = EfficientNetLiteBackbone().eval()
    assert backbone(torch.zeros(1, 3, 64, 96)).shape == (1, 1280, 2, 3)
    assert sum(p.numel() for p in backbone.parameters()) == 3_371_008


def test_a_tone_is_loudest_in_the_band_that_holds_it():
    rate_hz = 16_000
    spectrogram = EffectsSpectrogram(rate_hz, 768, 384)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(rate_hz) / rate_hz)[None]
    frames = spectrogram(tone)[0, 0]
    assert frames.shape == (-(-rate_hz // 384) - 1, 96)
    edges = 700 * (
        10 ** (torch.linspace(0, 2595 * torch.log10(torch.tensor(32.5)), 98) / 2595) - 1
    )
    assert edges[frames[10].argmax() + 1].item() == pytest.approx(1000, abs=40)
    torch.testing.assert_close(spectrogram(0.1 * tone)[0, 0], frames, rtol=0, atol=1e-4)


def test_tokens_of_the_effects_trunk_repeat_on_the_finer_grid():
    trunk = EffectsBackbone().eval()
    tokens = trunk(torch.rand(1, 4 * 3072))
    assert trunk.token_samples == 1536
    assert tokens.shape == (1, 512, 8)
    torch.testing.assert_close(tokens[..., ::2], tokens[..., 1::2])


def test_trunks_need_one_grid_in_time():
    with pytest.raises(ValueError, match="expected one stride for all trunks"):
        TrunkPerHead(sound="conv", sound_options={**SMALL, "hop": 160}, speech="effects")
    with pytest.raises(ValueError, match="trunks conc; expected conv or effects"):
        TrunkPerHead(sound="conc")


def test_each_head_sees_its_own_trunk_alone():
    trunk = TrunkPerHead(**TRUNKS).eval()
    aligner = AlignerPerHead(trunk.dim, 2, 5, dims=trunk.dims).eval()
    features = trunk(torch.rand(1, 16 * 1536))
    tokens = aligner(features)
    changed = features.clone()
    changed[:, trunk.dims[0] :] = 0
    other = aligner(changed)
    assert tokens.shape == (1, 2, 5, 16)
    torch.testing.assert_close(other[:, 0], tokens[:, 0])
    assert not torch.allclose(other[:, 1], tokens[:, 1])
    assert (tokens >= 0).all()
    assert (tokens.sum(dim=2) <= 1).all()


def test_a_cell_s_posterior_sums_over_the_classes_of_a_thing():
    aligner = ClassAligner(4, 2, 2, num_classes=5, temperature=2.0)
    aligner.groups.data[0, :2] = 1
    aligner.groups.data[1, 3] = 1
    x = torch.rand(1, 4, 2, 3)
    posterior = aligner.classify(x).softmax(dim=1)
    # Evened out as sums: by the square root at a temperature of 2.
    sums = [posterior[:, :2].sum(dim=1), *posterior[:, 2:].unbind(dim=1)]
    shares = torch.stack(sums, dim=1).sqrt()
    shares = shares / shares.sum(dim=1, keepdim=True)
    tokens = aligner(x)
    assert tokens.shape == (1, 2, 2, 2, 3)
    torch.testing.assert_close(tokens[:, 1, 0], shares[:, 0])
    torch.testing.assert_close(tokens[:, 0, 1], shares[:, 2])
    before = aligner(x)
    aligner.add(torch.zeros(4), -50.0)
    assert aligner(x).shape[2] == 3
    torch.testing.assert_close(aligner(x)[:, :, :2], before)


def test_an_everyday_model_answers_with_things_and_says_so_in_json():
    config = ModelConfig(
        image_backbone="efficientnet_lite",
        image_aligner="classes",
        image_aligner_options={"num_classes": 6},
        audio_backbone="per_head",
        audio_options=TRUNKS,
        audio_aligner="prototypes",
        head_dim=3,
        evidence=False,
    )
    model = DualEncoder(config).eval()
    assert ModelConfig.from_json(config.to_json()) == config
    assert model(torch.rand(1, 3, 64, 64), torch.rand(1, 16 * 1536)).shape == (1, 2, 2, 2)
    assert model.pixel_mean.flatten()[0].item() == pytest.approx(127 / 255)
