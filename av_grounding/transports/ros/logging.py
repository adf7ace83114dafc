"""The package's log, from any thread, as the log of a ROS node."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

PACKAGE = "av_grounding"
REPEAT_S = 10.0
"""A message that comes again and again, but for its numbers, is heard once in this time."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class RosLogHandler(logging.Handler):
    """Hands records to an rclpy logger; what repeats is counted instead."""

    def __init__(self, ros_logger: Any) -> None:
        super().__init__()
        self._ros_logger = ros_logger
        self._said: dict[tuple[str, int], tuple[float, int]] = {}
        self._counting = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            num_withheld = self._withheld(record)
            if num_withheld is None:
                return
            message = self.format(record)
            if num_withheld:
                message += f" ({num_withheld} more like this in between)"
            # rclpy remembers the severity of each line of code that logs: one line for each.
            if record.levelno >= logging.ERROR:
                self._ros_logger.error(message)
            elif record.levelno >= logging.WARNING:
                self._ros_logger.warning(message)
            elif record.levelno >= logging.INFO:
                self._ros_logger.info(message)
            else:
                self._ros_logger.debug(message)
        except Exception:
            self.handleError(record)

    def _withheld(self, record: logging.LogRecord) -> int | None:
        """How many records of this line and message were left out; None: this one is, too."""
        # Not the template: it may say something new with every topic, name or reason.
        key = (_NUMBER.sub("#", record.getMessage()), record.lineno)
        now_s = time.monotonic()
        with self._counting:
            said_s, num_withheld = self._said.get(key, (-REPEAT_S, 0))
            if now_s - said_s < REPEAT_S:
                self._said[key] = (said_s, num_withheld + 1)
                return None
            if len(self._said) > 1000:
                self._said.clear()
            self._said[key] = (now_s, 0)
            return num_withheld


def bridge_logging(ros_logger: Any) -> Callable[[], None]:
    """Send the package's log to a node's logger until the returned function is called.

    The node's own level counts, as `--log-level NODE:=debug` sets it.
    """
    package_logger = logging.getLogger(PACKAGE)
    handler = RosLogHandler(ros_logger)
    level = package_logger.level
    package_logger.addHandler(handler)
    # The numbers of both kinds of level are the same.
    package_logger.setLevel(int(ros_logger.get_effective_level()) or logging.INFO)

    def undo() -> None:
        package_logger.removeHandler(handler)
        package_logger.setLevel(level)

    return undo
