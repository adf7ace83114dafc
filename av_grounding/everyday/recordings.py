"""Recorded sounds that may train: of which thing each is, where it lies, and under which licence.

Nothing here is in the benchmark: neither its test (tuxpaint's stamps) nor its validation
(gcompris). Sounds whose things the vocabulary lacks are kept as "other", so that a model learns
to say nothing.
"""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from av_grounding.everyday.media import decode_sound
from av_grounding.everyday.music import PROGRAMS
from av_grounding.everyday.playing import NUM_SAMPLES, REMEDY, SOUNDFONT_FILE, missing, play
from av_grounding.files import one_line

logger = logging.getLogger(__name__)

OTHER = "other"
"""Of sounds that belong to no thing of the vocabulary."""


@dataclass(frozen=True)
class Origin:
    """One collection: its licence, how to get it, where it lies, and which files are which thing.

    `things` maps a noun to patterns of paths below the folder.
    """

    name: str
    licence: str
    remedy: str
    folder: str
    things: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _patterns(**things: str) -> dict[str, tuple[str, ...]]:
    return {noun.replace("_", " "): tuple(of.split()) for noun, of in things.items()}


ORIGINS = (
    Origin(
        "esc10",
        "CC0 or CC BY per clip, see its LICENSE (K. J. Piczak, ESC-10)",
        "fetch ESC-10 from its public home and name its folder",
        "esc10",
        {
            "dog": ("001*/*.ogg",),
            "rooster": ("009*/*.ogg",),
            "clock": ("005*/*.ogg",),
            "chainsaw": ("008*/*.ogg",),
            OTHER: tuple(f"{number:03}*/*.ogg" for number in (2, 3, 4, 6, 7, 10)),
        },
    ),
    Origin(
        "megaglest",
        "CC BY-SA 3.0 (The MegaGlest Team)",
        "sudo apt-get install megaglest-data",
        "/usr/share/games/megaglest",
        _patterns(
            bee="*/bee[0-9].wav",
            cow="*/bull_ack*.wav */bull_select*.wav */cow_ack*.wav */cow_select*.wav "
            "*/mudchute_cow*.ogg",
            hen="*/chicken_*.wav",
            owl="*/owl.ogg",
            pig="*/pig_ack*.wav */pig_select*.wav */pig_attack*.wav",
            sheep="*/sheep[0-9]*.wav",
            wolf="*/wolf.wav",
        ),
    ),
    Origin(
        "animalia",
        "MIT (ElCeejo)",
        "clone ElCeejo/animalia and name its folder",
        "animalia",
        _patterns(
            cat="sounds/cat/*.ogg",
            cow="sounds/cow/*.ogg",
            frog="sounds/frog/*.ogg",
            hen="sounds/chicken/*.ogg",
            horse="sounds/horse/*.ogg",
            pig="sounds/pig/*.ogg",
            sheep="sounds/sheep/*.ogg",
            other="sounds/bluebird/*.ogg sounds/cardinal/*.ogg sounds/goldfinch/*.ogg "
            "sounds/turkey/*.ogg",
        ),
    ),
    Origin(
        "mobs_mc",
        "CC0, CC BY 3.0 or MIT per file, see mods/ENTITIES/mobs_mc (its authors)",
        "clone Minetest-JMA-group/jma-mineclone2 and name its folder",
        "mineclone2/mods/ENTITIES/mobs_mc/sounds",
        _patterns(
            cat="mobs_mc_cat_*.ogg mobs_mc_ocelot_hurt.ogg",
            cow="mobs_mc_cow.ogg mobs_mc_cow_hurt.ogg",
            dog="mobs_mc_wolf_bark*.ogg",
            hen="mobs_mc_chicken_buck*.ogg mobs_mc_chicken_hurt.ogg",
            horse="mobs_mc_horse_*.ogg",
            llama="mobs_mc_llama.ogg",
            pig="mobs_pig.ogg",
            sheep="mobs_sheep.ogg",
            other="mobs_mc_donkey_*.ogg mobs_mc_squid*.ogg mobs_mc_skeleton_r*.ogg",
        ),
    ),
    Origin(
        "freedesktop",
        # Its telephone is under the GPL, which measures only.
        "CC BY 3.0 (bell), CC BY-SA 3.0 (camera): sound-theme-freedesktop",
        "sudo apt-get install sound-theme-freedesktop",
        "/usr/share/sounds/freedesktop",
        _patterns(bell="*/bell.oga", camera="*/camera-shutter.oga"),
    ),
    Origin(
        "blanket",
        "CC0, CC BY, CC BY-SA or public domain per file, see SOUNDS_LICENSING.md",
        "clone rafaelmardojai/blanket and name its folder",
        "blanket/data/resources/sounds",
        _patterns(
            train="train.ogg",
            cricket="summer-night.ogg",
            other="birds.ogg boat.ogg city.ogg coffee-shop.ogg fireplace.ogg rain.ogg storm.ogg "
            "stream.ogg waves.ogg wind.ogg pink-noise.ogg white-noise.ogg",
        ),
    ),
)
SOUNDFONT = Origin(
    "fluid-soundfont-gm",
    "MIT (Frank Wen), rendered by fluidsynth",
    REMEDY,
    str(SOUNDFONT_FILE),
    {noun: () for noun in PROGRAMS},
)


@dataclass(frozen=True)
class Recording:
    """A sound at 16 kHz, mono, without silence around it, of the thing `noun`."""

    noun: str
    origin: str
    name: str
    waveform: Float32[np.ndarray, " s"]


def recordings(folders: Mapping[str, Path], *, phrases: int = 12) -> Iterator[Recording]:
    """All recordings that are there; origins that are missing are named with their remedy.

    `folders` gives the folder of an origin that does not lie in its usual place. `phrases` is how
    many are played on each instrument.
    """
    for origin in ORIGINS:
        folder = Path(folders.get(origin.name, origin.folder))
        if not folder.is_dir():
            logger.warning("no recordings of %s: %s", origin.name, origin.remedy)
            continue
        yield from _read(origin, folder)
    soundfont = Path(folders.get(SOUNDFONT.name, SOUNDFONT.folder))
    if not missing(soundfont):
        yield from instruments(soundfont, phrases)
    else:
        logger.warning("no instruments: %s", SOUNDFONT.remedy)


def _read(origin: Origin, folder: Path) -> Iterator[Recording]:
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.[ow][ga][gav]"))
    for noun, patterns in origin.things.items():
        for name in sorted({n for p in patterns for n in fnmatch.filter(names, p)}):
            try:
                yield Recording(
                    noun, origin.name, name, decode_sound((folder / name).read_bytes(), name)
                )
            except ValueError as error:  # a silent or a broken file is nobody's sound
                logger.warning("%s: left out (%s)", origin.name, one_line(error))


def instruments(soundfont: Path, phrases: int) -> Iterator[Recording]:
    """Phrases on every instrument of the vocabulary, drawn with a fixed seed."""
    for noun, (programs, _) in PROGRAMS.items():
        for program in programs:
            played = play(noun, program, -(-phrases // len(programs)), soundfont=soundfont)
            for number, part in enumerate(played):
                if len(part) > NUM_SAMPLES // 2:
                    name = f"{noun} {program} {number}"
                    yield Recording(noun, SOUNDFONT.name, name, part)
