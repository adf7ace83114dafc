"""What a client is told: everything once, a minute of it at first, and anew after a jump."""

from dataclasses import replace

import numpy as np
import pytest

from av_grounding.types import Frame, HeadAnswer
from av_grounding.viewer.feed import MAX_WARNINGS, Cursor, Feed, Series, Shot, merge_spans
from av_grounding.viewer.picture import MAX_GRID, MAX_SIDE_PX, encode
from tests.helpers.answers import answer as head_answer
from tests.helpers.live_client import START_NS, THRESHOLDS, answer, marks


def test_a_series_tells_what_is_new_and_still_kept():
    series = Series(3)
    assert series.since(0) == []
    for number in range(5):
        series.append(number)
    assert series.since(0) == [2, 3, 4]
    assert series.since(4) == [4]
    assert series.since(5) == []


def test_everything_is_told_once():
    feed = Feed(THRESHOLDS)
    feed.add_answer(*answer(0), 12.34)
    feed.add_answer(*answer(1), None)
    news, cursor = feed.news(Cursor())
    scores = [round(answer(number)[1].score("sound"), 4) for number in (0, 1)]
    assert [tuple(p) for p in news["points"]] == [
        (0.0, 12.3, scores[0], 0.75),
        (66.7, None, scores[1], 0.75),
    ]
    assert news["origin_unix_ms"] == START_NS // 10**6
    again, cursor = feed.news(cursor)
    assert "points" not in again
    feed.add_answer(*answer(2), 1.0)
    (point,) = feed.news(cursor)[0]["points"]
    assert point[0] == 133.3


def test_no_more_than_the_last_minute_is_told():
    feed = Feed(THRESHOLDS)
    for number in range(15 * 90):
        feed.add_answer(*answer(number), 1.0)
    news, _ = feed.news(Cursor())
    assert news["now_ms"] - 60_000 <= news["points"][0][0] < news["now_ms"] - 59_900
    assert len(news["points"]) == 15 * 60


def test_marks_come_with_their_times_and_utterances_as_they_grow():
    feed = Feed(THRESHOLDS)
    feed.add_answer(*answer(0), 1.0)
    feed.add_voice(marks(0.1, [-60, -12.4], [0, 1], [(0.12, 0.14)]))
    news, cursor = feed.news(Cursor())
    (told,) = news["voice"]
    assert told == {"t": 100.0, "step_ms": 20.0, "level_dbfs": [-60, -12], "is_voiced": [0, 1]}
    assert news["utterances"] == [[120, 140]]
    feed.add_voice(marks(0.14, [-10], [1], [(0.1205, 0.5)]))
    feed.add_voice(marks(2.0, [-10], [1], [(0.1205, 0.5), (1.0, 2.0)]))
    news, _ = feed.news(cursor)
    assert news["utterances"] == [[120, 500], [1000, 2000]]
    assert len(news["voice"]) == 2


def test_spans_that_touch_become_one():
    assert merge_spans([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]
    assert merge_spans([]) == []


@pytest.mark.parametrize("jump_s", [-30.0, 400.0])
def test_a_jump_of_the_stamps_starts_anew(jump_s):
    feed = Feed(THRESHOLDS)
    feed.add_answer(*answer(0), 1.0)
    first, cursor = feed.news(Cursor())
    feed.add_answer(*answer(0, start_ns=START_NS + round(1e9 * jump_s)), 1.0)
    news, _ = feed.news(cursor)
    assert news["epoch"] != first["epoch"]
    assert [point[0] for point in news["points"]] == [0.0]


@pytest.mark.parametrize("apart_s", [-30.0, 30.0])
def test_sound_that_is_far_from_the_frames_wipes_nothing(apart_s):
    """A model that is too slow, or two clocks: what is plotted must not come and go."""
    feed = Feed(THRESHOLDS)
    epochs = set()
    for number in range(20):
        feed.add_answer(*answer(number), 1.0)
        feed.add_voice(marks(apart_s + number / 10, [-20], [1]))
        epochs.add(feed.news(Cursor())[0]["epoch"])
    news, _ = feed.news(Cursor())
    assert len(epochs) == 1
    assert len(news["points"]) == len(news["voice"]) == 20
    assert news["points"][0][0] == 0.0
    assert news["voice"][0]["t"] == 1e3 * apart_s


def test_small_steps_back_are_no_jump():
    feed = Feed(THRESHOLDS)
    feed.add_answer(*answer(30), 1.0)
    first, cursor = feed.news(Cursor())
    feed.add_answer(*answer(15), 1.0)
    news, _ = feed.news(cursor)
    assert news["epoch"] == first["epoch"]
    assert news["points"][0][0] == -1000.0


def test_warnings_count_up_and_are_bounded():
    feed = Feed(THRESHOLDS)
    for number in range(3 * MAX_WARNINGS):
        feed.add_warning(f"warning {number}")
    feed.add_warning("the  same\nagain " + "x" * 1000)
    feed.add_warning("the  same\nagain " + "x" * 1000)
    told = feed.news(Cursor())[0]["warnings"]
    assert len(told) == MAX_WARNINGS
    assert told[-1]["count"] == 2
    assert told[-1]["text"].startswith("the same again x")
    assert len(told[-1]["text"]) <= 300


def test_the_same_counters_are_no_news():
    feed = Feed(THRESHOLDS)
    feed.set_counters({"a": 1})
    news, cursor = feed.news(Cursor())
    assert news["counters"] == {"a": 1}
    feed.set_counters({"a": 1})
    assert "counters" not in feed.news(cursor)[0]
    feed.set_counters({"a": 2})
    assert feed.news(cursor)[0]["counters"] == {"a": 2}


def test_pictures_are_bounded_and_faulty_cells_become_numbers():
    import cv2

    frame, heatmaps = answer(0)
    image = np.zeros((900, 2000, 3), np.uint8)
    image[..., 0] = 200
    large = np.zeros((300, 600), np.float32)
    large[100:200, 300:600] = 0.8
    speech = HeadAnswer(np.array([[[np.nan, 30.0], [-30.0, 0.0]]], np.float32))
    heads = {"sound": head_answer(large), "speech": speech}
    shot = Shot(1, Frame(image, frame.stamp_ns), replace(heatmaps, heads=heads), 0.0)
    picture = encode(shot)
    jpeg, sound, speech = picture.blobs
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (576, MAX_SIDE_PX, 3)
    assert decoded[300, 300, 2] > 190 > 20 > decoded[300, 300, 0]  # BGR: red stayed red
    assert (picture.header["width"], picture.header["height"]) == (2000, 900)
    described = picture.header["heads"]["sound"]
    assert (described["h"], described["w"]) == (64, MAX_GRID)
    grid = np.frombuffer(sound, np.uint8).reshape(64, MAX_GRID)
    assert grid[32, 100] == 204
    assert grid[5, 100] == grid[32, 5] == 0
    assert np.frombuffer(speech, np.uint8).tolist() == [0, 255, 0, 128]
    (of_map,) = picture.header["heads"]["speech"]["maps"]
    assert (of_map["peak"], of_map["value"]) == ([0.75, 0.25], 1.0)
