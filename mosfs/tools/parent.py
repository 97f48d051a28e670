"""The parent of a program that goes on from a checkpoint with the process ID that it had (mosrun -R).

A process cannot change its ID, so mosrun stays, and waits for a child: this asks mosd for a tracer, which makes it over to another
child of mosrun, that has the ID, and ends. mosrun passes on what signals it gets, and stops and ends as the program does, which
ends with it.
"""

import os
import resource
import signal
from contextlib import suppress

#: More than any descriptor that mosrun lets be open.
DESCRIPTORS = 1024


def become(number: int) -> None:
    """Return in a child of this process, which ends when that has ended, or who has the ID ``number`` instead."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ends of children that are ignored are not told
    pid = os.fork()
    if pid:
        follow(pid, number)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def follow(asks: int, number: int) -> None:
    """Do as the child ``number`` does, or ``asks`` until there is one, and end with it; all signals are blocked. What a terminal
    sends it has sent to all."""
    os.chdir("/")
    os.closerange(0, DESCRIPTORS)
    while True:
        came = signal.sigwaitinfo(signal.valid_signals())
        if came.si_signo == signal.SIGCHLD:
            look(asks, number)
        elif came.si_code <= 0:  # from a process
            with suppress(ProcessLookupError):
                os.kill(number if is_child(number) else asks, came.si_signo)


def look(asks: int, number: int) -> None:
    """What has become of the children: what becomes of one becomes of this process."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return
        if not pid:
            return
        if pid == number or (pid == asks and not is_child(number)):
            stop(os.WSTOPSIG(status)) if os.WIFSTOPPED(status) else end(status)


def stop(sig: int) -> None:
    """Stop as by ``sig``, unless it is over already; SIGCONT follows, which is passed on."""
    if signal.SIGCONT not in signal.sigpending():
        suffer(sig)


def end(status: int) -> None:
    """End with this wait status."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program has made one
        suffer(os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def suffer(sig: int) -> None:
    """Let ``sig`` do to this process what it does by default."""
    if sig not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(sig, signal.SIG_DFL)
    os.kill(os.getpid(), sig)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [sig])
    signal.pthread_sigmask(signal.SIG_BLOCK, [sig])
