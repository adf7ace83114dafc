"""Answers of known values."""

import numpy as np

from av_grounding.types import MAX_LOGIT, HeadAnswer


def answer(*heatmaps, labels=()):
    """A head's answer whose maps have these values, up to what float32 keeps of a logit.

    Zeros everywhere mean that nothing was heard.
    """
    values = np.stack(heatmaps).astype(np.float64)
    if not values.any():
        return HeadAnswer(np.zeros((0, *values.shape[1:]), np.float32))
    with np.errstate(divide="ignore"):
        logits = np.log(values) - np.log1p(-values)
    return HeadAnswer(np.clip(logits, -MAX_LOGIT, MAX_LOGIT).astype(np.float32), labels)
