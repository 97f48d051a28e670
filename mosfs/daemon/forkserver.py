"""The fork server: a warm, single-threaded process that forks a tracer or a host for each request of mosd.

``python -m mosfs.daemon.forkserver FD``: FD is one end of a SEQPACKET pair. The modules of tracer and host are loaded
once here, and what all of them need is prepared, so a forked child works within a millisecond. It must never import trio
or pyfuse3: their threads and descriptors would be the children's too. It ends when mosd closes its end; the children live on
in their own sessions. One of them is a spare: another fork server, with a pair of its own, for mosd to go on with at once.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import ModuleType

from mosfs.cluster import dump, rights
from mosfs.cluster.log import complain
from mosfs.native import kernel, lib
from mosfs.trace.priority import prompt
from mosfs.wire.fields import MAX_CONTROL
from mosfs.wire.messages import AdoptTracer, SpawnHost, SpawnTracer, decode_control
from mosfs.wire.passing import ROOM, received

TRACER = "mosfs.home.start"
HOST = "mosfs.guest.host"

#: The most memory that is allocated again and again, bytes: several pieces of an image (`migrate.pages`).
LARGEST = 1 << 20

#: The answer to each request, before anything is done about it.
TAKEN = b"t"

#: mosd wants a spare; the answer, beside which is the spare's end of its pair.
SPARE = b"s"

Job = Callable[[], int]


def job_for(message: object, beside: socket.socket | None, tracer: ModuleType, host: ModuleType) -> Job:
    """What the child shall do; ValueError for a message that is no request."""
    match message, beside:
        case SpawnTracer(), socket.socket():
            return lambda: tracer.main(message, beside)
        case SpawnHost(), socket.socket():
            return lambda: host.main(message, beside)
        case AdoptTracer(), None:
            return lambda: tracer.adopt(message)
    raise ValueError(f"not a request: {type(message).__name__}")


def receive(sock: socket.socket) -> tuple[bytes, socket.socket | None]:
    """The next datagram and the socket beside it; b"" at the end."""
    try:
        data, ancillary, _, _ = sock.recvmsg(MAX_CONTROL, ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # it ended without having read all we said
        return b"", None
    beside = received(ancillary)
    return data, socket.socket(fileno=beside) if beside >= 0 else None


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not in ``kept``."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def serves_root(message: object) -> bool:
    """A tracer of root's programs must have what they have, else the kernel lets it seize none (ptrace(2))."""
    return isinstance(message, SpawnTracer | AdoptTracer) and message.uid == 0


def become_child(job: Job, beside: socket.socket | None, name: str, *, for_root: bool = False) -> int:
    """The rest of the child's life; its exit status. A failure is a traceback in the log, which is our stderr."""
    try:
        os.setsid()
        rename(name)
        prompt(complain)
        close_all_but([beside.fileno()] if beside else [])
        for number in ours():
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if not for_root:
            rights.give_up(name)
        return job()
    except BaseException:
        complain(f"{name} {os.getpid()} failed\n{traceback.format_exc()}")
        return 1


@lru_cache(maxsize=1)
def ours() -> list[int]:
    """Signals that this server handles or ignores, and its children shall not. SIGPIPE stays ignored: a broken connection is an
    exception, not an end. The handler of a dump serves a child, too."""
    kept = {signal.SIGPIPE, dump.SIGNAL}
    return [number for number in signal.valid_signals() - kept if signal.getsignal(number) not in (signal.SIG_DFL, None)]


def rename(name: str) -> None:
    """What ps(1) shows as the command."""
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(name)


def make_spare(sock: socket.socket, tracer: ModuleType, host: ModuleType) -> None:
    """Fork another server; without one, mosd starts the next server anew."""
    try:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ours:
            if os.fork() == 0:
                os._exit(be_spare(ours, tracer, host))
            socket.send_fds(sock, [SPARE], [theirs.fileno()])
    except OSError as error:
        complain(f"mos-forkserver: no spare: {error}")


def be_spare(sock: socket.socket, tracer: ModuleType, host: ModuleType) -> int:
    """The life of a spare; its exit status."""
    try:
        os.setsid()
        rename("mos-spare")
        prompt(complain)
        close_all_but([sock.fileno()])
        serve(sock, tracer, host)
        return 0
    except BaseException:
        complain(f"mos-spare {os.getpid()} failed\n{traceback.format_exc()}")
        return 1


_NAMES: dict[type[object], str] = {SpawnTracer: "mos-tracer", AdoptTracer: "mos-tracer", SpawnHost: "mos-host"}


def serve(sock: socket.socket, tracer: ModuleType, host: ModuleType) -> None:
    """Fork for every request until the other end closes."""
    while True:
        data, beside = receive(sock)
        if not data:
            return
        if data == SPARE:
            rename("mos-forkserver")
            make_spare(sock, tracer, host)
            continue
        try:
            sock.send(TAKEN)
        except OSError:  # mosd is gone: nobody waits for this one
            return
        try:
            message = decode_control(data)
            job = job_for(message, beside, tracer, host)
        except ValueError as error:
            complain(f"mos-forkserver: {error}")
        else:
            try:
                child = os.fork()
            except OSError as error:
                complain(f"mos-forkserver: cannot fork: {error}")
                child = -1
            if child == 0:
                os._exit(become_child(job, beside, _NAMES[type(message)], for_root=serves_root(message)))
        if beside is not None:
            beside.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mos-forkserver")
    parser.add_argument("fd", type=int)
    parser.add_argument("--tracer", default=TRACER, help="module with prepare(), main() and adopt()")
    parser.add_argument("--host", default=HOST, help="module with prepare() and main()")
    options = parser.parse_args(arguments)
    tracer, host = importlib.import_module(options.tracer), importlib.import_module(options.host)
    tracer.prepare()
    host.prepare()
    deque(kernel.missing(), maxlen=0)  # asked once for all that is forked
    rename("mos-forkserver")
    rights.no_core()
    prompt(complain)
    dump.on_signal(lambda: [("options", options)])
    lib.mos_keep_heap(LARGEST)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Ignored: the kernel reaps the children
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    ours()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=options.fd) as sock:
        serve(sock, tracer, host)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
