"""What nodes whose versions agree in the first two digits may rely on (docs/design/protocols.md, "Versions").

`KINDS` and `FIELDS` are those of 0.2.0. They change when the second digit of the version does, and at no other time.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import mosfs
from mosfs.migrate.image import ImageMeta, Timer, Vma
from mosfs.wire import frames, messages, orders
from mosfs.wire.messages import decode_peer

VERSION = "0.2"
#: Flags that frames had in 0.2.0, at most.
FLAGS = {frames.Kind.ROUND: 1, frames.Kind.DIED: 1} | dict.fromkeys(
    (frames.Kind.REPLY, frames.Kind.CALL, frames.Kind.EXEC, frames.Kind.WANT, frames.Kind.MMAP, frames.Kind.PRIVATE_OPEN,
     frames.Kind.PRIVATE_FULL), 0xFFFF,
)  # fmt: skip
KINDS = {*range(1, 8), 9, *range(16, 33), 40, *range(48, 66), 67, *range(70, 76)}
#: Fields of what nodes tell each other, in their order; those before "/" have no default.
FIELDS: dict[type[msgspec.Struct], str] = {
    messages.PeerHello: "wire version ip features kernel speed ncpus /",
    messages.PeerStatus: "load speed ncpus mem_free mem_total guests blocked "
                         "/ swap_free swap_total frozen bits level paging processes",
    messages.GuestRequest: "req pid uid comm need_mb features token key near / direct_token direct_key below needs",
    messages.GuestAccept: "req /",
    messages.GuestRefuse: "req reason /",
    messages.PostAnswer: "/ result node serial",
    messages.PostDeliver: "name home pid uid gid to_home to_pid size / probe late",
    messages.PostWhere: "pid /",
    messages.PostClaim: "pid /",
    messages.PostClaimed: "pid here / gone",
    messages.PostFetch: "home pid /",
    messages.PostFetched: "home pid serial /",
    messages.PostSignal: "pid /",
    messages.PostClaimant: "pid /",
    messages.LastMessage: "home pid location length /",
    orders.GoTimes: "realtime monotonic boot_id / coarse boot tai asked",
    orders.MoveOrder: "ip port token key near / features",
    orders.ForkOrder: "flags mask /",
    orders.ExecOrder: "nr dirfd path argv envp flags mask / fault",
    orders.MmapOrder: "length prot flags fd offset mask / at",
    orders.MailTable: "entries home uid gid filter_at /",
    orders.MailSeen: "filter_at / last",
    orders.PrivateOpen: "flags mask /",
    orders.About: "lock needmem cpujob decay age history / nice",
    orders.Used: "cpu size_mb / user",
    orders.OutOrder: "target / below why needs",
    Vma: "start end prot / grows_down anonymous name offset flags file shared",
    Timer: "/ realtime monotonic",
    ImageMeta: "version pid uid comm features regs xstate mask actions ignored altstack pending rseq tid_address robust mm auxv "
               "vmas limits shown / home waiting dumpable carry seq seen cpu_timers mail used private guards xlayout "
               "waiting_state told needs",
}  # fmt: skip


def test_the_lists_are_of_this_version() -> None:
    assert mosfs.__version__.startswith(f"{VERSION}.")


def test_a_new_kind_of_frame_has_its_generation() -> None:
    """So nobody is sent one who does not know it: it would end his channel, and the programs behind it."""
    assert set(frames.SHAPES) >= KINDS, "an older node sends what is missing"
    assert {int(kind) for kind in frames.SINCE} == set(frames.SHAPES) - KINDS
    assert all(0 < since <= frames.GENERATION for since in frames.SINCE.values())
    assert not any(frames.understands(0, kind) for kind in frames.SINCE)
    assert all(frames.understands(frames.GENERATION, kind) for kind in frames.SHAPES)


def test_new_flags_of_a_kind_have_their_generation() -> None:
    changed = {kind for kind in KINDS if frames.SHAPES[kind].flags != FLAGS.get(frames.Kind(kind), 0)}
    assert {int(kind) for kind in frames.FLAGS_SINCE} == changed
    assert all(0 < since <= frames.GENERATION for since in frames.FLAGS_SINCE.values())
    for kind, since in frames.FLAGS_SINCE.items():
        assert [frames.flags_for(generation, kind, 1) for generation in (since - 1, since, frames.GENERATION)] == [0, 1, 1]
    assert frames.flags_for(0, frames.Kind.REPLY, 7) == 7


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_fields_are_only_appended_and_may_be_missing(kind: type[msgspec.Struct]) -> None:
    required, _, optional = FIELDS[kind].partition("/")
    known = [*required.split(), *optional.split()]
    fields = kind.__struct_fields__
    assert list(fields[: len(known)]) == known
    assert len(fields) - len(kind.__struct_defaults__) <= len(required.split()), "an older node does not send them"
    assert not kind.__struct_config__.forbid_unknown_fields and kind.__struct_config__.array_like


@pytest.mark.parametrize("kind", [orders.PrivateOpen, orders.ForkOrder, messages.PostWhere])
def test_what_a_newer_node_appends_is_passed_over(kind: Any) -> None:
    made = kind(*range(1, 1 + len(kind.__struct_fields__)))
    more = [*msgspec.msgpack.decode(msgspec.msgpack.encode(made)), "of a newer version", {"what": 1}]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(more), type=kind) == made


def test_a_message_that_only_a_newer_node_knows_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_peer(msgspec.msgpack.encode([127, 1, 2]))


def test_frames_are_told_by_who_accepts_a_guest() -> None:
    older = decode_peer(msgspec.msgpack.encode([67, 5]))
    newer = decode_peer(messages.encode(messages.GuestAccept(5, frames.GENERATION)))
    assert (older.frames, newer.frames) == (0, frames.GENERATION)
