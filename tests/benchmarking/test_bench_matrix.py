"""The benchmark's matrix: taking turns, empty places with a reason, the table and the picture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.benchmarking import machine
from av_grounding.benchmarking import variants as bench_variants
from av_grounding.benchmarking.matrix import Player, measure_matrix
from av_grounding.benchmarking.matrix_report import FILES, HEADINGS, draw, markdown, write_matrix
from av_grounding.benchmarking.timing import MIN_CALLS, WARM_UP, in_turns
from av_grounding.benchmarking.variants import one_line, open_variants
from av_grounding.cli import main
from av_grounding.evaluation.windows import with_window
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import Bundle, load_bundle, save_bundle
from av_grounding.modeling.denseav import denseav_config, denseav_spec
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.types import ModelSpec

needs_espeak = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    options = {"image_options": {"dim": 16}, "audio_options": {"dim": 16, "num_mels": 32}}
    model = DualEncoder(ModelConfig(head_dim=8, **options))
    spec = ModelSpec(
        heads=head_specs(model.heads),
        sample_rate_hz=16_000,
        window_s=1.28,
        hop_s=0.16,
        num_tokens=16,
        short_side_px=64,
        patch_px=model.patch_px,
        context_s=0.3,
    )
    return save_bundle(tmp_path_factory.mktemp("bundle") / "tiny", model, spec, name="tiny")


class Fixed(TorchBackend):
    """The real model for one size of image and one window, as compiled backends are."""

    name = "fixed"

    def encode_image(self, image):
        if image.shape[:2] != (64, 80):
            raise ValueError(f"image of {image.shape[0]}x{image.shape[1]}; compiled for 64x80")
        return super().encode_image(image)

    def encode_audio(self, waveform):
        if len(waveform) != 20_480:
            raise ValueError(f"waveform of {len(waveform)} samples; compiled for 20480")
        return super().encode_audio(waveform)


@pytest.fixture
def backends(monkeypatch):
    """A further backend of fixed shapes, beside the real ones."""
    load = bench_variants._load

    def with_fixed(bundle, name, precision, device, roots):
        if (name, precision) == ("fixed", "fp32"):
            return Fixed(load_bundle(bundle), "cpu")
        return load(bundle, name, precision, device, roots)

    monkeypatch.setattr(bench_variants, "_load", with_fixed)


def test_calls_come_in_turns_and_the_warm_up_is_discarded():
    order = []

    def task(name, seconds):
        def call():
            order.append(name)
            return seconds + (100.0 if order.count(name) <= WARM_UP else 0.0)

        return call

    taken = in_turns({"a": task("a", 1.0), "b": task("b", 2.0)}, seconds=1e-9)
    assert taken == {"a": [1.0] * MIN_CALLS, "b": [2.0] * MIN_CALLS}
    assert order[2 * WARM_UP :] == ["a", "b"] * MIN_CALLS


def test_eager_is_first_and_comes_once(bundle, backends):
    names = ["torch", "fixed", "cpu"]
    variants, refused = open_variants(bundle, names, ["fp32", "int8"])
    assert [variant.label for variant in variants] == ["torch fp32", "fixed fp32"]
    reasons = {(one.backend, one.precision): one.reason for one in refused}
    assert reasons["torch", "int8"] == "backend torch runs in fp32 alone"
    assert set(reasons) == {
        *(("torch", "int8"), ("fixed", "int8"), ("cpu", "fp32"), ("cpu", "int8")),
    }
    command = f"run av-grounding export --model {bundle} --backend cpu"
    assert reasons["cpu", "int8"].startswith(f"no export in int8: {command}")
    assert reasons["cpu", "int8"].endswith("--precision int8")
    assert variants[0].load_s > 0.0
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError(f"no {Path.cwd()}/a\n  in b")) == "no a in b"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_what_needs_a_gpu_says_so(bundle):
    variants, refused = open_variants(bundle, ["torch-compiled", "tensorrt"])
    assert [variant.vram_mb() for variant in variants] == [None]
    assert [one.backend for one in refused] == ["torch-compiled", "tensorrt"]
    assert "CUDA" in refused[0].reason


def test_an_export_is_found_by_its_precision(bundle, tmp_path):
    for precision in ("fp32", "int8"):
        directory = tmp_path / precision / "cpu"
        directory.mkdir(parents=True)
        (directory / "export.json").write_text(json.dumps({"precision": precision}))
    roots = [tmp_path / "int8", tmp_path / "fp32", tmp_path / "int8"]
    found = bench_variants._exports_of("cpu", roots)
    assert found == {"int8": tmp_path / "int8", "fp32": tmp_path / "fp32"}
    # Neither is a whole bundle: two places that stay empty, and no crash.
    _, refused = open_variants(bundle, ["cpu"], exports=roots)
    assert [one.precision for one in refused] == ["int8", "fp32"]
    assert all("it has no config.json" in one.reason for one in refused)


def test_another_window_has_as_many_tokens_as_the_model_says(bundle):
    backend = Grounder.load(bundle).backend
    spec = with_window(backend, 0.7).spec
    assert (spec.num_window_samples, spec.num_tokens, spec.token_stride_s) == (11_520, 9, 0.08)
    # 2.7 s of HuBERT's frames are 134, and 14 tokens of 9; 9 * 15 would take 135.
    audio = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
    }  # fmt: skip
    config = denseav_config(
        audio_options=audio,
        image_options={"dim": 16, "depth": 1, "num_attention_heads": 2},
        audio_aligner_options={"num_attention_heads": 6},
    )
    model = DualEncoder(config).eval()
    whole = TorchBackend(Bundle(model, denseav_spec(model, 1.0), "random"))
    spec = with_window(whole, 2.7).spec
    assert (spec.num_window_samples, spec.num_tokens) == (43_200, 14)
    Player(whole.with_spec(spec), np.zeros((32, 40, 3), np.uint8), np.zeros(400_000, np.float32))


@needs_espeak
def test_the_matrix_has_every_place_or_its_reason(bundle, backends, tmp_path):
    done = []
    report = measure_matrix(
        bundle,
        backends=["torch", "fixed", "cpu"],
        image_sizes=[48, 64],
        windows=[0.64, 1.28],
        seconds=1e-3,
        on_progress=lambda *progress: done.append(progress),
    )
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert done == [(number + 1, 10) for number in range(10)]
    rows = {(row["backend"], row["image"], row["window_s"]): row for row in report["rows"]}
    assert set(rows) == {
        *(("torch", image, window) for image in ("48x64", "64x80") for window in (0.64, 1.28)),
        ("fixed", "64x80", 1.28),
    }
    row = rows["fixed", "64x80", 1.28]
    for stage in ("encode_image", "encode_audio", "ground", "end_to_end"):
        ms = row[f"{stage}_ms"]
        assert 0.0 < ms["p50"] <= ms["p90"] <= ms["p99"] <= ms["max"]
        assert row["ratio"][stage] > 0.0
        assert rows["torch", "48x64", 0.64]["ratio"][stage] == 1.0
        assert row["num_calls"][stage] >= MIN_CALLS
    # A frame with its sound costs more than the frame alone.
    assert 0.0 < row["frame_rate_hz"] <= 1e3 / row["end_to_end_ms"]["p50"] * 3.0
    assert row["cpu_percent"] > 0.0
    places = [(one["backend"], one["image_size"], one["window_s"]) for one in report["not_run"]]
    expected = {("cpu", None, None), ("fixed", 48, None), ("fixed", None, 0.64)}
    assert sorted(map(str, places)) == sorted(map(str, expected))

    write_matrix(tmp_path, report)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    lines = (tmp_path / "matrix.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(report["rows"]) + len(report["not_run"])
    assert {line.count("|") for line in table} == {len(HEADINGS) + 1}
    assert any("| not run: no export in fp32: " in line for line in table)


def report_of(rows):
    return {
        "machine": {"processor": "Some CPU", "num_cores": 2, "load_before": None, "rss_mb": 9.0},
        "model": {"bundle": "b", "num_parameters": 2_000_000, "window_s": 1.0, "hop_s": 0.1},
        "input": "frames",
        "rows": rows,
        "not_run": [],
    }


def row(backend, image_size, window_s, image_ms, audio_ms):
    def stage(value):
        return {"p50": value, "p90": 2 * value, "p99": 3 * value, "max": 4 * value}

    return {
        "backend": backend,
        "precision": "fp32",
        "image": f"{image_size}x{image_size}",
        "image_size": image_size,
        "window_s": window_s,
        "encode_image_ms": stage(image_ms),
        "encode_audio_ms": stage(audio_ms),
        "ground_ms": stage(0.1),
        "end_to_end_ms": stage(image_ms + 1.0),
        "ratio": {"encode_image": 2.0, "encode_audio": None, "end_to_end": 1.5},
        "frame_rate_hz": 50.0,
        "cpu_percent": 40.0,
        "load_mb": 10.0,
        "vram_mb": None,
    }


def test_the_picture_has_a_line_for_each_backend_in_order():
    sizes = [(160, 2.5), (96, 2.5), (160, 1.0)]
    rows = [row("torch", size, window, size / 10, 2 * window) for size, window in sizes]
    rows += [row("fast", 160, 1.0, 4.0, 1.0)]
    of_audio, of_image = draw(report_of(rows)).axes
    lines = {drawn.get_label(): drawn.lines[0] for drawn in of_audio.containers}
    assert list(lines) == ["torch fp32", "fast fp32"]
    np.testing.assert_array_equal(lines["torch fp32"].get_xydata(), [(1.0, 2.0), (2.5, 5.0)])
    of_eager = of_image.containers[0].lines[0].get_xydata()
    np.testing.assert_array_equal(of_eager, [(96, 9.6), (160, 16.0)])
    # Also where only the first backend has been.
    assert list(of_audio.get_xticks()) == [1.0, 2.5]
    assert of_audio.get_legend() is not None
    assert draw(report_of([])).axes[0].get_legend() is None
    assert "| 9.6 / 19.2 / 28.8 |" in "\n".join(markdown(report_of(rows)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backends", "torhc"], "backend 'torhc'; expected some of torch"),
        (["--image-sizes", "0"], "expected a whole number from 1 on"),
        (["--windows", "1,,2"], "expected names with commas"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments, message, capsys):
    try:
        code = main(["bench", "--matrix", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


@needs_espeak
def test_the_command_writes_the_matrix(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "pin_to_cores", lambda: 2)  # would pin the tests
    command = ["bench", "--matrix", "--model", str(bundle), "--out", str(tmp_path / "out")]
    assert main([*command, "--backends", "cpu", "--seconds", "0.01"]) == 0
    report = json.loads((tmp_path / "out" / "matrix.json").read_text())
    assert [one["image"] for one in report["rows"]] == ["64x80"]
    printed = capsys.readouterr().out
    assert "torch fp32" in printed
    assert "not run: cpu fp32: no export in fp32" in printed
    assert (tmp_path / "out" / "matrix.png").read_bytes().startswith(b"\x89PNG")
