"""The table of a GPU: every bundle on every backend, each in a process of its own, twice.

The second start finds what the first one compiled; its time is what a robot waits for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CASES = (("torch", "fp32"), ("torch-compiled", "bf16"), ("tensorrt", "fp16"))
"""Backend and precision; the first is what the others are compared with."""
GOAL_PAIR_MS, GOAL_SPEED_UP = 2.6, 8.0
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Subject:
    """A bundle with the image size (H, W) that it is measured at."""

    name: str
    bundle: Path
    image_size: tuple[int, int]


def measure_table(
    subjects: Sequence[Subject], device: str, num_calls: int
) -> Iterator[dict[str, Any]]:
    """A row a subject and backend; one that could not run says why under `skipped`."""
    for subject in subjects:
        eager_ms = None
        for backend, precision in CASES:
            row = {"bundle": subject.name, "backend": backend, "precision": precision}
            try:
                first, second = (
                    run_case(subject, backend, precision, device, num_calls) for _ in range(2)
                )
            except (RuntimeError, ValueError) as error:
                yield {**row, "skipped": str(error)}
                continue
            row |= second | {"start_s": first["start_s"], "second_start_s": second["start_s"]}
            eager_ms = row["pair_ms"] if backend == CASES[0][0] else eager_ms
            yield row | {"speed_up": eager_ms / row["pair_ms"] if eager_ms else None}


def run_case(
    subject: Subject, backend: str, precision: str, device: str, num_calls: int
) -> dict[str, Any]:
    """What `gpu_case` prints; RuntimeError with its last line where it fails."""
    size = "x".join(map(str, subject.image_size))
    module = "av_grounding.benchmarking.gpu_case"
    words = [str(subject.bundle), backend, precision, device, size, str(num_calls)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            capture_output=True, text=True, timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown, with the goals; what was skipped stands below."""
    lines = [
        "| bundle | backend | precision | image ms | audio ms | pair ms | times eager "
        "| end to end ms | GPU MB | first start s | second start s |",
        "| --- | --- | --- |" + " ---: |" * 8,
    ]

    def number(row: dict[str, Any], key: str, digits: int) -> str:
        value = row.get(key)
        return "–" if value is None else f"{value:.{digits}f}"

    for row in rows:
        if "skipped" not in row:
            cells = [
                number(row, key, digits)
                for key, digits in (
                    *(("image_ms", 2), ("audio_ms", 2), ("pair_ms", 2), ("speed_up", 1)),
                    *(("end_to_end_ms", 2), ("memory_mb", 0)),
                    *(("start_s", 1), ("second_start_s", 1)),
                )
            ]
            names = (row["bundle"], row["backend"], row["precision"])
            lines.append(f"| {' | '.join([*names, *cells])} |")
    lines += ["", f"Goals of the pair: {GOAL_PAIR_MS:g} ms, {GOAL_SPEED_UP:g} times eager.", ""]
    lines += [
        f"- skipped: {row['bundle']} on {row['backend']} {row['precision']} ({row['skipped']})"
        for row in rows
        if "skipped" in row
    ]
    return "\n".join(lines) + "\n"
