"""Ways to run a bundle. `load_backend` is the one place that chooses."""

from __future__ import annotations

from pathlib import Path

from av_grounding.types import Backend

BACKENDS = ("auto", "torch")


def load_backend(bundle: str | Path, name: str = "auto", device: str = "auto") -> Backend:
    """Load a bundle directory on a backend; `auto` takes the best that works here."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(BACKENDS)}")
    import torch

    from av_grounding.backends.torch_eager import TorchBackend
    from av_grounding.modeling.bundle import load_bundle

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchBackend(load_bundle(bundle), device)


def settle_threads(backend: Backend) -> None:
    """Let a small model on the CPU run on one thread, in a process that is there to run it."""
    from av_grounding.backends.torch_eager import TorchBackend

    if isinstance(backend, TorchBackend):
        backend.settle_threads()
