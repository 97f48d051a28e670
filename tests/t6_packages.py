"""The Debian package on three fresh machines: installed, started, used by an ordinary user, upgraded, removed, purged."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.packages.roots import REPO, CannotBuild, Machine, base, machines
from tests.patience import Patience

pytestmark = [pytest.mark.long, pytest.mark.alone, pytest.mark.root, pytest.mark.timeout(1800)]
IPS = ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
SECRET = "the secret of three machines"
#: What mosconf is told: this node, the nodes, the key, their numbers, and that it is right.
ANSWERS = ["", "1", IPS[0], str(len(IPS)), "", "2", "n", SECRET, SECRET, "3", "", "", "y"]
USER = 1000
#: A program that computes until a file is there, and then says so. It looks seldom: who works on files does that at home.
UNTIL = "while ! [ -e /tmp/end ]; do i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done; done; echo right"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make deb` does it."""
    try:
        base()
    except CannotBuild as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", str(REPO), "-w", str(folder / "wheels")]
    subprocess.run(pip, check=True, capture_output=True)
    deb = [sys.executable, "-m", "tools.deb", str(folder / "wheels"), str(folder)]
    return Path(subprocess.run(deb, check=True, capture_output=True, text=True, cwd=REPO).stdout.strip())


@pytest.fixture(scope="module")
def newer(package: Path) -> Path:
    """The same with a higher version."""
    tree = package.parent / "newer"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("-1\n", "-2\n", 1))
    there = package.parent / "newer.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", tree, there], check=True, capture_output=True)
    return there


def configure(machine: Machine) -> None:
    """As a newcomer does it; and the machines, which are one in truth, count their own load only."""
    (machine.root / "tmp" / "answers").write_text("".join(f"{answer}\n" for answer in ANSWERS))
    machine.well("mosconf", "--answers", "/tmp/answers")
    (machine.root / "etc/mosix/probe").write_text("own\n")
    assert machine.well("mos_checkconf") == ""


def install(machine: Machine, package: Path) -> str:
    (machine.root / "tmp" / "mosfs.deb").write_bytes(package.read_bytes())
    return machine.well("apt-get", "-q", "install", "-y", "--no-install-recommends", "/tmp/mosfs.deb")


@pytest.fixture
def three(package: Path, tmp_path: Path) -> Iterator[list[Machine]]:
    """Machines with the package installed, configured and started."""
    with machines(tmp_path, IPS) as made:
        for machine in made:
            assert "run mosconf" in install(machine, package)
            assert machine.run("service", "mosix", "start").returncode == 6, "not configured"
            assert machine.run("service", "mosix", "status").returncode == 3
            configure(machine)
            machine.well("service", "mosix", "start")
        wait(lambda: all_alive(made[0]))
        yield made


def all_alive(machine: Machine) -> bool:
    return machine.run("sh", "-c", "cat /run/mosix/nodes/*/status").stdout.split() == ["alive"] * len(IPS)


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    patience = Patience(seconds)
    while not condition():
        assert not patience.over()
        time.sleep(0.2)


def programs(machine: Machine) -> dict[str, str]:
    """Programs of a machine and where they are."""
    script = "for p in $(ls /run/mosix/proc); do echo $p $(cat /run/mosix/proc/$p/whereami); done"
    return dict(line.split(maxsplit=1) for line in machine.well("sh", "-c", script).splitlines())


def test_no_path_of_the_building_machine_is_in_it(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", package, tmp_path / "tree"], check=True)
    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 500
    builder = [str(REPO).encode(), str(package.parent).encode()]
    assert [path for path in files if any(name in path.read_bytes() for name in builder)] == []


def test_it_is_for_the_python_that_it_was_built_with(package: Path) -> None:
    """Where there is another one it is not installed, because it depends on this one by its version."""
    depends = subprocess.run(["dpkg-deb", "-f", package, "Depends"], check=True, capture_output=True, text=True).stdout
    assert f"python{sys.version_info.major}.{sys.version_info.minor}" in depends.replace(",", " ").split()


def test_programs_of_an_ordinary_user_spread(three: list[Machine]) -> None:
    first = three[0]
    assert first.well("mosrun", "-2", "id", "-u", user=USER) == f"{USER}\n"
    assert "MOSRUN(1)" in first.well("man", "mosrun")
    started = [first.start("mosrun", "-b", "sh", "-c", UNTIL, user=USER) for _ in range(6)]
    wait(lambda: len(set(programs(first).values())) == len(IPS))
    (first.root / "tmp" / "end").touch()
    assert [process.communicate(timeout=120)[0] for process in started] == ["right\n"] * 6


def test_nodes_with_a_key_are_found_and_configured(package: Path, tmp_path: Path) -> None:
    """mos_autoconf, on one of them; the others are started by what lets them be found."""
    with machines(tmp_path, IPS) as made:
        for machine in made:
            install(machine, package)
            (machine.root / "tmp" / "answers").write_text(f"n\n{SECRET}\n{SECRET}\ny\n")
            machine.well("mosconf", "--answers", "/tmp/answers", "key")
            (machine.root / "etc/mosix/probe").write_text("own\n")
            assert machine.run("service", "mosix", "start").returncode == 6, "no map yet"
        listed = made[0].well("mos_autoconf", "--list")
        assert [line.split()[0] for line in listed.splitlines()] == IPS
        assert made[0].well("mos_autoconf", "--yes").endswith("3 nodes are configured.\n")
        made[0].well("service", "mosix", "start")
        wait(lambda: all_alive(made[0]))
        assert made[0].well("mosrun", "-3", "id", "-u", user=USER) == f"{USER}\n"
        assert made[1].well("cat", "/etc/mosix/userview.map") == f"1 {IPS[0]} 3\n"


def test_an_upgrade_ends_no_program(three: list[Machine], newer: Path) -> None:
    first, second, _ = three
    started = [first.start("mosrun", "-L", place, "sh", "-c", UNTIL, user=USER) for place in ["-h"] * 8 + ["-2"] * 2]
    wait(lambda: len(programs(first)) == 10)
    before = programs(first)
    for machine in (first, second):
        old = machine.well("cat", "/run/mosd/pid")
        install(machine, newer)
        assert machine.well("cat", "/run/mosd/pid") != old, "another daemon"
        machine.well("service", "mosix", "status")
    wait(lambda: programs(first) == before)
    assert first.run("dpkg", "-r", "mosfs").returncode and first.run("dpkg", "-P", "mosfs").returncode, "programs run"
    wait(lambda: programs(first) == before)
    first.well("service", "mosix", "restart")
    (first.root / "tmp" / "end").touch()
    assert [process.communicate(timeout=120)[0] for process in started] == ["right\n"] * 10


def test_nothing_is_left_after_a_purge(package: Path, tmp_path: Path) -> None:
    """But for what apt, dpkg and deb-systemd-helper note of all packages."""
    theirs = ("/var/lib/dpkg/*", "/var/lib/apt/*", "/var/log/apt/*", "/var/cache/*", "/proc/*", "/tmp/*", "/var/log/dpkg.log",
              "/var/log/alternatives.log", "/var/lib/systemd/deb-systemd-helper-masked")
    apart = " ".join(f"! -path '{path}'" for path in theirs)
    listing = ("sh", "-c", f"find / -xdev {apart} | sort; ls /run; "
               "ps -eo stat,comm | grep '^[^Z].* mos' || true")
    with machines(tmp_path, IPS[:1]) as (machine,):
        before = machine.well(*listing)
        install(machine, package)
        configure(machine)
        machine.well("service", "mosix", "start")
        assert machine.well("mosrun", "-h", "echo", "hello", user=USER) == "hello\n"
        machine.well("dpkg", "-r", "mosfs")
        assert (machine.root / "etc/mosix/mosix.map").exists(), "configuration stays until it is purged"
        machine.well("dpkg", "-P", "mosfs")
        assert machine.well(*listing) == before
