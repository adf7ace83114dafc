"""Services and twenty lifecycles."""

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs a sourced ROS 2")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import SetBool, Trigger

from av_grounding.transports.messages import decode_heatmap
from tests.helpers.ros_world import (
    IMAGE_TYPE,
    Scene,
    announce,
    connect,
    grounding_node,
    image,
    maximum,
    stamp_ns,
    wait_for,
)

pytestmark = pytest.mark.ros


def test_enable_stops_reading_and_reset_forgets(peer, barking, dog):
    with grounding_node() as spinning:
        peer.collect("sound/heatmap")
        connect(peer)
        scene = Scene(peer, spinning, barking, pixels=dog)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        assert peer.call(SetBool, "enable", SetBool.Request(data=False)).success
        publisher = peer.publisher("/robot/image", IMAGE_TYPE)
        wait_for(lambda: publisher.get_subscription_count() == 0, 10.0, "unsubscription")
        scene.wait_until_idle(0.5)
        num_before = len(peer.received["sound/heatmap"])
        scene.play(0.5)
        assert len(peer.received["sound/heatmap"]) == num_before
        assert peer.call(SetBool, "enable", SetBool.Request(data=True)).success
        wait_for(publisher.get_subscription_count, 10.0, "subscription")
        answers = peer.received["sound/heatmap"]
        peer.insist(
            "/robot/image",
            lambda: image(scene.now_ns, dog),
            lambda: len(answers) > num_before,
        )
        assert maximum(peer, "sound") == 0.0  # what was heard before is forgotten
        announce(peer)
        scene.play_until(lambda: maximum(peer, "sound") > 0.5, "a located dog")
        assert peer.call(Trigger, "reset", Trigger.Request()).success
        stamp = scene.now_ns + 1

        def answer():
            return [message for message in answers if stamp_ns(message) == stamp]

        peer.insist("/robot/image", lambda: image(stamp, dog), answer)
        assert not decode_heatmap(answer()[0]).any()


def resident_kb():
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_twenty_lifecycles_leak_neither_memory_nor_threads(peer):
    changes = {
        "configure": Transition.TRANSITION_CONFIGURE,
        "activate": Transition.TRANSITION_ACTIVATE,
        "deactivate": Transition.TRANSITION_DEACTIVATE,
        "cleanup": Transition.TRANSITION_CLEANUP,
    }

    def change(name):
        request = ChangeState.Request(transition=Transition(id=changes[name]))
        assert peer.call(ChangeState, "change_state", request).success, name

    with grounding_node(is_active=False):
        peer.collect("sound/heatmap")
        publisher = peer.publisher("/robot/image", IMAGE_TYPE)
        used = []
        for cycle in range(24):
            change("configure")
            change("activate")
            wait_for(publisher.get_subscription_count, 15.0, "a subscription")
            peer.received["sound/heatmap"].clear()
            peer.insist(
                "/robot/image",
                lambda: image(time.time_ns()),
                lambda: peer.received["sound/heatmap"],
            )
            change("deactivate")
            change("cleanup")
            wait_for(lambda: publisher.get_subscription_count() == 0, 15.0, "unsubscription")
            used.append((threading.active_count(), resident_kb()))
            if cycle < 4:
                used.clear()  # caches of libraries fill up first
        num_threads, kilobytes = zip(*used, strict=True)
        assert len(used) == 20
        assert max(num_threads) == min(num_threads)
        # A copy of the model alone is 3.6 MB, a leaked picture 60 kB.
        assert np.median(kilobytes[-5:]) - np.median(kilobytes[:5]) < 3_000
