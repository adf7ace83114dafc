"""The parsers of outside bytes by name: of topics, bags, bundles, checkpoints, pages, lists."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.fuzz import fuzz_files, fuzz_seeds
from tests.fuzz.fuzz_check import Target
from tests.fuzz.fuzz_files import SCRATCH

MAX_ITEMS = 30


def scratch(name: str, data: bytes) -> Path:
    """A file of this content, gone with the process."""
    path = SCRATCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def run_cdr(data: bytes) -> None:
    """The first byte chooses the type; the rest is a message as DDS delivers it."""
    from av_grounding.transports import messages

    if not data:
        return
    name = fuzz_seeds.MESSAGE_TYPES[data[0] % len(fuzz_seeds.MESSAGE_TYPES)]
    message = fuzz_seeds.wire_types(name).decode(data[1:], name)
    if name == "sensor_msgs/msg/Image":
        for decode in (messages.decode_image, messages.decode_depth, messages.decode_heatmap):
            try:
                decode(message)
            except ValueError:
                continue
    elif name == "sensor_msgs/msg/CompressedImage":
        messages.decode_compressed_image(message)
    elif name == "sensor_msgs/msg/CameraInfo":
        use_camera(messages.decode_camera_info(message))
    elif name.endswith("/AudioInfo"):
        messages.decode_audio_info(message)
    elif name == "std_msgs/msg/String":
        assert isinstance(message.data, str)
    else:
        layout = messages.AudioLayout(16_000, 2, "S24LE") if data[0] & 64 else None
        chunk = messages.decode_audio(message, layout, received_ns=1, stamp_reference="end")
        assert 0 < chunk.samples.nbytes <= 2 * len(data)


def use_camera(camera) -> None:
    """Whatever the numbers are, a ray is a unit vector."""
    from av_grounding.transports import messages

    if not camera.is_calibrated:
        return
    scaled = camera.scaled(14, 18)
    for lens in (camera, scaled):
        for is_rectified in (False, True):
            ray = lens.ray(3.5, 7.5, is_rectified=is_rectified)
            assert abs(np.linalg.norm(ray) - 1.0) < 1e-6, f"the ray {ray}"
    messages.camera_info_fields(scaled, 1, camera.frame_id)


def run_picture_message(data: bytes) -> None:
    """A camera's JPEG or PNG in a CompressedImage."""
    from types import SimpleNamespace

    from av_grounding.transports import messages
    from av_grounding.transports.messages.jpeg import coded_size

    stamp = SimpleNamespace(sec=1, nanosec=0)
    header = SimpleNamespace(stamp=stamp, frame_id="camera")
    message = SimpleNamespace(header=header, format="jpeg", data=data)
    frame = messages.decode_compressed_image(message)
    assert frame.image.shape[:2] == coded_size(np.frombuffer(data, np.uint8))


def run_picture_file(data: bytes) -> None:
    """A still picture, as `ground` and `run` read it, and as a shard holds it."""
    from av_grounding.sources.still import read_image
    from av_grounding.training.data.media import decode_picture

    for read in (read_image, lambda _: decode_picture(data, "picture")):
        try:
            image = read(scratch("picture.bin", data))
        except ValueError as error:
            refused = error
        else:
            assert image.ndim == 3
            assert image.dtype == np.uint8
            refused = None
    if refused:
        raise refused


def run_config(data: bytes) -> None:
    from av_grounding.config import load_config

    load_config(scratch("grounding.yaml", data))


def run_bundle_config(data: bytes) -> None:
    """A bundle's config.json beside sound weights."""
    from av_grounding.modeling.bundle import load_bundle

    load_bundle(fuzz_files.bundle_with(SCRATCH / "bundle", config=data))


def run_weights(data: bytes) -> None:
    """A bundle's weights, whose hash config.json states."""
    from av_grounding.modeling.bundle import load_bundle

    load_bundle(fuzz_files.bundle_with(SCRATCH / "bundle", weights=data))


def run_checkpoint(data: bytes) -> None:
    """A checkpoint file of any kind: DenseAV's, DINO's, a run's own."""
    from av_grounding.modeling.denseav_import import find_variant, read_checkpoint
    from av_grounding.modeling.pretrained import load_dino
    from av_grounding.training.loop import checkpoint

    path = scratch("denseav.ckpt", data)
    refused = None
    for read in (
        lambda: find_variant(read_checkpoint(path), None),
        lambda: checkpoint.read(path),
        lambda: load_dino(fuzz_files.tiny_dino(), path),
    ):
        try:
            read()
        except ValueError as error:
            refused = error
    if refused:
        raise refused


def run_pickle(data: bytes) -> None:
    """The pickle inside an otherwise sound checkpoint."""
    run_checkpoint(fuzz_files.checkpoint_of(data))


def run_import(data: bytes) -> None:
    """A folder as published on a hub: safetensors and a config.json, NUL between them."""
    from av_grounding.modeling.denseav_import import find_variant, read_checkpoint

    config, _, weights = data.partition(b"\0")
    folder = SCRATCH / "hub"
    scratch("hub/config.json", config)
    scratch("hub/model.safetensors", weights)
    find_variant(read_checkpoint(folder), None)


def run_bag_mcap(data: bytes) -> None:
    play(scratch("bag.mcap", data))


def run_bag_sqlite(data: bytes) -> None:
    play(scratch("bag.db3", data))


def run_bag_metadata(data: bytes) -> None:
    """metadata.yaml beside a sound storage file."""
    folder = SCRATCH / "folder"
    if not (folder / "folder.mcap").exists():
        scratch("folder/folder.mcap", fuzz_seeds.bag_mcap()[0])
    scratch("folder/metadata.yaml", data)
    play(folder)


def play(path: Path) -> None:
    """What `run bag:` does with a recording, as fast as possible."""
    from av_grounding.transports.bag.source import open_bag

    video, audio, _ = open_bag(path, realtime=False)
    for source in (video, audio):
        for item in itertools.islice(source or (), MAX_ITEMS):
            assert isinstance(item.stamp_ns, int)


def run_page_message(data: bytes) -> None:
    from av_grounding.viewer.messages import parse_client_message

    parse_client_message(data.decode("utf-8", "surrogateescape"))


def run_address(data: bytes) -> None:
    """Host headers and addresses."""
    from av_grounding.viewer.address import (
        Address,
        may_be_named,
        may_connect,
        parse_address,
        parse_place,
    )

    text = data.decode("utf-8", "replace")
    for host in ("127.0.0.1", "0.0.0.0", "::"):
        may_be_named(Address(host), text)
    may_connect(text, "localhost:8642")
    parse_place(text)
    parse_address(text)


def run_tar(data: bytes) -> None:
    """A shard: what it lists, and its first clips."""
    from av_grounding.training.data.shards import Shard, ShardClips, list_members

    path = scratch("shard.tar", data)
    clips = list_members(path)
    opened = ShardClips([Shard(path, "sound", len(clips))], 16_000)
    for number in range(min(2, len(clips))):
        opened[number]


def run_lists(data: bytes) -> None:
    """The first byte chooses the data set; the rest is its list."""
    if data:
        fuzz_files.open_list(SCRATCH / "lists", data[0], data[1:])


def run_facts(data: bytes) -> None:
    """What a recording says of its run."""
    from av_grounding.transports.bag.reader import Bag
    from av_grounding.transports.bag.source import read_facts

    read_facts(Bag(fuzz_files.bag_with_facts(SCRATCH / "noted", data)))


def _modules(*names: str) -> tuple[str, ...]:
    return tuple(f"av_grounding.{name}" for name in names)


def targets() -> dict[str, Target]:
    """Name -> target."""
    from av_grounding.transports.messages import MalformedMessage

    value, files = (ValueError,), (ValueError, OSError)
    messages = _modules("transports.messages", "transports.dds_types")
    bags = (*_modules("transports"), "rosbags.rosbag2", "mcap")
    return {
        "cdr": Target(run_cdr, (MalformedMessage,), fuzz_seeds.cdr, messages),
        "picture-message": Target(
            run_picture_message, (MalformedMessage,), fuzz_seeds.pictures, messages
        ),
        "picture-file": Target(
            run_picture_file, value, fuzz_seeds.picture_files, _modules("sources", "training.data")
        ),
        "config": Target(run_config, value, fuzz_seeds.configs, (*_modules("config"), "yaml")),
        "bundle-config": Target(
            run_bundle_config, value, fuzz_seeds.bundle_configs, _modules("modeling")
        ),
        "weights": Target(run_weights, value, fuzz_seeds.weights, _modules("modeling")),
        "checkpoint": Target(
            run_checkpoint, value, fuzz_seeds.checkpoints,
            _modules("modeling", "training.checkpoint"),
        ),
        "pickle": Target(
            run_pickle, value, fuzz_seeds.pickles,
            _modules("modeling"),
        ),
        "import": Target(run_import, value, fuzz_seeds.imports, _modules("modeling")),
        "bag-mcap": Target(run_bag_mcap, value, fuzz_seeds.bag_mcap, bags),
        "bag-sqlite": Target(run_bag_sqlite, value, fuzz_seeds.bag_sqlite, bags),
        "bag-metadata": Target(run_bag_metadata, value, fuzz_seeds.bag_metadata, bags),
        "bag-facts": Target(run_facts, (), fuzz_seeds.facts, _modules("transports.bag_source")),
        "page-message": Target(
            run_page_message, value, fuzz_seeds.page_messages, _modules("viewer")
        ),
        "address": Target(run_address, value, fuzz_seeds.addresses, _modules("viewer")),
        "tar": Target(
            run_tar, value, fuzz_seeds.tars, (*_modules("training.data"), "tarfile")
        ),
        "lists": Target(
            run_lists, files, fuzz_seeds.lists, _modules("training.data", "evaluation.benchmarks")
        ),
    }  # fmt: skip


def names(chosen: Iterable[str] = ()) -> list[str]:
    """The chosen targets, all of them by default; ValueError for an unknown one."""
    known = list(targets())
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"got target {', '.join(unknown)}; expected one of {', '.join(known)}")
    return list(chosen) or known
