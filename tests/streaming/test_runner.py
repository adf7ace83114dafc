"""Threads: what is dropped is counted, errors surface, everything is closed."""

import threading
import time

import numpy as np
import pytest

from av_grounding.streaming.handover import AudioQueue
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.runner import Runner
from av_grounding.types import EncodedFrame, Frame
from tests.helpers import signals
from tests.helpers.memory import START_NS, ListSink, ListSource, chunks, frames
from tests.helpers.tiny_backend import TinyBackend

PATIENT_S = 30.0


class GatedBackend(TinyBackend):
    """Encodes images only while a gate is open, so that a test decides when the model is busy."""

    def __init__(self):
        super().__init__()
        self.is_open = threading.Event()
        self.has_begun = threading.Event()

    def encode_image(self, image):
        self.has_begun.set()
        assert self.is_open.wait(PATIENT_S)
        return super().encode_image(image)


class StepSource(ListSource):
    """Waits for an event before every item but the first."""

    def __init__(self, items, may_go_on):
        super().__init__(items)
        self._may_go_on = may_go_on

    def __iter__(self):
        for number, item in enumerate(super().__iter__()):
            if number:
                assert self._may_go_on.wait(PATIENT_S)
            yield item


def make(video, audio=None, sinks=(), backend=None, **arguments):
    arguments.setdefault("max_image_age_s", PATIENT_S)
    stream = GroundingStream(backend or TinyBackend())
    return Runner(stream, video, audio, sinks, **arguments)


def num_threads():
    return sum(thread.name.startswith("av-") for thread in threading.enumerate())


def test_every_frame_is_answered_when_there_is_time():
    sink = ListSink()
    video = ListSource(frames(20), interval_s=0.02)
    audio = ListSource(chunks(signals.scene()), interval_s=0.001, endless=True)
    report = make(video, audio, [sink]).run()
    assert report.num_frames_captured == 20
    assert report.num_frames_published == len(sink.results) > 0
    dropped = report.num_frames_replaced + report.num_frames_too_old
    assert report.num_frames_published + dropped + report.num_frames_unanswered == 20
    assert report.num_frames_unanswered == 0
    assert report.latency.count == report.num_frames_published
    stamps = [heatmaps.stamp_ns for _, heatmaps in sink.results]
    assert stamps == sorted(stamps)
    assert stamps[-1] == frames(20)[-1].stamp_ns
    assert all(frame.stamp_ns == heatmaps.stamp_ns for frame, heatmaps in sink.results)
    assert any(heatmaps.sound.any() for _, heatmaps in sink.results)
    assert (video.num_closed, audio.num_closed, sink.num_closed) == (1, 1, 1)
    assert num_threads() == 0


def test_the_newest_frame_wins_and_the_others_are_counted():
    backend, sink = GatedBackend(), ListSink()
    video = StepSource(frames(12), backend.has_begun)
    runner = make(video, None, [sink], backend)
    opener = threading.Thread(target=lambda: _open_once_given(backend, video, 12))
    opener.start()
    report = runner.run()
    opener.join()
    # While the model was busy with frame 0, frames 1 to 11 came by; only the last one stayed.
    stamps = [heatmaps.stamp_ns for _, heatmaps in sink.results]
    assert stamps == [frames(12)[0].stamp_ns, frames(12)[11].stamp_ns]
    assert report.num_frames_replaced == 10
    assert report.num_frames_captured == 12


def _open_once_given(backend, video, num):
    assert backend.has_begun.wait(PATIENT_S)
    deadline_s = time.monotonic() + PATIENT_S
    while video.num_given < num and time.monotonic() < deadline_s:
        time.sleep(0.001)
    time.sleep(0.05)
    backend.is_open.set()


def test_a_frame_that_is_too_old_at_its_turn_is_dropped():
    came_s = time.monotonic()
    picture = signals.picture()

    def late(number, delay_s):
        stamp_ns = START_NS + number
        return EncodedFrame(stamp_ns, lambda: Frame(picture, stamp_ns), came_s - delay_s)

    video = ListSource([late(0, 3600.1), late(1, 3599.0)], interval_s=0.3)
    sink = ListSink()
    report = make(video, None, [sink], max_image_age_s=3600.0).run()
    assert [heatmaps.stamp_ns for _, heatmaps in sink.results] == [START_NS + 1]
    assert report.num_frames_too_old == 1
    assert report.num_published_late == 0


@pytest.mark.parametrize("offset_s", [-3600.0, -2.0, -0.15, 3600.0])
def test_a_frame_is_as_old_as_its_arrival_whatever_its_stamp_says(offset_s):
    now_ns = time.time_ns() + round(offset_s * 1e9)
    given = [Frame(signals.picture(), now_ns + 20_000_000 * i) for i in range(10)]
    sink = ListSink()
    video = ListSource(given, interval_s=0.05)
    report = make(video, None, [sink], max_image_age_s=PATIENT_S).run()
    assert report.num_frames_too_old == report.num_published_late == 0
    assert report.num_frames_published + report.num_frames_replaced == 10
    assert sink.results[-1][1].stamp_ns == given[-1].stamp_ns


def test_age_is_taken_at_the_turn_not_at_arrival():
    backend, sink = GatedBackend(), ListSink()
    video = StepSource(frames(2, rate_hz=1_000.0), backend.has_begun)
    opener = threading.Thread(
        target=lambda: _open_after(backend, video, lambda: time.sleep(0.3)), daemon=True
    )
    opener.start()
    report = make(video, None, [sink], backend, max_image_age_s=0.2).run()
    opener.join()
    assert [heatmaps.stamp_ns for _, heatmaps in sink.results] == [START_NS]
    assert report.num_published_late == 1
    assert report.num_frames_too_old == 1


def _open_after(backend, video, action):
    deadline_s = time.monotonic() + PATIENT_S
    assert backend.has_begun.wait(PATIENT_S)
    while video.num_given < 2 and time.monotonic() < deadline_s:
        time.sleep(0.001)
    time.sleep(0.05)
    action()
    backend.is_open.set()


def test_no_audio_is_lost_while_the_model_is_busy():
    backend = GatedBackend()
    wave = signals.scene()
    audio = ListSource(chunks(wave))
    video = StepSource(frames(2), backend.has_begun)
    runner = make(video, audio, [], backend)
    opener = threading.Thread(target=lambda: _open_once_given(backend, audio, len(chunks(wave))))
    opener.start()
    report = runner.run()
    opener.join()
    assert report.num_audio_overruns == 0
    assert report.num_audio_chunks == len(chunks(wave))
    assert report.stream["num_gaps"] == report.stream["num_overlaps"] == 0


def test_a_full_audio_queue_drops_the_oldest_and_counts():
    queue = AudioQueue(max_s=0.1)
    ten = chunks(signals.hiss(0.2))
    assert [queue.put(chunk) for chunk in ten] == [0] * 5 + [1] * 5
    assert queue.num_overruns == 5
    assert queue.queued_s == pytest.approx(0.1)
    kept = [queue.take() for _ in range(6)]
    assert [c.stamp_ns for c in kept[:5]] == [c.stamp_ns for c in ten[5:]]
    assert kept[5] is None
    assert queue.queued_s == 0.0


@pytest.mark.parametrize("fails", ["video", "audio", "sink", "model"])
def test_errors_surface_and_everything_is_closed(fails):
    error = OSError("the device is gone")
    sink = ListSink(fail_at=0 if fails == "sink" else None, error=error)
    video = ListSource(frames(3), endless=True, error=error if fails == "video" else None)
    audio = ListSource(
        chunks(signals.scene())[:5], endless=True, error=error if fails == "audio" else None
    )
    backend = TinyBackend()
    runner = make(video, audio, [sink], backend)
    if fails == "model":

        def fail(image):
            raise error

        backend.encode_image = fail
    with pytest.raises(OSError, match="the device is gone"):
        runner.run()
    assert (video.num_closed, audio.num_closed, sink.num_closed) == (1, 1, 1)
    assert num_threads() == 0
    assert runner.report.stream["num_audio_resets"] == 0


def test_ctrl_c_closes_everything_and_is_raised():
    sink = ListSink(fail_at=2, error=KeyboardInterrupt())
    video = ListSource(frames(50), interval_s=0.01)
    audio = ListSource(chunks(signals.scene()), endless=True)
    runner = make(video, audio, [sink])
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert (video.num_closed, audio.num_closed, sink.num_closed) == (1, 1, 1)
    assert len(sink.results) == runner.report.num_frames_published == 2
    assert num_threads() == 0


def test_a_sink_that_fails_to_close_does_not_keep_the_others_open():
    class Unclosable(ListSink):
        def close(self):
            super().close()
            raise OSError("no space left on device")

    sinks = [Unclosable(), ListSink()]
    with pytest.raises(OSError, match="no space left"):
        make(ListSource(frames(2)), None, sinks).run()
    assert [sink.num_closed for sink in sinks] == [1, 1]


def test_stop_from_another_thread_ends_a_run_that_would_not_end():
    video, sink = ListSource(frames(2), endless=True), ListSink()
    runner = make(video, ListSource([], endless=True), [sink])
    timer = threading.Timer(0.2, runner.stop)
    timer.start()
    report = runner.run()
    assert report.num_frames_published == len(sink.results) >= 1
    assert sink.num_closed == 1
    assert num_threads() == 0


def test_paced_sources_share_one_epoch():
    # Video stamps begin half a second after the audio's.
    sink = ListSink()
    video = ListSource(frames(4, 20.0, START_NS + 500_000_000))
    audio = ListSource(chunks(signals.vowel(1.0), 1_600))
    begun = time.monotonic()
    report = make(video, audio, [sink], is_paced=True).run()
    assert time.monotonic() - begun >= 0.65
    assert report.num_frames_published == 4
    # The first frame has 0.5 s of sound before it, of which two hops at least have come.
    assert all(heatmaps.sound.any() for _, heatmaps in sink.results[1:])


def test_a_paced_source_that_ends_or_fails_at_once_does_not_block_the_other():
    report = make(ListSource(frames(3)), ListSource([]), [], is_paced=True).run()
    assert report.num_frames_captured == 3
    with pytest.raises(OSError, match="corrupt"):
        make(
            ListSource(frames(3)), ListSource([], error=OSError("corrupt")), [], is_paced=True
        ).run()


def test_duration_ends_a_live_run():
    video = ListSource(frames(1_000, 100.0), interval_s=0.002)
    report = make(video, None, [], duration_s=0.1).run()
    assert report.num_frames_captured == 10
    assert video.num_given <= 12


def test_slow_sinks_cost_frames_but_never_results():
    sink = ListSink(delay_s=0.03)
    report = make(ListSource(frames(30), interval_s=0.003), None, [sink]).run()
    assert report.num_frames_published == len(sink.results)
    total = report.num_frames_published + report.num_frames_replaced + report.num_frames_too_old
    assert total == report.num_frames_captured == 30


def test_swapped_sources_are_named():
    with pytest.raises(TypeError, match="expected Frame"):
        make(ListSource(chunks(signals.scene()))).run()


def test_ages_must_be_positive():
    with pytest.raises(ValueError, match="expected positive seconds"):
        make(ListSource([]), max_image_age_s=0.0)


def test_zero_rate_chunks_surface_as_errors():
    bad = [type(chunks(signals.scene())[0])(np.zeros(10, np.float32), START_NS, 0)]
    with pytest.raises(ValueError, match="not kHz"):
        make(ListSource(frames(2), endless=True), ListSource(bad, endless=True)).run()


class SlowListener(TinyBackend):
    """Needs longer for a window of sound than the step between windows: it never catches up."""

    def encode_audio(self, waveform):
        time.sleep(2 * self.spec.hop_s)
        return super().encode_audio(waveform)


def test_frames_are_answered_although_audio_never_catches_up():
    backend, sink = SlowListener(), ListSink()
    duration_s = 25 * backend.spec.hop_s
    waveform = signals.hiss(duration_s)
    video = ListSource(frames(int(20 * duration_s), rate_hz=20.0), interval_s=0.05)
    audio = ListSource(chunks(waveform), interval_s=0.02)
    run = make(video, audio, [sink], backend)
    report = run.run()
    # Late audio takes a window at most before a frame has its turn, to the end of the run.
    late_ns = START_NS + 0.5e9 * duration_s
    assert sum(frame.stamp_ns > late_ns for frame, _ in sink.results) >= 3
    assert report.num_frames_replaced > 0


def test_counters_can_be_read_while_it_runs_and_agree_with_the_report():
    seen = []

    class Looking(ListSink):
        def write(self, frame, heatmaps):
            super().write(frame, heatmaps)
            seen.append(runner.counters)

    video, audio = ListSource(frames(12), interval_s=0.01), ListSource(chunks(signals.hiss(0.2)))
    runner = make(video, audio, [Looking()])
    assert runner.counters["num_frames_captured"] == 0
    report = runner.run()
    published = [counters["num_frames_published"] for counters in seen]
    assert published == list(range(len(published)))
    captured = [counters["num_frames_captured"] for counters in seen]
    assert captured == sorted(captured)
    final = runner.counters
    assert final["stream"] == report.stream
    for name in final.keys() - {"queued_audio_s", "stream"}:
        assert final[name] == getattr(report, name)
    assert final["num_audio_chunks"] == 10
