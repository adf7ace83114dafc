"""Duets and trios of sampled instruments: sums of what is marked in one picture."""

import json

import numpy as np
import pytest
from scipy.io import wavfile

from av_grounding.cli import main
from av_grounding.evaluation.benchmarks import open_benchmark
from av_grounding.everyday.ensemble import SHOWN
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES
from av_grounding.everyday.playing import missing

if missing() or not all(FOLDERS[name].is_dir() for name in PACKAGES):
    pytest.skip(
        f"needs {', '.join(PACKAGES)}, fluidsynth, fluid-soundfont-gm", allow_module_level=True
    )


@pytest.mark.parametrize(("kind", "num"), [("duet", 2), ("trio", 3)])
def test_an_ensemble_is_the_sum_of_what_its_picture_marks(kind, num):
    benchmark = open_benchmark(f"everyday-instrument-{kind}", num=2, seed=0)
    sample = benchmark[1]
    assert len({one.class_name for one in sample.sources}) == num
    assert {one.class_name for one in sample.sources} <= set(SHOWN)
    masks = np.stack([one.load_mask() for one in sample.sources]) > 0
    assert masks.shape == (num, 480, 640)
    assert masks.sum(axis=0).max() == 1
    assert (masks.sum(axis=(1, 2)) > 500).all()
    parts = [one.load_clip().waveform for one in sample.sources]
    mixture = sample.load_mixture()
    assert mixture.sample_rate_hz == 16_000
    np.testing.assert_allclose(mixture.waveform, np.sum(parts, axis=0), atol=1e-6)
    again = open_benchmark(f"everyday-instrument-{kind}", num=2, seed=0)[1]
    np.testing.assert_array_equal(again.load_mixture().waveform, mixture.waveform)


def test_ensembles_are_written_and_a_stopped_call_goes_on(tmp_path):
    call = ["synth", "--ensembles", "--split", "test", "--seed", "3", "--quiet"]
    assert main([*call, "--num", "1", "--out", str(tmp_path)]) == 0
    assert main([*call, "--num", "2", "--out", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [len(row["objects"]) for row in rows] == [2, 3]
    for row in rows:
        _, mixture = wavfile.read(tmp_path / row["mixture_wav"])
        parts = [wavfile.read(tmp_path / one["wav"])[1] for one in row["objects"]]
        difference = np.sum(parts, axis=0, dtype=np.int32) - mixture
        assert np.abs(difference).max() <= 2
        assert all((tmp_path / one["mask"]).is_file() for one in row["objects"])
