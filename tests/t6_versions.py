"""Nodes of different versions: one runs the first release with the first two digits of this one (docs/design/protocols.md).

The older copy comes out of the history of this repository: the tag of that version, or the commit that set it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import mosfs
from mosfs.mbox.model import Flag
from mosfs.tools import lab as labs
from tests import cluster
from tests.cluster import SOURCE, Lab, wait_until
from tests.t5_faults import Walk
from tests.t5_mailbox import robot

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(900)]

DIGITS = mosfs.__version__.rpartition(".")[0]


def git(*words: str) -> str:
    """What git says about this repository; "" if there is none, or it fails."""
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", "-C", SOURCE, *words], capture_output=True, text=True, check=False).stdout.strip()


def released() -> str:
    """The first release with the first two digits of this version, as git names it; "" if the history does not reach so far."""
    tags = git("tag", "--list", f"v{DIGITS}.*", "--sort=version:refname").split()
    setting = f'__version__ = "{DIGITS}.'
    return (tags or git("log", "--reverse", "--format=%H", f"-S{setting}", "--", "mosfs/__init__.py").split() or [""])[0]


@dataclass(frozen=True)
class Mixed(Lab):
    """Node ``other`` runs the copy of mosfs in ``folder``, its commands included."""

    other: int = 0
    folder: str = ""
    scripts: str = ""

    def placed(self, number: int, command: Sequence[str]) -> tuple[Sequence[str], Mapping[str, str]]:
        if number != self.other:
            return super().placed(number, command)
        moslab = "import os, sys; os.chdir('/'); from mosfs.tools.moslab import main; sys.exit(main())"
        environ = {**self.environ, "PATH": f"{self.scripts}:{os.environ['PATH']}", "PYTHONPATH": self.folder}
        return [sys.executable, "-c", moslab, "run", str(number), *command], environ

    def replace_mosd(self) -> None:
        """Node ``other`` gets a mosd out of ``folder``."""
        self.kill_mosd(self.other)
        node = self.node(self.other)
        environ = {**labs.environment(node), "PYTHONPATH": self.folder}
        with open(node.paths.log, "ab") as log:
            subprocess.run([sys.executable, "-m", labs.MOSD], cwd="/", env=environ, stdout=log, stderr=log, check=True)
        wait_until(lambda: labs.answers(node))


def copy_of(folder: Path, commit: str) -> None:
    """The files of ``commit``, with its C module and its commands in ``folder``/bin."""
    archive = subprocess.run(["git", "-C", SOURCE, "archive", commit], capture_output=True, check=True).stdout
    subprocess.run(["tar", "xf", "-", "-C", str(folder)], input=archive, check=True)
    for command in (["setup.py", "-q", "build_ext", "--inplace"], ["-m", "mosfs.tools.install_launchers", str(folder / "bin")]):
        (folder / "bin").mkdir(exist_ok=True)
        subprocess.run([sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, check=True,
                       capture_output=True)  # fmt: skip


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    commit = released()
    if not commit:
        pytest.skip(f"the history of this copy does not reach to version {DIGITS}.0")
    folder = tmp_path_factory.mktemp("older")
    copy_of(folder, commit)
    return folder


@pytest.fixture(scope="module", params=[1, 2], ids=["home is older", "home is newer"])
def mixed(request: pytest.FixtureRequest, older: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with cluster.lab(tmp_path_factory.mktemp("mixed"), 3) as nodes:
        running = Mixed(nodes.plan, nodes.environ, nodes.started, request.param, str(older), str(older / "bin"))
        running.replace_mosd()
        yield running


def test_a_program_starts_on_the_other(mixed: Mixed) -> None:
    done = mixed.run(1, "mosrun", "-2", "sh", "-c", "cat /proc/self/maps >/dev/null && echo right; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "right\n", "")
    assert f"moved to={mixed.node(2).ip}" in mixed.logs()


@pytest.mark.parametrize("round", range(3))
def test_a_program_tours_all(round: int, mixed: Mixed, tmp_path: Path) -> None:
    """Home, and between the others: the third is as new as this copy."""
    with Walk(mixed, tmp_path / "walk") as walk:
        assert [walk.move(target) for target in ("2", "3", "2", "home", "3", "home")] == [""] * 6
        assert (walk.end(), walk.err()) == (7, "")


def test_a_relative_on_the_other_is_looked_at(mixed: Mixed) -> None:
    """Files in /proc about a program that is away: an older host does not know the question, and must not be asked."""
    done = mixed.run(1, "mosrun", "-h", "sh", "-c", "mosrun -2 sleep 3 & sleep 1; cat /proc/$!/maps >/dev/null; wait $!; echo $?")
    assert done.stdout.strip() == "0", done.stderr


def test_mail_between_them(mixed: Mixed) -> None:
    with robot(mixed, 1) as here, robot(mixed, 2) as there:
        assert there("open", Flag.NO_DELAY | Flag.OTHER_HOMES) == 1
        assert here("send", f"{mixed.node(2).ip}/{there.pid}", "0 ") == 2
        assert there("collect", 0.5) == [[0], 0]


def test_they_see_each_other(mixed: Mixed) -> None:
    for number in (1, 2):
        other = mixed.node(3 - number).ip
        wait_until(lambda number=number, other=other: mixed.tree(number).read(f"nodes/{other}/status") == "alive")


@pytest.mark.parametrize("changed", ["0.1.9", "1.2.0"])
def test_another_version_is_refused(changed: str, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(Path(SOURCE, "mosfs"), folder / "mosfs", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "mosfs" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{mosfs.__version__}"', f'"{changed}"'))
    (folder / "bin").mkdir()
    with cluster.lab(tmp_path, 2) as nodes:
        mixed = Mixed(nodes.plan, nodes.environ, nodes.started, 2, str(folder), str(folder / "bin"))
        mixed.replace_mosd()
        done = nodes.run(1, "mosrun", "-2", "true")
        assert done.returncode != 0
        assert "Target node runs an incompatible version" in done.stderr
        assert nodes.run(1, "mosrun", "-h", "true").returncode == 0
