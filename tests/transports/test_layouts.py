"""The shipped layouts name topics that exist, and show absolute values."""

import json
import re
from pathlib import Path

import yaml

from av_grounding.config import HEADS
from av_grounding.transports.topics.table import topics_of

CONFIG = Path(__file__).parents[2] / "config"
NAMESPACE = "/av_grounding/"
TOPICS = topics_of(HEADS)


def is_published(topic):
    return topic in TOPICS or (
        topic.startswith(NAMESPACE) and topic.removeprefix(NAMESPACE) in TOPICS
    )


def test_rviz_shows_both_heatmaps_as_they_are():
    layout = yaml.safe_load((CONFIG / "grounding.rviz").read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = {d["Topic"]["Value"]: d for d in displays if "Topic" in d}
    assert all(is_published(topic) for topic in topics)
    for head in HEADS:
        heatmap = topics[f"{NAMESPACE}{head}/heatmap"]
        assert heatmap["Normalize Range"] is False
        assert (heatmap["Min Value"], heatmap["Max Value"]) == (0, 1)


def test_foxglove_shows_both_heatmaps_as_they_are():
    text = (CONFIG / "foxglove_layout.json").read_text()
    layout = json.loads(text)
    panels = layout["configById"]
    topics = re.findall(r'"(/[^".]+?)(?:\.[^"]*)?"', text)
    grounding = [topic for topic in topics if topic.startswith((NAMESPACE, "/diagnostics"))]
    assert len(grounding) >= 7
    assert all(is_published(topic) for topic in grounding)
    for head in HEADS:
        mode = panels[f"Image!{head}-heatmap"]["imageMode"]
        assert (mode["minValue"], mode["maxValue"]) == (0, 1)

    def leaves(node):
        if isinstance(node, str):
            yield node
        else:
            yield from leaves(node["first"])
            yield from leaves(node["second"])

    assert set(leaves(layout["layout"])) == set(panels)
