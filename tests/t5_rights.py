"""What the daemons may do: as little as the table says (cluster/rights.py), and what a program finds is natively equal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.cluster.rights import FINAL, KEPT, Cap
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.t5_fuzz import as_user

pytestmark = [pytest.mark.root, cluster.others]
USER = 299_000
PAGE = Path(__file__).parent.parent / "docs/design/security.md"
#: Twice, as the second time nothing is left to give up; then as a user.
GIVE_UP = f"""
import os
from mosfs.cluster import rights
rights.give_up("mos-host")
rights.give_up("mos-host")
print(f"{{rights._held('CapPrm:'):x}}")
os.setresuid({USER}, {USER}, {USER})
print(f"{{rights._held('CapPrm:'):x}}")
"""
FIELDS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("rights"), 2) as running:
        yield running


def status(pid: int) -> dict[str, int]:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1], 16) for words in lines if words[0][:-1] in FIELDS}


def core_limit(pid: int) -> str:
    (line,) = (line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size"))
    return line.split()[4]


def mask(process: str) -> int:
    """What the table gives ``process``, of what this machine's root has."""
    return sum(1 << cap for cap in KEPT[process]) & status(os.getpid())["CapPrm"]


def check(process: str, pid: int) -> None:
    assert Path(f"/proc/{pid}/comm").read_text().strip() == process
    found = status(pid)
    assert found["CapPrm"] == found["CapEff"] == mask(process), process
    assert found["CapInh"] == found["CapAmb"] == 0
    if process in FINAL:
        assert found["NoNewPrivs"] == 1
        assert found["CapBnd"] & ~sum(1 << cap for cap in KEPT[process]) == 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        assert status(int(task.name)) == found, "every thread"
    assert core_limit(pid) == "0"


def test_daemons_keep_what_the_table_says(nodes: Lab) -> None:
    walking = nodes.start(1, *as_user(USER), "mosrun", "-2", "sh", "-c", "while :; do :; done")
    nodes.process(walking.pid)
    wait_until(lambda: list(nodes.tree(2).guests()))
    (guest,) = nodes.tree(2).guests()
    check("mosd", nodes.mosd(1))
    check("mos-tracer", tracer_of(walking.pid))
    check("mos-host", tracer_of(guest.pid))
    body = status(guest.pid)
    assert (body["CapPrm"], body["CapEff"], body["NoNewPrivs"]) == (0, 0, 1)
    walking.kill()
    walking.wait()


def test_a_tracer_of_roots_programs_has_what_they_have(nodes: Lab) -> None:
    program = nodes.start(1, "mosrun", "-h", "sleep", "1000")
    nodes.process(program.pid)
    assert status(tracer_of(program.pid))["CapPrm"] == status(program.pid)["CapPrm"]
    assert core_limit(tracer_of(program.pid)) == "0"
    program.kill()
    program.wait()


@pytest.mark.parametrize("user", [(), as_user(USER)], ids=["root", "a user"])
@pytest.mark.parametrize("place", ["-h", "-2"])
def test_programs_find_what_they_find_natively(nodes: Lab, user: tuple[str, ...], place: str) -> None:
    """But for no_new_privs in the trees of users (security.md), and limits of core files."""
    look = ("sh", "-c", "grep -E '^(Cap|Uid|Gid|Groups)' /proc/self/status; ulimit -c")
    natively = subprocess.run([*user, *look], capture_output=True, text=True, check=True).stdout
    done = nodes.run(1, *user, "mosrun", place, *look)
    assert (done.stdout, done.stderr, done.returncode) == (natively, "", 0)


def test_the_page_has_the_table() -> None:
    """Each capability with its reason, in the order of the table."""
    rows = re.findall(r"^\| (\S+) \| CAP_(\S+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(process, cap.name, reason) for process, kept in KEPT.items() for cap, reason in kept.items()]


def test_a_capability_that_is_not_there_is_not_missed() -> None:
    """CI's root has fewer than all; a machine's may have more than we know."""
    assert all(isinstance(cap, Cap) and reason for kept in KEPT.values() for cap, reason in kept.items())
    done = subprocess.run([sys.executable, "-c", GIVE_UP], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([f"{mask('mos-host'):x}", "0"], "")
