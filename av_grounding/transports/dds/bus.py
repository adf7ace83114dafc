"""A ROS 2 node without ROS: a Cyclone DDS participant that real ROS 2 tools list as one.

What makes it one: topic and type names in ROS's spelling, type hashes in the endpoints' user
data, and a `ros_discovery_info` message that says which endpoints belong to which node.
"""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable

from cyclonedds.core import DDSException, GuardCondition, WaitSet
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from av_grounding.transports.dds.endpoints import Discovery, Offer, Reader, Writer, endpoint_qos
from av_grounding.transports.dds.settings import DdsSettings
from av_grounding.transports.dds.types import WireTypes, dds_topic, wire_types
from av_grounding.transports.messages import Fields
from av_grounding.transports.messages.definitions import AudioPackage

logger = logging.getLogger(__name__)

POLL_S = 0.1
TICK_S = 0.2
GRAPH_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
# A participant's domain is made once per process; its configuration cannot change afterwards.
_DOMAINS: dict[int, tuple[Domain, str]] = {}
_DOMAINS_LOCK = threading.Lock()


class Bus:
    """One participant that is one ROS node. Close it, or let its users do so by `release`.

    Topics are absolute (`/camera/image_raw`) or relative to the node's namespace. One thread
    receives for all readers; callbacks must be short.
    """

    def __init__(
        self,
        settings: DdsSettings | None = None,
        node_name: str = "grounding",
        namespace: str = "/av_grounding",
    ) -> None:
        """Raises RuntimeError where no participant can be made."""
        self.settings = settings or DdsSettings()
        self.node_name = node_name
        self.namespace = "/" + namespace.strip("/")
        self.types = wire_types(self.settings.distro)
        _open_domain(self.settings)
        try:
            self._participant = DomainParticipant(
                self.settings.domain_id, Qos(Policy.Userdata(b"enclave=/;"))
            )
        except DDSException as error:
            raise RuntimeError(
                f"no DDS participant in domain {self.settings.domain_id} ({error}): are there "
                "more than 32 ROS processes on this machine, or is there no network interface?"
            ) from error
        self._lock = threading.RLock()
        self._writers: list[Writer] = []
        self._readers: list[Reader] = []
        self._topics: dict[tuple[str, str, WireTypes], Topic] = {}
        self._ticks: list[Callable[[], None]] = []
        self._num_users = 0
        self._discovery = Discovery(self._participant)
        self._waitset = WaitSet(self._participant)
        # Ends a wait; and with nothing to wait for, Cyclone would not wait at all.
        self._wake = GuardCondition(self._participant)
        self._waitset.attach(self._wake)
        self._graph = DataWriter(
            self._participant,
            self._dds_topic("ros_discovery_info", GRAPH_TYPE, self.types),
            endpoint_qos(
                1,
                is_reliable=True,
                is_transient_local=True,
                user_data=self._user_data(GRAPH_TYPE, self.types),
            ),
        )
        self._announce()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="av-dds-receive", daemon=True)
        self._thread.start()

    def resolve(self, topic: str) -> str:
        """The absolute name of a topic."""
        return topic if topic.startswith("/") else f"{self.namespace.rstrip('/')}/{topic}"

    def writer(
        self,
        topic: str,
        type_name: str,
        depth: int = 1,
        audio: AudioPackage = "ros-drivers",
    ) -> Writer:
        """A reliable, volatile publisher that keeps the last `depth` messages."""
        topic, types = self.resolve(topic), self._types_with(audio)
        user_data = self._user_data(type_name, types)
        qos = endpoint_qos(depth, is_reliable=True, user_data=user_data)
        with self._lock:
            dds = self._dds_topic(dds_topic(topic), type_name, types)
            writer = Writer(topic, type_name, DataWriter(self._participant, dds, qos), types)
            self._writers.append(writer)
            self._announce()
        return writer

    def reader(
        self,
        topic: str,
        type_name: str,
        on_message: Callable[[bytes, int], None],
        *,
        depth: int = 1,
        is_reliable: bool = False,
        is_transient_local: bool = False,
        audio: AudioPackage = "ros-drivers",
    ) -> Reader:
        """Subscribe; `on_message` gets CDR and the nanoseconds at which it was received.

        Best effort and volatile, the default, match every publisher.
        """
        topic = self.resolve(topic)
        types = self._types_with(audio)
        user_data = self._user_data(type_name, types)
        qos = endpoint_qos(depth, is_reliable, is_transient_local, user_data)
        with self._lock:
            dds = self._dds_topic(dds_topic(topic), type_name, types)
            cyclone = DataReader(self._participant, dds, qos)
            reader = Reader(topic, type_name, types, cyclone, on_message)
            self._readers.append(reader)
            self._waitset.attach(reader.condition)
            self._announce()
        return reader

    def remove(self, reader: Reader) -> None:
        """Unsubscribe; only in the bus's thread (see `on_tick`), which would read it otherwise."""
        with self._lock:
            self._readers.remove(reader)
            self._waitset.detach(reader.condition)
            reader.detach()
            self._announce()

    def offers(self) -> dict[str, list[Offer]]:
        """Who publishes which topic, in ROS's spelling, as far as discovery has come."""
        return self._discovery.offers()

    def on_tick(self, tick: Callable[[], None]) -> None:
        """Have something short done about five times a second in the bus's thread."""
        with self._lock:
            self._ticks.append(tick)

    def retain(self) -> Bus:
        """Use the bus until `release`; the last release closes it."""
        with self._lock:
            self._num_users += 1
        return self

    def release(self) -> None:
        with self._lock:
            self._num_users -= 1
            is_last = self._num_users <= 0
        if is_last:
            self.close()

    def close(self) -> None:
        """Leave the bus; may be called twice."""
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        self._wake.set(True)
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)
        with self._lock:
            # Cyclone's entities end, and say so to the others, with the last reference to them.
            for endpoint in (*self._readers, *self._writers):
                endpoint.detach()
            self._readers.clear()
            self._writers.clear()
            self._topics.clear()
            del self._graph, self._waitset, self._wake, self._discovery, self._participant

    def _receive(self) -> None:
        ticked_s = 0.0
        while not self._is_closed.is_set():
            try:
                self._waitset.wait(duration(seconds=POLL_S))
                with self._lock:
                    readers, ticks = list(self._readers), list(self._ticks)
                for reader in readers:
                    reader.take()
                if time.monotonic() - ticked_s >= TICK_S:
                    ticked_s = time.monotonic()
                    for tick in ticks:
                        tick()
            except Exception:
                logger.exception("receiving failed; going on")
                self._is_closed.wait(POLL_S)

    def _types_with(self, audio: AudioPackage) -> WireTypes:
        return wire_types(self.settings.distro, audio)

    def _dds_topic(self, name: str, type_name: str, types: WireTypes) -> Topic:
        key = (name, type_name, types)
        if key not in self._topics:
            self._topics[key] = Topic(self._participant, name, types.sample_type(type_name))
        return self._topics[key]

    @staticmethod
    def _user_data(type_name: str, types: WireTypes) -> bytes:
        type_hash = types.type_hash(type_name)
        return f"typehash={type_hash};".encode() if type_hash else b""

    def _announce(self) -> None:
        """Tell ROS which endpoints this node has."""
        node = Fields(
            "rmw_dds_common/msg/NodeEntitiesInfo",
            node_namespace=self.namespace,
            node_name=self.node_name,
            reader_gid_seq=[self._gid(reader.gid) for reader in self._readers],
            writer_gid_seq=[self._gid(writer.gid) for writer in self._writers],
        )
        gid = self._gid(self._participant.get_guid().bytes)
        message = Fields(GRAPH_TYPE, gid=gid, node_entities_info_seq=[node])
        self._graph.write(self.types.encode(message))

    def _gid(self, gid: bytes) -> Fields:
        size = 24 if self.settings.distro == "humble" else 16
        return Fields("rmw_dds_common/msg/Gid", data=array("B", gid.ljust(size, b"\0")))


def _open_domain(settings: DdsSettings) -> None:
    with _DOMAINS_LOCK:
        if settings.domain_id not in _DOMAINS:
            try:
                domain = Domain(settings.domain_id, settings.config)
            except DDSException as error:
                raise RuntimeError(
                    f"DDS domain {settings.domain_id} cannot be opened ({error}): is "
                    "CYCLONEDDS_URI valid, and is there a network interface?"
                ) from error
            _DOMAINS[settings.domain_id] = (domain, settings.config)
        elif _DOMAINS[settings.domain_id][1] != settings.config:
            raise RuntimeError(
                f"DDS domain {settings.domain_id} is open in this process with other settings: "
                "use the same ones, or another domain"
            )
