"""Every installed command alike: --help, --version, what is not in its synopsis, and its page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mosfs
from tests.t0_man import COMMANDS, MAN, explained, section

ROOT = Path(__file__).parent.parent
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
PAGES = {command.name: page for page, commands in COMMANDS.items() for command in commands}
#: What each sequence of a terminal begins with.
COLOUR = "\x1b"


def run(name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command on a computer without mosd, as its launcher calls it."""
    module, function = SCRIPTS[name].split(":")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {module} import {function}; sys.exit({function}())"
    environ = {**os.environ, "MOSIX_ROOT": "/nonexistent", "MOSLAB_ROOT": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-c", code, *argv], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=60)


def in_synopsis(page: str) -> set[str]:
    """The options that a page's SYNOPSIS has, letters in one word (FGL) by themselves."""
    names: set[str] = set()
    for line in section(page, "SYNOPSIS").splitlines():
        option = False
        for word in line.lstrip(".").split():
            if word in ("Fl", "Ar", "Cm"):
                option = word == "Fl"
            elif option and word[0] == "-" != word:
                names.add(f"-{word}")
            elif option and word.isalpha() and word not in ("Ns", "Op"):
                known = {name for command in COMMANDS[page] for name in command.by_name}
                names |= {f"-{word}"} if f"-{word}" in known else {f"-{letter}" for letter in word}
    return names


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str) -> None:
    """All that its page explains; the synopsis first."""
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{name} - ") and lines[2].startswith(f"  {name}") and COLOUR not in done.stdout
    command = next(command for command in COMMANDS[PAGES[name]] if command.name == name)
    listed = {word for line in lines for word in re.split(r"[ ,={[]+", line)}
    assert set(explained(PAGES[name])) & set(command.by_name) - {"-"} <= listed


@pytest.mark.parametrize("name", SCRIPTS)
def test_version(name: str) -> None:
    done = run(name, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} (mosfs) {mosfs.__version__}\n", "")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("option", ["--no-such-option", "-Q"])
def test_unknown_option(name: str, option: str) -> None:
    done = run(name, option)
    assert (done.returncode, done.stdout) == (2, "")
    *usage, last = done.stderr.splitlines()
    assert last == f"{name}: unknown option {option}" and usage[0].startswith(f"usage: {name}") and COLOUR not in done.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_has_a_page(name: str) -> None:
    names = section(PAGES[name], "NAME")
    assert re.search(rf"^\.Nm {name}\b", names, re.MULTILINE)


@pytest.mark.parametrize(("words", "said"), [
    ("mosd start now", "start: too much"),
    ("mosconf nosuch nodes", "nosuch: one of nodes key"),
    ("mosconf nodes key", "key: one of nodes key"),
    ("mosrun -I/etc/passwd true", "true: -I takes no program"),
])  # fmt: skip
def test_words_that_mean_nothing(words: str, said: str) -> None:
    """The first of them is named, and nothing is done."""
    name, *argv = words.split()
    done = run(name, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"{name}: {said}")


@pytest.mark.parametrize("page", COMMANDS)
def test_the_synopsis_of_the_page_is_that_of_the_help(page: str) -> None:
    """A page may sum options up ("options"); those that are announced are not in it."""
    commands = COMMANDS[page]
    rows = {name: row for command in commands for name, row in command.by_name.items()}
    assert in_synopsis(page) <= set(rows)
    told = {name for command in commands for name in re.findall(r"(?<![\w{-])--?[A-Za-z][\w-]*", command.synopsis)}
    if "Ar options\n" not in section(page, "SYNOPSIS"):
        assert {name for name in told if name in rows and not rows[name].later} <= in_synopsis(page)


@pytest.mark.skipif(shutil.which("python3", path="/usr/bin:/bin") is None, reason="needs the system's Python")
@pytest.mark.parametrize("way", ["source", "copy"])
def test_the_interface_with_the_systems_python(way: str, tmp_path: Path) -> None:
    """As mosix(7) says: PYTHONPATH is the source, or the one file is copied. Nothing of our environment is there."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    assert python and "PYTHONPATH" in (MAN / "mosix.7").read_text()
    environ, line = {"PATH": "/usr/bin:/bin"}, "from mosfs import api"
    if way == "source":
        environ["PYTHONPATH"] = str(ROOT)
    else:
        shutil.copy(ROOT / "mosfs/api.py", tmp_path)
        line = "import api"
    (tmp_path / "program.py").write_text(f"{line}\nprint(api.running(), api.HOME)\n")
    done = subprocess.run([python, "-B", "program.py"], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False 0\n", "")


def test_the_index_lists_every_document() -> None:
    index = (ROOT / "docs/index.md").read_text()
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".1", ".7", ".8")]
    assert [str(path) for path in documents if path.name != "index.md" and f"({path})" not in index] == []
