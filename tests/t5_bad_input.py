"""What an administrator gets wrong, and machines that are full: one line says so, and what runs goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(600)]
#: A file, a line that is wrong in it, and the value that the message names, "" for none that is shown.
WRONG = [
    ("mosix.map", "10.0.0.1", "10.0.0.1"), ("mosix.map", "10.0.0.1 0 p", "0"), ("mosix.map", "10.0.0.1 1 q", "q"),
    ("mosix.map", "0.0.0.1 1", "0.0.0.1"), ("userview.map", "x", "x"), ("userview.map", "70000 10.0.0.1 1", "70000"),
    ("speed", "fast", "fast"), ("mosip", "nowhere", "nowhere"), ("secret", "short", ""), ("cpu", "z80", "z80"),
    ("freeze.conf", "1 x", "1 x"), ("freeze.conf", "1 0 4 6", "6"), ("freeze.conf", "U -1", "-1"), ("freeze.conf", "/x -1", "-1"),
    ("private.conf", "Z /x", "Z"), ("private.conf", "O /x -1", "-1"), ("maxguests", "many", "many"), ("retainpri", "-1", "-1"),
    ("guestuids", "0", "0"), ("mosrun.conf", "best never", "never"), ("mosrun.conf", "programs -1", "-1"),
    ("partners/zoo", "x\n70000 1 1\n10.9.0.1 1 1 1 0", "70000"), ("partners/zoo", "x\n50 2 1\n10.9.0.1 1 1 1 0", "2"),
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("bad"), 2) as running:
        yield running


def put(file: Path, text: str) -> None:
    """Replace it in one step, as editors do: an empty file in between would be another configuration."""
    new = file.parent / ".new"
    new.touch(0o600 if file.name == "secret" else 0o644)
    new.write_text(text)
    new.rename(file)


@contextmanager
def restarted(nodes: Lab) -> Iterator[None]:
    """mosd of node 1 is down within; afterwards it runs as before."""
    nodes.kill_mosd(1)
    labs.unmount(nodes.node(1).paths.mount)
    try:
        yield
    finally:
        if not labs.answers(nodes.node(1)):
            nodes.start_mosd(1)


def works(nodes: Lab) -> None:
    """Programs start on the other node; it may take a moment until that is known again."""
    wait_until(lambda: nodes.tree(1).read(f"nodes/{nodes.node(2).ip}/status") == "alive", 60)
    done = nodes.run(1, "mosrun", "-2", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_a_wrong_line_is_told_and_what_was_goes_on(nodes: Lab) -> None:
    """File, line and value, and the running configuration stays, also when mosd is told to read it."""
    etc = Path(nodes.node(1).paths.etc)
    for name, text, value in WRONG:
        file = etc / name
        before = file.read_text() if file.exists() else None
        put(file, f"{text}\n")
        told, checked = nodes.run(1, "mossetpe", "-A"), nodes.run(1, "mos_checkconf")
        if before is None:
            file.unlink()
        else:
            put(file, before)
        for done, words in ((told, told.stderr), (checked, checked.stdout + checked.stderr)):
            assert done.returncode == 1 and f"{file}, line " in words, (name, text, words)
            assert value in words, (name, text, words)
        assert told.stderr.count("\n") == 1
    works(nodes)
    assert nodes.run(1, "mossetpe", "-A").returncode == 0


def test_a_full_var(nodes: Lab) -> None:
    """mosd starts, programs and queues run, and the doctor says what is full."""
    var = Path(nodes.node(1).paths.root, "var")
    with restarted(nodes):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", var], check=True)
        try:
            for name in ("log", "mosix/multi"):
                (var / name).mkdir(parents=True)
            with pytest.raises(OSError), (var / "full").open("wb", buffering=0) as full:
                while full.write(bytes(4096)):
                    pass
            nodes.start_mosd(1)
            works(nodes)
            queue = nodes.run(1, "mosrun", "-S2", "-", input="echo a\necho b\n")
            assert (queue.returncode, sorted(queue.stdout.split())) == (0, ["a", "b"])
            said = nodes.run(1, "mosctl", "doctor").stdout
            assert f"warning: space: {var}/log: 0 MB free of 0 MB, for logs" in said
            nodes.kill_mosd(1)
            labs.unmount(nodes.node(1).paths.mount)
        finally:
            subprocess.run(["umount", "--lazy", var], check=True)
    works(nodes)


def test_a_read_only_etc(nodes: Lab) -> None:
    """mosd runs with it; what would write there says why it cannot."""
    paths = nodes.node(1).paths
    subprocess.run(["mount", "--bind", paths.etc, paths.etc], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", paths.etc], check=True)
        with restarted(nodes):
            nodes.start_mosd(1)
            works(nodes)
        for words in (["mosctl", "maxguests", "4"], ["mosctl", "openmulti"]):
            done = nodes.run(1, *words)
            assert (done.returncode, done.stderr) == (1, f"mosctl: {words[1]}: {paths.max_guests}: Read-only file system\n")
        done = nodes.run(1, "mosconf", "--root", paths.root, "speed", stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stderr) == (1, f"mosconf: {paths.etc}: cannot be written: it is on a read-only file system\n")
    finally:
        subprocess.run(["umount", paths.etc], check=True)
    works(nodes)
