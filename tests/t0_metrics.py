"""The file node/metrics: what is counted and when, the text, and the real promtool's opinion of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from mosfs.abi import cpu
from mosfs.abi.reasons import Reason
from mosfs.cluster.relation import Relation
from mosfs.node.counts import BOUNDS, Counts, Times, result_of
from mosfs.node.nodes import Node
from mosfs.node.programs import Guest, Program
from mosfs.node.world import World
from mosfs.procfs.metrics import metrics
from mosfs.procfs.tree import Entry, Folder, Tree
from mosfs.wire.asked import Settings
from mosfs.wire.messages import GuestState, PeerStatus, ProcState
from tests.fake_map import FakeMap

HOME, NEAR, FAR, LENT = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.1.0.1"
PARTNER = 'their "own\\'
STATUS = PeerStatus(150, 20000, 4, 1000, 2000, 3, False, swap_free=512, swap_total=1024, frozen=2, paging=7, processes=5)
STATE = ProcState(100, 1001, "", "here", 2, Settings(), comm='x"\n')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
_SAMPLE = re.compile(r'([a-z_:]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\S+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')
_UNITS = ("_seconds", "_bytes", "_ratio", "_total", "_info", "_per_second")


def parsed(text: str) -> tuple[dict[str, str], Samples]:
    """Types by family, and all samples; each family has its help and type once, before its samples, which stand together."""
    types: dict[str, str] = {}
    helped: list[str] = []
    samples: Samples = {}
    lines = text.split("\n")
    assert lines.pop() == "# EOF"
    for line in lines:
        if line.startswith("# HELP "):
            name, help_ = line[7:].split(" ", 1)
            assert name not in helped and help_.endswith(".")
            helped.append(name)
        elif line.startswith("# TYPE "):
            name, type_ = line[7:].split(" ")
            assert name == helped[-1] and name not in types
            types[name] = type_
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            family = helped[-1]
            suffixes = ("_bucket", "_sum", "_count") if types[family] == "histogram" else ("",)
            assert match[1] in [family + suffix for suffix in suffixes]
            key = match[1], frozenset(_LABEL.findall(match[2] or ""))
            assert key not in samples
            samples[key] = float(match[3])
    assert list(types) == helped
    return types, samples


def value(world: World, name: str, **labels: str) -> float:
    return parsed(metrics(world))[1][name, frozenset(labels.items())]


@pytest.fixture
def world() -> World:
    nodes = FakeMap(HOME, NEAR, FAR, others={LENT: Relation(True, PARTNER, 50, True, True)})
    made = World(ip=HOME, map=nodes, clock=lambda: 100.0, version="0.1.0", speed=10000, port=253, pid=42)
    made.counts = Counts(since=40.0, gossip={"sent": 9, "bytes_sent": 900, "forged": 2})
    made.me.status, made.me.heard = STATUS, 100.0
    made.nodes[NEAR] = Node(NEAR, None, STATUS, heard=99.0)
    made.nodes[FAR] = Node(FAR, None, STATUS, heard=10.0)
    made.programs[100] = Program(STATE, None)
    made.programs[101] = Program(replace(STATE, pid=101, where=NEAR, state="away"), None)
    made.guests[200] = Guest(GuestState(200, 77, NEAR, 1001, "theirs", 1.5), lambda _: None)
    made.guests[201] = Guest(GuestState(201, 78, LENT, 1001, "theirs", 1.5), lambda _: None)
    made.guests[202] = Guest(GuestState(202, 79, "10.9.9.9", 1001, "theirs", 1.5), lambda _: None)
    return made


@pytest.mark.parametrize(("name", "labels", "expected"), [
    ("mosfs_build_info", {"version": "0.1.0"}, 1), ("mosfs_uptime_seconds", {}, 60), ("mosfs_load_ratio", {}, 1.5),
    ("mosfs_speed_ratio", {}, 2), ("mosfs_cpus", {}, 4), ("mosfs_memory_available_bytes", {}, 1000 * 2**20),
    ("mosfs_memory_size_bytes", {}, 2000 * 2**20), ("mosfs_swap_free_bytes", {}, 2**29), ("mosfs_swap_size_bytes", {}, 2**30),
    ("mosfs_frozen", {}, 2), ("mosfs_programs", {}, 2), ("mosfs_programs_away", {}, 1),
    ("mosfs_guests", {"cluster": "our own"}, 1), ("mosfs_guests", {"cluster": "none any more"}, 1),
    ("mosfs_guests", {"cluster": 'their \\"own\\\\'}, 1),
    ("mosfs_nodes", {"condition": "alive"}, 2), ("mosfs_nodes", {"condition": "dead"}, 1),
    ("mosfs_news_age_oldest_seconds", {}, 1), ("mosfs_gossip_messages_total", {"way": "sent"}, 9),
    ("mosfs_gossip_messages_total", {"way": "received"}, 0), ("mosfs_gossip_bytes_total", {"way": "sent"}, 900),
    ("mosfs_gossip_faults_total", {"fault": "forged"}, 2),
])
def test_what_is_told(world: World, name: str, labels: Mapping[str, str], expected: float) -> None:
    assert value(world, name, **labels) == expected


def test_names_types_and_units(world: World) -> None:
    types, samples = parsed(metrics(world))
    assert all(name.startswith("mosfs_") for name in types)
    assert {name for name, type_ in types.items() if type_ == "counter"} == {name for name in types if name.endswith("_total")}
    numbers = {"cpus", "programs", "programs_away", "guests", "frozen", "processes", "blocked", "nodes"}
    assert {name for name in types if not name.endswith(_UNITS)} == {f"mosfs_{name}" for name in numbers}
    assert all(number >= 0 for number in samples.values())


def test_what_is_not_known_is_left_out(world: World) -> None:
    world.me.status = None
    del world.nodes[NEAR]
    world.counts.gossip = {}
    types = parsed(metrics(world))[0]
    of_unknown = {"mosfs_load_ratio", "mosfs_memory_size_bytes", "mosfs_news_age_oldest_seconds", "mosfs_gossip_faults_total"}
    assert not of_unknown & set(types)


def test_nothing_of_users_is_told(world: World) -> None:
    """Series must not grow by what users do."""
    before = len(parsed(metrics(world))[1])
    for pid in range(300, 400):
        world.programs[pid] = Program(replace(STATE, pid=pid, comm=f"name{pid}", uid=pid), None)
        world.counts.heard(STATE, replace(STATE, move_seq=pid, move_result=f"reason {pid}"), automatic=False)
    assert len(parsed(metrics(world))[1]) == before
    assert value(world, "mosfs_moves_total", reason="asked", result="program") == 100


@pytest.mark.parametrize(("changes", "automatic", "counted"), [
    ({"nmigs": 3, "where": NEAR, "move_seq": 1, "freeze_ms": 20.0}, False, ("asked", "ok")),
    ({"nmigs": 3, "where": NEAR, "move_seq": 1, "because": "better"}, True, ("automatic", "ok")),
    ({"nmigs": 3, "because": "a guest's wish"}, False, ("automatic", "ok")),
    ({"move_seq": 1, "move_result": str(Reason.REFUSED)}, True, ("automatic", "refused")),
    ({"move_seq": 1, "move_result": "stopped by a signal"}, False, ("asked", "program")),
    ({"move_seq": 1, "move_result": ""}, False, None), ({"freeze_ms": 9.0, "comm": "other"}, True, None),
])
def test_when_a_move_counts(changes: dict[str, object], automatic: bool, counted: tuple[str, str] | None) -> None:
    counts, told = Counts(), replace(STATE, **changes)
    counts.heard(STATE, told, automatic=automatic)
    counts.heard(told, told, automatic=False)  # said again, it is no other move
    assert dict(counts.moves) == ({counted: 1} if counted else {})
    assert sum(counts.still.counts) == (counted is not None and counted[1] == "ok")


@pytest.mark.parametrize(("reason", "result"), [
    (Reason.NOT_IN_MAP, "not_in_map"), (Reason.NO_RESPONSE, "no_response"), (Reason.INCOMPLETE, "incomplete"),
    (cpu.lacks(["avx2"], "3"), "processor"), ("it has threads", "program"),
])
def test_reasons_have_few_names(reason: str, result: str) -> None:
    assert result_of(reason) == result


def test_times_are_counted_by_what_they_do_not_exceed(world: World) -> None:
    for seconds in (0.005, 0.006, 100.0):
        world.counts.still.add(seconds)
    assert sum(Times().counts) == 0
    buckets = [value(world, "mosfs_move_freeze_seconds_bucket", le=bound) for bound in ("0.005", "0.01", "60", "+Inf")]
    assert buckets == [1, 2, 2, 3]
    assert value(world, "mosfs_move_freeze_seconds_count") == 3
    assert value(world, "mosfs_move_freeze_seconds_sum") == pytest.approx(100.011)
    assert list(BOUNDS) == sorted(BOUNDS)


def test_everyone_may_read_the_file(world: World) -> None:
    tree = Tree(world, 0)
    place = tree.lookup(tree.lookup(Entry(Folder.ROOT), "node", 1001, 1), "metrics", 1001, 1)
    assert tree.read(place).decode() == metrics(world) + "\n"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not installed")
def test_prometheus_finds_nothing_wrong(world: World) -> None:
    world.counts.still.add(0.02)
    command = ["promtool", "check", "metrics"]
    said = subprocess.run(command, input=metrics(world) + "\n", text=True, capture_output=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


ETC = Path(__file__).parent.parent / "etc"
RULES, DASHBOARD = ETC / "prometheus/mosfs.yml", ETC / "grafana/mosfs.json"


def expressions() -> Iterator[str]:
    """All that the rules and the dashboard ask Prometheus."""
    yield from re.findall(r"expr: (.+)", RULES.read_text())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_what_is_asked_is_told(world: World, expression: str) -> None:
    """Each metric, each label and each value of one is written."""
    told = metrics(world)
    names = re.findall(r"mosfs_\w+", expression)
    assert names and all(re.search(rf"^{name}[ {{]", told, re.MULTILINE) for name in names)
    assert all(word in told for word in re.findall(r'\w+="\w+"', expression))
    labels = {label for inner in re.findall(r"by \(([^)]*)\)", expression) for label in inner.split(", ")} - {"instance"}
    assert all(f'{label}="' in told for label in labels)


def test_panels_of_the_dashboard_are_apart() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not installed")
def test_prometheus_takes_the_rules() -> None:
    said = subprocess.run(["promtool", "check", "rules", str(RULES)], text=True, capture_output=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not installed")
def test_prometheus_understands_what_is_asked(tmp_path: Path) -> None:
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(expressions())]
    file = tmp_path / "asked.yml"
    file.write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))  # JSON is YAML
    said = subprocess.run(["promtool", "check", "rules", str(file)], text=True, capture_output=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
