"""`av-grounding run --view`: the option, the endless demo, and a run that is watched."""

import argparse
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from av_grounding.cli import build_parser, main, run_view
from tests.helpers.live_client import PATIENT_S, run


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["demo"], None), (["demo", "--view"], ""), (["demo", "--view", "0.0.0.0:9"], "0.0.0.0:9")],
)
def test_the_option(words, expected):
    assert build_parser().parse_args(["run", *words]).view == expected


def test_a_wrong_address_is_a_mistake_in_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "demo", "--view", "host:99999"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "0 to 65535" in told
    assert told.count("\n") == 1


def test_other_names_are_given_one_by_one(capsys):
    words = ["demo", "--view", "--view-host", "robot.lan", "--view-host", "[::1]:9"]
    assert build_parser().parse_args(["run", *words]).view_host == ["robot.lan", "[::1]:9"]
    with pytest.raises(SystemExit):
        main(["run", "demo", "--view", "--view-host", "http://robot.lan/"])
    told = capsys.readouterr().err
    assert "expected a host as the browser shows it" in told
    assert told.count("\n") == 1
    args = argparse.Namespace(view=None, view_host=["robot.lan"])
    with pytest.raises(ValueError, match="add --view"):
        run_view.open_page(args, None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["demo", "--view"], True),
        (["demo"], False),
        (["demo", "--view", "--duration", "3"], False),
        (["demo", "--view", "--out", "x"], False),
        (["demo", "--view", "--audio", "none"], False),
        (["demo", "--view", "--as-fast-as-possible"], False),
        (["clip.mp4", "--view"], False),
    ],
)
def test_only_a_demo_that_is_watched_repeats(words, expected):
    assert run_view.is_endless(build_parser().parse_args(["run", *words])) is expected


def test_a_run_without_the_option_loads_no_server():
    args = argparse.Namespace(view=None, view_host=[])
    assert run_view.open_page(args, None, None) == []
    script = (
        "import sys; from av_grounding.cli import build_parser; build_parser();"
        "print('aiohttp' in sys.modules, 'segno' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.split() == ["False", "False"]


def test_a_watched_demo_shows_frames_sound_and_counters_until_ctrl_c(tmp_path):
    import aiohttp

    from av_grounding.viewer.messages import PROTOCOL, unpack

    config = tmp_path / "patient.yaml"
    config.write_text("/**:\n  ros__parameters:\n    max_image_age_ms: 60000.0\n")
    token = "a-token-of-some-length"
    command = [
        sys.executable,
        "-m",
        "av_grounding",
        "run",
        "demo",
        "--view",
        "0.0.0.0:0",
        "--quiet",
    ]
    process = subprocess.Popen(
        [*command, "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "AV_GROUNDING_VIEW_TOKEN": token, "OMP_NUM_THREADS": "1"},
    )

    async def watch(port):
        seen = {}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}/live", max_msg_size=0) as socket,
        ):
            await socket.send_json({"type": "hello", "protocol": PROTOCOL, "token": token})
            seen["hello"] = unpack(await socket.receive_bytes())[0]["hello"]
            while not {"frame", "voice", "counters"} <= seen.keys():
                header, _ = unpack(await socket.receive_bytes(timeout=PATIENT_S))
                seen.update({name: value for name, value in header.items() if value})
                await socket.send_json({"type": "ack"})
        return seen

    try:
        for line in process.stderr:
            if found := re.search(rf"http://127\.0\.0\.1:(\d+)/#{token}", line):
                break
        seen = run(watch(found[1]))
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENT_S) == 130
    finally:
        process.kill()
        process.stderr.close()
    assert seen["hello"]["facts"] == {
        "source": "demo",
        "model": "synthetic-small",
        "backend": "torch cpu",
    }
    assert (seen["frame"]["width"], seen["frame"]["height"]) == (640, 480)
    assert seen["counters"]["num_frames_captured"] >= 1
    assert seen["counters"]["stream"]["num_audio_chunks"] >= 1
    assert seen["points"][0][1] > 0  # a latency


def test_the_endless_demo_goes_round(monkeypatch):
    from av_grounding.sources import demo
    from av_grounding.sources.playback import PlaybackClock
    from av_grounding.synthetic import demo_scene

    monkeypatch.setattr(demo_scene.DemoScene, "waveform", np.arange(64, dtype=np.float32) / 64)
    monkeypatch.setattr(demo_scene.DemoScene, "duration_s", 0.2)
    monkeypatch.setattr(demo.time, "time_ns", lambda: 10**18)  # however long drawing takes
    monkeypatch.setattr(PlaybackClock, "wait", lambda self, media_ns, closed: not closed.is_set())
    video, audio = demo.open_endless_demo()
    assert not hasattr(video, "duration_s")
    frames = [frame for frame, _ in zip(video, range(4), strict=False)]
    np.testing.assert_array_equal(frames[0].image, frames[3].image)
    assert np.abs(frames[0].image.astype(int) - frames[2].image).max() > 10
    chunks = [chunk for chunk, _ in zip(audio, range(3), strict=False)]
    assert chunks[1].samples[0] == chunks[0].samples[demo.SAMPLE_RATE_HZ // 50 % 64]
    video.close()
    audio.close()


def test_the_endless_demo_leaves_out_what_it_is_too_late_for(monkeypatch):
    from av_grounding.sources import demo as demo_source
    from av_grounding.sources.playback import PlaybackClock
    from av_grounding.synthetic.demo_scene import DemoScene

    clock = PlaybackClock(realtime=True)
    start_ns = clock.stamp(0)
    now_ns = [start_ns]
    monkeypatch.setattr(demo_source.time, "time_ns", lambda: now_ns[0])
    monkeypatch.setattr(PlaybackClock, "wait", lambda self, media_ns, closed: True)
    demo = demo_source.EndlessDemo(DemoScene(height_px=48, width_px=64), clock)
    stamps = []
    for frame, late_s in zip(demo, (0.0, 0.05, 1.01, 0.0), strict=False):
        stamps.append((frame.stamp_ns - start_ns) / 1e9)
        now_ns[0] = frame.stamp_ns + round(1e9 / 15) + round(1e9 * late_s)
    assert np.diff(stamps) == pytest.approx([1 / 15, 1 / 15, 1.0 + 1 / 15], abs=1e-6)
    demo.close()
    assert list(demo) == []
