"""Which tokens say anything: those whose vectors are long enough."""

import numpy as np
import pytest

from av_grounding.streaming.aggregator import Slots
from av_grounding.streaming.pooling import has_evidence
from tests.helpers.tiny_backend import TinyBackend


@pytest.mark.parametrize(("order", "num_heard"), [(1, 2), (2, 1)])
def test_of_posteriors_the_sum_is_the_evidence(order, num_heard):
    """One thing for sure, two at once, and two with half of the evidence."""
    posteriors = np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.25]], np.float32)
    spec = TinyBackend(heads=("sound",), min_token_norm={"sound": 0.9}).spec
    spec = spec.with_heads(norm_order={"sound": order})
    slots = Slots(posteriors[None], np.ones(3, np.float32), np.arange(4.0))
    heard = has_evidence(slots, spec, spec.heads[0])
    assert heard.tolist() == [True] * num_heard + [False] * (3 - num_heard)
