"""Compiled ResNet encoders, and the separator on one, against the eager model."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch

from av_grounding.backends import load_backend
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, head_specs
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.material import spec_of
from av_grounding.training.paper_configuration import OasslPaperRun, OneAvmPaperRun
from av_grounding.training.unified_run import unified_spec
from tests.helpers.exporting import run_export
from tests.helpers.small_resnets import SMALL_PAIR, SMALL_SEPARATOR

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="needs OpenVINO: pip install 'av_grounding[cpu]'",
)


def exported(folder, model, spec):
    bundle = save_bundle(folder / "model", model.eval(), spec, name="small")
    result = run_export(
        folder / "out", "--model", str(bundle), "--backend", "cpu", "--num", "2", "--json"
    )
    assert result.returncode == 0, result.stderr
    return [load_backend(folder / "out", name, "cpu") for name in ("torch", "cpu")]


def check_encoders(eager, compiled, size):
    rng = np.random.default_rng(0)
    image = rng.integers(256, size=(*size, 3), dtype=np.uint8)
    window = (0.1 * rng.standard_normal(eager.spec.num_window_samples)).astype(np.float32)
    tokens = [one.encode_audio(window) for one in (eager, compiled)]
    assert tokens[1].shape[2] == eager.spec.num_tokens
    np.testing.assert_allclose(*tokens, atol=2e-4)
    queries = rng.standard_normal((1, 3, 8)).astype(np.float32)
    similar = [one.similarity(one.encode_image(image), queries) for one in (eager, compiled)]
    assert similar[1].shape == (1, 3, size[0] * size[1] // 1024)
    np.testing.assert_allclose(*similar, atol=2e-4)
    return image, window


@pytest.mark.slow
def test_the_compiled_model_of_paper_003_separates_alike(tmp_path):
    torch.manual_seed(0)
    model = SeparatingEncoder(SMALL_SEPARATOR)
    run = replace(OneAvmPaperRun(), model=SMALL_SEPARATOR)
    eager, compiled = exported(tmp_path, model, unified_spec(run, model, 33.3))
    # The size it was exported for, and another.
    check_encoders(eager, compiled, (96, 64))
    image, window = check_encoders(eager, compiled, (224, 288))
    maps = np.eye(2, 7 * 9, dtype=np.float32)
    masks = [
        one.separation_masks(one.encode_image(image), window, maps) for one in (eager, compiled)
    ]
    assert masks[1].shape == (2, 201, 128)
    np.testing.assert_allclose(*masks, atol=1e-4)


@pytest.mark.slow
def test_the_compiled_model_of_paper_004_hears_alike(tmp_path):
    torch.manual_seed(0)
    model = DualEncoder(SMALL_PAIR)
    run = replace(OasslPaperRun(), model=SMALL_PAIR)
    spec = spec_of(run, model, head_specs(model.heads), compares="cosine")
    check_encoders(*exported(tmp_path, model, spec), (224, 288))
