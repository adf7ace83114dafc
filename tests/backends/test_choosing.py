"""Which backend is taken, what is said of it, and what happens where it cannot run."""

import dataclasses
import logging
import sys

import pytest
import torch

from av_grounding.backends import BACKENDS, load_backend, load_configured
from av_grounding.config import GroundingConfig, drawn_world_bundle

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


def configured(bundle, **values):
    return load_configured(bundle, dataclasses.replace(GroundingConfig(), **values))


def test_auto_takes_an_export(exported, caplog):
    with caplog.at_level(logging.INFO, logger="av_grounding.backends"):
        backend = load_backend(exported, "auto", "cpu")
    assert backend.name == "cpu"
    assert backend.describe()["reason"] == "auto: the bundle has an export for cpu"
    assert caplog.messages == ["backend cpu: auto: the bundle has an export for cpu"]


def test_auto_without_an_export_says_how_to_get_one():
    backend = load_backend(drawn_world_bundle(), "auto", "cpu")
    assert backend.name == "torch"
    reason = backend.describe()["reason"]
    assert "no export for cpu (av-grounding export --model" in reason
    assert "--backend cpu" in reason


def test_auto_goes_on_where_the_export_does_not_work(copied, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        backend = load_backend(copied, "auto", "cpu")
    assert backend.name == "torch"
    assert "cpu does not work: backend 'cpu' needs openvino" in backend.describe()["reason"]
    (copied / "cpu" / "audio.bin").write_bytes(b"")
    backend = load_backend(copied, "auto", "cpu")
    assert backend.name == "torch"
    assert "audio.bin is missing or damaged" in backend.describe()["reason"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_a_spec_of_ones_own_keeps_the_reason(exported):
    backend = load_backend(exported, "auto", "cpu")
    assert backend.with_spec(backend.spec).describe() == backend.describe()


def test_a_named_backend_is_that_one_or_an_error():
    with pytest.raises(
        FileNotFoundError, match=r"no export for backend 'cpu' in .*: run av-grounding export"
    ):
        load_backend(drawn_world_bundle(), "cpu")


@needs_no_gpu
@pytest.mark.parametrize("name", ["tensorrt", "torch-compiled"])
def test_a_gpu_backend_without_a_gpu(name):
    with pytest.raises((RuntimeError, ImportError)) as caught:
        load_backend(drawn_world_bundle(), name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["compiled", "aot"])
def test_names_that_were_let_go_are_answered_with_those_that_there_are(name):
    with pytest.raises(ValueError, match=f"'{name}'; expected one of auto, torch, torch-compiled"):
        load_backend(drawn_world_bundle(), name)
    with pytest.raises(ValueError, match=f"'{name}'.*torch-compiled"):
        configured(drawn_world_bundle(), backend=name)


def test_unknown_names():
    with pytest.raises(ValueError, match="backend is 'gpu'; expected one of auto, torch"):
        load_backend(drawn_world_bundle(), "gpu")
    assert BACKENDS[0] == "auto"


def test_no_bundle(tmp_path):
    for name in BACKENDS:
        with pytest.raises((FileNotFoundError, RuntimeError)):
            load_backend(tmp_path, name)


def test_the_configuration_forbids_a_fallback_unless_it_allows_it(caplog):
    with pytest.raises(FileNotFoundError, match="no export for backend 'cpu'"):
        configured(drawn_world_bundle(), backend="cpu")
    backend = configured(drawn_world_bundle(), backend="cpu", backend_fallback=True)
    reason = backend.describe()["reason"]
    assert reason.startswith("fallback from cpu on device auto: no export for backend 'cpu'")
    assert "fallback from cpu" in caplog.messages[-1]


@needs_no_gpu
def test_fallback_from_a_device_that_is_not_there():
    with pytest.raises(RuntimeError, match="sees no CUDA device"):
        configured(drawn_world_bundle(), device="cuda")
    backend = configured(drawn_world_bundle(), device="cuda", backend_fallback=True)
    assert backend.describe()["device"] == "cpu"
    assert backend.describe()["reason"].startswith("fallback from auto on device cuda: ")


def test_no_fallback_from_a_bundle_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no bundle at"):
        configured(tmp_path, backend="torch", backend_fallback=True)
