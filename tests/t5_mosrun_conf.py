"""What is preset, forced and limited of mosrun (mosd(8), mosrun.conf), on a lab; and the wrapper of the manual, section 6.5."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until
from tests.t5_fuzz import as_user
from tests.t5_reload import replace, where

pytestmark = [pytest.mark.root, pytest.mark.long, cluster.others]
ANN, BOB, GROUP = 299_100, 299_101, 299_102
SLEEP = ("mosrun", "sleep", "1000")
#: The manual's, with the name of mosrun as its argument, as mosrun is elsewhere here.
WRAPPER = """
#include <malloc.h>
#include <unistd.h>
int main(int na, char *argv[])
{
    char **newargs = malloc((na + 2) * sizeof(char *));
    int i;
    newargs[0] = "mosrun";
    newargs[1] = "-p";
    for(i = 1 ; i < na ; i++)
        newargs[i+1] = argv[i];
    newargs[i+1] = (char *)0;
    execv(MOSRUN, newargs);
    return 9;
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("conf"), 3, clusters=[2, 1]) as running:
        yield running


def rule(nodes: Lab, text: str) -> None:
    """The rules of node 1 from now on."""
    replace(f"{nodes.node(1).paths.etc}/mosrun.conf", text)
    assert nodes.run(1, "mossetpe").returncode == 0


def said(nodes: Lab, user: int, *command: str) -> tuple[int, str]:
    done = nodes.run(1, *as_user(user), *command)
    return done.returncode, done.stderr.strip()


def test_defaults_and_what_is_forced(nodes: Lab) -> None:
    rule(nodes, "best forced\nmemory mandatory\nunsupported --stay-home\nthreads refused\n")
    only = "mosrun: the administrator lets programs start on the best node only (-b)"
    assert said(nodes, ANN, "mosrun", "-h", "true") == (125, only)
    status, text = said(nodes, ANN, "mosrun", "true")
    assert (status, "-m{mb}" in text) == (125, True)
    threads = "import threading; t = threading.Thread(target=print, args=('threads',)); t.start(); t.join()"
    for options in ((), ("--threads", "-w")):  # by default it stays at home, and works
        done = nodes.run(1, *as_user(ANN), "mosrun", "-m1", *options, "/usr/bin/python3", "-c", threads)
        assert (done.stdout, done.stderr, done.returncode) == ("threads\n", "", 0)
    status, text = said(nodes, ANN, "mosrun", "-m1", "-w", "/usr/bin/python3", "-c", threads)
    assert status == 1 and "mosrun: system-call 'clone' not supported under MOSIX" in text
    assert nodes.run(1, "mosrun", "-h", "true").returncode == 0, "root is not an ordinary user"
    rule(nodes, "")


def test_a_limit_of_programs_holds_over_a_restart_of_mosd(nodes: Lab) -> None:
    rule(nodes, f"programs 2\nusers {ANN}\n")
    assert said(nodes, BOB, "mosrun", "true") == (125, "mosrun: the administrator does not let you use mosrun on this node")
    running = [nodes.start(1, *as_user(ANN), *SLEEP) for _ in range(2)]
    wait_until(lambda: all(nodes.tree(1).process(each.pid) for each in running))
    too_many = (125, "mosrun: 2 programs of yours run already, and the administrator allows no more at a time")
    assert said(nodes, ANN, "mosrun", "true") == too_many
    nodes.kill_mosd(1)
    nodes.start_mosd(1)
    wait_until(lambda: all(nodes.tree(1).process(each.pid) for each in running))
    assert said(nodes, ANN, "mosrun", "true") == too_many
    for each in running:
        each.kill()
        each.wait()
    wait_until(lambda: said(nodes, ANN, "mosrun", "true")[0] == 0)
    rule(nodes, "")


def test_programs_of_a_confined_user_stay_in_their_cluster(nodes: Lab) -> None:
    rule(nodes, "")
    other = nodes.node(3).ip
    running = nodes.start(1, *as_user(ANN), "mosrun", f"-{other}", "sleep", "1000")
    wait_until(lambda: where(nodes, 1, running.pid) not in ("", "here"))
    rule(nodes, f"confined {ANN}\n")
    wait_until(lambda: where(nodes, 1, running.pid) == "here")
    assert said(nodes, ANN, "mosmigrate", str(running.pid), other)[0] != 0
    assert where(nodes, 1, running.pid) == "here"
    assert said(nodes, ANN, "mosrun", f"-{other}", "true") == (125, "mosrun: the administrator keeps your programs in this cluster")
    assert nodes.run(1, "mosrun", f"-{other}", "true").returncode == 0
    running.kill()
    running.wait()
    rule(nodes, "")


def test_what_a_program_has_used_is_written_at_its_end(nodes: Lab) -> None:
    rule(nodes, "")
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; for i in 1 2 3 4 5 6 7 8 9; do cat /proc/self/stat; sleep 0.3; done"
    busy += "; exit 3"
    done = nodes.run(1, *as_user(ANN), "mosrun", "-2", "sh", "-c", busy)
    assert done.returncode == 3

    def written() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(nodes.run(1, "mosacct", "--all", "--user", str(ANN), "--json").stdout or "[]")
        return [row for row in rows if row["command"] == "sh" and row["where"] == nodes.node(2).ip]

    (row,) = wait_until(written)
    assert (row["user"], row["memory"] != 0, row["calls"] != 0) == (str(ANN), True, True)
    assert row["status"] == 3
    assert float(str(row["away"])) > 0 and nodes.node(2).ip in row["nodes"]  # type: ignore[operator]
    metrics = dict(line.rsplit(" ", 1) for line in nodes.tree(1).read("node/metrics").splitlines() if line[0] != "#")
    assert float(metrics["mosfs_forwarded_calls_total"]) > 0
    assert nodes.run(1, *as_user(ANN), "mosacct", "--all").returncode == 1, "others read what is theirs in the tree"


def test_the_wrapper_of_the_manual(nodes: Lab) -> None:
    """Section 6.5 as written: who is not in the group uses the wrapper only; the program has the user's own groups."""
    folder = Path(nodes.plan.root).parent  # others may enter it
    real = shutil.which("mosrun", path=nodes.environ["PATH"])
    assert real is not None
    mosrun, wrapper, source = folder / "mosrun", folder / "wrapper", folder / "wrapper.c"
    shutil.copy(real, mosrun)
    os.chown(mosrun, 0, GROUP)
    mosrun.chmod(0o4750)
    source.write_text(WRAPPER)
    subprocess.run(["gcc", "-w", f'-DMOSRUN="{mosrun}"', "-o", wrapper, source], check=True)
    os.chown(wrapper, 0, GROUP)
    wrapper.chmod(0o2755)
    # by env: setpriv itself has root's capabilities until its exec
    assert nodes.run(1, *as_user(ANN), "env", str(mosrun), "true").returncode == 126
    done = nodes.run(1, *as_user(ANN), "env", str(wrapper), "-2", "grep", "^Gid", "/proc/self/status")
    assert (done.stdout.split()[1:], done.stderr, done.returncode) == ([str(ANN)] * 4, "", 0)
