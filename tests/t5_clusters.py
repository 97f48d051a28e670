"""Two clusters that are each other's partner: guests make way, doors close, a node leaves and rejoins (manual, 4.3 and 6.4)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.mbox.model import Flag
from mosfs.node.multi import NOTHING
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.t5_mailbox import robot
from tests.t5_private import DIRECTORY, PYTHON, WRITE

pytestmark = pytest.mark.root

#: Nodes 1 and 2 are one cluster, 3 the other; ``BITS``: of rstatus.
MEMBERS = (2, 1)
WELCOME, PREFERS = 32, 1024


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("clusters"), sum(MEMBERS), clusters=MEMBERS) as running:
        wait_until(lambda: bits(running, 1, 3) & bits(running, 3, 1) & WELCOME)
        yield running


@pytest.fixture
def endless(lab: Lab) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs that are ended with the test."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for child in running:
        child.kill()
        child.wait()
        lab.started.remove(child)
    wait_until(lambda: not any(lab.tree(node).pids("guests") or lab.tree(node).pids("proc") for node in (1, 2, 3)))


def start(lab: Lab, endless: list[subprocess.Popen[bytes]], home: int, there: int = 0) -> int:
    """A program of node ``home`` that runs on node ``there``, or at home; its PID."""
    where_to = [f"-{there}"] if there else ["-h"]
    child = lab.start(home, "mosrun", *where_to, "awk", "BEGIN { while (1) n++ }", stdout=subprocess.DEVNULL)
    endless.append(child)
    wait_until(lambda: where(lab, home, child.pid) == (str(there) if there else "here"))
    return child.pid


def where(lab: Lab, home: int, pid: int) -> str:
    process = lab.tree(home).process(pid)
    return lab.tree(home).read(f"proc/{pid}/where").strip() if process else ""


def bits(lab: Lab, node: int, about: int) -> int:
    return int(lab.tree(node).read(f"nodes/{lab.node(about).ip}/rstatus").split()[0])


def evictions(lab: Lab, node: int) -> float:
    """How often in an hour a program of ``node`` has to leave the partner, as it thinks."""
    [partner] = json.loads(lab.tree(node).fact("partners"))
    return float(partner["evictions"])


def say(lab: Lab, node: int, *words: str) -> str:
    """What mosctl prints; it has to succeed."""
    done = lab.run(node, "mosctl", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_what_nodes_know_of_each_other(lab: Lab) -> None:
    assert lab.run(1, "mossetpe", "-r").stdout.split() == [lab.node(n).ip for n in (1, 2)]
    assert lab.run(1, "mossetpe", "-R").stdout.split() == [lab.node(n).ip for n in (1, 2, 3)]
    partner = json.loads(lab.tree(1).fact("partners"))
    assert [(row["name"], row["priority"], row["cango"], row["cantake"]) for row in partner] == [("cluster2", 50, True, True)]
    assert "cluster2, priority 50 here" in say(lab, 1, "status", "3")
    assert "Cluster" not in say(lab, 1, "status", "2")


def test_a_guest_makes_way_for_the_owners_program(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    lent, own = start(lab, endless, 1, 3), start(lab, endless, 1, 2)
    root, evicted = lab.tree(3), evictions(lab, 1)
    assert (root.read("priority"), lab.tree(2).read("priority")) == ("50", "0")
    assert wait_until(lambda: bits(lab, 3, 3) & PREFERS)
    start(lab, endless, 3)
    wait_until(lambda: where(lab, 1, lent) == "here")
    assert (root.read("priority"), where(lab, 1, own)) == ("0", "2")
    wait_until(lambda: evictions(lab, 1) > evicted + 0.5)
    assert f"(PID {lent} of {lab.node(1).ip})" in root.read("node/decisions")
    wait_until(lambda: not bits(lab, 1, 3) & WELCOME)
    refused = lab.run(1, "mosmigrate", str(lent), "3")
    assert (refused.returncode, "other node refused" in refused.stderr) == (1, True)


def test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    file = Path(lab.node(3).paths.max_guests)
    first, second = start(lab, endless, 1, 3), start(lab, endless, 2, 3)
    assert say(lab, 3, "maxguests") == "unlimited"
    say(lab, 3, "maxguests", "1")
    wait_until(lambda: sorted((where(lab, 1, first), where(lab, 2, second))) == ["3", "here"])
    say(lab, 3, "closemulti")
    assert (file.read_text(), where(lab, 1, first), where(lab, 2, second)) == ("0 1\n", "here", "here")
    assert lab.run(1, "mosmigrate", str(first), "3").returncode == 1
    say(lab, 3, "openmulti")
    assert (file.read_text(), say(lab, 3, "maxguests")) == ("1\n", "1")
    assert lab.run(1, "mosmigrate", str(first), "3").returncode == 0
    file.unlink()
    wait_until(lambda: lab.run(2, "mosmigrate", str(second), "3").returncode == 0)


def test_a_flood_of_guests(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    """Ten at once, where two may be: the others go on at home, and none is lost."""
    file, most, count = Path(lab.node(3).paths.max_guests), 2, 10
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    say(lab, 3, "maxguests", str(most))
    try:
        endless += [lab.start(1, "mosrun", "-3", "-F", "sleep", "100000") for _ in range(count)]
        wait_until(lambda: sorted(where(lab, 1, child.pid) for child in endless) == ["3"] * most + ["here"] * (count - most))
        assert wait_until(lambda: len(lab.tree(3).pids("guests")) == most)
        assert all(child.poll() is None for child in endless)
    finally:
        file.unlink()


@pytest.mark.parametrize(("at", "name", "relation"), [
    (3, "cluster1", "50 1 0"), pytest.param(1, "cluster2", "50 0 1", marks=pytest.mark.long),
])
def test_what_either_side_forbids_does_not_happen(
    lab: Lab, endless: list[subprocess.Popen[bytes]], at: int, name: str, relation: str
) -> None:
    program = start(lab, endless, 1, 3)
    file = Path(lab.node(at).paths.partners, name)
    before = file.read_text()
    try:
        file.write_text(before.replace("50 1 1", relation))
        wait_until(lambda: where(lab, 1, program) == "here")
        assert lab.run(1, "mosmigrate", str(program), "3").returncode == 1
        wait_until(lambda: not bits(lab, 1, 3) & WELCOME)
    finally:
        file.write_text(before)
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    assert lab.run(1, "mosmigrate", str(program), "3").returncode == 0


def test_a_node_is_isolated_and_rejoins(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    away, fellow, guest = start(lab, endless, 1, 3), start(lab, endless, 1, 2), start(lab, endless, 3, 1)
    say(lab, 1, "isolate")
    assert [where(lab, 1, away), where(lab, 1, fellow), where(lab, 3, guest)] == ["here", "2", "here"]
    assert "not in map" in lab.run(1, "mosctl", "rstatus", "3").stderr
    say(lab, 1, "rejoin", "4")
    assert say(lab, 1, "maxguests") == "4"
    wait_until(lambda: bits(lab, 1, 3))
    say(lab, 1, "rejoin")
    assert say(lab, 1, "maxguests") == "0"
    os.unlink(lab.node(1).paths.max_guests)


def test_priorities_are_changed(lab: Lab) -> None:
    file = Path(lab.node(3).paths.partners, "cluster1")
    before = file.read_text()
    say(lab, 3, "cngpri", "cluster1", "70")
    try:
        assert file.read_text() == before.replace("50 1 1", "70 1 1")
        wait_until(lambda: json.loads(lab.tree(1).fact("partners"))[0]["standing"] == 70)
        for words, what in (("nobody 5", "no such partner"), ("cluster1 65536", "not a priority"), ("cluster1", "which priority")):
            done = lab.run(3, "mosctl", "cngpri", *words.split())
            assert done.returncode != 0 and what in done.stderr
        assert file.read_text() == before.replace("50 1 1", "70 1 1")
    finally:
        file.write_text(before)


def test_a_bad_file_changes_nothing(lab: Lab) -> None:
    file = Path(lab.node(1).paths.partners, "third")
    file.write_text("Third\n50 1 1\n" + f"{lab.node(3).ip} 1 1 1 0\n")
    try:
        done = lab.run(1, "mossetpe")
        assert done.returncode == 1 and f"{file}, line 3: " in done.stderr and "overlaps a range of" in done.stderr
        assert bits(lab, 1, 3) & 1
    finally:
        file.unlink()


def test_a_priority_is_retained(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    """Guests that have made way do not come as soon as the owner's program has ended, but when the time is over."""
    program, file = start(lab, endless, 1, 2), Path(lab.node(3).paths.retain)

    def priority() -> str:
        return lab.tree(3).read(f"nodes/{lab.node(3).ip}/rstatus").split()[2]

    wait_until(lambda: priority() == str(NOTHING))  # a status is up to a second old: programs of tests before
    file.write_text("100000\n")
    try:
        assert lab.run(3, "mossetpe").returncode == 0
        start(lab, endless, 3)
        wait_until(lambda: priority() == "0")
        own = endless[-1]
        own.kill()
        own.wait()
        wait_until(lambda: not lab.tree(3).pids("proc"))
        wait_until(lambda: not bits(lab, 1, 3) & WELCOME)
        assert lab.run(1, "mosmigrate", str(program), "3").returncode == 1
    finally:
        file.unlink()
    assert lab.run(3, "mossetpe").returncode == 0
    wait_until(lambda: lab.run(1, "mosmigrate", str(program), "3").returncode == 0)
    assert where(lab, 1, program) == "3"


def test_each_side_has_its_own_priority_of_the_other(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    ours, theirs = Path(lab.node(1).paths.partners, "cluster2"), Path(lab.node(3).paths.partners, "cluster1")
    before = ours.read_text(), theirs.read_text()
    ours.write_text(before[0].replace("50 1 1", "90 1 1"))
    theirs.write_text(before[1].replace("50 1 1", "20 1 1"))
    try:
        assert lab.run(1, "mossetpe").returncode == lab.run(3, "mossetpe").returncode == 0
        start(lab, endless, 2, 3)
        start(lab, endless, 3, 1)
        wait_until(lambda: (lab.tree(1).read("priority"), lab.tree(3).read("priority")) == ("90", "20"))
    finally:
        ours.write_text(before[0])
        theirs.write_text(before[1])


def test_a_partner_that_claims_our_node_gains_nothing(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    """For node 3, node 2 is of its own cluster; for node 2, node 3 is a partner as ever."""
    paths = lab.node(3).paths
    rest = f"nodes\n50 1 1\n{lab.node(1).ip} 1 1 1 1\n"
    files = {Path(paths.mosix_map): f"{lab.node(2).ip} 2 p\n", Path(paths.partners, "cluster1"): rest}
    before = {file: file.read_text() for file in files}
    try:
        say(lab, 2, "maxguests", "0")
        for file, text in files.items():
            file.write_text(text)
        assert lab.run(3, "mossetpe").returncode == 0
        assert lab.node(2).ip in lab.run(3, "mossetpe", "-r").stdout
        program = start(lab, endless, 3)
        refused = lab.run(3, "mosmigrate", str(program), "2")
        assert (refused.returncode, "other node refused" in refused.stderr) == (1, True)
        say(lab, 2, "openmulti", "1")
        assert lab.run(3, "mosmigrate", str(program), "2").returncode == 0
        assert lab.tree(2).read("priority") == "50"
        start(lab, endless, 2)
        wait_until(lambda: where(lab, 3, program) == "here")
    finally:
        for file, text in before.items():
            file.write_text(text)
        Path(lab.node(2).paths.max_guests).unlink()
    assert lab.run(3, "mossetpe").returncode == lab.run(2, "mossetpe").returncode == 0


@pytest.mark.long
def test_messages_between_clusters(lab: Lab) -> None:
    """They find programs of partners, also such as are away in either cluster; not when a home is no partner any more."""
    wait_until(lambda: bits(lab, 1, 3) & bits(lab, 3, 1) & WELCOME)
    with robot(lab, 1, "-3") as sender, robot(lab, 3, "-2") as receiver:
        assert receiver("open", Flag.NO_DELAY | Flag.OTHER_HOMES) == 1
        to = f"{lab.node(3).ip}/{receiver.pid}"
        assert sender("send", to, "0 ") == 2
        assert receiver("collect", 0.2) == [[0], 0]
        say(lab, 1, "isolate")
        assert sender("send", to, "0 ") == -errno.ECONNABORTED
        say(lab, 1, "rejoin")
        Path(lab.node(1).paths.max_guests).unlink()
        wait_until(lambda: sender("send", to, "0 ") == 2)
        assert receiver("collect", 0.2) == [[0], 0]


@pytest.mark.long
def test_private_files_at_a_partners(lab: Lab) -> None:
    """Guests of other clusters have what the letter G gives them, and without it memory only; with more they go home."""
    file, room = Path(lab.node(3).paths.private_conf), lab.node(3).paths.private
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    for text, megabytes, said in ((f"OC {room} 40\nG {room} 12\n", 13, "13 [3, 0] 0"), (f"OC {room}\n", 12, "12 [3, 0] 0"),
                                  (f"G {room} 12\n", 12, "12 [3] 0")):
        file.write_text(text)
        assert lab.run(3, "mossetpe").returncode == 0
        done = lab.run(1, "mosrun", "-3", "-X", DIRECTORY, PYTHON, "-c", WRITE, DIRECTORY, str(megabytes))
        assert (done.stdout.strip(), done.stderr) == (said, "")
    file.unlink()
    assert lab.run(3, "mossetpe").returncode == 0


def test_the_best_node_may_be_a_partners(lab: Lab) -> None:
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    ask = ("mosrun", "-b", "cat", f"{lab.node(1).paths.mount}/self/where")
    probes = [Path(lab.node(node).paths.probe) for node in (1, 2, 3)]
    for probe in probes:
        probe.write_text("fixed:load=0,ncpus=1\n")
    try:
        wait_until(lambda: lab.run(1, *ask).stdout.strip() in ("here", "2"))  # all are idle: no need to lend anything
        for probe in probes[:2]:
            probe.write_text("fixed:load=400,ncpus=1\n")
        wait_until(lambda: lab.run(1, *ask).stdout.strip() in ("3", lab.node(3).ip))
    finally:
        for probe in probes:
            probe.unlink()


def test_a_job_comes_and_goes(lab: Lab, endless: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """mos_in_job: with a list, ours may go to the others; without one theirs may come; mossetpe goes back."""
    world = tmp_path / "world"
    world.write_text(f"{lab.node(1).ip} 3 p\n")
    names = {number: lab.node(number).ip for number in (1, 2, 3)}

    def job(node: int, *own: int) -> None:
        done = lab.run(node, "mos_in_job", str(world), *([",".join(names[n] for n in own)] if own else []))
        assert (done.returncode, done.stderr) == (0, "")

    try:
        guest = start(lab, endless, 2, 1)
        job(2)
        job(1, 1, 3)
        assert where(lab, 2, guest) == "here"
        job(3, 1, 3)
        assert lab.run(1, "mossetpe", "-r").stdout.split() == [names[1], names[3]]
        program = start(lab, endless, 1, 3)
        wait_until(lambda: lab.run(1, "mosmigrate", str(program), "3").returncode == 0)
        assert lab.run(2, "mosmigrate", str(guest), "1").returncode == 1
        bad = lab.run(1, "mos_in_job", str(world), names[3])
        assert (bad.returncode, "this node, is not in it" in bad.stderr) == (1, True)
        wait_until(lambda: where(lab, 1, program) == "3")
        job(3)
        job(1)
        assert where(lab, 1, program) == "here"
        assert lab.run(1, "mossetpe", "-r").stdout.split() == [names[1]]
    finally:
        for node in names:
            assert lab.run(node, "mossetpe").returncode == 0
    assert lab.run(1, "mossetpe", "-r").stdout.split() == [names[1], names[2]]


@pytest.mark.long
def test_a_jobs_cluster_outlives_mosd(lab: Lab, tmp_path: Path) -> None:
    world, ips = tmp_path / "world", [lab.node(number).ip for number in (1, 3)]
    world.write_text(f"{lab.node(1).ip} 3\n")
    assert lab.run(1, "mos_in_job", str(world), ",".join(ips)).returncode == 0
    try:
        lab.kill_mosd(1)
        lab.start_mosd(1)
        assert lab.run(1, "mossetpe", "-r").stdout.split() == ips
    finally:
        assert lab.run(1, "mossetpe").returncode == 0


@cluster.others
@pytest.mark.parametrize("words", ["isolate", "rejoin", "maxguests 3", "openmulti", "closemulti", "cngpri cluster2 1"])
def test_only_the_super_user_decides(lab: Lab, words: str) -> None:
    done = lab.run(1, "mosctl", *words.split(), user=65534, group=65534, extra_groups=[])
    assert (done.returncode, done.stderr) == (1, f"mosctl: {words.split()[0]}: only for the Super-User\n")
    assert not os.path.exists(lab.node(1).paths.isolated)


#: Tells of each file whether "1" could be written to it.
WRITE_ALL = """
import sys
for name in sys.argv[1:]:
    try:
        with open(name, "w") as file:
            file.write("1")
        print(0)
    except OSError as error:
        print(error.errno)
"""


@cluster.others
def test_a_guest_of_a_partners_controls_nothing(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    """Neither the node where it is, nor another's guests and programs there; what it is itself it may be told and set at home."""
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    start(lab, endless, 2, 3)
    [guest], mount = lab.tree(3).pids("guests"), lab.node(3).paths.mount
    names = [f"node/{name}" for name in ("expel", "bring", "block", "stay", "lstay", "shutdown", "reload")]
    files = [f"{mount}/{name}" for name in [*names, f"guests/{guest}/out"]]
    own = f"{lab.node(1).paths.mount}/self/lock"
    done = lab.run(
        1, "mosrun", "-3", "-L", PYTHON, "-c", WRITE_ALL, *files, own, user=65534, group=65534, extra_groups=[]
    )
    assert (done.stdout.split(), done.stderr) == ([str(errno.EACCES)] * len(files) + ["0"], "")
    assert (lab.tree(3).fact("block"), lab.tree(3).fact("shutdown")) == ("0", "0")
    wait_until(lambda: lab.tree(3).pids("guests") == [guest])
