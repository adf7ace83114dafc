"""IS3 (Senocak et al., ICCV 2023) and Extended IS3 (000 section 4.1, supplement 7)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from av_grounding.evaluation.benchmark import (
    AudioClip,
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    Target,
)
from av_grounding.evaluation.benchmarks.files import (
    SCORED_PX,
    AudioFile,
    BoxMask,
    FileCheck,
    ImageFile,
    MaskFile,
    mono_at,
    read_json,
)

CITATION = "Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, 2023"
CLASS_KEYS = ("class", "category", "label")
MIXED_RATE_HZ = 16_000
# A far edge at pixel 61 of 224 is the fraction 61/224, which times 224 is 60.99…: rounding down
# must not lose that pixel.
NUDGE_PX = 1e-3


@dataclass(frozen=True)
class Annotation:
    """One row of IS3_annotation.json: an object of a picture, its sound and its box.

    `group` names the picture, of which every annotation has a copy of its own.
    """

    name: str
    group: str
    class_name: str
    box: Any
    image: Path
    sound: Path
    mask: Path


def read_annotations(root: Path, listing: FileCheck) -> list[Annotation]:
    """The rows in their order; folders in their paths are the authors' own and are ignored."""
    annotations = []
    for entry in listing.entries(root / "IS3_annotation.json", ("image", "audio", "gt_box")):
        image = str(entry["image"]).rsplit("/", 1)[-1]
        name = image.rsplit(".", 1)[0]
        group, _, target = name.rpartition("_")
        if not group:
            listing.malformed_row(name, "image name is not <objects>_<target>")
            continue
        masks = [root / "gt_segmentation" / f"{name}{suffix}" for suffix in (".png", ".jpg")]
        annotations.append(
            Annotation(
                name=name,
                group=group,
                class_name=str(next((entry[k] for k in CLASS_KEYS if entry.get(k)), target)),
                box=entry["gt_box"],
                image=root / "images" / image,
                sound=root / "audio_wav" / str(entry["audio"]).rsplit("/", 1)[-1],
                mask=next((mask for mask in masks if mask.is_file()), masks[0]),
            )
        )
    return annotations


def open_is3(root: Path) -> ListBenchmark:
    """6,480 sounds over 3,240 pictures of two objects, with boxes."""
    listing, samples = FileCheck(), []
    for annotation in read_annotations(root, listing):
        boxes = listing.boxes(annotation.name, _nudged(annotation.box), "xyxy", (224, 224))
        if listing.has(annotation.name, annotation.image, annotation.sound):
            samples.append(_sample(annotation, BoxMask(boxes), boxes))
    notes = "Boxes are pixels of the 224x224 picture."
    return ListBenchmark(_info("is3", notes), tuple(samples), tuple(listing.problems))


def open_is3_masks(root: Path) -> ListBenchmark:
    """The same with the segmentation masks as ground truth."""
    listing, samples = FileCheck(), []
    for annotation in read_annotations(root, listing):
        if listing.has(annotation.name, annotation.image, annotation.sound, annotation.mask):
            samples.append(_sample(annotation, MaskFile(annotation.mask, SCORED_PX), ()))
    notes = "Ground truth is the segmentation mask, at 224x224."
    return ListBenchmark(_info("is3-masks", notes), tuple(samples), tuple(listing.problems))


def _info(name: str, notes: str) -> BenchmarkInfo:
    return BenchmarkInfo(
        name=name,
        task="interactive",
        heads=("sound",),
        citation=CITATION,
        num_expected=6480,
        notes=notes,
    )


def _nudged(box: Any) -> list:
    try:
        return [[float(edge) + NUDGE_PX for edge in box]]
    except (TypeError, ValueError):
        return [box]


def _sample(annotation: Annotation, load_mask: Any, boxes: tuple) -> GroundingSample:
    target = Target(
        head="sound", class_name=annotation.class_name, load_mask=load_mask, boxes=boxes
    )
    return GroundingSample(
        id=annotation.name,
        load_image=ImageFile(annotation.image),
        load_clip=AudioFile(annotation.sound),
        targets=(target,),
        group=annotation.group,
    )


def open_extended_is3(root: Path) -> ListBenchmark:
    """What `av-grounding data extended-is3` wrote: a sound and a spoken name in one mixture."""
    listing, samples = FileCheck(), []
    content = read_json(root / "triplets.json")
    if not isinstance(content, dict) or not {"is3", "triplets"} <= content.keys():
        raise ValueError(
            f"{root / 'triplets.json'}: expected what av-grounding data extended-is3 writes"
        )
    is3 = (root / content["is3"]).resolve()
    if not is3.is_dir():
        raise FileNotFoundError(
            f"{is3}: no such folder; the IS3 data has moved: run av-grounding data extended-is3 "
            "again with its new place"
        )
    for row in content["triplets"]:
        masks = {head: is3 / row[f"{head}_mask"] for head in ("sound", "speech")}
        image, sound, speech = is3 / row["image"], is3 / row["sound"], root / row["speech"]
        if not listing.has(row["id"], image, sound, speech, *masks.values()):
            continue
        clip = SoundAndSpeech(AudioFile(sound), AudioFile(speech))
        targets = (
            Target(
                head="sound",
                class_name=row["sound_class"],
                load_mask=MaskFile(masks["sound"], SCORED_PX),
            ),
            Target(
                head="speech",
                class_name=row["speech_class"],
                load_mask=MaskFile(masks["speech"], SCORED_PX),
                word_span_s=clip.shifted(row["word_span_s"], row["speech_s"], row["sound_s"]),
            ),
        )
        samples.append(
            GroundingSample(
                id=row["id"],
                load_image=ImageFile(image),
                load_clip=clip,
                targets=targets,
                text=row["text"],
            )
        )
    info = BenchmarkInfo(
        name="extended-is3",
        task="simultaneous",
        heads=("sound", "speech"),
        citation="Ryu et al., Seeing Speech and Sound, CVPR 2025 (000)",
        num_expected=6480,
        notes="Rebuilt: the published set is not public. The paper says 3,420 pictures, IS3 has "
        f"3,240. Speech by {content.get('engine', 'an unknown engine')}, in the middle of the "
        "sound, both at the same active level (neither is stated in the paper); masks at 224x224.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


@dataclass(frozen=True)
class SoundAndSpeech:
    """Reads a sound and an utterance and sums them at equal level, the shorter centred."""

    sound: AudioFile
    speech: AudioFile

    def __call__(self) -> AudioClip:
        from av_grounding.synthetic.acoustics import mix

        parts = [mono_at(part(), MIXED_RATE_HZ) for part in (self.sound, self.speech)]
        longest = max(map(len, parts))
        padded = []
        for part in parts:
            before = (longest - len(part)) // 2
            padded.append(np.pad(part, (before, longest - len(part) - before)))
        return AudioClip(mix(*padded, 0.0).mixture, MIXED_RATE_HZ)

    @staticmethod
    def shifted(span_s: list[float], speech_s: float, sound_s: float) -> tuple[float, float]:
        """A time in the utterance as a time in the sum."""
        before_s = max(0.0, (sound_s - speech_s) / 2)
        return span_s[0] + before_s, span_s[1] + before_s
