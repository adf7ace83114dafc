"""The live page of the node: a parameter away, and a sink like any other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rclpy.node import Node

from av_grounding.config import GroundingConfig
from av_grounding.transports.topics.live_stream import LiveStream

if TYPE_CHECKING:
    from av_grounding.viewer.viewer import Viewer


def open_page(node: Node, config: GroundingConfig, stream: LiveStream) -> Viewer:
    """A page at `config.view` that shows what `stream` answers, until it is closed.

    Raises ImportError, ValueError or OSError as `Viewer` does.
    """
    from av_grounding.viewer.address import token_from_environment
    from av_grounding.viewer.viewer import Viewer

    viewer = Viewer(
        config.view,
        token=token_from_environment(),
        hosts=config.view_host.replace(",", " ").split(),
        stats=lambda: {"stream": stream.stats},
        facts={"source": node.get_fully_qualified_name()},
        thresholds=config.thresholds(stream.backend.spec.head_names),
        clock_ns=lambda: node.get_clock().now().nanoseconds,
    )
    stream.on_voice = viewer.write_voice
    # Not through the logger: that is a topic, and the URL may hold the page's token.
    sys.stderr.write("".join(f"live page: {url}\n" for url in viewer.urls))
    return viewer
