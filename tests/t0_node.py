"""The folder node/: switches, questions, tables, and nodes in the manual's numbers. A world without a file system."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from mosfs.node.guests import counted
from mosfs.node.nodes import Bit, Node
from mosfs.node.programs import Guest, Order, Program
from mosfs.node.world import World
from mosfs.procfs import node as folder
from mosfs.procfs.tree import OWN_FILES, Entry, Folder, Tree
from mosfs.wire.asked import Settings
from mosfs.wire.messages import Command, GuestState, PeerHello, PeerStatus, ProcState
from tests.fake_map import FakeMap

HOME, NEAR, FAR, STRANGE = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.9.9"
ROOT, ANN = 0, 1001

STATUS = PeerStatus(
    150, 20000, 4, 1000, 2000, 3, False, swap_free=512, swap_total=1024, frozen=2, bits=0, level=0, paging=7, processes=5
)


def state(pid: int = 100, **fields: object) -> ProcState:
    return replace(ProcState(pid, ANN, "", "here", 0, Settings(), comm="prog"), **fields)


@pytest.fixture
def sent() -> list[Command]:
    return []


@pytest.fixture
def world(sent: list[Command]) -> World:
    nodes = FakeMap(HOME, NEAR, FAR, numbers={HOME: 1, NEAR: 2, STRANGE: 9})
    made = World(ip=HOME, map=nodes, clock=lambda: 100.0, version="0.1.0", speed=10000, port=253, pid=42)
    made.me.status, made.me.heard = STATUS, 100.0
    made.nodes[NEAR] = Node(NEAR, PeerHello(1, "0.1.9", NEAR, "", "", 1, 1), STATUS, heard=99.0, links=1)
    made.programs[100] = Program(state(), sent.append)
    made.guests[200] = Guest(GuestState(200, 77, FAR, ANN, "theirs", 1.5), sent.append)
    return made


@pytest.fixture
def tree(world: World) -> Tree:
    return Tree(world, ROOT)


def place(tree: Tree, name: str, uid: int = ROOT) -> Entry:
    found = Entry(Folder.ROOT)
    for part in name.split("/"):
        found = tree.lookup(found, part, uid, 1)
    return found


def read(tree: Tree, name: str) -> str:
    return tree.read(place(tree, name)).decode().removesuffix("\n")


def write(tree: Tree, name: str, text: str) -> str:
    return (tree.write(place(tree, name), text.encode()) or b"").decode()


def fails(number: int, action: Callable[[], object]) -> None:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno == number


# --------------------------------------------------------------------------- rstatus

FIELDS = ("status", "load", "availability", "speed", "ncpus", "frozen", "available", "total", "swap_free", "swap_total",
          "privileged", "processes")


def rstatus(world: World, ip: str = NEAR) -> dict[str, int]:
    numbers = folder.rstatus(world, world.nodes.get(ip) or Node(ip)).split()
    assert len(numbers) == len(FIELDS)
    return dict(zip(FIELDS, map(int, numbers)))


@pytest.mark.parametrize(("name", "value"), [
    ("status", 1 + 2 + 32 + 512), ("load", 150), ("availability", 0), ("speed", 20000), ("ncpus", 4), ("frozen", 2),
    ("available", 256000), ("total", 512000), ("swap_free", 5), ("swap_total", 10), ("privileged", 0), ("processes", 5),
])
def test_every_integer_of_rstatus(world: World, name: str, value: int) -> None:
    assert rstatus(world)[name] == value


@pytest.mark.parametrize(("changes", "added", "missing"), [
    ({"bits": 4}, Bit.STAY, 0), ({"bits": 8}, Bit.LSTAY, 0), ({"bits": 16, "blocked": True}, Bit.BLOCK, Bit.WELCOME),
    ({"blocked": True}, Bit.BLOCK, Bit.WELCOME),
])
def test_status_bits(world: World, changes: dict[str, object], added: Bit, missing: Bit) -> None:
    before = rstatus(world)["status"]
    world.nodes[NEAR].status = replace(STATUS, **changes)
    assert rstatus(world)["status"] == (before | added) & ~missing


def test_status_bits_of_silent_unknown_and_strange_nodes(world: World) -> None:
    world.nodes[NEAR].heard = 50.0
    assert rstatus(world)["status"] == Bit.OURS | Bit.KNOWN
    assert rstatus(world, FAR) == {**dict.fromkeys(FIELDS, 0), "status": Bit.OURS}
    assert rstatus(world, STRANGE)["status"] == 0
    assert rstatus(world, HOME)["status"] & Bit.FRESH


def test_what_a_node_counts_of_itself(world: World) -> None:
    world.programs[101] = Program(state(101, where=NEAR, state="away", frozen="A"), None)
    world.switches.stay = world.switches.blocked = True
    told = counted(world, replace(STATUS, level=5))
    assert (told.guests, told.processes, told.frozen, told.level) == (1, 2, 1, 0)
    assert (told.bits, told.blocked) == (4 + 16, True)
    assert (told.load, told.mem_free, told.swap_free) == (STATUS.load, STATUS.mem_free, STATUS.swap_free)
    world.programs.clear()
    world.guests.clear()
    assert counted(world, STATUS).level == 65535


@pytest.mark.parametrize(("name", "value"), [
    ("swap", "512 1024"), ("frozen", "2"), ("paging", "7"), ("processes", "5"), ("version", "0.1.9"), ("guests", "3"),
])
def test_files_of_a_node(tree: Tree, name: str, value: str) -> None:
    assert read(tree, f"nodes/{NEAR}/{name}") == value
    assert read(tree, f"nodes/{FAR}/{name}") == "-"


def test_the_table_of_numbered_nodes(tree: Tree) -> None:
    table = json.loads(read(tree, "node/cluster"))
    rows = [dict(zip(table["fields"], row)) for row in table["nodes"]]
    assert [(row["number"], row["ip"], row["status"], row["load"]) for row in rows] == [
        (1, HOME, "alive", 150), (2, NEAR, "alive", 150), (9, STRANGE, "unknown", None),
    ]
    assert (rows[1]["swap_total"], rows[1]["frozen"], rows[1]["paging"]) == (1024, 2, 7)


# --------------------------------------------------------------------------- switches


@pytest.mark.parametrize(("name", "field", "bit"), [("stay", "stay", 4), ("lstay", "lstay", 8), ("block", "blocked", 16)])
def test_switches(tree: Tree, world: World, name: str, field: str, bit: int) -> None:
    assert read(tree, f"node/{name}") == "0"
    write(tree, f"node/{name}", "1\n")
    assert getattr(world.switches, field) is True and read(tree, f"node/{name}") == "1"
    assert world.me.status and world.me.status.bits == bit
    fails(errno.EINVAL, lambda: write(tree, f"node/{name}", "2"))
    write(tree, f"node/{name}", "0")
    assert getattr(world.switches, field) is False and world.me.status.bits == 0


@pytest.mark.parametrize("name", ["stay", "lstay", "block", "expel", "bring", "shutdown", "reload"])
def test_only_root_writes(tree: Tree, name: str) -> None:
    fails(errno.EACCES, lambda: tree.check(place(tree, f"node/{name}", ANN), ANN, 2))
    tree.check(place(tree, f"node/{name}"), ROOT, 2)


def test_shutdown_blocks_and_tells_the_daemon(tree: Tree, world: World) -> None:
    told: list[bool] = []
    world.switches.on_ending = lambda: told.append(True)
    fails(errno.EINVAL, lambda: write(tree, "node/shutdown", "0"))
    write(tree, "node/shutdown", "1")
    on = world.switches
    assert told == [True] and on.blocked and on.stay and on.lstay and read(tree, "node/shutdown") == "1"


def test_programs_are_brought_home_once(world: World, sent: list[Command]) -> None:
    world.programs[100].state = state(where=NEAR, state="away")
    world.programs[101] = Program(state(101, state="leaving"), sent.append)
    world.programs[102] = Program(state(102), sent.append)
    assert folder.programs_away(world) == 2
    folder.bring_programs_home(world)
    folder.bring_programs_home(world)
    assert sent == [Command(100, "migrate", "", 1), Command(101, "migrate", "", 1)]


def test_what_the_map_does_not_allow(tree: Tree, world: World, sent: list[Command]) -> None:
    world.programs[100].state = state(where=NEAR, state="away")
    world.programs[101] = Program(state(101, where=STRANGE, state="away"), sent.append)
    world.guests[201] = Guest(GuestState(201, 78, STRANGE, ANN, "strange", 1.5), sent.append)
    programs, guests = folder.misplaced(world)
    assert ([p.state.pid for p in programs], [g.state.pid for g in guests]) == ([101], [201])
    assert read(tree, "node/misplaced") == "2"
    folder.bring_programs_home(world, programs)
    folder.send_guests_out(world, guests)
    assert sent == [Command(101, "migrate", "", 1), Command(201, "out", "")]


def test_reload(tree: Tree, world: World) -> None:
    paths: list[str] = []
    world.reload.begin = paths.append
    assert read(tree, "node/reload") == "0 ok"
    write(tree, "node/reload", "/some/map\n")
    assert read(tree, "node/reload") == "1 ..."
    world.reload.result = "ok"
    write(tree, "node/reload", "\n")
    fails(errno.EINVAL, lambda: write(tree, "node/reload", "relative"))
    assert paths == ["/some/map", ""]
    assert read(tree, "node/map").split() == [HOME, NEAR, FAR]


# --------------------------------------------------------------------------- questions


def test_anyone_may_ask(tree: Tree) -> None:
    for file in (file for file in OWN_FILES if file.ask):
        tree.check(place(tree, f"node/{file.name}", ANN), ANN, 6)


def test_best_reserves_only_when_told(tree: Tree, world: World) -> None:
    world.me.status = replace(STATUS, load=1000)
    assert [write(tree, "node/best", "mem=500") for _ in range(3)] == [f"{NEAR}\n"] * 3
    assert read(tree, "node/best") == NEAR
    assert world.coming.reserved == []
    assert write(tree, "node/best", "mem=500 reserve") == f"{NEAR}\n"
    assert world.coming.reserved == [(100.0, NEAR, 1.0)]
    assert write(tree, "node/best", "mem=5000") == "0\n"


@pytest.mark.parametrize("question", ["mem=x", "mem=-1", "mem", "best", "mem=1 please"])
def test_bad_questions_about_the_best(tree: Tree, question: str) -> None:
    fails(errno.EINVAL, lambda: write(tree, "node/best", question))


@pytest.mark.parametrize(("question", "answer"), [
    ("", f"{HOME} 1"), ("2", f"{NEAR} 2"), (NEAR, f"{NEAR} 2"), (FAR, f"{FAR} -"),
])
def test_whois(tree: Tree, question: str, answer: str) -> None:
    assert write(tree, "node/whois", question) == f"{answer}\n"


@pytest.mark.parametrize(("question", "error"), [
    ("3", errno.EHOSTUNREACH), ("9", errno.EHOSTUNREACH), (STRANGE, errno.EHOSTUNREACH), ("1.2.3", errno.EINVAL),
    ("node", errno.EINVAL), ("-1", errno.EINVAL),
])
def test_whois_nobody(tree: Tree, question: str, error: int) -> None:
    fails(error, lambda: write(tree, "node/whois", question))


def test_what_was_asked_of_a_tracer_that_died_has_ended(sent: list[Command]) -> None:
    """It may not have said any more that it had heard."""
    told = Program(state(move_seq=2, move_target=NEAR, move_result="ok", save_seq=5, save_result="ok"), sent.append)
    assert told.orphaned() == told.state
    told.target, told.ordered = FAR, {Order.MOVE: 3, Order.SAVE: 6, Order.FREEZE: 1}
    left = told.orphaned()
    assert (left.move_seq, left.move_target, left.move_result) == (3, FAR, "")
    assert (left.save_seq, left.save_result, left.freeze_seq, left.freeze_result) == (6, "", 1, "")
