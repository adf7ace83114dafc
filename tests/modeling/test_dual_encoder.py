import pytest
import torch

from av_grounding.modeling.conv_audio import LogMel
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig

TINY_TRANSFORMERS = ModelConfig(
    image_backbone="vit",
    audio_backbone="hubert",
    unit_length=False,
    evidence=False,
    head_dim=16,
    image_options={
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 96, "image_size": 64,
    },
    audio_options={
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64,
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "grid", "num_tokens"),
    [(ModelConfig(), (24, 32), 16), (TINY_TRANSFORMERS, (12, 16), 63)],
    ids=["conv", "transformers"],
)
def test_shapes_and_heads(config, grid, num_tokens):
    model = DualEncoder(config).eval()
    assert model.heads == ("sound", "speech")
    with torch.no_grad():
        image = model.encode_image(torch.rand(2, 3, 96, 128))
        audio = model.encode_audio(0.1 * torch.randn(2, 20480))
        maps = model(torch.rand(2, 3, 96, 128), 0.1 * torch.randn(2, 20480))
    assert image.shape == (2, 2, config.head_dim, *grid)
    assert audio.shape == (2, 2, config.head_dim, num_tokens)
    assert maps.shape == (2, 2, *grid)


def test_every_parameter_receives_a_gradient():
    torch.manual_seed(0)
    for config in (ModelConfig(), TINY_TRANSFORMERS):
        model = DualEncoder(config)
        maps = model(torch.rand(4, 3, 64, 64), 0.1 * torch.randn(4, 20480))
        (maps * torch.randn_like(maps)).sum().backward()
        # HuBERT's embedding for masked time steps is used in its own pretraining alone.
        without = [
            name
            for name, p in model.named_parameters()
            if "masked_spec_embed" not in name and (p.grad is None or not p.grad.abs().sum() > 0)
        ]
        # A key bias shifts every attention logit alike, so its exact gradient is zero.
        assert [name for name in without if not name.endswith(("k_proj.bias", "key.bias"))] == []


def test_unit_length_and_evidence_bound_the_similarity():
    model = DualEncoder(ModelConfig()).eval()
    with torch.no_grad():
        image = model.encode_image(torch.rand(1, 3, 64, 64))
        audio = model.encode_audio(torch.randn(1, 20480))
    torch.testing.assert_close(image.norm(dim=2), torch.ones(1, 2, 16, 16))
    length = audio.norm(dim=2)
    assert ((length > 0) & (length < 1)).all()


def test_the_microphones_gain_and_offset_cancel():
    model = DualEncoder(ModelConfig()).eval()
    waveform = 0.2 * torch.randn(1, 20480)
    with torch.no_grad():
        reference = model.encode_audio(waveform)
        quiet = model.encode_audio(0.05 * waveform + 0.01)
        raw = DualEncoder(ModelConfig(normalize_audio=False)).eval()
        raw.load_state_dict(model.state_dict())
        assert not torch.allclose(raw.encode_audio(0.05 * waveform), raw.encode_audio(waveform))
    torch.testing.assert_close(quiet, reference, rtol=1e-3, atol=1e-3)


def test_audio_tokens_depend_on_nearby_sound_only():
    """A bounded receptive field: what lies beyond the stated context changes nothing."""
    model = DualEncoder(ModelConfig(normalize_audio=False)).eval()
    waveform = 0.1 * torch.randn(1, 40960, generator=torch.Generator().manual_seed(1))
    other = waveform.clone()
    other[:, 30000:] = 0.0
    with torch.no_grad():
        difference = (model.encode_audio(waveform) - model.encode_audio(other)).abs()
    changed_s = 30000 / 16000
    centre_s = (torch.arange(32) + 0.5) * 0.08
    far = centre_s < changed_s - model.audio_backbone.context_s - 0.08
    assert far.sum() > 5
    assert difference[..., far].max() == 0
    assert difference[..., ~far].max() > 1e-3


def test_log_mel_equals_the_short_time_fourier_transform():
    front = LogMel()
    waveform = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(2))
    padded = torch.nn.functional.pad(waveform, (120, 120))
    spectrum = torch.stft(
        padded, 400, 160, window=torch.hann_window(400), center=False, return_complex=True
    )
    expected = torch.einsum("mf,bft->bmt", front.mel, spectrum.abs().square())
    torch.testing.assert_close(
        front(waveform)[:, 0].exp(), expected.clamp_min(1e-5), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_backbone": "alexnet"}, "image_backbone is 'alexnet'; expected one of conv, vit"),
        ({"heads": ("sound", "sound")}, "all different"),
    ],
)
def test_a_contradictory_config_is_rejected(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_wrong_sizes_name_the_remedy():
    model = DualEncoder(ModelConfig())
    with pytest.raises(ValueError, match="multiples of 16"):
        model.encode_image(torch.rand(1, 3, 100, 100))
    with pytest.raises(ValueError, match="pad it with zeros"):
        model.encode_audio(torch.rand(1, 100))
