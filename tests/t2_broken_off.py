"""Calls that a stop breaks off, as their tracer sees them."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from mosfs.abi.flags import ERESTART_RESTARTBLOCK, ERESTARTNOINTR
from mosfs.abi.numbers import SYS_READ, SYS_RESTART_SYSCALL
from mosfs.home.moves.departure import Departure
from mosfs.home.process import registers
from mosfs.native.registers import Registers
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import NOTHING, Task, copy_regs, regs_bytes
from tests.cluster import wait_until

WAIT = 20.0  #: seconds until it must have come to its call
SYS_CLOCK_NANOSLEEP = 230


def until_it_waits(task: Task) -> Registers:
    """Stopped in a call that our stop breaks off."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        task.interrupt()
        assert decode(task.wait()).stop is Stop.TRAP
        if registers.in_call(regs := copy_regs(task.peek_regs())):
            return regs
        task.cont()
        time.sleep(0.01)
    raise AssertionError("it waits for nothing")


@pytest.mark.parametrize("left", [False, True], ids=["the kernel looks for signals again", "it is about to make it"])
@pytest.mark.parametrize(("command", "number"), [(["/bin/sleep", "100"], SYS_CLOCK_NANOSLEEP), (["/bin/cat"], SYS_READ)])
def test_a_call_that_is_made_again_is_told_as_broken_off(command: list[str], number: int, left: bool) -> None:
    """Some stops come when the kernel has put the registers before the call once more: what stands in rax is not its result (0
    would be the end of a file), and a sleep has not ended."""
    asleep, again = number != SYS_READ, SYS_RESTART_SYSCALL
    with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
        task = Task(program.pid)
        wait_until(lambda: Path(f"/proc/{program.pid}/comm").read_text() == f"{os.path.basename(command[0])}\n")
        try:
            task.seize()
            first = until_it_waits(task)
            p = SimpleNamespace(pid=program.pid, several=False, call=SimpleNamespace(sleep=None))
            Departure.note_sleep(Mock(), p, first)  # type: ignore[arg-type]
            noted = p.call.sleep
            assert first.orig_rax == number and (noted is not None) == asleep
            there = copy_regs(first)
            there.rip, there.rax, there.orig_rax = first.rip - 2, again if asleep else number, NOTHING if left else number
            task.set_regs(there)
            told = copy_regs(task.peek_regs())
            if asleep or not left:
                assert told.rip == first.rip
                assert told.rax - (NOTHING + 1) == (-ERESTART_RESTARTBLOCK if asleep else -ERESTARTNOINTR)
                assert told.orig_rax == (again if left else number)
            else:  # as any task that has not come to its call yet
                assert regs_bytes(told) == regs_bytes(there)
            Departure.note_sleep(Mock(), p, told)  # type: ignore[arg-type]
            assert (p.call.sleep is not None) == asleep and (not left or p.call.sleep is noted)
            task.set_regs(told)
            task.cont()
            assert until_it_waits(task).rip == first.rip  # it has not returned
            there.rip, there.rax, there.orig_rax = first.rip, number, number
            task.set_regs(there)
            assert regs_bytes(copy_regs(task.peek_regs())) == regs_bytes(there), "a result that is like the number is one"
        finally:
            program.kill()
