"""A compiled separator's masks against the eager model's."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from av_grounding.backends import load_backend
from tests.helpers.exporting import run_export
from tests.helpers.small_separator import save_small_separator

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="needs OpenVINO: pip install 'av_grounding[cpu]'",
)
WITHOUT_TORCH = """
import sys
import numpy as np
from av_grounding import Grounder
grounder = Grounder.load(sys.argv[1])
image, clip = np.zeros((64, 64, 3), np.uint8), np.ones(16_000, np.float32)
heard = grounder.separate(image, clip, 16_000, point=(20, 20))
assert grounder.backend.name == "cpu" and np.abs(heard.separated).max() > 0.0
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("separators")
    model = save_small_separator(folder / "model")
    result = run_export(
        folder / "out", "--model", str(model), "--backend", "cpu", "--num", "2", "--json"
    )
    assert result.returncode == 0, result.stderr
    return folder / "out"


def test_compiled_masks_are_those_of_the_model(bundle):
    eager, compiled = (load_backend(bundle, name, "cpu") for name in ("torch", "cpu"))
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(64, 96, 3), dtype=np.uint8)
    window = 0.1 * rng.standard_normal(40_960).astype(np.float32)
    maps = np.eye(3, 16 * 24, dtype=np.float32)
    maps[2] = 0.0  # the whole picture
    masks = [
        one.separation_masks(one.encode_image(image), window, maps) for one in (eager, compiled)
    ]
    assert masks[1].shape == (3, 513, 128)
    np.testing.assert_allclose(*masks, atol=1e-4)
    assert np.abs(masks[1][0] - masks[1][1]).max() > 0.01
    with pytest.raises(ValueError, match="this export takes windows of 40960"):
        compiled.separation_masks(compiled.encode_image(image), window[1:], maps)


def test_separating_by_graphs_imports_no_torch(bundle):
    command = [sys.executable, "-c", WITHOUT_TORCH, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
