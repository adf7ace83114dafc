"""What the node hears and sees: subscriptions that feed the sources, and why nothing arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from rclpy.lifecycle import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rosidl_runtime_py.utilities import get_message

from av_grounding.config import GroundingConfig
from av_grounding.transports.messages import (
    INPUT_TYPES,
    CameraInfo,
    MalformedCounter,
    decode_audio,
    decode_audio_info,
    decode_camera_info,
    decode_compressed_image,
    decode_image,
)
from av_grounding.transports.ros.parameters import audio_layout
from av_grounding.transports.ros.qos import subscription_events
from av_grounding.transports.topics.sources import HeardAudio, TopicAudio, TopicVideo
from av_grounding.types import AudioChunk, Source

logger = logging.getLogger(__name__)
AUDIO_DEPTH = 400
"""Two seconds of chunks of 5 ms."""


class RosInputs:
    """The sources of one activation and the subscriptions that feed them.

    `video` and `audio` are Sources; `open` subscribes, `close` unsubscribes and ends both.
    Callbacks only hand messages over, so the executor is free again at once.
    """

    def __init__(
        self,
        node: Node,
        config: GroundingConfig,
        malformed: MalformedCounter,
        on_depth: Callable[[Any], None] | None = None,
    ) -> None:
        """Raises ValueError, OSError or RuntimeError where a microphone cannot be opened."""
        self._node = node
        self._config = config
        self._malformed = malformed
        self._on_depth = on_depth
        self._subscriptions: list[Subscription] = []
        self._audio_subscription: Subscription | None = None
        self._layout = audio_layout(config)
        self._camera_message: Any = None
        self._camera: CameraInfo | None = None
        self.incompatible: list[str] = []
        """One line for each publisher whose QoS does not match."""
        is_raw = config.image_transport == "raw"
        self._image_type = INPUT_TYPES["image"][0 if is_raw else 1]
        self.image_topic = node.resolve_topic_name("image" if is_raw else "image/compressed")
        decode = decode_image if is_raw else decode_compressed_image
        self.video = TopicVideo(
            self.image_topic, lambda message, _: decode(message), malformed, config.max_rate
        )
        self.is_device = config.audio.source == "device"
        self.audio_topic = "" if self.is_device else node.resolve_topic_name("audio")
        self.topic_audio: TopicAudio | None = None
        self.audio = HeardAudio(self._audio_source(), config.audio.channel)

    def _audio_source(self) -> Source:
        if self.is_device:
            from av_grounding.sources.microphone import Microphone

            return Microphone(self._config.audio.device or None)
        self.topic_audio = TopicAudio(self.audio_topic, self._decode_audio, self._malformed)
        return self.topic_audio

    def open(self) -> None:
        """Subscribe to all that is known to be there."""
        is_reliable = self._config.image_reliability == "reliable"
        self._subscribe("image", self._image_type, self._put_image, 1, is_reliable)
        self._subscribe("camera_info", INPUT_TYPES["camera_info"][0], self._put_camera, 1)
        if self._on_depth is not None:
            self._subscribe("depth", INPUT_TYPES["depth"][0], self._on_depth, 2)
        self.look_for_audio()

    def close_subscriptions(self) -> None:
        """Hear and see nothing until `open`; the sources stay."""
        subscriptions, self._subscriptions = self._subscriptions, []
        self._audio_subscription = None
        for subscription in subscriptions:
            self._node.destroy_subscription(subscription)

    def close(self) -> None:
        self.close_subscriptions()
        self.video.close()
        self.audio.close()

    def clear(self) -> None:
        """Forget what waits to be read."""
        self.video.clear()
        if self.topic_audio is not None:
            self.topic_audio.clear()

    def apply(self, config: GroundingConfig) -> None:
        """Follow the dynamic parameters."""
        self.video.max_rate_hz = config.max_rate
        self.audio.channel = config.audio.channel

    def look_for_audio(self) -> bool:
        """Subscribe to the audio topic as soon as its type is known; whether that is done."""
        if self.is_device or self._audio_subscription is not None:
            return True
        type_name = self._audio_type()
        if type_name is None:
            return False
        try:
            self._audio_subscription = self._subscribe(
                "audio", type_name, self._put_audio, AUDIO_DEPTH
            )
        except (ImportError, AttributeError, ValueError) as error:
            self._malformed.add(
                self.audio_topic,
                ValueError(f"{type_name} cannot be imported ({error}): install its package"),
            )
            return False
        if type_name in INPUT_TYPES["audio"][:2]:  # samples that say nothing of themselves
            self._subscribe("audio_info", INPUT_TYPES["audio_info"][0], self._put_audio_info, 1)
        return True

    def _audio_type(self) -> str | None:
        wanted = self._config.audio.msg_type
        for name in INPUT_TYPES["audio"]:
            if name.endswith(f"/{wanted}"):
                return name
        offered = {
            info.topic_type for info in self._node.get_publishers_info_by_topic(self.audio_topic)
        }
        return next((name for name in INPUT_TYPES["audio"] if name in offered), None)

    @property
    def camera(self) -> CameraInfo | None:
        """The newest camera_info, decoded where it changed; for the thread that publishes."""
        message, self._camera_message = self._camera_message, None
        if message is not None:
            try:
                self._camera = decode_camera_info(message)
            except ValueError as error:
                self._malformed.add(self._node.resolve_topic_name("camera_info"), error)
        return self._camera

    def reasons_without_images(self) -> Iterator[str]:
        """Why no frame comes out of the image topic, most telling first."""
        if self.video.num_received and not self.video.num_decoded:
            yield f"what comes cannot be used: {self._malformed.last_message}"
        yield from self._reasons(self.image_topic, self._image_type, self.video.num_received)

    def reasons_without_audio(self) -> Iterator[str]:
        """Why no sound comes."""
        source = self.topic_audio
        if source is None:
            yield "the microphone delivers nothing"
            return
        if source.num_received and not source.num_decoded:
            yield f"what comes cannot be used: {self._malformed.last_message}"
        wanted = self._audio_type() or " or ".join(INPUT_TYPES["audio"])
        yield from self._reasons(self.audio_topic, wanted, source.num_received)

    def _reasons(self, topic: str, type_name: str, num_received: int) -> Iterator[str]:
        yield from (line for line in self.incompatible if line.startswith(topic))
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            yield (
                f"nobody publishes {topic} ({type_name}): is the driver running, in the same "
                "ROS_DOMAIN_ID, under this name (ros2 topic list)?"
            )
            return
        other = sorted({info.topic_type for info in publishers} - set(type_name.split(" or ")))
        if len(other) == len({info.topic_type for info in publishers}):
            yield f"{topic} carries {', '.join(other)}, expected {type_name}: remap another topic"
        elif not num_received:
            yield f"{publishers[0].node_name} is connected to {topic} but sends nothing"
        else:
            yield f"{publishers[0].node_name} stopped sending on {topic}"

    def _put_image(self, message: Any) -> None:
        self.video.put(message, 0)

    def _put_camera(self, message: Any) -> None:
        self._camera_message = message

    def _put_audio(self, message: Any) -> None:
        assert self.topic_audio is not None
        self.topic_audio.put(message, self._node.get_clock().now().nanoseconds)

    def _put_audio_info(self, message: Any) -> None:
        try:
            self._layout = decode_audio_info(message)
        except (ValueError, AttributeError) as error:
            self._malformed.add(self._node.resolve_topic_name("audio_info"), ValueError(error))

    def _decode_audio(self, message: Any, received_ns: int) -> AudioChunk:
        audio = self._config.audio
        return decode_audio(
            message,
            self._layout,
            received_ns=received_ns if audio.allow_unstamped else None,
            stamp_reference=audio.stamp_reference,
        )

    def _subscribe(
        self,
        name: str,
        type_name: str,
        callback: Callable[[Any], None],
        depth: int,
        is_reliable: bool = False,
    ) -> Subscription:
        topic = self.image_topic if name == "image" else self._node.resolve_topic_name(name)
        reliability = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT
        profile = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability)
        subscription = self._node.create_subscription(
            get_message(type_name),
            topic,
            callback,
            profile,
            event_callbacks=subscription_events(topic, self.incompatible.append),
            qos_overriding_options=self._overrides(name, topic),
        )
        self._subscriptions.append(subscription)
        return subscription

    def _overrides(self, name: str, topic: str) -> QoSOverridingOptions:
        """The usual three; for images `image_reliability` decides, unless an override is given.

        A policy that has been declared once keeps its value, and the parameter may change.
        """
        if name != "image":
            return QoSOverridingOptions.with_default_policies()
        given = getattr(self._node, "_parameter_overrides", {})
        kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        if f"qos_overrides.{topic}.subscription.reliability" in given:
            kinds.append(QoSPolicyKind.RELIABILITY)
        return QoSOverridingOptions(kinds)
