"""`av-grounding export`: what it writes, and that it writes nothing that does not pass."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from av_grounding import cli
from av_grounding.backends import export as export_module
from av_grounding.backends import load_backend
from av_grounding.backends.export import export
from av_grounding.backends.parity import BOUNDS, Examples, Parity, excesses, peak_loss, relative_l2
from av_grounding.config import drawn_world_bundle
from av_grounding.modeling.bundle import load_bundle
from tests.helpers.exporting import run_export

SIZE = (160, 208)


def examples(num=2):
    rng = np.random.default_rng(0)
    waves = [0.1 * rng.standard_normal(40_960, np.float32) for _ in range(num)]
    return Examples([rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(num)], waves)


@pytest.fixture
def ready(exported, monkeypatch):
    """Building takes seconds, so the graphs that were built for `exported` are taken again."""

    def build(job):
        for path in (exported / "cpu").glob("*.[xb][mi]*"):
            shutil.copy(path, job.directory)
        facts = json.loads((exported / "cpu" / "export.json").read_text())
        names = ("is_resizable", "num_parameters", "max_audio_batch", "image_outputs")
        return {name: facts[name] for name in names}

    monkeypatch.setitem(export_module.BUILDERS, "cpu", build)


def run(out, measure=lambda backend: {"sound": 0.5, "speech": 0.5}, bundle=None):
    return export(
        bundle or drawn_world_bundle(), out, "cpu",
        calibration=examples(), examples=examples(), measure=measure,
    )  # fmt: skip


def test_what_an_export_holds(exported):
    assert sorted(path.name for path in exported.iterdir()) == [
        "config.json",
        "cpu",
        "model.safetensors",
    ]
    report = json.loads((exported / "cpu" / "parity.json").read_text())
    assert report["features"]["image"]["max"] < 1e-4
    assert report["features"]["audio"]["max"] < 1e-4
    assert report["heatmap_max"] < 1e-3
    for head in ("sound", "speech"):
        row = report["map"][head]
        assert 0.1 < row["before"] <= 1.0
        assert row["after"] == pytest.approx(row["before"], abs=1e-3)
    table = (exported / "cpu" / "parity.md").read_text()
    assert "| sound mAP, % |" in table
    facts = json.loads((exported / "cpu" / "export.json").read_text())
    assert facts["image_size"] == [160, 208]
    assert set(facts["files"]) == {"image.xml", "image.bin", "audio.xml", "audio.bin"}
    assert load_bundle(exported).name == load_bundle(drawn_world_bundle()).name


def test_an_export_is_added_to_a_bundle_and_replaced(ready, tmp_path):
    out = tmp_path / "bundle"
    run(out)
    (out / "notes.txt").write_text("mine")
    (out / "cpu" / "stale").write_text("")
    run(out)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "cpu" / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert load_backend(out, "cpu").name == "cpu"


def test_an_export_that_fails_its_bounds_is_not_written(ready, tmp_path):
    def measure(backend):
        return {"sound": 0.8 if backend.name == "torch" else 0.78}

    with pytest.raises(ValueError, match=r"sound mAP 2 points lost, at most 1\) and was not writ"):
        run(tmp_path / "bundle", measure)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_where_a_new_export_fails(ready, tmp_path):
    out = tmp_path / "bundle"
    run(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def measure(backend):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(out, measure)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_a_killed_export_left_is_removed(ready, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / f".bundle.partial-{child.pid}").mkdir()
    (tmp_path / f".bundle.partial-{os.getppid()}").mkdir()  # runs, so it may still be written
    run(tmp_path / "bundle")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"bundle", f".bundle.partial-{os.getppid()}"}


def test_a_damaged_graph_does_not_pass(ready, tmp_path, monkeypatch):
    """Zeros in the middle of the weights: the runtime loads them gladly."""
    build = export_module.BUILDERS["cpu"]

    def spoil(job):
        facts = build(job)
        path = job.directory / "image.bin"
        content = bytearray(path.read_bytes())
        content[1000:400_000] = bytes(399_000)
        path.write_bytes(content)
        return facts

    monkeypatch.setitem(export_module.BUILDERS, "cpu", spoil)
    with pytest.raises(ValueError, match=r"image features .* relative L2, at most"):
        run(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "fp16"], "precision 'fp16'; expected one of fp32, bf16, int8"),
        (["--image-size", "100x208"], "image size 100x208; expected multiples of 32"),
        (["--model", "nowhere"], "no bundle at nowhere"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path, capsys):
    arguments = ["export", "--backend", "cpu", "--out", str(tmp_path / "out"), *options]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["160", "0x160", "axb", "160x208x3", "16x-8"])
def test_sizes_are_read_strictly(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["export", "--backend", "cpu", "--out", str(tmp_path), "--image-size", text])
    assert caught.value.code == 2
    assert "expected HxW such as 160x208" in capsys.readouterr().err


def test_a_place_that_is_taken(exported, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    command = ["export", "--backend", "cpu", "--out"]
    assert cli.main([*command, str(tmp_path)]) == 2
    assert "is neither empty nor a bundle" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "file")]) == 2
    assert "is no directory" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((exported / "config.json").read_text())
    config["weights"]["sha256"] = "1" * 64
    (other / "config.json").write_text(json.dumps(config))
    assert cli.main([*command, str(other)]) == 2
    assert "holds another model than" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission denied"):
        run(tmp_path / "bundle")


def test_a_parent_that_is_a_file(ready, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(tmp_path / "file" / "bundle")


def test_excesses_name_what_is_wrong():
    good = Parity(3, 1e-6, 1e-6, 1e-6, 1e-6, 1e-5, 0.0)
    assert excesses(good, {"sound": (0.5, 0.495)}, BOUNDS["fp32"]) == []
    bad = Parity(3, 1e-6, float("nan"), 1e-6, 0.5, 1e-5, 0.5)
    assert excesses(bad, {"sound": (0.5, 0.4)}, BOUNDS["fp32"]) == [
        "image features nan relative L2, at most 0.001",
        "audio features 0.5 relative L2, at most 0.001",
        "peak 0.5 of the map's range lower, at most 0.01",
        "sound mAP 10 points lost, at most 1",
    ]


def test_relative_l2():
    reference = np.array([3.0, 4.0], np.float32)
    assert relative_l2(reference, reference) == 0.0
    assert relative_l2(reference, np.array([3.0, 4.5], np.float32)) == pytest.approx(0.1)
    assert relative_l2(reference, np.array([3.0, np.nan], np.float32)) == float("inf")


def test_a_peak_counts_by_how_high_the_map_is_there():
    reference = np.array([0.0, 4.0, 3.9, 1.0], np.float32)
    assert peak_loss(reference, reference) == 0.0
    moved = np.array([0.0, 1.0, 5.0, 1.0], np.float32)
    assert peak_loss(reference, moved) == pytest.approx(0.025)
    assert peak_loss(reference, -reference) == 1.0
    assert peak_loss(np.ones(4, np.float32), moved) == 0.0
    assert peak_loss(reference, np.full(4, np.nan, np.float32)) == float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_low_precision_of_the_shipped_bundle(precision, tmp_path):
    from av_grounding.backends.openvino_import import shared_core

    capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        pytest.skip("this processor does not compute in bf16")
    out = tmp_path / "bundle"
    result = run_export(out, "--backend", "cpu", "--precision", precision, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["num_examples"] == 100
    for row in report["map"].values():
        assert row["before"] - row["after"] <= 0.01
    assert load_backend(out, "cpu").describe()["precision"] == precision
