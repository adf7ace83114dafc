"""The ROS 2 lifecycle node `grounding`: images and sound in, heatmaps out.

configure loads and warms up the model; activate subscribes and starts the session's threads;
deactivate stops them and keeps the model; cleanup frees it. The executor only swaps references.
"""

from __future__ import annotations

import functools
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleState, Node, TransitionCallbackReturn
from rosidl_runtime_py.utilities import get_message
from std_srvs.srv import SetBool, Trigger

from av_grounding.config import NODE_NAME, GroundingConfig, default_bundle
from av_grounding.files import one_line
from av_grounding.streaming.liveness import Watchdog
from av_grounding.transports.messages import MalformedCounter, Status, build, diagnostics_fields
from av_grounding.transports.ros.diagnostics import Monitor, idle_status
from av_grounding.transports.ros.logging import bridge_logging
from av_grounding.transports.ros.outputs import RosOutputs
from av_grounding.transports.ros.page import open_page
from av_grounding.transports.ros.parameters import NodeParameters
from av_grounding.transports.ros.points import PointLocator
from av_grounding.transports.ros.session import Session
from av_grounding.transports.topics.live_stream import LiveStream
from av_grounding.types import Backend, Sink

logger = logging.getLogger(__name__)
PERIOD_S = 1.0
DISCOVERY_PERIOD_S = 0.2
WARM_UP_SIZE = (480, 640)
SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


def _told(
    transition: Callable[[GroundingNode, LifecycleState], TransitionCallbackReturn],
) -> Callable[[GroundingNode, LifecycleState], TransitionCallbackReturn]:
    """rclpy turns an exception in a transition into ERROR without a word; this logs it."""

    @functools.wraps(transition)
    def told(node: GroundingNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            name = transition.__name__.removeprefix("on_")
            node._failure = f"{name} failed: {one_line(error) or type(error).__name__}"
            logger.exception("%s failed", name)
            raise

    return told


def _answered(
    service: str, callback: Callable[[Any, Any], Any], state: Callable[[], str]
) -> Callable[[Any, Any], Any]:
    """The callback, which refuses what it cannot do: an exception would end the executor."""

    def answered(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            logger.error(
                "%s refused in state %s: %s", service, state(), one_line(error) or type(error)
            )
            return type(response)()  # success is false

    return answered


class GroundingNode(Node):
    """The node; raises ValueError in one line where a given parameter is refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            NODE_NAME, automatically_declare_parameters_from_overrides=True, **options
        )
        self._backend: Backend | None = None
        self._outputs: RosOutputs | None = None
        self._session: Session | None = None
        self._monitor: Monitor | None = None
        self._watchdogs: dict[str, Watchdog] = {}
        self._malformed = MalformedCounter()
        self._is_enabled = True
        self._failure = ""
        self._runtime = NodeParameters(self, self._follow, lambda: self._backend is not None)
        self._unbridge = bridge_logging(self.get_logger())
        for line in self._runtime.unknown:
            logger.warning("%s; ignored", line)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timers_of_ours = [
            self.create_timer(PERIOD_S, self._tick, clock=steady),
            self.create_timer(DISCOVERY_PERIOD_S, self._discover, clock=steady),
        ]
        self.create_service(SetBool, "~/enable", self._enable)
        self.create_service(Trigger, "~/reset", self._reset)
        for service in self.services:
            name = service.srv_name.rpartition("/")[2]
            service.callback = _answered(name, service.callback, self._lifecycle_state)
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
        )
        self._jumps = self.get_clock().create_jump_callback(
            threshold, post_callback=self._after_jump
        )

    def _lifecycle_state(self) -> str:
        return self._state_machine.current_state[1]

    @property
    def config(self) -> GroundingConfig:
        """What the parameters say now."""
        return self._runtime.config

    def extra_sinks(self, stream: LiveStream) -> list[Sink]:
        """Whoever takes the heatmaps beside the topics: add sinks here.

        Called at every activation; the session closes what it gets from here when it stops.
        """
        if not self.config.view:
            return []
        assert self._outputs is not None
        return [open_page(self, self.config, stream, self._outputs.separated)]

    def autostart(self) -> None:
        """Become active where the parameter `autostart` says so."""
        if self.config.autostart and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        config = self.config
        if config.audio.source == "device" and self.get_parameter("use_sim_time").value:
            return self._failed(
                "audio.source device with use_sim_time: a microphone does not follow a simulated "
                "clock; use audio.source topic"
            )
        try:
            started_s = time.monotonic()
            backend = load_backend_of(config)
            heads = backend.spec.head_names
            config.check_heads(heads)
            self._outputs = RosOutputs(
                self,
                heads,
                config,
                separates=backend.separates,
                max_sources=backend.spec.max_sources,
            )
            if config.use_3d:
                self._outputs.locator = PointLocator(
                    self, self._malformed, needs_tf=bool(config.target_frame)
                )
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            self._release()
            return self._failed(f"{error}{_remedy(error)}")
        self._backend = backend
        took_s = time.monotonic() - started_s
        logger.info("configured in %.1f s: %s", took_s, backend.describe())
        self._failure = ""
        return super().on_configure(state)

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._backend is not None
        assert self._outputs is not None
        session = Session(
            self, self._backend, self.config, self._outputs, self._malformed, self.extra_sinks
        )
        self._outputs.config = self.config
        try:
            session.start()
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            return self._failed(f"{error}{_remedy(error)}")
        result = super().on_activate(state)  # publishers first, then what makes them publish
        if self._is_enabled:
            session.open()
        self._session = session
        self._monitor = Monitor(
            self.get_fully_qualified_name(), session, self._outputs, self._malformed
        )
        self._watchdogs = {name: Watchdog(time.monotonic()) for name in ("images", "audio")}
        self._failure = ""
        return result

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_session()
        return super().on_deactivate(state)

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_shutdown(state)

    @_told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop everything; may be called in any state."""
        self._release()
        self._jumps.unregister()
        self._unbridge()
        super().destroy_node()

    def _failed(self, reason: str) -> TransitionCallbackReturn:
        self._failure = " ".join(reason.split())
        logger.error("%s", self._failure)
        return FAILURE

    def _stop_session(self) -> None:
        session, self._session, self._monitor = self._session, None, None
        if session is not None:
            session.stop()

    def _release(self) -> None:
        self._stop_session()
        outputs, self._outputs = self._outputs, None
        if outputs is not None:
            if outputs.locator is not None:
                outputs.locator.close()
            outputs.destroy()
        self._backend = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _follow(self, config: GroundingConfig) -> None:
        if self._session is not None:
            self._session.apply(config)

    def _enable(self, request: Any, response: Any) -> Any:
        session = self._session
        if session is not None and request.data != self._is_enabled:
            if request.data:
                session.open()
            else:
                session.pause()
        self._is_enabled = request.data
        self._watchdogs = {name: Watchdog(time.monotonic()) for name in self._watchdogs}
        response.success = True
        response.message = "enabled" if request.data else "disabled: subscriptions closed"
        return response

    def _reset(self, request: Any, response: Any) -> Any:
        response.success = self._session is not None
        response.message = "all sound is forgotten" if response.success else "not active"
        if self._session is not None:
            self._session.reset()
        return response

    def _after_jump(self, jump: Any) -> None:
        if self._session is not None:
            logger.warning("the clock jumped back or changed: all sound is forgotten")
            self._session.reset()

    def _discover(self) -> None:
        if self._session is not None and self._is_enabled and self._session.error is None:
            self._session.inputs.follow()

    def _tick(self) -> None:
        """Once a second by the steady clock: diagnostics, missing inputs, a stopped session."""
        name = self.get_fully_qualified_name()
        session = self._session
        if session is None or self._monitor is None:
            statuses = [idle_status(name, self._lifecycle_state(), self._failure)]
        else:
            statuses = self._monitor.statuses(self.config, self._is_enabled)
            if session.error is not None:
                session.revive(self._is_enabled)
            elif self._is_enabled:
                self._watch(session)
        self._publish(statuses)

    def _watch(self, session: Session) -> None:
        inputs, now_s = session.inputs, time.monotonic()
        # What nobody asked for is not even decoded.
        video, is_idle = inputs.video, session.stream.is_idle
        seen_s = video.last_received_s if is_idle else video.last_used_s
        if self._watchdogs["images"].barks(seen_s, now_s):
            reasons = "; ".join(inputs.reasons_without_images())
            logger.warning("no images, so no heatmaps: %s", reasons)
        if self._watchdogs["audio"].barks(inputs.audio.last_heard_s, now_s):
            reasons = "; ".join(inputs.reasons_without_audio())
            logger.warning("no sound, so heatmaps are empty: %s", reasons)

    def _publish(self, statuses: Sequence[Status]) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(build(diagnostics_fields(now_ns, statuses), get_message))


def load_backend_of(config: GroundingConfig) -> Backend:
    """The configured bundle, loaded and warmed up."""
    from av_grounding.backends import load_configured
    from av_grounding.backends.economy import settle_threads
    from av_grounding.streaming.pipeline import GroundingStream

    backend = load_configured(config.model.path or default_bundle(), config)
    config.check_heads(backend.spec.head_names)
    settle_threads(backend)
    stream = GroundingStream(backend, config.stream)
    stream.push_frame(np.zeros((*WARM_UP_SIZE, 3), np.uint8), 0)
    return backend


def _remedy(error: Exception) -> str:
    if isinstance(error, ImportError):
        return (
            f": {sys.executable} lacks it; start with python:=VENV/bin/python, and see "
            "av-grounding doctor"
        )
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop; exit code 2 where a parameter is refused."""
    rclpy.init(args=None if arguments is None else list(arguments))
    try:
        node = GroundingNode()
    except (ValueError, InvalidParameterTypeException, InvalidParameterValueException) as error:
        rclpy.logging.get_logger(NODE_NAME).fatal(" ".join(str(error).split()))
        rclpy.try_shutdown()
        return 2
    try:
        node.autostart()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A second Ctrl-C means the same as the first, which is being done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
