"""What is told of mailboxes and of what was read from them: parts of messages."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mosfs.wire.fields import Address, Id, Ip, Mail, Pid


class LastMessage(msgspec.Struct, array_like=True, frozen=True):
    """What a program may ask about the last message it read (direct_communication(7)): IPs, PID, bytes before truncation."""

    home: Ip
    pid: Pid
    location: Ip
    length: Mail


class LeftBox(msgspec.Struct, array_like=True):
    """What counts of an empty mailbox; ``location`` is the address of this node."""

    uid: Id
    gid: Id
    flags: Annotated[int, Meta(ge=0, le=255)]
    ended: bool
    location: Address
