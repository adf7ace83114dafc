"""VGGSound-Music and VGGSound-Instruments, of OneAVM (003), by the lists of DeepAVFusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from av_grounding.evaluation.benchmark import (
    BenchmarkInfo,
    GroundingSample,
    ListBenchmark,
    PairSample,
    SeparationSample,
    SeparationSource,
    Target,
)
from av_grounding.evaluation.benchmarks.excerpts import Excerpt, ExcerptSum
from av_grounding.evaluation.benchmarks.files import (
    SCORED_PX,
    AudioFile,
    BoxMask,
    FileCheck,
    ImageFile,
    MaskFile,
    nearest,
)
from av_grounding.evaluation.benchmarks.vgg_ss import NOTES, media

CITATION = "Mo and Morgado, A Unified Audio-Visual Learning Framework, ICML 2023"
PAIRS = "vggmusic_eval_ss.csv"
COLUMNS = ("source_1", "source_2", "class_1", "class_2", "sep_type")
NUM_MUSIC, NUM_INSTRUMENTS = 1201, 446
INSTRUMENTS = "vgginstruments_test.csv"
RATE_HZ, NUM_SAMPLES = 8_000, 24_000
HEARD_S = NUM_SAMPLES / RATE_HZ


def open_music(root: Path) -> ListBenchmark:
    """The first sources of the published pairs, by the boxes that VGG-SS has of them."""
    listing = FileCheck()
    boxes = {
        str(entry["file"]): listing.boxes(str(entry["file"]), entry["bbox"], "xyxy")
        for entry in listing.entries(root / "vggss.json", ("file", "bbox"))
    }
    samples = []
    for row in listing.rows(root / PAIRS, COLUMNS):
        name = row["source_1"]
        image, audio = media(root, name)
        if name not in boxes:
            listing.malformed_row(name, "not in vggss.json")
        elif listing.has(name, image, audio):
            target = Target(
                head="sound",
                class_name=row["class_1"],
                load_mask=BoxMask(boxes[name]),
                boxes=boxes[name],
            )
            samples.append(
                GroundingSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio, HEARD_S),
                    targets=(target,),
                )
            )
    info = BenchmarkInfo(
        name="vggsound-music",
        task="localisation",
        heads=("sound",),
        citation=CITATION,
        num_expected=NUM_MUSIC,
        notes=f"{NOTES} The clip is the middle {HEARD_S:g} s.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_music_recognition(root: Path) -> ListBenchmark:
    """The same clips with their classes."""
    listing, samples = FileCheck(), []
    for row in listing.rows(root / PAIRS, COLUMNS):
        name = row["source_1"]
        image, audio = media(root, name)
        if listing.has(name, image, audio):
            samples.append(
                PairSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio, HEARD_S),
                    head="sound",
                    class_name=row["class_1"],
                )
            )
    info = BenchmarkInfo(
        name="vggsound-music-recognition",
        task="recognition",
        heads=("sound",),
        citation=CITATION,
        num_expected=NUM_MUSIC,
        notes=f"Gallery and queries are the clips at hand, the middle {HEARD_S:g} s of each. The "
        "paper does not say how large its gallery is.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_music_separation(root: Path) -> ListBenchmark:
    """The published pairs, each the sum of two clips; Easy are two classes, Hard one."""
    listing, samples = FileCheck(), []
    for row in listing.rows(root / PAIRS, COLUMNS):
        names = (row["source_1"], row["source_2"])
        name = "+".join(names)
        images, sounds = zip(*(media(root, one) for one in names), strict=True)
        if not listing.has(name, *images, *sounds):
            continue
        clips = tuple(Excerpt(path, RATE_HZ, NUM_SAMPLES) for path in sounds)
        sources = tuple(
            SeparationSource(class_name=label, load_image=ImageFile(image), load_clip=clip)
            for label, image, clip in zip(
                (row["class_1"], row["class_2"]), images, clips, strict=True
            )
        )
        samples.append(
            SeparationSample(
                id=name, load_mixture=ExcerptSum(clips), sources=sources, stratum=row["sep_type"]
            )
        )
    info = BenchmarkInfo(
        name="vggsound-music-separation",
        task="separation",
        heads=("sound",),
        citation=CITATION,
        num_expected=NUM_MUSIC,
        notes=f"Middle {HEARD_S:g} s at {RATE_HZ} Hz, summed as they are. Easy: two classes; "
        "Hard: twice the same one, told apart by their pictures alone.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


def open_instruments(root: Path) -> ListBenchmark:
    """Frames with pixel masks. Upstream's masks are pickles, which are code: not read here."""
    listing, samples = FileCheck(), []
    for name, *_ in listing.bare_rows(root / INSTRUMENTS, 1):
        image, audio = media(root, name)
        masks = [root / "masks" / f"{name}.{kind}" for kind in ("npy", "png")]
        found = next((path for path in masks if path.is_file()), masks[0])
        if listing.has(name, image, audio, found):
            mask = ArrayMask(found) if found.suffix == ".npy" else MaskFile(found, SCORED_PX)
            target = Target(head="sound", class_name="instrument", load_mask=mask)
            samples.append(
                GroundingSample(
                    id=name,
                    load_image=ImageFile(image),
                    load_clip=AudioFile(audio, HEARD_S),
                    targets=(target,),
                )
            )
    info = BenchmarkInfo(
        name="vggsound-instruments",
        task="localisation",
        heads=("sound",),
        citation=CITATION,
        num_expected=NUM_INSTRUMENTS,
        notes="Pixel masks, as masks/<name>.npy or .png (above 0 on the instrument), scored at "
        f"224x224. The data set publishes pickles, which can run code and are not read: convert "
        f"them where you trust them. The clip is the middle {HEARD_S:g} s.",
    )
    return ListBenchmark(info, tuple(samples), tuple(listing.problems))


class ArrayMask:
    """Reads a mask of numbers, (H, W) or (1, H, W), above 0 on the source; never pickled objects.

    ValueError for anything else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self) -> Float32[np.ndarray, "H W"]:
        try:
            mask = np.load(self.path, allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError, OverflowError) as error:
            raise ValueError(
                f"{self.path}: no array of numbers ({error}); expected what np.save wrote"
            ) from error
        if mask.ndim == 3 and len(mask) == 1:
            mask = mask[0]
        if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biuf":
            raise ValueError(
                f"{self.path}: got {mask.dtype} of shape {mask.shape}; expected (H, W) numbers"
            )
        return nearest((mask > 0).astype(np.float32), SCORED_PX, SCORED_PX)
