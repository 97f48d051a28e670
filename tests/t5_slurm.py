"""Jobs of a real Slurm on four nodes: each gets its own cluster, guests on the rest, and leaves nothing (manual, chapter 8)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from tests import cluster, slurm
from tests.cluster import Lab, wait_until
from tests.slurm import Site

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "-")]

NODES = (1, 2, 3, 4)
#: Slurm's own waits: a node counts as down after some of them.
PATIENCE = 120.0
COUNT_UP = "BEGIN { for (n = 0; n < 20000000; n++) s += n % 7; print s }"
ENDLESS = "BEGIN { while (1) n++ }"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder,
        cluster.lab(tmp_path_factory.mktemp("slurm"), len(NODES), balance=True) as lab,
    ):
        Path(folder).chmod(0o755)
        with slurm.site(lab, Path(folder)) as running:
            for node in NODES:
                done = lab.run(node, "mos_in_job", f"{running.dir}/scripts/world.conf")
                assert (done.returncode, done.stderr) == (0, "")
            yield running


@pytest.fixture(autouse=True)
def quiet(site: Site) -> Iterator[None]:
    """After each test everything is as before it."""
    yield
    site.run("scancel", "--user=root")
    wait_until(lambda: not site.run("squeue", "-h").stdout, PATIENCE)
    site.await_idle()
    wait_until(lambda: [own(site.lab, node) for node in NODES] == [[node] for node in NODES])
    wait_until(lambda: not any(site.lab.tree(node).pids(kind) for node in NODES for kind in ("proc", "guests")))
    assert not [path for node in NODES for path in Path(site.lab.node(node).paths.run, "slurm").glob("[0-9]*")]


def own(lab: Lab, node: int) -> list[int]:
    """The nodes of its cluster."""
    numbers = {lab.node(number).ip: number for number in NODES}
    return sorted(numbers[ip] for ip in lab.tree(node).fact("map").split())


def submit(site: Site, script: str, *options: str) -> str:
    """A batch job; its number. Its output goes to PATH/out, as it comes."""
    file = site.dir / "batch"
    file.write_text(f"#!/bin/sh\n{script}\n")
    done = site.run("sbatch", "--parsable", "-O", f"--output={site.dir}/out.%j", "--open-mode=append", *options, str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(site: Site, job: str) -> str:
    """R, PD, CG ...; "" when it has ended."""
    return site.run("squeue", "-h", "-j", job, "-o", "%t").stdout.strip()


def nodes_of(site: Site, job: str) -> list[int]:
    """Where it runs."""
    names = site.run("squeue", "-h", "-j", job, "-o", "%N").stdout.strip()
    listed = site.run("scontrol", "show", "hostnames", names).stdout.split() if names else []
    return [int(name.removeprefix("n")) for name in listed]


def programs(site: Site, count: int, text: str) -> str:
    return f"srun -O -n{count} {site.on_node} mosrun -b -m20 awk '{text}'"


def update(site: Site, job: str, *changes: str) -> None:
    """For a job that waits; Slurm lets a requeued one do so for minutes, unless it is told when to start."""
    done = site.run("scontrol", "update", f"JobId={job}", *changes)
    assert done.returncode == 0, done.stderr


def joined(site: Site, job: str) -> list[int]:
    """The nodes of a job, as soon as all of them are in its cluster."""
    wait_until(lambda: state(site, job) == "R", PATIENCE)
    nodes = nodes_of(site, job)
    wait_until(lambda: all(own(site.lab, node) == nodes for node in nodes))
    return nodes


def guests(lab: Lab, node: int) -> int:
    return len(lab.tree(node).pids("guests"))


def homes(lab: Lab, node: int) -> int:
    return len(lab.tree(node).pids("proc"))


def test_a_job_has_its_cluster_and_guests_on_the_rest(site: Site) -> None:
    native = subprocess.run(["awk", COUNT_UP], capture_output=True, text=True, check=True).stdout
    job = submit(site, programs(site, 8, COUNT_UP), "-N2", "-Cmosix*2")
    nodes = joined(site, job)
    rest = sorted({*NODES} - {*nodes})
    assert len(nodes) == 2 and [own(site.lab, node) for node in rest] == [[node] for node in rest]
    wait_until(lambda: all(guests(site.lab, node) for node in rest), PATIENCE)
    assert all(not homes(site.lab, node) for node in rest)
    wait_until(lambda: not state(site, job), PATIENCE)
    assert (site.dir / f"out.{job}").read_text() == native * 8


def test_a_cancelled_job_leaves_nothing(site: Site) -> None:
    job = submit(site, programs(site, 6, ENDLESS), "-N2", "-Cmosix*2")
    nodes = joined(site, job)
    wait_until(lambda: any(guests(site.lab, node) for node in NODES if node not in nodes), PATIENCE)
    assert site.run("scancel", job).returncode == 0  # the fixture sees to the rest


def test_a_job_that_does_not_ask_for_it_changes_nothing(site: Site) -> None:
    done = site.run("srun", "-N2", site.on_node, "sh", "-c", "echo $SLURM_JOB_ID $(mossetpe -r)")
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [len(words) for words in told] == [2, 2] and not (site.dir / "jobs" / told[0][0]).exists()


def test_two_jobs_have_a_cluster_each(site: Site) -> None:
    first = submit(site, programs(site, 2, ENDLESS), "-N2", "-Cmosix*2", "--exclusive")
    one = joined(site, first)
    second = submit(site, programs(site, 2, ENDLESS), "-N2", "-Cmosix*2", "--exclusive")
    two = joined(site, second)
    assert sorted([*one, *two]) == [*NODES]
    assert [own(site.lab, node) for node in one] == [one, one]
    wait_until(lambda: all(homes(site.lab, node) for node in NODES), PATIENCE)
    for program in site.lab.tree(one[0]).pids("proc"):
        assert site.lab.run(one[0], "mosmigrate", str(program), str(two[0])).returncode == 1
    site.run("scancel", first)
    wait_until(lambda: [own(site.lab, node) for node in one] == [[node] for node in one], PATIENCE)
    wait_until(lambda: sum(guests(site.lab, node) for node in one) or homes(site.lab, two[0]), PATIENCE)
    assert [own(site.lab, node) for node in two] == [two, two]


def test_two_jobs_on_one_node(site: Site) -> None:
    """It is in both clusters, and in the other's alone when one has ended."""
    first = submit(site, programs(site, 2, ENDLESS), "-w", "n1,n2", "-Cmosix", "-s")
    joined(site, first)
    second = submit(site, programs(site, 2, ENDLESS), "-w", "n1,n3", "-Cmosix", "-s")
    wait_until(lambda: state(site, second) == "R", PATIENCE)
    wait_until(lambda: [own(site.lab, node) for node in (1, 2, 3)] == [[1, 2, 3], [1, 2], [1, 3]])
    site.run("scancel", first)
    wait_until(lambda: [own(site.lab, node) for node in (1, 2, 3)] == [[1, 3], [2], [1, 3]], PATIENCE)


def test_a_suspended_job_is_frozen_wherever_it_is(site: Site) -> None:
    """Also as guest: its programs are preempted (P), have no memory and no CPU time; then it goes on, and ends as natively."""
    native = subprocess.run(["awk", COUNT_UP], capture_output=True, text=True, check=True).stdout
    job = submit(site, programs(site, 6, COUNT_UP), "-N2", "-Cmosix*2")
    nodes = joined(site, job)
    wait_until(lambda: any(guests(site.lab, node) for node in NODES if node not in nodes), PATIENCE)
    assert site.run("scontrol", "suspend", job).returncode == 0

    def used() -> dict[int, int]:
        held = labs.traced_by(labs.daemons(site.lab.plan))
        return {pid: sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])) for pid in held}

    def still() -> bool:
        before = used()
        time.sleep(0.5)
        return bool(before) and used() == before

    def preempted() -> bool:
        trees = [site.lab.tree(node) for node in nodes]
        marks = [tree.read(f"proc/{pid}/frozen") for tree in trees for pid in tree.pids("proc")]
        return marks == ["P"] * 6 and not any(guests(site.lab, node) for node in NODES)

    wait_until(preempted, PATIENCE)
    wait_until(still)
    assert site.run("scontrol", "resume", job).returncode == 0
    wait_until(lambda: not state(site, job), PATIENCE)
    lines = (site.dir / f"out.{job}").read_text().splitlines(keepends=True)
    assert [line for line in lines if not line.startswith("srun: got SIG")] == [native] * 6


def test_a_job_is_requeued(site: Site) -> None:
    """Its first list is replaced, and every node of the first run is left."""
    job = submit(site, programs(site, 2, ENDLESS), "-N2", "-Cmosix*2", "--requeue")
    before = joined(site, job)
    assert site.run("scontrol", "requeue", job).returncode == 0
    wait_until(lambda: state(site, job) == "PD", PATIENCE)
    update(site, job, f"ExcNodeList=n{before[0]}", "StartTime=now")
    after = joined(site, job)
    assert before[0] not in after and own(site.lab, before[0]) == [before[0]]
    assert (site.dir / "jobs" / job).read_text().count("\nnode ") == 2


def test_a_node_fails(site: Site) -> None:
    """With everything on it. Slurm starts the job again, and programs that were guests there say why they end."""
    script = f"test -e {site.dir}/second && exec echo again\n: >{site.dir}/second\n{programs(site, 2, ENDLESS)}\nsleep 1000"
    job = submit(site, script, "-w", "n1,n2", "-Cmosix", "--requeue")
    assert joined(site, job) == [1, 2]
    guest = site.lab.start(1, "mosrun", "-2", "-L", "awk", ENDLESS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    there = site.lab.node(2).ip
    wait_until(lambda: (found := site.lab.tree(1).process(guest.pid)) and (found.state, found.where) == ("away", there))
    site.kill_node(2)
    cluster.kill_node(site.lab, 2)
    _, said = guest.communicate(timeout=PATIENCE)
    site.lab.started.remove(guest)
    assert guest.returncode and re.search("Lost communication|Process killed", said.decode())
    wait_until(lambda: site.states()["n2"].startswith("down"), PATIENCE)
    wait_until(lambda: own(site.lab, 1) == [1], PATIENCE)
    shutil.rmtree(site.lab.node(2).paths.run)  # as when it boots
    site.lab.start_mosd(2)
    assert site.lab.run(2, "mos_in_job", f"{site.dir}/scripts/world.conf").returncode == 0
    site.start_node(2)
    wait_until(lambda: state(site, job) == "PD", PATIENCE)
    update(site, job, "StartTime=now")
    wait_until(lambda: "again" in (site.dir / f"out.{job}").read_text(), PATIENCE)


def test_a_node_without_mosix_is_drained_and_named(site: Site) -> None:
    site.lab.kill_mosd(3)
    done = site.run("srun", "-w", "n3", "-Cmosix", "--no-kill", "-I30", "true")
    assert done.returncode != 0
    wait_until(lambda: site.states()["n3"].startswith(("drain", "drng")), PATIENCE)
    site.lab.start_mosd(3)
    site.run("scancel", "--user=root")
    wait_until(lambda: not site.run("squeue", "-h").stdout, PATIENCE)
    assert site.run("scontrol", "update", "NodeName=n3", "State=RESUME").returncode == 0
    assert site.run("srun", "-w", "n3", "-Cmosix", site.on_node, "mossetpe", "-r").stdout.strip() == site.lab.node(3).ip
