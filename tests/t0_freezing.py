"""Freezing without a kernel: freeze.conf, the choice of directories, and who preempts."""

from __future__ import annotations

import signal
import struct
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import USUAL, Directory, Freezing, Policy, order, parse_directories, parse_freezing, print_freezing
from mosfs.home.moves import preemption
from mosfs.home.process.program import Place

WHOLE = """# freezing
1 1 6.0 4.0 0.0 -1.0 1 -1 20 0

/tmp 2
/var/tmp 0.5
/mnt/tmp 2.5
/slow 0
/plain
U 65534
"""


def test_every_field_is_read() -> None:
    found = parse_freezing(WHOLE)
    assert found.policy == USUAL
    assert [(each.path, each.weight) for each in found.directories] == [
        ("/tmp", 2), ("/var/tmp", 0.5), ("/mnt/tmp", 2.5), ("/slow", 0), ("/plain", 1),
    ]
    assert found.uid == 65534


def test_omitted_fields_have_the_manuals_values() -> None:
    """mosix(7), note 4: minautofreeze=-1, minclusterfreeze=-1, min-keep=0, max-procs=-1, slice=20; no killing memory kills."""
    assert parse_freezing("1 0 6 4").policy == Policy(False, 6, 4, -1, -1, 0, -1, 20, 0)
    assert parse_freezing("1 0 6 4 0 4 0 -1 10").policy == Policy(False, 6, 4, 0, 4, 0, -1, 10, 0)


def test_without_a_policy_nothing_is_frozen() -> None:
    assert parse_freezing("/tmp\n") == Freezing(None, (Directory("/tmp"),), None)
    assert parse_freezing("") == Freezing()


@pytest.mark.parametrize("text", [
    WHOLE, "", "1 0 6 4\n", "1 1 -1 0 0.5 -1 2 30 5 1000000\n/a 0.25\n",
    "1 1 1000000 0.00001 123456789.1\n/a 1000000\n/b 0.00001\n",
])
def test_what_is_printed_is_read_again(text: str) -> None:
    found = parse_freezing(text)
    assert parse_freezing(print_freezing(found)) == found


@pytest.mark.parametrize(("text", "value"), [
    ("2 1 6 4", "2"), ("freeze", "freeze"), ("1 2 6 4", "2"), ("1 1 six 4", "six"), ("1 1 6", "1 1 6"), ("1 1 nan 4", "nan"),
    ("1 1 inf 4", "inf"), ("1 1 6 6", "6"), ("1 1 6 7", "7"), ("1 1 6 -1", "-1"), ("1 1 6 4 -2", "-2"), ("1 1 6 4 0 0 -1", "-1"),
    ("1 1 6 4 0 0 1.5", "1.5"), ("1 1 6 4 0 0 1 -2", "-2"), ("1 1 6 4 0 0 1 -1 0", "0"), ("1 1 6 4 0 0 1 -1 20 -1", "-1"),
    ("1 1 6 4 0 0 1 -1 20 0 1", "1 1 6 4 0 0 1 -1 20 0 1"), ("U", "U"), ("U root", "root"), ("U 1 2", "U 1 2"), ("U -1", "-1"),
    ("/tmp -1", "-1"), ("/tmp x", "x"), ("/tmp 1 2", "/tmp 1 2"), ("/tmp 1e3", "1e3"), ("1 1 6 4\n1 1 6 4", "1 1 6 4"),
    ("U 1\nU 2", "U 2"), ("\n".join(f"/d{n}" for n in range(11)), "/d10"),
])  # fmt: skip
def test_what_is_wrong_has_file_line_and_value(text: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_freezing(f"# a comment\n{text}\n", "/etc/mosix/freeze.conf")
    assert (caught.value.file, caught.value.value) == ("/etc/mosix/freeze.conf", value)
    assert caught.value.line == 1 + len(text.split("\n"))


def test_ten_directories_are_allowed() -> None:
    assert len(parse_freezing("".join(f"/d{n}\n" for n in range(10))).directories) == 10


def test_a_users_file_has_directories_only() -> None:
    assert parse_directories("/scratch 2\n/home/me\n", ".freeze_dirs") == (Directory("/scratch", 2), Directory("/home/me"))
    for text in ("1 1 6 4", "U 0", "scratch"):
        with pytest.raises(ConfigError):
            parse_directories(text, ".freeze_dirs")


def test_directories_are_chosen_by_weight() -> None:
    """The manual's example: of 10 programs 4 go to /tmp, 1 to /var/tmp and 5 to /mnt/tmp."""
    directories = parse_freezing(WHOLE).directories[:4]
    first = Counter(order(directories, number / 1000)[0].path for number in range(1000))
    assert first == {"/tmp": 400, "/var/tmp": 100, "/mnt/tmp": 500}


def test_all_others_are_tried_and_weight_0_is_the_last() -> None:
    directories = [Directory("/slow", 0), Directory("/a"), Directory("/b", 3)]
    for number in range(11):
        tried = [each.path for each in order(directories, number / 10)]
        assert tried[-1] == "/slow" and sorted(tried) == ["/a", "/b", "/slow"]
    assert [each.path for each in order([Directory("/slow", 0)], 0.5)] == ["/slow"]
    assert order([], 0.5) == []


# --------------------------------------------------------------------------- who stops a program


@pytest.mark.parametrize(("code", "uid", "name", "expected"), [
    (0, 0, "slurmstepd", True), (0, 1000, "slurmstepd", True), (0, 1001, "slurmstepd", False), (0, 0, "slurmstep", False),
    (-6, 0, "slurmstepd", False), (128, 0, "slurmstepd", False),
])
def test_only_a_package_of_root_or_of_ours_preempts(
    monkeypatch: pytest.MonkeyPatch, code: int, uid: int, name: str, expected: bool
) -> None:
    """A siginfo as the kernel makes it (sigaction(2)): of kill(2), and not of tkill(2) or the kernel itself."""
    monkeypatch.setattr(preemption, "comm_of", lambda pid: name if pid == 77 else "")
    info = struct.pack("<iii4xiI", signal.SIGSTOP, 0, code, 77, uid).ljust(128, b"\0")
    assert preemption.sent_by_package(info, 1000) is expected


def test_a_package_that_has_ended_preempts_nobody() -> None:
    info = struct.pack("<iii4xiI", signal.SIGSTOP, 0, 0, 1 << 22, 0).ljust(128, b"\0")
    assert not preemption.sent_by_package(info, 0)


def test_one_that_stands_for_a_move_is_waited_for_without_looking_all_the_time() -> None:
    """Its memory may take longer to be sent than a program may go on that was to stop."""
    p: Any = SimpleNamespace(pid=1, move=object(), place=Place.LEAVING, travel=SimpleNamespace(wanted=None))
    tree: Any = SimpleNamespace(containment=SimpleNamespace(of=lambda _: nullcontext()))
    waits = preemption.Preemption(tree)
    waits._held[1] = preemption._Held(p, signal.SIGSTOP, 100.0)
    waits.look(100.5)
    assert waits._held
    assert (waits.due() or 0) > 100.5
