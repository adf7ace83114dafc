"""The bank on disk: round trip, reuse, resumption, disjoint splits, errors."""

import json
import pickle

import numpy as np
import pytest

from av_grounding.synthetic import audio_bank, espeak_worker, speech
from av_grounding.synthetic.audio_bank import AudioBank, default_directory
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import SEED_RANGES
from av_grounding.synthetic.sounds import synthesize_sound
from av_grounding.synthetic.speech import CARRIERS, VOICES, phrase

pytestmark = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
SIZE = {"num_sounds_per_class": 2, "num_utterances_per_class": 3, "seed": 4}


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> AudioBank:
    return AudioBank.build(tmp_path_factory.mktemp("bank"), "test", **SIZE)


def times(bank: AudioBank) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in bank.directory.iterdir()}


@pytest.mark.parametrize("name", CLASSES)
def test_sounds_are_the_synthesised_ones(bank, name):
    rng = np.random.default_rng((SIZE["seed"], CLASSES.index(name)))
    seeds = audio_bank._distinct_seeds(rng, "test", 2)
    expected = [synthesize_sound(name, seed, 4.0) for seed in seeds]
    drawn = [bank.sound(name, np.random.default_rng(s), 64_000) for s in range(12)]
    for waveform in drawn:
        assert waveform.dtype == np.float32
        assert min(np.abs(waveform - sound).max() for sound in expected) < 1e-4
    # Both individuals are drawn.
    assert len({waveform.tobytes() for waveform in drawn}) == 2


def test_crops_are_random_and_lie_within_the_stored_sound(bank):
    whole = {bank.sound("bell", np.random.default_rng(s), 64_000).tobytes() for s in range(8)}
    whole = [np.frombuffer(waveform, np.float32) for waveform in whole]
    rng = np.random.default_rng(0)
    crops = [bank.sound("bell", rng, 16_000) for _ in range(6)]
    starts = set()
    for crop in crops:
        found = [
            start
            for waveform in whole
            for start in np.flatnonzero(waveform[:48_001] == crop[0])
            if np.array_equal(waveform[start : start + 16_000], crop)
        ]
        assert len(found) == 1
        starts.add(int(found[0]))
    assert len(starts) == 6
    repeated = bank.sound("bell", np.random.default_rng(3), 16_000)
    np.testing.assert_array_equal(repeated, bank.sound("bell", np.random.default_rng(3), 16_000))


def test_utterances_come_back_with_text_voice_and_span(bank):
    texts = {phrase("kettle", carrier)[0] for carrier in CARRIERS}
    voices = {voice.identifier for voice in VOICES["test"]}
    drawn = {}
    for seed in range(20):
        utterance = bank.utterance("kettle", np.random.default_rng(seed))
        assert utterance.class_name == "kettle"
        assert utterance.text in texts
        assert utterance.voice in voices
        start_s, end_s = utterance.word_span_s
        assert 0 <= start_s < end_s <= len(utterance.waveform) / 16_000
        assert np.abs(utterance.waveform[:700]).max() < 0.02
        assert np.abs(utterance.waveform).max() > 0.1
        drawn[utterance.text, utterance.voice] = utterance.waveform
    assert len(drawn) == 3


def test_two_builds_hold_the_same_bytes(bank, tmp_path):
    reports = []
    other = AudioBank.build(
        tmp_path / "new" / "bank",
        "test",
        **SIZE,
        workers=1,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert reports == [(done, len(CLASSES)) for done in range(len(CLASSES) + 1)]
    assert {p.name for p in other.directory.iterdir()} == set(times(bank))
    for path in bank.directory.iterdir():
        assert path.read_bytes() == (other.directory / path.name).read_bytes()


def test_a_finished_bank_is_reused_and_a_stopped_one_goes_on(bank):
    before = times(bank)
    AudioBank.build(bank.directory, "test", **SIZE)
    assert times(bank) == before
    # As if stopped while the frog was written: no index, half a part.
    (bank.directory / "index.json").unlink()
    part = bank.directory / "frog.json"
    part.write_text(part.read_text()[:100])
    with pytest.raises(FileNotFoundError, match=r"AudioBank\.build"):
        AudioBank.open(bank.directory)
    reports = []
    again = AudioBank.build(
        bank.directory, "test", **SIZE, progress=lambda *counts: reports.append(counts)
    )
    assert reports == [(17, 18), (18, 18)]
    after = times(again)
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"index.json", "frog.json", "frog.sounds.npy", "frog.speech.npy"}
    assert len(again.utterance("frog", np.random.default_rng(0)).waveform) > 4000


def test_other_parameters_make_other_clips(bank, tmp_path, monkeypatch):
    monkeypatch.setattr(audio_bank, "CLASSES", ("clock", "bell"))
    size = {**SIZE, "num_sounds_per_class": 1, "num_utterances_per_class": 1}
    first = AudioBank.build(tmp_path, "train", **size)
    sound = first.sound("bell", np.random.default_rng(0), 64_000)
    second = AudioBank.build(tmp_path, "train", **{**size, "seed": 5})
    assert not np.array_equal(sound, second.sound("bell", np.random.default_rng(0), 64_000))
    # A bank that is open keeps what it has mapped.
    np.testing.assert_array_equal(sound, first.sound("bell", np.random.default_rng(0), 64_000))
    assert json.loads((tmp_path / "index.json").read_text())["seed"] == 5


def test_seeds_of_the_splits_are_disjoint_and_distinct():
    for split, (low, high) in SEED_RANGES.items():
        seeds = audio_bank._distinct_seeds(np.random.default_rng(0), split, 500)
        assert len(set(seeds)) == 500
        assert all(low <= seed < high for seed in seeds)


def test_voices_and_phrases_occur_equally_often():
    order = audio_bank._rounds(8, 20, np.random.default_rng(0))
    assert len(order) == 20
    counts = np.bincount(order, minlength=8)
    assert counts.min() >= 2
    assert counts.max() <= 3


def test_workers_map_the_files_themselves(bank):
    bank.sound("dog", np.random.default_rng(0), 100)
    pickled = pickle.dumps(bank)
    assert len(pickled) < 2000
    np.testing.assert_array_equal(
        pickle.loads(pickled).sound("dog", np.random.default_rng(1), 100),
        bank.sound("dog", np.random.default_rng(1), 100),
    )


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("AV_GROUNDING_CACHE", str(tmp_path))
    assert default_directory() == tmp_path / "synthetic"
    monkeypatch.delenv("AV_GROUNDING_CACHE")
    assert default_directory().parts[-2:] == ("av_grounding", "synthetic")


def test_errors_name_the_remedy(bank, tmp_path):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected one of dog"):
        bank.sound("unicorn", rng, 100)
    with pytest.raises(ValueError, match=r"expected 1\.\.64000"):
        bank.sound("dog", rng, 64_001)
    with pytest.raises(ValueError, match="expected one of train, val, test"):
        AudioBank.build(tmp_path, "holdout", **SIZE)
    with pytest.raises(ValueError, match="num_sounds_per_class 0"):
        AudioBank.build(tmp_path, "train", **{**SIZE, "num_sounds_per_class": 0})
    with pytest.raises(FileNotFoundError, match="audio bank"):
        AudioBank.open(tmp_path / "nothing")
