"""mosconf(1): each menu by answers and through a pseudo-terminal; what mosd would refuse is never written."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pexpect
import pytest

from mosfs.cluster.check import faults
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import USUAL, parse_freezing
from mosfs.cluster.paths import NodePaths
from mosfs.tools import mosconf, mosconf_files
from mosfs.tools.mosconf_menus import MENUS, POLICIES, in_order
from mosfs.tools.mosconf_talk import Draft, Question, Talk, Wrong, without
from mosfs.tools.options import UserError

KEY = "correct horse battery\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image that mosd accepts."""
    etc = tmp_path / "etc/mosix"
    etc.mkdir(parents=True)
    (etc / "mosix.map").write_text("# ours\n10.0.0.1 4 p\n")
    (etc / "secret").write_text(KEY)
    (etc / "secret").chmod(0o600)
    return tmp_path


def files(root: Path) -> dict[str, str]:
    """All files of an image, by name."""
    etc = root / "etc/mosix"
    return {str(file.relative_to(etc)): file.read_text() for file in etc.rglob("*") if file.is_file()}


def run(root: Path, menu: str, *answers: str) -> int:
    (root / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    return mosconf.main(["--root", str(root), "--answers", str(root / "answers"), *menu.split()])


#: Menu, the answers, the files that change and their new texts.
RIGHT: list[tuple[str, Sequence[str], dict[str, str | None]]] = [
    ("nodes", ["10.0.1.1", "2", "", "y"], {"mosix.map": "# ours\n10.0.0.1 4 p\n10.0.1.1 2 p\n"}),
    ("nodes", ["+", "10.0.1.1", "2", "y", "172.16.0.1=10.0.0.2", "10.0.2.1", "", "", "", ""],
     {"mosix.map": "# ours\n10.0.0.1 4 p\n10.0.1.1 2\n172.16.0.1=10.0.0.2\n10.0.2.1 1 p\n"}),
    ("nodes", ["10.0.1.1", "2", "-1", "", "y"], {"mosix.map": "# ours\n10.0.1.1 2 p\n"}),
    ("numbers", ["", "y"], {"userview.map": "1 10.0.0.1 4\n"}),
    ("numbers", ["n", "7", "10.0.0.3", "2", "", "y"], {"userview.map": "7 10.0.0.3 2\n"}),
    ("speed", ["12000", ""], {"speed": "12000\n"}),
    ("mosrun", [*[""] * 8, "x86-64-v3", ""], {"cpu": "x86-64-v3\n"}),
    ("mosrun", ["default", "-e", "", "", "", "", "", "", "", "y"], {"mosrun.conf": "best default\nunsupported -e\n"}),
    ("mosrun", ["forced", "-w", "y", "y", "20", "500", "ann @staff", "bob", "", "y"], {
        "mosrun.conf": "best forced\nunsupported -w\nthreads refused\nmemory mandatory\nprograms 20\nstarts 500\nusers ann @staff\n"
        "confined bob\n"}),
    ("misc", ["10.0.0.2", "60", "5", "60000 100", "OC /private 100", "", "y"], {
        "mosip": "10.0.0.2\n", "retainpri": "60\n", "maxguests": "5\n", "guestuids": "60000 100\n",
        "private.conf": "OC /private 100\n"}),
    ("freezing", ["y", *[""] * 9, "/fast", "2", "/slow", "0", "", "99", "y"],
     {"freeze.conf": f"{USUAL}\n/fast 2\n/slow 0\nU 99\n"}),
    ("freezing", ["y", "0", "8", "3.5", "-1", "-1", "0", "10", "5", "1000000", "", "", "y"],
     {"freeze.conf": "1 0 8.0 3.5 -1.0 -1.0 0 10 5 1000000\n"}),
    ("partners", ["physics", "the physicists", "n", "", "40", "10.9.0.1", "8", "", "10.8.0.1", "", "n", "", "", "y"],
     {"partners/physics": "the physicists\n40 0 1\n10.9.0.1 8 1 1 0\n10.8.0.1 1 1 1 1\n"}),
    ("", ["4", "9000", "6", *[""] * 9, "4", "-", "4", "9500", "", "y"], {"speed": "9500\n"}),
]


@pytest.mark.parametrize(("menu", "answers", "then"), RIGHT)
def test_a_menu_by_answers(root: Path, menu: str, answers: Sequence[str], then: dict[str, str]) -> None:
    before = files(root)
    assert run(root, menu, *answers) == 0
    now = files(root)
    now.pop("answers", None)
    for name, text in then.items():
        assert now.pop(name) == text
        if name in before:
            assert now.pop(f"{name}.old") == before.pop(name)
    assert now == before, "nothing else changes, and nothing is left"
    assert faults(NodePaths(str(root)), local=None) == []


def test_the_manual_s_freezing_policy(root: Path) -> None:
    assert run(root, "freezing", "y", *[""] * 9, "", "", "y") == 0
    assert files(root)["freeze.conf"] == "1 1 6.0 4.0 0.0 -1.0 1 -1 20 0\n"


def test_numbers_of_any_size_are_written_as_they_are_read(root: Path) -> None:
    """Python would write them with an exponent, which is none of the file's, nor an answer."""
    assert run(root, "freezing", "y", "1", "1000000", "0.00001", *[""] * 6, "/big", "1000000", "", "", "y") == 0
    before = files(root)["freeze.conf"]
    assert before == "1 1 1000000.0 0.00001 0.0 -1.0 1 -1 20 0\n/big 1000000\n"
    assert run(root, "freezing", "y", *[""] * 9, "", "") == 0
    assert files(root)["freeze.conf"] == before


#: Menu, answers that do not fit or make what mosd would refuse, and what is said.
BAD: list[tuple[str, Sequence[str], str]] = [
    ("nodes", ["10.0.0.4", "1"], "overlaps"),
    ("nodes", ["10.0.1.1", "0"], "not a number"),
    ("nodes", ["0.0.1.1", "1"], "not allowed"),
    ("nodes", ["+", "172.16.0.1=10.5.0.1", ""], "is not a node"),
    ("nodes", ["-2"], "no such line"),
    ("nodes", ["a"], "by mos_autoconf"),
    ("nodes", ["-1", ""], "mosd would refuse"),
    ("numbers", ["n", "0", "10.0.0.1", "1"], "not a number"),
    ("numbers", ["maybe"], "y or n"),
    ("key", ["y", "n", "short"], "too short"),
    ("key", ["y", "n", "long enough", "long enouph"], "not the same"),
    ("speed", ["fast"], "not a number"),
    ("mosrun", [*[""] * 8, "z80"], "must be one of"),
    ("mosrun", ["always"], "one of none default forced"),
    ("mosrun", ["", "-u"], "one of none -e -w --stay-home"),
    ("mosrun", ["", "", "", "", "many"], "not a number"),
    ("mosrun", ["", "", "", "", "", "", "a:b"], "neither a user nor @GROUP"),
    ("misc", ["here"], "not an IP address"),
    ("misc", ["10.0.7.7", "", "", "", ""], "mosd would refuse"),
    ("misc", ["", "", "", "", "X /private"], "not letters"),
    ("freezing", ["y", "1", "4", "6", *[""] * 6], "below the red one"),
    ("freezing", ["y", "2"], "not a number"),
    ("freezing", ["n", "freeze", "1"], "a line begins with"),
    ("freezing", ["n", "1", "1"], "a policy has"),
    ("partners", ["../map"], "a name is"),
    ("partners", ["-zoo"], "no such partner"),
    ("partners", ["zoo", "animals\x1b[2J"], "can be printed"),
    ("partners", ["zoo", "", "", "", "70000"], "not a number"),
    ("partners", ["zoo", "", "", "", "", "10.0.0.4", "1", "", "", ""], "overlaps our own cluster"),
    ("partners", ["zoo", "", "", "", "", "", ""], "no nodes"),
    ("", ["9"], "a number of 1-8"),
    ("", ["4", "5"], "no more answers"),
    ("speed", ["5", "n"], "nothing was written"),
]


@pytest.mark.parametrize(("menu", "answers", "said"), BAD)
def test_what_does_not_fit_is_told_and_nothing_is_written(
    root: Path, menu: str, answers: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(root)
    assert run(root, menu, *answers) == 1
    assert said in capsys.readouterr().err
    assert files(root) == before and sorted(os.listdir(root / "etc/mosix")) == sorted(before)


def test_a_key_is_strong_private_and_never_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, old = root / "etc/mosix/secret", root / "etc/mosix/secret.old"
    secret.chmod(0o644)
    assert run(root, "key", "y", "y", "y") == 0
    made = secret.read_text()
    assert len(made) > 40 and old.read_text() == KEY
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert run(root, "key", "y", "n", "typed by hand", "typed by hand", "y") == 0
    assert secret.read_text() == "typed by hand\n" and old.read_text() == made
    assert stat.S_IMODE(secret.stat().st_mode) == stat.S_IMODE(old.stat().st_mode) == 0o600
    out = "".join(capsys.readouterr())
    assert made.strip() not in out and "typed by hand" not in out


def test_an_empty_image_is_configured_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there yet is told, and does not keep the other steps from being made."""
    assert run(tmp_path, "nodes", "10.0.0.1", "3", "", "y") == 0
    assert "secret" in capsys.readouterr().out
    assert run(tmp_path, "key", "y", "y") == 0
    assert "secret" not in capsys.readouterr().err
    assert run(tmp_path, "numbers", "y", "y") == 0
    assert faults(NodePaths(str(tmp_path)), local=None) == []


def test_the_first_question_takes_an_image(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "answers").write_text(f"{root}\n4\n7\n\ny\n")
    assert mosconf.main(["--answers", str(root / "answers")]) == 0
    assert files(root)["speed"] == "7\n"
    (root / "answers").write_text("/no/such\n")
    assert mosconf.main(["--answers", str(root / "answers")]) == 1


def test_priority_0_is_not_recommended(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "partners", "zoo", "", "", "", "0", "10.9.0.1", "8", "", "", "", "y") == 0
    assert "they make way for nobody" in capsys.readouterr().out


class Running:
    """A tree whose mosd answers."""

    def __init__(self, paths: NodePaths) -> None: ...

    def fact(self, name: str) -> str:
        return "1"


def test_a_mosd_that_runs_reads_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(mosconf, "Tree", Running)
    monkeypatch.setattr(mosconf, "configure", lambda tree, mapfile, wait: told.append(mapfile))
    mosconf.tell(NodePaths(str(root)), {"speed": "5\n"}, image=False)
    assert told == [mosconf.SAME_MAP]


@pytest.mark.parametrize("name", ["mosix.map", "mosip", "speed"])
def test_an_image_is_for_others_to_read(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mosconf.tell(NodePaths(str(root)), {name: None}, image=True)
    assert (mosconf.EVERYWHERE in capsys.readouterr().out) == (name != "speed")


def test_a_mosd_that_cannot_take_it_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def configure(*_: object, **__: object) -> None:
        raise UserError("our address cannot change")

    monkeypatch.setattr(mosconf, "Tree", Running)
    monkeypatch.setattr(mosconf, "configure", configure)
    with pytest.raises(UserError, match=r"is written.*cannot change"):
        mosconf.tell(NodePaths(str(root)), {"mosip": "10.0.0.2\n"}, image=False)


def test_a_partner_is_changed_and_deleted(root: Path) -> None:
    assert run(root, "partners", "zoo", "animals", "", "", "", "10.9.0.1", "8", "", "", "", "y") == 0
    assert run(root, "partners", "zoo", "", "", "n", "60", "", "", "y") == 0
    assert files(root)["partners/zoo"] == "animals\n60 1 0\n10.9.0.1 8 1 1 0\n"
    assert files(root)["partners/zoo~"] == "animals\n50 1 1\n10.9.0.1 8 1 1 0\n"
    assert run(root, "partners", "-zoo", "", "y") == 0
    assert "partners/zoo" not in files(root)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_disk_that_fails_leaves_what_was_there(root: Path, failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(root)
    written = mosconf_files.put
    left = [failing]

    def put(verb: str, path: str, text: str, private: bool = False) -> None:
        if verb == "mosconf":
            left[0] -= 1
            if left[0] < 0:
                raise UserError("No space left on device")
        written(verb, path, text, private)

    monkeypatch.setattr(mosconf_files, "put", put)
    with pytest.raises(UserError):
        mosconf_files.apply(NodePaths(str(root)), {"mosix.map": "10.0.0.1 1\n", "speed": "5\n"})
    assert files(root) == before


def test_a_file_that_is_none_ends_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A FIFO keeps nobody waiting, and is wrong as a folder is."""
    speed = root / "etc/mosix/speed"
    os.mkfifo(speed)
    assert run(root, "mosrun", *[""] * 8, "native") == 1
    assert f"{speed}: not a file" in capsys.readouterr().err
    speed.unlink()
    speed.mkdir()
    assert run(root, "mosrun", *[""] * 8, "x86-64-v2", "y") == 1
    assert f"{speed}: Is a directory" in capsys.readouterr().err
    speed.rmdir()
    (root / "bare/etc").mkdir(parents=True)
    (root / "bare/etc/mosix").write_text("no folder")
    (root / "answers").write_text("5\ny\n")
    assert mosconf.main(["--root", str(root / "bare"), "--answers", str(root / "answers"), "speed"]) == 1
    assert "etc/mosix: File exists" in capsys.readouterr().err


def test_wrong_command_lines(root: Path) -> None:
    assert mosconf.main(["colours"]) == 2
    assert mosconf.main(["nodes", "key"]) == 2
    assert mosconf.main(["--root", str(root / "none"), "nodes"]) == 1
    assert mosconf.main(["--root", str(root), "--answers", str(root / "none"), "nodes"]) == 1


def test_deleting_lines_keeps_comments() -> None:
    lines = ["# a", "1", "", "2"]
    assert without(lines, "-2") == ["# a", "1", ""]
    assert without(lines, "-3") is without(lines, "-0") is without(lines, "-x") is without(lines, "-²") is None


def test_numbers_follow_the_map() -> None:
    assert in_order("10.0.0.1 4\n1.2.3.4=10.0.0.1\n10.0.9.1 2 p\n") == "1 10.0.0.1 4\n5 10.0.9.1 2\n"
    with pytest.raises(ConfigError):
        in_order("10.0.0.1 65536\n")


def test_every_usual_value_is_valid() -> None:
    for _, _, usual, check in POLICIES:
        assert usual == "none" or check(usual) is not None
    assert parse_freezing(f"{USUAL}\n").policy == USUAL


def answered(talk: Talk[None], answer: Callable[[str], str]) -> list[str]:
    """The questions of a dialogue, each answered by its text; no answer is wrong twice."""
    asked, said = [], next(talk)
    try:
        while len(asked) < 100:
            if isinstance(said, Question):
                asked.append(said.text)
            assert not isinstance(said, Wrong)
            said = talk.send(answer(asked[-1]) if asked else "")
    except StopIteration:
        pass
    return asked


@pytest.mark.parametrize("menu", [menu for menu in MENUS if menu != "key"])
def test_enter_changes_nothing(menu: str) -> None:
    """Of files that are there, whatever is asked about them."""
    texts = {
        "mosix.map": "# us\n10.0.0.1 2\n", "userview.map": "1 10.0.0.1 2\n", "speed": "10000\n", "cpu": "native\n",
        "maxguests": "5 3\n",
        "freeze.conf": "# little\n1 0 6 4\n/x 1\n", "private.conf": "# p\nO /private\n",
        "partners/zoo": "zoo\n50 1 1 1\n# x\n10.9.0.1 1 1 1 0\n",
    }
    draft = Draft(texts, True, lambda name: None)
    replies = iter(["zoo"])
    talk = MENUS[menu][1](draft)
    assert answered(talk, lambda text: next(replies, "") if text.startswith("Name of a partner") else "")
    assert draft.changes() == {}


def on_terminal(*argv: str) -> pexpect.spawn:
    words = ["-m", "mosfs.tools.mosconf", *argv]
    child = pexpect.spawn(sys.executable, words, cwd=Path(__file__).parent.parent, encoding="utf-8", timeout=60)
    child.delaybeforesend = None
    return child


def test_a_terminal(root: Path) -> None:
    """All menus in one session: mistakes may be mended, keys are not echoed, and refused files lead back to the menu."""
    child = on_terminal()
    seen = []

    def reply(question: str, answer: str) -> None:
        child.expect_exact(question)
        seen.append(child.before)
        child.sendline(answer)

    def choose(number: int, *talk: tuple[str, str]) -> None:
        reply("What to configure", str(number))
        for question, answer in talk:
            reply(question, answer)

    reply("Press Enter", str(root))
    choose(1, ("First address", "10.0.0.4"), ("How many", "1"), ("** '10.0.0.4 1 p': overlaps", ""))
    choose(2, ("another one [y/N]", "y"), ("random key", "n"), ("Key,", "typed by hand"), ("same again", "typed by hand"))
    choose(3, ("Number all", ""))
    choose(4, ("Speed", "0"), ("** not a number", "11000"))
    choose(5, ("automatically", ""), ("A directory", "/freeze"), ("Probability", ""), ("A directory", ""), ("User-ID", ""))
    choose(6, ("best node", "forced"), ("Unsupported", "-x"), ("** one of none -e -w", "-w"), ("Refuse threads", ""),
           ("memory", "y"), ("that run", "20"), ("in a day", ""), ("may use mosrun", "@root"), ("stay in this", ""),
           ("started for", "x86-64-v2"))
    choose(7, ("MOSIX address", "10.0.7.7"), ("Seconds", ""), ("Most guests", ""), ("Users", ""), ("Letters", ""))
    choose(8, ("Name of", "zoo"), ("Description", ""), ("go there", ""), ("come here", ""), ("Priority", ""),
           ("First address", "10.9.0.1"), ("How many", ""), ("Is this node distant [Y/n]?", ""), ("First address", ""),
           ("Name of", ""))
    reply("What to configure", "")
    reply("mosd would refuse this", "7")
    for question, answer in (
            ("MOSIX address", "-"), ("Seconds", ""), ("Most", ""), ("Users", ""), ("Letters", ""), ("What to", "")):
        reply(question, answer)
    reply("Write this", "y")
    child.expect(pexpect.EOF)
    seen.append(child.before)
    child.close()
    assert child.exitstatus == 0
    assert "typed by hand" not in "".join(seen)
    assert faults(NodePaths(str(root)), local=None) == []
    now = files(root)
    assert now["secret"] == "typed by hand\n" and now["speed"] == "11000\n" and now["partners/zoo"].endswith("10.9.0.1 1 1 1 0\n")
    assert "mosip" not in now
    assert now["mosrun.conf"] == "best forced\nunsupported -w\nmemory mandatory\nprograms 20\nusers @root\n"


#: What a terminal shows, and what is typed, for each way through the menus that `test_a_terminal` does not take.
OTHER_WAYS: dict[str, list[tuple[str, str]]] = {
    "nodes": [("A.B.C.D=HOST: an alias", "+"), ("is an alias of a node", "10.0.2.1"), ("How many", "2"),
              ("Are these nodes distant", "y"), ("First address", "172.16.0.1=10.0.1.2"), ("First address", "-9"),
              ("** there is no such line", "-1"), ("First address", "")],
    "key": [("another one [y/N]", "maybe"), ("** y or n", "y"), ("random key", "")],
    "numbers": [("Number all", "n"), ("First number", "7"), ("First address", "10.0.1.1"), ("How many", "2"),
                ("First number", "")],
    "freezing": [("automatically", "y"), ("standard load", "0"), ("Red-Mark", "8"), ("Blue-Mark", "9"), ("Home-Mark", ""),
                 ("Cluster-Mark", ""), ("to keep", ""), ("that run", "x"), ("** ", "10"), ("Minutes", "5"), ("Megabytes", ""),
                 ("** ", "0"), ("Red-Mark", "8"), ("Blue-Mark", "3"), ("Home-Mark", ""), ("Cluster-Mark", ""), ("to keep", ""),
                 ("that run", "10"), ("Minutes", "5"), ("Megabytes", ""), ("A directory", "x"), ("Probability", ""),
                 ("** ", "/fast"), ("Probability", "2"), ("A directory", ""), ("User-ID", "99")],
    "misc": [("MOSIX address", "none"), ("Seconds", "60"), ("Most guests", "5"), ("Users", "x"), ("** ", "60000 100"),
             ("Letters", "OC /private 100"), ("Letters", "Q /x"), ("** ", "")],
    "partners": [("Name of", "a/b"), ("** a name is", "zoo"), ("Description", "animals"), ("go there", "n"), ("come here", ""),
                 ("Priority", "0"), ("make way for nobody", "10.9.0.1"), ("How many", ""), ("distant", "n"), ("First address", ""),
                 ("Partner-clusters: zoo", "-dog"), ("** there is no such", "-zoo"), ("Partner-clusters: none", "zoo"),
                 ("Description", ""), ("go there", ""), ("come here", ""), ("Priority", "40"), ("First address", "10.9.0.1"),
                 ("How many", "3"), ("distant", ""), ("First address", ""), ("Name of", "")],
}
WRITTEN = {
    "mosix.map": "# ours\n10.0.1.1 2\n10.0.2.1 2\n172.16.0.1=10.0.1.2\n", "userview.map": "7 10.0.1.1 2\n",
    "freeze.conf": "1 0 8.0 3.0 0.0 -1.0 1 10 5 0\n/fast 2\nU 99\n", "retainpri": "60\n", "maxguests": "5\n",
    "guestuids": "60000 100\n", "private.conf": "OC /private 100\n", "partners/zoo": "zoo\n40 1 1\n10.9.0.1 3 1 1 0\n",
}


@pytest.mark.long
def test_a_terminal_on_other_ways(root: Path) -> None:
    """Each menu by its sub-command, with all that is asked behind other answers, and with mistakes that are mended."""
    (root / "etc/mosix/mosix.map").write_text("# ours\n10.0.0.1 4 p\n10.0.1.1 2\n")
    for menu, talk in OTHER_WAYS.items():
        child = on_terminal("--root", str(root), menu)
        for question, answer in [*talk, ("Write this", "")]:
            child.expect_exact(question)
            child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0, menu
    now = files(root)
    assert {name: now[name] for name in WRITTEN} == WRITTEN
    assert len(now["secret"]) == 45 and now["secret"] != KEY
    assert faults(NodePaths(str(root)), local=None) == []


@pytest.mark.parametrize("end", ["\4", "\3"])
def test_a_session_that_ends_early_writes_nothing(root: Path, end: str) -> None:
    before = files(root)
    child = on_terminal("--root", str(root), "speed")
    child.expect_exact("Speed of the processor [10000]: ")
    child.sendline("5")
    child.expect_exact("Write this [Y/n]? ")
    child.send(end)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == ((1, None) if end == "\4" else (None, signal.SIGINT))
    assert files(root) == before


@pytest.mark.parametrize("end", ["\4", "\3"])
def test_a_key_that_is_not_typed_to_its_end(root: Path, end: str) -> None:
    before = files(root)
    child = on_terminal("--root", str(root), "key")
    for question, answer in (("another one", "y"), ("random key", "n")):
        child.expect_exact(question)
        child.sendline(answer)
    child.expect_exact("Key, at least 8 characters: ")
    child.send(end)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == ((1, None) if end == "\4" else (None, signal.SIGINT))
    assert files(root) == before


def test_this_node_without_mosd(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It must be known which node this is, and the files are for later."""
    monkeypatch.setenv("MOSIX_ROOT", str(root))
    (root / "answers").write_text("\n4\n5\n\ny\n")
    assert mosconf.main(["--answers", str(root / "answers")]) == 0, "what was wrong before does not keep it from being written"
    said = capsys.readouterr().out
    assert mosconf.NOT_YET in said and "etc/mosix/mosip: missing" in said and mosconf.LATER in said
    (root / "answers").write_text("10.0.0.2\n\n\n\n\ny\n")
    assert mosconf.main(["--answers", str(root / "answers"), "misc"]) == 0
    said = capsys.readouterr().out
    assert mosconf.NOT_YET not in said and mosconf.LATER in said
