"""Payloads of the data channel that are structures (msgpack); CALL and REPLY are in `mosfs.calls.request`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mosfs.wire.fields import Decay, NeedMem, Switch
from mosfs.wire.messages import LastMessage

#: No time (ns), size, position or CPU time is so large.
LARGEST = (1 << 62) - 1

#: Numbers and texts from the other end have these ranges; msgpack itself ends at 64 bits.
Word = Annotated[int, msgspec.Meta(ge=0)]
Large = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
Signed = Annotated[int, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
Small = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Int = Annotated[int, msgspec.Meta(ge=-0x80000000, le=0x7FFFFFFF)]
Port = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Amount = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
Address = Annotated[str, msgspec.Meta(max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
Features = Annotated[str, msgspec.Meta(max_length=16384)]
Needs = Annotated[list[Address], msgspec.Meta(max_length=256)]
#: More would not fit into what execve(2) takes.
Strings = Annotated[list[bytes], msgspec.Meta(max_length=1 << 20)]
Key = Annotated[bytes, msgspec.Meta(max_length=32)]


class GoTimes(msgspec.Struct, array_like=True):
    """Payload of GO and CLOCK: the home-node's clocks as the frame leaves, ns, and which kernel they are of."""

    realtime: Signed
    monotonic: Signed
    boot_id: Address
    coarse: Signed = 0
    boot: Signed | None = None
    tai: Signed | None = None
    asked: Word = 0  #: what came with ASK_CLOCK; 0: nobody asked
    call: Word | None = None  #: of GO: number of the last call that the old host has passed on; None: there is no old host


class MoveOrder(msgspec.Struct, array_like=True):
    """Payload of MOVE_TO: where another host waits for the image."""

    ip: Address
    port: Port
    token: Key
    key: Key
    near: bool
    features: Features = ""  #: those of the node there (`abi.cpu`)
    frames: Small = 0  #: which kinds of frames who receives the image knows (`frames.GENERATION`)
    packs: Small = 0  #: how who receives it unpacks memory (`migrate.packing`)


class ForkOrder(msgspec.Struct, array_like=True):
    """FORK: the deputy shall fork with these flags; ``mask`` is the signal mask of the moment."""

    flags: Word
    mask: Word


class ExecOrder(msgspec.Struct, array_like=True):
    """EXEC: execve or execveat (``nr``), with everything it reads. None: that pointer was NULL or could not be read.

    ``seen``: how many signals the body has heard of (as in CALL); None: its host does not tell."""

    nr: Literal[59, 322]
    dirfd: Word
    path: bytes | None
    argv: Strings | None
    envp: Strings | None
    flags: Word
    mask: Word
    fault: bool = False
    seen: Small | None = None


class MmapOrder(msgspec.Struct, array_like=True):
    """MMAP: a file for a mapping of the body at ``at``; its contents come back as FILE (MMAP_DATA, if the file cannot be followed),
    then REPLY."""

    length: Word
    prot: Small
    flags: Word
    fd: Small
    offset: Word
    mask: Word
    at: Signed = 0


class MailTable(msgspec.Struct, array_like=True):
    """MAIL_TABLE: ``entries`` are (descriptor, home, pid, own, pipe, nonblocking) as in `mbox.calls`; the rest is the program's:
    its home-node as an unsigned integer, effective user and group, address of its struct interested."""

    entries: Annotated[list[tuple[Int, Small, Int, bool, bool, bool]], msgspec.Meta(max_length=1 << 20)]
    home: Small
    uid: Signed
    gid: Signed
    filter_at: Word


class MailSeen(msgspec.Struct, array_like=True):
    """MAIL_SEEN: address of the program's struct interested, and the last message it read (None: no news)."""

    filter_at: Word
    last: LastMessage | None = None


class PrivateOpen(msgspec.Struct, array_like=True):
    """PRIVATE_OPEN: status flags for a descriptor that stands for a private file of the body."""

    flags: Small
    mask: Word


class About(msgspec.Struct, array_like=True):
    """ABOUT: what the body's node needs to decide about it. Settings as in `asked.Settings`; ``age``: CPU seconds since its
    start; ``history``: the sums of `balance.history.History`, in its order; ``nice``: its nice value."""

    lock: Switch
    needmem: NeedMem
    cpujob: Switch
    decay: Decay
    age: Seconds
    history: tuple[Amount, Amount, Amount, Amount, Amount]
    nice: Annotated[int, msgspec.Meta(ge=-20, le=19)] = 0


class Used(msgspec.Struct, array_like=True):
    """USED: CPU seconds since the last one, resident megabytes; ``user``: those of the seconds that were not the kernel's."""

    cpu: Seconds
    size_mb: Small
    user: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)] = 0.0


class OutOrder(msgspec.Struct, array_like=True):
    """STEP_OUT: the body's node would rather have it at ``target`` (an IP, "" = home). ``below`` and ``why`` as in
    `messages.Command`; with a reason it is a wish, which a locked program does not follow; without one an order."""

    target: Address
    below: Int = 0
    why: Text = ""
    needs: Needs = []  #: an instruction is refused here: flags of processors that may stand for it (`abi.cpu.suspects`)
    passing: bool = False  #: it needs them for this instruction only
