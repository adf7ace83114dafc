"""What code for a GPU depends on, whether this one has it, and what is said where it has not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

LOWEST_BF16_CAPABILITY = (8, 0)


def gpu_facts(device: torch.device) -> dict[str, str]:
    """GPU name, compute capability ("8.7") and CUDA version."""
    major, minor = torch.cuda.get_device_capability(device)
    return {
        "gpu": torch.cuda.get_device_name(device),
        "sm": f"{major}.{minor}",
        "cuda": str(torch.version.cuda),
    }


def cuda_device(name: str, precision: str = "fp32") -> torch.device:
    """The CUDA device of that name, after checking that it can run `precision`.

    Raises RuntimeError in one line where there is no GPU, where PyTorch has no code for this one,
    or where it cannot compute in bf16.
    """
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
        raise RuntimeError(
            f"no CUDA device for {name!r}: torch {torch.__version__} was built for {built} and "
            "sees no GPU; install the driver and torch with CUDA, or choose backend 'torch' with "
            "device 'cpu'"
        )
    device = torch.device(name)
    capability = torch.cuda.get_device_capability(device)
    check_capability(capability, torch.cuda.get_arch_list(), precision)
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.device("cuda", index)


def on_device(device: torch.device) -> AbstractContextManager:
    """`device` as the one that libraries beside PyTorch take, which ask CUDA for the current."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def without_tf32() -> None:
    """Let cuDNN compute float32 as such, from now on in all of this process.

    Its own choice is TF32, whose ten bits miss the bound of an fp32 export.
    """
    torch.backends.cudnn.allow_tf32 = False


def check_capability(
    capability: tuple[int, int], architectures: list[str], precision: str = "fp32"
) -> None:
    """Whether PyTorch's `architectures` ("sm_80", "compute_90") run on a GPU of `capability`."""
    major, minor = capability
    if not any(_runs_on(name, major, minor) for name in architectures):
        raise RuntimeError(
            f"the GPU has compute capability SM {major}.{minor}, torch {torch.__version__} has "
            f"code for {', '.join(architectures) or 'none'}: install a torch built for it"
        )
    if precision == "bf16" and capability < LOWEST_BF16_CAPABILITY:
        raise RuntimeError(
            f"bf16 needs compute capability SM 8.0, the GPU has SM {major}.{minor}: use "
            "precision fp16"
        )


def _runs_on(architecture: str, major: int, minor: int) -> bool:
    """Machine code runs on its own generation from its minor on, portable code on all later."""
    kind, _, number = architecture.partition("_")
    digits = number.rstrip("af")
    if not digits.isdigit():
        return False
    built = divmod(int(digits), 10)
    if kind == "sm":
        return built[0] == major and built[1] <= minor
    return built <= (major, minor)


@contextmanager
def memory_advice(what: str) -> Iterator[None]:
    """Turn running out of GPU memory into one line that says what to lower."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else "no details"
        raise RuntimeError(
            f"the GPU ran out of memory while {what} ({first_line}): use a smaller image size or "
            "precision fp16, close other programs on the GPU, or choose device 'cpu'"
        ) from None
