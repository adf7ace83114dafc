"""Phrases for the instruments of a General MIDI sound font, as MIDI files."""

from __future__ import annotations

import struct

import numpy as np

PROGRAMS: dict[str, tuple[tuple[int, ...], tuple[int, int]]] = {
    # Programs counted from 0, and the range of keys that the instrument plays.
    "accordion": ((21,), (53, 84)),
    "banjo": ((105,), (50, 79)),
    "bassoon": ((70,), (36, 65)),
    "bell": ((14, 9), (60, 84)),
    "cello": ((42,), (36, 67)),
    "drum": ((-1, 117, 116), (36, 60)),
    "flute": ((73,), (60, 93)),
    "guitar": ((24, 25, 27, 29), (40, 76)),
    "harmonica": ((22,), (60, 89)),
    "harp": ((46,), (36, 91)),
    "horn": ((60,), (41, 74)),
    "oboe": ((68,), (58, 88)),
    "organ": ((19, 16), (36, 86)),
    "phone": ((124,), (64, 80)),
    "piano": ((0, 1, 3), (30, 96)),
    "saxophone": ((64, 65, 66), (49, 80)),
    "trombone": ((57,), (40, 70)),
    "trumpet": ((56,), (54, 84)),
    "violin": ((40,), (55, 94)),
    "whistle": ((78, 79), (72, 96)),
}
"""Noun -> programs and keys. Below 0 stand drum kits: -1 - p is the kit of program p."""
UNSEEN_PROGRAMS: dict[str, tuple[int, ...]] = {
    "drum": (-9, -17),
    "guitar": (26, 28),
    "trumpet": (59,),
    "violin": (110,),
}
"""Of nouns that have more in the sound font than `PROGRAMS` names: those no training hears."""
UNSEEN_KEYS = 4
"""Phrases for a test play the last of every so many keys, which training leaves out."""
INSTRUMENTS = tuple(noun for noun in PROGRAMS if noun not in ("bell", "phone", "whistle"))
PHRASE_S, REST_S = 4.0, 0.8
TICKS, KIT = 480, (35, 36, 38, 40, 41, 43, 45, 47, 48, 50, 42, 46, 49, 51)
SCALE = (0, 2, 4, 5, 7, 9, 11)


def phrases_midi(noun: str, program: int, num: int, split: str = "") -> bytes:
    """`num` phrases on one program, one begins every `PHRASE_S` seconds: notes of one scale.

    A `split` has phrases of its own, and "test" keys of its own too (see `UNSEEN_KEYS`); a kit has
    no keys to keep apart. Without one, all keys are played.
    """
    own = [abs(program + 1), *noun.encode(), *split.encode()]
    rng = np.random.default_rng(own)
    low, high = PROGRAMS[noun][1]
    channel, played_program = (9, -1 - program) if program < 0 else (0, program)
    events = bytearray(b"\x00" + bytes([0xC0 | channel, played_program]))
    rest = 0

    def is_played(key: int, root: int) -> bool:
        if split and (key % UNSEEN_KEYS == UNSEEN_KEYS - 1) != (split == "test"):
            return False
        return split == "test" or (key - root) % 12 in SCALE

    for _ in range(num):
        key, root, left_s = int(rng.integers(low, high)), int(rng.integers(12)), PHRASE_S - REST_S
        while left_s > 0:
            length_s = min(float(rng.choice([0.2, 0.3, 0.45, 0.7, 1.2])), left_s)
            key = int(np.clip(key + int(rng.integers(-5, 6)), low, high))
            while program >= 0 and not is_played(key, root):
                key += 1 if key < high else -5
            played = key if program >= 0 else int(rng.choice(KIT))
            velocity, ticks = int(rng.integers(60, 115)), round(length_s * 2 * TICKS)
            events += _number(rest) + bytes([0x90 | channel, played, velocity])
            events += _number(ticks) + bytes([0x80 | channel, played, 0])
            left_s, rest = left_s - length_s, 0
        rest = round(REST_S * 2 * TICKS)
    events += b"\x00\xff\x2f\x00"
    head = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return head + b"MTrk" + struct.pack(">I", len(events)) + bytes(events)


def _number(value: int) -> bytes:
    """MIDI's variable-length number: seven bits a byte, the highest set on all but the last."""
    found = [value & 0x7F]
    while value := value >> 7:
        found.append(0x80 | (value & 0x7F))
    return bytes(reversed(found))
