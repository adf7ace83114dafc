"""Packages compiled ahead of time: really compiled here, for this processor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._inductor.config

from av_grounding.backends import aot, artefact, machine
from av_grounding.backends.aot import build_aot, check_package, compile_package, load_aot
from av_grounding.backends.graphs import Graph, Ground, build_graphs
from av_grounding.backends.image_sizes import ImageSizes
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config import default_bundle
from av_grounding.modeling.bundle import load_bundle

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZE = (64, 96)
SIZES = ImageSizes(*SIZE, 16)


def test_the_ground_step_is_compiled_for_any_number_of_vectors(tmp_path):
    tokens, vectors = torch.randn(1, 2, 8, 4, 5), torch.randn(1, 2, 1, 8)
    program = aot._exported(Graph("ground", Ground().eval(), (tokens, vectors)), CPU)
    path = tmp_path / "ground.pt2"
    facts = machine.machine_facts(CPU) | {
        "cpu_flags": machine.processor_flags(), "image_size": "64x96"
    }  # fmt: skip
    # Compiling the headers beforehand pays for many graphs only.
    quicker = {"cpp_cache_precompile_headers": False, "aot_inductor.precompile_headers": False}
    with torch._inductor.config.patch(quicker):
        artefact.store(path, facts, lambda partial: compile_package(program, partial))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["ground.pt2", "ground.pt2.json"]
    assert check_package(path, CPU, SIZES) == facts
    ground = aot.load_package(path, CPU)
    for num_vectors in (2, 3, 40):
        vectors = torch.randn(1, 2, num_vectors, 8)
        torch.testing.assert_close(ground(tokens, vectors), Ground()(tokens, vectors))
    # As a convolution leaves them: the same values in another order in memory.
    scattered = tokens.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(ground(scattered, vectors), Ground()(tokens, vectors))


@pytest.fixture
def package(tmp_path):
    """Bytes where a package would be: it is never opened before it has been checked."""
    path = tmp_path / "image.pt2"
    facts = machine.machine_facts(CPU) | {
        "cpu_flags": machine.processor_flags(), "precision": "fp32", "image_size": "64x96",
        "graph": "image",
    }  # fmt: skip
    artefact.store(path, facts, lambda partial: Path(partial).write_bytes(b"native code"))
    return path


def change_facts(path, **changes):
    side_path = artefact.sidecar_of(path)
    side = json.loads(side_path.read_text())
    side["facts"] |= changes
    side_path.write_text(json.dumps(side))


@pytest.fixture
def unopened(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a package that does not fit was opened")

    monkeypatch.setattr(aot, "load_package", refuse)


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "aarch64"}, r"processor type aarch64; this is processor type"),
        ({"torch": "2.5.0"}, r"built for torch 2\.5\.0; this is torch"),
        ({"device": "cuda", "sm": "8.7"}, r"built for device cuda; this is device cpu"),
        ({"image_size": "64x64"}, r"built for image size 64x64; this is image size 64x96"),
        ({"cpu_flags": "avx2 avx9000"}, r"image\.pt2 may use avx9000, which this processor lacks"),
    ],
)
def test_a_package_of_another_machine_is_refused_in_one_line(package, changes, said):
    change_facts(package, **changes)
    with pytest.raises(ValueError, match=rf"{said}.*export it again") as caught:
        load_aot(package.parent, load_bundle(default_bundle()).spec, SIZES)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("unopened")
def test_a_damaged_package_is_refused(package):
    package.write_bytes(b"native")
    with pytest.raises(ValueError, match=r"is damaged \(6 bytes .* expected 11 of .*again"):
        load_aot(package.parent, load_bundle(default_bundle()).spec, SIZES)


@pytest.mark.usefixtures("unopened")
def test_a_package_without_its_facts_is_refused(package):
    artefact.sidecar_of(package).unlink()
    with pytest.raises(FileNotFoundError, match=r"no image\.pt2\.json in .*export it again"):
        load_aot(package.parent, load_bundle(default_bundle()).spec, SIZES)


def test_a_missing_compiler_is_said_before_anything_is_exported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    graphs = build_graphs(load_bundle(default_bundle()), SIZE)
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler .*: install g\+\+ or clang"):
        build_aot(graphs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_compilation_leaves_nothing(tmp_path, monkeypatch):
    def fail(program, package_path):
        Path(package_path).write_bytes(b"half")
        raise torch._inductor.exc.CppCompileError(["g++"], "fatal error: no such header")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    graphs = build_graphs(load_bundle(default_bundle()), SIZE)
    graphs = replace(graphs, image=graphs.ground)
    with pytest.raises(RuntimeError, match=r"the C\+\+ compiler failed on .*headers"):
        build_aot(graphs, tmp_path)
    assert list(tmp_path.iterdir()) == []


def assert_parity(directory, spec, device, bound):
    backend = load_aot(directory, spec, SIZES, device=device)
    reference = TorchBackend(load_bundle(default_bundle()))
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    waveform = 0.1 * random.standard_normal(spec.num_window_samples).astype(np.float32)
    answers = []
    for runtime in (backend, reference):
        tokens, audio = runtime.encode_image(image), runtime.encode_audio(waveform)
        vectors = np.ascontiguousarray(audio.transpose(0, 2, 1))
        answers.append((audio, *(runtime.ground(tokens, vectors[:, :n]) for n in (1, 32))))
    for mine, theirs in zip(*answers, strict=True):
        assert np.linalg.norm(mine - theirs) < bound * np.linalg.norm(theirs)
    return backend


@pytest.mark.slow
def test_the_shipped_bundle_compiled(tmp_path):
    bundle = load_bundle(default_bundle())
    build_aot(build_graphs(bundle, SIZE), tmp_path)
    backend = assert_parity(tmp_path, bundle.spec, "cpu", 1e-5)
    assert backend.describe()["backend"] == "aot"
    with pytest.raises(ValueError, match="this export takes 64x96"):
        backend.encode_image(np.zeros((160, 208, 3), np.uint8))


@pytest.mark.gpu
@pytest.mark.slow
@GPU
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("fp16", 0.02)])
def test_the_shipped_bundle_compiled_for_a_gpu(tmp_path, precision, bound):
    bundle = load_bundle(default_bundle())
    build_aot(build_graphs(bundle, SIZE), tmp_path, precision, device="cuda")
    assert_parity(tmp_path, bundle.spec, "cuda", bound)
