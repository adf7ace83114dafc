"""The way to TensorRT up to its doors.

TensorRT's libraries and a GPU cannot be had on every machine. What stands in for them here has
the signatures of their releases and nothing behind them: these tests say what is asked of
TensorRT and what is done with its answers, not whether it gives them. The tests marked `gpu` do.
"""

import ctypes
import types
from collections.abc import Callable

import numpy as np
import pytest
import torch

from av_grounding.backends import tensorrt as backend_module
from av_grounding.backends import tensorrt_build
from av_grounding.backends.graphs import Graph, build_graphs
from av_grounding.backends.precision import in_precision
from av_grounding.backends.tensorrt import Engine, bundle_hash, load_tensorrt
from av_grounding.backends.tensorrt_build import build_engine, precision_options, read_report
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config import drawn_world_bundle
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_config import store_spec

CPU = torch.device("cpu")
SIZE = (64, 96)
WHOLE = "+++ Dry-Run Results for Graph +++\n\nTRT Engine #1 - Submodule name: _run_on_acc_0\n"
SPLIT = """
++++ Dry-Run Results for Graph ++++

The graph consists of 96 Total Operators, of which 93 operators are supported, 96.88% coverage

The following ops are currently unsupported or excluded from conversion, and are listed with their op-count in the graph:
 torch.ops.aten.full_like.default: 2
torch.ops.aten.linalg_vector_norm.default: 1

The following nodes are currently set to run in Torch:
Node: torch.ops.aten.full_like.default, with layer location: /full_like

Compiled with: CompilationSettings(min_block_size=1)

  Graph Structure:

    TRT Engine #1 - Submodule name: _run_on_acc_0
    TRT Engine #2 - Submodule name: _run_on_acc_2
"""  # noqa: E501


class Dynamo:
    """`torch_tensorrt.dynamo`: notes what it is asked, and answers what it is given."""

    def __init__(self, report=WHOLE, engine: bytes | Exception = b"engine"):
        self.report, self.engine, self.asked = report, engine, []

    def answer(self, what, options):
        self.asked.append((what, options))
        if what == "dry run":
            print(self.report)
            with open(options["dryrun"], "w", encoding="utf-8") as file:
                file.write(self.report)
            return None
        if isinstance(self.engine, Exception):
            raise self.engine
        return self.engine


class JetPack(Dynamo):
    """As of 2.5, with TensorRT 10.3: told which precisions it may use."""

    def compile(
        self, exported_program, inputs=None, *, arg_inputs=None, enabled_precisions=None,
        device=None, disable_tf32=False, require_full_compilation=False, min_block_size=5,
        dryrun=False, **kwargs,
    ):  # fmt: skip
        return self.answer("dry run", locals())

    def convert_exported_program_to_serialized_trt_engine(
        self, exported_program, inputs=None, *, arg_inputs=None, enabled_precisions=None,
        device=None, disable_tf32=False, require_full_compilation=False, min_block_size=5,
        timing_cache_path="", **kwargs,
    ):  # fmt: skip
        return self.answer("build", locals())


class Typed(Dynamo):
    """As of 2.8: told to keep to the types in the network."""

    def compile(
        self, exported_program, inputs=None, *, arg_inputs=None, enabled_precisions=None,
        device=None, disable_tf32=False, use_explicit_typing=False, min_block_size=5,
        dryrun=False, **kwargs,
    ):  # fmt: skip
        return self.answer("dry run", locals())

    def convert_exported_program_to_serialized_trt_engine(
        self, exported_program, inputs=None, *, arg_inputs=None, enabled_precisions=None,
        device=None, disable_tf32=False, use_explicit_typing=False,
        require_full_compilation=False, min_block_size=5, timing_cache_path="",
        immutable_weights=True, **kwargs,
    ):  # fmt: skip
        return self.answer("build", locals())


class Current(Dynamo):
    """As of 2.14, with TensorRT 11: the types in the network are all it knows."""

    def compile(
        self, exported_program, inputs=None, *, arg_inputs=None, device=None, disable_tf32=False,
        min_block_size=5, dryrun=False, **kwargs,
    ):  # fmt: skip
        return self.answer("dry run", locals())

    def convert_exported_program_to_serialized_trt_engine(
        self, exported_program, inputs=None, *, arg_inputs=None, device=None, disable_tf32=False,
        require_full_compilation=False, min_block_size=5, timing_cache_path="",
        immutable_weights=True, **kwargs,
    ):  # fmt: skip
        return self.answer("build", locals())


class Halver(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4).half()

    def forward(self, x):
        return self.layer(x.half()).float()


GRAPH = Graph("image", Halver().eval(), (torch.randn(1, 4),))


def install(monkeypatch, dynamo):
    modules = {
        "torch_tensorrt": types.SimpleNamespace(dynamo=dynamo, __version__="2.5.0"),
        "tensorrt": FakeRuntime(),
    }
    for module in (tensorrt_build, backend_module):
        monkeypatch.setattr(module, "import_tensorrt", modules.__getitem__)
    return dynamo


@pytest.mark.parametrize("release", [JetPack, Typed, Current])
def test_the_whole_graph_is_asked_for_in_its_own_types(release, monkeypatch, tmp_path, capsys):
    dynamo = install(monkeypatch, release())
    assert build_engine(GRAPH, "fp16", CPU, tmp_path) == b"engine"
    (_, dry_run), (_, build) = dynamo.asked
    assert dry_run["min_block_size"] == build["min_block_size"] == 1
    assert build["require_full_compilation"] is True
    assert build["kwargs"] == dry_run["kwargs"] == {}
    assert build["timing_cache_path"] == str(tmp_path / "timing_cache.bin")
    for options in (dry_run, build):
        if release is JetPack:
            assert options["enabled_precisions"] == {torch.float32, torch.float16}
        elif release is Typed:
            assert options["use_explicit_typing"] is True
            assert options["enabled_precisions"] is None
        assert options["device"] == CPU
        assert options["disable_tf32"] is False
        (given,) = options["arg_inputs"]
        assert given.shape == (1, 4)
    types_of_weights = {p.dtype for p in build["exported_program"].state_dict.values()}
    assert types_of_weights == {torch.float16}
    assert capsys.readouterr().out == ""


def test_float32_is_asked_for_as_it_is(monkeypatch, tmp_path):
    """Without a word TensorRT would multiply it in TF32, past the bound of an fp32 export."""
    dynamo = install(monkeypatch, Current())
    build_engine(GRAPH, "fp32", CPU, tmp_path)
    assert [options["disable_tf32"] for _, options in dynamo.asked] == [True, True]


@pytest.mark.parametrize("release", [JetPack, Typed, Current])
def test_a_graph_that_would_split_is_an_error_that_names_the_operators(
    release, monkeypatch, tmp_path
):
    dynamo = install(monkeypatch, release(SPLIT))
    with pytest.raises(
        ValueError,
        match=r"splits into 2 engines around .*full_like\.default \(2\), .*vector_norm.*\(1\)",
    ):
        build_engine(GRAPH, "fp16", CPU, tmp_path)
    assert [what for what, _ in dynamo.asked] == ["dry run"]


@pytest.mark.parametrize("report", ["", "no engines here\n", WHOLE + WHOLE.replace("#1", "#2")])
def test_a_report_of_other_than_one_engine_is_an_error(report, monkeypatch, tmp_path):
    install(monkeypatch, Current(report))
    with pytest.raises(ValueError, match="does not take the whole image graph"):
        build_engine(GRAPH, "fp16", CPU, tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("While interpreting the module got an error: no memory\nlong trace"),
        UnboundLocalError("cannot access local variable 'interpreter_result'"),
    ],
)
def test_a_failed_build_is_one_line(error, monkeypatch, tmp_path):
    install(monkeypatch, JetPack(engine=error))
    with pytest.raises(
        RuntimeError, match=r"could not build the image graph in fp16 \("
    ) as caught:
        build_engine(GRAPH, "fp16", CPU, tmp_path)
    assert "\n" not in str(caught.value)


def test_out_of_memory_says_what_to_lower(monkeypatch, tmp_path):
    install(monkeypatch, Current(engine=torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(RuntimeError, match=r"out of memory.*smaller image size"):
        build_engine(GRAPH, "fp16", CPU, tmp_path)


def test_the_dry_runs_report_is_read():
    rejected, num_engines = read_report(SPLIT)
    assert rejected == {
        "torch.ops.aten.full_like.default": 2,
        "torch.ops.aten.linalg_vector_norm.default": 1,
    }
    assert num_engines == 2
    assert read_report(WHOLE) == ({}, 1)


def test_releases_without_precisions_are_told_none():
    function: Callable = Current().compile
    assert precision_options(function, "bf16") == {}


def test_without_tensorrt_one_line_says_how_to_get_it():
    with pytest.raises(ImportError, match=r"needs tensorrt_that_is_not_there .*: install"):
        tensorrt_build.import_tensorrt("tensorrt_that_is_not_there")


class FakeRuntime:
    """`tensorrt`: an engine is the name of a shape, and computes by doubling its input."""

    __version__ = "10.3.0"
    float32, float16, bfloat16, int8 = "FLOAT", "HALF", "BF16", "INT8"
    TensorIOMode = types.SimpleNamespace(INPUT="in", OUTPUT="out")

    class Logger:
        WARNING = 2

        def __init__(self, level):
            self.level = level

    def Runtime(self, logger):
        return types.SimpleNamespace(deserialize_cuda_engine=self.deserialize)

    def deserialize(self, content):
        if content == b"foreign":
            return None
        return FakeEngine(content)


class FakeEngine:
    """Of inputs (1, 4)."""

    num_io_tensors = 2
    dtypes = ("HALF", "FLOAT")

    def __init__(self, content):
        self.content, self.contexts = content, []

    def create_execution_context(self):
        if self.content == b"no memory":
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]

    def get_tensor_name(self, index):
        return ("output0", "pixels")[index]

    def get_tensor_mode(self, name):
        return "in" if name == "pixels" else "out"

    def get_tensor_shape(self, name):
        return (1, 4)

    def get_tensor_dtype(self, name):
        return self.dtypes[0] if name == "pixels" else self.dtypes[1]


class FakeContext:
    def __init__(self, engine):
        self.engine, self.addresses, self.streams = engine, {}, []

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape == (1, 4)

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        self.streams.append(stream)
        num = self.shape[1]
        source = (ctypes.c_uint16 * num).from_address(self.addresses["pixels"])
        halves = np.frombuffer(source, np.float16)
        target = (ctypes.c_float * num).from_address(self.addresses["output0"])
        np.frombuffer(target, np.float32)[:] = 2 * halves.astype(np.float32)
        return self.engine.content != b"refuses"


@pytest.fixture
def runtime(monkeypatch):
    install(monkeypatch, Current())
    monkeypatch.setattr(backend_module, "stream_handle", lambda device: 42)


@pytest.mark.usefixtures("runtime")
def test_an_engine_reads_its_input_and_writes_an_output_of_its_own():
    engine = Engine(b"engine", CPU)
    function = engine.for_shape((1, 4))
    first = function(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    second = function(torch.zeros(1, 4))
    torch.testing.assert_close(first, torch.tensor([[2.0, 4.0, 6.0, 8.0]]))
    torch.testing.assert_close(second, torch.zeros(1, 4))
    assert [context.streams for context in engine.engine.contexts] == [[42, 42]]
    with pytest.raises(ValueError, match=r"input of \(1, 5\); the engine takes \(1, 4\)"):
        function(torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"input of \(1, 5\); the engine takes \(1, 4\)"):
        engine.for_shape((1, 5))


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"foreign", r"TensorRT 10\.3\.0 does not take the engine .*delete the engine cache"),
        (b"no memory", r"no memory for the engine's activations: use a smaller image size"),
    ],
)
def test_an_engine_that_cannot_be_opened_says_what_to_do(content, said):
    with pytest.raises(RuntimeError, match=said):
        Engine(content, CPU).for_shape((1, 4))


@pytest.mark.usefixtures("runtime")
def test_an_engine_that_refuses_to_run_says_so():
    with pytest.raises(RuntimeError, match="refused to run the engine"):
        Engine(b"refuses", CPU).for_shape((1, 4))(torch.zeros(1, 4))


@pytest.mark.usefixtures("runtime")
def test_types_that_are_not_expected_are_named(monkeypatch):
    monkeypatch.setattr(FakeEngine, "dtypes", ("INT8", "FLOAT"))
    with pytest.raises(ValueError, match="tensor of INT8; expected one of float32"):
        Engine(b"engine", CPU)


@pytest.fixture
def gpu_facts(monkeypatch):
    facts = {"gpu": "Orin", "sm": "8.7", "cuda": "12.6"}
    monkeypatch.setattr(backend_module, "cuda_device", lambda name, precision: CPU)
    monkeypatch.setattr(backend_module, "gpu_facts", lambda device: facts)
    monkeypatch.setattr(backend_module, "installed_version", lambda name: "2.5.0")
    # The shapes of the encoders are none that the runtime above computes with.
    monkeypatch.setattr(FakeContext, "set_input_shape", lambda context, name, shape: True)
    monkeypatch.setattr(FakeContext, "get_tensor_shape", lambda context, name: (1, 4))
    return facts


@pytest.mark.usefixtures("runtime")
def test_the_second_start_builds_nothing_and_reads_no_weights(gpu_facts, monkeypatch, tmp_path):
    built = []

    def build(graph, precision, device, work):
        built.append((graph.name, precision, work))
        return f"{graph.name}".encode()

    monkeypatch.setattr(backend_module, "build_engine", build)
    load = lambda **options: load_tensorrt(  # noqa: E731
        drawn_world_bundle(), image_size=SIZE, cache_directory=tmp_path, **options
    )
    first = load().describe()
    assert built == [("image", "fp16", tmp_path), ("audio", "fp16", tmp_path)]
    assert first["engine_source"] == "built built"
    for name in ("load_bundle", "build_graphs", "build_engine"):
        monkeypatch.setattr(backend_module, name, None)
    again = load().describe()
    assert again["engine_source"] == "cache cache"
    assert again["engine_key"] == first["engine_key"]
    assert len(built) == 2


@pytest.mark.usefixtures("runtime")
def test_another_gpu_precision_or_size_builds_anew(gpu_facts, monkeypatch, tmp_path):
    monkeypatch.setattr(backend_module, "build_engine", lambda *arguments: b"engine")
    sources = []
    for facts, precision, size in (
        ({}, "fp16", SIZE),
        ({"sm": "9.0"}, "fp16", SIZE),
        ({"sm": "8.7"}, "bf16", SIZE),
        ({}, "fp16", (64, 64)),
        ({}, "fp16", SIZE),
        ({}, "fp16", (160, 208)),
    ):
        gpu_facts.update(facts)
        backend = load_tensorrt(
            drawn_world_bundle(), "cuda", precision, image_size=size, cache_directory=tmp_path
        )
        sources.append(backend.describe()["engine_source"])
    # The sound's engine knows no image size.
    assert sources == [*["built built"] * 3, "built cache", "cache cache", "built cache"]


def test_a_version_is_read_without_importing(monkeypatch, tmp_path):
    """As the wheel says it: the package itself may say more, as torch's 2.13.0+cu130 does."""
    for name, version in (("built_here", "2.13.0"), ("built_for", "2.13.0+cu130")):
        facts = tmp_path / f"{name}-{version}.dist-info" / "METADATA"
        facts.parent.mkdir()
        facts.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tensorrt_build, "import_tensorrt", None)
    assert tensorrt_build.installed_version("built_here") == "2.13.0"
    assert tensorrt_build.installed_version("built_for") == "2.13.0+cu130"
    said = types.SimpleNamespace(__version__="9.9")
    monkeypatch.setattr(tensorrt_build, "import_tensorrt", lambda name: said)
    assert tensorrt_build.installed_version("that_pip_does_not_know") == "9.9"


def test_calibrating_a_bundle_leaves_its_engines_valid(tmp_path):
    bundle = load_bundle(drawn_world_bundle())
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((drawn_world_bundle() / name).read_bytes())
    assert bundle_hash(tmp_path) == bundle_hash(drawn_world_bundle())
    store_spec(tmp_path, bundle.spec.with_heads(salience_power={"speech": 0.5}), {})
    assert bundle_hash(tmp_path) == bundle_hash(drawn_world_bundle())


def needs_tensorrt():
    pytest.importorskip("torch_tensorrt", reason="needs torch-tensorrt")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 5e-3), ("fp16", 0.03)])
def test_the_shipped_bundle_on_tensorrt(precision, bound, tmp_path):
    needs_tensorrt()
    options = {"precision": precision, "image_size": SIZE, "cache_directory": tmp_path}
    drawn = drawn_world_bundle()
    backend = load_tensorrt(drawn, **options)
    assert load_tensorrt(drawn, **options).describe()["engine_source"] == "cache cache"
    bundle = load_bundle(drawn)
    reference = TorchBackend(bundle)
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    waveform = 0.1 * random.standard_normal(bundle.spec.num_window_samples).astype(np.float32)
    answers = []
    for runtime in (backend, reference):
        audio = runtime.encode_audio(waveform)
        vectors = np.ascontiguousarray(audio.transpose(0, 2, 1))
        answers.append((audio, runtime.similarity(runtime.encode_image(image), vectors)))
    for mine, theirs in zip(*answers, strict=True):
        assert np.linalg.norm(mine - theirs) < bound * np.linalg.norm(theirs)


@pytest.mark.gpu
def test_the_dry_run_of_the_real_torch_tensorrt_takes_the_encoders_whole():
    needs_tensorrt()
    import torch_tensorrt

    graphs = in_precision(build_graphs(load_bundle(drawn_world_bundle()), SIZE), "fp16")
    for graph in (graphs.image, graphs.audio):
        inputs = tuple(tensor.cuda() for tensor in graph.inputs)
        program = Graph(graph.name, graph.module.cuda(), inputs).export()
        device = inputs[0].device
        tensorrt_build.check_convertible(
            torch_tensorrt.dynamo, program, graph, inputs, "fp16", device
        )
