"""What moslab and its storm decide: files of nodes, addresses, where to send a process, how a command's end is told."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.load import load
from mosfs.cluster.paths import NodePaths
from mosfs.tools import lab, storm
from mosfs.tools.mosmigrate import main as mosmigrate
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree
from tests.cluster import MOSLAB, SOURCE, leftovers, wait_until

PLAN = lab.Plan.make("/x", 3, "127.0.7.1", False)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of plain files with this process in it; a write to migrate changes nothing else."""
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    folder = Path(NodePaths(str(tmp_path)).mount) / f"proc/{os.getpid()}"
    folder.mkdir(parents=True)
    for name, text in (("move", "4 home ok"), ("where", "here"), ("migrate", "")):
        (folder / name).write_text(f"{text}\n")
    return folder


def test_the_files_of_a_node_are_what_mosd_reads(tmp_path: Path) -> None:
    plan = lab.Plan.make(str(tmp_path), 3, "127.0.7.1", False)
    for node in plan.nodes():
        os.makedirs(node.paths.etc)
        for name, (text, mode) in lab.node_files(plan, node, "s" * 64).items():
            Path(name).write_text(text)
            os.chmod(name, mode)
        cluster = load(node.paths)
        assert cluster.my_ip == node.ip == f"127.0.7.{node.number}"
        assert [cluster.map.number_of(f"127.0.7.{n}") for n in (1, 2, 3, 4)] == [1, 2, 3, None]


IMPOSSIBLE = [(3, "10.0.0.1"), (3, "127.0.1"), (3, "127.0.1.253"), (201, "127.0.1.1"), (3, "x")]


@pytest.mark.parametrize(("count", "base"), IMPOSSIBLE)
def test_impossible_plans(count: int, base: str) -> None:
    with pytest.raises(UserError):
        lab.Plan.make("/x", count, base, False)


def test_the_environment_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    given = lab.environment(PLAN.node(2), {"PATH": "/bin", "A": "b"})
    assert given["MOSIX_ROOT"] == "/x/node2" and given["MOUNT"] == "/x/node2/run/mosix" and given["A"] == "b"
    assert given["PATH"] == f"{os.path.dirname(sys.executable)}:/bin"
    assert lab.environment(PLAN.node(2), given) == given


def test_a_missing_node() -> None:
    with pytest.raises(UserError, match="nodes 1 to 3"):
        PLAN.node(4)


@given(st.sampled_from(["home", "2", "3"]), st.booleans(), st.integers())
def test_a_storm_never_stays(here: str, through_home: bool, seed: int) -> None:
    target = storm.choose(here, ["home", "2", "3"], through_home, random.Random(seed).choice)
    assert target != here and target in ("home", "2", "3")
    assert not through_home or "home" in (here, target)


def test_nowhere_to_go() -> None:
    assert storm.choose("home", ["home"], False, random.choice) == ""


@pytest.mark.parametrize("verb", ["run", "storm", "shell", "status"])
def test_without_a_lab(tmp_path: Path, verb: str) -> None:
    argv = {"run": ["1", "true"], "storm": ["--", "true"], "shell": ["1"], "status": []}[verb]
    done = subprocess.run([*MOSLAB, "--root", str(tmp_path), verb, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"moslab: no lab is up below {tmp_path} (moslab up -n 3 starts one)\n"


def test_down_without_a_lab_is_nothing(tmp_path: Path) -> None:
    lab.down(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_the_labs_stay(tmp_path: Path) -> None:
    plan = lab.Plan.make(str(tmp_path / "lab"), 2, "127.0.7.1", False)
    lab.prepare(plan)
    (tmp_path / "lab/mine").write_text("mine")
    lab.down(plan.root)
    assert os.listdir(plan.root) == ["mine"]


def test_nothing_but_the_labs_daemons_is_ended(tmp_path: Path) -> None:
    """A process of the same environment that is no daemon, and a daemon's command of another lab, live on."""
    plan = lab.Plan.make(str(tmp_path / "lab"), 1, "127.0.7.1", False)
    lab.prepare(plan)
    sleep = [sys.executable, "-c", "input()", lab.MOSD]
    ours = {**os.environ, "MOSIX_ROOT": plan.node(1).paths.root}
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(sleep, env=ours, stdin=pipe) as daemon,
        subprocess.Popen(sleep[:-1], env=ours, stdin=pipe) as user,
        subprocess.Popen(sleep, env={**ours, "MOSIX_ROOT": "/y/node1"}, stdin=pipe) as stranger,
    ):
        wait_until(lambda: lab.daemons(plan) == {daemon.pid})
        assert leftovers(plan).processes.keys() == {daemon.pid, user.pid}
        lab.down(plan.root)
        assert daemon.wait() == -signal.SIGTERM
        assert user.poll() is None and stranger.poll() is None
        user.communicate(b"\n")
        stranger.communicate(b"\n")
    assert not leftovers(plan)


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -TERM $$", -15), ("kill -KILL $$", -9)])
def test_the_status_is_the_commands(script: str, status: int) -> None:
    code = f"import sys; sys.path.insert(0, {SOURCE!r})\n" + """
from mosfs.cluster.paths import NodePaths
from mosfs.tools import storm
from mosfs.tools.tree import Tree
gale = storm.Storm(Tree(NodePaths("/nowhere")), ["home", "2"], storm.seeded("1"))
sys.exit(storm.end_like(storm.run(["sh", "-c", sys.argv[1]], {}, gale, 0.001)))
"""
    assert subprocess.run([sys.executable, "-c", code, script], check=False).returncode == status


def test_signals_reach_the_command() -> None:
    code = f"import sys; sys.path.insert(0, {SOURCE!r})\n" + """
from mosfs.tools import storm
gale = storm.Storm(None, [], storm.seeded("1"))
script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
sys.exit(storm.end_like(storm.run(["sh", "-c", script], {}, gale, 60)))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait() == 9


def test_outcomes_are_counted_once(tree: Path) -> None:
    gale = storm.Storm(Tree(NodePaths(str(tree.parents[3]))), ["home", "2"], storm.seeded("1"))
    gale.step(os.getpid())
    assert (tree / "migrate").read_text() == "2\n"
    (tree / "move").write_text("5 2 ...\n")
    (tree / "migrate").write_text("")
    gale.step(os.getpid())
    assert (tree / "migrate").read_text() == "" and gale.moves == 0  # it is on its way
    (tree / "move").write_text("5 2 ok\n")
    (tree / "where").write_text("2\n")
    (tree / "stat").write_text('{"freeze_ms": 1.5}')
    gale.step(os.getpid())
    assert (tree / "migrate").read_text() == "home\n" and gale.moves == 1
    (tree / "move").write_text("6 home no response\n")
    gale.settle()
    gale.settle()
    assert gale.stats() == {
        "moves": 1, "failed": 1, "reasons": {"no response": 1}, "freeze_ms": [1.5], "frozen": 0,
    }


def test_only_descendants_are_moved(tree: Path) -> None:
    gale = storm.Storm(Tree(NodePaths(str(tree.parents[3]))), ["home", "2"], storm.seeded("1"))
    with subprocess.Popen(["sleep", "60"]) as other:
        gale.step(other.pid)
        other.kill()
    assert (tree / "migrate").read_text() == "\n"


@pytest.mark.parametrize(("argv", "status", "line"), [
    (["no", "2"], 1, "no: no such MOSIX process"),
    (["4194305", "2"], 1, "4194305: no such MOSIX process"),
    (["no", "freeze"], 1, "no: no such MOSIX process"),
    (["{pid}", "no-such-host.invalid"], 1, "failed migrating to no-such-host.invalid: not in map"),
])
def test_mosmigrate_refuses_in_one_line(
    tree: Path, capsys: pytest.CaptureFixture[str], argv: list[str], status: int, line: str
) -> None:
    assert mosmigrate([word.format(pid=os.getpid()) for word in argv]) == status
    assert capsys.readouterr().err == f"mosmigrate: {line}\n"


@pytest.mark.parametrize("argv", [[], ["1"], ["1", "2", "3"], ["--nonsense", "1", "2"]])
def test_mosmigrate_usage(tree: Path, argv: list[str]) -> None:
    assert mosmigrate(argv) == 2


def test_mosmigrate_without_waiting(tree: Path) -> None:
    assert mosmigrate([str(os.getpid()), "127.0.1.2", "--no-wait"]) == 0
    assert (tree / "migrate").read_text() == "127.0.1.2\n"


# --------------------------------------------------------------------------- folders of others


def a_lab(root: Path) -> lab.Plan:
    plan = lab.Plan.make(str(root), 1, "127.0.201.1", False)
    lab.prepare(plan)
    return plan


def test_nothing_is_removed_through_a_link(tmp_path: Path) -> None:
    """Whatever has become of the lab's folders: what lies elsewhere stays."""
    victim = tmp_path / "victim"
    for name in ("etc", "run", "mosix"):
        (victim / name).mkdir(parents=True)
        (victim / name / "precious").write_text("x")
    plan = a_lab(tmp_path / "lab")
    shutil.rmtree(tmp_path / "lab/node1")
    (tmp_path / "lab/node1").symlink_to(victim)
    (tmp_path / "lab/net").symlink_to(victim)
    for keep in (True, False):
        lab.remove(plan, keep=keep)
    assert sorted(path.name for path in victim.rglob("precious")) == ["precious"] * 3


def test_folders_as_deep_as_a_user_likes_are_removed(tmp_path: Path) -> None:
    plan = a_lab(tmp_path / "lab")
    depth, folder = 2 * sys.getrecursionlimit(), os.open(plan.node(1).paths.state, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deep", dir_fd=folder)
        inner = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    lab.remove(plan, keep=False)
    assert not (tmp_path / "lab").exists()


def test_the_plan_cannot_lead_elsewhere(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "node1").mkdir(parents=True)
    a_lab(tmp_path / "lab")
    plan = tmp_path / "lab/lab.json"
    plan.write_text(plan.read_text().replace(str(tmp_path / "lab"), str(other)))
    lab.down(str(tmp_path / "lab"))
    assert (other / "node1").is_dir() and not (tmp_path / "lab").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to another user")
@pytest.mark.parametrize("verb", ["up", "down", "status"])
@pytest.mark.parametrize("how", ["owner", "mode", "link", "plan"])
def test_a_folder_that_another_user_made(tmp_path: Path, verb: str, how: str) -> None:
    """As /tmp/moslab-UID may be: refused in one line, and nothing of it or behind it is touched."""
    root, victim = tmp_path / "moslab", tmp_path / "victim"
    (victim / "node1").mkdir(parents=True)
    (victim / "lab.json").write_text("{}")
    if how == "link":
        root.symlink_to(victim)
    else:
        root.mkdir()
        (root / "node1").symlink_to(victim)
        (root / "lab.json").write_text(json.dumps(asdict(lab.Plan.make(str(root), 1, "127.0.201.1", False))))
        if how == "owner":
            os.chown(root, 65534, 65534)
        elif how == "mode":
            root.chmod(0o777)
        else:
            (root / "lab.json").unlink()
            (root / "lab.json").symlink_to(victim / "lab.json")
    before = sorted(map(str, tmp_path.rglob("*")))
    done = subprocess.run([*MOSLAB, verb, "--root", str(root)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode and done.stderr.startswith("moslab: ") and done.stderr.count("\n") == 1
    assert sorted(map(str, tmp_path.rglob("*"))) == before
