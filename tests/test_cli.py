"""The command line as scripts see it: exit codes, one line for a mistake, the promised files."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from av_grounding import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with random weights: everything runs as with a trained one."""
    import torch

    from av_grounding.modeling.bundle import save_bundle
    from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
    from av_grounding.types import HeadCalibration, ModelSpec

    torch.manual_seed(0)
    model = DualEncoder(ModelConfig(head_dim=8)).eval()
    with torch.inference_mode():
        num_tokens = model.encode_audio(torch.zeros(1, round(2.56 * 16_000))).shape[-1]
    spec = ModelSpec(
        heads=head_specs(("sound", "speech"), calibration=HeadCalibration(4.0, 0.0)),
        sample_rate_hz=16_000,
        window_s=2.56,
        hop_s=0.64,
        num_tokens=num_tokens,
        short_side_px=64,
        patch_px=16,
    )
    return save_bundle(tmp_path_factory.mktemp("bundle") / "tiny", model, spec, name="tiny")


def command(*args, **environment):
    return {
        "args": [sys.executable, "-m", "av_grounding", *map(str, args)],
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def call(*args, cwd=None, **environment):
    return subprocess.run(**command(*args, **environment), cwd=cwd, timeout=300)


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def here(capsys, monkeypatch):
    """Run a command in this process, where annotations are checked too and imports are paid."""
    monkeypatch.delenv("AV_GROUNDING_DEBUG", raising=False)

    def run(*args):
        try:
            code = cli.main([str(arg) for arg in args])
        except SystemExit as ended:  # what argparse refuses
            code = ended.code
        return Result(code, *capsys.readouterr())

    return run


def assert_mistake(result, *words):
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr


def write_clip(path, seconds=1.5, sample_rate_hz=16_000, loudness=0.3):
    from scipy.io import wavfile

    times = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    wavfile.write(
        path, sample_rate_hz, (loudness * np.sin(880 * np.pi * times)).astype(np.float32)
    )
    return path


def write_picture(path, height=60, width=80):
    from av_grounding.drawing.png import write_png

    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_png(path, pixels)
    return path


def test_help_names_every_command():
    result = call("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for name in ("run", "ground", "synth", "train", "evaluate", "doctor"):
        assert f"\n    {name} " in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["COMMAND"]),
        (["rnu"], ["rnu"]),
        (["run"], ["av-grounding run:", "SOURCE"]),
        (["run", "demo", "--duration", "-3"], ["'-3'", "more than 0"]),
        (["run", "demo", "--duration", "inf"], ["'inf'", "more than 0"]),
        (["run", "camera", "--as-fast-as-possible"], ["camera", "leave the option out"]),
        (["synth", "--out", "x", "--num", "0"], ["'0'", "from 1 on"]),
        (["synth", "--out", "x", "--seed", "-1"], ["'-1'", "from 0 on"]),
        (["synth", "--out", "x", "--split", "tset"], ["tset", "test"]),
        (["evaluate", "sinthetic", "--out", "x"], ["sinthetic", "synthetic"]),
        (["run", "demo", "--config", "nowhere.yaml"], ["nowhere.yaml", "does not exist"]),
        (["run", "demo", "--set", "speech.hold=2"], ["did you mean 'speech.hold_s'"]),
        (["run", "demo", "--set", "speech.hold_s=0.1"], ["expected at least hangover_s (0.3)"]),
        (["run", "demo", "--set", "speech.hold_s"], ["expected NAME=VALUE"]),
        (["bench", "--matrix", "--regions"], ["--regions leaves alone: drop it"]),
        (["run", "demo", "--set", "music.threshold=0.2"], ["head 'music'", "sound, speech"]),
        (["ground", "nowhere.png", "nowhere.wav", "--out", "x"], ["nowhere.png"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].isalpha() else None,
)
def test_a_mistake_is_one_line(args, words, tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    assert_mistake(here(*args), *words)


def test_a_mistake_ends_the_process_with_its_line(tmp_path):
    """As a shell sees it: of the parser, of a command."""
    assert_mistake(call("rnu", cwd=tmp_path), "rnu")
    assert_mistake(call("run", "demo", "--config", "nowhere.yaml", cwd=tmp_path), "nowhere.yaml")


def test_misspelt_parameter_is_answered_with_the_nearest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("/**:\n  ros__parameters:\n    speech:\n      hold: 3.0\n")
    result = call("run", "demo", "--config", path)
    assert_mistake(result, "speech.hold", "did you mean 'speech.hold_s'", str(path))


def test_missing_source_and_model_are_one_line(bundle, here):
    assert_mistake(here("run", "nowhere.mp4", "--model", bundle, "--quiet"), "nowhere.mp4")
    assert_mistake(here("run", "demo", "--model", "nowhere", "--quiet"), "nowhere", "config.json")


def test_damaged_bundle_is_one_line(bundle, tmp_path, here):
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    assert_mistake(
        here("run", "demo", "--model", tmp_path, "--quiet"), "sha256", "copy the bundle again"
    )


def test_debugging_shows_where(tmp_path):
    result = call("run", "demo", "--model", "nowhere", AV_GROUNDING_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (TypeError("a\nb"), 70, "internal error: TypeError: a b"),
        (FileNotFoundError(2, "No such file", "x.mp4"), 2, "x.mp4: No such file"),
        (RuntimeError("line one\n  line two"), 2, "line one line two"),
        (BrokenExecutor("terminated abruptly"), 2, "a worker process was killed"),
        (MemoryError("cannot allocate 8 GiB"), 2, "out of memory (cannot allocate 8 GiB)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_error_has_its_code(error, code, words, monkeypatch, capsys):
    monkeypatch.delenv("AV_GROUNDING_DEBUG", raising=False)

    def fail():
        raise error

    monkeypatch.setattr("av_grounding.doctor.examine", fail)
    assert cli.main(["doctor", "--quiet"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def run_console(body, **environment):
    """A process of `av-grounding doctor` that does `body` in place of looking around.

    Python hears a signal that comes just before a long wait only behind it: waits are short.
    """
    script = (
        "import sys, time\nfrom av_grounding import cli, doctor\n"
        f"def examine():\n    print('READY', flush=True)\n    {body}\n"
        "doctor.examine = examine\nsys.argv = ['av-grounding', 'doctor']\ncli.console()\n"
    )
    arguments = command(**environment) | {"args": [sys.executable, "-c", script]}
    process = subprocess.Popen(**arguments)
    assert process.stdout.readline() == "READY\n"
    return process


@pytest.mark.parametrize(
    ("numbers", "codes"),
    [
        ([signal.SIGINT] * 2, {130}),
        ([signal.SIGINT] * 5, {130}),
        ([signal.SIGTERM] * 2, {143}),
        # The second may find the program gone already.
        ([signal.SIGINT, signal.SIGTERM], {130, 143}),
    ],
)
def test_interrupts_at_once_are_one(numbers, codes):
    """As a terminal and what started the program send them."""
    process = run_console("[time.sleep(0.05) for _ in range(1200)]")
    for number in numbers:
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in codes
    assert errors == "av-grounding: interrupted\n"


def test_an_interrupt_while_modules_load_has_its_code():
    """Dataclasses run exec(), after which Python itself would end by the signal."""
    process = run_console("exec('raise KeyboardInterrupt')")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "av-grounding: interrupted\n")


def test_the_page_without_its_package_is_one_line():
    """None in sys.modules refuses the import, as where the extra is not installed."""
    process = run_console(
        "sys.modules['aiohttp'] = None; "
        "raise SystemExit(cli.main(['run', 'demo', '--view', '--quiet']))"
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "pip install 'av_grounding[view]'" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_is_written_to(encoding):
    """What is found out first is enough: all of it takes seconds."""
    sign = "✓" if encoding == "utf-8" else "?"
    process = run_console("return list(doctor._python())", PYTHONIOENCODING=encoding)
    with process:
        told, errors = process.stdout.read(), process.stderr.read()
    assert told.startswith(f"{sign}  Python ")
    assert process.returncode == 0, errors


def test_doctor_names_a_remedy_for_what_is_missing():
    # Before the command as well as behind it.
    result = call("--json", "doctor", AV_GROUNDING_MODEL="/nowhere")
    assert result.returncode == 1
    report = json.loads(result.stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert not report["ready"]
    assert findings["Python"]["state"] == "ok"
    assert findings["model"]["state"] == "missing"
    assert "/nowhere" in findings["model"]["detail"]
    assert findings["model"]["remedy"] == "unset AV_GROUNDING_MODEL"
    assert all(f["remedy"] for f in report["findings"] if f["state"] == "missing")


def test_synth_writes_what_the_manifest_names(tmp_path, here):
    result = here("synth", "--out", tmp_path, "--num", 2, "--seed", 3, "--split", "val", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["num_samples"] == 2
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        for key in (
            "image",
            "mask_sound",
            "mask_speech",
            "sound_wav",
            "speech_wav",
            "mixture_wav",
        ):
            assert (tmp_path / row[key]).stat().st_size > 0
        assert row["sound_class"] != row["speech_class"]
        assert row["word_span_s"][0] < row["word_span_s"][1]


def test_ground_writes_pictures_and_values(bundle, tmp_path, here):
    import cv2

    picture, clip = write_picture(tmp_path / "a.png"), write_clip(tmp_path / "a.wav")
    out = tmp_path / "out"
    result = here("ground", picture, clip, "--model", bundle, "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    values = np.load(out / "heatmaps.npz")
    for head in ("sound", "speech"):
        assert values[head].dtype == np.float32
        assert 0.0 <= values[head].min() <= values[head].max() <= 1.0
        assert cv2.imread(str(out / f"{head}.png")).shape == (60, 80, 3)
        assert report[head]["score"] == pytest.approx(float(values[f"{head}_score"]), abs=1e-3)
    assert values["sound"].any()
    assert cv2.imread(str(out / "overlay.png")).shape == (60, 80, 3)


def test_silence_grounds_nothing(bundle, tmp_path, here):
    picture, clip = write_picture(tmp_path / "a.png"), tmp_path / "silence.wav"
    write_clip(clip, loudness=0.0)
    result = here("ground", picture, clip, "--model", bundle, "--out", tmp_path / "out", "--json")
    report = json.loads(result.stdout)
    assert report["sound"]["peak_px"] is report["speech"]["peak_px"] is None
    values = np.load(tmp_path / "out" / "heatmaps.npz")
    assert not values["sound"].any()
    assert not values["speech"].any()
    readable = here("ground", picture, clip, "--model", bundle, "--out", tmp_path / "out")
    assert "sound: score 0.00, nothing" in readable.stdout


def test_run_records_every_frame_of_the_demo(bundle, tmp_path, here):
    config = tmp_path / "config.yaml"
    config.write_text("/**: {ros__parameters: {max_rate: 5.0}}\n")
    options = ("--model", bundle, "--duration", 2, "--as-fast-as-possible", "--json")
    result = here("run", "demo", *options, "--out", tmp_path / "all")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["num_frames_published"] == 30
    report = json.loads((tmp_path / "all" / "report.json").read_text())
    assert report["num_frames_published"] == report["recording"]["num_frames"] == 30
    assert report["model"]["bundle"] == str(bundle)
    assert set(report["latency_ms"]) == {"p50", "p90", "p99"}
    assert report["versions"]["numpy"] == np.__version__
    values = np.load(tmp_path / "all" / "heatmaps.npz")
    assert values["sound"].shape[0] == values["stamp_ns"].size == 30
    assert np.all(np.diff(values["stamp_ns"]) > 0)
    assert values["sound_score"].max() > 0.0
    assert (tmp_path / "all" / "overlay.mp4").stat().st_size > 10_000

    thinned = here("run", "demo", *options, "--config", config)
    assert json.loads(thinned.stdout)["num_frames_published"] == 10


def test_interrupted_run_leaves_readable_files(bundle, tmp_path):
    out, patient = tmp_path / "out", tmp_path / "patient.yaml"
    patient.write_text("/**: {ros__parameters: {max_image_age_ms: 60000.0}}\n")
    options = ("--model", bundle, "--out", out, "--config", patient)
    process = subprocess.Popen(**command("run", "demo", *options))
    try:
        spool, deadline_s = out / "heatmaps.part.npy", time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline_s:
            if spool.exists() and np.load(spool, mmap_mode="r").shape[0] > 5:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "av-grounding: interrupted"
    assert "Traceback" not in errors
    assert np.load(out / "heatmaps.npz")["sound"].shape[0] > 5
    report = json.loads((out / "report.json").read_text())
    assert report["stopped_by"] == "KeyboardInterrupt"
    assert report["recording"]["num_frames"] > 5
    assert (out / "overlay.mp4").stat().st_size > 0


def test_evaluate_writes_the_promised_report(bundle, tmp_path, here):
    options = ("--model", bundle, "--num", 2, "--seed", 5, "--json")
    result = here("evaluate", "synthetic", *options, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads(result.stdout)
    assert (report["num_samples"], report["seed"]) == (2, 5)
    for condition in ("mixture", "clean"):
        for head in ("sound", "speech"):
            assert {"mAP", "miou", "peak"} <= set(report[condition][head])
    assert 0.0 <= report["mixture"]["leakage"] <= 1.0
    assert 0.0 <= report["gating"] <= 1.0
    assert set(report["word_timing"]) == {"without", "oracle"}
    assert set(report["baselines"]) == {"whole_image", "centred_disc", "random"}
    assert (tmp_path / "panels.png").stat().st_size > 10_000
