"""A run in a process of its own, watched frame by frame; and the small model that it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PATIENT_S = 120.0
BACK_WITHIN_S = 2.0
"""What is promised of a machine that has time for it."""
SLACK_S = 2.0
"""What a shared machine may take on top."""


def command(*arguments: object, **environment: str) -> dict[str, Any]:
    """For `subprocess.Popen`: a script or the command line in Python, on one core."""
    return {
        "args": [sys.executable, *map(str, arguments)],
        "env": {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            **environment,
        },
        "text": True,
    }


class WatchedRun:
    """`watched_run.py` from its start to its report; `answers` grow while it publishes."""

    def __init__(
        self, source: str, audio: str, bundle: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        script = Path(__file__).with_name("watched_run.py")
        self.process = subprocess.Popen(
            **command(script, source, audio, bundle, **(environment or {})),
            stdout=subprocess.PIPE,
        )
        self.answers: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            with self._changed:
                if "stamp_ns" in told:
                    self.answers.append(told)
                elif "report" in told:
                    self.report = told
                self._changed.notify_all()

    def wait(self, num: int, after_ns: int = 0, timeout_s: float = PATIENT_S, **wanted) -> list:
        """The first `num` answers to pictures taken after `after_ns`, with such values."""

        def found() -> list[dict[str, Any]]:
            matching = [
                answer
                for answer in self.answers
                if answer["taken_ns"] > after_ns
                and all(holds(answer[name]) for name, holds in wanted.items())
            ]
            return matching if len(matching) >= num else []

        with self._changed:
            matching = self._changed.wait_for(found, timeout_s)
        assert matching, f"not {num} answers; the last: {self.answers[-1:]}"
        return matching[:num]

    def since(self, moment_ns: int) -> list[dict[str, Any]]:
        """What was published after a moment."""
        return [answer for answer in self.answers if answer["now_ns"] > moment_ns]

    def freeze(self, seconds: float) -> int:
        """No CPU at all for so long; the nanoseconds at which it ended."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        ended_ns = time.time_ns()
        self.process.send_signal(signal.SIGCONT)
        return ended_ns

    def finish(self) -> dict[str, Any]:
        """Ctrl-C, and what it reports in the end."""
        if not self.report:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENT_S)
            self._thread.join(PATIENT_S)
        return self.report

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENT_S)
        self._thread.join(10.0)


def check_counters(report: dict[str, Any]) -> None:
    """Every frame is accounted for, once."""
    counted = report["report"]
    assert counted["num_frames_captured"] == sum(
        counted[f"num_frames_{fate}"]
        for fate in ("published", "replaced", "too_old", "unanswered")
    )
    assert min(value for name, value in counted.items() if name.startswith("num_")) >= 0
