"""The node's live page: a parameter away, gone with the activation."""

import contextlib
import socket
import time
import urllib.request

import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")
pytest.importorskip("aiohttp", reason="needs the extra [view]")

from rclpy.lifecycle import TransitionCallbackReturn

from tests.helpers.ros_world import connect, grounding_node, image

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


def test_a_port_in_use_is_the_reason_why_it_does_not_become_active():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with grounding_node(is_active=False, view=f"127.0.0.1:{port}") as spinning:
            node = spinning.node
            assert spinning.run(node.trigger_configure) == TransitionCallbackReturn.SUCCESS
            assert spinning.run(node.trigger_activate) == TransitionCallbackReturn.FAILURE
            assert str(port) in node._failure
