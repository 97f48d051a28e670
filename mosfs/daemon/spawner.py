"""The fork server seen from mosd: started early, replaced by its spare when it dies, told what to fork.

The spare is a fork of it, so it is there at once; without one, another server is started. A server says `forkserver.TAKEN` for
each request before it forks. What a dead one has not taken, the next one gets; what it has taken is never asked for twice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass

import trio

import mosfs
from mosfs.daemon import forkserver
from mosfs.daemon.connection import BACKLOG, Connection
from mosfs.wire.messages import AdoptTracer, SpawnHost, SpawnTracer

log = logging.getLogger(__name__)

#: Seconds until another one is started; doubled for each that ended before it had a spare.
_FIRST_PAUSE, _MAX_PAUSE = 0.1, 30.0

Request = SpawnTracer | SpawnHost | AdoptTracer


@dataclass(frozen=True, slots=True)
class Engine:
    """Modules that the fork server loads."""

    tracer: str = forkserver.TRACER
    host: str = forkserver.HOST


@dataclass(slots=True)
class Running:
    """A fork server: its process, None when we did not start it, and our end of the pair."""

    process: subprocess.Popen[bytes] | None
    sock: socket.socket


def start(engine: Engine) -> Running:
    """Start a fork server; its stderr is ours. Only our end stays open here, so that it sees our death."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
    command = [
        sys.executable, "-m", forkserver.__name__, str(theirs.fileno()),
        f"--tracer={engine.tracer}", f"--host={engine.host}",
    ]
    with theirs:
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr,
            start_new_session=True, env={**os.environ, "PYTHONPATH": search_path(source)},
        )
    return Running(process, ours)


def search_path(source: str) -> str:
    """PYTHONPATH with which another Python finds this very package, wherever it was imported from."""
    return os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))


class Spawner:
    """`spawn` queues a request; `run` keeps a fork server alive. ``first`` was started before the event loop."""

    def __init__(self, engine: Engine, first: Running) -> None:
        self._engine = engine
        self._running: Running | None = first
        self._connection = self._connect(first)
        self.spare: socket.socket | None = None
        self._asked: deque[tuple[Request, socket.socket | None]] = deque()  # and not yet taken

    def spawn(self, request: Request, beside: socket.socket | None = None) -> None:
        """``beside`` is closed when the request is taken. ConnectionError, and it is closed here, when too many wait already."""
        if len(self._asked) >= BACKLOG:
            if beside is not None:
                beside.close()
            raise ConnectionError("too many requests")
        if self._post(request, beside):
            self._asked.append((request, beside))
        elif beside is not None:
            beside.close()

    def _post(self, request: Request, beside: socket.socket | None) -> bool:
        """While there is no fork server, this does nothing: the next one is told. False for what cannot be sent at all."""
        try:
            return self._connection.post(request, beside.dup() if beside is not None else None)
        except OSError:
            return True

    def _taken(self) -> None:
        if self._asked:
            _, beside = self._asked.popleft()
            if beside is not None:
                beside.close()

    async def run(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while True:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._connection.pump)
                    async for said in self._connection.datagrams():
                        if said == forkserver.SPARE:
                            pause = _FIRST_PAUSE
                            self._keep_spare(self._connection.take_beside())
                        else:
                            self._taken()
                    nursery.cancel_scope.cancel()
                self._end()
                if self.spare is not None:
                    log.error("the fork server ended; its spare takes over")
                else:
                    log.error("the fork server ended; starting another in %.1f s", pause)
                    await trio.sleep(pause)
                    pause = min(pause * 2, _MAX_PAUSE)
                self._begin()
        finally:
            self._end()
            if self.spare is not None:
                self.spare.close()
            while self._asked:
                self._taken()

    @staticmethod
    def _connect(server: Running) -> Connection:
        connection = Connection(trio.socket.from_stdlib_socket(server.sock))
        with contextlib.suppress(ConnectionError):  # `run` notices its end
            connection.post(forkserver.SPARE)
        return connection

    def _keep_spare(self, fd: int) -> None:
        if fd >= 0 and self.spare is None:
            self.spare = socket.socket(fileno=fd)
        elif fd >= 0:
            os.close(fd)

    def _begin(self) -> None:
        spare, self.spare = self.spare, None
        self._running = Running(None, spare) if spare is not None else start(self._engine)
        self._connection = self._connect(self._running)
        for request, beside in self._asked:
            self._post(request, beside)

    def _end(self) -> None:
        """The closed socket ends it; it has nothing else to do, so that takes no time."""
        self._connection.close()
        if self._running is not None and self._running.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.process.wait(timeout=2)
        self._running = None
