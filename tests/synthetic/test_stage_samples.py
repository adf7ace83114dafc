"""Stages with their mixtures: what is drawn, written and resumed."""

import json

import cv2
import numpy as np
import pytest
from scipy.io import wavfile

from av_grounding.cli import main
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.stage_samples import stage_samples, write_stages

pytestmark = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)


def test_a_sample_depends_on_its_number_alone():
    first, second = stage_samples(2, 4, "test")
    (again,) = stage_samples(2, 4, "test", first=1)
    np.testing.assert_array_equal(again.image, second.image)
    np.testing.assert_array_equal(again.mixture, second.mixture)
    assert not np.array_equal(first.image, second.image)
    assert 1 <= len(first.sounding) <= 3
    assert first.masks[first.stage.slots("sounding")[0]].any()
    assert active_rms(first.absent) > 0.01
    assert np.abs(first.mixture).max() <= 1.0


def test_what_is_written_can_be_read_and_an_interrupted_set_goes_on(tmp_path):
    manifest = write_stages(tmp_path / "whole", 3, 4, "test")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    for row, sample in zip(rows, stage_samples(3, 4, "test"), strict=True):
        image = cv2.imread(str(tmp_path / "whole" / row["image"]))
        np.testing.assert_array_equal(image[..., ::-1], sample.image)
        rate_hz, pcm = wavfile.read(tmp_path / "whole" / row["mixture_wav"])
        assert rate_hz == 16_000
        np.testing.assert_allclose(pcm / 32767, sample.mixture, atol=2e-5)
        roles = [entry["role"] for entry in row["objects"]]
        assert roles.count("sounding") == len(sample.sounding)
        for entry, mask in zip(row["objects"], sample.masks, strict=True):
            drawn = cv2.imread(str(tmp_path / "whole" / entry["mask"]), cv2.IMREAD_GRAYSCALE)
            np.testing.assert_array_equal(drawn > 0, mask)
    options = ["--num", "3", "--seed", "4", "--split", "test", "--stages", "--quiet"]
    write_stages(tmp_path / "stopped", 1, 4, "test")
    assert main(["synth", "--out", str(tmp_path / "stopped"), *options]) == 0
    assert (tmp_path / "stopped" / "manifest.jsonl").read_text() == manifest.read_text()


def test_kinds_of_samples_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["synth", "--stages", "--demo", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
