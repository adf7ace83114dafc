"""The CPU runtime against the eager model, and what it says where it cannot run."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.backends import load_backend
from av_grounding.backends.economy import settle_threads
from av_grounding.backends.parity import BOUNDS, Examples, compare
from av_grounding.evaluation.windows import with_window
from av_grounding.sources.demo import open_demo
from av_grounding.streaming.replay import run_offline
from av_grounding.synthetic import espeak_worker

SIZE = (160, 208)


def inputs(backend, size=SIZE, num=3):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(num)]
    length = backend.spec.num_window_samples
    waves = [0.1 * rng.standard_normal(length, np.float32) for _ in range(num)]
    return Examples(images, waves)


@pytest.fixture(scope="module")
def pair(exported):
    return load_backend(exported, "torch", "cpu"), load_backend(exported, "cpu")


@pytest.mark.parametrize("size", [SIZE, (224, 160), (160, 480)])
def test_parity_for_every_image_size(pair, size):
    parity = compare(*pair, inputs(pair[0], size))
    assert parity.image_max < 1e-4
    assert parity.audio_max < 1e-4
    assert parity.heatmap_max < 1e-3


def test_any_number_of_vectors(pair):
    image = inputs(pair[0]).images[0]
    rng = np.random.default_rng(1)
    for num in (1, 2, 17):
        vectors = rng.standard_normal((2, num, 64)).astype(np.float32)
        eager, cpu = (backend.similarity(backend.encode_image(image), vectors) for backend in pair)
        assert cpu.shape == eager.shape == (2, num, 40 * 52)
        np.testing.assert_allclose(cpu, eager, atol=1e-4)


@pytest.mark.parametrize("num_windows", [1, 8, 11])
def test_windows_together_are_as_they_are_alone(pair, num_windows):
    backend = pair[1]
    assert backend.max_audio_batch == 8
    waves = np.stack(inputs(backend, num=num_windows).waveforms)
    together = backend.encode_audio_batch(waves)
    alone = [backend.encode_audio(wave) for wave in waves]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    with pytest.raises(ValueError, match="waveform of 7 samples; this export takes windows of"):
        backend.encode_audio_batch(waves[:, :7])


def test_an_export_of_another_format_is_to_be_made_again(copied):
    path = copied / "cpu" / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(ValueError, match=r"format 2 of backend 'cpu', expected 3 of .*: run av-"):
        load_backend(copied, "cpu")


class Maps:
    def __init__(self):
        self.maps = []

    def write(self, frame, heatmaps):
        self.maps.append(np.stack([heatmaps.sound, heatmaps.speech]))

    def close(self):
        pass


@pytest.mark.skipif(espeak_worker.find_library() is None, reason="needs espeak-ng: it speaks")
def test_a_stream_gives_the_same_heatmaps(pair):
    answers = []
    for backend in pair:
        video, audio = open_demo(realtime=False, duration_s=3.0)
        sink = Maps()
        run_offline(video, audio, Grounder(backend).stream(), [sink])
        answers.append(np.stack(sink.maps))
    assert answers[0].max() > 0.5
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)


def test_several_threads_share_a_backend(pair):
    backend = pair[1]
    examples = inputs(backend, num=4)
    alone = [backend.encode_audio(wave) for wave in examples.waveforms]
    together = [None] * 4

    def encode(index):
        for _ in range(5):
            together[index] = backend.encode_audio(examples.waveforms[index])

    threads = [threading.Thread(target=encode, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_answers_do_not_change_with_later_ones(pair):
    backend = pair[1]
    examples = inputs(backend, num=2)
    first = backend.encode_audio(examples.waveforms[0])
    tokens = np.asarray(backend.encode_image(examples.images[0]))
    kept = first.copy(), tokens.copy()
    backend.encode_audio(examples.waveforms[1])
    backend.encode_image(examples.images[1])
    np.testing.assert_array_equal(first, kept[0])
    np.testing.assert_array_equal(tokens, kept[1])


def test_what_it_says_of_itself(pair):
    facts = pair[1].describe()
    assert (facts["backend"], facts["device"], facts["precision"]) == ("cpu", "cpu", "fp32")
    assert facts["openvino"][:2] == "20"
    assert json.dumps(facts)


def test_one_thread_for_a_small_model(exported, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("av_grounding.backends.cpu.num_cpu_threads", lambda: 2)
    backend = load_backend(exported, "cpu")
    wave = inputs(backend).waveforms[0]
    heard = backend.encode_audio(wave)
    assert backend.describe()["threads"] == 2
    settle_threads(backend)
    assert backend.describe()["threads"] == 1
    np.testing.assert_allclose(backend.encode_audio(wave), heard, atol=1e-5)
    monkeypatch.undo()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    backend = load_backend(exported, "cpu")
    settle_threads(backend)
    assert backend.describe()["threads"] == 3


def test_the_calibration_is_the_bundles_own(copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["spec"]["heads"][0]["calibration"]["bias"] = -7.5
    path.write_text(json.dumps(config))
    assert load_backend(copied, "cpu").spec.head("sound").calibration.bias == -7.5


def test_wrong_shapes(pair):
    with pytest.raises(ValueError, match="image of 100x208 pixels; expected multiples of 16"):
        pair[1].encode_image(np.zeros((100, 208, 3), np.uint8))
    with pytest.raises(ValueError, match="waveform of 100 samples; this export takes windows of"):
        pair[1].encode_audio(np.zeros(100, np.float32))


def test_a_graph_of_one_size_says_which(copied):
    path = copied / "cpu" / "export.json"
    facts = json.loads(path.read_text()) | {"is_resizable": False}
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="takes 160x208: export again with --image-size 160x160"):
        load_backend(copied, "cpu").encode_image(np.zeros((160, 160, 3), np.uint8))


@pytest.mark.parametrize("file", ["image.bin", "audio.xml"])
def test_a_damaged_graph(copied, file):
    path = copied / "cpu" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is missing or damaged: run av-grounding export"):
        load_backend(copied, "cpu")


def test_a_graph_that_the_runtime_cannot_read(copied):
    """Hashes that fit do not make a graph of a file that a broken program wrote."""
    from av_grounding.files import sha256

    path = copied / "cpu" / "audio.xml"
    path.write_text("<net>")
    facts = json.loads((copied / "cpu" / "export.json").read_text())
    facts["files"]["audio.xml"] = sha256(path)
    (copied / "cpu" / "export.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"audio\.xml cannot be loaded") as caught:
        load_backend(copied, "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 3, "backend": "cpu"}', "{", '{"a": 1}'])
def test_a_damaged_description(copied, text):
    (copied / "cpu" / "export.json").write_text(text)
    with pytest.raises(ValueError, match=r"is no valid export .*: run av-grounding export"):
        load_backend(copied, "cpu")


def test_an_export_of_other_weights(copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["weights"]["sha256"] = "0" * 64
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cpu was exported from other weights: run"):
        load_backend(copied, "cpu")


def test_a_file_outside_of_the_export_is_not_looked_at(copied):
    path = copied / "cpu" / "export.json"
    facts = json.loads(path.read_text())
    facts["files"]["../config.json"] = "0" * 64
    path.write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"file '\.\./config\.json' lies elsewhere"):
        load_backend(copied, "cpu")


def test_another_window(copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    config["spec"]["window_s"] = 1.28
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="hears windows of 40960 samples, the bundle's spec says"):
        load_backend(copied, "cpu")


def test_windows_of_another_length_are_refused_whatever_the_spec_says(pair):
    with pytest.raises(ValueError, match=r"20480 samples; .* windows of 40960.* backend 'torch'"):
        with_window(pair[1], 1.28)


def test_without_the_runtime(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"needs openvino .*pip install 'av_grounding\[cpu\]'"):
        load_backend(exported, "cpu")


def test_another_device(exported):
    with pytest.raises(ValueError, match="device 'cuda' for backend 'cpu'; expected auto or cpu"):
        load_backend(exported, "cpu", "cuda")


def test_a_processor_without_bf16_is_not_helped_in_silence(copied):
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    path = copied / "cpu" / "export.json"
    facts = json.loads(path.read_text()) | {"precision": "bf16"}
    path.write_text(json.dumps(facts))
    if "BF16" not in capabilities:
        with pytest.raises(RuntimeError, match="does not compute in bf16: export again with"):
            load_backend(copied, "cpu")
        return
    backend = load_backend(copied, "cpu")
    assert backend.describe()["precision"] == "bf16"
    parity = compare(load_backend(copied, "torch", "cpu"), backend, inputs(backend))
    assert 1e-4 < parity.image_max < BOUNDS["bf16"].image


def test_nothing_is_reported_to_anybody():
    """OpenVINO would start a thread at its import that sends its use over the network."""
    program = (
        "import sys, threading\n"
        "from av_grounding.backends.openvino_import import import_quietly\n"
        "openvino = import_quietly('openvino', 'a test')\n"
        "assert openvino.Core() and 'openvino_telemetry' not in sys.modules\n"
        "print(threading.active_count())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("1", 0), result.stderr
