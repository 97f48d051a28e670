"""mosmon: nodes and a view make a frame, a key makes another view. Pure functions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.tools import mosmon
from mosfs.tools.mosmon import MOSMON, first_view
from mosfs.tools.mosmon_view import (
    KEYS,
    LEFT,
    QUARTERS,
    RIGHT,
    SCALE,
    Node,
    Numbering,
    Show,
    View,
    fitting,
    frame,
    height,
    press,
    quarter,
    short,
    shown,
)
from mosfs.tools.options import UsageError


def node(number: int, status: str = "alive", **facts: int) -> Node:
    return Node(number, f"10.0.{number // 250}.{number % 250 + 1}", status, **facts)


def cluster(count: int, **facts: int) -> list[Node]:
    return [node(number, **facts) for number in range(1, count + 1)]


THREE = [
    node(1, load=100, speed=10000, ncpus=1, mem_free=1000, mem_total=2000, swap_free=1024, swap_total=2048, frozen=0),
    node(2, load=50, speed=20000, ncpus=8, mem_free=0, mem_total=4000, swap_free=0, swap_total=0, frozen=4),
    node(3, "dead", load=999),
]

views = st.builds(
    View, st.sampled_from(Show), st.sampled_from(Numbering), st.booleans(), st.booleans(), st.integers(0, 20000), st.booleans()
)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 200))
nodes_of = st.lists(
    st.builds(
        Node, st.integers(1, 65535), st.just("10.0.0.1"), st.sampled_from(["alive", "blocked", "dead", "unknown"]),
        *[st.integers(0, 10**6)] * 10,
    ),
    max_size=40, unique_by=lambda n: n.number,
)


def test_the_load() -> None:
    assert frame(THREE, View(), (10, 24)) == [
        "MOSIX load",
        "      |  1",
        "  1.00| ###",
        "  0.75| ### 0.5",
        "  0.50| ### ###",
        "  0.25| ### ###",
        "     0+-----------------",
        "         1   2",
        "", "",
    ]


def test_memory_is_solid_and_the_rest_of_the_total_extends_it() -> None:
    assert frame(THREE, View(Show.MEMORY, Numbering.TIGHT), (9, 24)) == [
        "MOSIX memory, used and t",
        "  4000|  #",
        "  3000|  #",
        "  2000| +#",
        "  1000| ##",
        "     0+-----------------",
        "        12",
        "", "",
    ]


@pytest.mark.parametrize(("value", "text"), [
    (0, "0"), (0.5, "0.5"), (0.04, "0.0"), (1, "1"), (9.94, "9.9"), (9.96, "10"), (12.3, "12"), (999.4, "999"), (1000, "1k"),
    (31999, "32k"), (100_000, ".1M"), (990_000, "1M"), (1_500_000, "2M"), (5e13, ""),
])
def test_numbers_above_bars_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_the_keys_are_told_where_there_is_a_keyboard_and_room() -> None:
    assert frame(THREE, View(keys=True), (10, 40))[0] == "MOSIX load".ljust(26) + "h help  q quit"
    assert frame(THREE, View(keys=True), (10, 25))[0] == "MOSIX load"


def test_swap_in_gigabytes() -> None:
    assert frame(THREE, View(Show.SWAP, Numbering.VERTICAL), (7, 40))[1:6] == [
        "   2.0| +", "   1.5| +", "   1.0| #", "   0.5| #", "     0+---------------------------------",
    ]


def test_speeds_with_the_number_of_cpus() -> None:
    lines = frame(THREE, View(Show.SPEED, Numbering.HORIZONTAL), (8, 40))
    assert lines[1:] == [
        " 20000|     ###", " 15000|     ###", " 10000| ### ###", "  5000| ### ###",
        "     0+---------------------------------", "         1   2", "             x8",
    ]


@pytest.mark.parametrize(("show", "title", "top"), [
    (Show.FROZEN, "MOSIX frozen processes", "     4|     ###"), (Show.CORES, "MOSIX cores", "     8|     ###"),
])
def test_small_numbers(show: Show, title: str, top: str) -> None:
    lines = frame(THREE, View(show), (10, 40))
    assert [lines[0], lines[2]] == [title, top]


def test_the_dead_are_shown_only_if_asked_for() -> None:
    assert "3" not in frame(THREE, View(), (10, 24))[7]
    lines = frame(THREE, View(dead=True), (10, 24))
    assert [line[16:19].strip() for line in lines[2:6]] == ["D", "E", "A", "D"]
    assert lines[7] == "         1   2   3"


def test_the_scale_is_not_that_of_the_dead() -> None:
    assert frame(THREE, View(dead=True), (10, 24))[2].startswith("  1.00|")


def test_count() -> None:
    assert frame(THREE, View(count=True), (10, 60))[0] == "MOSIX load  2 nodes up, 9 CPUs"


def test_vertical_numbers() -> None:
    lines = frame([node(7), node(10), node(123)], View(numbering=Numbering.VERTICAL), (12, 40))
    assert [line for line in lines if line][-3:] == ["            1", "          1 2", "        7 0 3"]


@pytest.mark.parametrize(("count", "columns", "way"), [
    (18, 80, "1   2"), (19, 80, "1 2"), (36, 80, "1 2"), (37, 80, "1   2"),
])
def test_automatic_numbering(count: int, columns: int, way: str) -> None:
    """Vertical when that makes the difference between seeing all nodes or not."""
    assert any(line.strip().startswith(way) for line in frame(cluster(count), View(), (24, columns)))


def test_no_numbers_no_response_no_room() -> None:
    assert frame([], View(), (3, 60)) == ["no node has a node-number (userview.map)", "", ""]
    assert frame([node(1, "dead")], View(), (10, 60))[0] == "MOSIX load  no node responds"
    assert frame(THREE, View(), (5, 60))[0] == "window too small"
    assert frame(THREE, View(), (10, 60), "mosd is away")[0] == "mosd is away"


@given(nodes_of, views, sizes)
def test_frames_fit(nodes: list[Node], view: View, size: tuple[int, int]) -> None:
    lines = frame(nodes, view, size)
    assert len(lines) == size[0]
    assert all(len(line) <= size[1] and line.isprintable() for line in lines)


@given(nodes_of, views, sizes, st.sampled_from([*KEYS, "x", "?"]))
def test_keys_never_scroll_past_the_ends(nodes: list[Node], view: View, size: tuple[int, int], key: str) -> None:
    after = press(view, key, nodes, size)
    if key == "q":
        assert after is None
        return
    assert after is not None
    if not view.help and key not in ("s", "m", "f", "c", "g", "l"):
        seen = shown(nodes, after)
        assert 0 <= after.first <= max(0, len(seen) - fitting(seen, after, size))


def keys(view: View, typed: list[str], nodes: list[Node], size: tuple[int, int] = (24, 80)) -> View:
    for key in typed:
        after = press(view, key, nodes, size)
        assert after is not None
        view = after
    return view


@pytest.mark.parametrize(("typed", "expected"), [
    (["v"], View(numbering=Numbering.VERTICAL)), (["V"], View(numbering=Numbering.TIGHT)),
    (["w"], View(numbering=Numbering.HORIZONTAL)), (["w", "a"], View()),
    (["s"], View(Show.SPEED)), (["m"], View(Show.MEMORY)), (["m", "m"], View(Show.SWAP)), (["m", "m", "m"], View(Show.MEMORY)),
    (["m", "f", "m"], View(Show.MEMORY)), (["f"], View(Show.FROZEN)), (["c"], View(Show.CORES)), (["g"], View(Show.PAGING)),
    (["f", "l"], View()),
    (["d"], View(dead=True)), (["d", "D"], View()), (["t"], View(count=True)), (["t", "t"], View()),
    (["h"], View(help=True)), (["h", "m"], View()), ([RIGHT], View()), (["n"], View()), (["z"], View()),
])
def test_keys(typed: list[str], expected: View) -> None:
    assert keys(View(), typed, THREE) == expected


def test_a_big_map_is_scrolled_through() -> None:
    many = cluster(10000, load=100)
    page = fitting(many, View(), (24, 80))
    assert page == (80 - SCALE) // 6
    assert keys(View(), [RIGHT, RIGHT, LEFT], many).first == 1
    assert keys(View(), ["n", "n", "p"], many).first == page
    assert keys(View(first=10000 - 2 * page), ["n", "n", RIGHT], many).first == 10000 - page
    assert keys(View(), [LEFT, "p"], many).first == 0
    assert frame(many, keys(View(), ["n"], many), (24, 80))[0] == f"MOSIX load  {page + 1}-{2 * page} of 10000"
    tight = keys(View(), ["V"], many)
    assert fitting(many, tight, (24, 80)) == 80 - SCALE


def test_two_hundred_nodes_can_all_be_seen_at_80_by_24() -> None:
    many, size = cluster(200, load=100), (24, 80)
    view, seen = View(), []
    while True:
        at = [line for line in frame(many, view, size) if line][-1]
        seen += [int(word) for word in at.split() if int(word) not in seen]
        after = press(view, "n", many, size)
        if after == view or after is None:
            break
        view = after
    assert seen == list(range(1, 201))


def test_help_names_every_key() -> None:
    text = "\n".join(frame(THREE, View(help=True), (24, 80)))
    assert all(f"  {key} " in text for key in KEYS)


@given(st.sampled_from(Show), st.floats(0, 1e9))
def test_the_scale_reaches_the_highest(show: Show, most: float) -> None:
    step = quarter(show.value, most)
    assert step * QUARTERS >= most * (1 - 1e-9)
    assert float(f"{step:.{show.value.digits}f}") == pytest.approx(step)


@given(st.floats(0, 1e6), st.floats(1e-3, 1e6), st.integers(1, 100))
def test_bars(value: float, top: float, rows: int) -> None:
    high = height(value, top, rows)
    assert 0 <= high <= rows and (high == 0) == (value == 0)


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(("argv", "expected"), [
    ([], View()), (["-w"], View(numbering=Numbering.HORIZONTAL)), (["-v"], View(numbering=Numbering.VERTICAL)),
    (["-V"], View(numbering=Numbering.TIGHT)), (["-t"], View(count=True)), (["-d"], View(dead=True)),
    (["-s"], View(Show.SPEED)), (["-m"], View(Show.MEMORY)), (["-m", "-m"], View(Show.SWAP)), (["-mm"], View(Show.SWAP)),
    (["-f"], View(Show.FROZEN)), (["-c"], View(Show.CORES)), (["--paging"], View(Show.PAGING)), (["-l"], View()),
    (["-dtv"], View(Show.LOAD, Numbering.VERTICAL, True, True)),
])
def test_options(argv: list[str], expected: View) -> None:
    assert first_view(MOSMON.parse(argv)) == expected


def test_two_subjects_are_too_many() -> None:
    with pytest.raises(UsageError):
        first_view(MOSMON.parse(["-s", "-m"]))


FILE = json.dumps({
    "fields": ["number", "ip", "status", "load", "speed", "ncpus", "mem_free", "mem_total", "swap_free", "swap_total", "frozen",
               "paging", "guests", "news"],
    "nodes": [[1, "10.0.0.1", "alive", 5, 10000, 2, 1, 2, 3, 4, 0, 7, 6, "x"], [2, "10.0.0.2", "unknown", *[None] * 11]],
})


def test_the_file_is_read_by_the_names_of_its_fields() -> None:
    assert mosmon.read_nodes(FILE) == [
        Node(1, "10.0.0.1", "alive", 5, 10000, 2, 1, 2, 3, 4, 0, 7, 6), Node(2, "10.0.0.2", "unknown"),
    ]


def test_json_keeps_what_is_not_known() -> None:
    first, second = json.loads(mosmon.as_json(FILE))
    assert (first["load"], second["load"], second["status"]) == (5, None, "unknown")


@pytest.mark.parametrize(("kind", "why"), [
    ("dumb", "it is one that only prints"), ("no-such-terminal", "setupterm: could not find terminal"),
])
def test_a_terminal_that_cannot_be_used_is_one_line(tmp_path: Path, kind: str, why: str) -> None:
    node = tmp_path / "run/mosix/node"
    node.mkdir(parents=True)
    (node / "cluster").write_text(FILE)
    code = "import sys; from mosfs.tools.mosmon import main; sys.exit(main([]))"
    child = pexpect.spawn(sys.executable, ["-c", code], env={**os.environ, "MOSIX_ROOT": str(tmp_path), "TERM": kind}, timeout=30)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.before, child.exitstatus) == (f"mosmon: the terminal cannot be used ({why})\r\n".encode(), 1)
