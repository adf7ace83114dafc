"""Which noun was said? Top-1 and top-5 of spoken nouns, by speech engine and for a person."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from av_grounding.audio import resample, to_clean_mono
from av_grounding.everyday import corpus, voices
from av_grounding.files import MAX_CONFIG_BYTES, read_json
from av_grounding.sources.media_file import MediaFile
from av_grounding.types import Backend

Encode = Callable[[Float32[np.ndarray, " s"]], Float[np.ndarray, "v t"]]
"""A waveform at 16 kHz to the speech head's tokens, one channel a noun of the vocabulary."""

LEVELS_DB: dict[str, float | None] = {"clean": None, "10 dB": 10.0, "0 dB": 0.0}
CARRIERS = (
    "tell me about the {noun}",
    "take the {noun} with you",
    "is that {article_noun} or something else",
    "my sister painted {article_noun} yesterday",
)
"""None of them stands in the corpus that trains."""
PERSON = "person"
STAMPS = Path("/usr/share/tuxpaint/stamps/animals")
MARGIN_S = 0.3
UNIT_SAMPLES = 1536
"""Clips are filled up to a multiple of a token, so that no end is cut off."""


def evaluate_voices(
    encode: Encode,
    vocabulary: Sequence[str],
    spoken_by: Sequence[str],
    *,
    nouns_per_voice: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Group -> "alone, clean" and so on -> {"top1", "top5", "num"}, both shares in 0..1.

    A group is a voice that `list_voices` names, or "person": the recordings of the stamps, which
    are single nouns. A clip's noun is the channel whose sum over time is the largest, as the
    stream pools. `nouns_per_voice` nouns are drawn for each engine's voice, else all are said; the
    person says all there are. Noise is pink, at that ratio to the clip's speech, and the same for
    every model.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    rng = np.random.default_rng(seed)
    for number, voice in enumerate(spoken_by):
        chosen = list(vocabulary)
        if voice != PERSON and nouns_per_voice is not None and nouns_per_voice < len(chosen):
            chosen = sorted(rng.choice(chosen, nouns_per_voice, replace=False).tolist())
        ranks: dict[str, list[int]] = {}
        for kind, noun, waveform in _clips(voice, chosen):
            for level, snr_db in LEVELS_DB.items():
                clip = in_noise(waveform, snr_db, f"{kind} {noun}")
                scores = encode(clip).sum(axis=1)
                rank = int(np.sum(scores > scores[vocabulary.index(noun)]))
                ranks.setdefault(f"{kind}, {level}", []).append(rank)
        results[voice] = {case: shares(found) for case, found in ranks.items()}
        progress(number + 1, len(spoken_by))
    return results


def shares(ranks: Sequence[int]) -> dict[str, float]:
    """Of ranks that begin with 0: the shares below 1 and below 5, and how many there are."""
    found = np.asarray(ranks)
    return {
        "top1": float(np.mean(found < 1)),
        "top5": float(np.mean(found < 5)),
        "num": float(len(found)),
    }


def _clips(
    voice: str, nouns: Sequence[str]
) -> Iterator[tuple[str, str, Float32[np.ndarray, " s"]]]:
    """(alone or in a sentence, noun, waveform)."""
    if voice == PERSON:
        for noun, waveform in person(nouns):
            yield "alone", noun, waveform
        return
    for number, noun in enumerate(nouns):
        for kind, carrier in (("alone", "{noun}"), ("sentence", CARRIERS[number % len(CARRIERS)])):
            yield kind, noun, corpus.say_noun(noun, carrier, voice, cached=True)[0].waveform


def in_noise(
    waveform: Float32[np.ndarray, " s"], snr_db: float | None, name: str
) -> Float32[np.ndarray, " t"]:
    """The clip with margins of 0.3 s, in pink noise; clean is 60 dB, so that no gap is digital."""
    margin = round(MARGIN_S * voices.SAMPLE_RATE_HZ)
    size = len(waveform) + 2 * margin
    size += -size % UNIT_SAMPLES
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    spectrum = np.fft.rfft(rng.standard_normal(size))
    noise = np.fft.irfft(
        spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), size / 320)), size
    )
    level = np.sqrt(np.mean(np.square(waveform))) * 10 ** (
        -(60 if snr_db is None else snr_db) / 20
    )
    clip = noise * level / np.sqrt(np.mean(np.square(noise)))
    clip[margin : margin + len(waveform)] += waveform
    return clip.astype(np.float32)


def person(
    nouns: Sequence[str], folder: Path = STAMPS
) -> list[tuple[str, Float32[np.ndarray, " s"]]]:
    """The nouns of the vocabulary that a person says in the stamps package: for measuring alone.

    Raises FileNotFoundError where the package is not installed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: apt-get install tuxpaint-stamps-default")
    found = []
    for path in sorted(folder.rglob("*_desc.ogg")):
        text = path.with_name(path.name.replace("_desc.ogg", ".txt"))
        if not text.exists():
            continue
        name = text.read_text("utf-8", "replace").splitlines()[0].strip(" .").lower()
        said = [noun for noun in nouns if f" {name}".endswith(f" {noun}")]
        if said:
            samples, rate_hz = MediaFile(path).read_audio()
            mono = to_clean_mono(samples)[0]
            found.append((max(said, key=len), resample(mono, rate_hz, voices.SAMPLE_RATE_HZ)))
    return found


def by_engine(
    results: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Means over each engine's voices, beside the person."""
    engines: dict[str, dict[str, list[Mapping[str, float]]]] = {}
    for voice, cases in results.items():
        for case, row in cases.items():
            engines.setdefault(voice.partition(":")[0], {}).setdefault(case, []).append(row)
    return {
        engine: {
            case: {
                **{key: float(np.mean([row[key] for row in rows])) for key in ("top1", "top5")},
                "num": sum(row["num"] for row in rows),
            }
            for case, rows in cases.items()
        }
        for engine, cases in engines.items()
    }


def vocabulary_of(bundle: Path) -> tuple[str, ...]:
    """The nouns that a bundle's speech head knows; ValueError where its config.json names none."""
    config = read_json(bundle / "config.json", MAX_CONFIG_BYTES)
    words = config.get("vocabulary", {}).get("speech", ()) if isinstance(config, dict) else ()
    if not words:
        raise ValueError(
            f"{bundle}: its speech head has no vocabulary, so no noun can be read off; expected a "
            "bundle whose channels are things, such as models/everyday-small"
        )
    return tuple(words)


def speech_tokens(backend: Backend) -> Encode:
    """Of whole clips, by a model that hears windows."""
    spec = backend.spec
    head = spec.head_names.index("speech")
    return in_windows(
        lambda window: backend.encode_audio(window)[head], spec.num_window_samples, spec.num_tokens
    )


def in_windows(encode_window: Encode, num_samples: int, num_tokens: int) -> Encode:
    """Windows of `num_samples` overlap by half; each token is taken where it lies deepest."""
    half, token = num_tokens // 2, num_samples // num_tokens

    def encode(waveform: Float32[np.ndarray, " s"]) -> Float[np.ndarray, "v t"]:
        num_windows = max(1, 1 + -(-(len(waveform) - num_samples) // (half * token)))
        padded = np.zeros((num_windows - 1) * half * token + num_samples, np.float32)
        padded[: len(waveform)] = waveform
        parts = []
        for index in range(num_windows):
            begin = index * half * token
            tokens = encode_window(padded[begin : begin + num_samples])
            first = 0 if index == 0 else half // 2
            last = num_tokens if index == num_windows - 1 else half // 2 + half
            parts.append(tokens[:, first:last])
        return np.concatenate(parts, axis=1)

    return encode
