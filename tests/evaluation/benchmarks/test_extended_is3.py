"""The builder of Extended IS3 with a real speech engine, and the benchmark that reads it."""

import json
import sys
import wave

import numpy as np
import pytest

from av_grounding import cli
from av_grounding.evaluation.benchmarks import open_benchmark, speaking
from av_grounding.evaluation.benchmarks.extended_is3_build import build_extended_is3, spoken_name
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.speech import VOICES, engine_version
from tests.helpers import trees
from tests.helpers.is3_tree import BOXES, write_is3

try:
    engine_version()
    NO_SPEECH = ""
except RuntimeError as error:
    NO_SPEECH = str(error)
needs_speech = pytest.mark.skipif(bool(NO_SPEECH), reason=NO_SPEECH)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """IS3, its extension, and the steps of progress."""
    if NO_SPEECH:
        pytest.skip(NO_SPEECH)
    is3 = write_is3(tmp_path_factory.mktemp("is3"))
    out = tmp_path_factory.mktemp("extended")
    steps = []
    summary = build_extended_is3(is3, out, progress=lambda *step: steps.append(step))
    return is3, out, summary, steps


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(out):
    return json.loads((out / "triplets.json").read_text())


def test_every_picture_gives_both_pairings_of_sound_and_word(built):
    _, out, summary, steps = built
    content = read(out)
    pairs = [(row["sound_class"], row["speech_class"]) for row in content["triplets"]]
    assert pairs == [
        ("alarmclock", "cat"),
        ("cat", "alarmclock"),
        ("fox", "subway"),
        ("subway", "fox"),
    ]
    assert [row["text"] for row in content["triplets"]] == [
        "cat",
        "alarm clock",
        "subway",
        "fox",
    ]
    assert (summary["num_triplets"], summary["num_images"]) == (4, 2)
    assert steps == [(n, 4) for n in range(1, 5)]
    assert summary["num_left_out"] == 1
    assert content["left_out"] == [
        {
            "kind": "malformed_row",
            "sample_id": "lion_dog_7",
            "detail": "1 usable annotations, expected 2",
        }
    ]


def test_words_are_timed_by_the_engine_and_lie_in_the_sound(built):
    _, out, _, _ = built
    for row in read(out)["triplets"]:
        assert row["timing"] == "engine"
        assert [word["word"] for word in row["words"]] == row["text"].split()
        spans = [tuple(word["span_s"]) for word in row["words"]]
        assert all(start < end for start, end in spans)
        assert row["word_span_s"] == [spans[0][0], spans[-1][1]]
        with wave.open(str(out / row["speech"])) as file:
            rate_hz = file.getframerate()
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
        assert row["speech_s"] == pytest.approx(len(pcm) / rate_hz)
        start, end = (round(t * rate_hz) for t in row["word_span_s"])
        energy = np.square(pcm)
        assert energy[start:end].sum() > 0.97 * energy.sum()
    two_words = next(row for row in read(out)["triplets"] if row["text"] == "alarm clock")
    first, second = (word["span_s"] for word in two_words["words"])
    assert first[1] <= second[0] + 1e-9
    assert first[0] < second[0] < two_words["speech_s"]


def test_the_same_command_gives_the_same_bytes_and_speaks_nothing_twice(
    built, tmp_path, monkeypatch
):
    is3, out, _, _ = built
    build_extended_is3(is3, tmp_path)
    first, second = files(out), files(tmp_path)
    assert json.loads(first.pop("triplets.json"))["triplets"] == read(tmp_path)["triplets"]
    second.pop("triplets.json")
    assert first == second

    def speak(*_):
        raise AssertionError("spoken again")

    monkeypatch.setattr(speaking.Espeak, "speak", speak)
    build_extended_is3(is3, tmp_path)


def test_a_stopped_run_goes_on_with_what_is_missing(built, tmp_path, monkeypatch):
    is3, out, _, _ = built
    speak, spoken = speaking.Espeak.speak, []

    def interrupted(self, text, voice):
        if len(spoken) == 2:
            raise KeyboardInterrupt
        spoken.append(text)
        return speak(self, text, voice)

    monkeypatch.setattr(speaking.Espeak, "speak", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_extended_is3(is3, tmp_path)
    assert not (tmp_path / "triplets.json").exists()
    # A record that was torn, as by a full disk, is no record.
    torn = next(iter((tmp_path / "audio_speech").glob("*.json")))
    torn.write_text(torn.read_text()[:20])
    again = []

    def counted(self, text, voice):
        again.append(text)
        return speak(self, text, voice)

    monkeypatch.setattr(speaking.Espeak, "speak", counted)
    build_extended_is3(is3, tmp_path)
    assert len(again) == 3
    assert read(tmp_path)["triplets"] == read(out)["triplets"]
    assert not list(tmp_path.rglob("*.part"))


def test_voices_depend_on_seed_and_can_be_chosen(built, tmp_path):
    is3, out, _, _ = built
    other = tmp_path / "other"
    build_extended_is3(is3, other, seed=3)
    voices = [[row["voice"] for row in read(folder)["triplets"]] for folder in (out, other)]
    known = {voice.identifier for voice in VOICES["test"]}
    assert voices[0] != voices[1]
    assert set(voices[0]) | set(voices[1]) <= known
    build_extended_is3(is3, other, voice="gmw/en-US+f4")
    assert {row["voice"] for row in read(other)["triplets"]} == {"gmw/en-US+f4"}
    with pytest.raises(RuntimeError, match="no voice 'gmw/nobody'"):
        build_extended_is3(is3, other, voice="gmw/nobody")


def test_the_benchmark_sums_sound_and_speech_at_one_level(built):
    _, out, _, _ = built
    benchmark = open_benchmark("extended-is3", out)
    assert len(benchmark) == 4
    assert benchmark.problems == ()
    sample = benchmark[0]
    sound, speech = sample.targets
    assert (sound.head, sound.class_name) == ("sound", "alarmclock")
    assert (speech.head, speech.class_name) == ("speech", "cat")
    assert trees.region(sound.load_mask()) == tuple(BOXES["alarmclock"])
    assert trees.region(speech.load_mask()) == tuple(BOXES["cat"])
    assert sample.text == "cat"
    clip = sample.load_clip()
    assert clip.sample_rate_hz == 16_000
    assert len(clip.waveform) == 32_000
    # Outside the word only the tone is heard; inside, both at the same active level.
    start, end = (round(t * 16_000) for t in speech.word_span_s)
    assert 0 < start < end < 32_000
    tone_rms = active_rms(clip.waveform[:4_000])
    spectrum = np.abs(np.fft.rfft(clip.waveform[:4_000]))
    assert spectrum.argmax() * 4 == 700
    times = np.arange(32_000) / 16_000
    tone = clip.waveform[:4_000] @ np.exp(-2j * np.pi * 700 * times[:4_000]) / 2_000
    rest = clip.waveform - (tone * np.exp(2j * np.pi * 700 * times)).real
    assert active_rms(rest.astype(np.float32)) == pytest.approx(tone_rms, rel=0.05)
    energy = np.square(rest)
    assert energy[start:end].sum() > 0.95 * energy.sum()


def test_the_benchmark_names_files_that_have_gone(built, tmp_path):
    is3, _, _, _ = built
    build_extended_is3(is3, tmp_path)
    row = read(tmp_path)["triplets"][2]
    (tmp_path / row["speech"]).unlink()
    benchmark = open_benchmark("extended-is3", tmp_path)
    assert trees.kinds(benchmark) == [("missing_file", row["id"])]
    content = read(tmp_path)
    trees.objects(tmp_path / "triplets.json", {**content, "is3": "../nowhere"})
    with pytest.raises(FileNotFoundError, match="the IS3 data has moved: run av-grounding data"):
        open_benchmark("extended-is3", tmp_path)
    trees.objects(tmp_path / "triplets.json", [])
    with pytest.raises(ValueError, match="expected what av-grounding data extended-is3 writes"):
        open_benchmark("extended-is3", tmp_path)


@needs_speech
def test_the_command_writes_a_set_that_opens(tmp_path, capsys):
    is3, out = write_is3(tmp_path / "is3"), tmp_path / "out"
    code = cli.main(["data", "extended-is3", "--is3", str(is3), "--out", str(out), "--json"])
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["num_triplets"] == len(open_benchmark("extended-is3", out)) == 4
    assert cli.main(["data", "extended-is3", "--is3", str(out), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        cli.main(["data"])
    assert "the following arguments are required: DATA" in capsys.readouterr().err
    assert "IS3_annotation.json: no such file; --is3 needs the folder of IS3" in error


@pytest.mark.parametrize(
    ("engine", "voice", "module", "message"),
    [
        ("gtts", None, "gtts", "pip install gTTS"),
        ("piper", "voice.onnx", "piper", "pip install piper-tts"),
    ],
)
def test_an_engine_that_is_not_installed_says_what_to_install(
    tmp_path, monkeypatch, engine, voice, module, message
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=message):
        build_extended_is3(write_is3(tmp_path), tmp_path / "out", engine=engine, voice=voice)


def test_engines_that_cannot_speak_say_so(tmp_path):
    with pytest.raises(ValueError, match="got engine 'festival', expected one of espeak, gtts"):
        speaking.open_engine("festival", None)
    with pytest.raises(ValueError, match=r"expected --voice FILE.onnx"):
        speaking.open_engine("piper", None)


def test_speech_without_reported_times_is_timed_by_its_level():
    rate_hz = 8_000
    samples = np.zeros(rate_hz)
    samples[2_000:6_000] = 9_000 * np.sin(np.arange(4_000))
    samples[7_000] = 20
    spoken = speaking.measured(samples, rate_hz)
    assert spoken.span_s == (pytest.approx(0.25, abs=0.001), pytest.approx(0.75, abs=0.001))
    assert spoken.words == ()
    assert spoken.waveform.dtype == np.int16
    with pytest.raises(RuntimeError, match="answered with silence"):
        speaking.measured(np.zeros(100), rate_hz)


def test_class_names_are_said_as_words():
    assert spoken_name("acousticguitar") == "acoustic guitar"
    assert spoken_name("emergency-car") == "emergency car"
    assert spoken_name("Cat") == "cat"
