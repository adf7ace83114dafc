"""`av-grounding run dds` and `av-grounding run … --dds`: topics of ROS 2 without ROS."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_grounding.config import GroundingConfig
    from av_grounding.grounder import Grounder
    from av_grounding.streaming.runner import Runner
    from av_grounding.transports.dds_bus import Bus
    from av_grounding.types import Sink, Source

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


def open_inputs(
    args: argparse.Namespace, settings: GroundingConfig
) -> tuple[Source, Source | None]:
    """Sources for the topics that `--image` and `--audio` name, or the only ones there are."""
    bus = _bus(args)
    from av_grounding.transports.dds_source import DdsInputs, find_topic

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
    inputs = DdsInputs(
        bus,
        _absolute(image),
        None if audio is None else _absolute(audio),
        camera_info=args.camera_info and _absolute(args.camera_info),
        audio_info=args.audio_info and _absolute(args.audio_info),
        config=settings,
    )
    args.dds_inputs = inputs
    args.clock_ns = inputs.clock_ns
    if is_microphone:
        from av_grounding.sources.microphone import Microphone

        return inputs.video, Microphone(args.audio.partition(":")[2] or None)
    return inputs.video, inputs.audio


def open_publisher(
    args: argparse.Namespace, settings: GroundingConfig, grounder: Grounder
) -> list[Sink]:
    """The publisher as a sink; empty without --dds."""
    if not args.dds:
        return []
    from av_grounding.transports.dds_node import DdsPublisher

    publisher = DdsPublisher(_bus(args), settings)
    args.backend_facts = grounder.backend.describe()
    inputs = getattr(args, "dds_inputs", None)
    if inputs is not None:
        publisher.camera = lambda: inputs.camera
    return [publisher]


def connect(args: argparse.Namespace, sinks: Sequence[Sink], runner: Runner) -> None:
    """Let the publisher, if it is among the sinks, diagnose the run."""
    if not args.dds:
        return
    from av_grounding.transports.dds_diagnostics import DdsMonitor
    from av_grounding.transports.dds_node import DdsPublisher

    inputs = getattr(args, "dds_inputs", None)
    malformed = None if inputs is None else inputs.malformed
    for sink in sinks:
        if isinstance(sink, DdsPublisher):
            monitor = DdsMonitor(sink, lambda: runner.counters, args.backend_facts, malformed)
            sink.statuses = monitor.statuses


def _bus(args: argparse.Namespace) -> Bus:
    """One participant for both directions."""
    if getattr(args, "dds_bus", None) is None:
        try:
            from av_grounding.transports.dds_bus import Bus
        except ImportError as error:
            raise RuntimeError(
                f"DDS needs cyclonedds and rosbags ({error}): pip install 'av_grounding[dds]'; "
                "on arm64, where cyclonedds has no wheel, use the ROS 2 node"
            ) from error
        from av_grounding.transports.dds_settings import DdsSettings

        settings = DdsSettings.from_environment(distro=args.ros_distro, discovery=args.discovery)
        args.dds_bus = Bus(settings, namespace=args.dds_namespace)
    return args.dds_bus


def _absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"
