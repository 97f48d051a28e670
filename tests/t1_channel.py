"""Two ends of a data channel: everything arrives in order, nobody waits for ever, and what was touched is refused."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.wire import channel
from mosfs.wire.channel import GRACE, HURRY, LEAST, SLOWEST, TAG, Channel, ChannelLost, Pace, Patience, one_image
from mosfs.wire.frames import HEADER, MAX_PAYLOAD, Frame, Kind
from mosfs.wire.room import Memory, available

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
MB = 1 << 20

Pair = tuple[socket.socket, socket.socket]


def tcp() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


WIRES: dict[str, Callable[[], Pair]] = {"unix": socket.socketpair, "tcp": tcp}


@contextmanager
def ends(
    make: Callable[[], Pair] = socket.socketpair, keys: tuple[bytes, bytes] = (KEY, KEY)
) -> Iterator[tuple[Channel, Channel]]:
    """Opener and other end."""
    near, far = make()
    with near, far:
        yield Channel(near, keys[0], opener=True), Channel(far, keys[1], opener=False)


@pytest.fixture(params=list(WIRES))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Channel, Channel]]:
    with ends(WIRES[request.param]) as both:
        yield both


def contents(size: int, seed: int) -> bytes:
    """Bytes that differ from those of every other seed and from themselves when shifted."""
    return b"".join(((seed << 32) + i).to_bytes(8, "little") for i in range(size // 8 + 1))[:size]


# --------------------------------------------------------------------------- what arrives


def test_frames_arrive_as_they_were_sent_in_both_directions(pair: tuple[Channel, Channel]) -> None:
    for sender, receiver in (pair, pair[::-1]):
        for number in range(50):
            sender.send(Kind.CALL, number, b"x" * number, number)
        assert [receiver.receive() for _ in range(50)] == [Frame(Kind.CALL, n, n, b"x" * n) for n in range(50)]


u16, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(u16, u64, st.binary(max_size=300), u16), max_size=20))
def test_any_frames(sent: list[tuple[int, int, bytes, int]]) -> None:
    with ends() as (near, far):
        for frame in sent:
            near.send(*frame)
        near.send(Kind.DROP, 0)
        found: list[Frame] = []
        while not found or found[-1].kind != Kind.DROP or len(found) <= len(sent):
            found += far.frames()
        assert [(f.kind, f.pair, f.payload, f.flags) for f in found[:-1]] == sent


@pytest.mark.parametrize("size", [0, 1, MB - 32, MB - 31, MB, MB + 1, 5 * MB])
def test_frames_around_the_size_of_the_buffer(pair: tuple[Channel, Channel], size: int) -> None:
    near, far = pair
    sizes = [10, size, 3, size, size]

    def send() -> None:
        for number, length in enumerate(sizes):
            near.send(Kind.PAGES, number, contents(length, number))
        near.finish()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        for number, length in enumerate(sizes):
            assert far.receive() == Frame(Kind.PAGES, 0, number, contents(length, number))
        sending.result()


def test_payloads_of_any_kind_of_buffer(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    for payload in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
        near.send(Kind.PAGES, 1, payload)
        assert far.receive().payload == b"abc"


def test_many_small_frames_come_out_of_one_read(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    for number in range(100):
        near.send(Kind.CALL, number)
    found: list[int] = []
    while len(found) < 100:
        found += [frame.pair for frame in far.frames()]
    assert found == list(range(100))
    assert not far.pending()


def test_both_send_much_at_once(pair: tuple[Channel, Channel]) -> None:
    """20 MB each way, far more than sockets hold, and nobody reads until all of its own is sent."""
    blocks = [contents(MB, seed) for seed in range(20)]

    def talk(end: Channel, order: Iterable[int]) -> list[int]:
        for number in order:
            end.send(Kind.PAGES, number, blocks[number])
        found = []
        for _ in blocks:
            frame = end.receive()
            assert frame.payload == blocks[frame.pair]
            found.append(frame.pair)
        end.finish()
        return found

    with ThreadPoolExecutor(2) as pool:
        near = pool.submit(talk, pair[0], range(20))
        far = pool.submit(talk, pair[1], range(19, -1, -1))
        assert near.result() == list(range(19, -1, -1))
        assert far.result() == list(range(20))


def test_what_came_while_sending_is_pending(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.send(Kind.REPLY, 7, b"first")
    begun = threading.Event()

    def drain() -> None:
        begun.wait()
        while far.receive().kind != Kind.DROP:
            pass

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(drain)
        while not near.pending():  # the socket must be full before the sender looks at what has come
            begun.set()
            near.send(Kind.PAGES, 1, bytes(8 * MB))
        near.send(Kind.DROP, 1)
        near.finish()
        reading.result()
    assert list(near.frames()) == [Frame(Kind.REPLY, 0, 7, b"first")]


# --------------------------------------------------------------------------- losses


def test_the_end_of_the_connection(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    near.send(Kind.GO, 1)
    near.close()
    assert near.lost and far.receive().kind == Kind.GO
    assert not far.lost
    with pytest.raises(ChannelLost, match="closed"):
        far.receive()
    assert far.lost


def test_sending_to_nobody(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.close()
    with pytest.raises(ChannelLost):
        for _ in range(100):  # TCP tells only later
            near.send(Kind.PAGES, 1, bytes(MB))
    assert near.lost


@pytest.mark.parametrize("size", [0, 8 * MB])
def test_what_a_peer_has_sent_before_it_ended_counts(pair: tuple[Channel, Channel], size: int) -> None:
    near, far = pair
    near.send(Kind.GO, 1)  # never read, so that TCP resets the connection
    near.send(Kind.GO, 2)
    far.send(Kind.REPLY, 7, b"last words")
    far.send(Kind.REPLY, 8, b"the very last")
    far.close()
    for _ in range(20):
        near.send(Kind.PAGES, 1, bytes(size))
        time.sleep(0.001)  # TCP tells only later
    assert not near.lost and near.shared.broken and not near.share()
    found = []
    with pytest.raises(ChannelLost):
        while True:
            found += near.frames()
            near.send(Kind.GO, 3)
    assert [frame.payload for frame in found] == [b"last words", b"the very last"]
    assert near.lost


def test_frames_that_c_has_read_count_when_sending_fails(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    far.send(Kind.REPLY, 7, b"last words")
    near.shared.end += near.sock.recv_into(memoryview(near._buffer)[near.shared.end :])  # as mos_hear leaves what is Python's
    far.close()
    near.shared.broken = 32
    near.flush()
    assert [frame.payload for frame in near.frames()] == [b"last words"]
    with pytest.raises(ChannelLost):
        near.flush()


def test_sending_on_a_channel_that_was_closed_here(pair: tuple[Channel, Channel]) -> None:
    near, _ = pair
    near.close()
    with pytest.raises(ChannelLost):
        near.send(Kind.GO, 1)


def test_silence(pair: tuple[Channel, Channel]) -> None:
    with pytest.raises(ChannelLost, match="timeout"):
        pair[1].receive(timeout=0.01)
    assert pair[1].lost


def test_a_peer_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.01)
    with ends() as (near, _), pytest.raises(ChannelLost, match="no progress"):
        near.send(Kind.PAGES, 1, bytes(8 * MB))
        near.send(Kind.PAGES, 1, bytes(8 * MB))


def test_a_peer_is_not_lost_because_nobody_looked() -> None:
    """Who waits had no processor for an hour, or was stopped: the peer may have said everything meanwhile."""
    now = [0.0]
    patience = Patience(20.0, lambda: now[0])
    assert patience.left(0) == 20
    now[0] += 3600
    assert patience.left(1) == 19  # the time of one look
    now[0] += 0.5
    assert patience.left(LEAST - 1) == 18.5
    assert patience.left(LEAST) == 20
    for _ in range(20):
        now[0] += 1
        left = patience.left(2 * LEAST - 1)
    assert left == 0


# --------------------------------------------------------------------------- what was touched

SENT = [Frame(Kind.GO, 0, 1, b""), Frame(Kind.CALL, 3, 2, b"payload"), Frame(Kind.REPLY, 0, 3, b"\0" * 40)]


def packets(frames: Iterable[Frame], key: bytes = KEY, *, opener: bool = True) -> list[bytes]:
    """Each frame as it goes over the wire."""
    found = []
    near, far = socket.socketpair()
    with near, far:
        end = Channel(near, key, opener=opener)
        for frame in frames:
            end.send(frame.kind, frame.pair, frame.payload, frame.flags)
            found.append(far.recv(4096))
    return found


def heard(wire: bytes, key: bytes = KEY) -> tuple[list[Frame], str]:
    """What the other end makes of these bytes and the end of the connection: frames, and why the channel was lost."""
    near, far = socket.socketpair()
    with near, far:
        end = Channel(far, key, opener=False)
        near.sendall(wire)
        near.close()
        found: list[Frame] = []
        try:
            while True:
                found.append(end.receive())
        except ChannelLost as lost:
            assert end.lost
            return found + list(end._queue), str(lost)


def test_untouched() -> None:
    wire = packets(SENT)
    assert [len(packet) for packet in wire] == [HEADER.size + len(frame.payload) + TAG for frame in SENT]
    assert heard(b"".join(wire)) == (SENT, "closed")


@pytest.mark.parametrize("at", range(2 * (HEADER.size + TAG) + 7))
def test_every_byte_counts(at: int) -> None:
    wire = bytearray(b"".join(packets(SENT)))
    wire[at] ^= 0x10
    found, why = heard(bytes(wire))
    assert found == SENT[: at // (HEADER.size + TAG)][:1]
    # a longer length makes the end wait for bytes that never come
    assert why in ("Security Compromised", "frame too long", "closed")


@given(st.integers(0, 3 * (HEADER.size + TAG) + 46))
def test_truncated(length: int) -> None:
    wire = packets(SENT)
    ends_at = [sum(map(len, wire[: i + 1])) for i in range(3)]
    assert heard(b"".join(wire)[:length]) == (SENT[: sum(end <= length for end in ends_at)], "closed")


@pytest.mark.parametrize(
    ("order", "good"),
    [((0, 0), 1), ((0, 1, 0), 2), ((0, 1, 1, 2), 2), ((1, 0), 0), ((0, 2), 1), ((1, 2), 0), ((0, 2, 1), 1)],
    ids=["repeated", "repeated later", "second repeated", "swapped", "one left out", "first left out", "last swapped"],
)
def test_replayed_dropped_or_moved(order: tuple[int, ...], good: int) -> None:
    wire = packets(SENT)
    assert heard(b"".join(wire[i] for i in order)) == (SENT[:good], "Security Compromised")


def test_what_an_end_has_sent_cannot_be_given_back_to_it() -> None:
    """Both directions have nonces of their own, or counters would meet."""
    assert heard(b"".join(packets(SENT, opener=False))) == ([], "Security Compromised")


def test_frames_of_another_key() -> None:
    assert heard(b"".join(packets(SENT, OTHER_KEY))) == ([], "Security Compromised")
    with ends(keys=(KEY, OTHER_KEY)) as (near, far):
        for sender, receiver in ((near, far), (far, near)):
            sender.send(Kind.GO, 1)
            with pytest.raises(ChannelLost, match="Security Compromised"):
                receiver.receive()


FIRST_OF_A_FORK = """
import os, resource, socket
from mosfs.wire import channel

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def of_a_fork():
    ends = socket.socketpair()
    if os.fork() == 0:
        before = faults()
        made = channel.Channel(ends[0], bytes(32), opener=True)
        made.share()
        made.send(1, 2, b"x")
        print(faults() - before, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0

of_a_fork()
channel.prepare()
of_a_fork()
"""


def test_what_ciphers_need_once_a_fork_has_already() -> None:
    """It takes more than 300 pages, which a fork that has to make them gets one by one."""
    found = subprocess.run([sys.executable, "-c", FIRST_OF_A_FORK], capture_output=True, text=True, check=True)
    alone, prepared = map(int, found.stdout.split())
    assert prepared < alone - 300, "page faults"


def test_the_same_frame_never_looks_the_same() -> None:
    first, second = packets([SENT[1], SENT[1]])
    assert first[: HEADER.size] == second[: HEADER.size]
    assert first[HEADER.size :] != second[HEADER.size :]
    assert b"payload" not in first


def test_a_length_beyond_the_limit_is_refused_before_memory_is_taken() -> None:
    assert heard(HEADER.pack(MAX_PAYLOAD + 1, Kind.PAGES, 0, 1)) == ([], "frame too long")
    assert heard(HEADER.pack(MAX_PAYLOAD, Kind.PAGES, 0, 1)) == ([], "closed")


@given(st.binary(max_size=200))
def test_noise(noise: bytes) -> None:
    found, why = heard(noise)
    assert found == [] and why in ("Security Compromised", "frame too long", "closed")


# --------------------------------------------------------------------------- peers that read slowly


def test_ordinary_frames_wait_for_nobody() -> None:
    """A peer that reads nothing for a while: what it is told is kept, and comes in its order, with what C had begun to send."""
    with ends() as (near, far):
        sent = [Frame(Kind.REPLY, 0, number, contents(MB, number)) for number in range(8)]
        for frame in sent:
            near.send(frame.kind, frame.pair, frame.payload)
        assert near.unsent and not near.takes_more() and not near.share()
        found: list[Frame] = []
        while len(found) < len(sent):
            near.flush()
            found += far.frames()
        assert found == sent and not near.unsent and near.takes_more()


def test_an_image_comes_behind_what_has_waited() -> None:
    with ends() as (near, far), ThreadPoolExecutor(1) as pool:
        near.send(Kind.REPLY, 1, bytes(8 * MB))
        reading = pool.submit(lambda: [far.receive().kind for _ in range(3)])
        near.send(Kind.PAGES, 1, bytes(MB))
        assert near.unsent <= MB + HEADER.size + TAG
        near.send(Kind.GO, 1)
        near.finish()
        assert reading.result() == [Kind.REPLY, Kind.PAGES, Kind.GO]


def test_a_piece_of_memory_waits_for_nobody_and_the_next_one_for_the_first() -> None:
    """Memory that goes ahead of a program, while others are served: so a slow wire costs these nothing."""
    with ends() as (near, far), ThreadPoolExecutor(1) as pool:
        near.send(Kind.PAGES, 1, contents(8 * MB, 1))
        assert near.unsent and not near.takes_more()
        reading = pool.submit(lambda: [far.receive().payload for _ in range(2)])
        near.send(Kind.PAGES, 1, contents(8 * MB, 2))
        near.finish()
        assert reading.result() == [contents(8 * MB, 1), contents(8 * MB, 2)]


def test_an_image_has_been_sent_when_its_end_has() -> None:
    with ends() as (near, far), ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: [far.receive().kind for _ in range(2)])
        near.send(Kind.PAGES, 1, bytes(8 * MB))
        near.send(Kind.IMAGE_END, 1, bytes(8))
        assert not near.unsent
        near.close()
        assert reading.result() == [Kind.PAGES, Kind.IMAGE_END]


@pytest.mark.parametrize("size", [MB, 0])
def test_what_a_peer_sends_while_it_takes_nothing_is_bounded_by_memory(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of frames with nothing in them, too."""
    monkeypatch.setattr(channel, "Memory", lambda: Memory(lambda: 4 * MB))
    with ends() as (near, far), ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(far, "_fill", lambda: time.sleep(0.001))  # as it would while it cannot send

        def talk() -> None:
            with suppress(OSError, ChannelLost):
                for _ in range(100 * MB // max(size, 512)):
                    far.send(Kind.REPLY, 1, bytes(size))
                    far.finish()

        talking = pool.submit(talk)
        near.send(Kind.PAGES, 1, bytes(8 * MB))
        with pytest.raises(ChannelLost, match="takes nothing"):
            near.send(Kind.PAGES, 1, bytes(8 * MB))
        assert Memory.LOOK <= near._queued <= Memory.LOOK + 8 * MB  # what is read at once, of 100
        near.close()
        talking.result()


def test_a_third_of_what_would_be_free_is_kept_for_one_peer() -> None:
    looks, free = 0, 300 * MB

    def left() -> int:
        nonlocal looks
        looks += 1
        return free - size

    memory, size = Memory(left), 0
    while memory.holds(size):
        size += MB
    assert size == 101 * MB or size - 100 * MB <= Memory.LOOK
    assert looks <= size // Memory.LOOK + 1
    assert 0 < available() < 1 << 50


def test_who_waits_for_an_answer_sends_what_has_waited() -> None:
    with ends() as (near, far), ThreadPoolExecutor(1) as pool:
        near.send(Kind.CALL, 1, bytes(8 * MB))

        def answer() -> None:
            assert far.receive().kind == Kind.CALL
            far.send(Kind.REPLY, 1)

        answering = pool.submit(answer)
        assert near.receive().kind == Kind.REPLY
        answering.result()


def test_what_waits_for_a_peer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.01)
    monkeypatch.setattr(channel, "MOST_UNSENT", 4 * MB)
    with ends() as (near, _):
        near.send(Kind.REPLY, 1, bytes(8 * MB))
        with pytest.raises(ChannelLost, match="no progress"):
            near.send(Kind.REPLY, 1)


def test_who_takes_nothing_of_what_waits_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.01)
    with ends() as (near, _):
        near.send(Kind.REPLY, 1, bytes(8 * MB))
        with pytest.raises(ChannelLost, match="no progress"):
            while True:
                near.flush()
                time.sleep(0.001)
    assert near.lost


def test_the_end_of_a_peer_that_had_not_taken_all() -> None:
    with ends() as (near, far):
        near.send(Kind.REPLY, 1, bytes(8 * MB))
        far.send(Kind.CALL, 2, b"last words")
        far.close()
        near.flush()
        assert [frame.payload for frame in near.frames()] == [b"last words"]
        with pytest.raises(ChannelLost):
            near.flush()


@pytest.mark.parametrize(("rate", "lost"), [(2 * SLOWEST, False), (SLOWEST, False), (SLOWEST // 2, True), (1, True)])
def test_a_peer_may_be_slow_but_not_for_ever(rate: int, lost: bool) -> None:
    """Who is waited for all the time, at so many bytes a second."""
    pace, seconds = Pace(), 0
    while pace.waited(1.0) and seconds < 3600:
        pace.took(rate)
        seconds += 1
    assert (seconds < 3600) is lost
    assert not lost or seconds <= 2 * GRACE


def test_time_cannot_be_saved_up() -> None:
    """A peer that was fast for hours may not keep us waiting any longer than others."""
    pace = Pace()
    pace.took(1 << 40)
    assert sum(pace.waited(1.0) for _ in range(1000)) < GRACE


@pytest.mark.parametrize(("rate", "lost"), [(2 * HURRY, False), (HURRY, False), (HURRY // 8, True), (SLOWEST, True)])
def test_where_others_wait_an_image_has_little_more_than_a_minute(rate: int, lost: bool) -> None:
    pace, seconds = Pace(others=True), 0
    while pace.waited(1.0) and seconds < 3600:
        pace.took(rate)
        seconds += 1
    assert (seconds < 3600) is lost
    assert not lost or seconds <= GRACE * 8 / 7


def test_each_image_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is sent between images has that of a channel where nobody waits."""
    with ends() as (near, _):
        monkeypatch.setattr(channel, "GRACE", 0.01)
        with one_image(near, others=True):
            monkeypatch.setattr(channel, "GRACE", 3600.0)
            assert not near._pace.waited(0.02)
        assert near._pace.waited(3599.0)
        monkeypatch.setattr(channel, "GRACE", 0.01)
        with pytest.raises(ChannelLost, match="no progress"), one_image(near, others=True):
            for _ in range(2):
                near.send(Kind.PAGES, 1, bytes(8 * MB))
        near._pace.took(SLOWEST)
        assert near._pace.waited(0.005)
