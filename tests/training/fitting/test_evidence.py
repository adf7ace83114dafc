import numpy as np
import pytest

from av_grounding.training.fitting.evidence_floor import fit_floor, window_around


def test_the_floor_is_half_of_what_nearly_all_wanted_clips_reach(caplog):
    wanted = np.concatenate([[0.01], np.full(99, 0.8)])
    assert fit_floor(wanted, np.array([0.1, 0.3])) == pytest.approx(0.4)
    assert caplog.text == ""


def test_a_head_that_hears_what_it_should_not_is_reported(caplog):
    fit_floor(np.full(10, 0.9), np.array([0.1, 0.8, 0.9]))
    assert "67 %" in caplog.text


def test_the_window_stays_inside_the_clip():
    assert window_around((0.0, 0.2), 50_000, 40_000) == 0
    assert window_around((2.9, 3.1), 50_000, 40_000) == 10_000
    assert window_around((1.5, 1.7), 50_000, 40_000) == round(1.6 * 16_000) - 20_000
    assert window_around((0.5, 0.7), 30_000, 40_000) == 0
