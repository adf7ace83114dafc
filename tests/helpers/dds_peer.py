"""The other process of the bus tests: subscribes, publishes or listens with types of its own.

    python dds_peer.py subscribe RELIABILITY:TOPIC=TYPE …   a line of JSON per message
    python dds_peer.py publish KIND SECONDS                 pictures and sound
    python dds_peer.py native                               without any code of av_grounding

Every mode says {"ready": true} when it is on the bus, and ends with its stdin.
"""

import hashlib
import json
import sys
import threading
import time


def say(**values):
    print(json.dumps(values), flush=True)


def wait_for_stdin():
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    return done


def open_bus(name="peer"):
    from av_grounding.transports.dds.bus import Bus
    from av_grounding.transports.dds.settings import DdsSettings

    return Bus(DdsSettings.from_environment(), name, "/peers")


def subscribe(*specs):
    bus, readers, messages = open_bus(), {}, []
    for spec in specs:
        topic, type_name = spec.split("=")
        reliability, name = topic.split(":")

        def take(cdr, received_ns, topic=topic):
            messages.append((topic, cdr, received_ns))

        readers[topic] = bus.reader(
            name, type_name, take, depth=1000, is_reliable=reliability == "reliable"
        )
    done = wait_for_stdin()
    deadline_s = time.monotonic() + 20
    while not all(reader.num_writers for reader in readers.values()):
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.02)
    say(ready=True, matched={topic: reader.num_writers for topic, reader in readers.items()})
    done.wait()
    time.sleep(0.3)
    bus.close()
    for topic, cdr, received_ns in messages:
        message = readers[topic].types.decode(cdr, readers[topic].type_name)
        stamp = message.header.stamp
        say(
            topic=topic,
            stamp_ns=stamp.sec * 10**9 + stamp.nanosec,
            received_ns=received_ns,
            sha=hashlib.sha256(bytes(cdr)).hexdigest(),
        )
    say(done=True)


def publish(kind, seconds):
    import numpy as np

    from av_grounding.transports import messages
    from av_grounding.types import AudioChunk

    bus = open_bus("driver")
    compressed = kind == "compressed"
    image = bus.writer(
        "/cam/image",
        "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image",
    )
    audio = bus.writer("/mic/audio", "audio_common_msgs/msg/AudioDataStamped", 100)
    info = bus.writer("/mic/audio_info", "audio_common_msgs/msg/AudioInfo")
    camera = bus.writer("/cam/camera_info", "sensor_msgs/msg/CameraInfo")
    calibration = messages.CameraInfo(
        48, 64, np.diag([50.0, 50.0, 1.0]), np.zeros((3, 4)), np.zeros(5), np.eye(3)
    )
    say(ready=True)
    started_s, index = time.monotonic(), 0
    offset_ns = -(10**15) if kind == "recorded" else 0
    done = wait_for_stdin()
    while not done.is_set() and time.monotonic() - started_s < float(seconds):
        stamp_ns = time.time_ns() + offset_ns
        pixels = np.full((48, 64, 3), index % 250, np.uint8)
        if compressed:
            fields = messages.compressed_image_fields(pixels, stamp_ns, "optical")
        else:
            fields = messages.image_fields(pixels, "rgb8", stamp_ns, "optical")
        if kind == "malformed" and index % 2:
            fields["step"] = 1
        image.write(fields)
        chunk = AudioChunk(np.full((533, 2), index % 100, np.int16), stamp_ns, 16_000)
        if index % 10 == 0:
            info.write(messages.audio_info_fields(chunk))
        audio.write(messages.audio_fields(chunk))
        camera.write(messages.camera_info_fields(calibration, stamp_ns, "optical"))
        index += 1
        time.sleep(max(0.0, started_s + index / 30 - time.monotonic()))
    say(done=True, num=index)
    bus.close()


def native():
    import os
    from dataclasses import dataclass

    # As ROS's middleware layer does by default for a range of one machine, from Iron on.
    if os.environ["ROS_DISTRO"] != "humble":
        os.environ["CYCLONEDDS_URI"] += (
            ",<CycloneDDS><Domain><General><AllowMulticast>false</AllowMulticast></General>"
            "<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32"
            "</MaxAutoParticipantIndex><Peers><Peer address='localhost'/></Peers></Discovery>"
            "</Domain></CycloneDDS>"
        )
    from cyclonedds.builtin import (
        BuiltinDataReader,
        BuiltinTopicDcpsParticipant,
        BuiltinTopicDcpsPublication,
    )
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl.types import array, float64, int32, sequence, uint8, uint32
    from cyclonedds.qos import Policy, Qos
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    @dataclass
    class Time_(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
        sec: int32
        nanosec: uint32

    @dataclass
    class Header_(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
        stamp: Time_
        frame_id: str

    @dataclass
    class Image_(IdlStruct, typename="sensor_msgs.msg.dds_.Image_"):
        header: Header_
        height: uint32
        width: uint32
        encoding: str
        is_bigendian: uint8
        step: uint32
        data: sequence[uint8]

    @dataclass
    class ObjectHypothesis_(IdlStruct, typename="vision_msgs.msg.dds_.ObjectHypothesis_"):
        class_id: str
        score: float64

    @dataclass
    class Classification_(IdlStruct, typename="vision_msgs.msg.dds_.Classification_"):
        header: Header_
        results: sequence[ObjectHypothesis_]

    gid_size = 24 if os.environ.get("ROS_DISTRO") == "humble" else 16

    @dataclass
    class Gid_(IdlStruct, typename="rmw_dds_common.msg.dds_.Gid_"):
        data: array[uint8, gid_size]

    @dataclass
    class NodeEntitiesInfo_(IdlStruct, typename="rmw_dds_common.msg.dds_.NodeEntitiesInfo_"):
        node_namespace: str
        node_name: str
        reader_gid_seq: sequence[Gid_]
        writer_gid_seq: sequence[Gid_]

    @dataclass
    class Graph_(IdlStruct, typename="rmw_dds_common.msg.dds_.ParticipantEntitiesInfo_"):
        gid: Gid_
        node_entities_info_seq: sequence[NodeEntitiesInfo_]

    participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
    policies = (Policy.DataRepresentation(use_cdrv0_representation=True),)
    best = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(50), *policies)
    kept = Qos(
        Policy.Reliability.Reliable(10**8),
        Policy.Durability.TransientLocal,
        Policy.History.KeepLast(50),
        *policies,
    )
    heatmap = DataReader(participant, Topic(participant, "rt/a/sound/heatmap", Image_), best)
    score = DataReader(participant, Topic(participant, "rt/a/sound/score", Classification_), best)
    graph = DataReader(participant, Topic(participant, "ros_discovery_info", Graph_), kept)
    endpoints = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
    participants = BuiltinDataReader(participant, BuiltinTopicDcpsParticipant)
    say(ready=True)
    wait_for_stdin().wait()
    for message in heatmap.take(N=50):
        stamp = message.header.stamp
        say(
            kind="heatmap",
            stamp_ns=stamp.sec * 10**9 + stamp.nanosec,
            frame_id=message.header.frame_id,
            size=[message.height, message.width],
            encoding=message.encoding,
            data=bytes(message.data).hex(),
        )
    for message in score.take(N=50):
        say(kind="score", value=[message.results[0].class_id, message.results[0].score])
    for message in graph.take(N=50):
        for node in message.node_entities_info_seq:
            say(
                kind="node",
                name=[node.node_namespace, node.node_name],
                participant=bytes(message.gid.data).hex(),
                writers=[bytes(gid.data).hex() for gid in node.writer_gid_seq],
            )
    for endpoint in endpoints.take(N=200):
        data = endpoint.qos[Policy.Userdata].data if Policy.Userdata in endpoint.qos else b""
        say(
            kind="endpoint",
            key=endpoint.key.hex,
            topic=endpoint.topic_name,
            type=endpoint.type_name,
            user_data=bytes(data).decode(),
        )
    for found in participants.take(N=50):
        data = found.qos[Policy.Userdata].data if Policy.Userdata in found.qos else b""
        say(kind="participant", key=found.key.hex, user_data=bytes(data).decode())
    say(done=True)


if __name__ == "__main__":
    {"subscribe": subscribe, "publish": publish, "native": native}[sys.argv[1]](*sys.argv[2:])
