"""Nodes whose kernels lack what newer ones have (MOSIX_KERNEL_WITHOUT): one move out and back, and everything is as natively.

Without everything that may be lacking, a kernel is like Linux 5.10.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.native import kernel
from tests import cluster
from tests.cluster import Lab
from tests.progs import BY_NAME, Place, verdict

pytestmark = [pytest.mark.root, pytest.mark.long]
ALL = "all"
KERNELS = [ALL, *kernel.FEATURES]
#: One that tells when it has begun and, when it may go on, whether it has a child.
TALKS = "echo begun; read -r line; (echo child); exit 3"


@pytest.fixture(scope="module", params=KERNELS)
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSIX_KERNEL_WITHOUT", request.param)
        with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
            patch.delenv("MOSIX_KERNEL_WITHOUT")
            patch.setenv("PATH", running.environ["PATH"])
            yield running


def hidden(nodes: Lab) -> frozenset[str]:
    """What the node's mosd was told to do without."""
    environ = Path(f"/proc/{nodes.mosd(1)}/environ").read_bytes().split(b"\0")
    told = next(entry for entry in environ if entry.startswith(b"MOSIX_KERNEL_WITHOUT="))
    return kernel.hidden(told.partition(b"=")[2].decode())


def out_and_home(nodes: Lab, **environ: str) -> list[str]:
    """What mosmigrate says of two moves of a program, which then ends as natively; "" where it has moved."""
    with nodes.start(
        1, "env", *(f"{name}={value}" for name, value in environ.items()), "mosrun", "-h", "bash", "-c", TALKS,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin and program.stdout and program.stdout.readline() == b"begun\n"
        pid = nodes.process(program.pid).pid
        said = [nodes.run(1, "mosmigrate", str(pid), place).stderr for place in ("2", "home")]
        assert program.communicate(b"on\n", 120) == (b"child\n", None)
        assert program.returncode == 3
    return said


def test_out_and_home(nodes: Lab) -> None:
    assert out_and_home(nodes) == ["", ""]


def test_the_log_has_a_line_for_each(nodes: Lab) -> None:
    for number in (1, 2):
        log = Path(nodes.node(number).paths.log).read_text()
        for name in hidden(nodes):
            assert log.count(f"without {name} (Linux ") == bool(kernel.FEATURES[name].lost)


@pytest.mark.parametrize("name", ["counter", "memflags"])
def test_away(nodes: Lab, name: str) -> None:
    assert verdict(BY_NAME[name], Place.AWAY, root=nodes.plan.root)[1] == "", nodes.logs()


@pytest.mark.parametrize("name", ["counter", "memory"])
def test_moved_all_the_time(nodes: Lab, name: str) -> None:
    for seconds in ("1", "10", "100"):
        outcome, wrong = verdict(BY_NAME[name], Place.MOTION, root=nodes.plan.root, seconds=seconds)
        assert wrong == "", nodes.logs()
        if outcome.moves:
            return
    pytest.fail(f"it was never moved: {dict(outcome.reasons)}")


def test_a_program_is_told_to_do_without_restartable_sequences(nodes: Lab) -> None:
    told = nodes.run(1, "mosrun", "-h", "env").stdout
    assert ("glibc.pthread.rseq=0" in told) == ("rseq_told" in hidden(nodes))


@pytest.mark.skipif(tuple(map(int, platform.libc_ver()[1].split(".")[:2] or [0])) < (2, 35), reason="this libc registers none")
def test_one_that_has_them_stays_and_says_why(nodes: Lab) -> None:
    out, home = out_and_home(nodes, GLIBC_TUNABLES="glibc.pthread.rseq=1")
    assert "rseq_told" in hidden(nodes) or (out, home) == ("", "")
    assert "rseq_told" not in hidden(nodes) or "restartable sequences" in out
