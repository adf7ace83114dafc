import numpy as np
import pytest
import torch

from av_grounding.modeling.region_model import RegionConfig, RegionModel
from av_grounding.modeling.vggish import VggishBackbone, mel_filters

RELEASED = {
    "features.0": (64, 1, 3, 3), "features.3": (128, 64, 3, 3), "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3), "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3), "embeddings.0": (4096, 12288), "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}  # fmt: skip


def test_its_tensors_are_those_of_the_released_weights():
    with torch.device("meta"):
        state = VggishBackbone().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert {n.removesuffix(".weight"): s for n, s in shapes.items() if n.endswith("weight")} == (
        RELEASED
    )
    assert set(shapes) == {f"{name}.{kind}" for name in RELEASED for kind in ("weight", "bias")}


@pytest.mark.parametrize(("seconds", "num"), [(0.975, 1), (1.92, 1), (1.95, 2), (5.0, 5)])
def test_each_stretch_of_0_96_s_has_one_feature(seconds, num):
    backbone = VggishBackbone(width=8)
    waveform = 0.1 * torch.randn(2, round(16_000 * seconds))
    features = backbone(waveform)
    assert features.shape == (2, 128, num)
    assert (features >= 0).all()
    # A stretch knows nothing of the next.
    changed = waveform.clone()
    changed[:, 15_600:] = 0.5
    torch.testing.assert_close(backbone(changed)[..., 0], features[..., 0])


def test_the_spectrogram_is_numpys_and_keeps_the_level():
    backbone = VggishBackbone(width=8)
    t = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 1000.0 * t)
    log_mel = backbone.log_mel(torch.from_numpy(tone[None]).float())[0].numpy()
    assert log_mel.shape == (98, 64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(tone[320:720] * window, 512))
    expected = np.log(magnitude @ mel_filters().numpy() + 0.01)
    np.testing.assert_allclose(log_mel[2], expected, atol=1e-3)
    mel = 1127 * np.log1p(np.array([125.0, 1000.0, 7500.0]) / 700)
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1
    assert abs(log_mel[2].argmax() - band) <= 1
    quiet = backbone.log_mel(torch.from_numpy(0.1 * tone[None]).float())[0].numpy()
    assert log_mel[2].max() - quiet[2].max() == pytest.approx(np.log(10), abs=0.01)


def test_too_little_sound_is_said():
    with pytest.raises(ValueError, match="waveform of 8000 samples; expected at least 15600"):
        VggishBackbone(width=8)(torch.zeros(1, 8000))


def test_a_region_model_hears_with_it():
    config = RegionConfig(
        image_options={"dim": 8}, audio_backbone="vggish", audio_options={"width": 8},
        image_aligner_options={"width": 8, "depth": 1, "num_attention_heads": 2},
    )  # fmt: skip
    model = RegionModel(config).eval()
    assert model.encode_audio(torch.randn(1, 80_000)).shape == (1, 1, 128, 5)
