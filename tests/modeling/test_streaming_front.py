"""A convolutional front whose frames are kept from window to window equals the whole, any cut."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config.streaming import StreamingConfig
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.modeling.streaming_front import StreamingFront
from av_grounding.modeling.transformer_backbones import HubertBackbone
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import ModelSpec

# The strides and kernels are HuBERT's own, and so are the 400 samples a frame hears.
TINY = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
STRIDE, RECEPTIVE = 320, 400


class Front:
    """A real front that counts the samples it was given."""

    def __init__(self, **options):
        torch.manual_seed(0)
        self.backbone = HubertBackbone(**TINY, **options).eval()
        self.num_samples = 0

    def __call__(self, waveform):
        self.num_samples += waveform.shape[-1]
        return self.backbone.front(waveform)


@pytest.fixture(scope="module")
def front():
    return Front()


def streaming(front):
    return StreamingFront(
        front,
        concatenate=partial(torch.cat, dim=-1),
        receptive_samples=RECEPTIVE,
        stride_samples=STRIDE,
    )


def sound(num_samples, seed=0):
    # As uneven as real sound: loud, then nearly silent, with an offset.
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.0, 0.3, num_samples // 1000 + 1) ** 2, 1000)[:num_samples]
    return torch.from_numpy((0.01 + level * rng.standard_normal(num_samples)).astype(np.float32))


def test_a_frame_hears_400_samples_every_320(front):
    backbone = front.backbone
    assert (backbone.receptive_samples, backbone.stride_samples) == (RECEPTIVE, STRIDE)
    assert backbone.has_local_front
    # The whole is the front and the transformer, to the bit.
    waveform = sound(16_000)[None]
    with torch.inference_mode():
        torch.testing.assert_close(
            backbone.encode_front(backbone.front(waveform)), backbone(waveform), rtol=0, atol=0
        )


@settings(max_examples=20)
@given(
    num_window=st.integers(2_000, 9_000),
    hops=st.lists(st.one_of(st.integers(1, 12).map(lambda n: n * STRIDE), st.integers(1, 4_000)),
                  min_size=1, max_size=6),
)  # fmt: skip
@torch.inference_mode()
def test_any_hop_gives_the_whole_windows_frames(num_window, hops, front):
    waveform = sound(num_window + sum(hops))[None]
    stream = streaming(front)
    stream(waveform[:, :num_window], num_window)
    end = num_window
    for hop in hops:
        end += hop
        window = waveform[:, end - num_window : end]
        expected = front.backbone.front(window)
        torch.testing.assert_close(stream(window, hop), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_only_the_new_frames_are_computed(front):
    waveform = sound(16_000 + 10 * 1_600)[None]
    stream = streaming(front)
    front.num_samples = 0
    for number in range(11):
        stream(waveform[:, 1_600 * number : 1_600 * number + 16_000], 1_600)
    # A tenth of a second is five frames; the 240 samples after the last whole frame come again.
    assert front.num_samples <= 16_000 + 10 * (1_600 + RECEPTIVE)


@torch.inference_mode()
def test_a_skipped_window_or_a_reset_is_computed_whole(front):
    waveform = sound(24_000)[None]
    stream = streaming(front)
    stream(waveform[:, :8_000], 1_600)
    skipped = waveform[:, 4_800:12_800]
    torch.testing.assert_close(stream(skipped, 1_600), front.backbone.front(skipped))
    following = waveform[:, 6_400:14_400]
    stream.reset()
    front.num_samples = 0
    torch.testing.assert_close(stream(following, 1_600), front.backbone.front(following))
    assert front.num_samples == 8_000


@pytest.mark.parametrize("numbers", [(0, 400), (401, 400)])
def test_a_front_with_holes_is_refused(front, numbers):
    with pytest.raises(ValueError, match="0 < stride <= receptive field"):
        StreamingFront(
            front,
            concatenate=torch.cat,
            stride_samples=numbers[0],
            receptive_samples=numbers[1],
        )


def backend(kind=TorchBackend, *, normalize_audio=False, **options):
    torch.manual_seed(0)
    config = ModelConfig(
        audio_backbone="hubert",
        audio_options={**TINY, **options},
        normalize_audio=normalize_audio,
        image_options={"dim": 16},
        head_dim=8,
    )
    model = DualEncoder(config).eval()
    spec = ModelSpec(
        heads=head_specs(model.heads),
        sample_rate_hz=16_000,
        window_s=1.28,
        hop_s=0.16,
        num_tokens=model.audio_backbone.num_frames(20_480),
        short_side_px=32,
        patch_px=model.patch_px,
        token_spacing_s=0.02,
    )
    return kind(Bundle(model, spec, "tiny"))


@pytest.mark.parametrize("options", [{"normalize_audio": True}, {"feat_extract_norm": "group"}])
def test_what_looks_at_the_whole_window_keeps_nothing(options):
    assert backend(**options).audio_stream() is None


class Whole(TorchBackend):
    """The same backend without what it keeps."""

    def audio_stream(self):
        return None


def play(of, waveform, size):
    stream = GroundingStream(of, StreamingConfig())
    image = np.random.default_rng(0).integers(256, size=(48, 64, 3), dtype=np.uint8)
    answers = []
    for attempt in range(2):
        for start in range(0, len(waveform), size):
            chunk = waveform[start : start + size]
            stream.push_audio(chunk, round(start / 16_000 * 1e9), 16_000)
        for time_s in np.arange(0.2, 3.0, 0.2):
            answers.append(stream.push_frame(image, round(time_s * 1e9)))
        stream.reset()
        assert stream.stats["num_windows_encoded"] == 18 * (attempt + 1)
    return np.stack([(one.sound, one.speech) for one in answers])


def test_the_stream_uses_it_and_answers_alike(monkeypatch):
    waveform = sound(48_000).numpy()
    given, whole = backend(), play(backend(Whole), waveform, 320)
    lengths = []
    original = HubertBackbone.front
    monkeypatch.setattr(
        HubertBackbone,
        "front",
        lambda self, samples: lengths.append(samples.shape[-1]) or original(self, samples),
    )
    kept = play(given, waveform, 320)
    assert whole[:, 0].any()
    np.testing.assert_allclose(kept, whole, atol=1e-5)
    # To the bit: however the sound is cut, and after a reset as at the start.
    np.testing.assert_array_equal(play(given, waveform, 7_001), kept)
    half = len(kept) // 2
    np.testing.assert_array_equal(kept[:half], kept[half:])
    # Whole is only the silence that warms up, the first window and the first after a reset.
    assert sorted(lengths, reverse=True)[:6] == [20_480] * 6
    assert max(sorted(lengths, reverse=True)[6:]) <= 2_560 + RECEPTIVE
