"""What the node hears and sees: subscriptions that feed the sources, and why nothing arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.lifecycle import Node
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rosidl_runtime_py.utilities import get_message

from av_grounding.config import GroundingConfig
from av_grounding.transports.messages import (
    AudioLayout,
    CameraInfo,
    MalformedCounter,
    MalformedMessage,
    decode_audio,
    decode_audio_info,
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    peek_stamp_ns,
)
from av_grounding.transports.ros.qos import mismatches, offered_reliability, subscription_events
from av_grounding.transports.topics.sources import HeardAudio, TopicAudio, TopicSource, TopicVideo
from av_grounding.transports.topics.table import INPUT_TYPES, input_types
from av_grounding.types import AudioChunk, Frame, Source

logger = logging.getLogger(__name__)
AUDIO_DEPTH = 400
"""Two seconds of chunks of 5 ms."""
LOSS_REMEDY = {
    "image": "large best-effort messages get lost: publish reliably, use image_transport: "
    "compressed, or raise net.core.rmem_max (and with Cyclone DDS the socket's minimum receive "
    "buffer size)",
    "audio": "best-effort messages get lost: publish reliably",
}


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
        self._subscriptions: dict[str, tuple[Subscription, QoSProfile]] = {}
        self._layout = AudioLayout.of(config.audio)
        self._camera_message: Any = None
        self._camera: CameraInfo | None = None
        self.num_lost = {"image": 0, "audio": 0}
        """Messages that were published and did not arrive, as far as the middleware tells."""
        is_raw = config.image_transport == "raw"
        self._image_type = INPUT_TYPES["image"][0 if is_raw else 1]
        self.image_topic = _image_topic(node, is_raw)
        self.video = TopicVideo(
            self.image_topic,
            lambda cdr, _: peek_stamp_ns(cdr),
            self._decode_image,
            malformed,
            config.max_rate,
        )
        self.is_device = config.audio.source == "device"
        self.audio_topic = "" if self.is_device else node.resolve_topic_name("audio")
        self.topic_audio: TopicAudio | None = None
        self.audio = HeardAudio(self._audio_source(), config.audio.channel)

    def _audio_source(self) -> Source:
        if self.is_device:
            from av_grounding.sources.microphone import Microphone

            audio = self._config.audio
            return Microphone(audio.device or None, channel=audio.channel)
        self.topic_audio = TopicAudio(self.audio_topic, self._decode_audio, self._malformed)
        return self.topic_audio

    def open(self) -> None:
        """Subscribe to all that is known to be there."""
        self._subscribe("camera_info", INPUT_TYPES["camera_info"][0], self._put_camera, 1)
        if self._on_depth is not None:
            self._subscribe("depth", INPUT_TYPES["depth"][0], self._on_depth, 2)
        self.follow()

    def close_subscriptions(self) -> None:
        """Hear and see nothing until `open`; the sources stay."""
        subscriptions, self._subscriptions = self._subscriptions, {}
        for subscription, _ in subscriptions.values():
            self._node.destroy_subscription(subscription)

    def follow(self) -> None:
        """Subscribe as the publishers that are there now ask for: their type and reliability."""
        wanted = self._reliability("image", self.image_topic, self._config.image_reliability)
        if self._is_due("image", wanted):
            self._subscribe("image", self._image_type, self._put_image, 1, wanted)
        if not self.is_device:
            self._follow_audio()

    def _is_due(self, name: str, reliability: ReliabilityPolicy) -> bool:
        known = self._subscriptions.get(name)
        return known is None or known[1].reliability != reliability

    def _reliability(self, name: str, topic: str, setting: str) -> ReliabilityPolicy:
        if setting != "auto":
            return ReliabilityPolicy[setting.upper()]
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers and name in self._subscriptions:
            return self._subscriptions[name][1].reliability  # it may come back as it was
        return offered_reliability(publishers)

    def _profile(self, name: str) -> QoSProfile | None:
        known = self._subscriptions.get(name)
        return None if known is None else known[1]

    @property
    def incompatible(self) -> list[str]:
        """One line for each publisher of now whose QoS does not match."""
        lines = []
        for name, topic in (("image", self.image_topic), ("audio", self.audio_topic)):
            if (profile := self._profile(name)) is not None:
                publishers = self._node.get_publishers_info_by_topic(topic)
                lines += mismatches(topic, publishers, profile)
        return lines

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

    def _follow_audio(self) -> None:
        type_name = self._audio_type()
        if type_name is None:
            return
        wanted = self._reliability("audio", self.audio_topic, self._config.audio.reliability)
        if not self._is_due("audio", wanted):
            return
        try:
            self._subscribe("audio", type_name, self._put_audio, AUDIO_DEPTH, wanted)
        except (ImportError, AttributeError, ValueError) as error:
            self._malformed.add(
                self.audio_topic,
                ValueError(f"{type_name} cannot be imported ({error}): install its package"),
            )
            return
        if type_name in INPUT_TYPES["audio"][:2]:  # samples that say nothing of themselves
            self._subscribe("audio_info", INPUT_TYPES["audio_info"][0], self._put_audio_info, 1)

    def _audio_type(self) -> str | None:
        types = input_types("audio", self._config.audio)
        if len(types) == 1:
            return types[0]
        publishers = self._node.get_publishers_info_by_topic(self.audio_topic)
        offered = {info.topic_type for info in publishers}
        return next((name for name in types if name in offered), None)

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
        yield from self._reasons("image", self.image_topic, (self._image_type,), self.video)

    def reasons_without_audio(self) -> Iterator[str]:
        """Why no sound comes."""
        if self.topic_audio is None:
            yield "the microphone delivers nothing"
            return
        wanted = self._audio_type()
        types = INPUT_TYPES["audio"] if wanted is None else (wanted,)
        yield from self._reasons("audio", self.audio_topic, types, self.topic_audio)

    def _reasons(
        self, name: str, topic: str, types: Sequence[str], source: TopicSource
    ) -> Iterator[str]:
        """Not published, of another type, refused, not arriving, or no longer sent."""
        yield from (line for line in self.incompatible if line.startswith(f"{topic}:"))
        publishers = self._node.get_publishers_info_by_topic(topic)
        offered = {info.topic_type for info in publishers}
        if not publishers:
            others = self._others(topic, types)
            yield (
                f"nobody publishes {topic} ({' or '.join(types)}): is the driver running, in the "
                f"same ROS_DOMAIN_ID, under this name (ros2 topic list)?{others}"
            )
        elif not offered & set(types):
            yield (
                f"{topic} carries {', '.join(sorted(offered))}, expected {' or '.join(types)}: "
                f"remap another topic{self._others(topic, types)}"
            )
        elif source.is_arriving and (fault := self._malformed.last_of(topic)):
            yield f"what comes cannot be used: {fault}"
        elif not source.num_received:
            lost = f", {self.num_lost[name]} messages were lost" if self.num_lost[name] else ""
            yield (
                f"{publishers[0].node_name} is connected to {topic}, but nothing arrives{lost}: "
                f"either it sends nothing (ros2 topic hz), or {LOSS_REMEDY[name]}"
            )
        else:
            yield f"{publishers[0].node_name} stopped sending on {topic}"

    def _others(self, topic: str, types: Sequence[str]) -> str:
        """What else is there: the same picture compressed or raw, and other topics of the type."""
        there = dict(self._node.get_topic_names_and_types())
        twin = (
            topic.removesuffix("/compressed")
            if topic.endswith("/compressed")
            else (f"{topic}/compressed")
        )
        found = []
        if set(there.get(twin, ())) & set(INPUT_TYPES["image"]):
            transport = "compressed" if twin.endswith("/compressed") else "raw"
            found.append(f"{twin} (image_transport: {transport})")
        ours = f"{self._node.get_fully_qualified_name().rpartition('/')[0]}/"
        found += [
            name
            for name, kinds in sorted(there.items())
            if set(kinds) & set(types)
            and name not in (topic, twin)
            and (not name.startswith(ours) or ours == "/")
        ]
        return f"; there is {', '.join(found[:5])}" if found else ""

    def loss(self, name: str) -> str:
        """A line where more than a tenth of what is published gets lost on the way; else empty."""
        source = self.video if name == "image" else self.topic_audio
        if source is None or 10 * self.num_lost[name] <= source.num_received:
            return ""
        topic = self.image_topic if name == "image" else self.audio_topic
        return (
            f"{topic}: {self.num_lost[name]} messages were lost on the way, "
            f"{source.num_received} came: {LOSS_REMEDY[name]}"
        )

    def _put_image(self, cdr: bytes) -> None:
        self.video.put(cdr, 0)

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

    def _decode_image(self, cdr: bytes, _received_ns: int) -> Frame:
        try:
            message = deserialize_message(cdr, get_message(self._image_type))
        except Exception as error:  # whatever the type support stumbles over
            raise MalformedMessage(
                "serialization", f"{len(cdr)} bytes are no {self._image_type} ({error})"
            ) from error
        is_raw = self._image_type == INPUT_TYPES["image"][0]
        return (decode_image if is_raw else decode_compressed_image)(message)

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
        reliability: ReliabilityPolicy = ReliabilityPolicy.BEST_EFFORT,
    ) -> None:
        """Subscribe, in place of the subscription of this name where there is one."""
        topic = self.image_topic if name == "image" else self._node.resolve_topic_name(name)
        profile = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability)

        def count_lost(number: int) -> None:
            if name in self.num_lost:
                self.num_lost[name] += number

        subscription = self._node.create_subscription(
            get_message(type_name),
            topic,
            callback,
            profile,
            event_callbacks=subscription_events(topic, count_lost),
            qos_overriding_options=self._overrides(topic),
            # A picture that is replaced need not even become a message.
            raw=name == "image",
        )
        if name in self._subscriptions:
            self._node.destroy_subscription(self._subscriptions[name][0])
        self._subscriptions[name] = (subscription, profile)

    def _overrides(self, topic: str) -> QoSOverridingOptions:
        """History and depth; reliability only where an override is given.

        A policy that has been declared once keeps its value, and ours follows the publishers.
        """
        kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH]
        if self._node.has_parameter(f"qos_overrides.{topic}.subscription.reliability"):
            kinds.append(QoSPolicyKind.RELIABILITY)
        return QoSOverridingOptions(kinds)


def _image_topic(node: Node, is_raw: bool) -> str:
    """Where images come from. As with image_transport, `image:=X` means X/compressed as well."""
    base = node.resolve_topic_name("image")
    if is_raw:
        return base
    compressed = node.resolve_topic_name("image/compressed")
    is_remapped = compressed != node.resolve_topic_name("image/compressed", only_expand=True)
    if is_remapped or base.endswith("/compressed"):
        return compressed if is_remapped else base
    return f"{base}/compressed"
