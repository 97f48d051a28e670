"""mosmon --html: a page is a pure function of what was read; it stands alone, and whatever somebody chose is text in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.cluster.paths import NodePaths
from mosfs.tools import mosmon, mosmon_picture
from mosfs.tools.mosmon_draw import STEPS, colour, nice
from mosfs.tools.mosmon_page import MOST_CARDS, MOST_VISITS, curves_of, page, seconds, size, ways
from mosfs.tools.mosmon_picture import Picture, Shown, Visit
from mosfs.tools.mosmon_view import Node
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree

VOID = {"meta", "br"}
#: Elements of HTML that may be left open.
OPEN = {"th"}
EVIL = "<script>alert(1)</script>"


class Elements(HTMLParser):
    """``found``: each element with its attributes; ``said``: the texts. AssertionError where something is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in VOID | OPEN and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    def of(self, tag: str, look: str = "") -> list[dict[str, str | None]]:
        return [given for name, given in self.found if name == tag and look in (given.get("class") or "").split() + [""]]


def node(number: int, status: str = "alive", load: int = 100) -> Node:
    return Node(number, f"10.0.{number // 250}.{number % 250 + 1}", status, load, 10000, 4, 1000, 4000)


def picture(count: int, **more: Any) -> Picture:
    return Picture("10.0.0.2", "today", "1.0", [node(number) for number in range(1, count + 1)], **more)


def program(**more: Any) -> Shown:
    return Shown(**{"pid": 7, "user": "ann", "name": "prog", **more})


@pytest.mark.parametrize("count", [1, 2, 3, MOST_CARDS, MOST_CARDS + 1, 41, 300])
def test_every_node_is_in_the_ring_and_in_the_list(count: int) -> None:
    made = Elements(page(picture(count)))
    assert len(made.of("circle", "node")) + len(made.of("path", "bar")) == count == len(made.of("article"))
    assert len(made.of("div", "cards")) == (count <= MOST_CARDS)
    assert f"MOSIX cluster of {count} node{'s' * (count > 1)}" in made.said


def test_nothing_comes_from_elsewhere_and_nothing_is_a_script() -> None:
    text = page(picture(30, programs=[program()]))
    made = Elements(text)
    assert not {tag for tag, _ in made.found} & {"script", "link", "img", "iframe", "object", "a"}
    assert not {name for _, given in made.found for name in given} & {"src", "href"}
    assert not re.search(r"https?:|url\(|@import", text)
    policy = next(given["content"] for tag, given in made.found if given.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


EVERYWHERE: dict[str, Callable[[str], Picture]] = {
    "name": lambda word: picture(2, programs=[program(name=word)]),
    "command": lambda word: picture(2, programs=[program(command=word)]),
    "user": lambda word: picture(2, programs=[program(user=word)]),
    "why": lambda word: picture(2, programs=[program(why=word)]),
    "reason of a visit": lambda word: picture(2, programs=[program(path=[Visit(1.0, "10.0.0.3", word)])]),
    "guest": lambda word: picture(2, guests=[program(home="10.0.0.3", name=word)]),
    "reason of a guest": lambda word: picture(2, guests=[program(home="10.0.0.3", why=word)]),
    "partner": lambda word: picture(2, clusters={"10.0.0.3": word}),
    "decision": lambda word: picture(2, decisions=[word]),
}


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("word", [EVIL, '"><script>', "' onmouseover='x", "</title></style><script>", "&lt;script&gt;"])
def test_whatever_somebody_chose_is_text(where: str, word: str) -> None:
    made = Elements(page(EVERYWHERE[where](word)))
    plain = Elements(page(EVERYWHERE[where]("word")))
    assert [(tag, given.keys()) for tag, given in made.found] == [(tag, given.keys()) for tag, given in plain.found]
    assert any(word in text for text in (*made.said, *(value or "" for _, given in made.found for value in given.values())))


@settings(max_examples=30)
@given(st.text(max_size=30))
def test_any_name_is_one_text_without_controls(word: str) -> None:
    text = page(picture(1, programs=[program(name=word, command=word, why=word)], decisions=[word]))
    made = Elements(text)
    assert [(tag, given.keys()) for tag, given in made.found] == [
        (tag, given.keys()) for tag, given in Elements(page(picture(1, programs=[program()], decisions=["x"]))).found]
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_path_has_the_stops_and_when_they_were() -> None:
    path = [Visit(600.0, "10.0.0.3", "less load there"), Visit(60.0, "", ""), Visit(5.0, "10.0.0.4", "")]
    made = Elements(page(picture(3, programs=[program(where="10.0.0.4", moves=3, path=path)])))
    chips = made.of("em", "chip")
    assert [chip.get("title") for chip in chips] == [None, None, "10 min ago: less load there", "60 s ago", "5.0 s ago"]
    assert "3 moves, the last 5.0 s ago" in made.said and "somebody sent it there" in made.said


def test_a_long_path_shows_its_end() -> None:
    path = [Visit(1000.0 - at, "10.0.0.3" if at % 2 else "", "") for at in range(20)]
    made = Elements(page(picture(3, programs=[program(where="10.0.0.3", moves=50, path=path)])))
    assert f"{50 - MOST_VISITS} earlier …" in made.said


def test_ways_between_nodes() -> None:
    """Where programs are now counts each of them; where they were, each move, unless programs are there still."""
    programs = [
        program(where="10.0.0.3", path=[Visit(9, "10.0.0.4", ""), Visit(8, "10.0.0.3", "")]),
        program(where="10.0.0.3", path=[Visit(7, "10.0.0.3", "")]), program(),
    ]
    found = ways(picture(3, programs=programs, guests=[program(home="10.0.0.4"), program(home="10.9.9.9")]))
    assert {(way.start, way.end, way.programs, way.now) for way in found} == {
        (0, 1, 2, True), (2, 0, 1, True), (0, 2, 1, False), (2, 1, 1, False)}
    assert "2 programs of node 1 on node 2" in [way.told for way in found]


def test_curves_end_now_and_have_gaps() -> None:
    loads = {"10.0.0.2": [50, None, 200]}
    curves = curves_of(Picture("10.0.0.2", "", "", [node(1), node(2, "dead")], loads=loads, period=600.0))
    assert curves == {"10.0.0.2": [None, None, None, 0.5, None, 2.0, 1.0], "10.0.0.3": [None] * 7}


@given(st.lists(st.lists(st.none() | st.integers(0, 10**6), max_size=130), min_size=1, max_size=30), st.data())
@settings(max_examples=20, deadline=None)
def test_any_loads_make_a_page(loads: list[list[int | None]], data: st.DataObject) -> None:
    nodes = [node(at, data.draw(st.sampled_from(["alive", "blocked", "dead", "unknown"])), 10 * at) for at in range(len(loads))]
    made = page(Picture("10.0.0.1", "", "", nodes, loads={each.ip: curve for each, curve in zip(nodes, loads)}))
    Elements(made)
    assert "nan" not in made and "inf" not in made


def test_numbers() -> None:
    assert [size(number) for number in (0, 12, 2048, 200 << 10, 5 << 20)] == ["0 MB", "12 MB", "2.0 GB", "200 GB", "5.0 TB"]
    assert [seconds(number) for number in (0.04, 12, 99.9, 120, 7200, 864000)] == [
        "0.0 s", "12 s", "100 s", "2 min", "2.0 h", "10.0 d"]
    assert [colour(load) for load in (0, *STEPS, 99)] == ["q0", "q1", "q2", "q3", "q4", "q4"]
    assert [nice(most) for most in (0, 1, 1.1, 4, 9, 4000)] == [0.25, 0.25, 0.5, 1, 2.5, 1000]


# --------------------------------------------------------------------------- reading and writing


def made_tree(root: Path) -> Tree:
    """Files as mosd serves them; of a program and of a guest, and one program of somebody else."""
    paths = NodePaths(str(root))
    tree = Tree(paths)
    status = {"status": "alive", "cluster": "", "load": 100, "speed": 10000, "ncpus": 2, "mem_free": 1, "mem_total": 2}
    facts = {
        "uid": 0, "comm": EVIL, "where": "10.0.0.9", "state": "away", "frozen": "-", "nmigs": 1,
        "history": {"age": 1.5, "size_mb": 3},
        "path": [[2.5, "10.0.0.9", "less load"]],
    }
    guest = {"uid": 4711000, "comm": "theirs", "home": "10.0.0.9", "origpid": 5, "history": {}}
    files = {
        "node/ip": "10.0.0.2", "node/version": "1.0", "node/decisions": "one\ntwo",
        "node/loads": json.dumps({"period": 30.0, "nodes": {"10.0.0.2": [1, None]}}),
        "nodes/10.0.0.10/stat": json.dumps({"ip": "10.0.0.10", "number": None, **status, "cluster": "physics"}),
        "nodes/10.0.0.9/stat": json.dumps({"ip": "10.0.0.9", "number": 2, "status": "unknown", "cluster": ""}),
        "nodes/10.0.0.2/stat": json.dumps({"ip": "10.0.0.2", "number": 1, **status}),
        f"proc/{os.getpid()}/stat": json.dumps(facts), f"proc/{os.getpid()}/why": "less load",
        "guests/8/stat": json.dumps(guest), "guests/8/why": "",
    }
    for name, text in files.items():
        file = Path(tree.mount) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return tree


def test_what_is_read(tmp_path: Path) -> None:
    read = mosmon_picture.read(made_tree(tmp_path))
    assert [(each.number, each.ip, each.load) for each in read.nodes] == [
        (1, "10.0.0.2", 100), (2, "10.0.0.9", 0), (0, "10.0.0.10", 100)]
    assert (read.clusters, read.loads) == ({"10.0.0.10": "physics"}, {"10.0.0.2": [1, None]})
    assert (read.decisions, read.hidden) == (["one", "two"], 0)
    (one,), (guest,) = read.programs, read.guests
    assert (one.name, one.path, one.why, one.cpu) == (EVIL, [Visit(2.5, "10.0.0.9", "less load")], "less load", 1.5)
    assert (guest.pid, guest.user, guest.home, guest.cpu) == (5, "4711000", "10.0.0.9", None)
    assert [read.name(ip) for ip in ("", "10.0.0.9", "10.0.0.10")] == ["1", "2", "10.0.0.10"]


def test_what_others_hide_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = made_tree(tmp_path)
    read = Tree.read

    def refused(self: Tree, name: str) -> str:
        if name.startswith("proc/"):
            raise PermissionError
        return read(self, name)

    monkeypatch.setattr(Tree, "read", refused)
    seen = mosmon_picture.read(tree)
    assert (seen.programs, seen.hidden) == ([], 1)
    assert "1 more not shown" in page(seen)
    monkeypatch.setattr(Tree, "read", read)
    monkeypatch.setattr(mosmon_picture, "MOST_PROGRAMS", 0)
    assert mosmon_picture.read(tree).hidden == 2


def test_the_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    tree = made_tree(tmp_path)
    file = tmp_path / "page.html"
    file.write_text("old")
    file.chmod(0o640)
    mosmon.write_page(tree, str(file))
    assert file.stat().st_mode & 0o777 == 0o640
    assert Elements(file.read_text()).of("article")
    mosmon.write_page(tree, "-")
    assert capfd.readouterr().out.startswith("<!DOCTYPE html>")
    with pytest.raises(UserError, match=r"^/dev/full: No space left on device$"):
        mosmon.write_page(tree, "/dev/full")
    with pytest.raises(UserError, match="No such file or directory"):
        mosmon.write_page(tree, str(tmp_path / "none" / "page.html"))
    before = file.read_text()

    def full(old: str, new: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mosmon, "os", SimpleNamespace(
        path=os.path, getpid=os.getpid, unlink=os.unlink, fchmod=os.fchmod, stat=os.stat, replace=full))
    with pytest.raises(UserError, match="No space left"):
        mosmon.write_page(tree, str(file))
    assert file.read_text() == before and [each.name for each in tmp_path.glob("page*")] == ["page.html"]
