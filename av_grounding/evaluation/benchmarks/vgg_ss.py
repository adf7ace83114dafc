"""VGG-SS (Chen et al., CVPR 2021) and extended VGG-SS (Mo and Morgado, NeurIPS 2022)."""

from __future__ import annotations

from pathlib import Path

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    Presence,
    Target,
)
from av_grounding.evaluation.benchmarks.files import AudioFile, BoxMask, FileCheck, ImageFile

NUM_SAMPLES = 5158
NOTES = (
    "The frame is squeezed to 224x224; ground truth is the union of the boxes, edges at "
    "int(224 v). A malformed box is left out and listed, its sample stays with the other boxes."
)


def open_vgg_ss(root: Path) -> ListBenchmark:
    """5,158 clips of 221 classes, of which 18 boxes are malformed."""
    listing = FileCheck()
    samples = tuple(sounding(root, listing))
    info = BenchmarkInfo(
        name="vgg-ss",
        task="localisation",
        heads=("sound",),
        citation="Chen et al., Localizing Visual Sounds the Hard Way, CVPR 2021",
        num_expected=NUM_SAMPLES,
        notes=NOTES,
    )
    return ListBenchmark(info, samples, tuple(listing.problems))


def open_vgg_ss_extended(root: Path) -> ListBenchmark:
    """VGG-SS and as many samples of which nothing can be seen."""
    listing = FileCheck()
    samples = [*sounding(root, listing)]
    samples += extra(root, root / "vggss_test_plus_silent.csv", listing)
    info = BenchmarkInfo(
        name="vgg-ss-extended",
        task="extended",
        heads=("sound",),
        citation="Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source "
        "Localization, NeurIPS 2022",
        num_expected=2 * NUM_SAMPLES,
        notes=f"{NOTES} A row whose sound is another video's is off-screen, else silent.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def sounding(root: Path, listing: FileCheck) -> list[GroundingSample]:
    """The samples of vggss.json, in its order."""
    samples = []
    for entry in listing.entries(root / "vggss.json", ("file", "class", "bbox")):
        name = str(entry["file"])
        image, audio = media(root, name)
        boxes = listing.boxes(name, entry["bbox"], "xyxy")
        if listing.has(name, image, audio):
            target = Target(
                head="sound",
                class_name=str(entry["class"]),
                load_mask=BoxMask(boxes),
                boxes=boxes,
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


def extra(root: Path, list_path: Path, listing: FileCheck) -> list[GroundingSample]:
    """The non-sounding rows of an extended list: their image, another or no sound, no mask."""
    samples = []
    for row in listing.rows(list_path, ("video", "audio", "label")):
        if row["label"] != "non-sounding":
            continue
        name = f"{row['video']}+{row['audio']}"
        image = media(root, row["video"])[0]
        audio = media(root, row["audio"])[1]
        presence: Presence = "silent" if row["video"] == row["audio"] else "off_screen"
        if listing.has(name, image, audio):
            samples.append(
                GroundingSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio),
                    targets=(Target(head="sound", class_name="", load_mask=BoxMask(())),),
                    presence=presence,
                )
            )
    return samples


def media(root: Path, name: str) -> tuple[Path, Path]:
    """The frame and the sound of a clip."""
    return root / "frames" / f"{name}.jpg", root / "audio" / f"{name}.wav"
