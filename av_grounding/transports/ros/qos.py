"""Quality of service: which of it keeps two nodes apart, what gets lost, what publishers offer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

logger = logging.getLogger(__name__)
_REMEDIES = {
    "RELIABILITY": "a reliable subscription needs a reliable publisher",
    "DURABILITY": "a transient-local subscription needs a transient-local publisher",
}


def offered_reliability(publishers: Sequence[Any]) -> ReliabilityPolicy:
    """Reliable where every publisher is, so that nothing is lost; else what matches all."""
    offered = {info.qos_profile.reliability for info in publishers}
    is_reliable = offered == {ReliabilityPolicy.RELIABLE}
    return ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT


def mismatches(
    topic: str, others: Sequence[Any], ours: QoSProfile, *, is_ours_publishing: bool = False
) -> list[str]:
    """A line for each endpoint there is now whose quality of service does not match ours."""
    lines = []
    for info in others:
        pair = (ours, info.qos_profile) if is_ours_publishing else (info.qos_profile, ours)
        verdict, reason = qos_check_compatible(*pair)
        if verdict == QoSCompatibility.ERROR:
            lines.append(_line(topic, info.node_name, _policy(*pair) or reason))
    return lines


def _policy(publisher: QoSProfile, subscription: QoSProfile) -> str | None:
    """The policy that keeps them apart; the middleware's sentence need not name it."""
    if subscription.reliability == ReliabilityPolicy.RELIABLE != publisher.reliability:
        return "RELIABILITY"
    if subscription.durability == DurabilityPolicy.TRANSIENT_LOCAL != publisher.durability:
        return "DURABILITY"
    return None


def subscription_events(topic: str, on_lost: Callable[[int], None]) -> SubscriptionEventCallbacks:
    """Events of a subscription of ours; `on_lost` hears how many messages were lost lately."""
    return SubscriptionEventCallbacks(
        incompatible_qos=_teller(topic, "a publisher of it"),
        message_lost=lambda event: on_lost(event.total_count_change),
    )


def publisher_events(topic: str) -> PublisherEventCallbacks:
    """Events of a publisher of ours."""
    return PublisherEventCallbacks(incompatible_qos=_teller(topic, "a subscription to it"))


def _teller(topic: str, other: str) -> Callable[[Any], None]:
    return lambda event: logger.warning("%s", _line(topic, other, _name(event.last_policy_kind)))


def _line(topic: str, other: str, policy: str) -> str:
    remedy = _REMEDIES.get(policy, "give both the same")
    return f"{topic}: {other} does not match in {policy}: {remedy}; see ros2 topic info -v"


def _name(kind: Any) -> str:
    try:
        return QoSPolicyKind(int(kind)).name
    except ValueError:
        return str(kind)
