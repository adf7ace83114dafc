"""The benchmarks of the synthetic and the everyday world, and what each of them asks."""

from __future__ import annotations

from typing import NamedTuple

from av_grounding.evaluation.benchmark import HEADS, Head, Task
from av_grounding.synthetic.objects import CLASSES

NUM_PAIRS_OF_CLASSES = len(CLASSES) * (len(CLASSES) - 1) // 2


class Kind(NamedTuple):
    """What a benchmark of our worlds asks; its notes stand in every report."""

    task: Task
    heads: tuple[Head, ...]
    notes: str
    num: int = 500
    max_num: int | None = None


_LEVELS = "sources within 3 dB of each other, no added noise"
KINDS: dict[str, Kind] = {
    "synthetic-simultaneous": Kind(
        "simultaneous",
        HEADS,
        "The sound of one object and speech that names another in one mixture, -5 to 5 dB, noise "
        "at 20 to 40 dB; the samples of `evaluate synthetic`.",
    ),
    "synthetic-clean": Kind(
        "prompted",
        HEADS,
        "The scenes of synthetic-simultaneous with the sound alone and the speech alone, in turn.",
    ),
    "synthetic-mixed": Kind(
        "prompted",
        HEADS,
        "The clips of synthetic-clean mixed, at -5 to 5 dB, with one of the other type about an "
        "object that is not in the picture (000 section 4.3.4).",
    ),
    "synthetic-dark": Kind(
        "extended",
        HEADS,
        "Five samples a scene of synthetic-simultaneous: its mixture, of which the sound is to be "
        "found; silence, a microphone's hiss at -65 dBFS, and the sound and the name of an object "
        "that is not in the picture, which are to be left dark.",
    ),
    "synthetic-solo": Kind(
        "localisation", ("sound",), "One to three objects in the picture, of which one sounds."
    ),
    "synthetic-duet": Kind(
        "multi_source", ("sound",), f"Two of three objects sound at once; {_LEVELS}."
    ),
    "synthetic-trio": Kind(
        "multi_source", ("sound",), f"Three of four objects sound at once; {_LEVELS}."
    ),
    "synthetic-lookalike": Kind(
        "localisation",
        ("sound",),
        "One object sounds and shakes, a silent twin of its class stands still, and one of "
        "another class shakes in silence; twin: the share of samples whose peak lies on it.",
    ),
    "synthetic-lookalike-duet": Kind(
        "multi_source",
        ("sound",),
        f"The same with two objects that sound; {_LEVELS}; twin: the peak of any map.",
    ),
    "synthetic-interactive": Kind(
        "interactive",
        ("sound",),
        "Two samples a picture: of its two objects one sounds in each.",
    ),
    "synthetic-silent": Kind(
        "extended",
        ("sound",),
        "The samples of synthetic-solo, each followed by its look-alike: the same picture with "
        "nothing but a microphone's hiss at -65 dBFS.",
    ),
    "synthetic-offscreen": Kind(
        "extended",
        ("sound",),
        "The samples of synthetic-solo, each followed by its picture with the sound of a class "
        "that is not in it.",
    ),
    "synthetic-segmentation": Kind(
        "segmentation",
        ("sound",),
        "Videos of five seconds and frames; of three drifting objects one sounds at first, then "
        "both it and another, then the other alone.",
        num=250,
    ),
    "synthetic-s4": Kind(
        "segmentation",
        ("sound",),
        "Videos of five seconds and frames, as AVSBench's single-source part: one of two to four "
        "drifting objects sounds all the time.",
        num=250,
    ),
    "synthetic-ms3": Kind(
        "segmentation",
        ("sound",),
        "The same with several sources, as AVSBench's other part: two of three objects sound all "
        "the time.",
        num=250,
    ),
    "synthetic-semantic": Kind(
        "semantic",
        ("sound",),
        "The videos of synthetic-segmentation with the class of every sounding pixel.",
        num=250,
    ),
    "synthetic-retrieval": Kind(
        "retrieval",
        HEADS,
        "Pictures of two objects, no two pictures with the same two classes; the sound of one "
        "and speech that names the other in one mixture (000 supplement, table 8).",
        num=NUM_PAIRS_OF_CLASSES,
        max_num=NUM_PAIRS_OF_CLASSES,
    ),
    "synthetic-disentanglement": Kind(
        "disentanglement", HEADS, "The pictures and clips of synthetic-clean."
    ),
    "synthetic-recognition": Kind(
        "recognition", ("sound",), "One object a picture, with its sound."
    ),
    "synthetic-separation": Kind(
        "separation",
        ("sound",),
        f"The sum of two objects' sounds, each with a picture of its own; {_LEVELS}.",
    ),
    "synthetic-duet-separation": Kind(
        "separation",
        ("sound",),
        f"The sum of two objects' sounds and one picture of both; a model is told the outline "
        f"of each, as if somebody pointed at it; {_LEVELS}.",
    ),
    "everyday-simultaneous": Kind(
        "simultaneous",
        HEADS,
        "Three cut-out photographs on a photograph of a place, 640x480; the recording of one and "
        "the spoken name of another in one mixture of 4 s, -5 to 5 dB, noise at 20 to 40 dB; the "
        "samples of `evaluate everyday`.",
        num=300,
    ),
    "everyday-clean": Kind(
        "prompted",
        HEADS,
        "The scenes of everyday-simultaneous with the sound alone and the speech alone, in turn.",
        num=600,
    ),
    "everyday-dark": Kind(
        "extended",
        HEADS,
        "Five samples a scene of everyday-simultaneous: its mixture, of which the sound is to be "
        "found; silence, a microphone's hiss at -65 dBFS, and the recording and the name of a "
        "thing that is not in the picture, which are to be left dark.",
        num=1500,
    ),
    "everyday-instrument-duet": Kind(
        "separation",
        ("sound",),
        "Phrases of two sampled instruments and one picture with a photograph of each, 640x480; "
        "programs, keys and phrases that `train instruments` leaves out; a model is told the "
        f"outline of each, as if somebody pointed at it; {_LEVELS}.",
        num=200,
    ),
    "everyday-instrument-trio": Kind(
        "separation", ("sound",), "The same with three instruments.", num=200
    ),
}
"""Name -> what is asked. What draws a sample stands in `benchmarks.BENCHMARKS`."""
SAME_AS = {
    "synthetic-silent": "synthetic-solo",
    "synthetic-offscreen": "synthetic-solo",
    "synthetic-semantic": "synthetic-segmentation",
}
"""Benchmarks that show the pictures of another one."""
