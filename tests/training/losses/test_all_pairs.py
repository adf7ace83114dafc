"""All-pairs scores in blocks equal the naive ones, gradients too, without their memory."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from av_grounding.benchmarking import all_pairs as all_pairs_bench
from av_grounding.training.losses import all_pairs, objectives

INF = math.inf


def pairs(num_clips=4, num_images=5, heads=2, tokens=3, cells=7, channels=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)  # noqa: E731
    audio, image = (
        make(num_clips, heads, channels, tokens),
        make(num_images, heads, channels, cells),
    )
    return audio.requires_grad_(), image.requires_grad_(), make(num_clips, num_images, tokens)


@pytest.mark.parametrize("block_values", [1, 40, 300, None])
@pytest.mark.parametrize("sharpness", [INF, 2.5])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_blocks_equal_the_naive_scores_and_gradients(heads, sharpness, block_values):
    audio, image, weight = pairs(heads=heads)
    expected = objectives.head_max_peaks(audio, image, sharpness)
    found = all_pairs.head_max_peaks(audio, image, sharpness, block_values=block_values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    wanted = torch.autograd.grad((expected * weight).sum(), (audio, image))
    got = torch.autograd.grad((found * weight).sum(), (audio, image))
    for one, other in zip(got, wanted, strict=True):
        assert other.abs().max() > 0.1
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sharpness", [INF, 3.0])
def test_gradients_in_double_precision(sharpness):
    audio, image, _ = pairs(3, 2, 2, 2, 4, 3, dtype=torch.float64)

    def score(a, v):
        return all_pairs.head_max_peaks(a, v, sharpness, block_values=20)

    assert gradcheck(score, (audio, image))
    assert score(audio, image).dtype == torch.float64


def test_one_heads_peaks_are_its_own():
    audio, image, weight = pairs(heads=3)
    expected = objectives.pair_peaks(audio, image, INF)
    for head in range(3):
        found = all_pairs.head_peaks(audio, image, head, block_values=30)
        torch.testing.assert_close(found, expected[head])
        gradient = torch.autograd.grad((found * weight).sum(), audio)[0]
        assert gradient[:, head].any()
        assert not gradient[:, [other for other in range(3) if other != head]].any()


def test_gathering_in_several_pieces_changes_nothing(monkeypatch):
    audio, image, weight = pairs()
    wanted = torch.autograd.grad(
        (objectives.head_max_peaks(audio, image, INF) * weight).sum(), image
    )
    monkeypatch.setattr(all_pairs, "MIN_GATHERED_VALUES", 1)
    got = torch.autograd.grad((all_pairs.head_max_peaks(audio, image) * weight).sum(), image)
    torch.testing.assert_close(got, wanted)


class LargestTensor(TorchDispatchMode):
    """The most numbers that any result of an operation holds."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return result


@pytest.mark.parametrize("sharpness", [INF, 2.5])
def test_the_volume_never_exists(sharpness):
    audio, image, _ = pairs(12, 12, 2, 8, 50, 4)
    volume = 12 * 12 * 2 * 8 * 50
    allowed = max(4000, 12 * 12 * 8, audio.numel(), image.numel())

    def largest(function, **options):
        with LargestTensor() as seen:
            function(audio, image, sharpness, **options).sum().backward()
        return seen.numel

    assert largest(objectives.head_max_peaks) == volume
    assert largest(all_pairs.head_max_peaks, block_values=4000) <= allowed < volume / 20


def test_products_stay_exact_under_autocast_unless_asked():
    audio, image, _ = pairs(channels=64)
    exact = objectives.head_max_peaks(audio, image, INF)
    with torch.autocast("cpu", torch.bfloat16):
        found = all_pairs.head_max_peaks(audio, image)
        rough = all_pairs.head_max_peaks(audio, image, dtype=torch.bfloat16)
        soft = all_pairs.head_max_peaks(audio, image, 2.5, dtype=torch.bfloat16)
    torch.testing.assert_close(found, exact)
    assert 1e-4 < (rough - exact).abs().max() < 0.3
    assert found.dtype == rough.dtype == torch.float32
    gradient = torch.autograd.grad(soft.sum(), image)[0]
    wanted = torch.autograd.grad(objectives.head_max_peaks(audio, image, 2.5).sum(), image)[0]
    torch.testing.assert_close(gradient, wanted, atol=0.1 * wanted.abs().max().item(), rtol=0.1)


def test_what_does_not_fit_is_refused():
    audio, image, _ = pairs()
    with pytest.raises(ValueError, match="sharpness is 0"):
        all_pairs.head_max_peaks(audio, image, 0.0)
    with pytest.raises(ValueError, match="block_values is -1"):
        all_pairs.head_max_peaks(audio, image, block_values=-1)


def test_the_benchmark_measures_both_and_leaves_out_what_does_not_fit(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(all_pairs_bench, "available_bytes", lambda device: 2**20)
    small = ("--tokens", "2", "--cells", "9", "--channels", "4", "--repeats", "1")
    assert all_pairs_bench.main(["--batches", "4", "96", *small, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "all_pairs.json").read_text())["rows"]
    assert [(row["batch"], row["method"]) for row in rows] == [
        (4, "naive"), (4, "blocks"), (96, "naive"), (96, "blocks"),
    ]  # fmt: skip
    assert rows[2]["seconds"] is None
    assert all(rows[i]["seconds"] > 0 and rows[i]["peak_mib"] >= 0 for i in (0, 1, 3))
    assert "does not fit" in capsys.readouterr().out


COMPILED = """
import torch
from av_grounding.training.losses import all_pairs
torch.manual_seed(0)
device = "{device}"
audio = torch.randn(6, 2, 8, 5, device=device, requires_grad=True)
image = torch.randn(6, 2, 8, 40, device=device, requires_grad=True)
for sharpness in (float("inf"), 3.0):
    results = []
    for compiled in (False, True):
        peaks = all_pairs.head_max_peaks(audio, image, sharpness, compiled=compiled)
        results.append([peaks, *torch.autograd.grad(peaks.square().sum(), (audio, image))])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
"""


@pytest.mark.parametrize(
    "device",
    [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)],
)
def test_compiled_blocks_equal_plain_ones(device):
    """In its own process: the shape checks of the tests and the compiler do not go together."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    subprocess.run([sys.executable, "-c", COMPILED.format(device=device)], check=True)
