"""Completion, in the shells themselves: our options, and what a program behind them has of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from mosfs.tools.moslab import VERBS
from mosfs.tools.options import Command
from tools.completions import ROWS, bash, zsh

ROOT = Path(__file__).parent.parent
BASH, ZSH = ROOT / "etc/completions/mosfs.bash", ROOT / "etc/completions/_mosfs"
LIBRARY = Path("/usr/share/bash-completion/bash_completion")
needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason="needs bash-completion")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two nodes, three programs; a folder of commands with one of its own completion."""
    for pid in (12, 123, 45):
        (tmp_path / f"run/mosix/proc/{pid}").mkdir(parents=True)
    (tmp_path / "etc/mosix").mkdir(parents=True)
    (tmp_path / "etc/mosix/userview.map").write_text("1 127.0.1.1 1\n2 127.0.1.2 1\n# 3 4 5\n")
    (tmp_path / "bin").mkdir()
    for name in ("unlikely-name", "unlikely-file"):
        (tmp_path / "bin" / name).touch(0o755 if name == "unlikely-name" else 0o644)
    (tmp_path / "data file").touch()
    return tmp_path


def environ(root: Path) -> dict[str, str]:
    return {"MOSIX_ROOT": str(root), "PATH": f"{os.environ['PATH']}:{root}/bin", "TERM": "dumb"}


def test_the_installed_completion_is_the_tables() -> None:
    assert BASH.read_text() == bash()
    assert ZSH.read_text() == zsh()


#: A completion of somebody else's, which says where it was called.
OTHERS = 'other() { COMPREPLY=("at-$COMP_CWORD-of-${#COMP_WORDS[@]}-$2"); }; complete -F other unlikely-name; '


def in_bash(root: Path, line: list[str], before: str = "") -> list[str]:
    """The answers for the last word of ``line``."""
    script = (
        f'{before} source "$0"; {OTHERS} COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}; '
        '"_$1"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script, str(BASH), *line], env=environ(root), cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("command", [row[0] for row in ROWS], ids=lambda command: command.name)
def test_every_option_in_bash(root: Path, command: Command) -> None:
    names = {name for row in command.table for name in row.names if len(name) > 1}
    assert set(in_bash(root, [command.name, "-"])) == names


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_moslab_in_bash(root: Path, verb: str) -> None:
    names = {name for row in VERBS[verb][0].table for name in row.names}
    assert set(in_bash(root, ["moslab", verb, "-"])) == names
    assert set(in_bash(root, ["moslab", "--root", "x", verb, "-"])) == names


PLACES = [
    (["mosrun", "--stay"], ["--stay-home"]),
    (["moslab", "st"], ["status", "storm"]),
    (["mosmigrate", "12"], ["12", "123"]),
    (["mosmigrate", "--no-wait", "12", ""], ["1", "2", "home"]),
    (["mosps", "4"], ["45"]),
    (["mosctl", "whois", ""], ["1", "2"]),
    (["mosd", "x"], [""]),
    (["mosrun", "unlikely"], ["unlikely-name"]),
    (["mosrun", "-bm", "4", "unlikely"], ["unlikely-name"]),
    (["mosrun", "-bm4", "-3", "--trace", "=", "x", "--", "unlikely"], ["unlikely-name"]),
    (["mosrun", "--trace", "=", "da"], ["data file"]),
    (["mosrun", "--trace", "="], ["bin", "data file", "etc", "run"]),
    (["mosrun", "-X", "da"], ["data file"]),
    (["mospipe", "unlikely"], ["unlikely-name"]),
    (["moslab", "storm", "--every", "1", "unlikely"], ["unlikely-name"]),
]
PROGRAMS = [
    ["mosrun", "-b"], ["mosrun", "-bm", "4", "-10.1.2.3"], ["mosenv", "--trace", "=", "f"], ["mosnative"], ["mosrun", "--"],
    ["moslab", "--root", "d", "run", "1"], ["moslab", "storm", "--seed", "a", "--"],
]


@pytest.mark.parametrize(("line", "expected"), PLACES, ids=lambda value: " ".join(value))
def test_places_in_bash(root: Path, line: list[str], expected: list[str]) -> None:
    assert sorted(in_bash(root, line)) == expected


@pytest.mark.parametrize("before", PROGRAMS, ids=" ".join)
@pytest.mark.parametrize("library", ["", pytest.param(f"source {LIBRARY};", marks=needs_library)], ids=["bare", "library"])
def test_a_program_has_its_own_completion_in_bash(root: Path, before: list[str], library: str) -> None:
    assert in_bash(root, [*before, "unlikely-name", "-a", "-b"], library) == ["at-2-of-3--b"]


@needs_library
def test_mosrun_within_moslab(root: Path) -> None:
    """Each hands on what is not its own."""
    line = ["moslab", "run", "1", "mosrun", "-b", "unlikely-name", "x"]
    assert in_bash(root, line, f"source {LIBRARY};") == ["at-1-of-2-x"]


def typed(shell: pexpect.spawn, line: str, expected: str) -> None:
    """Types a line with its tabs, and one that ends it; ``expected`` is what the shell then runs."""
    shell.send(f"{line}\r")
    shell.expect_exact(f"<{expected}>", timeout=60)
    shell.expect_exact("READY", timeout=60)


LINES = [
    ("mosrun --stay\t", "--stay-home"), ("mosrun -b unlikely-n\t--unu\t", "-b unlikely-name --unusual"),
    ("mosrun -3 unlikely-name --unu\t", "-3 unlikely-name --unusual"),
    ("mosrun -bm 4 unlikely-name --unu\t", "-bm 4 unlikely-name --unusual"),
    ("moslab up --spe\t", "up --speeds"), ("moslab sto\t--ev\t", "storm --every"), ("mosd --fore\t", "--foreground"),
    ("moslab run 1 unlikely-name --unu\t", "run 1 unlikely-name --unusual"), ("mosmigrate 4\tho\t", "45 home"),
    ("mosctl loc\t", "localstatus"),
]


@needs_zsh
def test_zsh_as_typed(root: Path) -> None:
    ready = "".join(f"{name}() {{ print -r -- \"<$*>\"; }}; " for name in ("mosrun", "moslab", "mosd", "mosmigrate", "mosctl"))
    setup = (
        f"fpath=({ZSH.parent} $fpath); autoload -Uz compinit; compinit -D -u; {ready}"
        "_other() { _arguments '--unusual[what no other has]' '*:file:_files'; }; compdef _other unlikely-name; "
        "PS1=; precmd() { print READ''Y; }"
    )
    shell = pexpect.spawn("zsh", ["-f", "-i"], env=environ(root), cwd=str(root), encoding="utf-8", dimensions=(24, 200), timeout=60)
    try:
        shell.sendline("stty -echo; unsetopt zle; print STAR''TED")
        shell.expect_exact("STARTED")
        shell.sendline(f"{setup}; setopt zle")
        shell.expect_exact("READY")
        for line, expected in LINES:
            typed(shell, line, expected)
    finally:
        shell.close(force=True)


@needs_zsh
def test_zsh_knows_every_command() -> None:
    names = {row[0].name for row in ROWS} | {"moslab"}
    assert set(ZSH.read_text().splitlines()[0].split()[1:]) == names
    subprocess.run(["zsh", "-n", str(ZSH)], check=True)


def test_bash_knows_every_command(root: Path) -> None:
    script = 'source "$0"; complete -p'
    done = subprocess.run(["bash", "-c", script, str(BASH)], env=environ(root), capture_output=True, text=True, check=True)
    names = {row[0].name for row in ROWS} | {"moslab"}
    assert {line.split()[-1] for line in done.stdout.splitlines()} == names
