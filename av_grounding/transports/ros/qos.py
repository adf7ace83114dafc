"""Says in words which quality-of-service policy keeps two nodes from talking."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import QoSPolicyKind

logger = logging.getLogger(__name__)
_REMEDIES = {
    "RELIABILITY": "a reliable subscription needs a reliable publisher",
    "DURABILITY": "a transient-local subscription needs a transient-local publisher",
}


def subscription_events(
    topic: str, on_incompatible: Callable[[str], None]
) -> SubscriptionEventCallbacks:
    """Events of a subscription of ours; `on_incompatible` gets a line that begins with `topic`."""
    return SubscriptionEventCallbacks(
        incompatible_qos=_teller(topic, "a publisher of it", on_incompatible)
    )


def publisher_events(
    topic: str, on_incompatible: Callable[[str], None]
) -> PublisherEventCallbacks:
    """Events of a publisher of ours; `on_incompatible` gets a line that begins with `topic`."""
    return PublisherEventCallbacks(
        incompatible_qos=_teller(topic, "a subscription to it", on_incompatible)
    )


def _teller(
    topic: str, other: str, on_incompatible: Callable[[str], None]
) -> Callable[[Any], None]:
    def tell(event: Any) -> None:
        policy = _name(event.last_policy_kind)
        remedy = _REMEDIES.get(policy, "give both the same")
        line = f"{topic}: {other} does not match in {policy}: {remedy}; see ros2 topic info -v"
        logger.warning("%s", line)
        on_incompatible(line)

    return tell


def _name(kind: Any) -> str:
    try:
        return QoSPolicyKind(int(kind)).name
    except ValueError:
        return str(kind)
