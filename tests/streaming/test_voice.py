"""Voice and level marks: real speech, pauses, noise, and the cut of the stream."""

import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.audio import resample, to_mono
from av_grounding.streaming.voice import VoiceActivity, find_utterances
from tests.helpers import signals

RATE_HZ = signals.RATE_HZ
GATE_DBFS = -50.0


def marks(text):
    return np.array([mark == "#" for mark in text], bool)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("........", []),
        ("..####..", [(2, 6)]),
        ("####", [(0, 4)]),
        ("###..###", [(0, 8)]),
        ("###...###", [(0, 3), (6, 9)]),
        ("#.#.#", [(0, 5)]),
        ("##...####", [(5, 9)]),
        ("#....#", []),
    ],
)
def test_utterances_bridge_pauses_and_leave_out_blips(text, expected):
    assert find_utterances(marks(text), num_hangover=2, min_voiced=3) == expected


def speak(text, speed=150):
    """Speech from espeak-ng as (16 kHz waveform)."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: apt-get install espeak-ng")
    command = ["espeak-ng", "-v", "en", "-s", str(speed), "--stdout", text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as reader:
        rate_hz = reader.getframerate()
        samples = np.frombuffer(reader.readframes(2**24), np.int16)
    speech = resample(to_mono(samples), rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(speech) > 0.02)
    return speech[loud[0] : loud[-1]]


def listen(waveform, **parameters):
    voice = VoiceActivity(RATE_HZ, **parameters)
    voice.push(waveform)
    return voice.utterances(0, waveform.size, GATE_DBFS)


def test_spoken_sentences_are_utterances_at_their_times():
    first, second = speak("look at the picture of a dog"), speak("the clock is over there")
    pause = signals.silence(1.0)
    utterances = listen(np.concatenate([pause, first, pause, second, pause]))
    assert len(utterances) == 2
    second_start = RATE_HZ + first.size + RATE_HZ
    tolerance = 0.15 * RATE_HZ
    assert utterances[0].start == pytest.approx(RATE_HZ, abs=tolerance)
    assert utterances[0].stop == pytest.approx(RATE_HZ + first.size, abs=tolerance)
    assert utterances[1].start == pytest.approx(second_start, abs=tolerance)
    assert utterances[1].stop == pytest.approx(second_start + second.size, abs=tolerance)


def test_a_short_pause_between_words_does_not_end_the_utterance():
    dog, clock = speak("dog"), speak("clock")
    words = np.concatenate([dog, signals.silence(0.15), clock, signals.silence(1.0)])
    assert len(listen(words)) == 1
    assert len(listen(words, hangover_s=0.0)) == 2


@pytest.mark.parametrize("waveform", [signals.hiss(2.0), signals.silence(2.0)])
def test_what_is_no_voice_is_no_utterance(waveform):
    assert listen(waveform) == []


def test_a_whisper_below_the_gate_is_no_utterance():
    quiet = signals.vowel(1.0) * np.float32(1e-3)
    voice = VoiceActivity(RATE_HZ)
    voice.push(quiet)
    assert voice.utterances(0, quiet.size, -50.0) == []
    voice = VoiceActivity(RATE_HZ)
    voice.push(signals.vowel(1.0))
    assert len(voice.utterances(0, quiet.size, -50.0)) == 1


def test_a_blip_is_shorter_than_the_shortest_utterance():
    waveform = np.concatenate([signals.vowel(0.1), signals.silence(0.5)])
    assert listen(waveform, min_utterance_s=0.3) == []
    assert len(listen(waveform, min_utterance_s=0.04)) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=40))
def test_marks_do_not_depend_on_the_cut(sizes):
    waveform = signals.scene()
    whole, cut = VoiceActivity(RATE_HZ), VoiceActivity(RATE_HZ)
    whole.push(waveform)
    for piece in np.split(waveform, np.cumsum(sizes)):
        cut.push(piece)
    stop = waveform.size
    assert cut.utterances(0, stop, GATE_DBFS) == whole.utterances(0, stop, GATE_DBFS)
    assert len(whole.utterances(0, stop, GATE_DBFS)) == 2
    np.testing.assert_array_equal(
        cut.audible_frames(0, stop, GATE_DBFS)[1], whole.audible_frames(0, stop, GATE_DBFS)[1]
    )


def test_the_future_is_not_seen():
    voice = VoiceActivity(RATE_HZ)
    voice.push(np.concatenate([signals.silence(1.0), signals.vowel(1.0)]))
    assert voice.utterances(0, RATE_HZ, GATE_DBFS) == []
    assert not voice.audible_frames(0, RATE_HZ, GATE_DBFS)[1].any()
    (utterance,) = voice.utterances(0, RATE_HZ + RATE_HZ // 2, GATE_DBFS)
    assert utterance.stop == RATE_HZ + RATE_HZ // 2


def test_audible_slots_are_where_the_sound_is():
    voice = VoiceActivity(RATE_HZ)
    waveform = np.concatenate([signals.silence(0.4), signals.hiss(0.4), signals.silence(0.4)])
    voice.push(waveform)
    bounds = np.arange(31) * 640.0
    audible = voice.slots_audible(bounds, waveform.size, GATE_DBFS)
    assert audible.tolist() == [False] * 10 + [True] * 10 + [False] * 10
    early = voice.slots_audible(bounds, round(0.6 * RATE_HZ), GATE_DBFS)
    assert early.tolist() == [False] * 10 + [True] * 5 + [False] * 15


def test_a_rate_without_voice_detection_is_refused():
    with pytest.raises(ValueError, match="voice activity detection works at 8000, 16000"):
        VoiceActivity(22_050)


def test_marks_tell_level_and_speech_of_every_frame_from_a_number_on():
    speech = speak("a picture of a dog")
    voice = VoiceActivity(RATE_HZ)
    voice.push(np.concatenate([np.zeros(RATE_HZ // 2, np.float32), speech]))
    first, level_dbfs, is_voiced = voice.marks(0, GATE_DBFS)
    assert (first, len(level_dbfs), len(is_voiced)) == (0, voice.num_frames, voice.num_frames)
    frame = voice.frame_samples
    rms = np.sqrt(np.mean(np.square(speech[200:520], dtype=np.float64)))
    number = RATE_HZ // 2 // frame
    assert level_dbfs[: number - 1].max() < GATE_DBFS
    assert not is_voiced[: number - 1].any()
    assert is_voiced[number:].mean() > 0.7
    assert level_dbfs[number:].max() > 20 * np.log10(rms) - 20
    later, tail_dbfs, _ = voice.marks(number, GATE_DBFS)
    assert later == number
    np.testing.assert_array_equal(tail_dbfs, level_dbfs[number:])
    _, _, none_voiced = voice.marks(0, 0.0)
    assert not none_voiced.any()
