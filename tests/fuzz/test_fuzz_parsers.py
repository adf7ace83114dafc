"""Damaged bytes into every parser of outside bytes: a documented error in one line, or more."""

import contextlib
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_targets
from tests.fuzz.fuzz_check import check
from tests.fuzz.fuzz_strategies import damaged

TARGETS = fuzz_targets.targets()
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
# These build a model or read YAML in Python each time.
SLOW = {
    "bag-facts": 0.3,
    "bag-metadata": 0.1,
    "bundle-config": 0.5,
    "weights": 0.2,
    "pickle": 0.5,
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", TARGETS)
def test_damage_is_answered_in_one_line(name):
    target = TARGETS[name]
    seeds = target.seeds()

    num = max(5, round(EXAMPLES * SLOW.get(name, 1.0)))

    with contextlib.suppress(*target.documented):
        target.run(seeds[0])  # what is imported once is no input's fault

    @settings(max_examples=num, suppress_health_check=list(HealthCheck))
    @given(damaged(seeds) | st.binary(max_size=200))
    def survives(data):
        check(target, data)

    survives()
