"""One activation of the node: its inputs, its stream and the threads that run it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import Node

from av_grounding.config import GroundingConfig
from av_grounding.streaming.runner import Runner
from av_grounding.transports.messages import MalformedCounter
from av_grounding.transports.ros.inputs import RosInputs
from av_grounding.transports.ros.outputs import RosOutputs
from av_grounding.transports.topics.live_stream import LiveStream
from av_grounding.transports.topics.separated import SeparatedSound
from av_grounding.types import Backend, Sink, Stream

if TYPE_CHECKING:
    from av_grounding.transports.bag.recorder import BagRecorder

logger = logging.getLogger(__name__)
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0
JOIN_TIMEOUT_S = 8.0


class Session:
    """Subscribes, runs the model in its own thread and publishes, from `start` to `stop`.

    Where the model or a sink fails, `revive` starts all over, more patiently each time.
    """

    def __init__(
        self,
        node: Node,
        backend: Backend,
        config: GroundingConfig,
        outputs: RosOutputs,
        malformed: MalformedCounter,
        make_sinks: Callable[[LiveStream], Sequence[Sink]],
    ) -> None:
        """`make_sinks` gives what takes the heatmaps beside the topics, anew for every start."""
        self._node = node
        self._backend = backend
        self._config = config
        self._outputs = outputs
        self._malformed = malformed
        self._make_sinks = make_sinks
        self.backend_facts: dict[str, Any] = backend.describe()
        self.num_restarts = 0
        self.error: BaseException | None = None
        """Why it stopped by itself; None while it runs."""
        self._backoff_s = FIRST_BACKOFF_S
        self._started_s = self._failed_s = 0.0
        self._is_stopping = False

    def start(self) -> None:
        """Raises ImportError, OSError, RuntimeError or ValueError where it cannot."""
        config, outputs = self._config, self._outputs
        locator = outputs.locator
        self.stream = LiveStream(self._backend, config.stream)
        self.inputs = RosInputs(
            self._node, config, self._malformed, None if locator is None else locator.put_depth
        )
        outputs.camera = lambda: self.inputs.camera
        stream: Stream = self.stream
        outputs.separated = SeparatedSound(stream) if self._backend.separates else None
        sinks: list[Sink] = [outputs]
        try:
            sinks += self._make_sinks(self.stream)
            if config.record.path:
                recorder = self._open_recorder(config)
                stream = recorder.wrap(stream)
                sinks.append(recorder)
        except BaseException:
            for resource in (*sinks, self.inputs):
                resource.close()
            raise
        self.runner = Runner(
            stream,
            self.inputs.video,
            self.inputs.audio,
            sinks,
            max_image_age_s=config.max_image_age_ms / 1e3,
            is_sound_watched=True,  # by the node's watchdog, which knows the publishers
            is_wanted=lambda: len(sinks) > 1 or outputs.is_wanted,
            answers_again=config.answer_again,
        )
        self.error, self._is_stopping = None, False
        self._started_s = time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(self.runner,), name="av-session", daemon=True
        )
        self._thread.start()

    def open(self) -> None:
        """Subscribe."""
        self.inputs.open()

    def pause(self) -> None:
        """Unsubscribe, and forget what was heard."""
        self.inputs.close_subscriptions()
        self.reset()

    def reset(self) -> None:
        """Forget all sound, every stamp and what waits."""
        self.inputs.clear()
        self.runner.forget_waiting()
        self.stream.request_reset()

    def apply(self, config: GroundingConfig) -> None:
        """Follow the dynamic parameters."""
        self._config = config
        self.inputs.apply(config)
        self._outputs.config = config
        self.stream.request(config.stream)
        self.runner.max_image_age_s = config.max_image_age_ms / 1e3

    def stop(self) -> None:
        """Flag, notify, join, unsubscribe: nothing is taken away while it is in use."""
        self._is_stopping = True
        self.inputs.close_subscriptions()
        self.runner.stop()
        self.inputs.close()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("the session's thread did not end and is left behind")

    def revive(self, is_open: bool) -> None:
        """After an error, start again once the patience is over."""
        if self.error is None or time.monotonic() - self._failed_s < self._backoff_s:
            return
        ran_s = self._failed_s - self._started_s
        self._backoff_s = (
            FIRST_BACKOFF_S if ran_s > HEALTHY_S else min(2 * self._backoff_s, MAX_BACKOFF_S)
        )
        self.stop()
        self.num_restarts += 1
        try:
            self.start()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            self._fail(error)
            return
        if is_open:
            self.open()

    def _open_recorder(self, config: GroundingConfig) -> BagRecorder:
        from av_grounding.transports.bag.recorder import recorder_in

        return recorder_in(
            config.record.path,
            {
                "source": self._node.get_fully_qualified_name(),
                "model": self.backend_facts,
                "config": config.as_mapping(),
            },
            thresholds=config.thresholds(self._backend.spec.head_names),
            namespace=self._node.get_namespace(),
        )

    def _run(self, runner: Runner) -> None:
        try:
            runner.run()
        except BaseException as error:
            if not self._is_stopping:
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.error = error
        self._failed_s = time.monotonic()
        logger.error("grounding stopped: %s: %s", type(error).__name__, error)
