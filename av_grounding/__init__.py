"""Where a sound comes from and what spoken words refer to, as heatmaps over camera images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from av_grounding.image_header import limit_opencv

if TYPE_CHECKING:
    from av_grounding.grounder import Grounder

__version__ = "0.1.0"
__all__ = ["Grounder", "__version__"]

# OpenCV reads it once, when it is loaded, which nothing here has done yet.
limit_opencv()


def __getattr__(name: str) -> Any:
    # Importing the package must stay light: the model runtime is loaded on first use.
    if name == "Grounder":
        from av_grounding.grounder import Grounder

        return Grounder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
