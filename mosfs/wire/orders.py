"""Payloads of the data channel that are structures (msgpack); CALL and REPLY are in `mosfs.calls.request`."""

from __future__ import annotations

import msgspec

from mosfs.wire.messages import LastMessage


class GoTimes(msgspec.Struct, array_like=True):
    """Payload of GO and CLOCK: the home-node's clocks as the frame leaves, ns, and which kernel they are of."""

    realtime: int
    monotonic: int
    boot_id: str
    coarse: int = 0
    boot: int | None = None
    tai: int | None = None
    asked: int = 0  #: what came with ASK_CLOCK; 0: nobody asked


class MoveOrder(msgspec.Struct, array_like=True):
    """Payload of MOVE_TO: where another host waits for the image."""

    ip: str
    port: int
    token: bytes
    key: bytes
    near: bool
    features: str = ""  #: those of the node there (`abi.cpu`)


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
    """MMAP: a file for a mapping of the body at ``at``; its contents come back as FILE (MMAP_DATA, if the file cannot be followed),
    then REPLY."""

    length: int
    prot: int
    flags: int
    fd: int
    offset: int
    mask: int
    at: int = 0


class MailTable(msgspec.Struct, array_like=True):
    """MAIL_TABLE: ``entries`` are (descriptor, home, pid, own, pipe, nonblocking) as in `mbox.calls`; the rest is the program's:
    its home-node as an unsigned integer, effective user and group, address of its struct interested."""

    entries: list[tuple[int, int, int, bool, bool, bool]]
    home: int
    uid: int
    gid: int
    filter_at: int


class MailSeen(msgspec.Struct, array_like=True):
    """MAIL_SEEN: address of the program's struct interested, and the last message it read (None: no news)."""

    filter_at: int
    last: LastMessage | None = None


class PrivateOpen(msgspec.Struct, array_like=True):
    """PRIVATE_OPEN: status flags for a descriptor that stands for a private file of the body."""

    flags: int
    mask: int


class About(msgspec.Struct, array_like=True):
    """ABOUT: what the body's node needs to decide about it. Settings as in `messages.Settings`; ``age``: CPU seconds since its
    start; ``history``: the sums of `balance.history.History`, in its order; ``nice``: its nice value."""

    lock: int
    needmem: int
    cpujob: int
    decay: int
    age: float
    history: tuple[float, float, float, float, float]
    nice: int = 0


class Used(msgspec.Struct, array_like=True):
    """USED: CPU seconds since the last one, resident megabytes; ``user``: those of the seconds that were not the kernel's."""

    cpu: float
    size_mb: int
    user: float = 0.0


class OutOrder(msgspec.Struct, array_like=True):
    """STEP_OUT: the body's node would rather have it at ``target`` (an IP, "" = home). ``below`` and ``why`` as in
    `messages.Command`; with a reason it is a wish, which a locked program does not follow; without one an order."""

    target: str
    below: int = 0
    why: str = ""
    needs: list[str] = []  #: an instruction is illegal here: flags of processors that may stand for it (`abi.cpu.suspects`)
