"""An image that comes by a little at a time, or without end: its channel ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.migrate.receipt import BESIDE, GRACE, SLOWEST, TIMES, Receipt
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.frames import Frame, Kind


class Peer:
    """Sends ``payload`` again and again, once in so many seconds."""

    def __init__(self, every: float, payload: bytes = bytes(SLOWEST)) -> None:
        self.now, self.every, self.payload, self.lost = 0.0, every, payload, False

    def receive(self) -> Frame:
        assert not self.lost
        self.now += self.every
        return Frame(Kind.PAGES, 0, 1, self.payload, None)

    def fail(self, text: str) -> ChannelLost:
        self.lost = True
        return ChannelLost(text)

    def receipt(self) -> Receipt:
        return Receipt(cast("Channel", self), clock=lambda: self.now)


def frames(peer: Peer, receipt: Receipt, most: int) -> int:
    """How many come before it is lost."""
    for number in range(most):
        try:
            receipt.next()
        except ChannelLost:
            return number
    return most


def vma(size: int) -> Any:
    return SimpleNamespace(start=1 << 20, end=(1 << 20) + size)


@pytest.mark.parametrize("payload", [b"", b"x", bytes(4096)])
def test_a_little_at_a_time(payload: bytes) -> None:
    peer = Peer(19.0, payload)
    assert frames(peer, peer.receipt(), 1000) == GRACE // 19
    assert peer.lost


def test_a_slow_wire_is_slow() -> None:
    peer = Peer(0.9)
    receipt = peer.receipt()
    receipt.expect([vma(1 << 40)])
    assert frames(peer, receipt, 2000) == 2000


def test_without_end() -> None:
    peer = Peer(0.0, bytes(1 << 20))
    receipt = peer.receipt()
    receipt.expect([vma(1 << 30), vma(1 << 20)])
    assert frames(peer, receipt, 10000) == (BESIDE + TIMES * ((1 << 30) + (1 << 20))) >> 20
    assert peer.lost
