"""`av-grounding run dds` and `av-grounding run … --dds`: topics of ROS 2 without ROS."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from av_grounding.cli.run_addition import Addition
from av_grounding.cli.run_separate import can_separate

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.streaming.runner import Runner
    from av_grounding.streaming.tapping import TappedStream
    from av_grounding.transports.dds.bus import Bus
    from av_grounding.transports.dds.node import DdsPublisher
    from av_grounding.transports.dds.source import DdsInputs
    from av_grounding.types import Source

SOURCE = "dds"


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "ROS 2 over DDS, without a ROS install",
        "ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS, ROS_LOCALHOST_ONLY, "
        "ROS_DISTRO and CYCLONEDDS_URI count as they do for ROS nodes.",
    )
    group.add_argument(
        "--dds", action="store_true", help="publish heatmaps, peaks, scores … as a ROS 2 node"
    )
    group.add_argument(
        "--dds-namespace",
        metavar="NS",
        default="/av_grounding",
        help="of the topics and the node; default: /av_grounding",
    )
    group.add_argument(
        "--ros-distro",
        choices=("humble", "jazzy"),
        help="layout of graph messages, jazzy from Iron on; default: $ROS_DISTRO, or jazzy",
    )
    group.add_argument(
        "--discovery",
        choices=("localhost", "subnet", "off", "system_default"),
        help="who is found; default: $ROS_AUTOMATIC_DISCOVERY_RANGE, or this machine only",
    )
    group.add_argument("--camera-info", metavar="TOPIC", help="SOURCE dds: for rays")
    group.add_argument(
        "--audio-info", metavar="TOPIC", help="SOURCE dds: default: audio_info beside the audio"
    )


def is_dds(args: argparse.Namespace) -> bool:
    return args.source == SOURCE


class Dds:
    """One participant for both directions of a run, opened when it is first needed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._bus: Bus | None = None
        self._inputs: DdsInputs | None = None

    @property
    def watches_sound(self) -> bool:
        """Whether sound comes from a topic, of which a line says why it is missing."""
        return self._inputs is not None and self._inputs.audio is not None

    def open_inputs(self, settings: GroundingConfig) -> tuple[Source, Source | None]:
        """Sources for the topics that `--image` and `--audio` name, or the only ones there are."""
        args, bus = self._args, self._open_bus()
        from av_grounding.transports.dds.source import DdsInputs, find_topic

        is_microphone = (args.audio or "").partition(":")[0] == "mic"
        image = args.image or find_topic(bus, "image")
        if image is None:
            bus.close()
            raise ValueError(
                f"no image topic in ROS_DOMAIN_ID {bus.settings.domain_id} within the discovery "
                f"range {bus.settings.discovery}, expected one: start the camera's driver, name a "
                "topic with --image, or widen the range with --discovery subnet"
            )
        audio = None
        if args.audio is None:
            audio = find_topic(bus, "audio", timeout_s=1.0)
        elif args.audio != "none" and not is_microphone:
            audio = args.audio
        self._inputs = DdsInputs(
            bus,
            _absolute(image),
            None if audio is None else _absolute(audio),
            camera_info=args.camera_info and _absolute(args.camera_info),
            audio_info=args.audio_info and _absolute(args.audio_info),
            config=settings,
        )
        if is_microphone:
            from av_grounding.sources.microphone import Microphone
            from av_grounding.transports.topics.sources import HeardAudio

            name, channel = args.audio.partition(":")[2], settings.audio.channel
            microphone = Microphone(name or settings.audio.device or None, channel=channel)
            return self._inputs.video, HeardAudio(microphone, channel)
        return self._inputs.video, self._inputs.audio

    def open_publisher(self, settings: GroundingConfig, grounder: Grounder) -> list[Publishing]:
        """Empty without --dds."""
        if not self._args.dds:
            return []
        from av_grounding.transports.dds.node import DdsPublisher

        heads, inputs = grounder.spec.head_names, self._inputs
        publisher = DdsPublisher(
            self._open_bus(),
            heads,
            settings,
            max_sources=grounder.spec.max_sources,
            separates=can_separate(grounder),
        )
        if inputs is not None:
            publisher.camera = lambda: inputs.camera
        return [Publishing(publisher, grounder.backend.describe(), inputs)]

    def _open_bus(self) -> Bus:
        if self._bus is None:
            try:
                from av_grounding.transports.dds.bus import Bus
            except ImportError as error:
                raise RuntimeError(
                    f"DDS needs cyclonedds and rosbags ({error}): pip install "
                    "'av_grounding[dds]'; where cyclonedds has no wheel (arm64, Python 3.14), use "
                    "the ROS 2 node"
                ) from error
            from av_grounding.transports.dds.settings import DdsSettings

            args = self._args
            settings = DdsSettings.from_environment(
                distro=args.ros_distro, discovery=args.discovery
            )
            self._bus = Bus(settings, namespace=args.dds_namespace)
        return self._bus


class Publishing(Addition):
    """The publisher diagnoses the run."""

    sink: DdsPublisher

    def __init__(
        self, publisher: DdsPublisher, backend_facts: dict[str, Any], inputs: DdsInputs | None
    ) -> None:
        super().__init__(publisher)
        self._backend_facts, self._inputs = backend_facts, inputs

    def connect(self, stream: TappedStream, runner: Runner | None) -> None:
        stream.tap(self.sink.place, self.sink.write_sound)
        from av_grounding.transports.dds.diagnostics import DdsMonitor

        if runner is None:
            return
        malformed = None if self._inputs is None else self._inputs.malformed
        monitor = DdsMonitor(self.sink, lambda: runner.counters, self._backend_facts, malformed)
        self.sink.statuses = monitor.statuses


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"
