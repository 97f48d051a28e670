"""Checkpoints of programs with threads: who goes on from one has the threads, with the numbers, that it had (`threaded/kept.c`)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mosfs.tools.recover import head_of
from mosfs.trace import numbers
from tests import cluster
from tests.cluster import Lab, as_user, others, wait_until
from tests.progs import compile_c
from tests.threaded import SOURCES

pytestmark = pytest.mark.root

PLACES = {"home": "-h", "away": "-2"}
NOBODY = 12345
#: Tells its process ID when there is the file ``go``.
WHO = "echo ready; until [ -e go ]; do :; done; read -r pid _ < /proc/self/stat; echo $pid; exit 3"

#: "files", "folder": it has a thread with descriptors, or a working directory, of its own; "ended": its first thread has ended.
APART = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static char stack[65536];
static int rests(void *argument) { (void)argument; for (;;) pause(); }
int main(int argc, char **argv)
{
	int flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	(void)argc;
	flags |= strcmp(argv[1], "files") ? CLONE_FILES : 0;
	flags |= strcmp(argv[1], "folder") ? CLONE_FS : 0;
	clone(rests, stack + sizeof stack, flags, NULL);
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[1], "ended"))
		syscall(SYS_exit, 0);
	pause();
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    built = tmp_path_factory.mktemp("built") / "kept"
    compile_c(SOURCES / "kept.c", built, ("-O1", "-pthread"))
    return str(built)


def start(nodes: Lab, folder: Path, *words: str, user: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """mosrun with files for the three standard descriptors."""
    with open(folder / "stdout", "ab") as out:
        return nodes.start(1, *user, "mosrun", *words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)


#: What mosrun -R says of a number that is somebody else's just now.
IN_USE = (" is in use", ": others keep taking it")


def again(nodes: Lab, folder: Path, pid: int, *words: str, user: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """mosrun -R, of a program with this process ID. This machine may make thousands of processes a minute, so one of the numbers,
    also that of its last thread, may be somebody else's for a moment."""
    numbers = {pid, *threads(folder, words[0].removeprefix("-R"))}

    def begun(process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is not None or (nodes.tree(1).process(pid) is not None and tasks(pid) >= numbers)

    for _ in range(50):
        process = start(nodes, folder, *words, user=user)
        wait_until(partial(begun, process))
        if process.poll() != 125:
            return process
        refused = (folder / "stdout").read_text().rstrip("\n")
        assert refused.endswith(IN_USE), refused
        time.sleep(0.2)
    raise AssertionError("its numbers are never free")


def said(folder: Path) -> list[str]:
    return [line for line in (folder / "stdout").read_text().splitlines() if not line.endswith(IN_USE)]


def ready(folder: Path) -> bool:
    return "ready" in said(folder)


def wish(nodes: Lab, pid: int, what: str) -> None:
    done = nodes.run(1, "mosmigrate", str(pid), what)
    assert done.returncode == 0, done.stderr


def saved(nodes: Lab, folder: Path, kept: str, *options: str, user: tuple[str, ...] = ()) -> int:
    """A checkpoint ``save.1`` of the program, which has ended: the process ID that it had."""
    process = start(nodes, folder, *options, "-Csave", kept, user=user)
    nodes.process(process.pid)
    wait_until(lambda: ready(folder))
    wish(nodes, process.pid, "chkexit")
    assert process.wait(60) == 0
    return process.pid


def threads(folder: Path, name: str = "save.1") -> list[int]:
    """The IDs of the threads but the first, as the file, or the folder of an incremental one, says."""
    path = folder / name
    fd = os.open(path / "image" if path.is_dir() else path, os.O_RDONLY)
    try:
        return [thread["tid"] for thread in head_of(fd)["threads"]]
    finally:
        os.close(fd)


def tasks(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except FileNotFoundError:
        return set()


@pytest.mark.parametrize("place", PLACES)
def test_all_is_as_it_was_three_times(nodes: Lab, tmp_path: Path, kept: str, place: str) -> None:
    """Mutexes of every kind, who waits for them, conditions, times, signals, names: from checkpoint to checkpoint."""
    pid = saved(nodes, tmp_path, kept, PLACES[place])
    beside = threads(tmp_path)
    assert len(beside) == 7
    for number in (1, 2):
        process = again(nodes, tmp_path, pid, f"-Rsave.{number}", PLACES[place])
        wait_until(lambda: tasks(pid) == {pid, *beside})
        wait_until(lambda: nodes.process(pid).state == ("here" if place == "home" else "away"))
        time.sleep(0.1)
        wish(nodes, pid, "chkexit")
        assert process.wait(60) == 0
        assert threads(tmp_path, f"save.{number + 1}") == beside
    process = again(nodes, tmp_path, pid, "-Rsave.3", PLACES[place])
    nodes.process(pid)
    (tmp_path / "go").touch()
    assert process.wait(60) == 7, said(tmp_path)
    assert said(tmp_path) == ["ready", "all is well"]


@pytest.mark.parametrize("place", PLACES)
def test_one_that_goes_on_after_it(nodes: Lab, tmp_path: Path, kept: str, place: str) -> None:
    """All of its threads do, from here and from there; a whole one, and one that shares pages with it."""
    process = start(nodes, tmp_path, PLACES[place], "--incremental", "-Csave", kept)
    nodes.process(process.pid)
    wait_until(lambda: ready(tmp_path))
    for _ in range(2):
        wish(nodes, process.pid, "checkpoint")
    (tmp_path / "go").touch()
    assert process.wait(60) == 7 and said(tmp_path) == ["ready", "all is well"]
    assert again(nodes, tmp_path, process.pid, "-Rsave.2", PLACES[place]).wait(60) == 7
    assert said(tmp_path) == ["ready", "all is well", "all is well"]


@pytest.mark.parametrize("place", PLACES)
def test_a_thread_asks_for_it(nodes: Lab, tmp_path: Path, kept: str, place: str) -> None:
    """mosix(7): "When reading and writing - perform a checkpoint and return its version": to that thread, here and there."""
    process = start(nodes, tmp_path, PLACES[place], "-Cmine.4", kept, "own")
    wait_until(lambda: {"ready", "checkpoint 4"} <= set(said(tmp_path)))
    process.kill()
    process.wait()
    before = said(tmp_path)
    (tmp_path / "go").touch()
    assert again(nodes, tmp_path, process.pid, "-Rmine.4").wait(60) == 7
    assert "checkpoint 4" in said(tmp_path)[len(before) :] and said(tmp_path)[-1] == "all is well"


@others
@pytest.mark.parametrize("place", PLACES)
def test_for_an_ordinary_user(nodes: Lab, tmp_path: Path, kept: str, place: str) -> None:
    """Whose processes may not choose their numbers themselves."""
    for folder in (tmp_path, Path(kept).parent, *tmp_path.parents[:2], *Path(kept).parents[:3]):
        folder.chmod(0o777)
    (tmp_path / "stdout").touch()
    (tmp_path / "stdout").chmod(0o666)
    pid = saved(nodes, tmp_path, kept, PLACES[place], user=as_user(NOBODY))
    (tmp_path / "go").touch()
    process = again(nodes, tmp_path, pid, "-Rsave.1", PLACES[place], user=as_user(NOBODY))
    assert process.wait(60) == 7, (said(tmp_path), pid)
    assert said(tmp_path) == ["ready", "all is well"]


@contextmanager
def taken(number: int) -> Iterator[None]:
    """Somebody has that process ID."""
    for _ in range(1000):
        wait_until(lambda: not numbers.in_use(number))
        with numbers.next_is(number):
            child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        try:
            if child == number:
                yield
                return
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    raise AssertionError("others were always faster")


def test_a_number_that_is_in_use(nodes: Lab, tmp_path: Path, kept: str) -> None:
    """One line says which, and nothing runs; when it is free again the program goes on."""
    pid = saved(nodes, tmp_path, kept, "-h")
    for number in (pid, threads(tmp_path)[3]):
        with taken(number):
            done = nodes.run(1, "mosrun", "-Rsave.1", cwd=tmp_path)
            if number != pid and f"{pid}{IN_USE[0]}" in done.stderr:
                continue  # by somebody else, for a moment: there is nothing to be seen
            assert (done.returncode, done.stderr) == (125, f"mosrun: Restoration failed: process ID {number} is in use\n")
            assert number != pid or nodes.tree(1).process(pid) is None
        assert said(tmp_path) == ["ready"]
    (tmp_path / "go").touch()
    assert again(nodes, tmp_path, pid, "-Rsave.1").wait(60) == 7


def test_its_node_does_not_answer(nodes: Lab, tmp_path: Path, kept: str) -> None:
    """It does not begin, with none of its threads; with -F it begins at home."""
    pid = saved(nodes, tmp_path, kept, "-h")
    (tmp_path / "go").touch()
    done = nodes.run(1, "mosrun", "-Rsave.1", "-r", "127.255.255.1", cwd=tmp_path)
    assert done.returncode == 125 and "not in map" in done.stderr and said(tmp_path) == ["ready"], pid
    assert again(nodes, tmp_path, pid, "-Rsave.1", "-F", "-r", "127.255.255.1").wait(60) == 7


def test_the_parent_does_as_the_program_does(nodes: Lab, tmp_path: Path, kept: str) -> None:
    """mosrun, which has another process ID: signals, stops and ends are passed on."""
    pid = saved(nodes, tmp_path, kept, "-h")

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    process = again(nodes, tmp_path, pid, "-Rsave.1")
    nodes.process(pid)
    os.kill(pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]) and state() in "Tt"
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: state() not in "Tt")
    assert not os.listdir(f"/proc/{process.pid}/fd"), "no pipe of the program's is held open"
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    process = again(nodes, tmp_path, pid, "-Rsave.1")
    nodes.process(pid)
    process.kill()
    process.wait(60)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert said(tmp_path) == ["ready"]


def test_the_same_process_id_for_one_thread(nodes: Lab, tmp_path: Path) -> None:
    """--same-pid; without it the program is the process that mosrun -R was."""
    process = start(nodes, tmp_path, "-h", "-Csave", "bash", "-c", WHO)
    nodes.process(process.pid)
    wait_until(lambda: ready(tmp_path))
    wish(nodes, process.pid, "chkexit")
    assert process.wait(60) == 0
    (tmp_path / "go").touch()
    other = start(nodes, tmp_path, "-Rsave.1")
    assert other.wait(60) == 3 and said(tmp_path)[-1] == str(other.pid)
    assert again(nodes, tmp_path, process.pid, "-Rsave.1", "--same-pid").wait(60) == 3 and said(tmp_path)[-1] == str(process.pid)
    refused = nodes.run(1, "mosrun", "--same-pid", "true")
    assert refused.returncode == 2 and "--same-pid needs -R" in refused.stderr


@pytest.mark.parametrize(("kind", "words"), [
    ("files", "descriptors or a folder of their own"), ("folder", "descriptors or a folder of their own"),
    ("ended", "its first thread has ended"),
])
def test_threads_that_would_not_be_the_same(nodes: Lab, tmp_path: Path, kind: str, words: str) -> None:
    """The reason is said, nothing is written, and the program goes on."""
    (tmp_path / "apart.c").write_text(APART)
    compile_c(tmp_path / "apart.c", tmp_path / "apart", ())
    process = start(nodes, tmp_path, "-h", "-Csave", str(tmp_path / "apart"), kind)
    nodes.process(process.pid)
    wait_until(lambda: ready(tmp_path))
    if kind == "ended":
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and words in failed.stderr
    assert not [*tmp_path.glob("*save*")] and process.poll() is None
    process.kill()
    process.wait()
