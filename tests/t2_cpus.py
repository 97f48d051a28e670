"""Tasks that are held on their tracer's processor (native/cpu.c): nobody keeps that who was made, or renamed, meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.root, pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: everybody is on it")]

#: A tracer, and a process that does what argv says as soon as it is asked. Printed: its processors, and those of what it made, once
#: nobody is held any more.
TRACER = """
import os, signal, sys, threading, time
from mosfs.native import ffi, lib
from mosfs.trace.task import Task
what, all_of_them = sys.argv[1], os.sched_getaffinity(0)
ask, tell = os.pipe()
pid = os.fork()
if not pid:
    if what == "exec":
        threading.Thread(target=lambda: (os.read(ask, 1), os.execv("/bin/sleep", ["sleep", "100"]))).start()
        time.sleep(100)
    os.read(ask, 1)
    if what == "fork":
        os.fork()
    else:
        threading.Thread(target=signal.pause).start()
    signal.pause()
def others():
    return {int(name) for name in os.listdir(f"/proc/{pid}/task")} - {pid} | {
        int(name) for name in open(f"/proc/{pid}/task/{pid}/children").read().split()}
def wait_until(condition):
    until = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.001)
    return found
def next_of(who):
    while True:
        assert lib.mos_next(pump, event, 20_000_000) == 0 and event.kind == lib.MOS_EV_TASK
        if event.pid == who and event.status >> 16:
            return
        task = Task(event.pid)
        if os.WIFSTOPPED(event.status):
            task.cont()
lib.mos_setup_signals()
pump, event = ffi.new("struct mos_pump *", {"cpu": -1, "follow": 1}), ffi.new("struct mos_event *")
if what == "exec":
    [held] = wait_until(others)
    Task(held).seize()
else:
    held = pid
Task(pid).seize()
assert lib.mos_hold(pump, held) == 0 and len(os.sched_getaffinity(held)) == 1
os.write(tell, b"x")
if what == "exec":
    next_of(pid)
    assert lib.mos_hold(pump, pid) == 0
    made = pid
else:
    [made] = wait_until(others)
    lib.mos_unpin(pump)
    next_of(pid)
lib.mos_unfollow(pump)
print(*(os.sched_getaffinity(each) == all_of_them for each in (0, pid, made)))
for each in {pid, made}:
    os.kill(each, signal.SIGKILL)
"""


@pytest.mark.parametrize("what", ["fork", "thread", "exec"])
def test_who_is_made_or_renamed_meanwhile_has_all_of_them(what: str) -> None:
    """The child of one that was let go before its birth was told; a thread's program that has the number of the first now."""
    done = subprocess.run([sys.executable, "-c", TRACER, what], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("True True True\n", "", 0)


def test_a_tracer_goes_back_to_the_processors_that_it_had() -> None:
    """An administrator may have given mosd some of them only (taskset(1), CPUAffinity of systemd.exec(5))."""
    code = """
import os
from mosfs.native import ffi, lib
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
pump = ffi.new("struct mos_pump *", {"cpu": -1, "follow": 1})
child = os.fork()
if not child:
    os.execv("/bin/sleep", ["sleep", "100"])
assert lib.mos_hold(pump, child) == 0
lib.mos_unfollow(pump)
os.kill(child, 9)
print(len(os.sched_getaffinity(0)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)
