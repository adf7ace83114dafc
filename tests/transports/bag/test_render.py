"""Rendered clips: every panel shows what it should, the sound is in step, nothing is left over."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from av_grounding.cli import main
from av_grounding.drawing import clip
from av_grounding.drawing.styles import KNOWN
from av_grounding.recording.clock import RecordingClock
from av_grounding.transports.bag.recorder import BagRecorder
from av_grounding.transports.bag.render import _Marks, render_recording
from av_grounding.types import AudioChunk, Frame, Grounding
from tests.helpers import bags, signals
from tests.helpers.answers import answer as head_answer
from tests.helpers.recording import onset_s, pictures, sound_track

START_NS = 1_700_000_000_000_000_000
RATE_HZ = 16_000
NUM_FRAMES = 21
SPEECH_S = (0.8, 1.5)
LEFT = [clip.MARGIN_PX + i * (608 + clip.MARGIN_PX) for i in range(3)]
TOP = clip.HEADER_PX


def answer(index: int) -> Grounding:
    """Sound glows on the upper left from 0.5 s on, speech on the lower right from 1 s on."""
    sound, speech = np.zeros((12, 16), np.float32), np.zeros((12, 16), np.float32)
    if index >= 5:
        sound[2:4, 2:4] = 0.9
    if index >= 10:
        speech[8:10, 12:14] = 0.7
    heads = {"sound": head_answer(sound), "speech": head_answer(speech)}
    return Grounding(heads, START_NS + index * 10**8, "front", (96, 128))


def write_recording(path: Path, close: bool = True, off_ns: int = 0) -> BagRecorder:
    """`off_ns`: by how much one chunk and one frame are stamped wrongly."""
    recorder = BagRecorder(path, is_live=False, flush_s=0.0)
    sound = np.zeros(round(2.1 * RATE_HZ), np.float32)
    first = round(SPEECH_S[0] * RATE_HZ)
    vowel = signals.vowel(SPEECH_S[1] - SPEECH_S[0])
    sound[first : first + vowel.size] = vowel
    image = np.full((96, 128, 3), (40, 160, 90), np.uint8)
    for index in range(NUM_FRAMES):
        for part in range(5):
            begin = index * 1600 + part * 320
            stamp_ns = START_NS + begin * 62_500 + (off_ns if (index, part) == (3, 1) else 0)
            chunk = AudioChunk(sound[begin : begin + 320], stamp_ns, RATE_HZ)
            recorder.take_audio(chunk, recorder.log_time_ns(stamp_ns))
        late_ns = off_ns if index == 6 else 0
        stamp_ns = START_NS + index * 10**8 + late_ns
        logs = [recorder.log_time_ns(stamp_ns) for _ in range(2)]
        answered = answer(index)
        answered = replace(answered, stamp_ns=answered.stamp_ns + late_ns)
        recorder.take_frame(Frame(image, stamp_ns, "front"), answered, *logs)
    if close:
        recorder.close()
    return recorder


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("render")
    write_recording(folder / "r.mcap")
    report = render_recording(folder / "r.mcap", folder / "clip.mp4")
    return report, pictures(folder / "clip.mp4"), sound_track(folder / "clip.mp4"), folder


def panel(image: np.ndarray, column: int) -> np.ndarray:
    rows = round(608 * 96 / 128)
    return image[TOP : TOP + rows, LEFT[column] : LEFT[column] + 608].astype(int)


def cell(column_panel: np.ndarray, row: float, column: float) -> np.ndarray:
    """Mean colour around the middle of a heatmap cell, beside the peak's mark."""
    height, width = column_panel.shape[:2]
    y, x = round(row * height / 12), round(column * width / 16)
    return column_panel[y - 4 : y + 4, x - 4 : x + 4].mean(axis=(0, 1))


def test_the_clip_has_every_frame_at_its_time(rendered):
    report, frames, _, folder = rendered
    assert report["num_frames"] == len(frames) == NUM_FRAMES
    assert report["fault"] is None
    np.testing.assert_allclose([time_s for time_s, _ in frames], np.arange(21) / 10, atol=1e-3)
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "r.mcap"]


def test_the_first_panel_is_the_camera(rendered):
    for index in (0, 12, 20):
        camera = panel(rendered[1][index][1], 0)
        np.testing.assert_allclose(camera.mean(axis=(0, 1)), (40, 160, 90), atol=6)
        assert camera.std(axis=(0, 1)).max() < 6


def test_each_head_glows_in_its_own_panel_at_its_own_place(rendered):
    frames = rendered[1]
    quiet = cell(panel(frames[2][1], 1), 3.5, 3.5)
    sound = panel(frames[12][1], 1)
    speech = panel(frames[12][1], 2)
    # Amber: much more red than blue. Blue: the other way round.
    red, _, blue = cell(sound, 3.7, 3.7) - quiet
    assert red > 40
    assert red - blue > 40
    red, _, blue = cell(speech, 9.7, 13.7) - quiet
    assert blue > 40
    assert blue - red > 40
    for elsewhere in (cell(sound, 9, 13), cell(speech, 3, 3), cell(panel(frames[7][1], 2), 9, 13)):
        np.testing.assert_allclose(elsewhere, quiet, atol=12)


def bar_px(image: np.ndarray, column: int, head: str) -> int:
    """How much of the bar under a panel's title has the head's colour."""
    row = image[61, LEFT[column] : LEFT[column] + 608].astype(int)
    return int((np.abs(row - KNOWN[head].strong).max(axis=1) < 60).sum())


def test_captions_show_the_scores(rendered):
    image = rendered[1][12][1]
    assert bar_px(image, 1, "sound") == pytest.approx(0.9 * 608, abs=20)
    assert bar_px(image, 2, "speech") == pytest.approx(0.7 * 608, abs=20)
    assert bar_px(rendered[1][2][1], 1, "sound") < 10
    title = image[15:45, LEFT[1] : LEFT[1] + 300]
    assert (title.max(axis=2) > 200).sum() > 300


def timeline(image: np.ndarray) -> np.ndarray:
    top = TOP + round(608 * 96 / 128) // 2 * 2 + clip.MARGIN_PX
    return image[top : top + clip.WAVE_PX, clip.MARGIN_PX : -clip.MARGIN_PX].astype(int)


def test_the_timeline_has_a_playhead_and_the_utterance(rendered):
    frames = rendered[1]
    duration_s = 2.1
    width = clip.WIDTH_PX - 2 * clip.MARGIN_PX
    for index in (3, 10, 18):
        strip = timeline(frames[index][1])
        bright = strip[8:].min(axis=(0, 2))
        assert int(bright.argmax()) == pytest.approx(index / 10 / duration_s * width, abs=4)
        assert bright.max() > 150
    strip = timeline(frames[20][1])
    is_marked = strip[1, :, 2] - strip[1, :, 0] > 80
    marked_s = np.flatnonzero(is_marked)[[0, -1]] / width * duration_s
    np.testing.assert_allclose(marked_s, SPEECH_S, atol=0.2)
    assert rendered[0]["num_utterances"] == 1


def test_the_sound_is_in_step(rendered):
    track = rendered[2]
    assert onset_s(track, 0.05) == pytest.approx(SPEECH_S[0], abs=0.03)
    assert len(track) / 48_000 == pytest.approx(2.1, abs=0.1)


def test_a_recording_that_was_never_closed_is_rendered(tmp_path):
    recorder = write_recording(tmp_path / "r.mcap", close=False)
    while recorder.describe()["num_frames"] < NUM_FRAMES:
        time.sleep(0.01)
    copy = tmp_path / "killed.mcap"
    data = (tmp_path / "r.mcap").read_bytes()
    recorder.close()
    copy.write_bytes(data)
    report = render_recording(copy, tmp_path / "clip.mp4")
    assert report["num_frames"] >= NUM_FRAMES - 2
    assert "was not closed" in report["fault"]


@pytest.mark.parametrize("off_ns", [86_400 * 10**9, -START_NS + 4_000 * 10**9])
def test_one_wrong_stamp_makes_no_longer_clip(tmp_path, off_ns):
    write_recording(tmp_path / "r.mcap", off_ns=off_ns)
    began_s = time.process_time()
    report = render_recording(tmp_path / "r.mcap", tmp_path / "clip.mp4")
    assert time.process_time() - began_s < 30.0
    assert (report["num_implausible_frames"], report["num_implausible_chunks"]) == (1, 1)
    assert report["num_frames"] == NUM_FRAMES - 1
    frames = pictures(tmp_path / "clip.mp4")
    expected_s = [index / 10 for index in range(NUM_FRAMES) if index != 6]
    np.testing.assert_allclose([time_s for time_s, _ in frames], expected_s, atol=1e-3)
    track = sound_track(tmp_path / "clip.mp4")
    assert onset_s(track, 0.05) == pytest.approx(SPEECH_S[0], abs=0.03)
    assert len(track) / 48_000 == pytest.approx(2.1, abs=0.1)
    # The playhead is where the time is, although a frame before it is missing.
    strip = timeline(frames[17][1])
    width = clip.WIDTH_PX - 2 * clip.MARGIN_PX
    assert int(strip[8:].min(axis=(0, 2)).argmax()) == pytest.approx(1.8 / 2.1 * width, abs=8)


def test_marks_of_sound_far_apart_take_little_memory():
    clock = RecordingClock()
    marks = _Marks(-50.0, 0.3, clock)
    vowel = signals.vowel(0.5)
    for minute in range(0, 600):
        clock.frame_ns(START_NS + minute * 60 * 10**9)
        if minute in (0, 599):
            marks.push(AudioChunk(vowel, START_NS + minute * 60 * 10**9, RATE_HZ))
    (first, second) = marks.utterances_s()
    assert second[0] - first[0] == pytest.approx(599 * 60, abs=0.1)
    peaks = marks.peaks()
    loud_s = np.flatnonzero(peaks > 0.1) / clip.BINS_PER_S
    assert loud_s[0] < 0.2
    assert loud_s[loud_s > 1.0][0] == pytest.approx(599 * 60, abs=0.2)
    assert sum(piece.nbytes for _, pieces in marks._stretches for piece in pieces) < 100_000


@pytest.mark.parametrize("facts", [{"config": 5}, {"config": {"sound": [1]}}, {"config": {
    "sound": {"threshold": "much"}, "gate": {"min_dbfs": 1e99}}}])  # fmt: skip
def test_strange_facts_of_a_recording_are_no_thresholds(tmp_path, facts):
    recorder = BagRecorder(tmp_path / "r.mcap", facts, is_live=False)
    image = np.full((96, 128, 3), 60, np.uint8)
    for index in range(3):
        stamp_ns = START_NS + index * 10**8
        logs = [recorder.log_time_ns(stamp_ns) for _ in range(2)]
        recorder.take_frame(Frame(image, stamp_ns, "front"), answer(index), *logs)
    recorder.close()
    assert render_recording(tmp_path / "r.mcap", tmp_path / "clip.mp4")["num_frames"] == 3


def test_an_interrupted_clip_leaves_the_old_one(tmp_path):
    write_recording(tmp_path / "r.mcap")
    (tmp_path / "clip.mp4").write_bytes(b"the old one")

    def interrupt(done_s, total_s):
        assert total_s == pytest.approx(2.1)
        if done_s > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_recording(tmp_path / "r.mcap", tmp_path / "clip.mp4", interrupt)
    assert (tmp_path / "clip.mp4").read_bytes() == b"the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "r.mcap"]


def test_what_cannot_be_rendered_is_answered(tmp_path):
    path = bags.robot_bag(tmp_path / "bag", num=2)
    with pytest.raises(ValueError, match=r"no heatmaps in it; .*run bag:.* --record"):
        render_recording(path, tmp_path / "clip.mp4")
    out = tmp_path / "out"
    out.mkdir()
    (out / "heatmaps.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"folder of run --out.*--record FILE.mcap"):
        render_recording(out, tmp_path / "clip.mp4")
    write_recording(tmp_path / "r.mcap")
    with pytest.raises(ValueError, match=r"name it .*clip.mp4"):
        render_recording(tmp_path / "r.mcap", tmp_path / "clip.avi")


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (640, 360), (16, 16)])
def test_any_camera_fits(size):
    timeline = clip.ClipTimeline(100.0, np.zeros(10_000, np.float32))
    canvas = clip.ClipCanvas(size, timeline, {"sound": 0.5, "speech": 0.5})
    frame = Frame(np.full((*size, 3), 99, np.uint8), 0)
    for time_s in (0.0, 50.0, 99.0):
        image = canvas.draw(frame, answer(12).heads, time_s)
        assert image.shape == (*canvas.size, 3)
    assert canvas.size[0] % 2 == 0
    assert canvas.size[0] <= 1080
    # In a long clip the moment stays in the middle while the timeline moves under it.
    assert timeline.window_start_s(50.0) == 30.0
    assert (timeline.window_start_s(5.0), timeline.window_start_s(99.0)) == (0.0, 60.0)


def test_more_heads_than_a_clip_has_room_for_are_refused():
    timeline = clip.ClipTimeline(1.0, np.zeros(100, np.float32))
    heads = dict.fromkeys([f"head{number}" for number in range(clip.MAX_HEADS + 1)], 0.5)
    with pytest.raises(ValueError, match="got 8 heads, expected up to 7"):
        clip.ClipCanvas((480, 640), timeline, heads)
    heads.popitem()
    canvas = clip.ClipCanvas((480, 640), timeline, heads)
    seven = dict.fromkeys(heads, answer(12).heads["sound"])
    image = canvas.draw(Frame(np.full((480, 640, 3), 99, np.uint8), 0), seven, 0.5)
    assert image.shape == (*canvas.size, 3)


def test_run_records_replays_and_renders(tmp_path, capsys):
    """The whole way on the command line, with the shipped model."""
    bag = bags.robot_bag(tmp_path / "bag", num=8)
    fast = "--as-fast-as-possible"
    recorded = str(tmp_path / "r.mcap")
    first = ["run", f"bag:{bag}", fast, "--record", recorded, "--out", str(tmp_path / "a")]
    assert main([*first, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bag"]["num_frames"] == 8
    assert report["bag"]["num_audio_chunks"] > 30
    assert main(["run", f"bag:{recorded}", fast, "--out", str(tmp_path / "b"), "--quiet"]) == 0
    a, b = (np.load(tmp_path / name / "heatmaps.npz") for name in "ab")
    assert len(a["stamp_ns"]) == 8
    for name in a:
        assert a[name].tobytes() == b[name].tobytes()
    assert main(["render", recorded, "--out", str(tmp_path / "clip.mp4"), "--quiet"]) == 0
    assert len(pictures(tmp_path / "clip.mp4")) == 8
    assert sound_track(tmp_path / "b" / "overlay.mp4").size > 0
    assert main(["run", f"bag:{bag}", "--audio", "mic"]) == 2
    assert "expected a topic of the bag" in capsys.readouterr().err
