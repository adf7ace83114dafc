"""Evidence floors and calibration of a bundle whose parts learned apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle_config import store_spec
from av_grounding.training.fitting.calibration import (
    fit_cases,
    reliability_facts,
    synthetic_cases,
)
from av_grounding.training.fitting.evidence_floor import evidence_floors, reached_floor
from av_grounding.training.loop.run_folder import Progress


def calibrate_on(bundle: Path, samples: Any, num: int, seed: int, progress: Progress) -> None:
    """Fit both on the first `num` of a world's `samples` and store them in the bundle."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")

    def told(done: int, total: int) -> None:
        progress("calibration", done, total, {})

    floors = evidence_floors(grounder.backend, num, seed, samples=samples, fit=reached_floor)
    spec = grounder.spec.with_heads(min_token_norm=floors)
    cases = synthetic_cases(grounder.with_spec(spec), num, seed, told, samples=samples)
    calibrations, reliabilities = fit_cases(grounder, cases)
    store_spec(bundle, spec.with_heads(calibration=calibrations), reliability_facts(reliabilities))
