"""Building Extended IS3 (000 section 4.1, supplement 7) from IS3 and a speech engine.

Each picture of IS3 has two objects, each with its sound. Their class names are spoken, and the
sound of one is paired with the speech that names the other: two triplets per picture.
"""

from __future__ import annotations

import io
import json
import os
import re
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_grounding.evaluation.benchmarks.files import FileCheck
from av_grounding.evaluation.benchmarks.is3 import Annotation, read_annotations
from av_grounding.evaluation.benchmarks.speaking import SpeechEngine, Spoken, open_engine
from av_grounding.files import atomic_write

FORMAT = 1
SPOKEN_NAMES = {
    "acousticguitar": "acoustic guitar",
    "alarmclock": "alarm clock",
    "babylaughter": "baby laughter",
    "capgun": "cap gun",
    "churchbell": "church bell",
    "computerkeyboard": "computer keyboard",
    "electricblender": "electric blender",
    "electricgrinder": "electric grinder",
    "electricguitar": "electric guitar",
    "electronicorgan": "electronic organ",
    "firetruck": "fire truck",
    "frenchhorn": "french horn",
    "hairdryer": "hair dryer",
    "hedgetrimmer": "hedge trimmer",
    "icecreamtruck": "ice cream truck",
    "lawnmower": "lawn mower",
    "machinegun": "machine gun",
    "policecar": "police car",
    "popcornmachine": "popcorn machine",
    "racecar": "race car",
    "sealion": "sea lion",
    "slotmachine": "slot machine",
    "tapdancing": "tap dancing",
    "vacuumcleaner": "vacuum cleaner",
    "windchime": "wind chime",
}
"""IS3 writes its class names without spaces; other names are read as they are."""


def build_extended_is3(
    is3: Path,
    out: Path,
    *,
    engine: str = "espeak",
    voice: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Speak every class name that IS3 needs and write `out`/triplets.json; return a summary.

    The voice of an annotation depends on `seed` and its name alone. Utterances that are there
    are kept, so that a stopped run goes on. Annotations with a missing file, and pictures
    without exactly two annotations, are left out and listed. Raises FileNotFoundError where
    `is3` has no IS3_annotation.json.
    """
    is3, out = Path(is3).resolve(), Path(out).resolve()
    if not (is3 / "IS3_annotation.json").is_file():
        raise FileNotFoundError(
            f"{is3 / 'IS3_annotation.json'}: no such file; --is3 needs the folder of IS3 with "
            "images/, audio_wav/, gt_segmentation/ and IS3_annotation.json"
        )
    listing = FileCheck()
    pairs = _pairs(is3, listing)
    speaker = open_engine(engine, voice)
    try:
        names = [
            (spoken_name(annotation.class_name), _voice_of(annotation, speaker, seed))
            for pair in pairs
            for annotation in pair
        ]
        (out / "audio_speech").mkdir(parents=True, exist_ok=True)
        utterances = {}
        wanted = list(dict.fromkeys(names))
        for number, (text, voice_number) in enumerate(wanted, 1):
            utterances[text, voice_number] = _utterance(out, speaker, text, voice_number)
            if progress:
                progress(number, len(wanted))
    finally:
        speaker.close()
    of_annotation = dict(zip((a.name for pair in pairs for a in pair), names, strict=True))
    triplets = [
        _triplet(is3, sounding, named, utterances[of_annotation[named.name]])
        for pair in pairs
        for sounding, named in (pair, pair[::-1])
    ]
    content = {
        "format": FORMAT,
        "is3": os.path.relpath(is3, out),
        "engine": engine,
        "voices": list(speaker.voices),
        "seed": seed,
        "triplets": triplets,
        "left_out": [
            {"kind": p.kind, "sample_id": p.sample_id, "detail": p.detail}
            for p in listing.problems
        ],
    }
    _write_json(out / "triplets.json", content)
    return {
        "triplets": str(out / "triplets.json"),
        "num_triplets": len(triplets),
        "num_images": len(pairs),
        "num_utterances": len(wanted),
        "num_left_out": len({problem.sample_id for problem in listing.problems}),
        "engine": engine,
        "seed": seed,
    }


def spoken_name(class_name: str) -> str:
    """How a class is said: words apart, lower case."""
    name = class_name.replace("_", " ").replace("-", " ").strip()
    return SPOKEN_NAMES.get(name.lower(), name.lower())


def _pairs(is3: Path, listing: FileCheck) -> list[tuple[Annotation, Annotation]]:
    groups: dict[str, list[Annotation]] = {}
    for annotation in read_annotations(is3, listing):
        if listing.has(annotation.name, annotation.image, annotation.sound, annotation.mask):
            groups.setdefault(annotation.group, []).append(annotation)
    pairs = []
    for name, group in sorted(groups.items()):
        if len(group) == 2:
            first, second = sorted(group, key=lambda annotation: annotation.name)
            pairs.append((first, second))
        else:
            listing.malformed_row(name, f"{len(group)} usable annotations, expected 2")
    return pairs


def _voice_of(annotation: Annotation, speaker: SpeechEngine, seed: int) -> int:
    return zlib.crc32(f"{seed}/{annotation.name}".encode()) % len(speaker.voices)


def _utterance(out: Path, speaker: SpeechEngine, text: str, voice_number: int) -> dict[str, Any]:
    """The record of one utterance, spoken unless its files are there."""
    voice = speaker.voices[voice_number]
    request = {"format": FORMAT, "engine": speaker.name, "voice": voice, "text": text}
    stem = re.sub(r"[^a-z0-9]+", "_", text)
    # Different names must not meet in one file, whatever characters they hold.
    stem += f"_{zlib.crc32(f'{speaker.name}/{voice}/{text}'.encode()):08x}"
    wav, record = (out / "audio_speech" / f"{stem}.{suffix}" for suffix in ("wav", "json"))
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        known = {}
    if wav.is_file() and {key: known.get(key) for key in request} == request:
        return known
    spoken = speaker.speak(text, voice)
    with atomic_write(wav) as file:
        file.write(_wav_bytes(spoken))
    content = {
        **request,
        "file": f"audio_speech/{wav.name}",
        "duration_s": len(spoken.waveform) / spoken.sample_rate_hz,
        "span_s": list(spoken.span_s),
        "words": [{"word": w.text, "span_s": [w.start_s, w.end_s]} for w in spoken.words],
        "timing": "engine" if spoken.words else "level",
    }
    # The record comes last: it says that the sound is complete.
    _write_json(record, content)
    return content


def _triplet(
    is3: Path, sounding: Annotation, named: Annotation, utterance: dict[str, Any]
) -> dict[str, Any]:
    def inside(path: Path) -> str:
        return path.relative_to(is3).as_posix()

    return {
        "id": f"{sounding.name}+{named.name}",
        "image": inside(sounding.image),
        "sound": inside(sounding.sound),
        "sound_class": sounding.class_name,
        "sound_mask": inside(sounding.mask),
        "sound_s": _duration_s(sounding.sound),
        "speech": utterance["file"],
        "speech_class": named.class_name,
        "speech_mask": inside(named.mask),
        "speech_s": utterance["duration_s"],
        "text": utterance["text"],
        "voice": utterance["voice"],
        "word_span_s": utterance["span_s"],
        "words": utterance["words"],
        "timing": utterance["timing"],
    }


def _duration_s(path: Path) -> float:
    try:
        with wave.open(str(path)) as file:
            return file.getnframes() / file.getframerate()
    except (wave.Error, EOFError):  # not plain PCM
        from av_grounding.sources.media_file import MediaFile

        samples, rate_hz = MediaFile(path).read_audio()
        return len(samples) / rate_hz


def _wav_bytes(spoken: Spoken) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(spoken.sample_rate_hz)
        file.writeframes(spoken.waveform.astype("<i2").tobytes())
    return buffer.getvalue()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=1).encode())
