"""What the administrator presets, forces and limits of mosrun (manual, 4.6 and 6.5)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.mosrun_conf import Rules, parse_rules, print_rules, resolved, system_accounts
from mosfs.daemon.launch import BEST, Refused, Request, ruled
from mosfs.daemon.starts import Starts
from mosfs.wire.asked import Settings

ANN, BOB = 1000, 1001
TEXT = "best forced\nunsupported -w\nthreads refused\nmemory mandatory\nprograms 2\nstarts 3\nusers ann @staff\nconfined 1001\n"


def accounts(name: str) -> frozenset[int] | None:
    return {"ann": frozenset({ANN}), "@staff": frozenset({ANN, BOB}), "1001": frozenset({BOB})}.get(name)


def rules(text: str) -> Rules:
    return resolved(parse_rules(text), text, "mosrun.conf", accounts)


def asked(uid: int, text: str, request: Request, *, inside: bool = False) -> Request:
    return ruled(request, rules(text), uid, inside=inside)


def request(node: str = "", restart: int = -1, **settings: int) -> Request:
    return Request(False, replace(Settings(), **settings), node, restart=restart)


def test_what_is_printed_is_read_again() -> None:
    assert print_rules(parse_rules(TEXT)) == TEXT
    assert print_rules(Rules()) == "", "nothing is active when MOSIX is shipped"


def test_a_user_that_nobody_knows_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"mosrun\.conf, line 2: 'zoe': no such user"):
        rules("# x\nusers ann zoe\n")
    with pytest.raises(ConfigError, match="no such group"):
        rules("confined @zoo\n")


def test_accounts_of_this_machine() -> None:
    assert system_accounts("root") == {0} == system_accounts("0")
    assert system_accounts("123456") == {123456}, "a number needs no name"
    assert 0 in (system_accounts("@root") or ())
    assert system_accounts("no such user") is system_accounts("@no such group") is None


@pytest.mark.parametrize(("text", "node", "inside", "then"), [
    ("", "", False, ""),
    ("best default", "", False, BEST),
    ("best default", "home", False, "home"),
    ("best default", "7", False, "7"),
    ("best default", "", True, ""),
    ("best forced", "", False, BEST),
    ("best forced", "best", False, BEST),
    ("best forced", "", True, BEST),
])
def test_where_a_program_starts(text: str, node: str, inside: bool, then: str) -> None:
    assert asked(ANN, text, request(node), inside=inside).node == then


@pytest.mark.parametrize("node", ["home", "7", "10.0.0.1", "zoo"])
def test_where_a_program_may_not_start_when_the_best_node_is_forced(node: str) -> None:
    with pytest.raises(Refused, match="best node"):
        asked(ANN, "best forced", request(node))
    assert asked(0, "best forced", request(node)).node == node, "it is for ordinary users"


@pytest.mark.parametrize(("text", "given", "then"), [
    ("", -1, -1), ("unsupported -e", -1, 1), ("unsupported -w", -1, 2), ("unsupported --stay-home", -1, 3),
    ("unsupported -w", 0, 0), ("unsupported -e", 3, 3),
])
def test_unsupported_calls(text: str, given: int, then: int) -> None:
    assert asked(ANN, text, request(unsupported=given)).settings.unsupported == then
    assert asked(ANN, text, request(unsupported=given), inside=True).settings.unsupported == given, "it inherits"


@pytest.mark.parametrize(("text", "given", "then", "allowed"), [
    ("", -1, -1, True), ("", 0, 0, False), ("threads refused", -1, 0, False), ("threads refused", 1, 1, True),
])
def test_threads_that_are_refused(text: str, given: int, then: int, allowed: bool) -> None:
    settings = asked(ANN, text, request(threads=given)).settings
    assert (settings.threads, settings.allows_threads()) == (then, allowed)
    assert asked(ANN, text, request(threads=given), inside=True).settings.threads == given, "it inherits"
    assert asked(ANN, text, request(threads=given, restart=5)).settings.threads == given, "the file says it"


def test_memory_that_must_be_told() -> None:
    with pytest.raises(Refused, match="-m"):
        asked(ANN, "memory mandatory", request())
    assert asked(ANN, "memory mandatory", request(needmem=0)).settings.needmem == 0
    for who, inside, restart in ((0, False, -1), (ANN, True, -1), (ANN, False, 5)):
        asked(who, "memory mandatory", request(restart=restart), inside=inside)


def test_who_may_use_mosrun_and_whose_programs_stay_in_the_cluster() -> None:
    with pytest.raises(Refused, match="let you use"):
        asked(BOB, "users ann", request())
    for who, text in ((ANN, "users ann"), (BOB, "users @staff"), (0, "users ann")):
        assert not asked(who, text, request()).confined
    assert asked(BOB, "confined @staff", request()).confined
    assert not asked(0, "confined 1001", request()).confined
    assert asked(BOB, "users ann", Request(native=True)).native, "who leaves MOSIX does not use it"


def test_limits_of_a_user() -> None:
    alive = {7: 100, 8: 100, 9: 100}
    starts = Starts(lambda pid: alive.get(pid, 0))

    def start(pid: int, uid: int = ANN, day: str = "monday", running: int = 0) -> None:
        starts.admit(rules("programs 2\nstarts 3"), (pid, uid, 100), day, running, lambda pid: False)

    start(7)
    start(8)
    with pytest.raises(Refused, match="2 programs of yours run already"):
        start(9)
    start(9, BOB)
    del alive[7]
    start(9)
    alive.clear()
    with pytest.raises(Refused, match="2 programs of yours run"):
        start(9, running=2)
    with pytest.raises(Refused, match="3 programs today already"):
        start(9)
    start(9, day="tuesday")
    for pid in range(20, 30):
        start(pid, uid=0)


def test_a_start_counts_once_when_its_tracer_has_it() -> None:
    starts = Starts(lambda pid: 100)
    starts.admit(rules("programs 2"), (7, ANN, 100), "monday", 0, lambda pid: False)
    starts.admit(rules("programs 2"), (8, ANN, 100), "monday", 1, {7}.__contains__)
    assert starts.launchers.keys() == {8}
