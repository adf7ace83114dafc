"""The live page of the node: a parameter away, and a sink like any other."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from rclpy.node import Node
from rclpy.parameter import Parameter

from av_grounding.config import GroundingConfig
from av_grounding.streaming.separating import Place
from av_grounding.transports.topics.live_stream import LiveStream
from av_grounding.transports.topics.separated import SeparatedSound
from av_grounding.types import Frame, Grounding

if TYPE_CHECKING:
    from av_grounding.viewer.viewer import Viewer

logger = logging.getLogger(__name__)


class Page:
    """The page as a sink. A click on a thing sets the node's `separation.` parameters, as a robot
    would: one place at a time, for the page and `sound/audio` alike."""

    def __init__(self, node: Node, viewer: Viewer, separated: SeparatedSound | None) -> None:
        """`separated` is None where the model does not separate: then nothing can be clicked."""
        self._node, self.viewer = node, viewer
        self._size = (1, 1)
        self._asked: Place | None = None
        self._taken: Place | None = None
        """The newest place that the parameters took; the page hears no other."""
        if separated is not None:
            separated.is_heard = lambda: self._asked is not None and self._asked == self._taken
            separated.on_sound = viewer.write_sound

    def write(self, frame: Frame, grounding: Grounding) -> None:
        self._size = frame.image.shape[:2]
        asked = self.viewer.place(self._size)
        if asked != self._asked:
            self._asked = asked
            executor = self._node.executor
            # Nobody listens any more: the place stays what it is, for who subscribes.
            if asked is not None and executor is not None:
                executor.create_task(self._set_place, asked)
        self.viewer.write(frame, grounding)

    def close(self) -> None:
        self.viewer.close()

    def _set_place(self, place: Place) -> None:
        # In the executor's thread, and all or nothing, as from a service.
        values: dict[str, Any] = {"target": "peak"}
        if place != "peak":
            values = {"target": "point", "x_px": float(place[0]), "y_px": float(place[1])}
        result = self._node.set_parameters_atomically(
            [Parameter(f"separation.{name}", value=value) for name, value in values.items()]
        )
        if result.successful:
            self._taken = place
        else:
            logger.warning("the place that was clicked is refused: %s", result.reason)


def open_page(
    node: Node, config: GroundingConfig, stream: LiveStream, separated: SeparatedSound | None
) -> Page:
    """A page at `config.view` that shows what `stream` answers, until it is closed.

    Raises ImportError, ValueError or OSError as `Viewer` does.
    """
    from av_grounding.viewer.address import token_from_environment
    from av_grounding.viewer.viewer import Viewer

    spec = stream.backend.spec
    viewer = Viewer(
        config.view,
        token=token_from_environment(),
        hosts=config.view_host.replace(",", " ").split(),
        stats=lambda: {"stream": stream.stats},
        facts={"source": node.get_fully_qualified_name()},
        thresholds=config.thresholds(spec.head_names),
        clock_ns=lambda: node.get_clock().now().nanoseconds,
        sound_rate_hz=None if separated is None else spec.sample_rate_hz,
    )
    stream.on_voice = viewer.write_voice
    # Not through the logger: that is a topic, and the URL may hold the page's token.
    sys.stderr.write("".join(f"live page: {url}\n" for url in viewer.urls))
    return Page(node, viewer, separated)
