"""mos_checkconf(1): every wrong line of every file is told, and what is told is what mosd would refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mosfs.cluster.check import CHECKS, MOST_FAULTS, faults, file_faults, without_line
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import load, read_partners
from mosfs.cluster.paths import NodePaths
from mosfs.tools.mos_checkconf import main

GOOD = {
    "mosix.map": "# ours\n10.0.0.1 4 p\n10.0.1.1 2\n172.16.0.1=10.0.0.2\n172.16.0.9=10.9.0.1\n",
    "userview.map": "1 10.0.0.1 4\n5 10.0.1.1 2\n",
    "secret": "correct horse battery\n",
    "speed": "12000\n",
    "mosip": "10.0.0.2\n",
    "private.conf": "OC /private 100\nG /others\n",
    "guestuids": "60000 100\n",
    "cpu": "x86-64-v2\n",
    "maxguests": "5\n",
    "retainpri": "60\n",
    "mosrun.conf": "best forced\nunsupported -w\nthreads refused\nmemory mandatory\nprograms 20\nstarts 500\nusers root @0\n"
    "confined 1000\n",
    "freeze.conf": "1 1 6 4\n/freeze 2\nU 99\n",
    "partners/physics": "the physicists\n50 1 1\n10.9.0.1 8 1 1 0\n",
    "partners/.physics.swp": "\0not read",
}


def write(root: Path, **changed: str | None) -> NodePaths:
    """A node whose files are right but for those ``changed``, by name with "_" for "/" and "."; None: not there."""
    for name, text in GOOD.items():
        text = changed.get(name.replace("/", "_").replace(".", "_"), text)
        file = root / "etc/mosix" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            file.write_text(text)
            file.chmod(0o600 if name == "secret" else 0o644)
    return NodePaths(str(root))


def lines(found: list[ConfigError], root: Path) -> list[tuple[str, int | None]]:
    return [(os.path.relpath(each.file, root / "etc/mosix"), each.line) for each in found]


def nobody(name: str) -> int | None:
    return None


def test_what_is_right(tmp_path: Path) -> None:
    paths = write(tmp_path)
    assert faults(paths, nobody) == [] == faults(paths, nobody, None)
    load(paths, nobody)


@pytest.mark.parametrize(("file", "text", "wrong"), [
    ("mosix.map", "10.0.0.1 0\n10.0.0.2 4\nfoo\n10.0.0.4 1\n", [1, 3, 4]),
    ("mosix.map", "here 1\n10.0.0.2\n", [1, 2]),
    ("mosix.map", "", [None]),
    ("mosix.map", "10.0.0.1 4\n172.16.0.1=10.5.5.5\n172.16.0.2=10.5.5.6\n", [2, 3]),
    ("mosix.map", "10.0.0.1 4\n" * 3, [2, 3]),
    ("userview.map", "0 10.0.0.1 1\n1 10.0.0.1 2\n# x\n2 10.0.0.9 1\n", [1, 4]),
    ("secret", "short\n", [1]),
    ("speed", "fast\n", [1]),
    ("mosip", "10.7.7.7\n", [1]),
    ("mosip", "none\n", [1]),
    ("private.conf", "O private\nX /private\nO /a\nO /b\n", [1, 2, 4]),
    ("guestuids", "0\n", [1]),
    ("cpu", "z80\n", [1]),
    ("maxguests", "-1\n", [1]),
    ("retainpri", "1 2\n", [1]),
    ("mosrun.conf", "best\nbest no\n\nprograms -1\nprograms 1 2\nusers\nusers a:b\nusers ann\nmemory 5\n", [1, 2, 4, 5, 6, 7, 9]),
    ("freeze.conf", "1 1 4 6\n2 x\nU nobody\n/freeze x\n", [1, 2, 3, 4]),
    ("partners/physics", "\nmany\n10.9.0.1 8 1 1 0\n10.9.1.1 x 1 1 0\n", [1, 2, 4]),
    ("partners/physics", "only\n50 1 1\n", [None]),
    ("partners/physics", "ours\n50 1 1\n10.0.0.4 8 1 1 0\n10.0.1.2 1 1 1 1\n10.9.0.1 8 1 1 0\n", [3, 4]),
])
def test_every_wrong_line_is_told(tmp_path: Path, file: str, text: str, wrong: list[int | None]) -> None:
    paths = write(tmp_path, **{file.replace("/", "_").replace(".", "_"): text})
    found = [line for where, line in lines(faults(paths, nobody), tmp_path) if where == file]
    assert found == wrong
    with pytest.raises(ConfigError):
        load(paths, nobody)


def test_all_files_are_told_at_once(tmp_path: Path) -> None:
    broken = {name.replace("/", "_").replace(".", "_"): "!\n" for name in CHECKS}
    found = lines(faults(write(tmp_path, **broken), nobody), tmp_path)
    assert sorted({where for where, _ in found}) == sorted(CHECKS)


@pytest.mark.parametrize("file", [*CHECKS, "partners/physics"])
def test_what_editors_of_other_systems_write_is_read(tmp_path: Path, file: str) -> None:
    """A mark before the first line, and two characters behind each."""
    paths = write(tmp_path)
    path = Path(paths.etc) / file
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert faults(paths, nobody) == []
    assert read_partners(paths)["physics"].description == "the physicists"


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("nowhere"), os.mkfifo], ids=["dangling", "fifo"])
def test_a_partner_without_a_file_is_told(tmp_path: Path, make: Callable[[Path], None]) -> None:
    paths = write(tmp_path)
    make(Path(paths.etc) / "partners/geo")
    with pytest.raises(ConfigError, match="partners/geo"):
        read_partners(paths)


@pytest.mark.parametrize("file", [*CHECKS, "partners/physics"])
def test_what_has_a_nul_is_no_text(tmp_path: Path, file: str) -> None:
    """Nor is a path, or a name, which might be made of it."""
    paths = write(tmp_path)
    path = Path(paths.etc) / file
    path.write_bytes(path.read_bytes() + b"# \0\n")
    assert f"{path}: not a text file (UTF-8)" in map(str, faults(paths, nobody))
    with pytest.raises(ConfigError):
        load(paths, nobody)


@pytest.mark.parametrize("file", CHECKS)
def test_a_pipe_is_no_empty_file(tmp_path: Path, file: str) -> None:
    paths = write(tmp_path)
    path = Path(paths.etc) / file
    path.unlink()
    os.mkfifo(path)
    assert f"{path}: not a file" in map(str, faults(paths, nobody))


def test_a_node_in_two_partners(tmp_path: Path) -> None:
    paths = write(tmp_path)
    (tmp_path / "etc/mosix/partners/zoo").write_text("animals\n50 1 1\n10.9.0.8 2 1 1 0\n10.9.0.1 1 1 1 0\n10.8.0.1 1 1 1 0\n")
    assert lines(faults(paths, nobody), tmp_path) == [("partners/zoo", 3), ("partners/zoo", 4)]


def test_files_that_are_missing_or_no_files(tmp_path: Path) -> None:
    paths = write(tmp_path, mosix_map=None, secret=None, speed=None)
    os.mkfifo(paths.secret)
    os.mkfifo(paths.mosix_map)
    Path(paths.speed).mkdir()
    Path(paths.userview_map).write_bytes(b"\xff\xfe")
    found = faults(paths, nobody)
    assert {where for where, _ in lines(found, tmp_path)} == {"mosix.map", "secret", "speed", "userview.map"}
    Path(paths.mosix_map).unlink()
    assert "No such file" in str(faults(paths, nobody)[0])


def test_partners_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be checked is not said to be right."""
    paths = write(tmp_path)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: file != paths.partners and allowed(file, mode))
    assert [str(each) for each in faults(paths, nobody)][:1] == [f"{paths.partners}: Permission denied"]


def test_the_secret_is_for_its_owner_and_never_shown(tmp_path: Path) -> None:
    paths = write(tmp_path)
    Path(paths.secret).chmod(0o644)
    (only,) = faults(paths, nobody)
    assert "chmod 600" in str(only)
    Path(paths.secret).write_text("geheim\n")
    assert all("geheim" not in str(each) for each in faults(paths, nobody))


def test_a_root_image_needs_no_address_of_this_machine(tmp_path: Path) -> None:
    paths = write(tmp_path, mosip=None)
    assert lines(faults(paths, nobody, lambda: ["10.0.0.1"]), tmp_path) == []
    assert lines(faults(paths, nobody, lambda: ["10.0.0.1", "10.0.1.1"]), tmp_path) == [("mosip", None)]
    assert lines(faults(paths, nobody, list), tmp_path) == [("mosip", None)]
    assert faults(paths, nobody, None) == []


def test_a_file_full_of_nonsense_ends(tmp_path: Path) -> None:
    paths = write(tmp_path, mosix_map="nonsense\n" * 5000)
    assert len(faults(paths, nobody)) == MOST_FAULTS
    Path(paths.mosix_map).write_bytes(b"#" * (2 << 20))
    assert "longer than" in str(faults(paths, nobody)[0])


def test_lines_keep_their_numbers() -> None:
    assert without_line("a\nb\nc", 2) == "a\n#\nc"
    assert without_line("a\n# b\nc", 2) is None and without_line("a", 2) is None
    assert without_line("about\n\nx\n1", 3, partner=True) == "about\n\n50 1 1\n1"
    assert without_line("about\n1 1 1\nx", 3, partner=True) == "about\n1 1 1\n#"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = write(tmp_path)
    assert main(["--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    Path(paths.speed).write_text("1\n2\n")
    assert main(["--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{paths.speed}, line 1: '1\\n2': must hold one value, and nothing else\n"
    assert main(["--root", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"file": paths.speed, "line": 1, "value": "1\n2", "text": "must hold one value, and nothing else"}]


def test_the_command_with_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of a repository, without what belongs to it."""
    (tmp_path / "partners").mkdir()
    (tmp_path / "partners/zoo").write_text("animals\n50 1 2\n")
    (tmp_path / "mosix.map").write_text("10.0.0.1 4\n172.16.0.1=10.9.0.1\n")
    assert main([str(tmp_path / "mosix.map")]) == 0
    assert main([str(tmp_path / "mosix.map"), str(tmp_path / "partners/zoo")]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/partners/zoo, line 2: '2': not a number of 0-1\n"
    assert file_faults(str(tmp_path / "speed"))[0].text == "No such file or directory"
    for argv in (["notes.txt"], ["--root", str(tmp_path), "speed"], ["--root", str(tmp_path / "speed")]):
        assert main(argv) == 2
