"""What a run says of itself: log.jsonl, validation.jsonl and TensorBoard, and how fast it is."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from av_grounding.files import write_text
from av_grounding.training.loop.checkpoint import explaining_full_disk

logger = logging.getLogger(__name__)
LOG, VALIDATION = "log.jsonl", "validation.jsonl"
NOT_TERMS = {
    *("step", "loss", "grad_norm", "learning_rate", "samples_per_s", "eta_s", "seconds"),
}
"""Columns of log.jsonl beside the recipe's loss terms."""


class MetricsLog:
    """Rows of one run; on a resume, rows from `start` on are dropped, for they come again."""

    def __init__(self, directory: Path, start: int, num_steps: int, *, tensorboard: bool) -> None:
        self.directory, self.num_steps = directory, num_steps
        for name in (LOG, VALIDATION):
            keep_rows_before(directory / name, start)
        self.log = open(directory / LOG, "a", encoding="utf-8")  # noqa: SIM115
        self.board = open_board(directory / "tensorboard", start) if tensorboard else None
        self.began_s = self.last_s = time.monotonic()
        self.start = self.last_step = start
        self.num_samples = 0

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()
        if self.board:
            self.board.close()

    def count(self, num_samples: int) -> None:
        """Samples that all processes trained on, for the speed."""
        self.num_samples += num_samples

    def step(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """Write the row of a step; returns it with speed and time left added."""
        now_s = time.monotonic()
        elapsed_s = max(now_s - self.last_s, 1e-9)
        step_s = elapsed_s / max(step + 1 - self.last_step, 1)
        row = {
            "step": step,
            **values,
            "samples_per_s": round(self.num_samples / elapsed_s, 3),
            "eta_s": round(step_s * (self.num_steps - step - 1), 1),
            "seconds": round(now_s - self.began_s, 2),
        }
        self.last_s, self.last_step, self.num_samples = now_s, step + 1, 0
        with explaining_full_disk(self.directory / LOG):
            # An overflow of fp16 is no number that JSON knows.
            finite = {key: value if math.isfinite(value) else None for key, value in row.items()}
            self.log.write(json.dumps(finite) + "\n")
            self.log.flush()
        if self.board:
            for key, value in row.items():
                is_term = key not in NOT_TERMS
                if key not in ("step", "seconds"):
                    self.board.add_scalar(f"terms/{key}" if is_term else key, value, step)
        return row

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        path = self.directory / VALIDATION
        with explaining_full_disk(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self.board:
            for key, value in metrics.items():
                self.board.add_scalar(f"validation/{key}", value, step)


def keep_rows_before(path: Path, start: int) -> None:
    """Drop rows of steps that are done again, and a line torn by a crash."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["step"] < start:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


def open_board(directory: Path, start: int) -> Any | None:
    """A TensorBoard writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no TensorBoard: pip install 'av_grounding[train]' for %s", directory)
        return None
    return SummaryWriter(str(directory), purge_step=start or None)
