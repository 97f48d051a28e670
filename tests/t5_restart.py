"""Daemons die and come back, tracers die: programs do not notice, or die as they must."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.t5_faults import PATIENCE, Walk

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("restart"), 3) as running:
        yield running


def where(nodes: Lab, walk: Walk) -> str:
    """Number of the node where it runs, "0" for home, as the tree has it."""
    return nodes.tree(1).read(f"proc/{walk.pid}/whereami")


def advance(walks: list[Walk]) -> None:
    for walk in walks:
        walk.advances()
        assert walk.process.poll() is None, walk.err()


def end(walks: list[Walk]) -> None:
    assert [(walk.end(), walk.err()) for walk in walks] == [(7, "")] * len(walks)


def kill_tracer(walk: Walk) -> int:
    """kill -9; returns its PID when it is gone."""
    tracer = tracer_of(walk.pid)
    assert tracer
    pidfd = os.pidfd_open(tracer)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert not labs._still({pidfd}, PATIENCE)
    os.close(pidfd)
    return tracer


@pytest.mark.parametrize("victims", [(1,), (2,), (1, 2, 3)], ids=["home", "host", "all"])
def test_programs_do_not_need_mosd(victims: tuple[int, ...], nodes: Lab, tmp_path: Path) -> None:
    """Two away, three at home; they go on while the daemon is down, are known to the next, and can be moved by it."""
    with ExitStack() as stack:
        walks = [stack.enter_context(Walk(nodes, tmp_path / str(i), "0.01")) for i in range(5)]
        assert [walk.move("2") for walk in walks[:2]] == ["", ""]
        before = {walk.pid: where(nodes, walk) for walk in walks}
        assert sorted(before.values()) == ["0", "0", "0", "2", "2"]
        for victim in victims:
            nodes.kill_mosd(victim)
        advance(walks)
        for victim in victims:
            nodes.start_mosd(victim)
        wait_until(lambda: {walk.pid for walk in walks} <= set(nodes.tree(1).pids("proc")))
        assert {walk.pid: where(nodes, walk) for walk in walks} == before
        wait_until(lambda: len(nodes.tree(2).pids("guests")) == 2)
        advance(walks)
        targets = ("3", "home", "2", "3", "home")
        assert [walk.move(target) for walk, target in zip(walks, targets)] == [""] * 5
        assert [where(nodes, walk) for walk in walks] == ["3", "0", "2", "3", "0"]
        advance(walks)
        end(walks)
    wait_until(lambda: not nodes.tree(1).pids("proc"))


def test_a_program_that_ends_while_mosd_is_down(nodes: Lab, tmp_path: Path) -> None:
    with Walk(nodes, tmp_path / "home") as home, Walk(nodes, tmp_path / "away", "0.01") as away:
        assert away.move("2") == ""
        nodes.kill_mosd(1)
        end([home, away])
        nodes.start_mosd(1)
    wait_until(lambda: not nodes.tree(2).pids("guests"))
    assert nodes.tree(1).pids("proc") == []


def test_a_move_while_mosd_is_away_is_refused_in_words(nodes: Lab, tmp_path: Path) -> None:
    with Walk(nodes, tmp_path / "walk") as walk:
        nodes.kill_mosd(3)
        assert walk.move("3") == "mosmigrate: failed migrating to 3: no response"
        nodes.start_mosd(3)
        assert walk.move("3") == ""
        end([walk])


def test_the_tracer_of_a_program_at_home_dies(nodes: Lab, tmp_path: Path) -> None:
    """Another tracer takes it over, and moves it as the first one did; other trees are not touched."""
    with Walk(nodes, tmp_path / "walk", "0.01") as walk, Walk(nodes, tmp_path / "other", "0.01") as other:
        assert other.move("2") == ""
        killed = kill_tracer(walk)
        wait_until(lambda: tracer_of(walk.pid) not in (0, killed))
        advance([walk, other])
        for target in ("3", "home"):
            assert [walk.move(target), other.move(target)] == ["", ""]
        advance([walk, other])
        end([walk, other])


def test_a_child_that_was_just_born_is_taken_over_too(nodes: Lab, tmp_path: Path) -> None:
    """mosd has not heard of it yet when the tracer dies (`Mosd.announce`); its opens must go on."""
    script = "(while [ ! -e go ]; do :; done; cat /etc/hostname > out) & echo; wait"
    with nodes.start(1, "mosrun", "-h", "bash", "-c", script, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        tracer = tracer_of(process.pid)
        (child,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        os.kill(tracer, signal.SIGKILL)
        wait_until(lambda: all(tracer_of(pid) not in (0, tracer) for pid in (process.pid, child)))
        (tmp_path / "go").touch()
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "out").read_text() == Path("/etc/hostname").read_text()


def test_the_tracer_of_a_program_away_dies(nodes: Lab, tmp_path: Path) -> None:
    """The body dies with its channel, and nothing is left of the program, at home or there."""
    with Walk(nodes, tmp_path / "walk", "0.01") as walk, Walk(nodes, tmp_path / "other", "0.01") as other:
        assert [walk.move("2"), other.move("2")] == ["", ""]
        kill_tracer(walk)
        status = walk.process.wait(PATIENCE)
        wait_until(lambda: len(nodes.tree(2).pids("guests")) == 1)
        wait_until(lambda: nodes.tree(1).pids("proc") == [other.pid])
        advance([other])
        end([other])
        assert status == -signal.SIGKILL
