"""The hooks for Slurm (etc/slurm) with a scontrol, squeue and mos_in_job of the test's: what they write, say and leave behind.

With the real Slurm: t5_slurm.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HOOKS = Path(__file__).parent.parent / "etc/slurm"
NODES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3"}
WITHOUT_FEATURE = {"n3"}


def fake(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@dataclass(frozen=True)
class Site:
    """A controller and nodes, all below ``root``. ``said``: what mos_in_job was told last."""

    root: Path

    @property
    def said(self) -> str:
        file = self.root / "said"
        return file.read_text().strip() if file.exists() else ""

    @property
    def jobs(self) -> list[str]:
        return sorted(path.name for path in (self.root / "common").iterdir())

    def here(self, node: str) -> list[str]:
        """The jobs that a node knows."""
        return sorted(path.name for path in (self.root / node / "run/mosd/slurm").glob("[0-9]*"))

    def alive(self, *jobs: int) -> None:
        (self.root / "alive").write_text("".join(f"{job}\n" for job in jobs))

    def hook(self, name: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "scripts" / name)], env=environ, capture_output=True, text=True, check=False, timeout=60, cwd="/",
        )

    def begin(self, job: int, nodes: str = "n1,n2", constraints: str = "mosix*2", **more: str) -> subprocess.CompletedProcess[str]:
        environ = {"SLURM_JOB_ID": str(job), "SLURM_JOB_NODELIST": nodes, "SLURM_JOB_CONSTRAINTS": constraints, **more}
        return self.hook("gmpilog", **environ)

    def on_node(self, hook: str, node: str, job: int, nodes: str = "n1,n2") -> subprocess.CompletedProcess[str]:
        return self.hook(hook, SLURM_JOB_ID=str(job), SLURM_NODELIST=nodes, SLURMD_NODENAME=node)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    shutil.copytree(HOOKS, tmp_path / "scripts", symlinks=True)
    for folder in ("common", "bin", *NODES):
        (tmp_path / folder).mkdir()
    (tmp_path / "scripts/slurm_mosix.conf").write_text(
        f"COMMONDIR={tmp_path}/common\nSLURMBIN={tmp_path}/bin\nPATH={tmp_path}/bin:$PATH\n"
        f"export MOSIX_ROOT={tmp_path}/$SLURMD_NODENAME\n"
    )
    shown = "".join(
        f"NodeName={name} AvailableFeatures=big,mosix NodeAddr={ip} "
        f"ActiveFeatures={'big' if name in WITHOUT_FEATURE else 'big,mosix'}\n"
        for name, ip in NODES.items()
    )
    (tmp_path / "shown").write_text(shown)
    fake(tmp_path / "bin/scontrol", f'for n in $(echo "$4" | tr , " "); do grep "^NodeName=$n " {tmp_path}/shown || exit 1; done')
    fake(tmp_path / "bin/squeue", f"cat {tmp_path}/alive")
    fake(tmp_path / "bin/mos_in_job", f'echo "$@" > {tmp_path}/said')
    fake(tmp_path / "bin/logger", "")
    return Site(tmp_path)


def ok(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refused(done: subprocess.CompletedProcess[str], what: str) -> None:
    assert done.returncode == 1 and what in done.stderr and done.stderr.count("\n") == 1


def test_a_job_from_beginning_to_end(site: Site) -> None:
    site.alive(7)
    ok(site.begin(7, "n1,n2,n3"))
    assert (site.root / "common/7").read_text() == "job n1,n2,n3\nnode n1 10.0.0.1\nnode n2 10.0.0.2\n"
    for node in ("n1", "n2"):
        ok(site.on_node("mprolog", node, 7, "n1,n2,n3"))
        assert site.said == f"-A {site.root}/scripts/world.conf 10.0.0.1,10.0.0.2"
    ok(site.on_node("mprolog", "n3", 7, "n1,n2,n3"))
    assert [site.here(node) for node in NODES] == [["7"], ["7"], []]
    ok(site.on_node("mepilog", "n1", 7, "n1,n2,n3"))
    assert (site.said, site.here("n1")) == (f"-A {site.root}/scripts/world.conf", [])


def test_the_other_name_of_the_first_hook(site: Site) -> None:
    site.alive(7)
    ok(site.hook("gmprolog", SLURM_JOB_ID="7", SLURM_JOB_NODELIST="n1", SLURM_JOB_CONSTRAINTS="mosix"))
    assert site.jobs == ["7"]


@pytest.mark.parametrize(("constraints", "asked"), [
    ("mosix", True), ("big&mosix", True), ("[big*1&mosix*2]", True), ("mosix*2", True), ("", False), ("nomosix", False),
    ("mosix2", False),
])
def test_which_jobs_ask_for_mosix(site: Site, constraints: str, asked: bool) -> None:
    site.alive()
    (site.root / "common/7").write_text("job of old\n")
    ok(site.begin(7, "n1", constraints))
    assert site.jobs == (["7"] if asked else [])


def test_lists_of_jobs_that_have_gone_are_removed(site: Site) -> None:
    site.alive(8, 11)
    for name in ("8", "9", "11", "notes"):
        (site.root / "common" / name).write_text("")
    ok(site.begin(12))
    assert site.jobs == ["11", "12", "8", "notes"]


def test_two_jobs_share_a_node(site: Site) -> None:
    """It is in the clusters of both, and leaves with the last."""
    site.alive(13, 14)
    for job, nodes in ((13, "n1,n2"), (14, "n1")):
        ok(site.begin(job, nodes))
        ok(site.on_node("mprolog", "n1", job, nodes))
    assert site.said.endswith("10.0.0.1,10.0.0.2")
    ok(site.on_node("mepilog", "n1", 13))
    assert site.said.endswith(" 10.0.0.1")
    ok(site.on_node("mepilog", "n1", 14, "n1"))
    assert site.said.endswith("world.conf")


def test_a_job_whose_end_was_missed_is_forgotten(site: Site) -> None:
    site.alive(13, 14)
    for job in (13, 14):
        ok(site.begin(job))
        ok(site.on_node("mprolog", "n1", job))
    site.alive(14)
    ok(site.on_node("mepilog", "n1", 14))
    assert (site.here("n1"), site.said.endswith("world.conf")) == ([], True)


def test_an_end_without_a_beginning_changes_nothing(site: Site) -> None:
    site.alive()
    ok(site.on_node("mepilog", "n1", 7))
    assert site.said == ""


def test_a_requeued_job_gets_another_list(site: Site) -> None:
    site.alive(7)
    ok(site.begin(7, "n1"))
    ok(site.begin(7, "n2"))
    assert (site.root / "common/7").read_text() == "job n2\nnode n2 10.0.0.2\n"


def test_a_stale_list_is_ignored_and_named(site: Site) -> None:
    site.alive(7)
    ok(site.begin(7, "n1,n2"))
    done = site.on_node("mprolog", "n1", 7, "n1")
    assert done.returncode == 0 and "is of another job" in done.stderr
    assert (site.said, site.here("n1")) == ("", [])


@pytest.mark.parametrize(("line", "what"), [
    ("SLURMBIN=", "SLURMBIN is not set"), ("SLURMBIN=/nowhere", "no scontrol there"), ("COMMONDIR=/nowhere", "COMMONDIR=/nowhere"),
    ("COMMONDIR=", "COMMONDIR="),
])
def test_a_bad_configuration_fails_the_job_with_a_line(site: Site, line: str, what: str) -> None:
    with open(site.root / "scripts/slurm_mosix.conf", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    refused(site.begin(7), what)


def test_no_configuration_at_all(site: Site) -> None:
    (site.root / "scripts/slurm_mosix.conf").unlink()
    refused(site.begin(7), "slurm_mosix.conf: cannot be read")
    refused(site.on_node("mprolog", "n1", 7), "slurm_mosix.conf: cannot be read")
    assert site.on_node("mepilog", "n1", 7).returncode == 0


@pytest.mark.parametrize(("nodes", "what"), [
    ("", "SLURM_JOB_NODELIST is empty"), ("n3", "none of n3 has the feature"), ("n9", "scontrol"),
])
def test_an_empty_list_of_nodes_is_no_list(site: Site, nodes: str, what: str) -> None:
    site.alive()
    refused(site.begin(7, nodes), what)
    assert site.jobs == []


@pytest.mark.parametrize("job", ["", "x", "../7"])
def test_only_slurm_calls_the_hooks(site: Site, job: str) -> None:
    for hook in ("gmpilog", "mprolog"):
        refused(site.hook(hook, SLURM_JOB_ID=job), "SLURM_JOB_ID is no number")
    assert site.hook("mepilog", SLURM_JOB_ID=job).returncode == 0


def test_a_node_on_which_mosix_does_not_run_fails_at_the_beginning_only(site: Site) -> None:
    site.alive(7)
    ok(site.begin(7))
    ok(site.on_node("mprolog", "n1", 7))
    fake(site.root / "bin/mos_in_job", "echo MOSIX is not running >&2; exit 1")
    refused(site.on_node("mprolog", "n2", 7), "mos_in_job: MOSIX is not running")
    assert site.here("n2") == []
    done = site.on_node("mepilog", "n1", 7)
    assert (done.returncode, "MOSIX is not running" in done.stderr) == (0, True)


def test_no_hook_waits_for_ever(site: Site) -> None:
    site.alive(7)
    ok(site.begin(7))
    with open(site.root / "scripts/slurm_mosix.conf", "a", encoding="utf-8") as file:
        file.write("PATIENCE=0.2\n")
    fake(site.root / "bin/mos_in_job", "exec sleep 1000")
    refused(site.on_node("mprolog", "n1", 7), "mos_in_job: no answer within 0.2 seconds")
    assert site.here("n1") == []
