"""Flickr-SoundNet (Senocak et al., CVPR 2018) and its extension (Mo and Morgado, 2022)."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from av_grounding.evaluation.benchmark import BenchmarkInfo, GroundingSample, ListBenchmark, Target
from av_grounding.evaluation.benchmarks.files import AudioFile, BoxMask, FileCheck, ImageFile
from av_grounding.evaluation.benchmarks.vgg_ss import extra, media

NUM_SAMPLES = 250
NUM_REQUIRED = 2
ANNOTATED_PX = 256
NOTES = (
    "Ground truth is the consensus of the annotators: the sum of the boxes divided by two and "
    "clipped at 1. Boxes are drawn on a 256x256 picture; edges at int(224 v / 256)."
)


def open_flickr(root: Path) -> ListBenchmark:
    """250 clips with the boxes of three annotators."""
    listing = FileCheck()
    samples = tuple(sounding(root, listing))
    info = BenchmarkInfo(
        name="flickr-soundnet",
        task="localisation",
        heads=("sound",),
        citation="Senocak et al., Learning to Localize Sound Source in Visual Scenes, CVPR 2018",
        num_expected=NUM_SAMPLES,
        notes=NOTES,
    )
    return ListBenchmark(info, samples, tuple(listing.problems))


def open_flickr_extended(root: Path) -> ListBenchmark:
    """The 250 clips and 250 whose sound is not in the picture."""
    listing = FileCheck()
    samples = [*sounding(root, listing)]
    samples += extra(root, root / "flickr_test_plus_silent.csv", listing)
    info = BenchmarkInfo(
        name="flickr-soundnet-extended",
        task="extended",
        heads=("sound",),
        citation="Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source "
        "Localization, NeurIPS 2022",
        num_expected=2 * NUM_SAMPLES,
        notes=f"{NOTES} A row whose sound is another video's is off-screen, else silent.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def sounding(root: Path, listing: FileCheck) -> list[GroundingSample]:
    """The samples of flickr_test.csv, in its order."""
    samples = []
    for row in listing.bare_rows(root / "flickr_test.csv", 1):
        name = row[0]
        image, audio = media(root, name)
        annotation = root / "Annotations" / f"{name}.xml"
        if not listing.has(name, image, audio, annotation):
            continue
        values = read_boxes(annotation)
        if values is None:
            listing.malformed_row(name, f"{annotation}: not an XML file")
            continue
        boxes = listing.boxes(name, values, "xyxy", (ANNOTATED_PX, ANNOTATED_PX))
        target = Target(
            head="sound", class_name="", load_mask=BoxMask(boxes, NUM_REQUIRED), boxes=boxes
        )
        samples.append(
            GroundingSample(
                id=name,
                load_image=ImageFile(image),
                load_clip=AudioFile(audio),
                targets=(target,),
            )
        )
    return samples


def read_boxes(path: Path) -> list[list[float]] | None:
    """The last four values of every bbox element: what stands before them names the annotator.

    What is no number is NaN, so that its box counts as malformed; None where it is no XML.
    """
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError:
        return None
    return [[_number(child.text) for child in box][-4:] for box in tree.iter("bbox")]


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
