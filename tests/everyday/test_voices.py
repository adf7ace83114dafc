"""Speech engines: the words lie where the voice says them, and what was said is kept."""

import numpy as np
import pytest

from av_grounding.everyday import engines, voices

INSTALLED = [name for name, engine in voices.ENGINES.items() if not engine.missing()]
needs_espeak = pytest.mark.skipif("espeak" not in INSTALLED, reason=engines.EspeakVoices.remedy)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AV_GROUNDING_VOICES", str(tmp_path / "voices"))


def level(waveform, start_s, end_s):
    part = waveform[round(start_s * 16_000) : round(end_s * 16_000)]
    return float(np.sqrt(np.mean(np.square(part))))


@pytest.mark.parametrize("engine", INSTALLED)
def test_every_engine_says_the_words_of_a_text_in_order(engine):
    voice = voices.list_voices(engine)[0]
    said = voices.speak("where is the guinea pig", voice)
    assert said.waveform.dtype == np.float32
    assert 0.8 < len(said.waveform) / 16_000 < 4.0
    assert np.abs(said.waveform).max() <= 1.0
    assert [word.text for word in said.words] == ["where", "is", "the", "guinea", "pig"]
    starts = [word.start_s for word in said.words]
    assert starts == sorted(starts)
    start_s, end_s = said.span_s(3, 2)
    assert 0.2 < end_s - start_s < 1.2
    assert level(said.waveform, start_s, end_s) > 3 * level(said.waveform, 0, 0.02)


@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("engine", INSTALLED)
def test_a_faster_rate_is_shorter_and_a_pitch_keeps_the_duration(engine, which):
    voice = voices.list_voices(engine)[which]
    plain, fast, high = (
        len(voices.speak("a small elephant", voice, rate, pitch).waveform)
        for rate, pitch in ((1.0, 1.0), (1.5, 1.0), (1.0, 1.2))
    )
    assert 0.5 < fast / plain < 0.85
    assert 0.75 < high / plain < 1.3


@needs_espeak
def test_pitch_moves_the_spectrum_up():
    def centre_hz(pitch):
        said = voices.speak("banana", voices.list_voices("espeak")[0], 1.0, pitch).waveform
        power = np.abs(np.fft.rfft(said)) ** 2
        cumulated = np.cumsum(power) / power.sum()
        return np.searchsorted(cumulated, 0.5) * 16_000 / len(said)

    assert centre_hz(1.3) > 1.1 * centre_hz(1.0)


@needs_espeak
def test_what_was_said_is_read_from_the_cache_and_a_damaged_file_is_written_anew(monkeypatch):
    voice = voices.list_voices("espeak")[0]
    first = voices.speak("a dog", voice)
    (path,) = voices.cache_folder().rglob("*.npz")
    monkeypatch.setattr(engines.EspeakVoices, "say", None)
    again = voices.speak("a dog", voice)
    np.testing.assert_allclose(again.waveform, first.waveform, atol=1e-4)
    assert again.words == first.words
    monkeypatch.undo()
    path.write_bytes(b"PK damaged")
    monkeypatch.setenv("AV_GROUNDING_VOICES", str(path.parents[1]))
    assert len(voices.speak("a dog", voice).waveform) == len(first.waveform)


def test_bad_input_is_named_with_what_is_expected():
    with pytest.raises(ValueError, match="rate is 5"):
        voices.speak("dog", "espeak:gmw/en-US+m1", rate=5)
    with pytest.raises(ValueError, match="expected English words"):
        voices.speak("dog; (quit)", "festival:kal")
    with pytest.raises(ValueError, match="expected one of espeak, flite"):
        voices.speak("dog", "sam:one")


@needs_espeak
def test_an_unknown_voice_is_answered_with_known_ones():
    with pytest.raises(ValueError, match="expected one of espeak:gmw"):
        voices.speak("dog", "espeak:nobody")


def test_a_missing_engine_is_answered_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="apt-get install flite"):
        voices.list_voices("flite")
    assert not any(voice.startswith("flite:") for voice in voices.list_voices())


def test_phones_are_shared_out_where_a_sentence_has_another_number_of_them():
    timed = [("pau", ":", "0.1"), ("dh", ":", "0.2"), ("ax", ":", "0.3"), ("d", ":", "0.5")]
    timed += [("ao", ":", "0.7"), ("g", ":", "0.8"), ("pau", ":", "1.0")]
    assert [(w.start_s, w.end_s) for w in engines._words_of("the dog", [2, 3], timed)] == [
        (0.1, 0.3),
        (0.3, 0.8),
    ]
    words = engines._words_of("the dog", [2, 4], timed)
    assert words[0].start_s == 0.1
    assert words[-1].end_s == 0.8
