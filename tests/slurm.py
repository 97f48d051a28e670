"""A real Slurm on the nodes of a lab: munged, slurmctld and a slurmd for each, in a directory of their own.

    with slurm.site(lab, folder) as site:
        site.run("srun", "-N2", "hostname")

Each slurmd has the name, and the address, of the lab's node; the hooks of etc/slurm run as an administrator would have them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mosfs.tools import lab as labs
from tests.cluster import Lab, wait_until

HOOKS = Path(__file__).parent.parent / "etc/slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "scontrol")
#: Seconds that a daemon has after SIGTERM.
LAST_SECONDS = 10.0

CONF = """
ClusterName=lab
SlurmUser=root
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CredType=cred/munge
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.%n.pid
SlurmctldLogFile={dir}/log/slurmctld
SlurmdLogFile={dir}/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SlurmdTimeout=10
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
PrologFlags=Alloc
PrologSlurmctld={dir}/scripts/gmpilog
Prolog={dir}/scripts/mprolog
Epilog={dir}/scripts/mepilog
PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=YES:4
"""


def missing() -> str:
    """Why there can be no Slurm here; "" if there can."""
    absent = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"no {', '.join(absent)} (Debian: slurmctld slurmd slurm-client munge)" if absent else ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Site:
    """``dir``: its files; ``munge``: those of munged; ``daemons``: by name, in the order of their start."""

    lab: Lab
    dir: Path
    munge: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> str:
        return f"{self.dir}/slurm.conf"

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": self.conf}

    @property
    def on_node(self) -> str:
        """A command that runs another one as on the node of the lab that the slurmd is."""
        return f"{self.dir}/on-node"

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=timeout, cwd=self.dir,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """To be ended and waited for by who calls this."""
        return subprocess.Popen(
            command, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.dir,
        )

    def states(self) -> dict[str, str]:
        """Node to its state: idle, mixed, down, drained ..., perhaps with a sign behind it."""
        lines = self.run("sinfo", "-h", "-N", "-o", "%N %t").stdout.split("\n")
        return dict(line.split() for line in lines if line)

    def await_idle(self) -> None:
        numbers = range(1, self.lab.plan.count + 1)
        wait_until(lambda: self.states() == {f"n{n}": "idle" for n in numbers})

    def start_node(self, number: int) -> None:
        self._daemon(f"n{number}", "slurmd", "-D", "-N", f"n{number}", "-f", self.conf)

    def kill_node(self, number: int) -> None:
        """The slurmd, and all of jobs there, at once: as when the power fails."""
        daemon = self.daemons.pop(f"n{number}")
        marks = {f"SLURMD_NODENAME=n{number}".encode(), f"SLURM_CONF={self.conf}".encode()}
        daemon.kill()
        daemon.wait()
        labs.end(lambda: {pid for pid in labs.all_pids() if marks <= set(labs._nul_list(pid, "environ"))}, (signal.SIGKILL,), 0)

    def logs(self) -> str:
        """The end of each."""
        files = sorted((self.dir / "log").iterdir())
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-6000:]}" for path in files)

    def _daemon(self, name: str, *command: str, **options: object) -> None:
        log = open(self.dir / "log" / f"{name}.out", "ab")  # noqa: SIM115 (the daemon's)
        with log:
            self.daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            )

    def prepare(self) -> None:
        """All files."""
        for folder in ("state", "log", "jobs", *(f"spool/n{n}" for n in range(1, self.lab.plan.count + 1))):
            (self.dir / folder).mkdir(parents=True)
        shutil.copytree(HOOKS, self.dir / "scripts", symlinks=True)
        commands = self.lab.environ["PATH"].partition(":")[0]
        (self.dir / "scripts/slurm_mosix.conf").write_text(
            f"COMMONDIR={self.dir}/jobs\nSLURMBIN={os.path.dirname(shutil.which('scontrol') or '')}\nSLURM_CONF={self.conf}\n"
            f"PATH={commands}:$PATH\nexport MOSIX_ROOT={self.lab.plan.root}/node${{SLURMD_NODENAME#n}}\n"
        )
        (self.dir / "scripts/world.conf").write_text(f"{self.lab.node(1).ip} {self.lab.plan.count} p\n")
        (self.dir / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        Path(self.on_node).write_text(
            "#!/bin/sh\n"
            f"export MOSIX_ROOT={self.lab.plan.root}/node${{SLURMD_NODENAME#n}} PATH={commands}:$PATH MOSIX_BALANCE=on\n"
            'exec "$@"\n'
        )
        os.chmod(self.on_node, 0o755)
        host = socket.gethostname()
        nodes = "".join(
            f"NodeName=n{node.number} NodeHostname={host} NodeAddr={node.ip} Port={free_port()} CPUs=4 Feature=mosix\n"
            for node in self.lab.plan.nodes()
        )
        text = CONF.format(dir=self.dir, munge=self.munge, host=host, port=free_port())
        Path(self.conf).write_text(text + nodes)

    def begin(self) -> None:
        key = self.munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for path in (self.munge, key):
            shutil.chown(path, "munge", "munge")
        self._daemon(
            "munged", "setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "-F", f"--key-file={key}",
            *(f"--{what}={self.munge}/{name}" for what, name in (
                ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))),
        )
        wait_until((self.munge / "socket").exists)
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", self.conf)
        for number in range(1, self.lab.plan.count + 1):
            self.start_node(number)
        self.await_idle()

    def end(self) -> None:
        """Jobs, then daemons, the last first."""
        with suppress(subprocess.TimeoutExpired):
            self.run("scancel", "--user=root", timeout=20)
            deadline = time.monotonic() + LAST_SECONDS
            while self.run("squeue", "-h").stdout and time.monotonic() < deadline:
                time.sleep(0.1)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(LAST_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


@contextmanager
def site(lab: Lab, folder: Path) -> Iterator[Site]:
    """Slurm on all nodes of ``lab``, ready for jobs; at the end all of it has ended. ``folder`` is empty, and everybody may
    enter it."""
    munge = folder / "munge"
    munge.mkdir()
    munge.chmod(0o711)
    made = Site(lab, folder / "slurm", munge)
    made.dir.mkdir()
    made.prepare()
    try:
        made.begin()
        yield made
    except BaseException:
        print(made.logs())
        raise
    finally:
        made.end()
