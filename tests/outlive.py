"""Programs that outlive their nodes, killed at random moments of their lives: what each does is compared with its native work.

    python -m tests.outlive [--moments 100] [--kinds host,node,mosd,link,home] [--seed S] [--jobs 2] [--results FILE] [PROGRAM...]

Of each kind there are ``--moments`` moments, spread over the programs. A moment is one of the program's life, of the taking of an
image, of its commit, or follows another loss by which the program is being made again (`AIMS`). Results are lines of JSON
in FILE, and a run with the same FILE goes on where it has stopped; ``--table`` only prints what is there. What is WRONG
is kept in FILE.d with the logs of all nodes. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosfs.tools import lab as labs
from mosfs.tools.options import UserError
from mosfs.trace.proc import tracer_of
from tests import cluster, link
from tests.cluster import Lab, kill_node, wait_until
from tests.conftest import default_signals
from tests.outlived import PATIENCE, PROGRAMS, Outcome, Program, verdict
from tests.progs import REPO, scratch
from tests.t5_kills import daemons

#: Home is node 1; programs run on these.
AWAY = (2, 3, 4)
#: Seconds between two looks for an image.
LOOK = 0.001
#: One lab at a time starts.
STARTING = threading.Lock()
#: So often a lab is replaced.
LABS = 10
#: So often a moment is tried whose program was over before.
TRIES = 6


@dataclass
class Bed:
    """A lab, and the network of its nodes where links are cut."""

    nodes: Lab
    net: link.Network | None = None
    log_at: int = 0
    down: set[int] = field(default_factory=set)  #: nodes whose mosd was killed

    def log(self) -> str:
        """What mosd of the home-node has logged since `begin`."""
        with open(self.nodes.node(1).paths.log, encoding="utf-8", errors="replace") as file:
            file.seek(self.log_at)
            return file.read()

    def begin(self) -> None:
        self.log_at = os.path.getsize(self.nodes.node(1).paths.log)

    def places(self) -> dict[int, int]:
        """The programs of the home-node, and the number of the node where each is: 0 at home and in a file."""
        numbers = {node.ip: node.number for node in self.nodes.plan.nodes()}
        tree, found = self.nodes.tree(1), {}
        with suppress(OSError):
            for pid in tree.pids("proc"):
                if (process := tree.process(pid)) is not None:
                    found[pid] = numbers.get(process.where, 0)
        return found

    def told(self, pid: int) -> str:
        """The program's file `outliving`; "" when it has ended."""
        try:
            return self.nodes.tree(1).read(f"proc/{pid}/outliving")
        except OSError:
            return ""

    def restore(self) -> None:
        """All nodes are up again, and nothing of a program is left."""
        if self.net is not None:
            self.net.heal()
        for number in sorted(self.down):
            if not labs.answers(self.nodes.node(number)):
                self.nodes.start_mosd(number)
        self.down.clear()
        wait_until(lambda: not self.nodes.tree(1).pids("proc"), PATIENCE)
        for number in AWAY:
            wait_until(lambda number=number: not self.nodes.tree(number).pids("guests"), PATIENCE)  # type: ignore[misc]


@contextmanager
def bed(tmp: Path, kinds: Iterable[str]) -> Iterator[Bed]:
    with ExitStack() as stack:
        nets = "link" in kinds
        with STARTING:
            nodes = stack.enter_context(cluster.lab(tmp, 1 + len(AWAY), netns=nets))
        yield Bed(nodes, stack.enter_context(link.network(nodes.plan)) if nets else None)


# --------------------------------------------------------------------------- what is killed


@dataclass
class Victim:
    """What of a node is to be killed, found before the moment comes."""

    bed: Bed
    kind: str
    number: int
    pidfds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        nodes, number = self.bed.nodes, self.number
        if self.kind in ("host", "home"):
            found = {*daemons(nodes, number, "mos-host")}
        elif self.kind == "mosd":
            found = {nodes.mosd(number)}
        elif self.kind == "node":
            found = labs.daemons(nodes.plan, lambda node: node.number == number)
            found |= labs.traced_by(found)
        else:
            found = set()
        for pid in found:
            with suppress(ProcessLookupError):
                self.pidfds.append(os.pidfd_open(pid))
        if self.kind == "home":
            self.pidfds.insert(0, os.pidfd_open(nodes.mosd(1)))

    def fall(self) -> bool:
        """kill -9, or cut off. Whether there was anything to kill."""
        if self.kind == "link":
            assert self.bed.net is not None
            self.bed.net.part(self.number)
            return True
        for pidfd in self.pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        labs._still({*self.pidfds}, PATIENCE)
        for pidfd in self.pidfds:
            os.close(pidfd)
        if self.kind == "node":  # what was being started at that moment
            kill_node(self.bed.nodes, self.number)
        self.bed.down |= {"home": {1}, "host": set()}.get(self.kind, {self.number})
        if self.kind in ("home", "mosd"):
            self.bed.nodes.start_mosd(1 if self.kind == "home" else self.number)
        return bool(self.pidfds)


KINDS = ("host", "node", "mosd", "link", "home")

# --------------------------------------------------------------------------- when


@dataclass
class Run:
    """One run of a program. ``length``: seconds that it takes undisturbed."""

    bed: Bed
    kind: str
    pick: random.Random
    length: float
    process: subprocess.Popen[bytes]
    falls: int = 0

    def over(self) -> bool:
        return self.process.poll() is not None

    def place(self, pause: float = 0.05) -> int:
        """Number of the node where one of the programs is, as soon as it is on one; 0 if all have ended."""
        while not self.over():
            if found := [number for number in self.bed.places().values() if number > 1]:
                return self.pick.choice(found)
            time.sleep(pause)
        return 0

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.over():
            time.sleep(min(left, 0.02))

    def fall(self, victim: Victim) -> None:
        if not self.over() and victim.fall():
            self.falls += 1

    # ------------------------------------------------------------------ moments

    def life(self) -> None:
        """Any, of its whole life."""
        began = time.monotonic()
        if number := self.place():
            victim = Victim(self.bed, self.kind, number)
            self.sleep(self.pick.random() * self.length - (time.monotonic() - began))
            self.fall(victim)

    def image(self) -> None:
        """While one of its first images is being taken."""
        if (number := self.place()) and (victim := Victim(self.bed, self.kind, number)):
            if self._await(self.pick.randint(1, 3), whole=False):
                time.sleep(self.pick.random() * 0.02)
            self.fall(victim)

    def commit(self) -> None:
        """When one is just whole."""
        if (number := self.place()) and (victim := Victim(self.bed, self.kind, number)):
            if self._await(self.pick.randint(1, 2), whole=True):
                time.sleep(self.pick.random() * 0.002)
            self.fall(victim)

    def again(self) -> None:
        """Twice: when its image is being sent to another node, and made a body there."""
        self._first()
        self.sleep(self.pick.random() * 0.5)
        self._second(self.pick.choice(AWAY))

    def replay(self) -> None:
        """Twice: when it repeats what it had done, or soon after."""
        self._first()
        number = self.place(0.0)
        self.sleep(self.pick.random() * 1.0)
        self._second(number)

    def _first(self) -> None:
        if number := self.place():
            victim = Victim(self.bed, self.kind, number)
            self.sleep(self.pick.uniform(0.1, 0.9) * self.length)
            self.fall(victim)

    def _second(self, number: int) -> None:
        if not self.over() and self.falls:
            places = {*self.bed.places().values()} - {0, 1}
            number = self.pick.choice(sorted(places)) if places and number not in places else number
            if number and not (self.kind == "link" and number in {pair[0] for pair in self.bed.net.cuts if pair[1] == 1}):  # type: ignore[union-attr]
                self.fall(Victim(self.bed, self.kind, number))

    def _await(self, count: int, *, whole: bool) -> bool:
        """Wait for the ``count``-th image of a program to be begun, or to be whole: then its predecessor's file is gone."""
        tracer = next((tracer_of(pid) for pid in self.bed.places()), 0)
        begun: set[str] = set()
        ended = 0
        now: set[str] = set()
        until = time.monotonic() + self.length
        while not self.over() and time.monotonic() < until:
            last, now = now, _nameless(tracer)
            begun |= now
            ended += len(last - now)
            if (ended if whole else len(begun)) >= count:
                return True
            time.sleep(LOOK)
        return False


def _nameless(tracer: int) -> set[str]:
    """The files without a name that a tracer has open: images."""
    found = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{tracer}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{tracer}/fd/{name}")
                if target.endswith(" (deleted)") and "/#" in target:
                    found.add(target)
    return found


#: Which moments, and how often of ten.
AIMS: dict[str, tuple[Callable[[Run], None], int]] = {
    "life": (Run.life, 4), "image": (Run.image, 2), "commit": (Run.commit, 1), "again": (Run.again, 1), "replay": (Run.replay, 2),
}  # fmt: skip
ORDER = tuple(name for name, (_, often) in AIMS.items() for _ in range(often))

# --------------------------------------------------------------------------- one run


def prefixes(nodes: Lab, numbers: Sequence[int], options: str = " --outlive") -> dict[str, str]:
    """What stands before the commands of a script, so that they are on these nodes."""
    return {name: f"mosrun{options} -{nodes.node(number).ip}" for name, number in zip("AB", numbers)}


def start(nodes: Lab | None, program: Program, folder: Path, words: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program in its folder, in a session of its own; without ``nodes`` natively."""
    options: dict[str, Any] = {
        "cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True,
    }
    settings = [f"{name}={value}" for name, value in {"A": "", "B": "", **words, "LC_ALL": "C", "TMPDIR": str(folder)}.items()]
    command = ["env", *settings, "bash", "-c", program.script]
    return subprocess.Popen(command, **options) if nodes is None else nodes.start(1, *command, **options)


def reference(nodes: Lab, name: str, folder: Path) -> Outcome:
    """What the program does where nothing is killed: natively, if it can."""
    program = PROGRAMS[name]
    program.prepare(folder)
    words = prefixes(nodes, AWAY, "") if program.mosix else {}
    return Outcome.of(start(nodes if program.mosix else None, program, folder, words), folder)


def end(process: subprocess.Popen[bytes]) -> None:
    """Its whole session, if it goes on."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Task:
    """The moments of one kind and program: ``wanted`` of them are still to come; ``number``: of the next run."""

    kind: str
    name: str
    wanted: int
    number: int


class Trial:
    """Runs tasks side by side, each worker in a lab of its own."""

    def __init__(self, seed: int, results: Path) -> None:
        self.seed = seed
        self.results = results
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Outcome, float]] = {}
        self._knowing = {name: threading.Lock() for name in PROGRAMS}
        self.wrong = 0
        self.stopped = threading.Event()  #: no more runs are begun

    def note(self, row: dict[str, Any]) -> None:
        with self._lock:
            with self.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            self.wrong += row["verdict"] == "WRONG"
            print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)

    def work(self, tasks: queue.SimpleQueue[Task], kinds: Iterable[str]) -> None:
        """Take tasks until there are none; a lab that cannot be restored is replaced."""
        for _ in range(LABS):
            try:
                with scratch() as tmp, bed(tmp, kinds) as one:
                    while True:
                        try:
                            task = tasks.get_nowait()
                        except queue.Empty:
                            return
                        if self.stopped.is_set():
                            return
                        try:
                            self._task(one, task)
                        except BaseException:
                            tasks.put(task)
                            raise
            except (AssertionError, UserError) as error:
                why = str(error)[:300]
                self.note({"kind": "lab", "program": "-", "number": 0, "aim": "-", "falls": 0, "verdict": "LAB", "why": why})

    def _task(self, one: Bed, task: Task) -> None:
        tries = 0
        while task.wanted > 0 and tries < TRIES * 10 and not self.stopped.is_set():
            with self._knowing[task.name]:
                if task.name not in self._known:
                    self._known[task.name] = self._undisturbed(one, task.name)
            expected, length = self._known[task.name]
            number, task.number, tries = task.number, task.number + 1, tries + 1
            with scratch() as folder:
                task.wanted -= self._one(one, task, number, expected, length, folder / "x")

    def _undisturbed(self, one: Bed, name: str) -> tuple[Outcome, float]:
        """What is expected, and the seconds that it takes away."""
        with scratch() as folder:
            expected = reference(one.nodes, name, folder / "native")
            PROGRAMS[name].prepare(folder / "x")
            began = time.monotonic()
            found = Outcome.of(start(one.nodes, PROGRAMS[name], folder / "x", prefixes(one.nodes, AWAY)), folder / "x")
            length = time.monotonic() - began
            how, why = verdict(PROGRAMS[name], found, expected, folder / "x")
            if how != "equal":
                raise RuntimeError(f"{name} fails undisturbed: {why}")
            return expected, length

    def _one(self, one: Bed, task: Task, number: int, expected: Outcome, length: float, folder: Path) -> int:
        """Run it once. How many moments there were."""
        kind, program = task.kind, PROGRAMS[task.name]
        pick = random.Random(f"{self.seed} {kind} {task.name} {number}")
        aim = ORDER[(number + len(task.name)) % len(ORDER)]
        program.prepare(folder)
        one.begin()
        began = time.monotonic()
        process = start(one.nodes, program, folder, prefixes(one.nodes, pick.sample(AWAY, 2)))
        run = Run(one, kind, pick, length, process)
        # its pipes are emptied meanwhile, so that it never waits for us
        outcome: list[Outcome] = []
        reader = threading.Thread(target=lambda: outcome.append(Outcome.of(process, folder)))
        reader.start()
        try:
            AIMS[aim][0](run)
        finally:
            reader.join()
            end(process)
        how, why = verdict(program, outcome[0], expected, folder)
        log = one.log()
        row = {
            "kind": kind, "program": task.name, "number": number, "aim": aim, "falls": run.falls, "verdict": how, "why": why,
            "lives": log.count(", and lives on "), "revived": log.count(", and goes on from its image"),
            "cannot": [line.partition(" cannot outlive ")[2] for line in log.splitlines() if " cannot outlive " in line][:3],
            "seconds": round(time.monotonic() - began, 1), "seed": self.seed,
        }
        if not run.falls and how == "equal":  # the machine is less busy than before
            row["verdict"] = "over"
            self._known[task.name] = expected, min(length, row["seconds"])
        self.note(row)
        if how == "WRONG":
            self._keep(row, outcome[0], one)
        one.restore()
        return run.falls

    def _keep(self, row: dict[str, Any], found: Outcome, one: Bed) -> None:
        folder = Path(f"{self.results}.d") / f"{row['kind']}-{row['program']}-{row['number']}-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report").write_text(f"{json.dumps(row, indent=1)}\n{found.status}\n")
        (folder / "out").write_bytes(found.out)
        (folder / "err").write_bytes(found.err)
        for name, data in found.files.items():
            (folder / f"file.{name}").write_bytes(data)
        (folder / "logs").write_text(one.nodes.logs())


# --------------------------------------------------------------------------- results


def rows(results: Path) -> list[dict[str, Any]]:
    """All that is there; a line that was being written when a run was killed is not."""
    found = []
    if results.exists():
        for line in results.read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Moments by kind and program, then by aim: equal / the manual's message / WRONG."""
    lines = []
    for title, key in (("program", "program"), ("moment", "aim")):
        cells: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for row in found:
            if row["kind"] in KINDS and row["verdict"] != "over":
                for place in ((row[key], row["kind"]), ("all", row["kind"])):
                    cells[place][row["verdict"]] += max(row["falls"], row["verdict"] == "WRONG")
        kinds = [kind for kind in KINDS if any(where == kind for _, where in cells)]
        names = [name for name in (*PROGRAMS, *AIMS, "all") if any(place[0] == name for place in cells)]
        lines.append("".join([f"{title:10}", *(f"{kind:>16}" for kind in kinds)]))
        for name in names:
            texts = [" / ".join(str(cells[name, kind][how]) for how in ("equal", "message", "WRONG")) for kind in kinds]
            lines.append("".join([f"{name:10}", *(f"{text:>16}" for text in texts)]))
        lines.append("")
    runs = [row for row in found if row["kind"] in KINDS and row["falls"]]
    lives, revived = (sum(row[what] for row in runs) for what in ("lives", "revived"))
    lines.append(f"moments: equal / the manual's message / WRONG; {len(runs)} runs, {revived} times an image was gone on from, "
                 f"{lives} times its log was repeated to the end")
    reasons = Counter(reason.partition(": ")[2] for row in runs for reason in row["cannot"])
    lines += [f"{count:5} times not: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)


def tasks_left(found: list[dict[str, Any]], kinds: Iterable[str], names: list[str], moments: int) -> list[Task]:
    """What is still to be done of ``moments`` of each kind, spread over the programs."""
    tasks = []
    for kind in kinds:
        for at, name in enumerate(names):
            mine = [row for row in found if (row["kind"], row["program"]) == (kind, name)]
            share = moments * (at + 1) // len(names) - moments * at // len(names)
            left = share - sum(row["falls"] for row in mine)
            if left > 0:
                tasks.append(Task(kind, name, left, 1 + max((row["number"] for row in mine), default=-1)))
    return tasks


def run(seed: int, results: Path, kinds: Sequence[str], names: list[str], moments: int, jobs: int) -> int:
    """How many runs were WRONG."""
    results.parent.mkdir(parents=True, exist_ok=True)
    trial = Trial(seed, results)
    before = signal.signal(signal.SIGTERM, lambda *_: trial.stopped.set())
    for group in (["link"], [kind for kind in kinds if kind != "link"]):
        left = tasks_left(rows(results), [kind for kind in group if kind in kinds], names, moments)
        random.Random(seed).shuffle(left)
        todo: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in left:
            todo.put(task)
        workers = [threading.Thread(target=trial.work, args=(todo, group)) for _ in range(min(jobs, len(left)))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    signal.signal(signal.SIGTERM, before)
    return trial.wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.outlive", description="kill the nodes of programs that outlive them")
    parser.add_argument("name", nargs="*", help="programs (default: all): " + " ".join(PROGRAMS))
    parser.add_argument("--moments", type=int, default=100, help="of each kind, over all programs (100)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of what is killed, with commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="labs side by side, five at most")
    parser.add_argument("--results", type=Path, default=REPO / "build" / "outlive.jsonl")
    parser.add_argument("--table", action="store_true", help="only print what is known")
    options = parser.parse_args()
    names, kinds = options.name or [*PROGRAMS], options.kinds.split(",")
    if unknown := [*({*names} - PROGRAMS.keys()), *({*kinds} - {*KINDS})]:
        parser.error(f"no such program or kind: {' '.join(unknown)}")
    default_signals()
    wrong = 0 if options.table else run(options.seed, options.results, kinds, names, options.moments, min(5, options.jobs))
    print(table(rows(options.results)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
