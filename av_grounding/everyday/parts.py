"""The two parts of the benchmark: which photograph, recording and spoken name shows which noun.

`test` is what stands in `animals/` of tuxpaint's stamps, photographs and recordings and the names
that a person speaks; nothing of it may train, tune, calibrate or choose. `validation` has the
stamps of the other folders and the photographs and recordings of gcompris: no individual, no
recording and no voice of the test. A noun is what people call the thing in the picture; drawings
are left out, and a recording that two kinds share, or that is silent, is nobody's.

An address is a stamp without its suffix below the stamps' folder, or `ARCHIVE.rcc/FILE` in the
archives of gcompris.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PACKAGES = ("tuxpaint-stamps-default", "gcompris-qt-data")
Addresses = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Part:
    """Noun -> addresses of its cut-out photographs, of its recordings, of its spoken names.

    Names that no person speaks are spoken by a synthesizer: `spoken` is empty then.
    """

    name: str
    pictures: Addresses
    recordings: Addresses
    spoken: Addresses = field(default_factory=dict)

    @property
    def sounding(self) -> tuple[str, ...]:
        """Nouns with a photograph and a recording."""
        return tuple(sorted(self.pictures.keys() & self.recordings.keys()))

    @property
    def named(self) -> tuple[str, ...]:
        """Nouns with a photograph and somebody who says them."""
        return tuple(sorted(self.pictures.keys() & (self.spoken or self.pictures).keys()))


def _below(folder: str, names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {noun: tuple(f"{folder}/{name}" for name in of.split()) for noun, of in names.items()}


def _joined(*tables: Addresses) -> dict[str, tuple[str, ...]]:
    nouns = sorted({noun for table in tables for noun in table})
    return {noun: sum((table.get(noun, ()) for table in tables), ()) for noun in nouns}


TEST = Part(
    "test",
    pictures=_below(
        "animals",
        {
            "badger": "mammals/badger",
            "bear": "mammals/bears/bear mammals/bears/european-bear",
            "beaver": "mammals/rodents/beaver",
            "bee": "insects/bee",
            "bison": "mammals/bovines/bison",
            "camel": "mammals/camel/camel mammals/camel/dromedary",
            "cow": "mammals/bovines/cow mammals/bovines/cow_white",
            "dog": "mammals/dogs/dog",
            "duck": "birds/duck birds/drake",
            "elephant": "mammals/elephant",
            "flamingo": "birds/pink_flamingo",
            "fly": "insects/fly",
            "fox": "mammals/dogs/fox",
            "frog": "amphibians/frog amphibians/frog-1",
            "goat": "mammals/bovines/goat",
            "goose": "birds/gander",
            "gorilla": "mammals/apes/gorilla",
            "grasshopper": "insects/grasshopper",
            "hen": "birds/hen",
            "hippopotamus": "mammals/hippopotamus",
            "horse": "mammals/equines/horse",
            "kangaroo": "marsupials/kangaroo",
            "koala": "marsupials/koala",
            "lion": "mammals/cats/lion mammals/cats/lion-2",
            "lizard": "lizards/iguana",
            "lobster": "fish/lobster",
            "monkey": "mammals/apes/tamarin_emperor",
            "ostrich": "birds/ostrich",
            "otter": "mammals/aquatic/otter",
            "owl": "birds/owl",
            "parrot": "birds/adelaide-rosella birds/rainbow-lorikeet",
            "peacock": "birds/peacock",
            "penguin": "birds/penguin birds/little-penguin birds/magellanic_penguin",
            "pig": "mammals/pig mammals/pig_golden mammals/pig_golden2",
            "rabbit": "mammals/rodents/rabbit mammals/rodents/rabbit-2 mammals/rabbit_little",
            "rooster": "birds/rooster",
            "sea lion": "mammals/aquatic/sea_lion",
            "sheep": "mammals/bovines/sheep mammals/bovines/ram mammals/bovines/sheep_lamb",
            "squirrel": "mammals/rodents/squirrel",
            "tiger": "mammals/cats/tiger mammals/cats/tiger_sumatran",
            "toucan": "birds/tucan",
            "vulture": "birds/vulture",
            "whale": "mammals/aquatic/whale mammals/aquatic/orca",
            "zebra": "mammals/equines/zebra",
        },
    ),
    recordings=_below(
        "animals",
        {
            "bear": "mammals/bears/bear",
            "bee": "insects/bee",
            "bison": "mammals/bovines/bison",
            "camel": "mammals/camel/camel mammals/camel/dromedary",
            "cow": "mammals/bovines/cow mammals/bovines/cow_white",
            "dog": "mammals/dogs/dog",
            "duck": "birds/duck birds/drake",
            "elephant": "mammals/elephant",
            "fox": "mammals/dogs/fox",
            "frog": "amphibians/frog",
            "goat": "mammals/bovines/goat",
            "goose": "birds/gander",
            "gorilla": "mammals/apes/gorilla",
            "grasshopper": "insects/grasshopper",
            "hen": "birds/hen",
            "hippopotamus": "mammals/hippopotamus",
            "horse": "mammals/equines/horse",
            "koala": "marsupials/koala",
            "lion": "mammals/cats/lion",
            "owl": "birds/owl",
            "penguin": "birds/penguin",
            "pig": "mammals/pig mammals/pig_golden mammals/pig_golden2",
            "rabbit": "mammals/rodents/rabbit",
            "rooster": "birds/rooster",
            "sea lion": "mammals/aquatic/sea_lion",
            "sheep": "mammals/bovines/sheep mammals/bovines/sheep_lamb",
            "squirrel": "mammals/rodents/squirrel",
            "tiger": "mammals/cats/tiger",
            "toucan": "birds/tucan",
            "vulture": "birds/vulture",
            "whale": "mammals/aquatic/whale",
            "zebra": "mammals/equines/zebra",
        },
    ),
    spoken=_below(
        "animals",
        {
            "badger": "mammals/badger",
            "bear": "mammals/bears/bear",
            "beaver": "mammals/rodents/beaver",
            "bee": "insects/bee",
            "bison": "mammals/bovines/bison",
            "camel": "mammals/camel/camel",
            "cow": "mammals/bovines/cow",
            "dog": "mammals/dogs/dog",
            "duck": "birds/duck",
            "elephant": "mammals/elephant",
            "fly": "insects/fly",
            "fox": "mammals/dogs/fox",
            "frog": "amphibians/frog",
            "goat": "mammals/bovines/goat",
            "gorilla": "mammals/apes/gorilla",
            "grasshopper": "insects/grasshopper",
            "hen": "birds/hen",
            "hippopotamus": "mammals/hippopotamus",
            "horse": "mammals/equines/horse",
            "kangaroo": "marsupials/kangaroo",
            "koala": "marsupials/koala",
            "lion": "mammals/cats/lion",
            "otter": "mammals/aquatic/otter",
            "owl": "birds/owl",
            "penguin": "birds/penguin",
            "pig": "mammals/pig",
            "rabbit": "mammals/rodents/rabbit",
            "tiger": "mammals/cats/tiger",
            "toucan": "birds/tucan",
            "vulture": "birds/vulture",
            "whale": "mammals/aquatic/whale",
            "zebra": "mammals/equines/zebra",
        },
    ),
)

_MUSIC = {
    "bassoon": "wind/bassoon",
    "cello": "string/cello",
    "drum": "percussion/drum_tomtom_floor percussion/drumkit",
    "violin": "string/violin",
}
_FARM = {
    "cat": "cat",
    "cow": "cow",
    "dog": "dog",
    "duck": "duck",
    "owl": "owl",
    "pig": "pig",
    "sheep": "sheep",
}
_WORLD = {
    "bear": "polar_bear",
    "bison": "bison",
    "koala": "koala",
    "panda": "panda",
    "parrot": "scarlet_macaw",
}
_ERASE = {
    "butterfly": "butterfly",
    "camel": "camels",
    "cat": "kitten",
    "crab": "crab",
    "goat": "goat",
    "gorilla": "gorilla",
    "horse": "horse",
    "lizard": "chamaeleon",
    "monkey": "macaque long_nosed_monkey",
    "penguin": "penguin",
}


def _files(suffix: str, names: Mapping[str, str]) -> dict[str, str]:
    return {
        noun: " ".join(f"{name}.{suffix}" for name in of.split()) for noun, of in names.items()
    }


VALIDATION = Part(
    "validation",
    pictures=_joined(
        _below("hobbies/music", {**_MUSIC, "trumpet": "brass/trumpet",
               "guitar": "string/guitar2 string/guitar_classical string/guitar_electric"}),
        _below("hobbies", {"camera": "camera_35mm"}),
        _below("food", {
            "apple": "fruit/apple_fuji fruit/apple_green fruit/apple_red",
            "banana": "fruit/banana",
            "broccoli": "vegetables/broccoli",
            "corn": "vegetables/corn",
            "lemon": "fruit/lemon",
            "mushroom": "vegetables/mushroom",
            "orange": "fruit/orange fruit/mandarine",
            "pepper": "vegetables/pepper vegetables/yellowpepper",
            "pineapple": "fruit/pineapple",
            "strawberry": "fruit/strawberry fruit/Strawberry2",
        }),
        _below("household", {
            "cup": "dishes/mug",
            "hammer": "tools/hammer",
            "shovel": "tools/spade",
            "teapot": "dishes/teapot",
            "toilet": "toilet",
        }),
        _below("seasonal", {"candle": "candle"}),
        _below("sports", {
            "basketball": "basketball",
            "football": "soccer",
            "racket": "tennis_racket",
        }),
        _below("clothes", {"hat": "hats/blue_fedora hats/green_fedora hats/tophat"}),
        _below("vehicles", {
            "airplane": "flight/planes/747",
            "balloon": "flight/balloon360",
            "bus": "masstransit/green_korean_bus",
            "car": "auto/beetle auto/sedan auto/sportscar2",
            "fire engine": "emergency/firetruck",
            "ship": "ship/chineseJunk",
            "truck": "auto/truck",
        }),
        _below("explore_farm_animals.rcc", _files("webp", {**_FARM, "hen": "chicken"})),
        _below("explore_world_animals.rcc", _files("webp", _WORLD)),
        _below("erase.rcc", _files("webp", _ERASE)),
    ),
    recordings=_joined(
        _below("hobbies/music", _MUSIC),
        _below("hobbies", {"camera": "camera_35mm"}),
        _below("household", {"hammer": "tools/hammer", "toilet": "toilet"}),
        _below("vehicles", {"fire engine": "emergency/firetruck"}),
        _below("explore_farm_animals.rcc",
               _files("ogg", {**_FARM, "hen": "chickens", "horse": "horse"})),
        _below("instruments.rcc", _files("ogg", {
            "cello": "cello",
            "drum": "snare_drum drum_kit",
            "guitar": "guitar electric_guitar",
            "trumpet": "trumpet",
            "violin": "violin",
        })),
    ),
)  # fmt: skip

PARTS: dict[str, Part] = {part.name: part for part in (VALIDATION, TEST)}


def part(name: str) -> Part:
    """A part by its name; ValueError names those that there are."""
    if name not in PARTS:
        raise ValueError(f"got part {name!r}, expected one of {', '.join(PARTS)}")
    return PARTS[name]
