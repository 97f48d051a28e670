"""Every fault point of a move: what breaks there never hangs a program, never doubles it, and never kills it silently.

One node has a mosd with MOSIX_FAULT, so exactly one step of the tour home -> 2 -> 3 -> home fails (`CASES`). And while a program is
served in no move: what goes wrong there ends that program at worst.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from mosfs.abi.texts import SERVING_FAILED
from mosfs.tools import lab as labs
from mosfs.wire.faults import SURVIVES_CUT, Birth, Point, Serving
from tests import cluster
from tests.cluster import Lab, as_user, wait_until
from tests.progs import compile_c
from tests.threaded import BUILT, SOURCES

pytestmark = pytest.mark.root

PATIENCE = 60.0  #: seconds after which something hangs
TOUR = ("2", "3", "home")
FACTOR, ADDEND, MODULUS, ROUNDS = 1103515245, 12345, 1 << 31, 200

#: Computes and appends a line with its progress, over and over, until it finds a file. All in bash itself, even the
#: pause after a line, which is a read that times out.
WALK = f"""
i=0 x=1
while [ ! -e "$0/stop" ]; do
    for ((j = 0; j < {ROUNDS}; j++)); do x=$(((x * {FACTOR} + {ADDEND}) % {MODULUS})); done
    echo "$i $x" >&3
    i=$((i + 1))
    [ -z "$1" ] || read -rt "$1"
done 3>>"$0/lines"
echo "end $i $x"
exit 7
"""


def line(number: int, x: int) -> tuple[str, int]:
    """Line ``number`` of a walk, and its ``x`` from that of the line before."""
    for _ in range(ROUNDS):
        x = (x * FACTOR + ADDEND) % MODULUS
    return f"{number} {x}", x


@cache
def walk_of_threads() -> Path:
    """The program, compiled."""
    BUILT.mkdir(parents=True, exist_ok=True)
    binary = BUILT / "walk"
    compile_c(SOURCES / "walk.c", binary, ("-O1", "-pthread"))
    return binary


@dataclass
class Walk:
    """`WALK` under mosrun on node 1. Its lines are in ``folder``/lines; ``pause``: seconds between two, or ""; ``user``: whose;
    ``several``: by one of eight threads (`threaded/walk.c`)."""

    nodes: Lab
    folder: Path
    pause: str = ""
    user: int = 0
    several: bool = False
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        become = as_user(self.user) if self.user else ()
        os.chown(self.folder, self.user, self.user)
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            walk = [str(walk_of_threads())] if self.several else ["bash", "-c", WALK]
            command = [*become, "mosrun", "-h", *walk, str(self.folder), self.pause]
            self.process = self.nodes.start(1, *command, stdin=subprocess.PIPE, stdout=out, stderr=err)
        wait_until(self.lines)

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[str]:
        path = self.folder / "lines"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def err(self) -> str:
        return (self.folder / "err").read_text()

    def advances(self) -> None:
        """It is at work: one more line appears."""
        before = len(self.lines())
        wait_until(lambda: len(self.lines()) > before or self.process.poll() is not None)

    def move(self, target: str) -> str:
        """mosmigrate: "" or what it said. Returns when the program is at work again, or dead."""
        done = self.nodes.run(1, "mosmigrate", str(self.pid), target, timeout=PATIENCE)
        assert (done.returncode == 0) == (done.stderr == "")
        if self.process.poll() is None:
            self.advances()
        return done.stderr.rstrip("\n")

    def end(self) -> int:
        """Let it end: its status. What it wrote must be what one copy of it writes, and nothing twice."""
        (self.folder / "stop").touch()
        status = self.process.wait(PATIENCE)
        lines, x = self.lines(), 1
        for number, found in enumerate(lines):
            expected, x = line(number, x)
            assert found == expected
        if status == 7:
            assert (self.folder / "out").read_text() == f"end {len(lines)} {x}\n"
        return status

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


#: The fault that a node has, by the folder of its lab and its number; "": none any more.
_ARMED: dict[tuple[str, int], str] = {}


def arm(nodes: Lab, number: int, fault: str) -> None:
    """From now on node ``number`` fails at ``fault``, as MOSIX_FAULT has it, and no other node does."""
    root = nodes.plan.root
    _ARMED.setdefault((root, number), "")
    for other in [other for of, other in _ARMED if of == root]:
        wanted = fault if other == number else ""
        if _ARMED[root, other] != wanted:  # its mosd is started again
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MOSIX_FAULT", wanted)
                nodes.kill_mosd(other)
                nodes.start_mosd(other)
            _ARMED[root, other] = wanted


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("faults"), 3) as running:
        yield running


# --------------------------------------------------------------------------- one tour


@dataclass(frozen=True)
class Tour:
    """How `TOUR` went: what each mosmigrate said, the status of the program, its stderr, what the nodes logged."""

    said: tuple[str, ...]
    status: int
    err: str
    log: str

    @property
    def survived(self) -> bool:
        return self.status == 7

    @property
    def felt(self) -> bool:
        """Something has gone wrong that somebody could notice: a move, the program, or a guest that was left alone."""
        return any(self.said) or not self.survived or "seems to be dead" in self.log or "fault " in self.log


def tour(nodes: Lab, folder: Path, *, several: bool = False) -> Tour:
    """Move a walk about, let it end, and see that no second copy of it is left anywhere."""
    logs = {node: len(Path(node.paths.log).read_bytes()) for node in nodes.plan.nodes()}
    said = []
    with Walk(nodes, folder, several=several) as walk:
        for target in TOUR:
            if walk.process.poll() is None:
                said.append(walk.move(target))
        status = walk.end()
        wait_until(lambda: not any(nodes.tree(n).pids("guests") for n in (1, 2, 3)))
        wait_until(lambda: not labs.traced_by(labs.daemons(nodes.plan)))
        log = "".join(Path(node.paths.log).read_bytes()[size:].decode() for node, size in logs.items())
        return Tour(tuple(said), status, walk.err(), log)


def test_a_tour_without_faults(nodes: Lab, tmp_path: Path) -> None:
    done = tour(nodes, tmp_path / "walk")
    assert (done.said, done.status, done.err) == (("", "", ""), 7, "")
    assert not done.felt, "else the other tests would take anything for an effect of their faults"


# --------------------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """Fault ``point`` with ``action`` on node ``node``."""

    point: Point
    action: str
    node: int

    def __str__(self) -> str:
        return f"{self.point.name}-{self.action}-{self.node}"

    @property
    def must_survive(self) -> bool:
        """Before the commit point nothing may be lost, wherever it breaks."""
        return {"cut": SURVIVES_CUT, "die": SURVIVES_DEATH, "raise": SURVIVES_ERROR}[self.action][self.point]

    @property
    def torn(self) -> bool:
        """Its socket is closed behind an image: what home sends then resets it, and what was only queued does not come (tcp(7))."""
        return self.point is Point.NODE_AFTER_RETURN and self.action == "cut"

    @property
    def tracer_dies(self) -> bool:
        return self.action == "die" and self.point.name.startswith("HOME")


#: The same when the process dies there: with a host its guest dies, with a tracer all its programs that count as away.
SURVIVES_DEATH = {**SURVIVES_CUT, Point.HOME_RETURN_COMMITTED: False, Point.HOME_ONWARD_COMMITTED: False,
                  Point.NODE_IN_ONWARD: False, Point.NODE_AFTER_ONWARD: False}  # fmt: skip

#: The same after an error that nobody has foreseen: a move that is not committed fails with a reason, and nothing else happens.
SURVIVES_ERROR = {p: p not in (Point.HOME_RETURN_COMMITTED, Point.HOME_ONWARD_COMMITTED) for p in Point}


def places(point: Point) -> tuple[int, ...]:
    """The nodes of the tour that pass ``point``: 2 receives from home, 3 from 2; 2 sends on, 3 sends home."""
    if point.name.startswith("HOME"):
        return (1,)
    if point.name.endswith("ONWARD"):
        return (2,)
    return (3,) if point.name.endswith("RETURN") else (2, 3)


#: Run by default: one for each kind of outcome.
QUICK = {
    "HOME_IN_IMAGE-cut-1", "HOME_BEFORE_COMMIT-cut-1", "NODE_MAPPED-die-2", "NODE_BEFORE_READY-cut-3",
    "NODE_AFTER_GO-cut-3", "NODE_IN_RETURN-die-3", "NODE_AFTER_RETURN-cut-3", "NODE_BEFORE_ONWARD-die-2",
    "NODE_IN_ONWARD-cut-2", "HOME_IN_IMAGE-raise-1", "HOME_BEFORE_RETURN-raise-1", "NODE_IN_RETURN-raise-3",
    "NODE_AFTER_GO-raise-2", "NODE_AFTER_ONWARD-raise-2", "NODE_COPYING-raise-3",
}  # fmt: skip

def cases() -> Iterator[object]:
    for case in (Case(p, action, n) for p in Point for action in ("cut", "die", "raise") for n in places(p)):
        name = str(case)
        marks = [] if name in QUICK else [pytest.mark.long]
        yield pytest.param(case, marks=marks, id=name)


def last_words(nodes: Lab, case: Case) -> str:
    """A pattern of what a program that could not be saved says on its stderr: nothing when its tracer has died."""
    if case.tracer_dies:
        return ""
    if case.action == "raise":
        return re.escape("mosrun: " + SERVING_FAILED).replace(re.escape("{computer}"), ".*") + "\n"
    two, three = (re.escape(nodes.node(n).ip) for n in (2, 3))
    lost = f"Lost communication with ({two}|{three})"
    return f"mosrun: ({lost}|Process killed while attempting to migrate from {two} to {three})\n"


@pytest.mark.parametrize("case", list(cases()))
def test_fault(case: Case, nodes: Lab, tmp_path: Path) -> None:
    holds(case, nodes, tmp_path)


def of_threads() -> Iterator[object]:
    """The same of a program with threads, which goes from node to node by way of home."""
    for p, action in ((p, action) for p in Point if "ONWARD" not in p.name for action in ("cut", "die", "raise")):
        for number in (2, 3) if p.name.startswith("NODE") else (1,):
            yield pytest.param(case := Case(p, action, number), marks=[pytest.mark.long], id=str(case))


@pytest.mark.parametrize("case", list(of_threads()))
def test_fault_with_threads(case: Case, nodes: Lab, tmp_path: Path) -> None:
    holds(case, nodes, tmp_path, several=True)


def holds(case: Case, nodes: Lab, tmp_path: Path, *, several: bool = False) -> None:
    """What is promised of the case."""
    arm(nodes, case.node, f"{case.point.value}:{case.action}")
    done = tour(nodes, tmp_path / "walk", several=several)
    assert done.survived or (several and case.torn) or not case.must_survive, done  # home answers the other threads
    if done.survived:
        assert done.err == ""
        assert len(done.said) == len(TOUR)
    else:
        assert done.status == -signal.SIGKILL
        assert re.fullmatch(last_words(nodes, case), done.err), done.err
    if not done.felt:
        # a process that dies after its work is done leaves no trace: that this tour passes the point, a cut shows
        assert case.action == "die"
        arm(nodes, case.node, f"{case.point.value}:cut")
        assert tour(nodes, tmp_path / "again", several=several).felt


def test_every_point_has_cases() -> None:
    assert all(places(point) for point in Point)
    assert SURVIVES_CUT.keys() == set(Point) == SURVIVES_DEATH.keys() == SURVIVES_ERROR.keys()


#: Attaches shared memory to read it, which is served at home only: twice, in perl.
ATTACH = """
$id = syscall(29, 0, 4096, 0600 | 512); $at = "";
for (1, 2) { $r = syscall(30, $id, 0, 010000); print $r == -1 ? "error " . ($! + 0) : "attached", "\\n" }
syscall(31, $id, 0, 0);
"""


@pytest.mark.long
def test_a_call_that_needs_home_fails_where_home_has_no_room(nodes: Lab) -> None:
    arm(nodes, 1, f"{Point.HOME_BEFORE_RETURN.value}:refuse")
    done = nodes.run(1, "mosrun", "-2", "perl", "-e", ATTACH, timeout=PATIENCE)
    assert (done.stdout, done.returncode) == (f"error {errno.ENOMEM}\nattached\n", 0), done


# --------------------------------------------------------------------------- births

#: A program makes a process, which says so as soon as it runs.
BIRTH = """
"$0/victim" -c '(echo has run); exit 0'
echo victim $?
"""


@pytest.mark.parametrize("point", list(Birth), ids=lambda point: point.name)
def test_a_program_that_is_killed_in_its_fork_leaves_no_process_behind(point: Birth, nodes: Lab, tmp_path: Path) -> None:
    """What there is of the child has not run, as if the kill had come first, or runs to its own end, where it is whole (at home,
    or its host has been told): nobody holds the output of the run for ever."""
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    (tmp_path / "victim").symlink_to("/bin/bash")
    place = ["-h", f"--trace={tmp_path}/trace"] if point is Birth.AT_HOME else ["-2"]
    arm(nodes, 2 if point is Birth.BODY else 1, f"{point.value}:end:victim")
    done = nodes.run(1, "mosrun", *place, "bash", "-c", BIRTH, str(tmp_path), timeout=PATIENCE)
    said = done.stdout.splitlines()
    assert said == ["victim 137"] or (point in (Birth.AT_HOME, Birth.TOLD) and sorted(said) == ["has run", "victim 137"])
    assert "mosrun:" not in done.stderr


@pytest.mark.long
def test_a_program_that_is_killed_as_it_comes_home_is_forgotten(nodes: Lab, tmp_path: Path) -> None:
    arm(nodes, 1, f"{Point.HOME_BEFORE_RETURN.value}:end")
    with Walk(nodes, tmp_path / "walk") as walk:
        assert walk.move("2") == ""
        assert walk.move("home") != ""
        assert walk.process.wait(PATIENCE) == -signal.SIGKILL
        wait_until(lambda: not nodes.tree(1).pids("proc"))


# --------------------------------------------------------------------------- serving

#: Two programs of one tree, known by their names: each makes calls that are served, for so many rounds.
FAMILY = """
exec 7<> <(:)
ask() { for ((i = 0; i < $1; i++)); do read -r w < /proc/self/whereami; read -u 7 -rt 0.02; done; }
export -f ask
"$0/victim" -c 'ask 25; exit 0' & v=$!
"$0/bystander" -c 'ask 25; echo bystander ends; exit 5' & b=$!
wait $v; echo victim $?
wait $b; echo bystander $?
"""


@pytest.mark.parametrize("where", ["home", "2"])
@pytest.mark.parametrize("point", list(Serving), ids=lambda point: point.name)
def test_what_goes_wrong_for_one_program_is_not_its_relatives_affair(
    point: Serving, where: str, nodes: Lab, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    for name in ("victim", "bystander"):
        (tmp_path / name).symlink_to("/bin/bash")
    at_home = where == "home"
    number = 2 if point.name.startswith("NODE") else 1
    target = [] if at_home else [f"-{where}"]
    arm(nodes, number, f"{point.value}:raise:victim")
    before = len(Path(nodes.node(number).paths.log).read_text())
    done = nodes.run(1, "mosrun", *target, "bash", "-c", FAMILY, str(tmp_path), timeout=PATIENCE)
    log = Path(nodes.node(number).paths.log).read_text()[before:]
    passes = at_home == (point is Serving.HOME_CALL)
    dies = passes and point is not Serving.NODE_FRAME  # that is the one which lets it run there: it stays at home
    words = re.escape("mosrun: " + SERVING_FAILED).replace(re.escape("{computer}"), "[0-9.]+")
    said = done.stdout.splitlines()
    assert sorted(said) == sorted(["bystander ends", f"victim {137 if dies else 0}", "bystander 5"]), done
    assert re.search(f"^{words}$", done.stderr, re.MULTILINE) or not dies, done.stderr
    assert ("RuntimeError: fault " + point.name in log) == passes
