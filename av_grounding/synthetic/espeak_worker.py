"""A process of its own for espeak-ng: requests on standard input, answers on standard output.

The library keeps hidden state between calls (noise generator, phase, flutter), so the same text
sounds slightly different every time. Here every request is answered by a fork of a process that
has loaded the library but never used it: the same request gives the same bytes, whatever was
spoken before, and a crash inside the library cannot take the caller with it.

Run as a script, with standard-library imports only, so that it starts in milliseconds.
Request: one JSON line {text, voice, rate_wpm, pitch}. Answer: one JSON line, {error} or
{sample_rate_hz, num_bytes, version, words: [[position, sample], ...], pauses: [sample, ...]},
then num_bytes of int16 samples. Positions count characters of the text from 0.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import json
import os
import sys
from pathlib import Path

# Constants of espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 1
_INITIALIZE_DONT_EXIT = 0x8000
_EVENT_LIST_TERMINATED, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAMETER_RATE, _PARAMETER_PITCH = 1, 3
_POSITION_CHARACTER, _CHARS_UTF8 = 1, 1


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def find_library() -> tuple[str, str | None] | None:
    """(library, data directory or None for its default), or None where there is none.

    The one of the espeakng-loader package comes before the system's: versions differ in their
    voices, and the same seed should say the same on every machine.
    """
    spec = importlib.util.find_spec("espeakng_loader")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        libraries = sorted(folder.glob("libespeak-ng*"))
        if libraries:
            return str(libraries[0]), str(folder / "espeak-ng-data")
    name = ctypes.util.find_library("espeak-ng")
    return (name, None) if name is not None else None


def _speak(library: ctypes.CDLL, data: str | None, request: dict) -> tuple[dict, bytes]:
    samples: list[bytes] = []
    words: list[tuple[int, int]] = []
    pauses: list[int] = []

    def receive(waveform, num_samples, events) -> int:
        if waveform and num_samples > 0:
            samples.append(ctypes.string_at(waveform, 2 * num_samples))
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == _EVENT_WORD:
                words.append((event.text_position - 1, event.sample))
            elif event.type == _EVENT_PHONEME and event.id.startswith(b"_"):
                pauses.append(event.sample)
            index += 1
        return 0

    callback = _Callback(receive)
    sample_rate_hz = library.espeak_Initialize(
        _AUDIO_OUTPUT_SYNCHRONOUS,
        0,
        None if data is None else data.encode(),
        _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT,
    )
    if sample_rate_hz <= 0:
        return {"error": "espeak-ng cannot read its data files; reinstall espeak-ng-data"}, b""
    # Breath and flutter are drawn at random, seeded with the time unless told otherwise.
    if hasattr(library, "espeak_ng_SetRandSeed"):
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    library.espeak_SetSynthCallback(callback)
    library.espeak_Info.restype = ctypes.c_char_p
    path = ctypes.c_char_p()
    version = library.espeak_Info(ctypes.byref(path))
    # The library passes over a variant that it does not have.
    variant = request["voice"].partition("+")[2]
    known = os.path.exists(os.path.join(path.value.decode(), "voices", "!v", variant))
    if not known or library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return {"error": f"espeak-ng has no voice {request['voice']!r}"}, b""
    library.espeak_SetParameter(_PARAMETER_RATE, request["rate_wpm"], 0)
    library.espeak_SetParameter(_PARAMETER_PITCH, request["pitch"], 0)
    text = request["text"].encode() + b"\0"
    status = library.espeak_Synth(
        text, ctypes.c_size_t(len(text)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
    )
    if status != 0:
        return {"error": f"espeak-ng failed with status {status}"}, b""
    waveform = b"".join(samples)
    header = {
        "sample_rate_hz": sample_rate_hz,
        "num_bytes": len(waveform),
        "version": version.decode(),
        "words": words,
        "pauses": pauses,
    }
    return header, waveform


def _answer(header: dict, waveform: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n" + waveform)
    sys.stdout.buffer.flush()


def serve() -> None:
    """Answer requests until standard input ends."""
    found = find_library()
    library = None if found is None else ctypes.CDLL(found[0])
    for line in sys.stdin.buffer:
        if found is None or library is None:
            _answer({"error": "no library", "missing": True})
            continue
        child = os.fork()
        if child == 0:
            try:
                _answer(*_speak(library, found[1], json.loads(line)))
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status != 0:
            _answer({"error": f"espeak-ng ended with status {status}"})


if __name__ == "__main__":
    serve()
