"""The drawn world's phrases by another engine."""

import numpy as np
import pytest

from av_grounding.cli import main
from av_grounding.evaluation.benchmarks.synthetic import SyntheticBenchmark
from av_grounding.everyday import utterances, voices
from av_grounding.synthetic import audio_bank
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.samples import SyntheticSamples

pytestmark = pytest.mark.skipif(
    voices.ENGINES["espeak"].missing() or voices.ENGINES["flite"].missing(),
    reason="needs espeak-ng and flite",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AV_GROUNDING_VOICES", str(tmp_path / "voices"))


def test_samples_keep_all_but_the_voice():
    own = SyntheticSamples("test", 0)[3]
    other = SyntheticSamples("test", 0, speak=utterances.speaker_of("flite"))[3]
    assert (other.text, other.speech_class) == (own.text, own.speech_class)
    np.testing.assert_array_equal(other.image, own.image)
    assert not np.array_equal(other.speech, own.speech)


@pytest.mark.parametrize("carrier", ["{noun}, please", "can you see {article_noun} over there"])
def test_the_noun_is_where_the_span_says_at_the_worlds_level(carrier):
    said = utterances.Speaker(("flite:rms",))("traffic_light", carrier, 1)
    start_s, end_s = said.word_span_s
    assert 0.2 < end_s - start_s < 1.6
    assert end_s <= len(said.waveform) / 16_000
    assert 20 * np.log10(active_rms(said.waveform)) == pytest.approx(-20, abs=0.5)


def test_no_voices_are_an_error():
    with pytest.raises(ValueError, match="no voices"):
        utterances.Speaker(())
    with pytest.raises(ValueError, match=r"unknown voice 'flite:nobody'; expected some of flite:"):
        utterances.Speaker(("flite:slt", "flite:nobody"))


def test_every_second_utterance_of_a_bank_is_another_engines(tmp_path, monkeypatch):
    size = {"num_sounds_per_class": 1, "num_utterances_per_class": 4, "seed": 4}
    # Two classes say it of all.
    monkeypatch.setattr(audio_bank, "CLASSES", ("bell", "dog"))
    speak = utterances.Speaker(("flite:rms", "flite:slt"))
    bank = AudioBank.build(tmp_path / "bank", "train", **size, speak=speak)
    for name in ("bell", "dog"):
        rng = np.random.default_rng(0)
        drawn = {
            (said.text, said.voice) for said in (bank.utterance(name, rng) for _ in range(60))
        }
        assert sum(voice.startswith("flite:") for _, voice in drawn) == len(drawn) / 2 == 2
    before = {path.name: path.stat().st_mtime_ns for path in bank.directory.iterdir()}
    AudioBank.build(bank.directory, "train", **size, speak=speak)
    assert {path.name: path.stat().st_mtime_ns for path in bank.directory.iterdir()} == before
    other = AudioBank.build(bank.directory, "train", **size)
    assert not any(
        voice.startswith("flite:")
        for voice in (other.utterance("bell", rng).voice for _ in range(20))
    )


def test_the_benchmark_is_said_by_the_engine_that_is_asked_for(tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "av_grounding.evaluation.synthetic.evaluate",
        lambda *_, **options: asked.append(options["voices"]) or {},
    )
    monkeypatch.setattr("av_grounding.cli.evaluate._readable", lambda report: ())
    command = ["evaluate", "synthetic", "--num", "1", "--out", str(tmp_path), "--quiet"]
    assert main([*command, "--voices", "flite"]) == 0
    assert main(command) == 0
    assert main([*command, "--voices", "flite:slt,flite:rms"]) == 0
    assert asked == ["flite", "own", "flite:slt,flite:rms"]
    assert utterances.speaker_of(asked[-1]).spoken_by == ("flite:slt", "flite:rms")
    assert main([*command, "--voices", "flight"]) == 2
    assert "expected one of espeak, flite" in capsys.readouterr().err
    sample = SyntheticBenchmark("synthetic-simultaneous", num=1, voices="flite")[0]
    own = SyntheticBenchmark("synthetic-simultaneous", num=1)[0]
    assert sample.text == own.text
    assert not np.array_equal(sample.load_clip().waveform, own.load_clip().waveform)
