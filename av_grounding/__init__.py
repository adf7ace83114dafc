"""Where a sound comes from and what spoken words refer to, as heatmaps over camera images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_grounding.grounder import Grounder

__version__ = "0.1.0"
__all__ = ["Grounder", "__version__"]


def __getattr__(name: str) -> Any:
    # Importing the package must stay light: the model runtime is loaded on first use.
    if name == "Grounder":
        from av_grounding.grounder import Grounder

        return Grounder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
