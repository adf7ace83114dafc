"""The package's log on its way to a node's; needs no ROS."""

import logging
import time

import pytest

from av_grounding.transports.ros.logging import bridge_logging

LOGGER = logging.getLogger("av_grounding.somewhere")


class Lines(list):
    """What an rclpy logger is asked to say; its level is one of rclpy's numbers."""

    level = 20

    def get_effective_level(self):
        return self.level

    def __getattr__(self, severity):
        return lambda message: self.append((severity, message))


@pytest.fixture
def lines():
    lines = Lines()
    undo = bridge_logging(lines)
    yield lines
    undo()
    LOGGER.error("afterwards")
    assert ("error", "afterwards") not in lines


def test_severities_arrive(lines):
    LOGGER.debug("a")
    LOGGER.info("b")
    LOGGER.warning("c %d", 3)
    LOGGER.error("d")
    assert lines == [("info", "b"), ("warning", "c 3"), ("error", "d")]


def test_an_exception_arrives_with_its_traceback(lines):
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        LOGGER.exception("failed")
    assert "Traceback" in lines[0][1]
    assert "RuntimeError: broken" in lines[0][1]


def test_what_repeats_is_counted_and_said_again_later(lines, monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    for second in range(25):
        now_s = 100.0 + second
        LOGGER.warning("%d chunks were dropped", second)
    assert [message for _, message in lines] == [
        "0 chunks were dropped",
        "10 chunks were dropped (9 more like this in between)",
        "20 chunks were dropped (9 more like this in between)",
    ]


def test_different_messages_of_one_line_are_all_said(lines):
    for reason in ("one", "two", "one"):
        LOGGER.error("%s", reason)
    assert [message for _, message in lines] == ["one", "two"]


def test_each_new_thing_is_said_though_the_words_around_it_are_the_same(lines):
    for name in ("max_raet", "overlay.alhpa", "max_raet"):
        LOGGER.warning("%s; ignored", name)
    assert [message for _, message in lines] == ["max_raet; ignored", "overlay.alhpa; ignored"]


@pytest.mark.parametrize(("level", "said"), [(10, "debug"), (20, "info"), (40, "error")])
def test_the_nodes_own_level_decides_what_is_said(level, said):
    lines = Lines()
    lines.level = level
    undo = bridge_logging(lines)
    LOGGER.debug("a")
    LOGGER.info("b")
    LOGGER.error("d")
    undo()
    assert lines[0][0] == said
