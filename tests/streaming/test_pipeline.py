"""The stream as a whole: cuts, jitter, the long way round, gates, and bad input."""

import functools
import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.audio import resample
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from tests.helpers import signals
from tests.helpers.reference import stream_maps
from tests.helpers.tiny_backend import TinyBackend

START_NS = 1_700_000_000_000_000_000
IMAGE = signals.picture()
RATES_HZ = (16_000, 22_050, 32_000, 44_100, 48_000)


def play(stream, waveform, rate_hz, sizes, frames_s, jitter_s=None, image=IMAGE):
    """Push chunks (then the rest), each frame as soon as the sound up to it is in."""
    position, answers, frames_s = 0, [], list(frames_s)
    sizes = [*sizes, waveform.shape[0]]
    for number, size in enumerate(sizes):
        chunk = waveform[position : position + size]
        offset_s = 0.0 if jitter_s is None else jitter_s[number % len(jitter_s)]
        stamp_ns = START_NS + round((position / rate_hz + offset_s) * 1e9)
        stream.push_audio(chunk, stamp_ns, rate_hz)
        position += len(chunk)
        while frames_s and frames_s[0] <= position / rate_hz:
            stamp_ns = START_NS + round(frames_s.pop(0) * 1e9)
            answers.append(stream.push_frame(image, stamp_ns))
    return answers


def as_bytes(answers):
    return [
        (a.sound.tobytes(), a.speech.tobytes(), a.score("sound"), a.score("speech"), a.stamp_ns)
        for a in answers
    ]


# 71 ms and the hop of 200 ms share no period: frames come at every phase of the hop.
FRAMES_S = [0.071 * i for i in range(3, 62)]


@pytest.fixture(scope="module")
def whole():
    """Answers to the scene pushed in one piece, per sample rate."""
    answers = {}
    for rate_hz in RATES_HZ:
        stream = GroundingStream(TinyBackend())
        answers[rate_hz] = play(stream, signals.scene(rate_hz), rate_hz, [], FRAMES_S)
        assert len(answers[rate_hz]) == len(FRAMES_S)
        assert sum(a.sound.any() for a in answers[rate_hz]) > 30
        assert sum(a.speech.any() for a in answers[rate_hz]) > 20
        assert any(not a.speech.any() for a in answers[rate_hz])
    return answers


CHUNK_SIZES_S = st.lists(
    st.one_of(st.just(0.0), st.floats(0.0, 0.05), st.floats(0.05, 2.0)), max_size=60
)


@settings(max_examples=20, deadline=None)
@given(rate_hz=st.sampled_from(RATES_HZ), sizes_s=CHUNK_SIZES_S, num_single=st.integers(0, 400))
def test_heatmaps_do_not_depend_on_the_cut(whole, rate_hz, sizes_s, num_single):
    sizes = [max(1, round(size_s * rate_hz)) for size_s in sizes_s] + [1] * num_single
    stream = GroundingStream(TinyBackend())
    answers = play(stream, signals.scene(rate_hz), rate_hz, sizes, FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[rate_hz])


@functools.cache
def steady(rate_hz):
    """Times of frames in s, and their answers where no stamp is off.

    Frames lie where the horizon is in the middle of a hop: nearer to its edge than the jitter no
    method can know on which side a frame truly is.
    """
    stream = GroundingStream(TinyBackend())
    stream.push_audio(np.zeros(1, np.float32), 0, rate_hz)
    delay_s = stream._timeline._resampler.delay_samples / 16_000 + stream.config.stamp_guard_s
    frames_s = [0.1 + delay_s + 0.2 * i for i in range(20)]
    wave = signals.scene(rate_hz)
    return frames_s, play(GroundingStream(TinyBackend()), wave, rate_hz, [], frames_s)


@settings(max_examples=12, deadline=None)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    size_s=st.floats(0.005, 2.0),
    jitter_s=st.lists(st.floats(-0.025, 0.025), min_size=1, max_size=30),
)
def test_heatmaps_do_not_depend_on_jitter(rate_hz, size_s, jitter_s):
    frames_s, expected = steady(rate_hz)
    sizes = [round(size_s * rate_hz)] * int(4.4 / size_s)
    stream = GroundingStream(TinyBackend())
    answers = play(stream, signals.scene(rate_hz), rate_hz, sizes, frames_s, jitter_s)
    assert as_bytes(answers) == as_bytes(expected)
    assert stream.stats["num_gaps"] == stream.stats["num_overlaps"] == 0


def test_sound_that_is_pushed_ahead_waits_for_its_frame(whole):
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.scene(), START_NS, 16_000)
    answers = [stream.push_frame(IMAGE, START_NS + round(s * 1e9)) for s in FRAMES_S]
    assert as_bytes(answers) == as_bytes(whole[16_000])


@pytest.mark.parametrize("salience_power", [0.0, 1.0, 3.0])
def test_stream_equals_the_long_way_round(salience_power):
    backend = TinyBackend(salience_power=salience_power)
    config = StreamingConfig(max_utterance_s=0.6, hold_s=0.9)
    stream = GroundingStream(backend, config)
    wave = signals.scene()
    for end_s in (0.2, 0.6, 1.0, 1.4, 1.8, 2.2, 2.8, 3.4, 3.6, 3.8, 4.2):
        end = round(end_s * 16_000)
        if stream._hearing.num_samples < end:
            new = wave[stream._hearing.num_samples : end]
            position_s = stream._hearing.num_samples / 16_000
            stream.push_audio(new, START_NS + round(position_s * 1e9), 16_000)
        frame_ns = START_NS + round((end_s + config.stamp_guard_s + 0.001) * 1e9)
        answer = stream.push_frame(IMAGE, frame_ns)
        expected = stream_maps(backend, IMAGE, wave, end, config)
        np.testing.assert_allclose(answer.sound, expected["sound"], atol=1e-5)
        np.testing.assert_allclose(answer.speech, expected["speech"], atol=1e-5)
        assert answer.score("sound") == answer.sound.max()
        assert answer.image_size == IMAGE.shape[:2]
        assert answer.sound.shape == (4, 5)


def test_each_window_and_each_image_is_encoded_once():
    backend = TinyBackend()
    stream = GroundingStream(backend)
    warm_up = backend.num_windows
    play(stream, signals.scene(), 16_000, [320] * 300, FRAMES_S)
    assert backend.num_windows - warm_up == stream.stats["num_windows_encoded"] == 22
    assert backend.num_images == len(FRAMES_S)


def answer_at_end(waveform, backend=None, config=None, after_s=0.011):
    stream = GroundingStream(backend or TinyBackend(), config)
    stream.push_audio(waveform, START_NS, 16_000)
    after_ns = round((waveform.size / 16_000 + after_s) * 1e9)
    return stream.push_frame(IMAGE, START_NS + after_ns)


def test_silence_gives_zeros_from_both_heads():
    answer = answer_at_end(signals.silence(2.0))
    assert not answer.sound.any()
    assert not answer.speech.any()
    assert answer.score("sound") == answer.score("speech") == 0.0
    quiet = signals.hiss(2.0) * np.float32(1e-3)
    assert not answer_at_end(quiet).sound.any()
    assert answer_at_end(quiet, config=StreamingConfig(gate_dbfs=-90.0)).sound.any()


def test_sound_without_speech_gives_zeros_from_the_speech_head():
    answer = answer_at_end(signals.hiss(2.0))
    assert answer.sound.any()
    assert not answer.speech.any()


def test_tokens_below_the_evidence_floor_say_nothing():
    wave = signals.vowel(2.0)
    assert answer_at_end(wave).speech.any()
    answer = answer_at_end(wave, TinyBackend(min_token_norm={"speech": 1e3}))
    assert answer.sound.any()
    assert not answer.speech.any()
    answer = answer_at_end(wave, TinyBackend(min_token_norm={"sound": 1e3}))
    assert answer.speech.any()
    assert not answer.sound.any()


def test_heatmaps_are_held_and_then_gated():
    config = StreamingConfig(hold_s=1.0, silence_s=0.6)
    stream = GroundingStream(TinyBackend(), config)
    wave = np.concatenate([signals.vowel(1.0), signals.silence(2.5)])
    stream.push_audio(wave, START_NS, 16_000)
    speech, sound = [], []
    for i in range(33):
        answer = stream.push_frame(IMAGE, START_NS + i * 100_000_000 + 15_000_000)
        speech.append(bool(answer.speech.any()))
        sound.append(bool(answer.sound.any()))
    # One hop of 0.2 s is the grain; webrtcvad lets speech ring on for up to 0.2 s.
    assert speech[4:19] == [True] * 15
    assert not any(speech[25:])
    assert sound[2:15] == [True] * 13
    assert not any(sound[19:])


def test_microphone_that_falls_silent_for_good_is_gated_by_the_frames():
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.vowel(1.0), START_NS, 16_000)
    soon = stream.push_frame(IMAGE, START_NS + 1_300_000_000)
    late = stream.push_frame(IMAGE, START_NS + 4_000_000_000)
    assert soon.sound.any()
    assert soon.speech.any()
    assert not late.sound.any()
    assert not late.speech.any()
    assert stream.stats["audio_lag_ms"] == pytest.approx(3_000.0, abs=1.0)


def test_recent_sound_outweighs_old_sound():
    old, new = signals.vowel(1.0), signals.hiss(1.0)
    wave = np.concatenate([old, new])
    only_new = answer_at_end(np.concatenate([signals.silence(1.0), new])).sound
    short = answer_at_end(wave, config=StreamingConfig(recency_s=0.1)).sound
    long = answer_at_end(wave, config=StreamingConfig(recency_s=10.0)).sound
    assert np.abs(short - only_new).max() < 0.2 * np.abs(long - only_new).max()


def test_a_new_utterance_replaces_the_last():
    pause = signals.silence(0.5)
    first, second = signals.vowel(0.6, pitch_hz=110), signals.vowel(0.6, pitch_hz=230)
    backend = TinyBackend(num_channels=6)
    alone = answer_at_end(np.concatenate([first * 0, pause, second]), backend).speech
    both = answer_at_end(np.concatenate([first, pause, second]), backend).speech
    before = answer_at_end(np.concatenate([first, pause]), backend).speech
    assert np.abs(both - alone).max() < 0.1 * np.abs(before - alone).max()


def test_before_any_sound_the_maps_are_zero_and_have_the_grid():
    answer = GroundingStream(TinyBackend()).push_frame(IMAGE, START_NS, "left")
    assert answer.sound.shape == answer.speech.shape == (4, 5)
    assert not answer.sound.any()
    assert (answer.stamp_ns, answer.frame_id) == (START_NS, "left")


@pytest.mark.parametrize("heads", [("sound",), ("speech",), ("sound", "speech", "music")])
def test_a_model_answers_with_its_own_heads_and_no_other(heads):
    answer = answer_at_end(signals.vowel(1.0), TinyBackend(heads=heads))
    assert tuple(answer.heads) == heads
    assert all(answer.heatmap(head).any() for head in heads)
    with pytest.raises(KeyError, match=f"no head 'smell': this model has {', '.join(heads)}"):
        answer.heatmap("smell")


def test_heads_may_come_in_any_order():
    wave = signals.scene()[:30_000]
    swapped = TinyBackend(heads=("speech", "sound"))
    plain = TinyBackend(heads=("sound", "speech"))
    for name in ("_of_sound", "_of_patch"):
        setattr(swapped, name, np.ascontiguousarray(getattr(plain, name)[::-1]))
    one, two = answer_at_end(wave, plain), answer_at_end(wave, swapped)
    np.testing.assert_allclose(one.sound, two.sound, atol=1e-6)
    np.testing.assert_allclose(one.speech, two.speech, atol=1e-6)
    assert not np.allclose(one.sound, one.speech)


def test_offset_between_the_clocks_is_applied():
    config = StreamingConfig(audio_offset_s=0.5)
    wave = signals.scene()
    shifted = GroundingStream(TinyBackend(), config)
    shifted.push_audio(wave, START_NS - 500_000_000, 16_000)
    plain = GroundingStream(TinyBackend())
    plain.push_audio(wave, START_NS, 16_000)
    frame_ns = START_NS + 1_500_000_000
    ours, theirs = shifted.push_frame(IMAGE, frame_ns), plain.push_frame(IMAGE, frame_ns)
    assert ours.sound.tobytes() == theirs.sound.tobytes()


def test_reset_gives_the_same_bytes_again(whole):
    stream = GroundingStream(TinyBackend())
    play(stream, signals.scene(48_000)[:100_000], 48_000, [960] * 100, FRAMES_S)
    stream.reset()
    answers = play(stream, signals.scene(44_100), 44_100, [882] * 100, FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[44_100])


def test_faulty_samples_are_counted_and_said_once(caplog):
    stream = GroundingStream(TinyBackend())
    bad = signals.hiss(0.1)
    bad[[3, 4, 5]] = [np.nan, np.inf, 7.0]
    with caplog.at_level(logging.WARNING):
        for i in range(5):
            stream.push_audio(bad, START_NS + i * 100_000_000, 16_000)
    answer = stream.push_frame(IMAGE, START_NS + 510_000_000)
    assert np.isfinite(answer.sound).all()
    assert stream.stats["num_nonfinite_samples"] == 10
    assert stream.stats["num_clipped_samples"] == 5
    assert len([r for r in caplog.records if "NaN" in r.getMessage()]) == 1
    assert len([r for r in caplog.records if "clipped" in r.getMessage()]) == 1


def test_a_gap_is_filled_with_silence_and_counted():
    wave = signals.scene()
    holed = wave.copy()
    holed[8_000:20_800] = 0.0
    expected = GroundingStream(TinyBackend())
    expected.push_audio(holed, START_NS, 16_000)
    stream = GroundingStream(TinyBackend())
    stream.push_audio(wave[:8_000], START_NS, 16_000)
    stream.push_audio(wave[20_800:], START_NS + 1_300_000_000, 16_000)
    for frame_ns in range(START_NS, START_NS + 4 * 10**9, 150_000_001):
        assert as_bytes([stream.push_frame(IMAGE, frame_ns)]) == as_bytes(
            [expected.push_frame(IMAGE, frame_ns)]
        )
    assert stream.stats["num_gaps"] == 1
    assert stream.stats["num_gap_samples"] == 12_800


def test_overlapping_and_repeated_chunks_are_heard_once(whole):
    wave = signals.scene()
    stream = GroundingStream(TinyBackend())
    stream.push_audio(wave[:24_000], START_NS, 16_000)
    stream.push_audio(wave[:24_000], START_NS, 16_000)
    stream.push_audio(wave[16_000:], START_NS + 10**9, 16_000)
    answers = [stream.push_frame(IMAGE, START_NS + round(s * 1e9)) for s in FRAMES_S]
    assert as_bytes(answers) == as_bytes(whole[16_000])
    assert stream.stats["num_repeated_chunks"] == 1
    assert stream.stats["num_overlap_samples"] == 8_000


@pytest.mark.parametrize("jump_s", [-100.0, 100.0])
def test_a_jump_of_the_stamps_starts_over(whole, jump_s):
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.vowel(2.0), START_NS - round(jump_s * 1e9), 16_000)
    stream.push_frame(IMAGE, START_NS - round((jump_s - 2) * 1e9))
    answers = play(stream, signals.scene(), 16_000, [1_600] * 10, FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[16_000])
    assert stream.stats["num_audio_resets"] == 1
    assert stream.stats["num_frame_stamp_steps_back"] == (jump_s < 0) * 1


def test_standing_stamps_lose_no_sound():
    stream = GroundingStream(TinyBackend())
    wave = signals.scene()
    for start in range(0, wave.size, 800):
        stream.push_audio(wave[start : start + 800] + np.float32(start * 1e-9), 0, 16_000)
    assert stream.stats["num_audio_samples"] == wave.size
    assert stream.stats["num_overlaps"] == stream.stats["num_audio_resets"] == 0


def test_sample_rate_may_change():
    split_s = 1.5
    stream = GroundingStream(TinyBackend())
    first = signals.scene(48_000)
    second = resample(first, 48_000, 44_100)
    stream.push_audio(first[: round(split_s * 48_000)], START_NS, 48_000)
    stream.push_audio(second[round(split_s * 44_100) :], START_NS + round(split_s * 1e9), 44_100)
    plain = GroundingStream(TinyBackend())
    plain.push_audio(first, START_NS, 48_000)
    for second_s in (1.0, 1.6, 2.4, 3.0):
        frame_ns = START_NS + round((second_s + 0.08) * 1e9)
        ours, theirs = stream.push_frame(IMAGE, frame_ns), plain.push_frame(IMAGE, frame_ns)
        np.testing.assert_allclose(ours.sound, theirs.sound, atol=0.05)
        assert ours.sound.any()
    assert stream.stats["num_rate_changes"] == 1
    assert stream.stats["num_gaps"] == stream.stats["num_overlaps"] == 0
    expected = round(split_s * 16_000) + round((4.4 - split_s) * 16_000)
    outstanding = stream._timeline._resampler.delay_samples
    assert expected - outstanding <= stream._hearing.num_samples <= expected


def test_stereo_integers_are_heard_as_mono_floats(whole):
    wave = signals.scene()
    stereo = np.stack([wave, wave], axis=1)
    stream = GroundingStream(TinyBackend())
    answers = play(stream, stereo, 16_000, [320] * 50, FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[16_000])
    stream = GroundingStream(TinyBackend())
    pcm = np.round(stereo * 32_767).astype(np.int16)
    for ours, theirs in zip(
        play(stream, pcm, 16_000, [320] * 50, FRAMES_S), whole[16_000], strict=True
    ):
        np.testing.assert_allclose(ours.sound, theirs.sound, atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (4_320, 7_680), (1, 3_000), (900, 2)])
def test_frames_of_any_size(size):
    image = signals.picture(*size) if min(size) > 2 else np.full((*size, 3), 90, np.uint8)
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.vowel(1.0), START_NS, 16_000)
    answer = stream.push_frame(image, START_NS + 1_100_000_000)
    assert answer.image_size == size
    assert answer.sound.any()


def test_frames_may_change_size_and_step_back():
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.vowel(2.0), START_NS, 16_000)
    for i, size in enumerate([(48, 64), (48, 64), (64, 48), (48, 64)]):
        answer = stream.push_frame(signals.picture(*size), START_NS + 10**9 - i * 1_000)
        assert answer.sound.any()
        assert answer.image_size == size
    assert stream.stats["num_frame_size_changes"] == 2
    assert stream.stats["num_frame_stamp_steps_back"] == 3


def test_empty_chunks_are_nothing():
    stream = GroundingStream(TinyBackend())
    stream.push_audio(np.zeros((0, 2), np.int16), START_NS, 16_000)
    assert stream.stats["num_audio_chunks"] == 0


def test_bad_arguments_are_refused_and_leave_the_stream_usable(whole):
    stream = GroundingStream(TinyBackend())
    with pytest.raises(ValueError, match="not kHz"):
        stream.push_audio(np.zeros(10), START_NS, 16)
    with pytest.raises(ValueError, match="uint8 RGB"):
        stream.push_frame(np.zeros((4, 4)), START_NS)
    with pytest.raises(ValueError, match="channels come first"):
        stream.push_audio(np.zeros((2, 1_000)), START_NS, 16_000)
    answers = play(stream, signals.scene(), 16_000, [], FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[16_000])


def test_clocks_that_disagree_are_named(caplog):
    stream = GroundingStream(TinyBackend())
    stream.push_audio(signals.vowel(1.0), 0, 16_000)
    with caplog.at_level(logging.WARNING):
        stream.push_frame(IMAGE, START_NS)
        stream.push_frame(IMAGE, START_NS + 10**9)
    assert [r.getMessage() for r in caplog.records if "same clock" in r.getMessage()] != []
    assert len(caplog.records) == 1


def test_a_backend_that_breaks_its_promise_is_named():
    backend = TinyBackend()
    backend.encode_audio = lambda waveform: np.zeros((2, 6, 3), np.float32)
    with pytest.raises(ValueError, match="do not belong together"):
        GroundingStream(backend)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recency_s": 0.0}, "got 0.0 for recency_s, expected 0.01 to 60"),
        ({"vad_frame_ms": 25}, "expected one of 10, 20, 30"),
        ({"vad_aggressiveness": 4}, "expected 0 to 3"),
        ({"hold_s": 0.1}, "expected at least hangover_s"),
        ({"gate_dbfs": float("nan")}, "nan for gate_dbfs, expected a number"),
    ],
)
def test_configuration_is_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        StreamingConfig(**parameters)


def test_a_hop_longer_than_the_window_is_refused():
    with pytest.raises(ValueError, match="sound would go unheard"):
        GroundingStream(TinyBackend(), StreamingConfig(hop_s=1.5))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_listener_hears_the_marks_once_and_on_the_frames_clock(rate_hz):
    parts = [(signals.silence, 1.0), (signals.vowel, 0.9), (signals.silence, 1.1)]
    waveform = np.concatenate([make(seconds, rate_hz) for make, seconds in parts])
    stream, told = GroundingStream(TinyBackend()), []
    stream.on_voice = told.append
    play(stream, waveform, rate_hz, [rate_hz // 50] * 200, [])
    assert len(told) >= 12  # about one per hop of 0.2 s
    for before, after in itertools.pairwise(told):
        end_ns = before.stamp_ns + len(before.level_dbfs) * before.frame_s * 1e9
        assert abs(after.stamp_ns - end_ns) < 1e5
    assert abs(told[0].stamp_ns - START_NS) < 1e6
    level_dbfs = np.concatenate([marks.level_dbfs for marks in told])
    is_voiced = np.concatenate([marks.is_voiced for marks in told])
    time_s = (np.arange(len(level_dbfs)) + 0.5) * told[0].frame_s
    spoken = (time_s > 1.1) & (time_s < 1.8)
    assert level_dbfs[spoken].min() > -50.0 > level_dbfs[time_s < 0.95].max()
    assert is_voiced[spoken].mean() > 0.9
    assert not is_voiced[time_s < 0.95].any()
    ((start_ns, stop_ns),) = told[-1].utterances
    assert abs((start_ns - START_NS) / 1e9 - 1.0) < 0.1
    assert abs((stop_ns - START_NS) / 1e9 - 1.9) < 0.15


def test_a_listener_changes_no_heatmap_and_hears_a_new_timeline(whole):
    stream, told = GroundingStream(TinyBackend()), []
    stream.on_voice = told.append
    answers = play(stream, signals.scene(), 16_000, [320] * 100, FRAMES_S)
    assert as_bytes(answers) == as_bytes(whole[16_000])
    for begin_ns in (0, 5 * 10**8):  # the second chunk confirms that the clock was set
        stream.push_audio(signals.vowel(0.5), START_NS + 10**11 + begin_ns, 16_000)
    since_ns = [marks.stamp_ns - START_NS - 10**11 for marks in told]
    new = [ns for ns in since_ns if ns > -1e6]
    assert abs(new[0]) < 1e6


@pytest.mark.parametrize("step_s", [-100.0, 100.0])
def test_a_camera_whose_clock_stepped_is_answered_with_nothing(step_s):
    """Sound of another time is none for its frames; set right again, it is answered at once."""
    stream, start_ns = GroundingStream(TinyBackend()), 10**18
    noise = signals.hiss(30.0)
    heard = []
    for first in range(0, len(noise), 1600):
        now_s = first / 16_000
        stream.push_audio(noise[first : first + 1600], start_ns + round(1e9 * now_s), 16_000)
        is_stepped = 10.0 <= now_s < 25.0
        stamp_ns = start_ns + round(1e9 * (now_s + is_stepped * step_s))
        heard.append((now_s, stream.push_frame(signals.picture(), stamp_ns).sound.any()))
    assert all(was_heard for now_s, was_heard in heard if 1.0 <= now_s < 10.0)
    assert not any(was_heard for now_s, was_heard in heard if 10.0 <= now_s < 25.0)
    assert all(was_heard for now_s, was_heard in heard if now_s >= 25.5)
