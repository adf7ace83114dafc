"""Percentiles from the histogram against exact ones."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.streaming.report import LatencyHistogram, RunReport


@given(st.lists(st.floats(2e-4, 50.0), min_size=1, max_size=200), st.floats(0.0, 100.0))
def test_percentiles_are_right_to_two_percent(durations, percent):
    histogram = LatencyHistogram()
    for duration in durations:
        histogram.record(duration)
    exact = np.percentile(durations, percent, method="inverted_cdf")
    assert histogram.percentile(percent) == pytest.approx(exact, rel=0.021)
    assert histogram.count == len(durations)


def test_extremes_and_nothing():
    histogram = LatencyHistogram()
    assert np.isnan(histogram.percentile(50))
    assert histogram.summary_ms() == {"p50": None, "p90": None, "p99": None}
    for duration in (0.0, -1.0, 1e9):
        histogram.record(duration)
    assert histogram.count == 3


def test_report_is_json():
    report = RunReport(num_frames_published=30, duration_s=2.0, stream={"drift_ppm": 1.5})
    report.latency.record(0.01)
    values = json.loads(json.dumps(report.as_dict()))
    assert values["frame_rate_hz"] == 15.0
    assert values["latency_ms"]["p50"] == pytest.approx(10.0, rel=0.021)
    assert values["stream"] == {"drift_ppm": 1.5}
