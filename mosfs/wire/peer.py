"""The messages between the daemons of two nodes: peer links and the post office. `messages` has the others, and what is said there
of all."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mosfs.wire.fields import (
    Address,
    Comm,
    Count,
    Features,
    Id,
    Ip,
    Load,
    Mail,
    MailName,
    Megabytes,
    Needs,
    Number,
    Pid,
    Reason,
    Secret,
    Version,
)


class PeerMsg(msgspec.Struct, array_like=True):
    """Base of every message between daemons."""


# --------------------------------------------------------------------------- peer links (mosd <-> mosd)


class PeerHello(PeerMsg, tag=64):
    """First message in each direction. ``features`` is `abi.cpu.features()` of the node."""

    wire: Count
    version: Version
    ip: Ip
    features: Features
    kernel: Annotated[str, Meta(max_length=256)]
    speed: Count
    ncpus: Count


class PeerStatus(PeerMsg, tag=65):
    """Sent every second: what this node knows of itself; its absence is the missing heart-beat. Memory in megabytes.

    ``frozen``: frozen programs; ``bits``: those of rstatus (mosctl(1)) that a node knows of itself: 4 stay, 8 lstay,
    16 block; ``level``: the worst priority that may come, 0 while programs of its own cluster run there, 65535 when it is free
    for all ("availability");
    ``paging``: pages a second that it reads and writes to swap; ``processes``: MOSIX processes that run there."""

    load: Load
    speed: Count
    ncpus: Count
    mem_free: Megabytes
    mem_total: Megabytes
    guests: Count
    blocked: bool
    swap_free: Megabytes = 0
    swap_total: Megabytes = 0
    frozen: Count = 0
    bits: Count = 0
    level: Count = 0
    paging: Count = 0
    processes: Count = 0


class GuestRequest(PeerMsg, tag=66):
    """May this process come? Answered by GuestAccept or GuestRefuse with the same ``req``. ``below``, ``features`` and ``needs`` as
    in OpenChannel, ``packs`` as in GuestAccept."""

    req: Number
    pid: Pid
    uid: Id
    comm: Comm
    need_mb: Megabytes
    features: Features
    token: Secret
    key: Secret
    near: bool
    direct_token: Secret = b""
    direct_key: Secret = b""
    below: Load = 0
    needs: Needs = []
    packs: Count = 0


class GuestAccept(PeerMsg, tag=67):
    req: Number
    frames: Count = 0  #: which kinds its hosts know (`frames.GENERATION`)
    packs: Count = 0  #: how they unpack memory (`migrate.packing`); who says nothing, by zlib


class GuestRefuse(PeerMsg, tag=68):
    req: Number
    reason: Reason


# --------------------------------------------------------------------------- post office (mosd <-> mosd, TCP 252)
# On each connection one node asks and the other answers, one question at a time, so that a big message is in nobody's way.


class PostAnswer(PeerMsg, tag=72):
    """``result`` 0 or an errno value; EXDEV: the mailbox is not here. ``node``: an IP; ``serial``: of what is given away."""

    result: Annotated[int, Meta(ge=0, le=4095)] = 0
    node: Ip = ""
    serial: Number = 0


class PostDeliver(PeerMsg, tag=73):
    """A message of ``size`` raw bytes, which follow unless ``probe`` (is there room?). ``name`` is new for each message.
    ``late``: as in `MailPut`; EAGAIN then means that it was accepted, but that there is no room any more."""

    name: MailName
    home: Address
    pid: Pid
    uid: Id
    gid: Id
    to_home: Address
    to_pid: Pid
    size: Mail
    probe: bool = False
    late: bool = False


class PostWhere(PeerMsg, tag=74):
    """To a home-node: which node has the mailbox of its process ``pid``? ESRCH: no such process, EACCES: it has none."""

    pid: Pid


class PostClaim(PeerMsg, tag=75):
    """To a home-node, from where the process is now: who has its mailbox? Others wait until PostClaimed."""

    pid: Pid


class PostClaimed(PeerMsg, tag=76):
    """Ends PostClaim: the mailbox is with the asker now (``here``), with nobody (``gone``), or where it was."""

    pid: Pid
    here: bool
    gone: bool = False


class PostFetch(PeerMsg, tag=77):
    """To the holder: give the mailbox away. It follows the answer (`daemon.post`). Asked again, it gives the same again."""

    home: Address
    pid: Pid


class PostFetched(PeerMsg, tag=78):
    """To the old holder: what it gave away as ``serial`` has arrived whole. 0: its program has closed the mailbox."""

    home: Address
    pid: Pid
    serial: Number


class PostSignal(PeerMsg, tag=79):
    """To a home-node: its process ``pid`` has a message and wants SIGIO."""

    pid: Pid


class PostClaimant(PeerMsg, tag=80):
    """To a home-node: which node is claiming the mailbox of its process ``pid`` just now? "" for none."""

    pid: Pid


class PostSpeaks(PeerMsg, tag=81):
    """To a home-node: may ``node`` send in the name of its process ``pid``, as this user and group? EACCES: it may not."""

    pid: Pid
    node: Ip
    uid: Id
    gid: Id


Peer = (
    PeerHello | PeerStatus | GuestRequest | GuestAccept | GuestRefuse | PostAnswer | PostDeliver | PostWhere | PostClaim
    | PostClaimed | PostFetch | PostFetched | PostSignal | PostClaimant | PostSpeaks
)
