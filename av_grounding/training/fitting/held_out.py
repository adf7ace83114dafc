"""Calibration of a new bundle on clips that its training did not see."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle_config import store_spec
from av_grounding.training.data.clips import ClipSet
from av_grounding.training.fitting.calibration import fit_cases, pair_cases, reliability_facts
from av_grounding.training.loop.run_folder import Progress

logger = logging.getLogger(__name__)


def calibrate_on_clips(
    bundle: Path, clips: Mapping[str, ClipSet], num: int, seed: int, progress: Progress
) -> None:
    """Fit the heads' calibration on up to `num` clips of each kind (see `pair_cases`), stored.

    Where they do not serve for it, as where they are too few, that is said and it stays as it is.
    How sources are told apart stays too, since clips do not say how many there are.
    """
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    rng = np.random.default_rng(seed)
    rows = [
        (of_kind.read(index, rng), kind)
        for kind, of_kind in clips.items()
        for index in range(min(len(of_kind), num))
    ]
    one_map = grounder.with_spec(replace(grounder.spec, sources=None))
    try:
        cases = pair_cases(
            one_map,
            [clip.image for clip, _ in rows],
            [(clip.waveform, clip.sample_rate_hz) for clip, _ in rows],
            [kind for _, kind in rows],
            seed,
            lambda done, total: progress("calibration", done, total, {}),
        )
        calibrations, reliabilities = fit_cases(one_map, cases)
    except ValueError as error:
        logger.warning("no calibration, the held-out clips do not serve for it: %s", error)
        return
    spec = grounder.spec.with_heads(calibration=calibrations)
    store_spec(bundle, spec, reliability_facts(reliabilities))
