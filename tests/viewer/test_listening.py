"""A client of the page chooses what is separated and hears it, and nobody hears the mixture."""

import asyncio

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.tapping import TappedStream
from av_grounding.types import AudioChunk, Frame
from av_grounding.viewer.ear import Ear
from tests.helpers.live_client import connect, open_viewer, run, until
from tests.helpers.masking_backend import IMAGE, RATE_HZ, MaskingBackend, noise

CONFIG = StreamingConfig(silence_s=0.5)
HEIGHT, WIDTH = IMAGE.shape[:2]
STEP_S = 0.2


class Robot:
    """A stream that is watched, a frame at a time."""

    def __init__(self, waveform, mask=None):
        self.backend, self.waveform, self.number = MaskingBackend(mask), waveform, 0
        self.stream = TappedStream(GroundingStream(self.backend, CONFIG))
        self.viewer = open_viewer(
            thresholds={"sound": 0.5}, sound_rate_hz=RATE_HZ, max_rate_hz=1000.0
        )
        self.stream.tap(self.viewer.place, lambda chunk, frame: self.viewer.write_sound(chunk))

    def step(self):
        start = round(STEP_S * self.number * RATE_HZ)
        piece = self.waveform[start : start + round(STEP_S * RATE_HZ)]
        self.stream.push_audio(piece, round(STEP_S * self.number * NS_PER_S), RATE_HZ)
        self.number += 1
        frame = Frame(IMAGE, round(STEP_S * self.number * NS_PER_S))
        self.viewer.write(frame, self.stream.push_frame(frame.image, frame.stamp_ns))


class Listener:
    """Acknowledges everything, and keeps what it is told and sent to hear."""

    def __init__(self, client):
        self.client, self.spots, self.sound, self.num_frames = client, [], b"", 0
        self.reading = asyncio.create_task(self._read())

    async def _read(self):
        while True:
            header, blobs = await self.client.next()
            self.num_frames += "frame" in header
            if "spot" in header:
                self.spots.append(header["spot"])
            if "sound" in header:
                self.sound += blobs[len(blobs) - 2 * header["sound"]["num_samples"] :]

    @property
    def samples(self):
        return np.frombuffer(self.sound, "<i2").astype(np.float32) / 32767.0

    async def ask(self, **message):
        await self.client.socket.send_json(message)

    async def after(self, robot, seconds):
        """All that is sent while so much time passes in the stream."""
        for _ in range(round(seconds / STEP_S)):
            num = self.num_frames
            robot.step()
            await until(lambda num=num: self.num_frames > num)


def with_robot(play, *args, **options):
    robot = Robot(*args, **options)

    async def whole():
        async with connect(robot.viewer) as client:
            listener = Listener(client)
            try:
                await play(robot, listener)
            finally:
                listener.reading.cancel()

    try:
        run(whole())
    finally:
        robot.viewer.close()
    return robot


def test_a_click_is_heard_as_the_stream_separates_it():
    waveform = noise(7.0)

    async def play(robot, listener):
        assert listener.client.hello["sound_rate_hz"] == RATE_HZ
        await listener.after(robot, 2.0)
        assert (listener.sound, robot.backend.asked) == (b"", [])
        await listener.ask(type="listen", x=30.5 / WIDTH, y=10.5 / HEIGHT)
        await until(lambda: robot.viewer.place((HEIGHT, WIDTH)) is not None)
        assert robot.viewer.place((HEIGHT, WIDTH)) == pytest.approx((30.5, 10.5))
        await listener.after(robot, 3.0)
        await until(lambda: listener.spots)
        assert listener.spots[-1] == pytest.approx([30.5 / WIDTH, 10.5 / HEIGHT])
        heard = listener.samples
        # The same stream without a page.
        twin = GroundingStream(MaskingBackend(), CONFIG)
        expected = []
        for number in range(25):
            start = round(STEP_S * number * RATE_HZ)
            piece = waveform[start : start + round(STEP_S * RATE_HZ)]
            twin.push_audio(piece, round(STEP_S * number * NS_PER_S), RATE_HZ)
            if number == 10:
                twin.separate((30.5, 10.5))
            twin.push_frame(IMAGE, round(STEP_S * (number + 1) * NS_PER_S))
            while (chunk := twin.separated()) is not None:
                expected.append(chunk.samples)
        expected = np.concatenate(expected)
        assert heard.size == expected.size > 2 * RATE_HZ
        np.testing.assert_allclose(heard, expected, atol=1e-4)
        mixture = waveform[2 * RATE_HZ :][: heard.size]
        assert np.abs(heard - mixture).mean() > 0.1 * np.abs(mixture).mean()
        await listener.ask(type="mute")
        await until(lambda: robot.viewer.place((HEIGHT, WIDTH)) is None)
        num_asked, num_heard = len(robot.backend.asked), len(listener.sound)
        await listener.after(robot, 1.0)
        assert listener.spots[-1] is None
        assert (len(robot.backend.asked), len(listener.sound)) == (num_asked, num_heard)

    with_robot(play, waveform)


def test_while_nothing_is_heard_there_are_zeros_and_never_the_mixture():
    hiss = 1e-5 * noise(6.0)
    waveform = hiss + np.concatenate([noise(2.0), np.zeros(4 * RATE_HZ, np.float32)])

    async def play(robot, listener):
        await listener.ask(type="listen")
        await until(lambda: robot.viewer.place((HEIGHT, WIDTH)) == "peak")
        await listener.after(robot, 6.0)
        heard = listener.samples
        assert np.abs(heard[:RATE_HZ]).max() > 0.1
        quiet = heard[round(4.5 * RATE_HZ) :]
        assert quiet.size > RATE_HZ // 2
        assert not quiet.any()

    with_robot(play, waveform, mask=1.0)


def test_one_spot_for_all_and_sound_for_those_who_asked():
    async def play(robot, listener):
        async with connect(robot.viewer) as client:
            other = Listener(client)
            await other.ask(type="listen", x=0.25, y=0.25)
            await until(lambda: robot.viewer.place((4, 4)) == (1.0, 1.0))
            await listener.after(robot, 2.0)
            await until(lambda: other.sound)
            assert listener.spots == [[0.25, 0.25]]
            assert listener.sound == b""
            await listener.ask(type="listen", x=0.5, y=0.5)
            await until(lambda: robot.viewer.place((4, 4)) == (2.0, 2.0))
            await listener.after(robot, 2.0)
            await until(lambda: listener.sound and other.spots[-1] == [0.5, 0.5])
            await listener.ask(type="mute")
            await listener.after(robot, 0.4)
            num = len(listener.sound)
            await listener.after(robot, 0.4)
            assert len(listener.sound) == num
            assert robot.viewer.place((4, 4)) == (2.0, 2.0)
            other.reading.cancel()
        # Whoever leaves listens no more.
        await until(lambda: robot.viewer.place((4, 4)) is None)

    with_robot(play, noise(5.0))


def test_a_run_that_separates_nothing_refuses_to_be_listened_to(viewer):
    async def look():
        async with connect(viewer) as client:
            assert client.hello["sound_rate_hz"] is None
            await client.socket.send_json({"type": "listen"})
            return await client.end()

    code, reason = run(look())
    assert code == 1008
    assert "separates no sound" in reason
    assert viewer.place((4, 4)) is None


def test_an_ear_keeps_a_second():
    ear = Ear()
    cursor = ear.turn("peak")
    for number in range(30):
        ear.add(AudioChunk(np.full(1600, number / 30, np.float32), 0, RATE_HZ))
    news, sound, after = ear.news(cursor)
    assert news == {"spot": "peak", "sound": {"num_samples": RATE_HZ}}
    assert np.frombuffer(sound, "<i2")[-1] == round(29 / 30 * 32767)
    assert ear.news(after)[:2] == ({}, b"")
    ear.add(AudioChunk(np.array([2.0, -2.0], np.float32), 0, RATE_HZ))
    assert np.frombuffer(ear.news(after)[1], "<i2").tolist() == [32767, -32767]
