"""The GPU's benchmark on the CPU: everything but the GPU, on a pair of a few thousand weights."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from av_grounding.backends.compiled import CompiledBackend
from av_grounding.backends.torch_cuda import torch_functions
from av_grounding.benchmarking import gpu as gpu_speed
from av_grounding.benchmarking.gpu_ceilings import Ceilings, Demand, demand, measure_ceilings
from av_grounding.benchmarking.gpu_encoders import (
    TARGETS_MS,
    compare,
    denseav_sized_bundle,
    markdown,
    measure,
    percentiles,
)
from av_grounding.benchmarking.gpu_table import Subject, measure_table, table
from av_grounding.modeling.bundle import Bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.types import HeadCalibration, ModelSpec
from tests.helpers.small_bundle import save_small_bundle

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def bundle():
    spec = ModelSpec(
        heads=head_specs(("sound", "speech"), calibration=HeadCalibration(9.0, -4.0)),
        sample_rate_hz=16_000, window_s=0.64, hop_s=0.16, num_tokens=8,
        short_side_px=32, patch_px=16,
    )  # fmt: skip
    return Bundle(DualEncoder(ModelConfig(head_dim=8)).eval(), spec, "tiny")


def test_the_whole_report(bundle):
    backend = CompiledBackend(
        "torch-compiled", torch_functions(bundle, CPU, "bf16"), bundle.spec, CPU, {}
    )
    ceilings = Ceilings(bytes_per_s=1e9, flops_per_s=1e12)
    measured = measure(
        bundle, backend, "bf16", 4, ceilings, image_size=(32, 48), num_eager_calls=3
    )
    assert [row["encoder"] for row in measured["encoders"]] == ["image", "audio"]
    for row in measured["encoders"]:
        assert row["speed_up"] == pytest.approx(row["eager_fp32_ms"] / row["p50_ms"])
        assert row["times_floor"] == pytest.approx(row["p50_ms"] / row["floor_ms"])
        assert row["p50_ms"] > 0.0
    for name in ("both_on_two_streams_ms", "end_to_end_ms"):
        row = measured[name]
        assert 0.0 < row["p50"] <= row["p90"] <= row["p99"] <= row["max"]
    report = {
        "machine": {"gpu": "none"},
        "ceilings": {"bytes_per_s": 1e9, "flops_per_s": 1e12},
        "backends": {"torch-compiled": measured},
        "skipped": {"tensorrt": "not here"},
    }
    table = markdown(json.loads(json.dumps(report)))
    assert table.count("| torch-compiled | ") == 2
    assert "torch-compiled, end to end, 4 frames" in table
    assert "- skipped: tensorrt (not here)" in table


def test_a_target_is_met_only_by_time_and_ratio_both():
    needed = dict.fromkeys(("image", "audio"), Demand(1000, 1000))
    ceilings = Ceilings(1e9, 1e12)
    eager = {"image": 8.0 * TARGETS_MS["image"], "audio": 7.9 * TARGETS_MS["audio"]}
    durations = {name: {"p50": TARGETS_MS[name], "p99": 9.0} for name in TARGETS_MS}
    rows = {row["encoder"]: row for row in compare(durations, eager, needed, ceilings)}
    assert rows["image"]["is_met"]
    assert not rows["audio"]["is_met"]
    durations["image"]["p50"] *= 1.01
    eager["image"] *= 2.0
    assert not compare(durations, eager, needed, ceilings)[0]["is_met"]


def test_the_demand_of_a_matrix_product():
    layer = nn.Linear(64, 32, bias=False)
    needed = demand(layer, [torch.randn(4, 64)])
    assert needed.num_flops == 2 * 4 * 64 * 32
    assert needed.num_bytes == 4 * (64 * 32 + 4 * 64 + 4 * 32)
    half = demand(layer.bfloat16(), [torch.randn(4, 64).bfloat16()])
    assert half.num_bytes == needed.num_bytes / 2


def test_the_floor_is_the_slower_of_moving_and_computing():
    ceilings = Ceilings(bytes_per_s=1e12, flops_per_s=1e15)
    assert Demand(2 * 10**9, 10**9).floor_ms(ceilings) == pytest.approx(2.0)
    assert Demand(10**6, 3 * 10**12).floor_ms(ceilings) == pytest.approx(3.0)


def test_ceilings_are_measured():
    ceilings = measure_ceilings(CPU, torch.float32, num_copied_bytes=1 << 22, matrix_side=128)
    assert ceilings.bytes_per_s > 1e6
    assert ceilings.flops_per_s > 1e6


def test_percentiles():
    assert percentiles(list(range(101))) == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_what_it_skipped_and_is_content(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "av_grounding.benchmarking.gpu", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "- skipped: torch-compiled (no CUDA device" in done.stdout
    assert "- skipped: tensorrt (no CUDA device" in done.stdout
    report = json.loads((tmp_path / "gpu_speed.json").read_text())
    assert report["backends"] == {}
    assert set(report["skipped"]) == {"torch-compiled", "tensorrt"}
    assert (tmp_path / "gpu_speed.md").read_text() == done.stdout


def test_a_backend_that_fails_does_not_end_the_run(monkeypatch):
    """A stand-in for a GPU: the calls that would need one are answered here."""
    monkeypatch.setattr(gpu_speed, "cuda_device", lambda name, precision: CPU)
    monkeypatch.setattr(gpu_speed, "gpu_facts", lambda device: {"gpu": "stand-in"})
    monkeypatch.setattr(gpu_speed, "measure_ceilings", lambda *a: Ceilings(1e9, 1e12))
    monkeypatch.setattr(gpu_speed, "denseav_sized_bundle", lambda: None)

    def load(name, *arguments):
        raise ImportError("no such library") if name == "tensorrt" else RuntimeError("no memory")

    monkeypatch.setattr(gpu_speed, "_load", load)
    report = gpu_speed.measure_gpu("cuda", "bf16", 1, ("torch-compiled", "tensorrt"))
    assert report["skipped"] == {"torch-compiled": "no memory", "tensorrt": "no such library"}


def test_the_pair_is_denseavs():
    """Without values: 341 million weights are not drawn to count them."""
    with torch.device("meta"):
        model = denseav_sized_bundle().model
    num_parameters = sum(p.numel() for p in model.parameters())
    assert 330e6 < num_parameters < 350e6


@pytest.mark.slow
def test_the_table_runs_every_case_in_a_process_of_its_own(tmp_path):
    subject = Subject("small", save_small_bundle(tmp_path / "small"), (64, 80))
    rows = list(measure_table([subject], "cpu", 2))
    eager, compiled, tensorrt = rows
    assert eager["backend"] == "torch"
    assert eager["speed_up"] == 1.0
    for key in ("image_ms", "audio_ms", "pair_ms", "end_to_end_ms", "second_start_s"):
        assert eager[key] > 0.0
    # No GPU is asked for here, which the others need.
    assert compiled["skipped"]
    assert tensorrt["skipped"]
    text = table(rows)
    assert "| small | torch | fp32 | " in text
    assert "- skipped: small on tensorrt fp16 (" in text


@pytest.mark.gpu
@pytest.mark.slow
@GPU
def test_on_a_gpu(capsys):
    assert gpu_speed.main(["--num", "100", "--backends", "torch-compiled"]) == 0
    assert "| torch-compiled | image |" in capsys.readouterr().out
