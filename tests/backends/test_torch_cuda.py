"""Compiled functions behind the contract. What is not CUDA itself runs here on the CPU."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from av_grounding.backends import torch_cuda
from av_grounding.backends.compiled import CompiledBackend, Functions
from av_grounding.backends.lane import Lane, call_durations_ms
from av_grounding.backends.torch_cuda import AnySize, load_torch_cuda, torch_functions
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.config import default_bundle
from av_grounding.modeling.bundle import load_bundle
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.types import Backend

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIZES = ((160, 208), (96, 64))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(default_bundle())


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
    return audio, backend.ground(tokens, np.ascontiguousarray(audio.transpose(0, 2, 1)))


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
    backend = CompiledBackend("compiled", functions, bundle.spec, CPU, {"precision": precision})
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
        "compiled", torch_functions(bundle, CPU, "fp32"), bundle.spec, CPU, {}
    )
    vectors = np.ones((2, 1, 64), np.float32)
    first = backend.encode_image(image_of(SIZES[0], seed=1))
    before = backend.ground(first, vectors)
    second = backend.encode_image(image_of(SIZES[0], seed=2))
    np.testing.assert_array_equal(backend.ground(first, vectors), before)
    assert not np.array_equal(backend.ground(second, vectors), before)


def test_the_same_functions_under_another_spec(bundle):
    backend = CompiledBackend(
        "compiled", torch_functions(bundle, CPU, "fp32"), bundle.spec, CPU, {}
    )
    spec = dataclasses.replace(bundle.spec, salience_power=0.0)
    other = backend.with_spec(spec)
    assert other.spec.salience_power == 0.0
    assert backend.spec is bundle.spec
    assert other.image_lane is backend.image_lane


def doubled(x):
    return 2 * x.float()


def test_one_size_alone_is_said_with_the_remedy(bundle):
    functions = Functions(doubled, doubled, doubled, image_size=(32, 48))
    backend = CompiledBackend("aot", functions, bundle.spec, CPU, {})
    with pytest.raises(ValueError, match=r"64x64 pixels; .* for 32x48: .*--image-size 64x64"):
        backend.encode_image(image_of((64, 64)))
    with pytest.raises(ValueError, match=r"waveform of 7 samples; .* windows of 40960"):
        backend.encode_audio(np.zeros(7, np.float32))


@pytest.mark.parametrize("num_vectors", [1, 2, 5])
def test_a_ground_step_of_at_least_two_vectors_takes_any_number(bundle, num_vectors):
    seen = []

    def ground(tokens, vectors):
        seen.append(vectors.shape[2])
        return torch.einsum("bknc,bkchw->bknhw", vectors, tokens)

    functions = Functions(lambda p: p[:, None, :, :4, :4], doubled, ground, min_vectors=2)
    backend = CompiledBackend("aot", functions, bundle.spec, CPU, {})
    image = image_of((32, 32))
    vectors = np.random.default_rng(0).standard_normal((1, num_vectors, 3)).astype(np.float32)
    maps = backend.ground(backend.encode_image(image), vectors)
    pixels = image[:4, :4].astype(np.float32) / 255.0
    np.testing.assert_allclose(maps, np.einsum("knc,hwc->knhw", vectors, pixels), rtol=1e-5)
    assert seen == [max(num_vectors, 2)]


def test_buffers_of_few_shapes_are_kept():
    lane = Lane(doubled, CPU, max_shapes=2)
    for length in (3, 4, 3, 5, 3):
        array = np.arange(length, dtype=np.float32)
        np.testing.assert_array_equal(lane(array).numpy(), 2 * array)
        assert lane.num_shapes <= 2
    assert {shape[0] for shape in lane._slots} == {(5,), (3,)}


def test_types_have_buffers_of_their_own():
    lane = Lane(doubled, CPU)
    for dtype in (np.uint8, np.float32):
        np.testing.assert_array_equal(lane(np.full(3, 7, dtype)).numpy(), np.full(3, 14.0))
    assert lane.num_shapes == 2


def test_the_array_may_be_changed_at_once():
    lane, array = Lane(doubled, CPU), np.ones(4, np.float32)
    result = lane(array)
    array[:] = 9.0
    np.testing.assert_array_equal(result.numpy(), np.full(4, 2.0))


def test_threads_take_turns():
    """Each answer is its own question's, however the threads interleave."""
    lane, wrong = Lane(doubled, CPU), []

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

    lane = Lane(picky, CPU)
    with pytest.raises(ValueError, match="negative"):
        lane(np.full(2, -1.0, np.float32))
    np.testing.assert_array_equal(lane(np.ones(2, np.float32)).numpy(), np.ones(2))


def test_encoders_of_few_sizes_are_kept():
    built = []

    def build(size):
        built.append(size)
        return doubled

    encoder = AnySize(build, {(8, 8): doubled})
    for size in [(8, 8), (8, 16), (8, 16), (8, 24), (8, 32), (8, 40), (8, 8)]:
        encoder(torch.ones(1, 3, *size))
    assert built == [(8, 16), (8, 24), (8, 32), (8, 40), (8, 8)]
    assert len(encoder._encoders) == torch_cuda.MAX_SHAPES


def test_durations_are_of_each_call():
    calls = []
    assert len(call_durations_ms(lambda: calls.append(1), CPU, 5)) == len(calls) == 5
    lane = Lane(doubled, CPU)
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
    assert_parity(backend, TorchBackend(load_bundle(default_bundle())), *sample, bound)


@pytest.mark.gpu
@GPU
def test_captured_calls_in_a_row_answer_their_own_question(bundle, sounds):
    """Uploads, replays and downloads of many calls are in flight; none overtakes another."""
    backend = load_torch_cuda(bundle, "cuda", "fp32", compile_mode=None)
    reference = TorchBackend(load_bundle(default_bundle()))
    images = [image_of(SIZES[0], seed) for seed in range(8)]
    vectors = np.ones((2, 3, 64), np.float32)
    tokens = [backend.encode_image(image) for image in images for _ in range(4)]
    heard = [backend.encode_audio(waveform) for waveform in sounds]
    for index, image in enumerate(images):
        expected = reference.ground(reference.encode_image(image), vectors)
        assert relative(backend.ground(tokens[4 * index], vectors), expected) < 1e-3
    for mine, waveform in zip(heard, sounds, strict=True):
        assert relative(mine, reference.encode_audio(waveform)) < 1e-3


@pytest.mark.gpu
@pytest.mark.slow
@GPU
def test_compiled_kernels_on_a_gpu(bundle, sample):
    """Run with --no-shape-checks: the compiler and the checks do not go together."""
    backend = load_torch_cuda(bundle, "cuda", "bf16")
    reference = TorchBackend(load_bundle(default_bundle()))
    assert_parity(backend, reference, *sample, 0.08)
