"""The page of paper 003's findings: one table of all objectives and tasks, and its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from av_grounding.benchmarking.reproduction.kept import MAP_PROTOCOL, Result
from av_grounding.benchmarking.reproduction.page import cell, verdict
from av_grounding.benchmarking.reproduction.runs import Budget
from av_grounding.evaluation.scoring.pairs import WHOLES
from av_grounding.evaluation.scoring.rows import MODEL
from av_grounding.evaluation.scoring.separating import FLOOR_MIXTURE, SWAPPED

PERCENT, DB = 100.0, 1.0
COLUMNS = {
    "solo: cIoU@0.3": ("solo", MODEL, "ciou@0.3", PERCENT),
    "duet": ("duet", MODEL, "ciou@0.3", PERCENT),
    "trio": ("trio", MODEL, "ciou@0.3", PERCENT),
    "peak": ("solo", MODEL, "peak", PERCENT),
    "SDR": ("separation", MODEL, "sdr", DB),
    "SIR": ("separation", MODEL, "sir", DB),
    "SAR": ("separation", MODEL, "sar", DB),
    "with the other picture": ("separation", SWAPPED, "sdr", DB),
    "pointed at: SDR": ("pointed", MODEL, "sdr", DB),
    "at the other": ("pointed", SWAPPED, "sdr", DB),
    "IR": ("recognition", WHOLES, "ir_acc_i2a", PERCENT),
    "xNN": ("recognition", WHOLES, "xnn_acc_i2a", PERCENT),
    "IR, located": ("recognition", MODEL, "ir_acc_i2a", PERCENT),
    "wNN": ("recognition", WHOLES, "wnn_acc_image", PERCENT),
}
ALL, LITERAL = "CL + MAS + MVA", "CL + MAS + MVA, literal"
LEAST_GAIN_DB = 3.0
"""Over the mixture, and over the other picture's: less is no separation by sight."""


def lines(
    results: Sequence[Result],
    oracles: Result,
    schedule: Budget,
    total: int,
    groups: Sequence[str],
) -> Iterable[str]:
    yield "# The findings of paper 003 on the synthetic world"
    yield ""
    yield (
        f"{len(results)} of {total} runs: {schedule.steps} steps of {schedule.batch_size} pictures"
        f" each, from one pretext of {schedule.pretext_steps} steps; seeds "
        f"{', '.join(map(str, schedule.seeds))}, for the ablations "
        f"{', '.join(map(str, schedule.ablation_seeds))}; {schedule.num_samples} test samples of "
        "each benchmark. Mean ± standard deviation over seeds: localisation and recognition in "
        "percent, separation in dB (BSS-eval 3); maps are cut at the size of the truth "
        f"(`{MAP_PROTOCOL.name}`). CL is the correspondence (eq. 1, 2), MAS the "
        "separation of mixed audio (eq. 3, 4), MVA the alignment with mixed pictures (eq. 5). A "
        "mask's target is the source that dominates a bin, or with `literal` the printed formula, "
        "a source that exceeds the mixture. IR, xNN and wNN are of "
        "the global projections, IR, located, of the mean of those that locate. An objective that "
        "is left out leaves its own projections as they were drawn. Written by "
        "`av-grounding reproduce --paper oneavm`."
    )
    yield ""
    yield f"| | {' | '.join(COLUMNS)} |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for group in groups:
        if values(results, group, "SDR"):
            cells = [cell(values(results, group, column)) for column in COLUMNS]
            yield f"| {group} | {' | '.join(cells)} |"
    yield ""
    yield "## The mask's target (section 3.3)"
    yield ""
    yield "| | SDR | SIR | SAR |"
    yield "|---|---|---|---|"
    for target, scores in oracles.items():
        told = (f"{scores[name]:.1f}" for name in ("sdr", "sir", "sar"))
        yield f"| oracle, {target} | {' | '.join(told)} |"
    for name, group in (("dominant", ALL), ("literal", LITERAL)):
        told = (cell(values(results, group, column)) for column in ("SDR", "SIR", "SAR"))
        yield f"| learned, {name} | {' | '.join(told)} |"
    yield ""
    for claim, higher, lower in claims(results):
        yield verdict(claim, higher, lower)
    yield ""


def claims(results: Sequence[Result]) -> Iterable[tuple[str, list[float], list[float]]]:
    """(what is claimed, the numbers that are to be higher, those that are to be lower)."""

    def of(group: str, column: str) -> list[float]:
        return values(results, group, column)

    solo, sdr = "solo: cIoU@0.3", "SDR"
    for table, column, chain in (
        ("5b, SDR", sdr, ("MAS", "CL + MAS", ALL)),
        ("5b, SDR", sdr, ("MAS", "MAS + MVA", ALL)),
        ("5a, solos", solo, ("CL", "CL + MAS", ALL)),
        ("5a, solos", solo, ("CL", "CL + MVA", ALL)),
        ("5c, IR", "IR", ("CL", ALL)),
        ("5c, xNN", "xNN", ("CL", ALL)),
    ):
        for lower, higher in pairwise(chain):
            yield f"{higher} above {lower} (table {table})", of(higher, column), of(lower, column)
    yield f"{ALL} above MVA alone, solos", of(ALL, solo), of("MVA", solo)
    falls = {
        group: [a - b for a, b in zip(of(group, solo), of(group, "trio"), strict=True)]
        for group in (ALL, "CL")
    }
    yield f"{ALL} falls less than CL from solo to trio (table 6)", falls["CL"], falls[ALL]
    floors = {
        "the mixture": [one["separation"][FLOOR_MIXTURE]["sdr"] for one in _of(results, ALL)],
        "the other picture's": of(ALL, "with the other picture"),
    }
    for name, floor in floors.items():
        least = [value + LEAST_GAIN_DB for value in floor]
        yield f"{ALL}, SDR {LEAST_GAIN_DB:g} dB above {name}", of(ALL, sdr), least
    yield (
        f"{ALL}, pointed at above at the other",
        of(ALL, "pointed at: SDR"),
        of(ALL, "at the other"),
    )
    yield "dominant above literal, SDR", of(ALL, sdr), of(LITERAL, sdr)
    gaps = {
        group: [a - b for a, b in zip(of(group, "SIR"), of(group, sdr), strict=True)]
        for group in (ALL, LITERAL)
    }
    yield "literal leaves a wider gap from SDR to SIR than dominant", gaps[LITERAL], gaps[ALL]


def values(results: Sequence[Result], group: str, column: str) -> list[float]:
    """One number of all seeds of a group, in percent or dB."""
    name, row, metric, scale = COLUMNS[column]
    return [scale * one[name][row][metric] for one in _of(results, group)]


def _of(results: Sequence[Result], group: str) -> list[Result]:
    return [one for one in results if one["group"] == group]
