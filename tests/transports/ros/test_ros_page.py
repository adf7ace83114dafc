"""The node's live page: a parameter away, gone with the activation."""

import contextlib
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")
pytest.importorskip("aiohttp", reason="needs the extra [view]")

from rclpy.lifecycle import TransitionCallbackReturn

from av_grounding.transports.ros.page import Page
from tests.helpers import live_client
from tests.helpers.ros_world import Scene, connect, grounding_node, image
from tests.helpers.small_separator import save_small_separator

pytestmark = pytest.mark.ros


def free_port():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


def test_the_page_shows_what_the_node_answers(peer, capfd):
    port = free_port()
    with grounding_node(view=f"127.0.0.1:{port}") as spinning:
        url = f"http://127.0.0.1:{port}/"
        assert f"live page: {url}" in capfd.readouterr().err
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"av_grounding" in answer.read()
        peer.collect("sound/heatmap")
        connect(peer)
        peer.insist(
            "/robot/image",
            lambda: image(time.time_ns()),
            lambda: any(messages for messages in peer.received.values()),
        )
        node = spinning.node
        assert spinning.run(node.trigger_deactivate) == TransitionCallbackReturn.SUCCESS
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=10)


async def listen_to(client, spot, condition):
    """The sound that the page is sent until the condition holds."""
    await client.socket.send_json({"type": "listen", "x": spot[0], "y": spot[1]})
    sound = b""
    while not condition(len(sound)):
        header, blobs = await client.next()
        if "sound" in header:
            sound += blobs[len(blobs) - 2 * header["sound"]["num_samples"] :]
    await client.socket.send_json({"type": "mute"})
    return sound


def test_a_click_is_heard_and_is_the_point_of_the_robot(peer, barking, dog, tmp_path):
    height, width = dog.shape[:2]
    x_px, y_px = width // 2, height // 4
    model = str(save_small_separator(tmp_path / "model"))
    port = free_port()
    given = {"model.path": model, "backend": "torch", "view": f"127.0.0.1:{port}"}
    with grounding_node(**given) as spinning:
        node = spinning.node
        (page,) = [one for one in node._session.runner._sinks if isinstance(one, Page)]
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play(0.5)
        assert node.get_parameter("separation.target").value == "peak"
        got = {}

        async def click():
            async with live_client.connect(page.viewer) as client:
                assert client.hello["sound_rate_hz"] == 16_000
                spot = (x_px / width, y_px / height)
                got["sound"] = await listen_to(client, spot, lambda num: num > 16_000)

        thread = threading.Thread(target=lambda: live_client.run(click()))
        thread.start()
        scene.play_until(lambda: "sound" in got, "the sound of what was clicked")
        thread.join()
        assert np.frombuffer(got["sound"], "<i2").any()
        names = ("target", "x_px", "y_px")
        values = [node.get_parameter(f"separation.{name}").value for name in names]
        assert values == ["point", pytest.approx(x_px), pytest.approx(y_px)]
        assert node._outputs.config.separation.x_px == pytest.approx(x_px)
        # Nobody listens any more, and nobody subscribes: nothing is separated.
        stream = node._session.stream
        scene.play_until(lambda: "separation_latency_s" not in stream.stats, "no separation")


def test_a_model_that_does_not_separate_has_nothing_to_click():
    with grounding_node(view=f"127.0.0.1:{free_port()}") as spinning:
        (page,) = [one for one in spinning.node._session.runner._sinks if isinstance(one, Page)]

        async def look():
            async with live_client.connect(page.viewer) as client:
                return client.hello["sound_rate_hz"]

        assert live_client.run(look()) is None


def test_a_port_in_use_is_the_reason_why_it_does_not_become_active():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with grounding_node(is_active=False, view=f"127.0.0.1:{port}") as spinning:
            node = spinning.node
            assert spinning.run(node.trigger_configure) == TransitionCallbackReturn.SUCCESS
            assert spinning.run(node.trigger_activate) == TransitionCallbackReturn.FAILURE
            assert str(port) in node._failure
