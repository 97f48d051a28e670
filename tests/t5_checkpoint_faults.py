"""Every fault point of a checkpoint: the program goes on as if nothing had been asked, or nothing runs; no half file has a name.

Each program has a name of its own, by which it meets the one fault that is meant for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.abi.outcomes import UNDER_WAY
from mosfs.abi.reasons import Reason
from mosfs.wire.faults import Saving
from tests import cluster
from tests.cluster import Lab, failing_name, wait_until
from tests.progs import compile_c
from tests.threaded import SOURCES

pytestmark = pytest.mark.root

#: Something fails; the tracer dies; the twin ends, as it does first where memory ends.
ACTIONS = ("refuse", "raise", "die", "end")
WRITING = [point for point in Saving if point < Saving.OPENED]
#: A file, or a folder (mosrun --incremental).
FORMS = {"file": [], "folder": ["--incremental"]}
READING = [point for point in Saving if point >= Saving.OPENED and point != Saving.THREAD]
#: The same of a program with several threads: while they stand, and while they are made.
WITH_THREADS = [Saving.FORKED, Saving.PAGES, Saving.SYNCED]
MAKING = [Saving.THREAD, Saving.WHOLE]
#: In the middle of an injected call the program has only its tracer.
INSIDE = {(Saving.PLANNED, "die"), (Saving.PLANNED, "end")}
WORDS = {"refuse": os.strerror(12), "raise": str(Reason.INCOMPLETE), "end": "the process that wrote it has ended"}
#: Takes the name that is in the file ``name``.
RENAMED = """
import os, time
while True:
    if os.path.exists("name"):
        with open("name") as name, open("/proc/self/comm", "w") as comm:
            comm.write(name.read())
    time.sleep(0.005)
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.failing_lab(tmp_path_factory.mktemp("t5"), 1, Saving, ACTIONS) as running:
        yield running


def start(nodes: Lab, folder: Path, *program: str, form: str = "file") -> subprocess.Popen[bytes]:
    """A program that may be saved."""
    process = nodes.start(
        1, "mosrun", "-h", f"-C{folder}/save", *FORMS[form], *program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    nodes.process(process.pid)
    return process


def outcome(nodes: Lab, pid: int) -> str:
    """Take a checkpoint: "ok", or why there is none."""
    tree, base = nodes.tree(1), f"proc/{pid}"
    before = tree.read(f"{base}/checkpointed").split(" ", 1)[0]
    tree.write(f"{base}/checkpoint", "checkpoint")

    def result() -> str:
        try:
            seq, _, words = tree.read(f"{base}/checkpointed").partition(" ")
        except OSError:
            return ""  # its tracer has died, and the next one is not there yet
        return words if seq != before and words != UNDER_WAY else ""

    return wait_until(result)


@pytest.mark.parametrize(("form", "point", "action"), [
    pytest.param(form, point, action, marks=[pytest.mark.long] if form == "folder" and point != Saving.LINKED else [])
    for form in FORMS for point in WRITING for action in ACTIONS
    if (point, action) not in INSIDE and (form == "folder" or point != Saving.LINKED)
], ids=lambda value: str(getattr(value, "name", value)))
def test_writing(nodes: Lab, tmp_path: Path, form: str, point: Saving, action: str) -> None:
    sleep = tmp_path / failing_name(point, action)
    shutil.copy("/bin/sleep", sleep)
    process = start(nodes, tmp_path, str(sleep), "100", form=form)
    if action == "die":
        outcome(nodes, process.pid)
        assert not list(tmp_path.glob("save*"))
        left = [path / "image" if path.is_dir() else path for path in tmp_path.glob(".save*")]
        assert all(path.stat().st_mode & 0o777 == 0 for path in left), "nobody may read half a file"
    else:
        assert WORDS[action] in outcome(nodes, process.pid)
        assert not list(tmp_path.glob("*save*"))
        assert outcome(nodes, process.pid) == "ok"
        assert [path.name for path in tmp_path.glob("*save*")] == ["save.1"]
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    wait_until(lambda: not executing(sleep))


def test_its_tracer_dies_in_the_middle_of_a_call(nodes: Lab, tmp_path: Path) -> None:
    """Its registers are gone with the tracer: it ends, and does not wait for ever in a place that is not its own."""
    sleep = tmp_path / failing_name(Saving.PLANNED, "die")
    shutil.copy("/bin/sleep", sleep)
    process = start(nodes, tmp_path, str(sleep), "100")
    nodes.tree(1).write(f"proc/{process.pid}/checkpoint", "checkpoint")
    assert process.wait(30) == -signal.SIGKILL
    assert not list(tmp_path.glob("*save*"))


def executing(path: Path) -> list[str]:
    """Processes that execute this file: its twin is one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") == str(path):
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def saved(nodes: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of one program, which had another name at each; the file's name ends with that of the program."""
    folder = tmp_path_factory.mktemp("saved")
    process = start(nodes, folder, sys.executable, "-c", RENAMED, form="folder")
    for point in READING:
        for action in ACTIONS[:3]:
            name = failing_name(point, action)
            (folder / "new").write_text(name)
            (folder / "new").rename(folder / "name")
            wait_until(lambda name=name: Path(f"/proc/{process.pid}/comm").read_text() == f"{name}\n")
            nodes.tree(1).write(f"proc/{process.pid}/checkpointfile", f"{folder}/{name}")
            assert outcome(nodes, process.pid) == "ok"
    process.kill()
    process.wait()
    return folder


@pytest.mark.parametrize("point", READING, ids=lambda point: str(point.name))
@pytest.mark.parametrize("action", ACTIONS[:3])
def test_reading(nodes: Lab, saved: Path, point: Saving, action: str) -> None:
    """Nothing runs: not what was saved, and not its executable from the beginning."""
    done = nodes.run(1, "mosrun", "-h", f"-R{saved}/{failing_name(point, action)}.1")
    if action == "die":
        assert done.returncode == -signal.SIGKILL
        return
    assert done.returncode == 125 and done.stderr.startswith("mosrun: Restoration failed: ") and WORDS[action] in done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("built") / "kept"
    compile_c(SOURCES / "kept.c", built, ("-O1", "-pthread"))
    return built


def begin(nodes: Lab, folder: Path, program: Path) -> subprocess.Popen[bytes]:
    """A program with eight threads (`threaded/kept.c`), which are ready."""
    with open(folder / "stdout", "ab") as out:
        process = nodes.start(
            1, "mosrun", "-h", "-Csave", str(program), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
        )  # fmt: skip
    nodes.process(process.pid)
    wait_until(lambda: (folder / "stdout").read_text().startswith("ready"))
    return process


@pytest.mark.parametrize("point", WITH_THREADS, ids=lambda point: str(point.name))
@pytest.mark.parametrize("action", ACTIONS)
def test_writing_with_threads(nodes: Lab, tmp_path: Path, kept: Path, point: Saving, action: str) -> None:
    """All of them go on, whatever fails while they stand; and the next checkpoint is taken."""
    program = tmp_path / failing_name(point, action)
    shutil.copy(kept, program)
    process = begin(nodes, tmp_path, program)
    if action == "die":
        outcome(nodes, process.pid)
        assert not list(tmp_path.glob("save*"))
    else:
        assert WORDS[action] in outcome(nodes, process.pid)
        assert not list(tmp_path.glob("*save*"))
        assert outcome(nodes, process.pid) == "ok"
    (tmp_path / "go").touch()
    assert process.wait(60) == 7 and (tmp_path / "stdout").read_text() == "ready\nall is well\n"
    wait_until(lambda: not executing(program))


@pytest.mark.parametrize("point", MAKING, ids=lambda point: str(point.name))
@pytest.mark.parametrize("action", ACTIONS[:3])
def test_reading_with_threads(nodes: Lab, tmp_path: Path, kept: Path, point: Saving, action: str) -> None:
    """Nothing runs, none of its threads; and the process that was made for its number has ended."""
    program = tmp_path / failing_name(point, action)
    shutil.copy(kept, program)
    process = begin(nodes, tmp_path, program)
    assert nodes.run(1, "mosmigrate", str(process.pid), "chkexit").returncode == 0
    process.wait(60)
    (tmp_path / "go").touch()
    before = (tmp_path / "stdout").read_text()
    done = nodes.run(1, "mosrun", "-h", "-Rsave.1", cwd=tmp_path)
    assert done.returncode == (-signal.SIGKILL if action == "die" else 125)
    wait_until(lambda: not os.path.exists(f"/proc/{process.pid}"))
    assert not executing(program)
    told = "" if action == "die" else f"mosrun: Restoration failed: {WORDS[action]}"
    more = (tmp_path / "stdout").read_text().removeprefix(before)  # where the program has its standard error, as soon as it has it
    if point == Saving.THREAD:
        assert told in done.stderr and not more
    else:
        assert more.startswith(told) and more.count("\n") == bool(told)
