"""What mosrun asks for a program: its settings, and where and how it starts. Parts of messages, and of checkpoint files."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mosfs.wire.fields import Amount, Count, Decay, Fd, Ip, Name, NeedMem, Number, Path, Preset, Switch


class Settings(msgspec.Struct, array_like=True):
    """What mosrun was told about a program (mosrun(1)); inherited over fork and by recursive mosrun.

    ``unsupported``: 0 kill, 1 ENOSYS (-e), 2 ENOSYS and a line on stderr (-w), 3 stay home (ours).
    -1 or "" means "not given". The four about checkpoints (-C, -N, -A, --incremental) are one program's own and not inherited.
    ``private``: directories of -X, joined by `ptf.directories`; not inherited by recursive mosrun. ``freeze_dirs``: lines of the
    user's own freezing directories (`cluster.freeze_conf`), "" for the node's. ``outlive``: it goes on when its node dies.
    ``threads``: 0 if threads are refused, as the manual has it (--no-threads).
    ``share_memory``: they may share memory that is written, and move. ``compress``: its checkpoint and freeze files are compressed.
    """

    unsupported: Annotated[int, Meta(ge=-1, le=3)] = -1
    lock: Switch = -1
    freezable: Switch = -1
    needmem: NeedMem = -1
    cpujob: Switch = -1
    decay: Decay = -1
    checkpoint_file: Path = ""
    checkpoint_limit: Annotated[int, Meta(ge=-1, le=10_000_000)] = -1
    checkpoint_interval: Annotated[int, Meta(ge=-1, le=10_000_000)] = -1
    private: Path = ""
    freeze_dirs: Path = ""
    outlive: Switch = -1
    incremental: Switch = -1
    threads: Switch = -1
    share_memory: Switch = -1
    compress: Switch = -1

    def allows_threads(self) -> bool:
        return self.threads != 0


class Outliving(msgspec.Struct, array_like=True, frozen=True):
    """How a program outlives the node where it is (mosrun --outlive): images taken, bytes at home of the last one and of the log
    behind it, seconds between two, nodes outlived; ``unsafe``: why it would end with its node just now, "" if it would not;
    ``brought``: bytes of pages that came for the last image, because they had changed; ``memory``: of home's memory, for all."""

    images: Count
    image_bytes: Number
    log_bytes: Number
    interval: Amount
    outlived: Count
    unsafe: Annotated[str, Meta(max_length=4096)]
    brought: Number = 0
    memory: Number = 0


class Start(msgspec.Struct, array_like=True):
    """Where the program shall start: ``node`` is an IP ("" = at home, "best" for -b); ``force`` is mosrun -F;
    ``trace``: a descriptor of the launcher to which the program's calls are told (mosrun --trace), -1 for none.
    ``preset``: NAME=value for its environment, by which it makes do with less of its processor (`abi.levels`).
    ``restart``: a descriptor of the launcher, of the checkpoint file to go on from, -1 for none; ``reopen``: other files for some
    of its descriptors (mosrun -O), a character of a name for each byte. ``number``: the program may, and shall, have the process ID
    that it had: the launcher has a parent that waits for who has it (`tools.parent`)."""
    node: Ip = ""
    force: bool = False
    shown: Name = ""  #: what the user typed, for error texts
    trace: Fd = -1
    preset: Preset = []
    restart: Fd = -1
    reopen: Annotated[list[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], Path]], Meta(max_length=1024)] = []
    number: bool = False
