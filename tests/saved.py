"""A program with something of everything that a checkpoint keeps. It checks itself, and appends a line a step to the file ``out``.

    saved.py STEPS [own]      "own": it takes a checkpoint itself in the middle

While there is a file ``hold``, it does not get beyond step `HELD`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

HELD = 40
os.umask(0o027)
libc = ctypes.CDLL(None, use_errno=True)
PERSONALITY, PDEATHSIG = 0x0400000, signal.SIGURG  # ADDR_COMPAT... of the old kind
libc.personality(libc.personality(0xFFFFFFFF) | PERSONALITY)
libc.prctl(1, PDEATHSIG)
libc.prctl(4, 0)
os.nice(3)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
NICE, PROCESSORS = os.nice(0), os.sched_getaffinity(0)
out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
data = os.open("data", os.O_RDWR | os.O_CREAT, 0o666)
shared = os.dup2(data, 17, inheritable=False)
os.write(data, bytes(1000))
gone = os.open("gone", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0)
os.unlink("gone")
os.pwrite(gone, b"kept", 1 << 20)
memory = os.memfd_create("memory")
os.write(memory, b"in memory")
folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
lines = open(__file__, encoding="ascii")  # noqa: SIM115 - it stays open
first = lines.readline()

caught: list[int] = []
signal.signal(signal.SIGALRM, lambda number, frame: caught.append(number))
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)  # stays pending
signal.setitimer(signal.ITIMER_REAL, 1000, 0.05)
big = bytearray(os.urandom(1 << 16)) * 16
digest = hash(bytes(big))
sums = ctypes.c_double(0)


def check(step: int) -> None:
    assert os.lseek(data, 0, os.SEEK_CUR) == os.lseek(shared, 0, os.SEEK_CUR) == 1000 + step, "the offset is shared"
    assert not os.get_inheritable(shared)
    assert os.pread(gone, 4, 1 << 20) == b"kept" and os.fstat(gone).st_nlink == 0 and os.fstat(gone).st_size == (1 << 20) + 4
    assert os.pread(memory, 99, 0) == b"in memory"
    assert os.path.samestat(os.fstat(folder), os.stat(".")), "the folder is the same"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.SIGUSR1 in signal.sigpending()
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000 and signal.getitimer(signal.ITIMER_REAL)[1] == 0.05
    assert hash(bytes(big)) == digest
    death = ctypes.c_int()
    libc.prctl(2, ctypes.byref(death))
    assert (os.nice(0), os.sched_getaffinity(0), death.value) == (NICE, PROCESSORS, PDEATHSIG)
    assert libc.personality(0xFFFFFFFF) & PERSONALITY and libc.prctl(3) == 0, "personality, dumpable"
    with open(f"mode{step}", "w"):
        assert os.stat(f"mode{step}").st_mode & 0o777 == 0o640, "umask"
    os.unlink(f"mode{step}")


def main(steps: int, own: bool) -> None:
    for step in range(steps):
        check(step)
        os.write(out, b"%d %s\n" % (step, repr(sums.value).encode()))
        os.write(data, b"x")
        sums.value += 1 / (step + 1)
        if own and step == steps // 2:
            number = libc.syscall(2, b"/proc/self/checkpoint", os.O_RDWR | os.O_CREAT, 1)
            os.write(out, b"checkpoint %d\n" % number)
        time.sleep(0.01)
        while step == HELD and os.path.exists("hold"):
            time.sleep(0.01)
    assert lines.read().count("\n") > 50 and first.startswith('"""A program')
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert caught == [signal.SIGUSR1]
    print("all is well")


main(int(sys.argv[1]), sys.argv[2:] == ["own"])
