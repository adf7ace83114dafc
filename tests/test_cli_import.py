"""import, heads and calibrate as scripts see them, on checkpoints with random weights."""

import json
import sys
import wave

import numpy as np
import pytest
import torch

from av_grounding import cli
from av_grounding.backends.caching import CachingBackend
from av_grounding.backends.wrapping import BackendWrapper
from av_grounding.evaluation.head_check import Trial, check_heads
from av_grounding.grounder import Grounder, clip_hop_s
from av_grounding.modeling import denseav_import
from av_grounding.modeling.bundle import load_bundle
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.training.fitting.calibration import folder_cases
from av_grounding.types import Backend, HeadCalibration
from tests.helpers.denseav_checkpoint import TINY, Geometry, official_state, write_lightning

needs_espeak = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)


@pytest.fixture
def tiny(monkeypatch):
    """The import for the tiny geometry: everything but the sizes is as released."""
    monkeypatch.setattr(denseav_import, "denseav_config", TINY.config)


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.delenv("AV_GROUNDING_DEBUG", raising=False)

    def call(*args):
        code = cli.main([str(arg) for arg in args])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def bundle(tmp_path, tiny, run):
    checkpoint = write_lightning(tmp_path / "denseav_2head.ckpt", official_state())
    code, out, err = run("import", "denseav", checkpoint, "--out", tmp_path / "b", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["num_tensors"] == len(official_state())
    return tmp_path / "b"


def test_import_reports_what_it_made(bundle, tmp_path, run):
    code, out, _ = run(
        *("import", "denseav", tmp_path / "denseav_2head.ckpt", "--out", bundle),
        *("--raw-audio", "--json"),
    )
    report = json.loads(out)
    assert code == 0
    assert report["heads"] == ["sound", "speech"]
    assert report["normalize_audio"] is False
    assert len(report["sha256"]) == 64
    assert not load_bundle(bundle).model.config.normalize_audio
    card = (bundle / "README.md").read_text()
    assert report["sha256"] in card
    assert "MIT" in card
    assert "taken raw" in card


def test_a_named_variant_is_downloaded(tmp_path, tiny, run, monkeypatch):
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args):
            pass

    (tmp_path / "served").mkdir()
    checkpoint = tmp_path / "served" / "denseav_language.ckpt"
    write_lightning(checkpoint, official_state(), num_heads=1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(denseav_import, "BASE_URL", url)
    monkeypatch.setattr(denseav_import, "default_downloads", lambda: tmp_path / "cache")
    code, out, err = run("import", "denseav", "language", "--out", tmp_path / "b", "--json")
    server.shutdown()
    server.server_close()
    assert (code, err) == (0, "")
    assert json.loads(out)["source"] == url + "denseav_language.ckpt"
    assert json.loads(out)["heads"] == ["speech"]
    assert (tmp_path / "cache" / "denseav_language.ckpt").read_bytes() == checkpoint.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "no DenseAV checkpoint: 1 missing: audio_cls"),
        (("--sha256", "abcd"), "expected abcd"),
        (("--variant", "sound"), "has 2 heads, but sound has 1"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(tmp_path, tiny, run, options, words):
    state = official_state()
    del state["audio_cls"]
    checkpoint = write_lightning(tmp_path / "denseav_2head.ckpt", state)
    code, out, err = run("import", "denseav", checkpoint, "--out", tmp_path / "b", *options)
    assert (code, out) == (2, "")
    assert words in err
    assert "\n" not in err.strip()
    assert not (tmp_path / "b").exists()


class Telling(Backend):
    """A backend whose heads answer the level of the sound (head 0) and its pitch (head 1)."""

    name = "telling"

    def __init__(self, spec):
        self.spec = spec

    def encode_image(self, image):
        return np.float32(image.mean() / 255)

    def encode_audio(self, waveform):
        rising = np.float32((np.diff(np.signbit(waveform)) != 0).mean())
        tokens = np.zeros((2, 1, self.spec.num_tokens), np.float32)
        tokens[0, 0], tokens[1, 0] = np.abs(waveform).max(), rising
        return tokens

    def similarity(self, tokens, queries):
        return queries * tokens * np.ones((1, 1, 6), np.float32)

    def grid(self, tokens):
        return 2, 3

    def describe(self):
        return {}


def test_the_head_check_follows_what_is_heard_not_the_names(bundle):
    spec = load_bundle(bundle).spec
    seconds = np.arange(16_000) / 16_000
    loud_and_low = (np.sin(2 * np.pi * 50 * seconds).astype(np.float32), 16_000)
    soft_and_high = (0.1 * np.sin(2 * np.pi * 3000 * seconds).astype(np.float32), 16_000)
    image = np.full((20, 30, 3), 128, np.uint8)
    trial = Trial(image, sound=loud_and_low, speech=soft_and_high)
    check = check_heads(Telling(spec), [trial])
    assert check.answers == {"sound": "sound", "speech": "speech"}
    assert check.is_swapped is False
    assert check.responses["sound"]["sound"] == pytest.approx(1.0)
    assert check.responses["sound"]["speech"] == pytest.approx(0.1, rel=0.01)
    swapped = check_heads(Telling(spec), [Trial(image, soft_and_high, loud_and_low)])
    assert swapped.answers == {"sound": "speech", "speech": "sound"}
    assert swapped.is_swapped is True
    both = Trial(image, loud_and_low, (0.5 * loud_and_low[0], 16_000))
    assert check_heads(Telling(spec), [both]).is_swapped is None
    alike = check_heads(Telling(spec), [Trial(image, loud_and_low, loud_and_low)])
    assert alike.answers == {"sound": "both", "speech": "both"}
    assert alike.is_swapped is None


@needs_espeak
def test_heads_prints_every_heads_answer(bundle, run):
    code, out, _ = run("heads", "--model", bundle, "--json")
    check = json.loads(out)
    assert set(check["responses"]) == {"sound", "speech"}
    assert set(check["answers"].values()) <= {"sound", "speech", "both"}
    assert code == (1 if check["is_swapped"] else 0)
    code, out, err = run("heads", "--model", bundle, "--sound", "x.wav")
    assert code == 2
    assert "--image, --sound and --speech together" in err


def write_clips(folder, num=4):
    rng = np.random.default_rng(3)
    from av_grounding.drawing.png import write_png

    folder.mkdir(parents=True)
    for number in range(num):
        image = rng.integers(0, 255, (40, 60, 3), np.uint8)
        write_png(folder / f"{number}.png", image)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            tone = np.sin(np.arange(8000) * (0.05 + 0.1 * number)) + 0.1 * rng.normal(size=8000)
            file.writeframes((9000 * tone).astype("<i2").tobytes())


def test_calibrate_on_a_folder_of_clips(bundle, tmp_path, run):
    write_clips(tmp_path / "clips" / "sound")
    (tmp_path / "clips" / "notes.txt").write_text("not a clip")
    before = load_bundle(bundle).spec
    args = ("calibrate", "--model", bundle, "--data", tmp_path / "clips", "--json")
    code, out, _ = run(*args, "--dry-run")
    assert code == 0
    assert load_bundle(bundle).spec == before
    code, out, _ = run(*args)
    report = json.loads(out)
    assert code == 0
    # Four pictures with their own sound, and with three others each; none for the speech head.
    assert list(report["heads"]) == ["sound"]
    row = report["heads"]["sound"]
    assert (row["num_matching"], row["num_others"]) == (4, 12)
    assert row["ece_after"] < row["ece_before"]
    after = load_bundle(bundle)
    assert after.spec.head("sound").calibration == HeadCalibration(row["scale"], row["bias"])
    assert after.spec.head("speech") == before.head("speech")
    assert after.info["calibration"]["heads"]["sound"]["ece_after"] == row["ece_after"]


def test_the_cases_of_a_folder_are_the_models_similarities(bundle, tmp_path):
    write_clips(tmp_path / "clips", num=2)
    grounder = Grounder.load(bundle, backend="torch")
    peaks, matching = folder_cases(grounder, tmp_path / "clips")["sound"]
    assert matching.tolist() == [True, False, True, False]
    from av_grounding.sources.media_file import MediaFile
    from av_grounding.sources.still import read_image

    waveform, rate_hz = MediaFile(tmp_path / "clips" / "0.wav").read_audio()
    image = read_image(tmp_path / "clips" / "0.png")
    result = grounder.ground(image, waveform, rate_hz, hop_s=grounder.spec.window_s)
    calibration = grounder.spec.head("sound").calibration
    expected = (result["sound"].logits.max() - calibration.bias) / calibration.scale
    assert np.abs(peaks[matching] - expected).min() < 1e-4 * abs(expected)


@needs_espeak
def test_calibrate_on_the_synthetic_world(bundle, run):
    code, out, _ = run(
        *("calibrate", "--model", bundle, "--data", "synthetic", "--num", "1", "--json")
    )
    report = json.loads(out)["heads"]
    assert code == 0
    assert report["sound"]["num_matching"] == 2
    assert load_bundle(bundle).spec.head("sound").calibration.scale == report["sound"]["scale"]


def test_calibrate_names_what_is_missing(bundle, tmp_path, run):
    code, _, err = run("calibrate", "--model", bundle, "--data", tmp_path / "no")
    assert code == 2
    assert "no such folder" in err
    write_clips(tmp_path / "one", num=1)
    code, _, err = run("calibrate", "--model", bundle, "--data", tmp_path / "one")
    assert code == 2
    assert "has 1 clips; expected at least 2" in err


def test_nothing_is_encoded_twice_and_windows_do_not_overlap(bundle):
    grounder = Grounder.load(bundle, backend="torch")
    counts = {"image": 0, "audio": 0}

    class Counting(BackendWrapper):
        def encode_image(self, image):
            counts["image"] += 1
            return self.backend.encode_image(image)

        def encode_audio(self, waveform):
            counts["audio"] += 1
            return self.backend.encode_audio(waveform)

    once = Grounder(CachingBackend(Counting(grounder.backend)))
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    waveform = np.sin(np.arange(24_000)).astype(np.float32)
    hop_s = clip_hop_s(once.spec)
    first = once.ground(image, waveform, 16_000, hop_s=hop_s)
    again = once.ground(image, waveform, 16_000, hop_s=hop_s)
    # Silence, which warms the backend up, and the one window of the clip.
    assert counts == {"image": 1, "audio": 2}
    np.testing.assert_array_equal(first.sound, again.sound)
    once.ground(image[::-1], -waveform, 16_000, hop_s=hop_s)
    assert counts == {"image": 2, "audio": 3}


@pytest.mark.slow
def test_the_released_size_is_imported_and_loaded_within_its_memory(tmp_path):
    """Peak of the import below 3 times the file, of loading below 1.3, each in a new process."""
    import subprocess

    path = tmp_path / "denseav_2head.ckpt"
    state = official_state(Geometry())
    assert (len(state), sum(t.numel() for t in state.values())) == (624, 341_346_817)
    write_lightning(path, state)
    del state
    size_mb = path.stat().st_size / 1e6
    # Not getrusage: its peak includes the parent's at the time of the fork.
    peak = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    importing = "from av_grounding.modeling.denseav_import import import_denseav as start; "
    loading = "from av_grounding.modeling.bundle import load_bundle as start; "
    bundle = str(tmp_path / "b")
    steps = {
        3.0: f"{importing} start({str(path)!r}, {bundle!r}); ",
        1.3: f"{loading} start({bundle!r}); ",
    }
    for allowed, step in steps.items():
        result = subprocess.run(
            [sys.executable, "-c", step + peak], capture_output=True, text=True, check=True
        )
        assert int(result.stdout) * 1.024e-3 < allowed * size_mb
    model = load_bundle(tmp_path / "b").model
    with torch.inference_mode():
        assert model.encode_audio(torch.randn(1, 160_000)).shape == (1, 2, 192, 55)
        assert model.encode_image(torch.rand(1, 3, 224, 296)).shape == (1, 2, 192, 28, 37)
