"""The page of the reproduction: tables with spreads, what each shows, and the curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from av_grounding.benchmarking.reproduction.picture import draw
from av_grounding.benchmarking.reproduction.runs import Budget, list_runs
from av_grounding.evaluation.benchmark import HEADS
from av_grounding.files import write_text

Results = dict[str, dict[str, Any]]
Keys = tuple[str, ...]
NEAR_CHANCE = 1.25
"""A model whose retrieval is below so many times chance has not learned."""
NOTES = "<!-- notes -->"
"""What people write below this line stays when the page is written again."""
POOLED = ("denseav", "denseav, average pool", "denseav, CLS token", "denseav, SimPool")


def write_page(page: Path, results: Results, schedule: Budget, out: Path) -> None:
    """Write the page and its picture; rows that are still missing are left out.

    Notes in an earlier page, from the line `NOTES` on, are kept.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_name(f"{page.stem}-curves.png")
    has_picture = draw(picture, results, out)
    text = "\n".join(lines(results, schedule, picture.name if has_picture else None))
    _, mark, notes = (page.read_text(encoding="utf-8") if page.exists() else "").partition(NOTES)
    write_text(page, f"{text}\n{mark}{notes}" if mark else text)


def lines(results: Results, schedule: Budget, picture: str | None) -> Iterable[str]:
    total = len(list_runs(schedule))
    yield "# The papers' findings on the synthetic world"
    yield ""
    yield (
        f"{len(results)} of {total} runs: {schedule.steps} steps of {schedule.batch_size} images "
        f"each, from one pretext of {schedule.pretext_steps} steps and after "
        f"{schedule.aligner_steps} steps of the aligners alone; seeds "
        f"{', '.join(map(str, schedule.seeds))} for the two recipes, "
        f"{', '.join(map(str, schedule.ablation_seeds))} for the ablations. "
        f"{schedule.num_samples} test samples. Numbers are percent, mean ± standard deviation "
        "over seeds where there are several. Equal budget means equal steps and the same images, "
        "sounds and utterances; sss hears their mixtures besides. 000 is Seeing Speech and "
        "Sound, 001 DenseAV. Written by `av-grounding reproduce`."
    )
    sections = (simultaneous, clean_and_mixed, retrieval, opposite, losses, aggregations, control)
    for section in sections:
        yield ""
        yield from section(results)
    if picture:
        yield from ("", "## Training curves", "", f"![Loss terms over steps]({picture})")
    yield ""


def values(results: Results, group: str, *path: str) -> list[float]:
    """One number of all seeds of a group."""
    found = []
    for result in results.values():
        if result["group"] == group:
            value: Any = result
            for key in path:
                value = value[key]
            found.append(100.0 * value)
    return found


def cell(numbers: list[float]) -> str:
    if not numbers:
        return "–"
    spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.1f}{spread}"


def table(results: Results, groups: Sequence[str], columns: dict[str, Keys]) -> Iterable[str]:
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for group in groups:
        cells = [cell(values(results, group, *path)) for path in columns.values()]
        if set(cells) != {"–"}:
            yield f"| {group} | {' | '.join(cells)} |"
    yield ""


def verdict(claim: str, higher: list[float], lower: list[float]) -> str:
    """Whether one group's mean is above another's, by how much, and against which spread."""
    if not higher or not lower:
        return f"- {claim}: not run yet."
    gap = statistics.mean(higher) - statistics.mean(lower)
    spreads = [statistics.variance(n) for n in (higher, lower) if len(n) > 1]
    answer = "reproduced" if gap > 0 else "**not reproduced**"
    if not spreads:
        return f"- {claim}: {answer}, difference {gap:+.1f}; one seed, so its spread is unknown."
    spread = (sum(spreads) / len(spreads)) ** 0.5
    if abs(gap) < spread:
        answer = "**undecided** (smaller than the spread over seeds)"
    return f"- {claim}: {answer}, difference {gap:+.1f}, spread over seeds {spread:.1f}."


def drops(results: Results, group: str, kind: str, *path: str) -> list[float]:
    """How much of the clean number is lost under off-screen audio, in percent of it."""
    area, *rest = path
    clean = values(results, group, area, "clean", kind, *rest)
    mixed = values(results, group, area, "mixed", kind, *rest)
    return [100.0 * (c - m) / max(c, 1e-9) for c, m in zip(clean, mixed, strict=True)]


def simultaneous(results: Results) -> Iterable[str]:
    yield "## (i) Simultaneous segmentation (000 table 1)"
    yield ""
    columns = {
        f"{kind} {name}": ("segmentation", "simultaneous", kind, "own", key)
        for kind in HEADS
        for name, key in (("mAP", "mAP"), ("mIoU", "miou"))
    }
    yield from table(results, ("denseav", "sss"), columns)
    for name, path in columns.items():
        both = (values(results, group, *path) for group in ("sss", "denseav"))
        yield verdict(f"sss above denseav, {name}", *both)


def clean_and_mixed(results: Results) -> Iterable[str]:
    yield "## (ii) Segmentation, clean and with off-screen audio (000 tables 2 and 4)"
    yield ""
    columns = {
        f"{condition} {kind} {view} mAP": ("segmentation", condition, kind, view, "mAP")
        for condition in ("clean", "mixed")
        for kind in HEADS
        for view in ("own", "total")
    }
    yield from table(results, ("denseav", "sss"), columns)
    for kind in HEADS:
        both = (drops(results, g, kind, "segmentation", "own", "mAP") for g in ("denseav", "sss"))
        yield verdict(f"the drop of {kind} mAP is smaller for sss (percent of clean)", *both)


def retrieval(results: Results) -> Iterable[str]:
    yield "## (ii) Retrieval, clean and with off-screen audio (000 tables 3 and 5)"
    yield ""
    chance = next(iter(results.values()))["retrieval"]["chance"] if results else {}
    shares = ", ".join(f"{kind} {100 * share:.1f}" for kind, share in chance.items())
    yield (
        "R@1, right if the image shows the clip's class: several images do, so a partner alone "
        f"could not be told from them. Chance: {shares}."
    )
    yield ""
    columns = {
        f"{condition} {kind} {view} {arrow}": ("retrieval", condition, kind, view, key)
        for condition in ("clean", "mixed")
        for kind in HEADS
        for view in ("own", "total")
        for arrow, key in (("I→A", "i2a"), ("A→I", "a2i"))
    }
    yield from table(results, ("denseav", "sss"), columns)
    for kind in HEADS:
        for arrow, key in (("I→A", "i2a"), ("A→I", "a2i")):
            both = (drops(results, g, kind, "retrieval", "own", key) for g in ("denseav", "sss"))
            yield verdict(f"the drop of {kind} {arrow} is smaller for sss", *both)


def opposite(results: Results) -> Iterable[str]:
    yield "## (iii) Retrieval by the opposite head; lower is better (000 table 6)"
    yield ""
    columns = {
        f"{condition} {kind} by the other head {arrow}": (
            *("retrieval", condition, kind, "opposite", key),
        )
        for condition in ("clean", "mixed")
        for kind in HEADS
        for arrow, key in (("I→A", "i2a"), ("A→I", "a2i"))
    }
    scores = {"PredDis": ("pred_dis",), "ActDis": ("act_dis",)}
    yield from table(results, ("denseav", "sss"), columns | scores)
    for name, path in columns.items():
        both = (values(results, group, *path) for group in ("denseav", "sss"))
        yield verdict(f"lower for sss, {name}", *both)


def losses(results: Results) -> Iterable[str]:
    yield "## (iv) Without L_cor, without L_dis (000 tables 7, 9 and 10)"
    yield ""
    groups = ("sss", "sss without L_cor", "sss without L_dis")
    columns = {
        f"{condition} {kind} {view} A→I": ("retrieval", condition, kind, view, "a2i")
        for condition in ("clean", "mixed")
        for kind in HEADS
        for view in ("own", "opposite")
    }
    columns |= {
        f"simultaneous {kind} mAP": ("segmentation", "simultaneous", kind, "own", "mAP")
        for kind in HEADS
    }
    yield from table(results, groups, columns)
    for kind in HEADS:
        path = ("retrieval", "clean", kind)
        own = (values(results, g, *path, "own", "a2i") for g in ("sss", "sss without L_cor"))
        yield verdict(f"without L_cor {kind} A→I falls", *own)
        other = (
            values(results, g, *path, "opposite", "a2i") for g in ("sss without L_dis", "sss")
        )
        yield verdict(f"without L_dis the other head answers {kind}", *other)


def aggregations(results: Results) -> Iterable[str]:
    yield "## (v) Aggregations (001 table 4)"
    yield ""
    columns = {
        f"clean {kind} mAP (total)": ("segmentation", "clean", kind, "total", "mAP")
        for kind in HEADS
    } | {
        f"clean {kind} {arrow}": ("retrieval", "clean", kind, "total", key)
        for kind in HEADS
        for arrow, key in (("I→A", "i2a"), ("A→I", "a2i"))
    }
    yield from table(results, POOLED, columns)
    for kind in HEADS:
        path = ("segmentation", "clean", kind, "total", "mAP")
        for other in POOLED[1:]:
            both = (values(results, group, *path) for group in ("denseav", other))
            yield verdict(f"multi-head above {other.split(', ')[1]}, {kind} mAP", *both)
    for group in POOLED:
        ratio = retrieval_over_chance(results, group)
        if ratio is not None and ratio < NEAR_CHANCE:
            yield (
                f"- {group}: its retrieval is {ratio:.1f} times chance. It has not learned in "
                "this budget, so its row says nothing about what it could learn."
            )


def retrieval_over_chance(results: Results, group: str) -> float | None:
    """Mean R@1 on clean clips, over chance; None for a group without a run."""
    ratios = [
        one["retrieval"]["clean"][kind]["total"][key] / one["retrieval"]["chance"][kind]
        for one in results.values()
        if one["group"] == group
        for kind in HEADS
        for key in ("i2a", "a2i")
    ]
    return statistics.mean(ratios) if ratios else None


def control(results: Results) -> Iterable[str]:
    yield "## Control: 001's loss on 000's mixtures"
    yield ""
    columns = {
        f"{condition} {kind} mAP": ("segmentation", condition, kind, "own", "mAP")
        for condition in ("simultaneous", "clean", "mixed")
        for kind in HEADS
    }
    yield from table(results, ("denseav", "denseav on mixtures", "sss"), columns)
