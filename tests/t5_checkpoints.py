"""Checkpoints and recovery (mosrun(1), CHECKPOINTS): a program that was ended goes on from it as if nothing had been."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, as_user, wait_until

pytestmark = pytest.mark.root

SAVED = str(Path(__file__).with_name("saved.py"))
LOCKSTEP = str(Path(__file__).with_name("lockstep.py"))
PLACES = {"home": "-h", "away": "-2"}
STEPS = 60


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


PROGRAM = (sys.executable, SAVED, str(STEPS))


def start(nodes: Lab, folder: Path, *options: str, program: tuple[str, ...] = PROGRAM) -> subprocess.Popen[bytes]:
    """Run a program with files for its three standard descriptors: pipes cannot be kept."""
    (folder / "hold").touch()
    with open(folder / "stdout", "ab") as out:
        return nodes.start(
            1, "mosrun", *options, *program, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes], folder: Path | None = None) -> int:
    """The exit status; of a program in ``folder`` that is to go on to its end."""
    if folder is not None:
        (folder / "hold").unlink()
    return process.wait(60)


def lines(folder: Path) -> list[str]:
    path = folder / "out"
    return path.read_text().splitlines() if path.exists() else []


def reached(folder: Path, step: int) -> bool:
    return len(lines(folder)) >= step


def expected(steps: int = STEPS) -> list[str]:
    total, found = 0.0, []
    for step in range(steps):
        found.append(f"{step} {total!r}")
        total += 1 / (step + 1)
    return found


def save(nodes: Lab, pid: int, what: str = "checkpoint") -> None:
    done = nodes.run(1, "mosmigrate", str(pid), what)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_goes_on_three_times(nodes: Lab, tmp_path: Path, place: str) -> None:
    """Saved and ended at some moment, three times in a row: output and files are those of a run without a break."""
    process = start(nodes, tmp_path, PLACES[place], "-Csave")
    for number in (1, 2, 3):
        nodes.process(process.pid)
        wait_until(partial(reached, tmp_path, 12 * number))
        save(nodes, process.pid, "chkexit")
        assert end(process) == 0
        at = len(lines(tmp_path))
        assert at < STEPS
        assert (tmp_path / f"save.{number}").stat().st_mode & 0o777 == 0o400
        process = start(nodes, tmp_path, f"-Rsave.{number}", PLACES[place], program=())
    assert end(process, tmp_path) == 0, (tmp_path / "stdout").read_text()
    assert (tmp_path / "stdout").read_text() == "all is well\n"
    assert lines(tmp_path) == expected()
    assert not list(tmp_path.glob(".save*")), "nothing half written is left"


@pytest.mark.parametrize("place", PLACES)
def test_own_request(nodes: Lab, tmp_path: Path, place: str) -> None:
    """mosix(7): "When reading and writing - perform a checkpoint and return its version", then and after recovery."""
    assert end(start(nodes, tmp_path, PLACES[place], "-Cmine.4", program=(sys.executable, SAVED, "10", "own"))) == 0
    whole = lines(tmp_path)
    assert whole[6] == "checkpoint 4" and (tmp_path / "mine.4").exists()
    assert end(start(nodes, tmp_path, "-Rmine.4", program=())) == 0
    assert lines(tmp_path) == [*whole, *whole[6:]]


@pytest.mark.parametrize("kind", ["copied", "apart", "away"])
def test_it_is_of_one_moment(nodes: Lab, tmp_path: Path, kind: str) -> None:
    """A program that writes its memory meanwhile goes on, and does so again from each; where it cannot be copied it stands."""
    program = (sys.executable, LOCKSTEP, *(["apart"] if kind == "apart" else []))
    process = start(nodes, tmp_path, "-2" if kind == "away" else "-h", "-Csave", program=program)
    for number in (1, 2):
        before = len(lines(tmp_path))
        wait_until(lambda before=before: len(lines(tmp_path)) > before)
        save(nodes, process.pid)
        assert (tmp_path / f"save.{number}").stat().st_size > 8 << 20
        wait_until(lambda: (nodes.process(process.pid).state == "away") == (kind == "away"))
    (tmp_path / "stop").touch()
    assert end(process) == 0 and (tmp_path / "stdout").read_text() == "all is well\n"
    for number in (1, 2):
        assert end(start(nodes, tmp_path, f"-Rsave.{number}", program=())) == 0
    assert (tmp_path / "stdout").read_text() == "all is well\n" * 3
    assert {path.name for path in tmp_path.glob("*save*")} == {"save.1", "save.2"}


def test_stops_after_it(nodes: Lab, tmp_path: Path) -> None:
    """mosmigrate(1): chkstop, "the process may then be resumed with SIGCONT"."""
    process = start(nodes, tmp_path, "-h")
    wait_until(lambda: lines(tmp_path))
    save(nodes, process.pid, "chkstop")
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt")
    assert (tmp_path / f"ckpt.{process.pid}.1").exists(), "the name that a program has without -C"
    before = len(lines(tmp_path))
    time.sleep(0.1)
    assert len(lines(tmp_path)) == before
    os.kill(process.pid, signal.SIGCONT)
    assert end(process, tmp_path) == 0
    assert lines(tmp_path) == expected()


def test_a_sleep_that_began_at_home_and_went_on_away(nodes: Lab, tmp_path: Path) -> None:
    """The kernel would resume it; whoever recovers makes it again."""
    process = start(nodes, tmp_path, "-h", "-Csave", program=("sleep", "100"))
    nodes.process(process.pid)
    wait_until(partial(sleeps, process.pid))
    assert nodes.run(1, "mosmigrate", str(process.pid), "2").returncode == 0
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    process = start(nodes, tmp_path, "-Rsave.1", program=())
    nodes.process(process.pid)
    wait_until(partial(sleeps, process.pid))
    process.terminate()
    assert end(process) == -signal.SIGTERM


def test_its_last_descriptor(nodes: Lab, tmp_path: Path) -> None:
    """Files are opened out of the way of where they shall be: here there is no way above."""
    words = f"exec 39<{SAVED} 0<&39; exec sleep 100"
    process = start(nodes, tmp_path, "-h", "-Csave", program=("prlimit", "--nofile=40:40", "bash", "-c", words))
    nodes.process(process.pid)
    wait_until(partial(sleeps, process.pid))
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    process = start(nodes, tmp_path, "-Rsave.1", program=())
    nodes.process(process.pid)
    wait_until(partial(sleeps, process.pid))
    assert [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 39)] == [SAVED, SAVED]
    assert sorted(os.listdir(f"/proc/{process.pid}/fd")) == ["0", "1", "2", "39"]
    process.terminate()
    assert end(process) == -signal.SIGTERM


def sleeps(pid: int) -> bool:
    """Is it in nanosleep or clock_nanosleep?"""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("35", "230")


def test_versions_are_recycled(nodes: Lab, tmp_path: Path) -> None:
    """mosrun(1), -N: save.4, save.5, save.4."""
    process = start(nodes, tmp_path, "-h", "-Csave.4", "-N2")
    wait_until(lambda: lines(tmp_path))
    made = []
    for _ in range(3):
        save(nodes, process.pid)
        made.append({path.name: path.stat().st_ino for path in tmp_path.glob("save.*")})
    assert [sorted(found) for found in made] == [["save.4"], ["save.4", "save.5"], ["save.4", "save.5"]]
    assert made[2]["save.5"] == made[1]["save.5"] and made[2]["save.4"] != made[1]["save.4"]
    assert end(process, tmp_path) == 0


@pytest.mark.parametrize("place", ["home", pytest.param("away", marks=pytest.mark.long)])
def test_incremental(nodes: Lab, tmp_path: Path, place: str) -> None:
    """What did not change is shared; older ones may be removed; what was recovered begins with a whole one again."""
    process = start(nodes, tmp_path, PLACES[place], "-Csave", "--incremental")
    for number in (1, 2):
        wait_until(partial(reached, tmp_path, 6 * number))
        save(nodes, process.pid)
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    images = [tmp_path / f"save.{number}" / "image" for number in (1, 2, 3)]
    assert [image.stat().st_mode & 0o777 for image in images] == [0o400] * 3
    assert images[0].stat().st_size > 4 * images[2].stat().st_size
    assert (tmp_path / "save.3" / "1").stat().st_ino == images[0].stat().st_ino
    shutil.rmtree(tmp_path / "save.1")
    shutil.rmtree(tmp_path / "save.2")
    shown = nodes.run(1, "mosrun", "-I", "save.3", cwd=tmp_path)
    assert shown.returncode == 0 and f"{tmp_path}/data\n" in shown.stdout
    shutil.copytree(tmp_path / "save.3", tmp_path / "bad")
    (tmp_path / "bad" / "1").unlink()
    refused = nodes.run(1, "mosrun", "-Rbad", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (125, "mosrun: Corrupt or improper checkpoint file\n")
    process = start(nodes, tmp_path, "-Rsave.3", PLACES[place], program=())
    nodes.process(process.pid)
    save(nodes, process.pid)
    assert os.listdir(tmp_path / "save.4") == ["image"]
    assert end(process, tmp_path) == 0, (tmp_path / "stdout").read_text()
    assert lines(tmp_path) == expected() and not list(tmp_path.glob(".save*"))


@pytest.mark.parametrize("place", ["home", pytest.param("away", marks=pytest.mark.long)])
def test_compressed(nodes: Lab, tmp_path: Path, place: str) -> None:
    """Each file as it was asked for when the program began or was recovered; the program is the same in all."""
    process = start(nodes, tmp_path, PLACES[place], "-Csave", "--compress")
    for number, options in enumerate((["--no-compress"], ["--compress", "--incremental"], []), 1):
        nodes.process(process.pid)
        wait_until(partial(reached, tmp_path, 10 * number))
        save(nodes, process.pid, "chkexit")
        assert end(process) == 0
        process = start(nodes, tmp_path, f"-Rsave.{number}", *options, PLACES[place], program=())
    packed, plain, shared = (tmp_path / name for name in ("save.1", "save.2", "save.3/image"))
    assert 2 * packed.stat().st_size < plain.stat().st_size < 2 * shared.stat().st_size
    assert end(process, tmp_path) == 0, (tmp_path / "stdout").read_text()
    assert lines(tmp_path) == expected()


@pytest.mark.long
def test_incremental_ones_are_recycled(nodes: Lab, tmp_path: Path) -> None:
    """-N1: each takes the place of the one that it shares with; then that of a file, and of a folder that is none of ours."""
    process = start(nodes, tmp_path, "-h", "-Csave", "--incremental", "-N1")
    wait_until(lambda: lines(tmp_path))
    for _ in range(3):
        save(nodes, process.pid)
    assert "1" in os.listdir(tmp_path / "save.1") and [path.name for path in tmp_path.glob("*save*")] == ["save.1"]
    (tmp_path / "save.1" / "notes").write_text("mine")
    for _ in range(2):
        failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
        assert failed.returncode == 1 and "not empty" in failed.stderr
        assert (tmp_path / "save.1" / "notes").read_text() == "mine" and not list(tmp_path.glob(".save*"))
    (tmp_path / "save.1" / "notes").unlink()
    save(nodes, process.pid)
    nodes.tree(1).write(f"proc/{process.pid}/checkpointfile", f"{tmp_path}/other.1")
    (tmp_path / "other.1").write_text("a file")
    save(nodes, process.pid)
    assert "image" in os.listdir(tmp_path / "other.1")
    nodes.tree(1).write(f"proc/{process.pid}/checkpointfile", f"{tmp_path}/mine.1")
    (tmp_path / "mine.1").mkdir()
    (tmp_path / "mine.1" / "1").write_text("mine")
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and (tmp_path / "mine.1" / "1").read_text() == "mine"
    process.kill()
    assert end(process) == -signal.SIGKILL
    before = len(lines(tmp_path))
    process = start(nodes, tmp_path, "-Rother.1", program=())
    assert end(process, tmp_path) == 0 and len(lines(tmp_path)) >= before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def saved(nodes: Lab, folder: Path) -> Path:
    """A checkpoint of a program that was ended by it."""
    process = start(nodes, folder, "-h", "-Csave")
    wait_until(lambda: len(lines(folder)) >= 3)
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    return folder / "save.1"


def test_inspection_and_other_files(nodes: Lab, tmp_path: Path) -> None:
    """-I lists the open files; -O replaces some, "with the previous modes, flags and offsets"."""
    saved(nodes, tmp_path)
    shown = nodes.run(1, "mosrun", "-I", str(tmp_path / "save.1"))
    assert shown.returncode == 0 and f"{tmp_path}/data\n" in shown.stdout and "append" in shown.stdout
    head = json.loads(nodes.run(1, "mosrun", "-I", str(tmp_path / "save.1"), "--json").stdout)
    out = next(file for file in head["files"] if file["path"] == f"{tmp_path}/out")
    data = next(file for file in head["files"] if file["path"] == f"{tmp_path}/data")
    done = len(lines(tmp_path))
    (tmp_path / "other,data").write_bytes((tmp_path / "data").read_bytes())
    first, second = data["fds"]
    before = (tmp_path / "data").read_bytes()
    instead = f"-O@{out['fds'][0]}=other out@{first}@{second}=other,data"
    assert end(start(nodes, tmp_path, "-Rsave.1", instead, program=()), tmp_path) == 0
    assert (tmp_path / "data").read_bytes() == before and (tmp_path / "other,data").stat().st_size == 1000 + STEPS
    assert len(lines(tmp_path)) == done and (tmp_path / "other out").read_text().splitlines() == expected()[done:]
    refused = nodes.run(1, "mosrun", "-Rsave.1", "-O999=x", cwd=tmp_path)
    assert refused.stderr == "mosrun: File-descriptor 999 was not open at the time of checkpoint!\n" and refused.returncode == 125
    refused = nodes.run(1, "mosrun", "-Rsave.1", f"-O{out['fds'][0]}=/nowhere/x", cwd=tmp_path)
    number = out["fds"][0]
    assert refused.stderr == f"mosrun: Could not restore file-descriptor {number} with '/nowhere/x': No such file or directory\n"
    assert refused.returncode == 125


def test_what_is_gone(nodes: Lab, tmp_path: Path) -> None:
    """A file that the program had open, and its folder: a line that names them, and nothing runs."""
    saved(nodes, tmp_path)
    os.rename(tmp_path / "data", tmp_path / "elsewhere")
    before = lines(tmp_path)
    refused = nodes.run(1, "mosrun", "-Rsave.1", cwd=tmp_path)
    assert f"with '{tmp_path}/data': No such file or directory" in refused.stderr and refused.returncode == 125
    missing = nodes.run(1, "mosrun", "-Rnothing", cwd=tmp_path)
    assert missing.stderr == "mosrun: Could not restart with nothing: No such file or directory\n" and missing.returncode == 125
    missing = nodes.run(1, "mosrun", "-Inothing", cwd=tmp_path)
    assert missing.stderr == "mosrun: Checkpoint file nothing: No such file or directory\n" and missing.returncode == 125
    assert lines(tmp_path) == before


def test_a_folder_that_is_gone(nodes: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "below"
    folder.mkdir()
    process = start(nodes, folder, "-h", f"-C{tmp_path}/save", program=("sleep", "100"))
    nodes.process(process.pid)
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    for file in folder.iterdir():
        file.rename(tmp_path / file.name)
    folder.rmdir()
    refused = nodes.run(1, "mosrun", "-Rsave.1", f"-O1={tmp_path}/stdout,2={tmp_path}/stdout", cwd=tmp_path)
    assert refused.stderr == f"mosrun: Restoration failed: {folder}: No such file or directory\n" and refused.returncode == 125


def test_a_folder_that_cannot_be_written(nodes: Lab, tmp_path: Path) -> None:
    """The program runs all the same, after a warning."""
    tmp_path.chmod(0o755)
    nobody = as_user(65534)
    done = nodes.run(1, *nobody, "mosrun", "-h", "-Csave", "echo", "hello", cwd="/")
    assert done.stderr == "mosrun: WARNING: no write-access in checkpoint directory!\n" and done.stdout == "hello\n"


@cluster.others
def test_of_another_user(nodes: Lab) -> None:
    """The file is the user's, and the tracer, which is root's, has written it as that user."""
    folder = Path(tempfile.mkdtemp(prefix="mosfs-", dir="/tmp"))
    os.chown(folder, 65534, 65534)
    nobody = as_user(65534)
    try:
        words = folder / "words"
        words.touch()
        os.chown(words, 65534, 65534)
        with open(words, "ab") as out:
            process = nodes.start(
                1, *nobody, "mosrun", "-h", f"-C{folder}/save", "sleep", "100", cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        nodes.process(process.pid)
        wait_until(partial(sleeps, process.pid))
        save(nodes, process.pid, "chkexit")
        assert end(process) == 0
        made = (folder / "save.1").stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (65534, 65534, 0o400)
        again = nodes.start(1, *nobody, "mosrun", f"-R{folder}/save.1", cwd=folder, stdin=subprocess.DEVNULL)
        nodes.process(again.pid)
        wait_until(partial(sleeps, again.pid))
        again.terminate()
        assert end(again) == -signal.SIGTERM
    finally:
        shutil.rmtree(folder)


def test_a_pipe_is_counted(nodes: Lab, tmp_path: Path) -> None:
    """mosrun(1), -N: with pipes open "a checkpoint file will be created and counted - but containing just an error message"."""
    process = nodes.start(
        1, "mosrun", "-h", "-Csave", sys.executable, SAVED, str(STEPS), cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    (tmp_path / "hold").touch()
    wait_until(lambda: lines(tmp_path))
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and "file-descriptor 1 is a pipe" in failed.stderr
    assert (tmp_path / "save.1").read_text() == "No checkpoint could be taken: file-descriptor 1 is a pipe\n"
    assert nodes.tree(1).read(f"proc/{process.pid}/checkpoint") == "2"
    (tmp_path / "hold").unlink()
    assert process.communicate(timeout=60)[0] == b"all is well\n" and process.returncode == 0
    refused = nodes.run(1, "mosrun", "-Rsave.1", cwd=tmp_path)
    assert refused.stderr == "mosrun: Corrupt or improper checkpoint file\n" and refused.returncode == 125


def test_its_limit_of_files_holds(nodes: Lab, tmp_path: Path) -> None:
    """RLIMIT_FSIZE of the program; the tracer writes for it."""
    process = start(nodes, tmp_path, "-h", "-Csave", program=("prlimit", "--fsize=20000", "sleep", "100"))
    wait_until(lambda: nodes.process(process.pid).comm == "sleep")
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and "File too large" in failed.stderr
    assert not [*tmp_path.glob("*save*")]
    process.terminate()
    assert end(process) != 0


def test_no_checkpoint_in_our_own_tree(nodes: Lab, tmp_path: Path) -> None:
    """Who serves that folder may be waiting for the tracer."""
    folder = f"{nodes.node(1).paths.mount}/proc"
    process = start(nodes, tmp_path, "-h", f"-C{folder}/save", program=("sleep", "100"))
    nodes.process(process.pid)
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and "the folder is in the tree of MOSIX itself" in failed.stderr
    process.terminate()
    assert end(process) != 0


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device"])
def test_the_name_leads_to_something_else(nodes: Lab, tmp_path: Path, kind: str) -> None:
    """Nothing waits for a writer of a pipe, and no device is opened that was a file."""
    saved(nodes, tmp_path)
    data = tmp_path / "data"
    data.unlink()
    {"a pipe": os.mkfifo, "a directory": os.mkdir, "a device": lambda path: path.symlink_to("/dev/null")}[kind](data)
    refused = nodes.run(1, "mosrun", "-Rsave.1", cwd=tmp_path)
    assert f"with '{data}': it is {kind} now\n" in refused.stderr and refused.returncode == 125


def test_an_executable_that_cannot_be_ours(nodes: Lab, tmp_path: Path) -> None:
    """Its program does not run afresh instead of going on."""
    own = tmp_path / "own"
    shutil.copy("/bin/sleep", own)
    process = start(nodes, tmp_path, "-h", "-Csave", program=(str(own), "100"))
    nodes.process(process.pid)
    save(nodes, process.pid, "chkexit")
    assert end(process) == 0
    os.chown(own, 65534, 65534)
    own.chmod(0o4755)
    refused = nodes.run(1, "mosrun", "-Rsave.1", cwd=tmp_path)
    assert refused.stderr == "mosrun: Restoration failed: has other rights than its user\n" and refused.returncode == 125


def test_damaged_files(nodes: Lab, tmp_path: Path) -> None:
    """Torn or changed anywhere: the manual's line, and never a wrong program."""
    whole = saved(nodes, tmp_path).read_bytes()
    before = lines(tmp_path)
    middle = len(whole) // 2
    for name, data in {
        "empty": b"", "foreign": b"#!/bin/sh\n" * 100, "head": whole[:100], "torn": whole[:middle], "no end": whole[:-9],
        "in the head": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "in a page": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }.items():
        (tmp_path / "bad").write_bytes(data)
        refused = nodes.run(1, "mosrun", "-Rbad", cwd=tmp_path)
        assert refused.stderr == "mosrun: Corrupt or improper checkpoint file\n", name
        assert refused.returncode == 125 and lines(tmp_path) == before, name


def test_a_full_disk_keeps_what_was(nodes: Lab, tmp_path: Path) -> None:
    """The checkpoint fails, the program goes on, and the last one is whole."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", small], check=True)
    try:
        process = start(nodes, tmp_path, "-h", f"-C{small}/save", "-N1")
        wait_until(lambda: lines(tmp_path))
        save(nodes, process.pid)
        first = (small / "save.1").read_bytes()
        with suppress(OSError), open(small / "filler", "wb", buffering=0) as filler:
            while filler.write(bytes(1 << 20)):
                pass
        failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
        assert failed.returncode == 1 and "No space left on device" in failed.stderr
        assert (small / "save.1").read_bytes() == first and sorted(os.listdir(small)) == ["filler", "save.1"]
        assert end(process, tmp_path) == 0 and lines(tmp_path) == expected()
    finally:
        subprocess.run(["umount", small], check=True)


#: Opens what its first argument says, and waits.
HOLDS = """
import ctypes, mmap, os, signal, sys
kind = sys.argv[1]
if kind == "memory":
    shared = mmap.mmap(-1, 4096)
elif kind == "private":
    private = open(os.path.join(sys.argv[2], "private", "file"), "w")
elif kind == "mailbox":
    assert ctypes.CDLL(None).syscall(2, b"/proc/self/mybox", os.O_CREAT, 0) >= 0
open("ready", "w").close()
signal.pause()
"""


@pytest.mark.long
@pytest.mark.parametrize(("kind", "option", "words"), [
    ("memory", "--stay-home", "Shared memory"),
    ("private", "-X", "it has private temporary files"), ("mailbox", "-h", "it is involved in direct communication"),
])  # fmt: skip
def test_what_cannot_be_checkpointed(nodes: Lab, tmp_path: Path, kind: str, option: str, words: str) -> None:
    """The reason is said, nothing is written, and the program goes on."""
    options = [option, str(tmp_path / "private")] if option == "-X" else [option]
    process = start(nodes, tmp_path, "-h", "-Csave", *options, program=(sys.executable, "-c", HOLDS, kind, str(tmp_path)))
    wait_until(lambda: (tmp_path / "ready").exists())
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and words in failed.stderr
    assert not [*tmp_path.glob("*save*")] and process.poll() is None
    process.kill()
    process.wait()


def test_with_the_rights_of_another(nodes: Lab, tmp_path: Path) -> None:
    """A set-uid program."""
    own = tmp_path / "own"
    shutil.copy("/bin/sleep", own)
    os.chown(own, 65534, 65534)
    own.chmod(0o4755)
    process = start(nodes, tmp_path, "-h", "-Csave", program=(str(own), "100"))
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "own\n")
    failed = nodes.run(1, "mosmigrate", str(process.pid), "checkpoint")
    assert failed.returncode == 1 and "has other rights than its user" in failed.stderr and not [*tmp_path.glob("*save*")]
    process.kill()
    process.wait()


#: Has a terminal open twice, and a lock.
TERMINAL = """
import fcntl, os, signal, sys
os.dup2(0, 7)
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
open("ready", "w").close()
signal.pause()
"""


def test_terminals_are_those_of_mosrun(nodes: Lab, tmp_path: Path) -> None:
    """What `mosrun -R` has open under the same number is used, else /dev/null. Locks are not kept."""
    ends = [os.openpty() for _ in range(2)]
    names = [os.ttyname(slave) for _, slave in ends]
    try:
        with open(tmp_path / "stdout", "ab") as out:
            process = nodes.start(
                1, "mosrun", "-h", "-Csave", sys.executable, "-c", TERMINAL, cwd=tmp_path, stdin=ends[0][1], stdout=out, stderr=out,
            )  # fmt: skip
            wait_until(lambda: (tmp_path / "ready").exists())
            save(nodes, process.pid, "chkexit")
            assert end(process) == 0
            again = nodes.start(1, "mosrun", "-Rsave.1", cwd=tmp_path, stdin=ends[1][1], stdout=out, stderr=out)
        nodes.process(again.pid)
        wait_until(lambda: Path(f"/proc/{again.pid}/syscall").read_text().split()[0] == "34")
        assert names[0] != names[1]
        assert [os.readlink(f"/proc/{again.pid}/fd/{fd}") for fd in (0, 7)] == [names[1], "/dev/null"]
        with open(tmp_path / "lock", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        again.kill()
        assert end(again) == -signal.SIGKILL
    finally:
        for fd in (fd for pair in ends for fd in pair):
            os.close(fd)


def test_program_options_are_not_permitted(nodes: Lab, tmp_path: Path) -> None:
    saved(nodes, tmp_path)
    for option in ("-e", "-m5", "-Cother", "-X/tmp"):
        refused = nodes.run(1, "mosrun", "-Rsave.1", option, cwd=tmp_path)
        assert refused.returncode == 2 and "not permitted with -R" in refused.stderr
