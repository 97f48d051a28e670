"""Payloads of the data channel that are structures (msgpack); CALL and REPLY are in `mosfs.calls.request`."""

from __future__ import annotations

import msgspec


class GoTimes(msgspec.Struct, array_like=True):
    """Payload of GO and CLOCK: the home-node's clocks as the frame leaves, ns, and which kernel they are of."""

    realtime: int
    monotonic: int
    boot_id: str
    coarse: int = 0
    boot: int | None = None
    tai: int | None = None


class MoveOrder(msgspec.Struct, array_like=True):
    """Payload of MOVE_TO: where another host waits for the image."""

    ip: str
    port: int
    token: bytes
    key: bytes
    near: bool


class ForkOrder(msgspec.Struct, array_like=True):
    """FORK: the deputy shall fork with these flags; ``mask`` is the signal mask of the moment."""

    flags: int
    mask: int


class ExecOrder(msgspec.Struct, array_like=True):
    """EXEC: execve or execveat (``nr``), with everything it reads. None: that pointer was NULL or could not be read."""

    nr: int
    dirfd: int
    path: bytes | None
    argv: list[bytes] | None
    envp: list[bytes] | None
    flags: int
    mask: int
    fault: bool = False


class MmapOrder(msgspec.Struct, array_like=True):
    """MMAP: contents of a file for a private mapping of the body; pages come back as MMAP_DATA, then REPLY."""

    length: int
    prot: int
    flags: int
    fd: int
    offset: int
    mask: int


class PrivateOpen(msgspec.Struct, array_like=True):
    """PRIVATE_OPEN: status flags for a descriptor that stands for a private file of the body."""

    flags: int
    mask: int
