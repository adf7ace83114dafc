"""The ends of a DDS bus: writers, readers, their quality of service, and who else is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.util import duration

from av_grounding.transports.dds.types import WireTypes, ros_type
from av_grounding.transports.messages import Fields

MAX_TAKEN = 64
# A write that must wait for a reader holds up the whole process (the binding keeps the GIL).
MAX_BLOCKING_S = 0.002


@dataclass(frozen=True)
class Offer:
    """Somebody who publishes a topic."""

    type_name: str
    type_hash: str
    is_reliable: bool
    is_transient_local: bool
    is_own: bool


class Discovery:
    """Keeps book of the publishers on the bus; may be asked from any thread."""

    def __init__(self, participant: DomainParticipant) -> None:
        self._own = participant.get_guid()
        self._reader = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
        self._known: dict[UUID, tuple[str, Offer]] = {}
        self._lock = threading.Lock()

    def offers(self) -> dict[str, list[Offer]]:
        """Topic in ROS's spelling -> who publishes it."""
        with self._lock:
            while endpoints := self._reader.take(N=MAX_TAKEN):
                for endpoint in endpoints:
                    self._note(endpoint)
            found: dict[str, list[Offer]] = {}
            for topic, offer in self._known.values():
                found.setdefault(topic, []).append(offer)
            return found

    def _note(self, endpoint: Any) -> None:
        info = endpoint.sample_info
        if not info.valid_data or info.instance_state != InstanceState.Alive:
            self._known.pop(endpoint.key, None)
            return
        type_name = ros_type(endpoint.type_name)
        if type_name is None or not endpoint.topic_name.startswith("rt/"):
            return
        qos = endpoint.qos
        offer = Offer(
            type_name,
            _type_hash(qos),
            is_reliable=Policy.Reliability.BestEffort not in qos,
            is_transient_local=Policy.Durability.TransientLocal in qos,
            is_own=endpoint.participant_key == self._own,
        )
        self._known[endpoint.key] = (endpoint.topic_name[2:], offer)


class Writer:
    """Publishes messages of one type."""

    def __init__(self, topic: str, type_name: str, writer: DataWriter, types: WireTypes) -> None:
        self.topic = topic
        self.type_name = type_name
        self.num_written = 0
        self._writer = writer
        self._types = types

    @property
    def num_readers(self) -> int:
        return int(self._writer.get_publication_matched_status().current_count)

    @property
    def num_incompatible(self) -> int:
        """Readers so far that ask for what is not offered, such as transient local."""
        return int(self._writer.get_offered_incompatible_qos_status().total_count)

    @property
    def gid(self) -> bytes:
        return self._writer.get_guid().bytes

    def write(self, fields: Fields) -> bool:
        """False where reliable readers did not keep up, and the message was not sent."""
        sample = self._types.encode(fields)
        try:
            self._writer.write(sample)
        except DDSException as error:
            if error.code == DDSException.DDS_RETCODE_TIMEOUT:
                return False
            raise
        self.num_written += 1
        return True

    def detach(self) -> None:
        """Give up what belongs to the bus; nothing can be written any more."""
        del self._writer


class Reader:
    """Hands the CDR of every message of a topic to `on_message` in the bus's thread."""

    def __init__(
        self,
        topic: str,
        type_name: str,
        types: WireTypes,
        reader: DataReader,
        on_message: Callable[[bytes, int], None],
    ) -> None:
        self.topic = topic
        self.type_name = type_name
        self.types = types
        self._reader = reader
        self._on_message = on_message
        self.condition = ReadCondition(
            reader, SampleState.NotRead | ViewState.Any | InstanceState.Any
        )

    @property
    def num_writers(self) -> int:
        return int(self._reader.get_subscription_matched_status().current_count)

    @property
    def gid(self) -> bytes:
        return self._reader.get_guid().bytes

    def decode(self, cdr: bytes) -> Any:
        return self.types.decode(cdr, self.type_name)

    def take(self) -> None:
        """Hand on what has come."""
        while samples := self._reader.take(N=MAX_TAKEN):
            received_ns = time.time_ns()
            for sample in samples:
                if hasattr(sample, "cdr"):  # else it only says that a publisher went away
                    self._on_message(sample.cdr, received_ns)
            if len(samples) < MAX_TAKEN:
                return

    def detach(self) -> None:
        """Give up what belongs to the bus; nothing comes any more."""
        del self._reader, self.condition


def endpoint_qos(
    depth: int,
    is_reliable: bool = False,
    is_transient_local: bool = False,
    user_data: bytes = b"",
) -> Qos:
    durability = Policy.Durability
    policies = [
        Policy.Reliability.Reliable(duration(seconds=MAX_BLOCKING_S))
        if is_reliable
        else Policy.Reliability.BestEffort,
        durability.TransientLocal if is_transient_local else durability.Volatile,
        Policy.History.KeepLast(depth),
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    ]
    if user_data:
        policies.append(Policy.Userdata(user_data))
    return Qos(*policies)


def _type_hash(qos: Qos) -> str:
    if Policy.Userdata not in qos:
        return ""
    for item in bytes(qos[Policy.Userdata].data).decode("ascii", "replace").split(";"):
        if item.startswith("typehash="):
            return item.removeprefix("typehash=")
    return ""
