"""The spoken phrases: repeatable, in many voices, and the word is where the span says."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ, active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.speech import (
    CARRIERS,
    VOICES,
    Voice,
    phrase,
    synthesize_utterance,
)

pytestmark = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
VOICE = VOICES["train"][0]
MIDDLE = "can you see {article_noun} over there"
HOP_S = 0.005


def shape(waveform: np.ndarray) -> np.ndarray:
    """(frames, bands) of log spectra every 5 ms, each frame without its mean."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::80] * np.hanning(400)
    power = np.abs(np.fft.rfft(windows, axis=1)[:, 2:162]) ** 2
    bands = np.log(power.reshape(len(power), 20, 8).sum(axis=2) + 1e-3)
    return bands - bands.mean(axis=1, keepdims=True)


def best_offset_s(phrase_waveform: np.ndarray, word: np.ndarray) -> float:
    """Where the word's spectra fit the phrase's best, in seconds."""
    whole, part = shape(phrase_waveform), shape(word)
    places = np.lib.stride_tricks.sliding_window_view(whole, part.shape)[:, 0]
    scores = np.einsum("nfb,fb->n", places, part) / (np.linalg.norm(places, axis=(1, 2)) + 1e-6)
    return float(np.argmax(scores)) * HOP_S


def test_phrases():
    assert phrase("dog", "a picture of {article_noun}") == ("a picture of a dog", 15)
    assert phrase("airplane", "{article_noun} in the picture") == ("an airplane in the picture", 3)
    assert phrase("bee", "{noun}") == ("bee", 0)
    with pytest.raises(ValueError, match="once"):
        phrase("dog", "nothing here")
    with pytest.raises(ValueError, match="once"):
        phrase("dog", "{noun} and {noun}")


def test_carriers_place_the_noun_everywhere_and_name_no_other_class():
    assert len(set(CARRIERS)) >= 10
    places = [phrase("dog", carrier) for carrier in CARRIERS]
    assert any(offset == 0 and text != "dog" for text, offset in places)
    assert any(text.endswith(" dog") for text, _ in places)
    assert any(offset > 0 and not text.endswith("dog") for text, offset in places)
    for text, _ in places:
        assert not set(text.replace(",", "").split()) & (set(CLASSES) - {"dog"})


def test_voices_of_the_splits_are_disjoint():
    variants = {split: {voice.variant for voice in voices} for split, voices in VOICES.items()}
    assert len(variants["train"]) >= 24
    assert len(variants["val"]) >= 4
    assert len(variants["test"]) >= 8
    assert not variants["train"] & variants["test"]
    assert not variants["train"] & variants["val"]
    assert not variants["val"] & variants["test"]
    for voices in VOICES.values():
        assert len({voice.identifier for voice in voices}) == len(voices)


def test_every_voice_speaks_and_sounds_like_no_other():
    spoken = {}
    for voice in (*VOICES["train"], *VOICES["val"], *VOICES["test"]):
        utterance = synthesize_utterance("clock", "the {noun}", voice, 5)
        assert 0.3 < len(utterance.waveform) / SAMPLE_RATE_HZ < 2.0
        assert 0.15 < utterance.word_span_s[1] - utterance.word_span_s[0] < 1.2
        spoken[utterance.waveform.tobytes()] = voice.identifier
    assert len(spoken) == sum(map(len, VOICES.values()))


def test_repeatable_whatever_was_said_before():
    first = synthesize_utterance("frog", MIDDLE, VOICE, 11)
    synthesize_utterance("airplane", CARRIERS[0], VOICES["test"][1], 3)
    again = synthesize_utterance("frog", MIDDLE, VOICE, 11)
    np.testing.assert_array_equal(first.waveform, again.waveform)
    assert first.word_span_s == again.word_span_s
    assert (first.text, first.class_name) == ("can you see a frog over there", "frog")
    assert first.voice == VOICE.identifier


def test_the_seed_draws_rate_and_pitch():
    lengths = {len(synthesize_utterance("cow", MIDDLE, VOICE, s).waveform) for s in range(12)}
    assert max(lengths) > 1.3 * min(lengths)
    slow = Voice(VOICE.name, VOICE.variant, rate_wpm=(150, 150), pitch=(50, 50))
    one, two = (synthesize_utterance("cow", MIDDLE, slow, s).waveform for s in (1, 2))
    np.testing.assert_array_equal(one, two)
    high = Voice(VOICE.name, VOICE.variant, rate_wpm=(150, 150), pitch=(80, 80))
    assert not np.array_equal(
        one[:5000], synthesize_utterance("cow", MIDDLE, high, 1).waveform[:5000]
    )


@pytest.mark.parametrize("carrier", CARRIERS)
def test_margins_and_level(carrier):
    utterance = synthesize_utterance("piano", carrier, VOICES["test"][3], 2)
    level = np.abs(utterance.waveform) > np.abs(utterance.waveform).max() * 10 ** (-45 / 20)
    assert np.argmax(level) == 800
    assert np.argmax(level[::-1]) == 800
    assert 20 * np.log10(active_rms(utterance.waveform)) == pytest.approx(-20.0, abs=0.05)
    assert utterance.waveform.dtype == np.float32
    start_s, end_s = utterance.word_span_s
    assert 0.0 <= start_s < end_s <= len(utterance.waveform) / SAMPLE_RATE_HZ


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_span_covers_the_word(split):
    """The noun cut out of one phrase is found in another phrase where that one's span says."""
    errors_s, misses = [], 0
    for index, name in enumerate(CLASSES):
        voice = VOICES[split][index % len(VOICES[split])]
        fixed = Voice(voice.name, voice.variant, rate_wpm=(150, 150), pitch=(50, 50))
        source = synthesize_utterance(name, "there is {article_noun} in front of us", fixed, 0)
        start, end = (round(t * SAMPLE_RATE_HZ) for t in source.word_span_s)
        word = source.waveform[start:end]
        for carrier in (MIDDLE, "a picture of {article_noun}", "the {noun} is on this side"):
            other = synthesize_utterance(name, carrier, fixed, 0)
            padded = np.pad(other.waveform, (0, len(word)))
            error_s = best_offset_s(padded, word) - other.word_span_s[0]
            errors_s.append(abs(error_s))
            misses += abs(error_s) > 0.08
    assert np.median(errors_s) < 0.02
    assert misses <= len(errors_s) // 10


@pytest.mark.parametrize("name", CLASSES)
def test_words_follow_each_other_without_overlap(name):
    """The noun alone lasts about as long as its span within a phrase, and is voiced."""
    fixed = Voice(VOICE.name, VOICE.variant, rate_wpm=(150, 150), pitch=(50, 50))
    alone = synthesize_utterance(name, "{noun}", fixed, 0)
    last = synthesize_utterance(name, "look at the {noun}", fixed, 0)
    duration_s = len(alone.waveform) / SAMPLE_RATE_HZ - 0.1
    span_s = last.word_span_s[1] - last.word_span_s[0]
    assert span_s == pytest.approx(duration_s, abs=0.12)
    start, end = (round(t * SAMPLE_RATE_HZ) for t in last.word_span_s)
    assert active_rms(last.waveform[start:end]) > 0.5 * active_rms(last.waveform)
    # Behind the last word comes the margin alone.
    assert len(last.waveform) / SAMPLE_RATE_HZ - last.word_span_s[1] < 0.12


def test_threads_take_turns():
    names = CLASSES[:8]
    expected = [synthesize_utterance(name, MIDDLE, VOICE, 4).waveform for name in names]
    with ThreadPoolExecutor(4) as pool:
        spoken = pool.map(lambda name: synthesize_utterance(name, MIDDLE, VOICE, 4), names)
    for utterance, waveform in zip(spoken, expected, strict=True):
        np.testing.assert_array_equal(utterance.waveform, waveform)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_speaks_for_itself():
    script = """
import os, sys, numpy as np
from av_grounding.synthetic.speech import VOICES, synthesize_utterance
say = lambda: synthesize_utterance("dog", "the {noun}", VOICES["train"][0], 1).waveform
before = say()
child = os.fork()
same = all(np.array_equal(before, say()) for _ in range(20))
if child == 0:
    os._exit(0 if same else 1)
sys.exit(0 if same and os.waitpid(child, 0)[1] == 0 else 1)
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=True,
        timeout=60,
        cwd=Path(speech.__file__).parents[2],
    )


def test_an_interrupted_request_does_not_answer_the_next(monkeypatch):
    expected = synthesize_utterance("dog", "the {noun}", VOICE, 1).waveform
    exchange = speech._engine._exchange

    def interrupted(request):
        process = speech._engine._running()
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(speech._engine, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize_utterance("cat", "{noun}", VOICE, 1)
    monkeypatch.setattr(speech._engine, "_exchange", exchange)
    np.testing.assert_array_equal(
        synthesize_utterance("dog", "the {noun}", VOICE, 1).waveform, expected
    )


def test_errors_name_the_remedy():
    with pytest.raises(RuntimeError, match="no voice 'gmw/en\\+nobody'"):
        synthesize_utterance("dog", "{noun}", Voice("gmw/en", "nobody"), 0)
    with pytest.raises(RuntimeError, match="no voice 'xx/yy\\+f1'"):
        synthesize_utterance("dog", "{noun}", Voice("xx/yy", "f1"), 0)


def test_without_a_synthesiser_the_apt_line_is_named(monkeypatch, tmp_path):
    worker = tmp_path / "espeak_worker.py"
    source = Path(espeak_worker.__file__).read_text(encoding="utf-8")
    # The same program on a machine on which neither place holds the library.
    worker.write_text(
        source.replace('find_library("espeak-ng")', 'find_library("no-such-library")').replace(
            'find_spec("espeakng_loader")', 'find_spec("no_such_package")'
        )
    )
    monkeypatch.setattr(speech, "_WORKER", worker)
    monkeypatch.setattr(speech, "_engine", speech._Engine())
    with pytest.raises(RuntimeError, match="apt install libespeak-ng1"):
        synthesize_utterance("dog", "{noun}", VOICE, 0)
    speech._engine.close()


def test_the_package_library_serves_where_the_system_has_none(monkeypatch):
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(espeak_worker.ctypes.util, "find_library", lambda name: None)
    library, data = espeak_worker.find_library()
    assert Path(library).is_file()
    assert (Path(data) / "phontab").is_file()


def test_the_same_request_says_the_same_at_another_time():
    """The engine seeds its breath with the clock unless it is told otherwise."""
    voice = next(v for v in VOICES["test"] if v.variant == "victor")
    first = synthesize_utterance("dog", "can you see {article_noun} over there", voice, 5)
    time.sleep(1.1)
    again = synthesize_utterance("dog", "can you see {article_noun} over there", voice, 5)
    assert np.array_equal(first.waveform, again.waveform)
