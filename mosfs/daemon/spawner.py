"""The fork server seen from mosd: started early, started again when it dies, told what to fork."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

import trio

import mosfs
from mosfs.daemon import forkserver
from mosfs.daemon.connection import Connection
from mosfs.wire.messages import AdoptTracer, SpawnHost, SpawnTracer

log = logging.getLogger(__name__)

_MAX_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """Modules that the fork server loads."""

    tracer: str = forkserver.TRACER
    host: str = forkserver.HOST


@dataclass(slots=True)
class Running:
    """A started fork server: its process and our end of the pair."""

    process: subprocess.Popen[bytes]
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
        self._connection = Connection(trio.socket.from_stdlib_socket(first.sock))

    def spawn(self, request: SpawnTracer | SpawnHost | AdoptTracer, beside: socket.socket | None = None) -> None:
        """ConnectionError while there is no fork server. ``beside`` is closed here in any case."""
        self._connection.post(request, beside)

    async def run(self) -> None:
        pause = 0.1
        try:
            while True:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._connection.pump)
                    async for _ in self._connection.datagrams():
                        pass  # it never says anything: this waits for its end
                    nursery.cancel_scope.cancel()
                self._end()
                log.error("the fork server ended; starting another in %.1f s", pause)
                await trio.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE)
                self._running = start(self._engine)
                self._connection = Connection(trio.socket.from_stdlib_socket(self._running.sock))
        finally:
            self._end()

    def _end(self) -> None:
        """The closed socket ends it; it has nothing else to do, so that takes no time."""
        self._connection.close()
        if self._running is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.process.wait(timeout=2)
            self._running = None
