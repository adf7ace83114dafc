"""Compiled functions behind the contract. What is not CUDA itself runs here on the CPU."""

import dataclasses
import threading
import weakref

import numpy as np
import pytest
import torch

from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.cuda_graph import MAX_SHAPES, CudaGraphRunner, call_durations_ms
from av_grounding.backends.economy import AUDIO_BATCH
from av_grounding.backends.torch_cuda import load_torch_cuda, torch_functions
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config import drawn_world_bundle
from av_grounding.evaluation.windows import with_window
from av_grounding.modeling.bundle import load_bundle
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.types import Backend

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZES = ((160, 208), (96, 64))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(drawn_world_bundle())


@pytest.fixture(scope="module")
def sounds(bundle):
    return 0.1 * np.random.default_rng(1).standard_normal(
        (3, bundle.spec.num_window_samples)
    ).astype(np.float32)


@pytest.fixture(scope="module")
def sample(bundle):
    """What the bundle was trained for: on noise its features are small, and rounding is not."""
    sample = SyntheticSamples("test", 0)[0]
    return sample.image, sample.mixture[: bundle.spec.num_window_samples]


def image_of(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def relative(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def answers(backend, image, waveform):
    tokens = backend.encode_image(image)
    audio = backend.encode_audio(waveform)
    return audio, backend.similarity(tokens, np.ascontiguousarray(audio.transpose(0, 2, 1)))


def assert_parity(backend, reference, image, waveform, bound):
    for height, width in SIZES:
        part = image[:height, :width]
        for mine, theirs in zip(
            answers(backend, part, waveform), answers(reference, part, waveform), strict=True
        ):
            assert mine.shape == theirs.shape
            assert mine.dtype == np.float32
            assert relative(mine, theirs) < bound


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("fp16", 0.02), ("bf16", 0.08)])
def test_parity_with_the_eager_backend(bundle, sample, precision, bound):
    functions = torch_functions(bundle, CPU, precision)
    facts = {"precision": precision}
    backend = CompiledBackend("torch-compiled", functions, bundle.spec, CPU, facts)
    assert isinstance(backend, Backend)
    assert backend.describe()["precision"] == precision
    backend.reason = "asked for"
    assert backend.describe()["reason"] == "asked for"
    assert_parity(backend, TorchBackend(bundle), *sample, bound)


def test_half_precision_leaves_the_bundle_as_it_was(bundle):
    torch_functions(bundle, CPU, "fp16")
    assert {p.dtype for p in bundle.model.parameters()} == {torch.float32}
    assert bundle.model.audio_backbone.log_mel.basis.dtype == torch.float32


def test_an_unknown_precision_is_refused(bundle):
    with pytest.raises(ValueError, match="'int4'; expected one of fp32, fp16, bf16"):
        torch_functions(bundle, CPU, "int4")


def test_tokens_outlive_the_next_frame(bundle):
    """The buffers of a size are used again; what was returned from them is not."""
    backend = CompiledBackend(
        "torch-compiled", torch_functions(bundle, CPU, "fp32"), bundle.spec, CPU, {}
    )
    vectors = np.ones((2, 1, 64), np.float32)
    first = backend.encode_image(image_of(SIZES[0], seed=1))
    before = backend.similarity(first, vectors)
    second = backend.encode_image(image_of(SIZES[0], seed=2))
    np.testing.assert_array_equal(backend.similarity(first, vectors), before)
    assert not np.array_equal(backend.similarity(second, vectors), before)


def test_the_same_functions_under_another_spec(bundle):
    backend = CompiledBackend(
        "torch-compiled", torch_functions(bundle, CPU, "fp32"), bundle.spec, CPU, {}
    )
    spec = bundle.spec.with_heads(salience_power={"speech": 0.0})
    other = backend.with_spec(spec)
    assert other.spec.head("speech").salience_power == 0.0
    assert backend.spec is bundle.spec
    assert other.image_runner is backend.image_runner


def test_code_for_one_window_never_meets_a_shorter_one(bundle):
    """It would read beyond its end: what it was compiled for counts, not a changed spec."""
    functions = dataclasses.replace(
        torch_functions(bundle, CPU, "fp32"), num_window_samples=bundle.spec.num_window_samples
    )
    backend = CompiledBackend("tensorrt", functions, bundle.spec, CPU, {})
    with pytest.raises(ValueError, match=r"20480 samples; .* compiled for windows of 40960"):
        with_window(backend, 1.28)


def doubled(x):
    return 2 * x.float()


def doubled_for(shape):
    return doubled


def test_one_size_alone_is_said_with_the_remedy(bundle):
    functions = Functions(doubled_for, doubled, doubled, (32, 48))
    backend = CompiledBackend("tensorrt", functions, bundle.spec, CPU, {})
    with pytest.raises(ValueError, match=r"64x64 pixels; .* takes 32x48: .*--image-size 64x64"):
        backend.encode_image(image_of((64, 64)))
    with pytest.raises(ValueError, match=r"waveform of 7 samples; .* windows of 40960"):
        backend.encode_audio(np.zeros(7, np.float32))


def test_buffers_of_few_shapes_are_kept():
    lane = CudaGraphRunner(doubled_for, CPU, max_shapes=2)
    for length in (3, 4, 3, 5, 3):
        array = np.arange(length, dtype=np.float32)
        np.testing.assert_array_equal(lane(array).numpy(), 2 * array)
        assert lane.num_shapes <= 2
    assert {shape[0] for shape in lane._slots} == {(5,), (3,)}


def test_types_have_buffers_of_their_own():
    lane = CudaGraphRunner(doubled_for, CPU)
    for dtype in (np.uint8, np.float32):
        np.testing.assert_array_equal(lane(np.full(3, 7, dtype)).numpy(), np.full(3, 14.0))
    assert lane.num_shapes == 2


def test_the_array_may_be_changed_at_once():
    lane, array = CudaGraphRunner(doubled_for, CPU), np.ones(4, np.float32)
    result = lane(array)
    array[:] = 9.0
    np.testing.assert_array_equal(result.numpy(), np.full(4, 2.0))


def test_threads_take_turns():
    """Each answer is its own question's, however the threads interleave."""
    lane, wrong = CudaGraphRunner(doubled_for, CPU), []

    def ask(value):
        for _ in range(200):
            if (lane(np.full(64, value, np.float32)).numpy() != 2 * value).any():
                wrong.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_error_in_the_function_leaves_the_lane_usable():
    def picky(x):
        if x[0] < 0:
            raise ValueError("negative")
        return x.clone()

    lane = CudaGraphRunner(lambda shape: picky, CPU)
    with pytest.raises(ValueError, match="negative"):
        lane(np.full(2, -1.0, np.float32))
    np.testing.assert_array_equal(lane(np.ones(2, np.float32)).numpy(), np.ones(2))


def test_a_function_lives_as_long_as_its_shape():
    """A CUDA graph reads the weights of the function it was recorded from, and does not hold them:
    what was used lately must stay, also where it was made first."""
    made = {}

    def function_for(shape):
        function = lambda x: doubled(x)  # noqa: E731
        made.setdefault(shape, []).append(weakref.ref(function))
        return function

    lane = CudaGraphRunner(function_for, CPU)
    lengths = range(1, MAX_SHAPES + 1)
    for length in (*lengths, 1, MAX_SHAPES + 1):
        lane(np.ones(length, np.float32))
    alive = {shape[0] for shape, (function,) in made.items() if function() is not None}
    assert alive == {1, *range(3, MAX_SHAPES + 2)}
    assert lane.num_shapes == MAX_SHAPES


def test_the_bundles_model_stays_where_it_is(bundle):
    """Every size has a copy, which may be moved to a device without taking the bundle along."""
    own = {parameter.data_ptr() for parameter in bundle.model.parameters()}
    functions = torch_functions(bundle, CPU, "fp32")
    for module in (functions.image_for(SIZES[0]), functions.image_for(SIZES[1]), functions.audio):
        assert own.isdisjoint(parameter.data_ptr() for parameter in module.parameters())


@pytest.mark.parametrize("num_windows", [1, AUDIO_BATCH, AUDIO_BATCH + 3])
def test_windows_together_are_as_they_are_alone(bundle, num_windows):
    functions = torch_functions(bundle, CPU, "fp32")
    seen = []

    def audio(samples):
        seen.append(len(samples))
        return functions.audio(samples)

    backend = CompiledBackend(
        "torch-compiled", dataclasses.replace(functions, audio=audio), bundle.spec, CPU, {}
    )
    assert backend.max_audio_batch == AUDIO_BATCH
    shape = (num_windows, bundle.spec.num_window_samples)
    sounds = 0.1 * np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    together = backend.encode_audio_batch(sounds)
    # One number of windows, so that a compiler sees one shape more and not as many as may come.
    assert set(seen) == {AUDIO_BATCH}
    assert len(together) == num_windows
    for tokens, waveform in zip(together, sounds, strict=True):
        np.testing.assert_allclose(tokens, backend.encode_audio(waveform), atol=1e-5)
    with pytest.raises(ValueError, match="waveform of 7 samples; this model was compiled for"):
        backend.encode_audio_batch(sounds[:, :7])


def test_a_clip_is_encoded_in_batches(bundle):
    from av_grounding import Grounder

    functions = torch_functions(bundle, CPU, "fp32")
    sample = SyntheticSamples("test", 1)[0]
    answers = []
    for num_together in (1, AUDIO_BATCH):
        backend = CompiledBackend(
            "torch-compiled", dataclasses.replace(functions, max_audio_batch=num_together),
            bundle.spec, CPU, {},
        )  # fmt: skip
        answer = Grounder(backend).ground(sample.image, sample.mixture, 16_000)
        answers.append(np.stack([answer.sound, answer.speech]))
    assert backend.audio_runner.num_shapes == 2
    assert answers[0].max() > 0.2
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)


def test_durations_are_of_each_call():
    calls = []
    assert len(call_durations_ms(lambda: calls.append(1), CPU, 5)) == len(calls) == 5
    lane = CudaGraphRunner(doubled_for, CPU)
    durations = lane.durations_ms(np.ones(8, np.float32), 4)
    assert len(durations) == 4
    assert min(durations) > 0.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(bundle):
    with pytest.raises(RuntimeError, match="no CUDA device"):
        load_torch_cuda(bundle)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("is_captured", [False, True])
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("fp16", 0.02), ("bf16", 0.08)])
def test_parity_on_a_gpu(bundle, sample, precision, bound, is_captured):
    backend = load_torch_cuda(
        bundle, "cuda", precision, compile_mode=None, is_captured=is_captured
    )
    assert_parity(backend, TorchBackend(load_bundle(drawn_world_bundle())), *sample, bound)


@pytest.mark.gpu
@GPU
def test_captured_calls_in_a_row_answer_their_own_question(bundle, sounds):
    """Uploads, replays and downloads of many calls are in flight; none overtakes another."""
    backend = load_torch_cuda(bundle, "cuda", "fp32", compile_mode=None)
    reference = TorchBackend(load_bundle(drawn_world_bundle()))
    images = [image_of(SIZES[0], seed) for seed in range(8)]
    vectors = np.ones((2, 3, 64), np.float32)
    tokens = [backend.encode_image(image) for image in images for _ in range(4)]
    heard = [backend.encode_audio(waveform) for waveform in sounds]
    for index, image in enumerate(images):
        expected = reference.similarity(reference.encode_image(image), vectors)
        assert relative(backend.similarity(tokens[4 * index], vectors), expected) < 1e-3
    for mine, waveform in zip(heard, sounds, strict=True):
        assert relative(mine, reference.encode_audio(waveform)) < 1e-3


@pytest.mark.gpu
@pytest.mark.slow
@GPU
def test_compiled_kernels_on_a_gpu(bundle, sample):
    """Run with --no-shape-checks: the compiler and the checks do not go together."""
    backend = load_torch_cuda(bundle, "cuda", "bf16")
    reference = TorchBackend(load_bundle(drawn_world_bundle()))
    assert_parity(backend, reference, *sample, 0.08)
