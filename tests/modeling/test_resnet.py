"""ResNet-18 for pictures and spectrograms: strides, fronts, weights, and a separator on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import spectrogram

from av_grounding.audio import Stft
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, head_specs
from av_grounding.modeling.pretrained import load_resnet
from av_grounding.modeling.resnet import (
    Log10Mel,
    LogDensity,
    ResNetAudioBackbone,
    ResNetBackbone,
    build_resnet,
    feature_maps,
)
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.material import spec_of
from av_grounding.training.paper_configuration import (
    OasslPaperRun,
    OneAvmPaperRun,
    resnet_pair,
    resnet_separator,
)
from av_grounding.training.unified_run import unified_spec
from tests.helpers.small_resnets import SIZES, SMALL_PAIR, SMALL_SEPARATOR


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    build_resnet(3, **SIZES).save_pretrained(folder)
    return folder


def test_the_defaults_are_resnet_18():
    image, audio = ResNetBackbone(), ResNetAudioBackbone()
    count = lambda module: sum(one.numel() for one in module.parameters())  # noqa: E731
    assert count(image) == 11_176_512  # of torchvision's resnet18 without its 512 x 1000 + 1000
    assert count(image) - count(audio) == 2 * 64 * 49  # one channel instead of three
    assert image.dim == audio.dim == 512
    assert image.patch_px == image.stride_px == 32


def test_pictures_become_a_cell_every_32_pixels():
    backbone = ResNetBackbone(**SIZES).eval()
    with torch.inference_mode():
        assert backbone(torch.rand(2, 3, 64, 96)).shape == (2, 16, 2, 3)


def test_weights_come_from_a_folder_and_must_fit_in_every_name_and_shape(weights, tmp_path):
    one, other = ResNetBackbone(**SIZES).eval(), ResNetBackbone(**SIZES).eval()
    for backbone in (one, other):
        load_resnet(backbone, weights)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(one(pixels), other(pixels), rtol=0.0, atol=0.0)
    with pytest.raises(ValueError, match=r"does not fit the model: .*expected .16, 3, 7, 7"):
        load_resnet(ResNetBackbone(**{**SIZES, "embedding_size": 16}), weights)
    with pytest.raises(ValueError, match=r"missing encoder.stages.3.layers.1"):
        load_resnet(ResNetBackbone(**{**SIZES, "depths": (1, 1, 1, 2)}), weights)
    with pytest.raises(ValueError, match=r"for a Identity; expected model.image_backbone=resnet"):
        load_resnet(torch.nn.Identity(), weights)
    with pytest.raises(OSError, match=r"pretrained.image=DIR"):
        load_resnet(one, tmp_path / "none")


@pytest.mark.parametrize("is_training", [True, False])
def test_mel_is_the_logarithm_of_the_stfts_power(is_training):
    waveform = (0.1 * np.random.default_rng(0).standard_normal(25_600)).astype(np.float32)
    front = Log10Mel(8000, 128, 400, 200).train(is_training)
    power = front.mel.numpy() @ np.abs(Stft(400, 200)(waveform)) ** 2
    seen = front(torch.from_numpy(waveform)[None])[0, 0].numpy()
    assert seen.shape == (128, 128)
    np.testing.assert_allclose(seen, np.log10(power + 1e-7), atol=1e-3)


@pytest.mark.parametrize("is_training", [True, False])
def test_linear_is_scipys_density_under_our_taper(is_training):
    waveform = (0.1 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    padded = np.pad(waveform, 137)
    _, _, density = spectrogram(
        padded, 16_000, window="hann", nperseg=512, noverlap=274, detrend=False
    )
    front = LogDensity(16_000, 512, 238).train(is_training)
    seen = front(torch.from_numpy(waveform)[None])[0, 0].numpy()
    assert seen.shape == density.shape == (257, 201)
    np.testing.assert_allclose(seen, np.log(density + 1e-7) / 12, atol=1e-3)


def test_stages_are_at_strides_2_to_32_and_tokens_their_loudest_frequency():
    backbone = ResNetAudioBackbone(**SIZES).eval()
    with torch.inference_mode():
        picture, stages = backbone.stages(0.1 * torch.randn(2, 25_600))
        tokens = backbone.tokens(stages[-1])
    assert picture.shape == (2, 1, 128, 128)
    assert [tuple(one.shape[1:]) for one in stages] == [
        (width, 128 // stride, 128 // stride)
        for width, stride in zip(backbone.widths, (2, 4, 8, 16, 32), strict=True)
    ]
    assert backbone.token_samples == 32 * 200
    torch.testing.assert_close(tokens, stages[-1].max(dim=2).values)


def test_a_token_is_centred_on_its_first_frame():
    """An impulse in the middle of a symmetric picture, through weights that are all alike."""
    resnet = build_resnet(1, **SIZES).eval()
    for one in resnet.modules():
        if isinstance(one, torch.nn.Conv2d):
            torch.nn.init.ones_(one.weight)
    picture = torch.zeros(1, 1, 33, 129)
    picture[..., 64] = 1.0
    with torch.inference_mode():
        heard = feature_maps(resnet, picture)[-1].amax(dim=(0, 1, 2))
    assert heard.argmax() == 2
    assert heard[2] > 1.01 * heard[1]
    torch.testing.assert_close(heard, heard.flip(0))


@pytest.mark.parametrize("num_samples", [25_600, 20_000, 14_200])
def test_a_window_of_any_number_of_frames_is_masked(num_samples):
    model = SeparatingEncoder(SMALL_SEPARATOR).eval()
    waveform = 0.1 * torch.randn(1, num_samples)
    with torch.inference_mode():
        masks = model.masks(waveform, torch.randn(1, 2, 8))
    assert masks.shape == (1, 2, 201, num_samples // 200)


def test_specs_count_the_tokens_that_there_are():
    run = replace(OneAvmPaperRun(), model=SMALL_SEPARATOR)
    spec = unified_spec(run, SeparatingEncoder(SMALL_SEPARATOR), 1 / 0.03)
    assert (spec.num_tokens, spec.token_stride_s, spec.first_token_s) == (4, 0.8, 0.0125)
    assert (spec.separation.stft_window, spec.separation.stft_hop) == (400, 200)
    assert (spec.sample_rate_hz, spec.patch_px, spec.compares) == (8000, 32, "cosine")
    run, model = replace(OasslPaperRun(), model=SMALL_PAIR), DualEncoder(SMALL_PAIR)
    spec = spec_of(run, model, ())
    # 201 frames of 238 samples make seven tokens of 32, of which the last ends behind the window.
    assert spec.num_tokens == 7
    assert spec.token_stride_s == pytest.approx(32 * 238 / 16_000)
    last = spec.first_token_s + 6 * spec.token_stride_s
    assert last == pytest.approx((0.5 + 6 * 32) * 238 / 16_000)
    assert last < spec.window_s


def test_audio_tokens_are_cosines_where_the_paper_takes_them():
    model = SeparatingEncoder(SMALL_SEPARATOR).eval()
    with torch.inference_mode():
        tokens = model.encode_audio(torch.randn(2, 25_600))
        picture = model.encode_image(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(tokens.norm(dim=2), torch.ones(2, 1, 4))
    torch.testing.assert_close(picture.norm(dim=2), torch.ones(1, 1, 2, 2))


def test_a_bundle_comes_back_with_its_constants(tmp_path):
    for number, (config, kind) in enumerate(
        ((SMALL_SEPARATOR, SeparatingEncoder), (SMALL_PAIR, DualEncoder))
    ):
        model = kind(config).eval()
        run = OasslPaperRun() if kind is DualEncoder else OneAvmPaperRun()
        spec = spec_of(replace(run, model=config), model, head_specs(model.heads))
        bundle = save_bundle(
            tmp_path / str(number), model, spec, name="small", dtype=torch.float32
        )
        again = load_bundle(bundle).model
        assert again.config == config
        waveform = 0.1 * torch.randn(1, spec.num_window_samples)
        with torch.inference_mode():
            torch.testing.assert_close(again.encode_audio(waveform), model.encode_audio(waveform))


def test_papers_models_have_the_papers_sizes():
    with torch.device("meta"):
        separator, pair = SeparatingEncoder(resnet_separator()), DualEncoder(resnet_pair())
    assert separator.audio_backbone.widths == (64, 64, 128, 256, 512)
    assert separator.image_global.out_features == separator.audio_global.out_features == 512
    assert separator.audio_backbone.log_mel.mel.shape == (128, 201)
    assert pair.audio_backbone.log_mel.per_hz.shape == (257, 1)
    assert pair.image_aligner.project.out_channels == 512


@pytest.mark.parametrize(
    ("config", "change", "match"),
    [
        (SMALL_PAIR, {"audio_options": {"front": "log"}}, "front is 'log'; expected one of mel"),
        (SMALL_PAIR, {"sample_rate_hz": 8000}, "for sound at 16000 Hz, sample_rate_hz is 8000"),
        (SMALL_PAIR, {"audio_options": {"front": "linear", "num_mels": 64}}, "expected front mel"),
        (SMALL_PAIR, {"image_options": {"depths": (2,)}}, "one of each for every stage"),
        (SMALL_PAIR, {"image_options": {"embedding_size": 4}}, "4 channels; expected at least 8"),
        (
            SMALL_PAIR,
            {"evidence": True, "audio_aligner_options": {"unit_length": True}},
            "no evid",
        ),
        (
            SMALL_SEPARATOR,
            {"audio_options": {"front": "linear"}, "sample_rate_hz": 16_000},
            "linear bins, but masks lie on mel bands",
        ),
    ],
)
def test_contradictions_are_refused(config, change, match):
    kind = SeparatingEncoder if config is SMALL_SEPARATOR else DualEncoder
    with pytest.raises(ValueError, match=match):
        kind(replace(config, **change))
