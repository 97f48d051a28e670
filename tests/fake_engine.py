"""A tracer and a host that trace nothing: they speak the control protocol, and move bytes instead of programs.

Loaded by a fork server (``mosd --tracer=fake_engine --host=fake_engine``). The tracer "moves" its launcher by opening a
data channel and writing the target's IP into it; the host says what it got as the name of its guest.
"""

from __future__ import annotations

import array
import os
import select
import socket

from msgspec.structs import replace

from mosfs.procfs.table import BY_NAME
from mosfs.wire.messages import (
    Adjust,
    Adjusted,
    AdoptTracer,
    ChannelFailed,
    ChannelReady,
    Command,
    Config,
    GuestState,
    HelloHost,
    HelloTracer,
    Msg,
    OpenChannel,
    ProcGone,
    ProcState,
    SpawnHost,
    SpawnTracer,
    decode_control,
    encode,
)


def connect(path: str, hello: Msg) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(path)
    sock.send(encode(hello))
    assert isinstance(decode_control(sock.recv(65536)), Config)
    return sock


def receive(sock: socket.socket) -> tuple[object, socket.socket | None]:
    data, ancillary, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(4))
    if not data:
        return None, None
    beside = [socket.socket(fileno=array.array("i", payload[:4])[0]) for _, _, payload in ancillary]
    return decode_control(data), beside[0] if beside else None


def prepare() -> None:
    """There is nothing that all need."""


def main(spawn: SpawnTracer | SpawnHost, sock: socket.socket) -> int:
    return tracer(spawn, sock) if isinstance(spawn, SpawnTracer) else host(spawn, sock)


def adopt(spawn: AdoptTracer) -> int:
    control = connect(spawn.socket, HelloTracer(os.getpid(), spawn.pids[0], spawn.uid))
    for state in spawn.states:
        control.send(encode(replace(state, why="adopted")))
    while receive(control)[0] is not None:
        pass
    return 0


def tracer(spawn: SpawnTracer, launcher: socket.socket) -> int:
    """Lives as long as its launcher keeps the connection open; comes back when mosd does."""
    state = ProcState(spawn.pid, spawn.uid, "", "here", 0, spawn.settings, comm="fake")
    hello = HelloTracer(os.getpid(), spawn.pid, spawn.uid)
    control = connect(spawn.socket, hello)
    control.send(encode(state))
    launcher.send(b"OK")
    while True:
        ready, _, _ = select.select([control, launcher], [], [])
        if launcher in ready:
            control.send(encode(ProcGone(spawn.pid)))
            return 0
        message, beside = receive(control)
        match message:
            case None:
                control = _again(spawn.socket, hello, launcher)
            case Adjust():
                state = replace(state, settings=message.settings)
                control.send(encode(Adjusted(message.req, "it is native" if message.native else "")))
            case Command(name="migrate", value=""):
                state = replace(state, where="", state="here", move_seq=message.seq, move_target="", move_result="ok")
            case Command(name="migrate"):
                state = replace(state, state="leaving", move_seq=message.seq, move_target=message.value, move_result="")
                need = max(spawn.settings.needmem, 0)
                control.send(encode(OpenChannel(message.seq, message.value, spawn.pid, spawn.uid, "fake", need, "")))
            case Command():
                field = BY_NAME[message.name].setting
                state = replace(state, settings=replace(state.settings, **{field: int(message.value)}))
                control.send(encode(state))
                control.send(encode(Adjusted(message.seq, "")))
            case ChannelReady():
                assert beside is not None
                beside.sendall(message.target.encode())
                state = replace(state, state="away", where=message.target, nmigs=state.nmigs + 1, move_result="ok")
            case ChannelFailed():
                state = replace(state, state="here", move_result=message.reason)
        control.send(encode(state))


def _again(path: str, hello: HelloTracer, launcher: socket.socket) -> socket.socket:
    while not select.select([launcher], [], [], 0.1)[0]:
        try:
            return connect(path, hello)
        except (OSError, AssertionError):
            continue
    os._exit(0)


def host(spawn: SpawnHost, data: socket.socket) -> int:
    """Lives as long as its data channel."""
    control = connect(spawn.socket, HelloHost(os.getpid(), spawn.home, spawn.token))
    said = data.recv(100).decode()
    control.send(encode(GuestState(os.getpid(), 1, spawn.home, spawn.uid, said, 0.0)))
    while data.recv(100):
        pass
    return 0
