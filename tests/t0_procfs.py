"""The table of control files, the world and the tree, without a file system."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mosfs.abi.args import as_c_int
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.node import loads
from mosfs.node.choice import best
from mosfs.node.ended import REMEMBERED, Ended, Memory
from mosfs.node.nodes import Node
from mosfs.node.pending import PATIENCE, Asked, Pending
from mosfs.node.programs import MOST_VISITS, Guest, Program
from mosfs.node.world import World
from mosfs.procfs.table import (
    BY_NAME,
    CONTROL_FILES,
    Access,
    NotInRange,
    checkpoint_number,
    name_of_checkpoints,
    parse,
)
from mosfs.procfs.tree import SPECS, Entry, Folder, Tree, settings_shown
from mosfs.wire.asked import Settings
from mosfs.wire.limits import ENDED
from mosfs.wire.messages import Command, GuestState, LastMessage, PeerStatus, ProcState, Total, Usage
from tests.fake_map import FakeMap

HOME, NEAR, FAR = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ROOT, ANN, BOB = 0, 1001, 1002


def state(pid: int = 100, **fields: object) -> ProcState:
    start = ProcState(pid, ANN, "", "here", 0, Settings(), comm="prog")
    return replace(start, **fields)


def status(load: int, free: int = 1000, *, blocked: bool = False) -> PeerStatus:
    return PeerStatus(load, 10000, 1, free, 2000, 0, blocked)


@pytest.fixture
def sent() -> list[Command]:
    return []


@pytest.fixture
def world(sent: list[Command]) -> World:
    nodes = FakeMap(HOME, NEAR, FAR, numbers={HOME: 1, NEAR: 2, "10.9.9.9": 9}, far=[FAR])
    made = World(ip=HOME, map=nodes, clock=lambda: 100.0, version="0.1.0", speed=10000, port=253, pid=42)
    made.me.status, made.me.heard = status(100), 100.0
    made.programs[100] = Program(state(), sent.append)
    made.guests[200] = Guest(GuestState(200, 77, FAR, BOB, "theirs", 1.5), sent.append)
    return made


@pytest.fixture
def tree(world: World) -> Tree:
    return Tree(world, ROOT)


def walk(tree: Tree, path: str, uid: int = ROOT, pid: int = 1) -> Entry:
    place = Entry(Folder.ROOT)
    for name in path.split("/"):
        place = tree.lookup(place, name, uid, pid)
    return place


def read(tree: Tree, path: str) -> str:
    return tree.read(walk(tree, path)).decode()


def fails(number: int, action: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno == number


# --------------------------------------------------------------------------- table


def test_table_is_the_manuals() -> None:
    """mosix(7), INTERFACE FOR PROGRAMS."""
    directions = {row.name: row.access.value for row in CONTROL_FILES}
    assert directions == {
        "migrate": "w", "lock": "rw", "freezable": "rw", "outlive": "rw", "whereami": "r", "nmigs": "r", "sigmig": "rw",
        "needmem": "rw", "unsupportok": "rw", "clear": "w", "cpujob": "rw", "decayrate": "rw", "checkpoint": "rw",
        "checkpointfile": "w", "checkpointlimit": "rw", "checkpointinterval": "rw", "in_cluster": "r", "sender_home": "r",
        "sender_pid": "r", "sender_location": "r", "message_length": "r",
    }
    assert (BY_NAME["needmem"].hi, BY_NAME["sigmig"].hi, BY_NAME["decayrate"].default) == (262143, 64, 9976)
    assert BY_NAME["checkpointlimit"].hi == BY_NAME["checkpointinterval"].hi == 10000000


@pytest.mark.parametrize(("name", "number"), [
    ("save", 1), ("save.4", 4), ("/tmp/a.b/save", 1), ("save.", 1), ("save.x", 1), ("save.4x", 1), ("a.1.22", 22), (".7", 7),
])
def test_first_checkpoint(name: str, number: int) -> None:
    """mosrun(1), CHECKPOINTS: -Cmysave gives mysave.1, -Csave.4 gives save.4."""
    assert checkpoint_number(name) == number


def test_names_of_checkpoints() -> None:
    assert name_of_checkpoints("a b\n") == "a b"
    for text, error in (("", ValueError), ("\n", ValueError), ("a\0b", ValueError), ("x" * 4081, NotInRange)):
        with pytest.raises(error):
            name_of_checkpoints(text)


@given(st.integers(-(2**40), 2**40))
def test_a_c_int_keeps_the_low_bits(value: int) -> None:
    assert -(2**31) <= as_c_int(value) < 2**31 and (as_c_int(value) - value) % 2**32 == 0


@given(st.sampled_from(CONTROL_FILES), st.integers(-(2**33), 2**33))
def test_parse_keeps_the_range(row: object, value: int) -> None:
    assert isinstance(row, type(CONTROL_FILES[0]))
    if row.access is not Access.READ and row.lo <= value <= row.hi:
        assert parse(row, f"{value}\n") == value
    else:
        with pytest.raises(ValueError, match=row.name):
            parse(row, str(value))


@pytest.mark.parametrize("text", ["", "x", "1.5", "--1", "1 2", "٣", "0x1"])
def test_parse_refuses_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="not an integer"):
        parse(BY_NAME["needmem"], text)


@given(st.integers(0, 2**32 - 1))
def test_unsigned_addresses_round_trip(value: int) -> None:
    assert as_unsigned(to_ip(value)) == value


@given(st.sampled_from(Folder), st.integers(0, 2**32 - 1), st.integers(0, 255))
def test_places_round_trip(folder: Folder, key: int, file: int) -> None:
    place = Entry(folder, key, file)
    assert Entry.of(place.inode) == place


def test_root_has_the_inode_that_fuse_wants() -> None:
    assert Entry(Folder.ROOT).inode == 1


def test_every_file_has_a_text_and_a_direction() -> None:
    for spec in SPECS.values():
        assert len(spec.files) < 256
        assert len({file.name for file in spec.files}) == len(spec.files)
        for file in spec.files:
            assert file.text and (file.read or file.write or file.ask)


# --------------------------------------------------------------------------- reading


def test_defaults_are_shown_for_what_is_not_given(world: World) -> None:
    shown = settings_shown(world.programs[100].state)
    assert shown == {
        "lock": 0, "freezable": 1, "outlive": 0, "needmem": 0, "unsupportok": 0, "cpujob": 0, "decayrate": 9976,
        "checkpointlimit": 0,
        "checkpointinterval": 0,
    }


@pytest.mark.parametrize(("where", "state_name", "whereami", "shown"), [
    ("", "here", "0", "here"), ("", "starting", "0", "starting"), ("", "leaving", "0", "leaving"),
    (NEAR, "away", "2", "2"), (NEAR, "leaving", "2", "2"), (FAR, "away", str(as_unsigned(FAR)), FAR),
    (FAR, "returning", str(as_unsigned(FAR)), FAR),
])
def test_where_a_program_is(world: World, tree: Tree, where: str, state_name: str, whereami: str, shown: str) -> None:
    world.programs[100].state = state(where=where, state=state_name)
    assert read(tree, "proc/100/whereami") == f"{whereami}\n"
    assert read(tree, "proc/100/where") == f"{shown}\n"


def test_stat_of_a_program_has_every_field(tree: Tree) -> None:
    shown = json.loads(read(tree, "proc/100/stat"))
    assert set(shown) == {*ProcState.__struct_fields__, "history", "path"}
    assert shown["settings"]["decay"] == -1


def test_the_path_of_a_program_is_where_it_came_to(world: World, tree: Tree) -> None:
    program = world.programs[100]
    assert json.loads(read(tree, "proc/100/stat"))["path"] == []
    steps = [(10.0, NEAR, "away", "less load"), (20.0, NEAR, "returning", ""), (40.0, "", "here", ""), (50.0, FAR, "away", "")]
    for now, where, name, because in steps:
        new = state(where=where, state=name, because=because)
        program.follow(new, now)
        program.state = new
    assert json.loads(read(tree, "proc/100/stat"))["path"] == [[90.0, NEAR, "less load"], [60.0, "", ""], [50.0, FAR, ""]]
    for number in range(100):
        program.follow(state(where=f"10.1.0.{number}"), 60.0)
    assert [visit.where for visit in program.path] == [f"10.1.0.{number}" for number in range(100 - MOST_VISITS, 100)]


def test_loads_of_the_last_hour(world: World, tree: Tree) -> None:
    loads.note(world)
    world.nodes[NEAR] = Node(NEAR, status=status(40), heard=99.0)
    world.nodes["192.168.0.1"] = Node("192.168.0.1", status=status(40), heard=99.0)  # not in the map any more
    world.me.status = status(300)
    loads.note(world)
    world.nodes[NEAR].dead = True
    loads.note(world)
    assert json.loads(read(tree, "node/loads")) == {"period": 30.0, "nodes": {HOME: [100, 300, 300], NEAR: [40, None]}}
    for _ in range(2 * loads.KEPT):
        loads.note(world)
    assert json.loads(read(tree, "node/loads"))["nodes"] == {HOME: [300] * 120, NEAR: [None] * 120}


def test_guests(tree: Tree, sent: list[Command]) -> None:
    assert [read(tree, f"guests/200/{name}") for name in ("from", "origpid", "uid", "pid", "comm")] == [
        f"{FAR}\n", "77\n", f"{BOB}\n", "200\n", "theirs\n",
    ]
    tree.write(walk(tree, "guests/200/migrate"), b"out\n")
    assert sent == [Command(200, "out", "")]
    fails(errno.EINVAL, lambda: tree.write(walk(tree, "guests/200/migrate"), b"3"))
    fails(errno.EACCES, lambda: tree.check(walk(tree, "guests/200/migrate"), BOB, os.W_OK))


TOTAL = Total(1.0, 0.5, 2.0, 0.25)


def test_ended_programs_are_for_their_owner_and_root(world: World, tree: Tree) -> None:
    world.gone(100, TOTAL)
    assert [name for name, _ in tree.children(Entry(Folder.ENDED), 1)] == ["100"]
    for uid in (ROOT, ANN):
        assert tree.read(walk(tree, "ended/100/usertime", uid)) == b"3.0\n"
        tree.check(walk(tree, "ended/100/usertime", uid), uid, os.R_OK)
    assert read(tree, "ended/100/systime") == "0.75\n"
    assert json.loads(read(tree, "ended/100/stat")) == {
        "pid": 100, "uid": ANN, "comm": "prog", "ago": 0.0, "user": 1.0, "system": 0.5, "user_away": 2.0, "system_away": 0.25,
        "where": "", "nmigs": 0,
    }
    fails(errno.EACCES, lambda: walk(tree, "ended/100/stat", BOB))
    fails(errno.EACCES, lambda: tree.check(walk(tree, "ended/100"), BOB, os.X_OK))
    fails(errno.ENOENT, lambda: walk(tree, "proc/100"))
    fails(errno.ENOENT, lambda: walk(tree, "ended/101"))


def test_a_program_without_time_elsewhere_is_not_remembered(world: World, tree: Tree) -> None:
    world.gone(100, None)
    world.gone(555, TOTAL)  # nobody has told of it
    assert not list(tree.children(Entry(Folder.ENDED), 1))


def test_what_has_ended_is_remembered_for_an_hour_and_within_bounds() -> None:
    memory = Memory()
    for pid in range(1, ENDED.each + 3):
        memory.add(Ended(pid, ANN, "a", TOTAL, float(pid)))
    memory.add(Ended(ENDED.each + 1, BOB, "b", TOTAL, 2000.0))  # the number has come again, as another user's
    now = 2000.0
    assert memory.pids(now) == list(range(3, ENDED.each + 3))
    found = memory.get(ENDED.each + 1, now)
    assert found is not None and found.uid == BOB
    assert memory.pids(3.0 + REMEMBERED)[0] == 4 and memory.get(3, 3.0 + REMEMBERED) is None
    assert memory.pids(2000.0 + REMEMBERED) == [] and not memory.of_user and not memory.shares.held
    for uid in range(2000, 2000 + ENDED.total + 5):  # one too many loses only what is its own
        memory.add(Ended(uid, uid, "c", TOTAL, 9000.0))
    assert len(memory.owners) <= ENDED.total + 5 and memory.get(2000, 9000.0) is not None


def test_nodes(world: World, tree: Tree) -> None:
    assert [name for name, _ in tree.children(Entry(Folder.NODES), 1)] == [HOME, NEAR, FAR]
    assert read(tree, f"nodes/{NEAR}/status") == "unknown\n"
    assert read(tree, f"nodes/{NEAR}/load") == "-\n"
    world.nodes[NEAR] = Node(NEAR, status=status(250), heard=98.0, links=1)
    assert [read(tree, f"nodes/{NEAR}/{name}") for name in ("status", "load", "age", "number", "memory")] == [
        "alive\n", "250\n", "2.0\n", "2\n", "1000 2000\n",
    ]
    world.nodes[NEAR].heard = 90.0
    assert read(tree, f"nodes/{NEAR}/status") == "dead\n"
    assert json.loads(read(tree, f"nodes/{NEAR}/stat"))["near"] is True
    fails(errno.ENOENT, lambda: walk(tree, "nodes/10.0.0.9"))
    fails(errno.ENOENT, lambda: walk(tree, "nodes/10.0.0.02"))


def test_self_leads_to_the_caller(tree: Tree) -> None:
    assert tree.link(100) == "proc/100"
    assert walk(tree, "self", pid=100).file
    fails(errno.ENOENT, lambda: tree.link(101))
    fails(errno.ENOENT, lambda: walk(tree, "self", pid=101))
    assert [name for name, _ in tree.children(Entry(Folder.ROOT), 101)] == [
        "proc", "guests", "nodes", "node", "mbox", "ended", "priority",
    ]


# --------------------------------------------------------------------------- rights


def test_only_the_owner_and_root_look_inside(tree: Tree) -> None:
    assert tree.attributes(walk(tree, "proc/100")).uid == ANN
    for uid in (ANN, ROOT):
        assert tree.read(walk(tree, "proc/100/lock", uid)) == b"0\n"
    fails(errno.EACCES, lambda: walk(tree, "proc/100/lock", BOB))
    fails(errno.EACCES, lambda: tree.check(walk(tree, "proc/100/whereami"), ROOT, os.W_OK))
    fails(errno.EACCES, lambda: tree.check(walk(tree, "proc/100/migrate"), ANN, os.R_OK))
    fails(errno.EACCES, lambda: tree.check(walk(tree, "node/block"), ANN, os.W_OK))


def test_what_is_gone_is_gone(world: World, tree: Tree) -> None:
    place = walk(tree, "proc/100/lock")
    del world.programs[100]
    fails(errno.ENOENT, lambda: tree.read(place))
    fails(errno.ENOENT, lambda: tree.write(place, b"1"))
    fails(errno.ENOENT, lambda: walk(tree, "proc/100"))


# --------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("text", "target"), [
    (b"home\n", ""), (b"0", ""), (b"1\n", ""), (b"2\n", NEAR), (b"10.0.0.3\n", FAR),
    (str(as_unsigned(FAR)).encode(), FAR),
])
def test_migrate_targets(tree: Tree, sent: list[Command], text: bytes, target: str) -> None:
    tree.write(walk(tree, "proc/100/migrate"), text)
    assert sent == [Command(100, "migrate", target, 1)]


@pytest.mark.parametrize(("text", "number"), [
    (b"nonsense", errno.EINVAL), (b"", errno.EINVAL), (b"10.0.0", errno.EINVAL), (b"10.0.0.256", errno.EINVAL),
    (b"-2", errno.ERANGE), (b"\xff", errno.EINVAL), (b"3", errno.EHOSTUNREACH), (b"9", errno.EHOSTUNREACH),
    (b"10.0.0.9", errno.EHOSTUNREACH), (b"4294967295", errno.EHOSTUNREACH),
])
def test_migrate_refuses(tree: Tree, sent: list[Command], text: bytes, number: int) -> None:
    fails(number, lambda: tree.write(walk(tree, "proc/100/migrate"), text))
    assert sent == []


def test_move_shows_the_last_request_until_the_tracer_answers(world: World, tree: Tree) -> None:
    assert read(tree, "proc/100/move") == "0 home ok\n"
    tree.write(walk(tree, "proc/100/migrate"), b"2")
    tree.write(walk(tree, "proc/100/migrate"), b"10.0.0.3")
    assert read(tree, "proc/100/move") == f"2 {FAR} ...\n"
    program = world.programs[100]
    program.state = state(move_seq=1, move_target=NEAR, move_result="no response")
    assert read(tree, "proc/100/move") == f"2 {FAR} ...\n"
    program.state = state(move_seq=2, move_target=FAR, move_result="")
    assert read(tree, "proc/100/move") == f"2 {FAR} ...\n"
    program.state = state(move_seq=2, move_target=FAR, move_result="other node refused")
    assert read(tree, "proc/100/move") == f"2 {FAR} other node refused\n"


def test_numbers_of_moves_go_on_after_a_restart(world: World, tree: Tree, sent: list[Command]) -> None:
    world.programs[100].state = state(move_seq=7)
    tree.write(walk(tree, "proc/100/migrate"), b"2")
    assert sent[-1].seq == 8


def test_settings_are_sent_and_wait_for_their_answer(world: World, tree: Tree, sent: list[Command]) -> None:
    for number, (name, value) in enumerate((("lock", 1), ("needmem", 300), ("sigmig", 12), ("decayrate", 0), ("freezable", 0)), 1):
        written = tree.write(walk(tree, f"proc/100/{name}"), f"{value}\n".encode())
        assert isinstance(written, Asked) and written.number == number and not written.told.is_set()
        assert sent[-1] == Command(100, name, str(value), number)
        world.pending.answered(number, "")
        assert written.told.is_set() and not written.error
    fails(errno.ERANGE, lambda: tree.write(walk(tree, "proc/100/lock"), b"2"))
    fails(errno.EINVAL, lambda: tree.write(walk(tree, "proc/100/lock"), b"yes"))


def outcome(answer: Callable[[Pending, Asked], object]) -> int:
    """The errno value that a write to process 100 ends with, when this happens to it."""

    async def wait() -> int:
        pending = Pending()
        written = pending.begin(100)
        answer(pending, written)
        began = trio.current_time()
        text = await pending.outcome(written)
        assert not pending.waiting and bool(text) == bool(written.error)
        assert trio.current_time() - began == (PATIENCE if written.error == errno.ETIMEDOUT else 0.0)
        return written.error

    return trio.run(wait, clock=trio.testing.MockClock(autojump_threshold=0))


def test_how_a_setting_ends() -> None:
    """The tracer's word, that nobody is there to say it any more, or silence."""
    assert outcome(lambda pending, written: pending.answered(written.number, "")) == 0
    assert outcome(lambda pending, written: pending.answered(written.number, "no")) == errno.ENOENT
    assert outcome(lambda pending, written: pending.lost(100, errno.EAGAIN)) == errno.EAGAIN
    assert outcome(lambda pending, written: pending.answered(written.number + 1, "")) == errno.ETIMEDOUT
    assert outcome(lambda pending, _: pending.lost(101, errno.EAGAIN)) == errno.ETIMEDOUT


def test_a_name_is_text(tree: Tree, sent: list[Command]) -> None:
    place = walk(tree, "proc/100/checkpointfile")
    assert tree.read(place) == b"ckpt.100\n"
    tree.write(place, "müll.4\n".encode())
    assert sent == [Command(100, "checkpointfile", "müll.4", 1)]
    fails(errno.EINVAL, lambda: tree.write(place, b"\n"))
    fails(errno.EINVAL, lambda: tree.write(place, b"\xff"))
    fails(errno.ERANGE, lambda: tree.write(place, b"x" * 4081))


def test_checkpoints(world: World, tree: Tree, sent: list[Command]) -> None:
    """Any number takes one; the words are mosmigrate's. The outcome of the last is shown."""
    world.programs[100].state = state(next_checkpoint=5)
    assert read(tree, "proc/100/checkpoint") == "5\n"
    assert read(tree, "proc/100/checkpointed") == "0 ok\n"
    for number, word in enumerate((b"1", b"chkstop\n", b"chkexit"), 1):
        tree.write(walk(tree, "proc/100/checkpoint"), word)
        assert read(tree, "proc/100/checkpointed") == f"{number} ...\n"
    assert sent == [Command(100, "checkpoint", word, seq) for seq, word in ((1, "checkpoint"), (2, "chkstop"), (3, "chkexit"))]
    fails(errno.EINVAL, lambda: tree.write(walk(tree, "proc/100/checkpoint"), b"often"))
    world.programs[100].state = state(save_seq=3, save_result="it is moving")
    assert read(tree, "proc/100/checkpointed") == "3 it is moving\n"


def test_in_cluster_answers_a_write_by_success(world: World, tree: Tree, sent: list[Command]) -> None:
    place = walk(tree, "proc/100/in_cluster")
    for text in (b"1\n", b"2", FAR.encode(), str(as_unsigned(FAR)).encode()):
        tree.write(place, text)
    for text, number in ((b"3", errno.EHOSTUNREACH), (b"10.0.0.9", errno.EHOSTUNREACH), (b"0", errno.ERANGE), (b"x", errno.EINVAL)):
        fails(number, lambda text=text: tree.write(place, text))
    assert sent == []
    assert read(tree, "proc/100/in_cluster") == "1\n"
    world.programs[100].state = state(where="10.9.9.9")
    assert read(tree, "proc/100/in_cluster") == "0\n"


def test_the_last_message(world: World, tree: Tree) -> None:
    names = ("sender_home", "sender_pid", "sender_location", "message_length")
    assert [read(tree, f"proc/100/{name}") for name in names] == ["-\n"] * 4
    world.programs[100].state = state(last_message=LastMessage(HOME, 7, FAR, 1000))
    assert [read(tree, f"proc/100/{name}") for name in names] == [
        f"{as_unsigned(HOME)}\n", "7\n", f"{as_unsigned(FAR)}\n", "1000\n",
    ]


def test_priority_of_what_runs_here(world: World, tree: Tree) -> None:
    assert read(tree, "priority") == "0\n"
    world.guests.clear()
    assert read(tree, "priority") == "0\n"
    world.programs[100].state = state(where=NEAR)
    assert read(tree, "priority") == "65535\n"


def test_without_a_tracer_writes_say_try_again(world: World, tree: Tree) -> None:
    world.programs[100].send = None
    fails(errno.EAGAIN, lambda: tree.write(walk(tree, "proc/100/lock"), b"1"))
    assert not world.pending.waiting
    assert read(tree, "proc/100/lock") == "0\n"


def test_switches(world: World, tree: Tree, sent: list[Command]) -> None:
    tree.write(walk(tree, "node/block"), b"1\n")
    assert world.switches.blocked and world.me.status and world.me.status.blocked
    fails(errno.EINVAL, lambda: tree.write(walk(tree, "node/block"), b"yes"))
    tree.write(walk(tree, "node/expel"), b"1")
    world.programs[100].state = state(where=NEAR, state="away")
    tree.write(walk(tree, "node/bring"), b"1")
    assert sent == [Command(200, "out", ""), Command(100, "migrate", "", 1)]


# --------------------------------------------------------------------------- best


def test_best_is_the_least_loaded_that_fits(world: World) -> None:
    world.nodes[NEAR] = Node(NEAR, status=status(0, free=400), heard=99.0, links=1)
    world.nodes[FAR] = Node(FAR, status=status(30), heard=99.0, links=1)
    assert best(world, 0) == NEAR
    world.nodes[NEAR].status = status(0, free=50)
    assert best(world, 0) == FAR, "its memory is all but full"
    world.coming.reserved.clear()
    assert best(world, 500) == FAR
    assert best(world, 5000) == ""
    world.nodes[FAR].status = status(30, blocked=True)
    assert best(world, 500) == ""


def test_best_forgets_the_dead(world: World) -> None:
    world.nodes[NEAR] = Node(NEAR, status=status(0), heard=90.0)
    world.nodes[FAR] = Node(FAR, status=status(0), heard=99.0, dead=True)
    assert best(world, 0) == ""


def test_a_burst_does_not_pile_up(world: World) -> None:
    world.nodes[NEAR] = Node(NEAR, status=status(100), heard=99.0, links=1)
    world.nodes[FAR] = Node(FAR, status=status(100), heard=99.0, links=1)
    assert {best(world, 0) or HOME for _ in range(3)} == {HOME, NEAR, FAR}


def test_minus_one_considers(world: World, tree: Tree, sent: list[Command]) -> None:
    """mosix(7), migrate: "writing -1 causes a migration consideration"; the next round of decisions sees to it."""
    tree.write(walk(tree, "proc/100/migrate"), b"-1")
    assert world.programs[100].balanced.considered
    assert sent == []


# --------------------------------------------------------------------------- decisions


def test_stay_and_lstay_are_switches(world: World, tree: Tree) -> None:
    for name in ("stay", "lstay"):
        assert read(tree, f"node/{name}") == "0\n"
        tree.write(walk(tree, f"node/{name}"), b"1\n")
        assert read(tree, f"node/{name}") == "1\n"
        assert getattr(world.switches, name) is True
        fails(errno.EINVAL, lambda name=name: tree.write(walk(tree, f"node/{name}"), b"2"))  # type: ignore[misc]
        fails(errno.EACCES, lambda name=name: tree.check(walk(tree, f"node/{name}"), ANN, os.W_OK))  # type: ignore[misc]


def test_why_tells_the_latest_reason(world: World, tree: Tree) -> None:
    program = world.programs[100]
    program.state = state(why="other node refused")
    assert read(tree, "proc/100/why") == "other node refused\n"
    program.balanced.verdict = "it is idle"
    assert read(tree, "proc/100/why") == "it is idle\n"
    program.state = state(why="has threads", barred="has threads")
    assert read(tree, "proc/100/why") == "has threads\n"
    program.state = state(where=NEAR, state="away", because="faster there")
    assert read(tree, "proc/100/why") == "faster there\n"
    world.guests[200].balanced.verdict = "it came just now"
    assert read(tree, "guests/200/why") == "it came just now\n"


def test_history_fades(world: World, tree: Tree) -> None:
    assert json.loads(read(tree, "proc/100/history")) == {}
    for subject, path in ((world.programs[100], "proc/100"), (world.guests[200], "guests/200")):
        subject.balanced.usage = Usage(100, 12.5, 3.0, 1.0, 64, 50.0, 40.0, 500.0, 1000.0, 2000.0)
        subject.balanced.reported = 99.0
        shown = json.loads(read(tree, f"{path}/history"))
        assert shown == json.loads(read(tree, f"{path}/stat"))["history"]
        assert (shown["age"], shown["size_mb"], shown["cpu"], shown["calls"], shown["sent"]) == (12.5, 64, 0.8, 10.0, 40)
        subject.balanced.reported = 49.0  # nothing was reported since: it has been idle
        faded = json.loads(read(tree, f"{path}/history"))
        assert faded["cpu"] < 0.5 < shown["cpu"]
        assert faded["age"] == 12.5


def test_decision_log_is_for_everybody(world: World, tree: Tree) -> None:
    world.decisions += ["one", "two"]
    place = walk(tree, "node/decisions", BOB)
    tree.check(place, BOB, os.R_OK)
    assert tree.read(place) == b"one\ntwo\n"
