"""Metrics of the field as pure NumPy functions, one module for each task.

Each function states its definition, where the field uses it, and its conventions, because the
same name means different numbers in different papers. Nothing here knows a model or reads a
file; `evaluation.protocols` says which of them make up a published number.
"""

from av_grounding.evaluation.metrics.pointing import gated_share, peak_hit, peak_leak
from av_grounding.evaluation.metrics.prompted import (
    ClassMean,
    mean_iou,
    pooled_average_precision,
)
from av_grounding.evaluation.metrics.ranking import average_precision

__all__ = [
    "ClassMean",
    "average_precision",
    "gated_share",
    "mean_iou",
    "peak_hit",
    "peak_leak",
    "pooled_average_precision",
]
