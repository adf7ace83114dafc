"""A file's one clock: packets of all its streams, whose times go on where the file's jump.

Two recordings joined byte by byte, as recorders and downloads leave them, keep two clocks. Whoever
reads the file sees the same packets in the same order, and so moves them by the same times.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# FFmpeg's AVFMT_TS_DISCONT: formats whose clock may begin anew within a file (MPEG-TS, MPEG-PS,
# Ogg). A jump ahead in any other is a pause, and no duration that FFmpeg estimates counts here.
CLOCK_MAY_JUMP = 0x0200
# Within a stream decoding times never step back by more than rounding.
BACK_S = 0.1
# All streams together that much later are another clock, not a pause; FFmpeg's own threshold.
AHEAD_S = 10.0
# One stream comes so much later in the file than the others at most.
SKEW_S = 5.0
GOES_ON_S = 1.0
# How far behind a jump the other streams are looked for, since the first may not begin earliest.
LOOK_S = 2.0
MAX_LOOK_PACKETS = 2000


def clock_may_jump(container: av.container.InputContainer) -> bool:
    return bool(container.format.flags & CLOCK_MAY_JUMP)


class Timeline:
    """Packets in the order of the file, their times changed to those of one clock.

    Behind a jump all streams move together, so that they stay in step, and the earliest of them
    begins where the latest had ended. `end_s` is where what has passed ends; `num_jumps` counts.
    """

    def __init__(self, packets: Iterable[av.Packet], *, may_jump: bool) -> None:
        self.end_s = float("-inf")
        self.num_jumps = 0
        self._packets = iter(packets)
        self._may_jump = may_jump
        self._offset_s = 0.0
        """What is added to the file's times."""
        self._latest: dict[int, float] = {}
        """Stream -> decoding time of its last packet, on the one clock."""

    def __iter__(self) -> Iterator[av.Packet]:
        packet = next(self._packets, None)
        while packet is not None:
            if self._jumps(packet):
                packet = yield from self._beyond(packet)
            else:
                yield self._moved(packet, self._offset_s)
                packet = next(self._packets, None)

    def _jumps(self, packet: av.Packet) -> bool:
        raw_s = _decoding_s(packet)
        if raw_s is None or not self._latest:
            return False
        time_s, newest_s = raw_s + self._offset_s, max(self._latest.values())
        if self._may_jump and not newest_s - SKEW_S <= time_s <= newest_s + AHEAD_S:
            return not self._goes_on(packet)
        return time_s < self._latest.get(packet.stream_index, time_s) - BACK_S

    def _goes_on(self, packet: av.Packet) -> bool:
        """Whether a packet follows the last one of its stream, however late it comes.

        MPEG-TS gives the last one before a pause only when the pause is over.
        """
        time_s = _decoding_s(packet) + self._offset_s
        return 0.0 <= time_s - self._latest.get(packet.stream_index, time_s + 1.0) < GOES_ON_S

    def _beyond(self, packet: av.Packet | None) -> Generator[av.Packet, None, av.Packet | None]:
        """Give the packets that settle where the new clock begins; returns the one behind them.

        Of the other streams, packets of the old clock may still follow.
        """
        assert packet is not None
        began_s = _decoding_s(packet)
        jump_s = self._off_s(packet)
        waiting: list[tuple[av.Packet, bool]] = []
        newest: dict[int, float] = {}
        while packet is not None and len(waiting) < MAX_LOOK_PACKETS:
            raw_s, stream = _decoding_s(packet), packet.stream_index
            if raw_s is not None:
                if stream in newest and not -BACK_S <= raw_s - newest[stream] <= AHEAD_S:
                    break  # and there it jumps again
                off_s = self._off_s(packet)
                is_new = abs(off_s - jump_s) <= abs(off_s) and not self._goes_on(packet)
                if stream in newest or is_new:
                    newest[stream] = raw_s
            waiting.append((packet, stream in newest))
            packet = next(self._packets, None)
            is_settled = newest.keys() >= self._latest.keys()
            if is_settled or max(newest.values()) > began_s + LOOK_S:
                break
        old = [one for one, is_new in waiting if not is_new]
        begin_s = min(_begin_s(one) for one, is_new in waiting if is_new and _is_timed(one))
        self.end_s = max([self.end_s, *(_end_s(one) + self._offset_s for one in old)])
        before_s, self._offset_s = self._offset_s, self.end_s - begin_s
        self.num_jumps += 1
        for one, is_new in waiting:
            yield self._moved(one, self._offset_s if is_new else before_s)
        return packet

    def _off_s(self, packet: av.Packet) -> float:
        """How far a packet lies from where its stream should go on."""
        raw_s = _decoding_s(packet)
        latest_s = self._latest.get(packet.stream_index, self.end_s)
        return raw_s + self._offset_s - max(latest_s, self.end_s - 1.0)

    def _moved(self, packet: av.Packet, offset_s: float) -> av.Packet:
        if not _is_timed(packet):
            return packet
        if offset_s:
            ticks = round(offset_s / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        self._latest[packet.stream_index] = _decoding_s(packet)
        self.end_s = max(self.end_s, _end_s(packet))
        return packet


def _is_timed(packet: av.Packet) -> bool:
    return bool(packet.time_base) and (packet.pts is not None or packet.dts is not None)


def _decoding_s(packet: av.Packet) -> float | None:
    if not _is_timed(packet):
        return None
    return float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)


def _begin_s(packet: av.Packet) -> float:
    return float((packet.dts if packet.pts is None else packet.pts) * packet.time_base)


def _end_s(packet: av.Packet) -> float:
    if not _is_timed(packet):
        return float("-inf")
    return _begin_s(packet) + float((packet.duration or 0) * packet.time_base)
