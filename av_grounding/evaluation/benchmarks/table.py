"""Which benchmarks there are, and the module behind each name, imported when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import NamedTuple


class Entry(NamedTuple):
    """Where a benchmark's factory stands, and what its folder must hold."""

    module: str
    factory: str
    layout: str = ""
    """Files under the root, for the error message and the documentation."""
    lists: tuple[str, ...] = ()
    """Files without which nothing can be opened."""
    source: str = ""


_VGG = "audio/<ytid>_<6-digit start>.wav, frames/<the same>.jpg"
_VGG_SS_SITE = "github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way"
_SLAVC_SITE = "github.com/stoneMo/SLAVC (metadata)"
_AVGN_SITE = "github.com/stoneMo/AVGN (metadata)"
_IS3_SITE = "github.com/kaistmm/SSLalignment"
_AVS_SITE = "opennlplab.github.io/AVSBench"
_DENSEAV_SITE = "github.com/mhamilton723/DenseAV"
_DEEPAV_SITE = "github.com/stoneMo/DeepAVFusion (metadata)"
_FLICKR = "Annotations/<id>.xml, audio/<id>.wav, frames/<id>.jpg"
_MUSIC = "audio/<ytid>.wav, frames/<ytid>_<SSS>_<FFFFF>.jpg"
_ADE = (
    "prompted_segmentation.csv, frames/<image_location>, audio/<prompt file>, "
    "annotations/<image_location with _seg.png for .jpg>"
)
_PLACES = "metadata/val.json, wavs/<wav>, and the images under ROOT/images or ../places_subset"
_AUDIOSET = (
    "metadata/eval_segments.csv, metadata/class_labels_indices.csv, "
    "audio/<YTID>_<start>_<end>.mp3, frames/frame_{0..9}/<the same>.jpg"
)

BENCHMARKS: dict[str, Entry] = {
    "ade20k-speech": Entry(
        "ade20k", "open_speech", _ADE, ("prompted_segmentation.csv",), _DENSEAV_SITE
    ),
    "ade20k-sound": Entry(
        "ade20k", "open_sound", _ADE, ("prompted_segmentation.csv",), _DENSEAV_SITE
    ),
    "is3": Entry(
        "is3",
        "open_is3",
        "IS3_annotation.json, images/<name>.jpg, audio_wav/<name>.wav",
        ("IS3_annotation.json",),
        _IS3_SITE,
    ),
    "is3-masks": Entry(
        "is3",
        "open_is3_masks",
        "IS3_annotation.json, images/<name>.jpg, audio_wav/<name>.wav, gt_segmentation/<name>.*",
        ("IS3_annotation.json",),
        _IS3_SITE,
    ),
    "extended-is3": Entry(
        "is3",
        "open_extended_is3",
        "triplets.json, audio_speech/<name>.wav",
        ("triplets.json",),
        "av-grounding data extended-is3",
    ),
    "vgg-ss": Entry("vgg_ss", "open_vgg_ss", f"vggss.json, {_VGG}", ("vggss.json",), _VGG_SS_SITE),
    "vgg-ss-extended": Entry(
        "vgg_ss",
        "open_vgg_ss_extended",
        f"vggss.json, vggss_test_plus_silent.csv, {_VGG}",
        ("vggss.json", "vggss_test_plus_silent.csv"),
        _SLAVC_SITE,
    ),
    "flickr-soundnet": Entry(
        "flickr", "open_flickr", f"flickr_test.csv, {_FLICKR}", ("flickr_test.csv",), _SLAVC_SITE
    ),
    "flickr-soundnet-extended": Entry(
        "flickr",
        "open_flickr_extended",
        f"flickr_test.csv, flickr_test_plus_silent.csv, {_FLICKR}",
        ("flickr_test.csv", "flickr_test_plus_silent.csv"),
        _SLAVC_SITE,
    ),
    "avsbench-s4": Entry(
        "avsbench",
        "open_s4",
        "s4_meta_data.csv and, beside it or in s4_data/, "
        "visual_frames/test/<category>/<name>/<name>_{1..5}.png, "
        "audio_wav/test/<category>/<name>.wav, gt_masks/test/<category>/<name>/<name>_{1..5}.png",
        ("s4_meta_data.csv",),
        _AVS_SITE,
    ),
    "avsbench-ms3": Entry(
        "avsbench",
        "open_ms3",
        "ms3_meta_data.csv and, beside it or in ms3_data/, "
        "visual_frames/<name>/<name>.mp4_{1..5}.png, "
        "audio_wav/test/<name>.wav, gt_masks/test/<name>/<name>_{1..5}.png",
        ("ms3_meta_data.csv",),
        _AVS_SITE,
    ),
    "avsbench-semantic": Entry(
        "avsbench",
        "open_semantic",
        "metadata.csv, label2idx.json, <label>/<uid>/frames/<i>.jpg, <label>/<uid>/audio.wav, "
        "<label>/<uid>/labels_semantic/<i>.png",
        ("metadata.csv", "label2idx.json"),
        _AVS_SITE,
    ),
    "music-solo": Entry(
        "music", "open_solo", f"music_solo.json, {_MUSIC}", ("music_solo.json",), _AVGN_SITE
    ),
    "music-duet": Entry(
        "music", "open_duet", f"music_duet.json, {_MUSIC}", ("music_duet.json",), _AVGN_SITE
    ),
    "music-separation": Entry(
        "music", "open_separation", f"music_solo.json, {_MUSIC}", ("music_solo.json",), _AVGN_SITE
    ),
    "music-separation-8khz": Entry(
        "music",
        "open_separation_8khz",
        f"music_solo.json, {_MUSIC}",
        ("music_solo.json",),
        _AVGN_SITE,
    ),
    "vggsound-single": Entry(
        "vggsound",
        "open_single",
        f"vggss.json, vggsound_single_test.csv, {_VGG}",
        ("vggss.json", "vggsound_single_test.csv"),
        _AVGN_SITE,
    ),
    "vggsound-duet": Entry(
        "vggsound",
        "open_duet",
        f"vggss.json, vggsound_duet_test.csv, {_VGG}",
        ("vggss.json", "vggsound_duet_test.csv"),
        _AVGN_SITE,
    ),
    "vggsound-trio": Entry(
        "vggsound",
        "open_trio",
        f"vggss.json, vggsound_single_test.csv or vggsound_trio_test.csv, {_VGG}",
        ("vggss.json",),
        _AVGN_SITE,
    ),
    "vggsound-recognition": Entry(
        "vggsound",
        "open_recognition",
        f"vggsound.csv, {_VGG}; classes.txt, one class a line, restricts the classes",
        ("vggsound.csv",),
        "www.robots.ox.ac.uk/~vgg/data/vggsound",
    ),
    "vggsound-music": Entry(
        "vggsound_music",
        "open_music",
        f"vggss.json, vggmusic_eval_ss.csv, {_VGG}",
        ("vggss.json", "vggmusic_eval_ss.csv"),
        _DEEPAV_SITE,
    ),
    "vggsound-music-recognition": Entry(
        "vggsound_music",
        "open_music_recognition",
        f"vggmusic_eval_ss.csv, {_VGG}",
        ("vggmusic_eval_ss.csv",),
        _DEEPAV_SITE,
    ),
    "vggsound-music-separation": Entry(
        "vggsound_music",
        "open_music_separation",
        f"vggmusic_eval_ss.csv, {_VGG}",
        ("vggmusic_eval_ss.csv",),
        _DEEPAV_SITE,
    ),
    "vggsound-instruments": Entry(
        "vggsound_music",
        "open_instruments",
        "vgginstruments_test.csv, audio/<name>.wav, frames/<name>.jpg, masks/<name>.npy or .png",
        ("vgginstruments_test.csv",),
        _DEEPAV_SITE,
    ),
    "places-audio": Entry(
        "retrieval",
        "open_places_audio",
        _PLACES,
        ("metadata/val.json",),
        "groups.csail.mit.edu/sls/downloads/placesaudio",
    ),
    "audioset": Entry(
        "retrieval",
        "open_audioset",
        _AUDIOSET,
        ("metadata/eval_segments.csv",),
        "research.google.com/audioset",
    ),
    "audioset-places-disentanglement": Entry(
        "retrieval",
        "open_disentanglement",
        "places-audio/ and audioset/, each as for the benchmark of that name",
        ("places-audio/metadata/val.json", "audioset/metadata/eval_segments.csv"),
        "see places-audio and audioset",
    ),
    "synthetic-simultaneous": Entry("synthetic_kinds", "simultaneous"),
    "synthetic-clean": Entry("synthetic_kinds", "clean"),
    "synthetic-mixed": Entry("synthetic_kinds", "mixed"),
    "synthetic-dark": Entry("synthetic_kinds", "dark"),
    "synthetic-solo": Entry("synthetic_kinds", "solo"),
    "synthetic-duet": Entry("synthetic_kinds", "duet"),
    "synthetic-trio": Entry("synthetic_kinds", "trio"),
    "synthetic-lookalike": Entry("synthetic_kinds", "lookalike"),
    "synthetic-lookalike-duet": Entry("synthetic_kinds", "lookalike_duet"),
    "synthetic-interactive": Entry("synthetic_kinds", "interactive"),
    "synthetic-silent": Entry("synthetic_kinds", "silent"),
    "synthetic-offscreen": Entry("synthetic_kinds", "offscreen"),
    "synthetic-segmentation": Entry("synthetic_videos", "segmentation"),
    "synthetic-s4": Entry("synthetic_videos", "segmentation"),
    "synthetic-ms3": Entry("synthetic_videos", "segmentation"),
    "synthetic-semantic": Entry("synthetic_videos", "semantic"),
    "synthetic-retrieval": Entry("synthetic_pairs", "retrieval"),
    "synthetic-disentanglement": Entry("synthetic_pairs", "disentanglement"),
    "synthetic-recognition": Entry("synthetic_pairs", "recognition"),
    "synthetic-separation": Entry("synthetic_pairs", "separation"),
    "synthetic-duet-separation": Entry("synthetic_pairs", "duet_separation"),
    "everyday-simultaneous": Entry("synthetic_kinds", "simultaneous"),
    "everyday-clean": Entry("synthetic_kinds", "clean"),
    "everyday-dark": Entry("synthetic_kinds", "dark"),
    "everyday-instrument-duet": Entry("ensembles", "duet"),
    "everyday-instrument-trio": Entry("ensembles", "trio"),
}
"""Name -> entry. One of our worlds names the function that draws one sample."""

NAMES: tuple[str, ...] = tuple(BENCHMARKS)
DRAWN: tuple[str, ...] = tuple(n for n in NAMES if n.startswith(("synthetic-", "everyday-")))
"""The benchmarks of our own worlds, drawn from a seed."""


def factory(name: str) -> Callable:
    """The function behind a name: `open_…(root)`, or for one of our worlds what draws a sample."""
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"pick one of {', '.join(NAMES)}"
        raise ValueError(f"got benchmark {name!r}, expected a known one; {hint}")
    entry = BENCHMARKS[name]
    return getattr(importlib.import_module(f"{__package__}.{entry.module}"), entry.factory)
