"""The CPU graphs of a pair in DenseAV's layout: any image size, and the audio front apart."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from av_grounding.backends.exported import load_exported
from av_grounding.backends.folding import folded
from av_grounding.backends.parity import Examples, compare
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config.streaming import StreamingConfig
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.denseav import denseav_spec
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.streaming.pipeline import GroundingStream
from tests.helpers.denseav_checkpoint import TINY

ROOT = Path(__file__).parents[2]
# Not `importorskip`: its import would send reports (see `openvino_import`).
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs OpenVINO"
)
BUILD = """
import json, sys
from pathlib import Path
from av_grounding.backends.cpu_build import build_cpu
from av_grounding.backends.exported import FORMAT
from av_grounding.backends.graphs import build_graphs
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import read_config
from av_grounding.files import sha256, write_json

bundle = Path(sys.argv[1])
graphs = build_graphs(load_bundle(bundle), (64, 80), is_any_size=True)
directory = bundle / "cpu"
directory.mkdir()
facts = build_cpu(graphs, directory, "fp32")
write_json(directory / "export.json", {
    "format": FORMAT, "backend": "cpu", "precision": "fp32", "device": "cpu",
    "image_size": [64, 80], "num_window_samples": graphs.spec.num_window_samples,
    "weights": read_config(bundle)["weights"]["sha256"],
    "files": {path.name: sha256(path) for path in directory.iterdir()}, **facts,
})
"""


def make(directory, **changes):
    torch.manual_seed(0)
    model = DualEncoder(TINY.config(**changes)).eval()
    spec = denseav_spec(model, 1.0)
    spec = type(spec)(**{**vars(spec), "window_s": 2.0, "num_tokens": 11, "short_side_px": 64})
    return save_bundle(directory, model, spec, name="tiny", dtype=torch.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    bundle = make(tmp_path_factory.mktemp("denseav") / "b", normalize_audio=False)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(bundle)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture(scope="module")
def pair(bundle):
    return TorchBackend(load_bundle(bundle)), load_exported(bundle, "cpu")


def examples(spec, size, num=2):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for _ in range(num)]
    windows = 0.1 * rng.standard_normal((num, spec.num_window_samples), np.float32)
    return Examples(images, list(windows))


# The square of the learned positions, wider, upright, smaller.
@pytest.mark.parametrize("size", [(64, 64), (64, 80), (64, 112), (96, 64), (40, 48)])
def test_a_transformer_takes_any_image_size(pair, size):
    parity = compare(*pair, examples(pair[0].spec, size, 1))
    assert parity.image_max < 1e-5
    assert parity.audio_max < 1e-5


@pytest.mark.parametrize("size", [(64, 64), (64, 88), (200, 64)])
def test_positions_by_matrices_are_the_interpolated_ones(pair, size):
    model = pair[0].model
    open_size = folded(model, *size, is_any_size=True).image_backbone
    grid = [side // 8 for side in size]
    with torch.inference_mode():
        expected = model.image_backbone.positions(*grid)
        torch.testing.assert_close(open_size.positions(*grid), expected, atol=2e-6, rtol=0)
    assert type(model.image_backbone) is not type(open_size)


def test_front_and_transformer_are_two_graphs(bundle, pair):
    facts = json.loads((bundle / "cpu" / "export.json").read_text())
    assert facts["front"] == {"receptive_samples": 400, "stride_samples": 320}
    assert {"front.xml", "front.bin"} <= set(facts["files"])


@pytest.mark.parametrize("hop_s", [0.5, 0.32, 0.501])
def test_kept_frames_give_what_whole_windows_give(pair, hop_s):
    torch_backend, cpu = pair
    stream = cpu.audio_stream()
    rng = np.random.default_rng(1)
    num, hop = cpu.spec.num_window_samples, round(hop_s * 16_000)
    sound = (0.1 * rng.standard_normal(num + 4 * hop)).astype(np.float32)
    for step in range(5):
        window = sound[step * hop : step * hop + num]
        np.testing.assert_allclose(
            stream.encode(window, hop), torch_backend.encode_audio(window), atol=2e-5
        )
    stream.reset()
    np.testing.assert_array_equal(stream.encode(window, hop), cpu.encode_audio(window))


def test_a_stream_of_two_graphs_is_a_stream_of_torch(pair):
    answers = []
    rng = np.random.default_rng(2)
    sound = (0.2 * rng.standard_normal(48_000)).astype(np.float32)
    image = rng.integers(0, 256, (48, 64, 3), np.uint8)
    for backend in pair:
        stream = GroundingStream(backend, StreamingConfig())
        stream.push_audio(sound, 0, 16_000)
        answers.append(stream.push_frame(image, 3 * 10**9).sound)
    assert answers[0].any()
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)


def test_a_window_that_is_normalised_is_encoded_whole(tmp_path):
    model = load_bundle(make(tmp_path / "b")).model
    assert model.streaming_front() is None
