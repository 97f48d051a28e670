"""What every test gets. The level of a file is in its name: t0 pure, t1 with fakes, ... t6 namespaces and long."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest
from hypothesis import settings

from mosfs.abi import cpu, levels

# Machines are noisy: an example that takes long once is not a failure. No data base: a test leaves nothing behind.
# `make test` tries the same examples each time, so that it says the same of the same code; MOSIX_TEST_RANDOM=1 tries new ones.
settings.register_profile("mosfs", deadline=None, database=None, derandomize="MOSIX_TEST_RANDOM" not in os.environ)
settings.load_profile("mosfs")


RT_SIGACTION = 13
#: The two that libc keeps to itself, so that Python cannot name them; an ignored one is inherited as any other (signal(7)).
HIDDEN = (32, 33)


def is_ignored(number: int) -> bool:
    """Whether this process ignores a signal, by the number of the call: see :data:`HIDDEN`."""
    action = (ctypes.c_ulong * 4)()  # handler, flags, restorer, mask: what the kernel, not libc, calls struct sigaction
    ctypes.CDLL(None).syscall(RT_SIGACTION, number, None, action, 8)
    return action[0] == signal.SIG_IGN


def set_default(number: int) -> None:
    ctypes.CDLL(None).syscall(RT_SIGACTION, number, (ctypes.c_ulong * 4)(signal.SIG_DFL), None, 8)


def default_signals() -> None:
    """Undo what this process has inherited: ``make test &``, nohup and services ignore signals, or block them, and so would every
    program that a test starts. SIGPIPE and SIGXFSZ are ignored by Python itself, which gives them back to its children."""
    for number in sorted(signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number in filter(is_ignored, HIDDEN):
        set_default(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def without_make() -> None:
    """Who runs `make test` runs us below it; a make that a test starts would take itself for a part of that, and say so."""
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
        os.environ.pop(name, None)


def without_choices() -> None:
    """Nothing tells libraries what processor they are on but ours (`mosrun --cpu`), which respects what is set. Some hosts of
    containers set OPENBLAS_CORETYPE for all that runs there."""
    for name in levels.preset(cpu.USER_FLAGS, cpu.USER_FLAGS):
        os.environ.pop(name, None)


def pytest_configure(config: pytest.Config) -> None:
    default_signals()
    without_make()
    without_choices()
    config.addinivalue_line("python_files", "t[0-9]_*.py")
    config.addinivalue_line("markers", "lint: ruff and mypy as tests; `make test` runs them by themselves first")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The run times of Debian programs, and how runs between two computers went, if any ran."""
    from tests.debian.compare import RATIOS
    from tests.machines.runs import shown

    for title, lines in (("run times of Debian programs, compared with native ones", RATIOS.lines()), shown()):
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)
