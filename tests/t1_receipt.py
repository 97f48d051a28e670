"""An image that comes by a little at a time, or without end: its channel ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.migrate.receipt import BESIDE, TIMES, Receipt, TooSlow
from mosfs.wire.channel import COST, GRACE, HURRY, SLOWEST, Channel, ChannelLost
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.room import Memory


class Peer:
    """Sends ``payload`` again and again, once in so many seconds."""

    def __init__(self, every: float, payload: bytes = bytes(SLOWEST)) -> None:
        self.waited, self.every, self.payload, self.lost = 0.0, every, payload, False

    def receive(self) -> Frame:
        assert not self.lost
        self.waited += self.every
        return Frame(Kind.PAGES, 0, 1, self.payload, None)

    def fail(self, text: str) -> ChannelLost:
        self.lost = True
        return ChannelLost(text)

    def receipt(self, *, others: bool = False) -> Receipt:
        return Receipt(cast("Channel", self), others=others)


def frames(peer: Peer, receipt: Receipt, most: int) -> int:
    """How many come before it is lost."""
    for number in range(most):
        try:
            receipt.next()
        except (ChannelLost, TooSlow):
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
    most = BESIDE + TIMES * ((1 << 30) + (1 << 20))
    assert frames(peer, receipt, 10000) == most // ((1 << 20) + COST)
    assert peer.lost


@pytest.mark.parametrize(("rate", "late"), [(2 * HURRY, False), (HURRY, False), (HURRY // 8, True), (SLOWEST, True)])
def test_others_wait_for_a_slow_wire_no_longer_than_a_minute(rate: int, late: bool) -> None:
    """Nor for the rest of such an image; but the channel, which has other programs, is as good as before."""
    peer = Peer(0.5, bytes(rate // 2))
    receipt = peer.receipt(others=True)
    receipt.expect([vma(1 << 40)])
    came = frames(peer, receipt, 500)
    assert (came < 500) is late and not peer.lost
    assert not late or GRACE <= came * 0.5 <= GRACE * 8 / 7 + 1
    assert late is (frames(peer, receipt, 10) == 0)


@pytest.mark.parametrize(("size", "free", "most"), [(0, BESIDE, 1 << 20), (1 << 20, BESIDE, 1 << 9), (1 << 20, 1 << 50, 1 << 10)])
def test_frames_about_others_wait_for_the_end_of_an_image_and_are_not_many(size: int, free: int, most: int) -> None:
    """However much it says that it maps, and however little is in them."""
    peer = Peer(0.0)
    receipt = peer.receipt()
    receipt._memory = Memory(lambda: free)
    receipt.expect([vma(1 << 46)])
    frame, kept = Frame(Kind.REPLY, 0, 2, bytes(size), None), 0
    with pytest.raises(ChannelLost, match="about other programs"):
        while receipt.beside(frame) is frame:
            kept += 1
    assert most // 2 <= kept <= 2 * most
