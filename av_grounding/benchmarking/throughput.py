"""How many clips a second one core reads from shards: sound and one picture, decoded."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.training.data import media
from av_grounding.training.data.clips import KINDS, ClipFiles, Listing
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from av_grounding.training.data.shards import ShardClips, find_shards

NUM_CLIPS, CLIP_S, RATE_HZ, PICTURE_PX = 48, 10.0, 16_000, 224


def measure_throughput(shards: Path | None = None, duration_s: float = 5.0) -> dict[str, Any]:
    """Read clips in a random order for `duration_s`; None measures shards made for it.

    `clips_per_cpu_s` is what one core reads; `clips_per_s` counts by the clock, and falls where
    other programs want the core too.
    """
    if shards is None:
        with tempfile.TemporaryDirectory() as folder:
            make_shards(Path(folder))
            return measure_throughput(Path(folder), duration_s)
    found = [s for kind in KINDS for s in find_shards(shards, "train") if s.kind == kind]
    if not found:
        raise ValueError(
            f"{shards}: no shards for training; write some with av-grounding data shard"
        )
    rate_hz = probe_rate(found)
    clips, rng = ShardClips(found, rate_hz), np.random.default_rng(0)
    for shard in range(len(found)):
        clips.opened(shard)  # Reading the directory of a tar is paid once a run.
    num_clips, audio_s, began_s, cpu_s = 0, 0.0, time.monotonic(), time.process_time()
    height = width = 0
    while time.monotonic() - began_s < duration_s:
        clip = clips.read(int(rng.integers(len(clips))), rng)
        num_clips += 1
        audio_s += len(clip.waveform) / rate_hz
        height, width = clip.image.shape[:2]
    wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    return {
        "num_clips": num_clips,
        "clips_per_cpu_s": round(num_clips / cpu_s, 1),
        "clips_per_s": round(num_clips / wall_s, 1),
        "mean_audio_s": round(audio_s / num_clips, 2),
        "sample_rate_hz": rate_hz,
        "last_picture_px": [height, width],
    }


def probe_rate(shards: list) -> int:
    """The sample rate of the first clip."""
    from av_grounding.training.data.shards import list_members

    path = shards[0].path
    sound = next(m for m in list_members(path)[0] if m.suffix.endswith(("flac", "wav", "mp3")))
    with open(path, "rb") as file:
        file.seek(sound.offset)
        return media.decode_sound(file.read(sound.num_bytes), str(path))[1]


def make_shards(folder: Path) -> None:
    """Clips that cost what real ones do: noise under tones, and textured pictures."""
    import cv2

    rng = np.random.default_rng(0)
    files = []
    times_s = np.arange(round(CLIP_S * RATE_HZ)) / RATE_HZ
    for number in range(NUM_CLIPS):
        tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * times_s)
        sound = 0.3 * tone + 0.05 * rng.standard_normal(len(times_s))
        path = folder / f"{number}.flac"
        path.write_bytes(media.encode_flac(sound.astype(np.float32), RATE_HZ))
        texture = sum(
            cv2.resize(rng.uniform(0, 255 / 4, (size, size, 3)), (PICTURE_PX, PICTURE_PX))
            for size in (7, 28, 112, 224)
        )
        picture = folder / f"{number}.jpg"
        picture.write_bytes(media.encode_jpeg(texture.astype(np.uint8)))
        files.append(ClipFiles(str(number), path, (picture,)))
    config = ShardConfig(short_side_px=PICTURE_PX, num_frames=1, validation_fraction=0.0)
    write_shards(Listing("folder", tuple(files)), folder / "shards", config)
