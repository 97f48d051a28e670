"""Processors that differ, on a lab: its node 3 tells the others that it has less than they (MOSIX_CPU_WITHOUT)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.abi import cpu, levels
from tests import cluster
from tests.cluster import Lab, wait_until

HERE = cpu.parse(cpu.features()).flags
#: A processor of 2009.
GONE = sorted(HERE - levels.LEVELS["x86-64-v2"])
POOR = HERE - set(GONE)
LD_SO = "/lib64/ld-linux-x86-64.so.2"

pytestmark = [pytest.mark.root, pytest.mark.skipif(levels.level_of(HERE) < 3, reason="nothing can be hidden from this processor")]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 3) as running, pytest.MonkeyPatch.context() as patch:
        running.kill_mosd(3)
        patch.setenv("MOSIX_CPU_WITHOUT", " ".join(GONE))
        running.start_mosd(3)
        patch.undo()
        for number, flags in ((1, HERE), (2, HERE), (3, POOR)):
            wait_until(lambda number=number, flags=flags: about(running, number)["cpu_features"] == sorted(flags))  # type: ignore[misc]
        yield running


def about(nodes: Lab, number: int) -> dict[str, object]:
    """What node 1 knows of node ``number``."""
    facts: dict[str, object] = json.loads(nodes.run(1, "mosctl", "status", str(number), "--json").stdout)
    return facts


def environment(nodes: Lab, *options: str, number: int = 1) -> dict[str, str]:
    """Of a program on a node that mosrun has started with these options."""
    found = nodes.run(number, "mosrun", *options, "env", "-0")
    assert found.returncode == 0, found.stderr
    return dict(entry.split("=", 1) for entry in found.stdout.split("\0") if entry)


def reload(nodes: Lab) -> None:
    """The files of node 1, at once."""
    Path(nodes.node(1).paths.mount, "node", "reload").write_text("\n")


def test_nodes_tell_their_processors(nodes: Lab) -> None:
    poor = about(nodes, 3)
    assert poor["cpu_level"] == 2 and poor["cpu_lacks"] == GONE
    assert about(nodes, 1)["cpu_common"] == sorted(POOR) and about(nodes, 2)["cpu_lacks"] == []
    words = nodes.run(1, "mosctl", "status", "3").stdout
    assert f"Processor:  x86-64-v2, lacks {' '.join(GONE)}\n" in words
    assert f"Some lack:  {' '.join(GONE)}\n" in nodes.run(1, "mosctl", "localstatus").stdout


def test_native_is_as_before(nodes: Lab) -> None:
    plain = environment(nodes)
    assert environment(nodes, "--cpu=native") == plain and not plain.keys() & levels.preset(HERE, GONE).keys() - os.environ.keys()


@pytest.mark.parametrize("level", ["common", "v2", "x86-64-v2"])
def test_a_program_is_told(nodes: Lab, level: str) -> None:
    plain, told = environment(nodes), environment(nodes, f"--cpu={level}")
    preset = levels.preset(HERE, GONE)
    assert preset["OPENBLAS_CORETYPE"] == "Nehalem" and told == {**preset, **plain, **{
        name: preset[name] for name in ("GLIBC_TUNABLES", "GODEBUG") if name not in plain
    }}


def test_a_program_of_the_poorest_is_told_what_others_lack(nodes: Lab) -> None:
    """It may begin on a richer node, or make exec there."""
    wait_until(lambda: json.loads(nodes.run(3, "mosctl", "status", "1", "--json").stdout)["cpu_features"] == sorted(HERE))
    assert environment(nodes, "--cpu=common", number=3).items() >= levels.preset(HERE, GONE).items() - os.environ.items()


def test_children_choose_alike_at_home_and_away(nodes: Lab) -> None:
    """ld.so is asked which directories of libraries it would take (ld.so(8), glibc-hwcaps)."""
    for options in (["-h"], ["-2"]):
        shown = nodes.run(1, "mosrun", *options, "--cpu=v2", "sh", "-c", f"{LD_SO} --help; exit 0").stdout
        if "glibc-hwcaps" not in shown:
            pytest.skip("this libc does not tell")
        assert "x86-64-v2 (supported, searched)" in shown and "x86-64-v3\n" in shown


def test_what_the_administrator_has_set_holds_without_the_option(nodes: Lab) -> None:
    file = Path(nodes.node(1).paths.level)
    try:
        file.write_text("v2\n")
        reload(nodes)
        wait_until(lambda: "OPENBLAS_CORETYPE" in environment(nodes))
        assert "OPENBLAS_CORETYPE" not in environment(nodes, "--cpu=native")
        assert environment(nodes, "--cpu=v3").get("OPENBLAS_CORETYPE") in (None, "Haswell")
        # inside of a MOSIX program what was preset is inherited, and nothing is preset again
        inside = nodes.run(1, "mosrun", "mosrun", "env", "-0").stdout.split("\0")
        assert [entry for entry in inside if entry.startswith("GLIBC_TUNABLES")] == [
            f"GLIBC_TUNABLES={environment(nodes)['GLIBC_TUNABLES']}"]
    finally:
        file.unlink()
        reload(nodes)
        wait_until(lambda: "OPENBLAS_CORETYPE" not in environment(nodes))


def test_other_levels_are_refused(nodes: Lab) -> None:
    found = nodes.run(1, "mosrun", "--cpu=v9", "true")
    assert found.returncode == 2 and found.stderr.endswith(
        "--cpu takes one of common x86-64-v2 x86-64-v3 x86-64-v4 native v2 v3 v4\n")


def test_the_reason_names_the_features(nodes: Lab) -> None:
    """What would give other results there without a fault must be there."""
    silent, ip = " ".join(sorted(HERE & cpu.SILENT)), nodes.node(3).ip
    refused = nodes.run(1, "mosrun", "-3", "true")
    assert refused.returncode == 125 and refused.stderr == (
        f"mosrun: failed migrating to 3: needs {silent}, which {ip} lacks\n")
    with nodes.start(1, "mosrun", "sleep", "60") as program:
        process = nodes.process(program.pid)
        assert set(process.needs) == HERE & cpu.SILENT
        listed = json.loads(nodes.run(1, "mosps", "-p", str(program.pid), "--json").stdout)
        assert listed[0]["needs"] == sorted(HERE & cpu.SILENT)
        moved = nodes.run(1, "mosmigrate", str(program.pid), "3")
        assert moved.returncode == 1 and f"needs {silent}, which {ip} lacks\n" in moved.stderr
        program.kill()


def test_programs_of_the_poorer_go_and_come(nodes: Lab) -> None:
    found = nodes.run(3, "mosrun", "-1", "sh", "-c", "echo there; exit 3")
    assert (found.returncode, found.stdout) == (3, "there\n")
