"""Files around fuzzed bytes: the sound rest of a bundle, a checkpoint, a bag, a data set."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

KINDS = ("conv", "dino", "transformers")


def new_folder() -> tempfile.TemporaryDirectory:
    """In memory where there is such a place; within TMPDIR where somebody has set it."""
    memory = None if "TMPDIR" in os.environ or not os.path.isdir("/dev/shm") else "/dev/shm"
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory, ignore_cleanup_errors=True)


_FOLDER = new_folder()
# Not when the object is collected: what other modules do at exit may still need the files.
atexit.register(_FOLDER.cleanup)
SCRATCH = Path(_FOLDER.name)
"""Gone with a process that ends in order."""
_HOME = SCRATCH / "bundles"


@lru_cache
def bundle(kind: str) -> Path:
    """A tiny bundle of one of `KINDS` of backbones."""
    from av_grounding.modeling.bundle import save_bundle
    from av_grounding.modeling.denseav import denseav_spec
    from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig, head_specs
    from av_grounding.types import HeadCalibration, ModelSpec
    from tests.helpers import denseav_checkpoint

    spec = ModelSpec(
        head_specs(("sound", "speech"), calibration=HeadCalibration(9.0, -4.0)),
        16_000,
        2.56,
        0.16,
        32,
        160,
        16,
    )
    hubert = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }  # fmt: skip
    vit = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "image_size": 32,
    }  # fmt: skip
    image, audio = {"widths": (4, 4, 4, 4), "dim": 4}, {"widths": (4, 4, 4), "dim": 4}
    if kind == "conv":
        config = ModelConfig(head_dim=4, image_options=image, audio_options=audio)
    elif kind == "dino":
        config = denseav_checkpoint.TINY.config()
    else:
        config = ModelConfig(
            head_dim=4, image_backbone="vit", audio_backbone="hubert", image_options=vit,
            audio_options=hubert,
        )  # fmt: skip
    model = DualEncoder(config)
    named = denseav_spec(model, 1.0) if kind == "dino" else spec
    return save_bundle(_HOME / kind, model, named, name=kind, info={"recipe": "none"})


def bundle_with(
    folder: Path, *, config: bytes | None = None, weights: bytes | None = None
) -> Path:
    """The conv bundle with other bytes for one of its files; config.json states the hash."""
    sound = bundle("conv")
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_bytes(config)
        for other in sorted(_HOME.iterdir()):
            stated = json.loads((other / "config.json").read_text())["weights"]["sha256"]
            sound = other if stated.encode() in config else sound
        shutil.copy(sound / "model.safetensors", folder)
        return folder
    assert weights is not None
    stated = json.loads((sound / "config.json").read_text())
    stated["weights"]["sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@lru_cache
def tiny_dino():
    from av_grounding.modeling.vision_transformer import DinoBackbone

    return DinoBackbone(dim=8, depth=1, num_attention_heads=1, image_px=16)


@lru_cache
def _checkpoint(is_old: bool) -> bytes:
    from tests.helpers import denseav_checkpoint

    buffer = io.BytesIO()
    names = ("sim_cal.w", "audio_cls", "image_aligner.layer.bias")
    state = {k: v for k, v in denseav_checkpoint.official_state().items() if k in names}
    settings = {"sim_agg_heads": 2, "lr": 5e-5}
    content = {"format": 2, "state_dict": state, "hyper_parameters": settings}
    torch.save(content, buffer, _use_new_zipfile_serialization=not is_old)
    return buffer.getvalue()


def checkpoint_of(pickled: bytes | None, *, is_old: bool = False) -> bytes:
    """A small checkpoint as Lightning writes it; with other bytes for its pickle."""
    whole = _checkpoint(is_old)
    if pickled is None:
        return whole
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            is_pickle = info.filename.endswith("/data.pkl")
            new.writestr(info, pickled if is_pickle else old.read(info))
    return buffer.getvalue()


def pickle_of(checkpoint: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as file:
        return next(file.read(n) for n in file.namelist() if n.endswith("/data.pkl"))


def packed_mcap(path: Path, compression: str) -> bytes:
    """The messages of an MCAP file with compressed chunks, as rosbag2's presets write it."""
    from mcap.reader import make_reader
    from mcap.writer import CompressionType, Writer

    buffer = io.BytesIO()
    writer = Writer(buffer, compression=CompressionType[compression.upper()])
    writer.start("ros2", "test")
    channels = {}
    with open(path, "rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            if channel.id not in channels:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, number, dict(channel.metadata)
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time
            )
    writer.finish()
    return buffer.getvalue()


def bag_with_facts(folder: Path, text: bytes) -> Path:
    """A bag whose recording topic says `text`."""
    from av_grounding.transports import messages
    from tests.helpers import bags

    shutil.rmtree(folder, ignore_errors=True)
    writer = bags.BagWriter(folder)
    fields = messages.Fields("std_msgs/msg/String", data=text.decode("utf-8", "replace"))
    writer.add("/a/recording", fields, 1)
    return writer.close()


class DataList(NamedTuple):
    """A data set by its list: the benchmark or the training layout that reads it."""

    reader: str
    file: str
    seed: bytes


LISTS = tuple(
    DataList(row["reader"], row["file"], row["seed"].encode())
    for row in json.loads((Path(__file__).parent / "lists.json").read_text())
)


def open_list(root: Path, which: int, data: bytes) -> None:
    """Read a data set of which every list but one is sound."""
    from av_grounding.evaluation.benchmarks import BENCHMARKS, open_benchmark
    from av_grounding.training.data.folder import list_clips
    from av_grounding.training.data.shards import find_shards

    number = which % len(LISTS)
    chosen = LISTS[number]
    folder = _data_set(root / str(number), number)
    (folder / chosen.file).write_bytes(data)
    if chosen.reader == "shards":
        find_shards(folder, "train")
    elif chosen.reader.startswith("layout "):
        list_clips(folder, chosen.reader.removeprefix("layout "))
    else:
        assert chosen.reader in BENCHMARKS
        open_benchmark(chosen.reader, folder)


def _data_set(folder: Path, number: int) -> Path:
    """All lists of the reader, and the few files that they name."""
    if folder.is_dir():
        return folder
    for entry in LISTS:
        if entry.reader == LISTS[number].reader or entry.reader == "vgg-ss":
            path = folder / entry.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.seed)
    for name in ("images/a.jpg", "images/a_dog.jpg", "frames/a.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    for name in ("a.wav", "audio/a.wav", "audio_wav/a_dog.wav", "wavs/a.wav", "audio/a_30_40.mp3"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"RIFF")
    return folder
