"""Where on the network a DDS participant speaks: the settings of ROS 2, mirrored for Cyclone DDS.

Cyclone knows nothing of ROS_DOMAIN_ID or of discovery ranges; ROS's own middleware layer turns
them into its configuration, and so does this. One default differs: without a word from the
environment the participant keeps to this host.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from av_grounding.transports.messages.definitions import DISTROS

DISCOVERY_RANGES = ("localhost", "subnet", "off", "system_default")
MAX_DOMAIN_ID = 232
MAX_PARTICIPANTS = 32
"""Participants of one host that find each other without multicast, as in ROS."""
# Before Iron, ROS wrote graph messages and discovery settings the old way.
_OLD_DISTROS = ("foxy", "galactic", "humble")
# On one host whole messages travel in few datagrams, and a picture may wait to be read. The
# watermark lets a reliable writer go on while a reader of large messages is briefly busy.
_LOCAL = (
    "<General><MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize></General>"
)
_BUFFERS = (
    '<Internal><SocketReceiveBufferSize max="8MB"/>'
    "<Watermarks><WhcHigh>8MB</WhcHigh></Watermarks></Internal>"
)


@dataclass(frozen=True)
class DdsSettings:
    """Domain, discovery range and wire layouts of one participant."""

    domain_id: int = 0
    discovery: str = "localhost"
    static_peers: tuple[str, ...] = ()
    distro: str = "jazzy"
    extra_config: str = ""
    """More Cyclone configuration, as in CYCLONEDDS_URI; it overrides."""

    def __post_init__(self) -> None:
        if not 0 <= self.domain_id <= MAX_DOMAIN_ID:
            raise ValueError(
                f"got ROS_DOMAIN_ID {self.domain_id}, expected 0 to {MAX_DOMAIN_ID}: 0 to 101 "
                "work everywhere"
            )
        if self.discovery not in DISCOVERY_RANGES:
            raise ValueError(
                f"got the discovery range {self.discovery!r}, expected one of "
                f"{', '.join(DISCOVERY_RANGES)}"
            )
        if self.distro not in DISTROS:
            raise ValueError(f"got ROS distro {self.distro!r}, expected {' or '.join(DISTROS)}")

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        distro: str | None = None,
        discovery: str | None = None,
    ) -> DdsSettings:
        """What ROS's variables say; `distro` and `discovery` go before them.

        Read are ROS_DISTRO, ROS_DOMAIN_ID, ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS,
        ROS_LOCALHOST_ONLY and CYCLONEDDS_URI.
        """
        environment = os.environ if environment is None else environment
        if distro is None:
            is_old = environment.get("ROS_DISTRO", "") in _OLD_DISTROS
            distro = "humble" if is_old else "jazzy"
        text = environment.get("ROS_DOMAIN_ID") or "0"
        if not text.isdecimal():
            raise ValueError(
                f"got ROS_DOMAIN_ID {text!r}, expected a whole number from 0 to {MAX_DOMAIN_ID}"
            )
        peers = environment.get("ROS_STATIC_PEERS", "")
        return cls(
            domain_id=int(text),
            discovery=discovery or _range(environment, distro),
            static_peers=tuple(peer for peer in peers.split(";") if peer),
            distro=distro,
            extra_config=environment.get("CYCLONEDDS_URI", ""),
        )

    @property
    def config(self) -> str:
        """The configuration for Cyclone: fragments of XML, later ones override."""
        fragments = [f"<CycloneDDS><Domain>{_BUFFERS}</Domain></CycloneDDS>"]
        inner = self._humble() if self.distro == "humble" else self._jazzy()
        if self.discovery == "localhost":
            inner += _LOCAL
        if inner:
            fragments.append(f"<CycloneDDS><Domain>{inner}</Domain></CycloneDDS>")
        if self.extra_config:
            fragments.append(self.extra_config)
        return ",".join(fragments)

    def _humble(self) -> str:
        # An interface that the extra configuration chooses may not be chosen twice.
        if self.discovery != "localhost" or "NetworkInterface" in _text_of(self.extra_config):
            return ""
        interface = '<NetworkInterface address="127.0.0.1"/>'
        return f"<General><Interfaces>{interface}</Interfaces></General>"

    def _jazzy(self) -> str:
        if self.discovery == "system_default":
            return ""
        alone = "<General><AllowMulticast>false</AllowMulticast></General>"
        if self.discovery == "off":
            tag = f"<Tag>ros_discovery_off_{os.getpid()}</Tag>"
            return f"{alone}<Discovery><ParticipantIndex>none</ParticipantIndex>{tag}</Discovery>"
        peers = self.static_peers
        if self.discovery == "localhost":
            peers = ("localhost", *peers)
        listed = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
        return (
            (alone if self.discovery == "localhost" else "")
            + "<Discovery><ParticipantIndex>auto</ParticipantIndex>"
            + f"<MaxAutoParticipantIndex>{MAX_PARTICIPANTS}</MaxAutoParticipantIndex>"
            + (f"<Peers>{listed}</Peers>" if listed else "")
            + "</Discovery>"
        )


def _text_of(config: str) -> str:
    """Configuration with the files that it names read in, where they can be."""
    texts = [config]
    for part in config.split(","):
        if part.strip().startswith("file://"):
            with contextlib.suppress(OSError):
                texts.append(Path(part.strip().removeprefix("file://")).read_text("utf-8"))
    return "".join(texts)


def _range(environment: Mapping[str, str], distro: str) -> str:
    only_here = environment.get("ROS_LOCALHOST_ONLY", "")
    if only_here in ("0", "1"):  # old, but in ROS it still goes before the new one
        return "localhost" if only_here == "1" else "subnet"
    named = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").lower()
    if not named or distro == "humble":
        return "localhost"
    if named not in DISCOVERY_RANGES:
        raise ValueError(
            f"got ROS_AUTOMATIC_DISCOVERY_RANGE {named.upper()}, expected one of "
            f"{', '.join(DISCOVERY_RANGES).upper()}"
        )
    return named
