"""Whose turn it is among tasks that stop all the time (native/pump.c)."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from tests.progs import REPO

#: Tasks that stop at each of their calls, and stand again before the next stop is looked for; whom that is about, how often.
TURNS = """
import collections, json, os, signal
from mosfs.native import ffi, lib
from mosfs.trace.task import SYSCALL, Task

ours, theirs = os.pipe()

def looping():
    pid = os.fork()
    if not pid:
        os.close(theirs)
        os.read(ours, 1)
    while not pid:
        os.getppid()
    return Task(pid)

def stands(task):
    while open(f"/proc/{task.pid}/stat").read().rpartition(")")[2].split()[0] != "t":
        pass

lib.mos_setup_signals()
tasks = {task.pid: task for task in (looping() for _ in range(20))}
try:
    for task in tasks.values():
        task.seize()
        task.interrupt()
        stands(task)
    os.close(theirs)
    pump, event, turns = ffi.new("struct mos_pump *"), ffi.new("struct mos_event *"), collections.Counter()
    for _ in range(800):
        assert lib.mos_next(pump, event, 10_000_000) == 0 and event.kind == 1, event.kind
        turns[event.pid] += 1
        tasks[event.pid].cont(request=SYSCALL)
        stands(tasks[event.pid])
    print(json.dumps([turns[pid] for pid in tasks]))
finally:
    for task in tasks.values():
        os.kill(task.pid, signal.SIGKILL)
"""


def test_no_task_waits_for_ever_for_newer_ones_that_stop_all_the_time() -> None:
    """waitpid(2) of any child tells of the newest first."""
    done = subprocess.run([sys.executable, "-c", TURNS], cwd=REPO, stdout=subprocess.PIPE, check=True)
    turns = msgspec.json.decode(done.stdout, type=list[int])
    assert len(turns) == 20 and sum(turns) == 800
    assert min(turns) >= 800 // (20 + 8) - 2
