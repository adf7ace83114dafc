"""What is said where a GPU is missing, too old, foreign or full. No GPU is needed to say it."""

import pytest
import torch

from av_grounding.backends import machine

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_one_line_with_the_remedy():
    with pytest.raises(RuntimeError, match=r"no CUDA device .*choose backend 'torch'") as caught:
        machine.cuda_device("cuda")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ((8, 0), ["sm_80"]),
        ((8, 7), ["sm_50", "sm_80", "sm_90"]),
        ((9, 0), ["sm_80", "sm_90a"]),
        ((10, 0), ["sm_80", "compute_90"]),
        ((12, 1), ["sm_120"]),
    ],
)
def test_gpus_that_have_code(capability, architectures):
    machine.check_capability(capability, architectures)


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ((5, 3), ["sm_70", "sm_80"]),
        ((8, 7), ["sm_87x", "sm_90"]),
        ((9, 0), ["sm_80", "sm_86"]),
        ((8, 0), ["sm_86"]),
        ((8, 7), ["compute_90"]),
        ((8, 7), []),
    ],
)
def test_gpus_without_code_are_refused(capability, architectures):
    with pytest.raises(RuntimeError, match=rf"SM {capability[0]}\.{capability[1]}, .*install"):
        machine.check_capability(capability, architectures)


def test_bf16_is_refused_where_the_gpu_has_none():
    machine.check_capability((7, 5), ["sm_75"], "fp16")
    with pytest.raises(RuntimeError, match=r"bf16 needs .*SM 7\.5: use precision fp16"):
        machine.check_capability((7, 5), ["sm_75"], "bf16")


def test_out_of_memory_says_what_to_lower():
    with (
        pytest.raises(RuntimeError, match=r"while encoding an image \(CUDA out of .*smaller") as e,
        machine.memory_advice("encoding an image"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has …")
    assert "\n" not in str(e.value)
    assert not isinstance(e.value, torch.OutOfMemoryError)


@pytest.mark.gpu
@GPU
def test_running_out_of_memory_for_real():
    free, _ = torch.cuda.mem_get_info()
    with (
        pytest.raises(RuntimeError, match=r"ran out of memory while asking for too much"),
        machine.memory_advice("asking for too much"),
    ):
        torch.empty(2 * free, dtype=torch.uint8, device="cuda")


@pytest.mark.gpu
@GPU
def test_the_gpu_at_hand_is_taken():
    device = machine.cuda_device("cuda")
    assert machine.gpu_facts(device)["sm"].count(".") == 1


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match=r"^something else$"), machine.memory_advice("this"):
        raise RuntimeError("something else")


def test_float32_without_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    machine.without_tf32()
    assert torch.backends.cudnn.allow_tf32 is False
