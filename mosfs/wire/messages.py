"""The messages of the control socket, and with `peer` of the peer links: one struct a message, one table a conversation.

Both are msgspec structs, array-like with an integer tag, so that a message costs well under a microsecond and a wrong
type is refused at the edge ("Expected `int`, got `str` - at `$[1]`"). Fields are only ever appended; a removed one
keeps its place. ``WIRE_VERSION`` changes when an old peer could misunderstand a new message.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from mosfs.abi.outcomes import OK
from mosfs.wire.asked import Outliving, Settings, Start
from mosfs.wire.fields import (
    MALFORMED,
    Address,
    Amount,
    Comm,
    Count,
    Fd,
    Features,
    Id,
    Inline,
    Ip,
    Load,
    Mail,
    MaybeId,
    Megabytes,
    Needs,
    Number,
    Path,
    Pid,
    Port,
    RawPath,
    Reason,
    Result,
    Secret,
)  # fmt: skip
from mosfs.wire.letters import LastMessage as LastMessage
from mosfs.wire.letters import LeftBox as LeftBox
from mosfs.wire.peer import GuestAccept as GuestAccept
from mosfs.wire.peer import GuestRefuse as GuestRefuse
from mosfs.wire.peer import GuestRequest as GuestRequest
from mosfs.wire.peer import Peer as Peer
from mosfs.wire.peer import PeerHello as PeerHello
from mosfs.wire.peer import PeerMsg as PeerMsg
from mosfs.wire.peer import PeerStatus as PeerStatus
from mosfs.wire.peer import PostAnswer as PostAnswer
from mosfs.wire.peer import PostClaim as PostClaim
from mosfs.wire.peer import PostClaimant as PostClaimant
from mosfs.wire.peer import PostClaimed as PostClaimed
from mosfs.wire.peer import PostDeliver as PostDeliver
from mosfs.wire.peer import PostFetch as PostFetch
from mosfs.wire.peer import PostFetched as PostFetched
from mosfs.wire.peer import PostSignal as PostSignal
from mosfs.wire.peer import PostSpeaks as PostSpeaks
from mosfs.wire.peer import PostWhere as PostWhere
from mosfs.wire.space import FreezingSpace

WIRE_VERSION = 1


class Msg(msgspec.Struct, array_like=True):
    """Base of every message."""


# --------------------------------------------------------------------------- control socket: to mosd


class HelloTracer(Msg, tag=1):
    """First message of a tracer, also to a mosd that restarted. ``root_pid``: the process mosrun became."""

    pid: Pid
    root_pid: Pid
    uid: Id


class HelloHost(Msg, tag=2):
    """First message of a host. ``token`` is the one of its data channel, ``home`` the home-node's IP.
    ``uid``: its programs' owner at home; ``runs_as``: the user that its bodies run as here, -1 if they run as mosd does.
    """

    pid: Pid
    home: Ip
    token: Secret
    uid: Id = 0
    runs_as: MaybeId = -1


class ProcState(Msg, tag=3):
    """Everything mosd shows of one home process; sent whenever a field changes. ``where`` is an IP, "" at home.

    ``state``: "starting", "here", "leaving", "away", "returning", "frozen". ``why``: the reason why it does not move, or "".
    ``move_seq``/``move_result``: number and outcome of the last move request: "" while it runs, "ok", or the reason.
    ``barred``: why no move can be tried, "" if one can; ``because``: why it was moved where it is, "" if somebody wished it.
    ``save_seq``/``save_result``: the same of the last checkpoint that a user asked for, ``freeze_seq``/``freeze_result`` of the
    last wish to have it frozen or go on; ``frozen``: "-", or A automatically, P for another package, M by hand, N/A if it
    cannot be.
    ``mailbox``: the other node that holds its mailbox, "" for none (`MailHeld`). ``needs``: flags that a node must have for it."""

    pid: Pid
    uid: Id
    where: Ip
    state: str
    nmigs: Count
    settings: Settings
    why: str = ""
    frozen: str = "-"
    move_seq: Number = 0
    move_target: Ip = ""
    move_result: str = OK
    comm: Comm = ""
    sigmig: Annotated[int, Meta(ge=0, le=64)] = 0
    freeze_ms: Amount = 0.0
    next_checkpoint: Count = 1
    last_message: LastMessage | None = None
    barred: str = ""
    because: str = ""
    mailbox: Ip = ""
    needs: Needs = []
    save_seq: Number = 0
    save_result: str = OK
    freeze_seq: Number = 0
    freeze_result: str = OK
    outliving: Outliving | None = None


class Total(Msg):
    """Seconds of CPU time that a program has used in all, with the children that it has waited for: ``user`` and ``system`` here,
    ``user_away`` and ``system_away`` on other nodes."""

    user: Amount
    system: Amount
    user_away: Amount
    system_away: Amount


class ProcGone(Msg, tag=4):
    """``total``: told of programs for which, or for whose children, CPU time was used away. ``status``: its exit status, or
    minus the signal that ended it; None if that is not known."""

    pid: Pid
    total: Total | None = None
    status: Annotated[int, Meta(ge=-64, le=255)] | None = None


class GuestState(Msg, tag=5):
    """A guest body on this node. ``pid`` is the body's local PID, ``origpid`` the one its home knows. ``settings``: as its home
    told, None while it has not. ``needs``: flags that a node must have for it."""

    pid: Pid
    origpid: Pid
    home: Ip
    uid: Id
    comm: Comm
    since: Amount
    settings: Settings | None = None
    needs: Needs = []


class GuestGone(Msg, tag=6):
    pid: Pid


class OpenChannel(Msg, tag=7):
    """A tracer asks for a data channel to a new host on ``target`` (an IP; "": the best but ``avoid``). Answered by ChannelReady or
    ChannelFailed. ``direct``: the image will come from another host, so a second token and key are wanted for that connection.
    ``features``: those of the home-node (`abi.cpu`); ``needs``: flags that the program cannot do without, checked by the target.
    ``below``: it takes the program only while its load with it is below this (0: whatever its load).
    """

    req: Number
    target: Ip
    pid: Pid
    uid: Id
    comm: Comm
    need_mb: Megabytes
    features: Features
    direct: bool = False
    below: Load = 0
    needs: Needs = []
    avoid: Ip = ""


class Report(Msg, tag=8):
    """A line for the node's log. ``level`` as in logging."""

    level: Annotated[int, Meta(ge=0, le=50)]
    text: str


class Adjusted(Msg, tag=9):
    """Tracer's answer to Adjust, and to a Command that sets something: "" or the reason of the refusal."""

    req: Number
    error: str


class PrivateFile(Msg, tag=26):
    """A private file of ``pid`` (a program here, or a guest's local PID): our descriptor ``fd``; -1: the name is gone."""

    pid: Pid
    name: RawPath
    fd: Fd


class PrivateGone(Msg, tag=27):
    """The private files of ``pid`` are not on this node any more."""

    pid: Pid


class PrivateLeft(Msg, tag=30):
    """A file on the disk that was private to a program of ``uid``: it is beside this, and shall be kept empty until nobody else
    can write to it."""

    uid: Id


class Usage(Msg):
    """What one program or guest has used. CPU in seconds: ``age`` since its start, ``here`` since it came to this node.

    ``demand``: share of the last second in which it ran or wanted to, of several threads their sum; ``size_mb``: resident memory.
    The rest are the decayed sums of `balance.history`: seconds observed, of CPU, calls, bytes received and sent by them.
    ``user_away``: CPU seconds of user level that were used away from home. ``forwarded``: calls that home has made for it since
    its start.
    """

    pid: Pid
    age: Amount
    here: Amount
    demand: Amount
    size_mb: Megabytes
    wall: Amount
    cpu: Amount
    calls: Amount
    received: Amount
    sent: Amount
    user_away: Amount = 0.0
    forwarded: Count = 0


class UsageReport(Msg, tag=16):
    """Of a tracer or host, once a second at most: a row for each program that has used anything since the last one."""

    rows: Annotated[list[Usage], Meta(max_length=1024)]


class GuestStayed(Msg, tag=17):
    """A guest that was asked to leave goes on here; ``reason`` as in ProcState."""

    pid: Pid
    reason: Reason


class Consider(Msg, tag=18):
    """A program asks to be considered for a move (mosix(7): it wrote -1 to migrate)."""

    pid: Pid


class TollPaid(Msg, tag=19):
    """Of a host: what a guest has done since the last one (`balance.toll.Toll`), which may be reason enough to have it go home."""

    pid: Pid
    calls: Amount
    traffic: Amount
    images: Amount
    cpu: Amount
    size_mb: Megabytes = 0


# Mailboxes (docs/design/mailboxes.md). A program is (home, pid): its home-node as an unsigned integer, its PID there. ``req`` is
# the asker's own number, echoed in MailAnswer. Bodies above `mbox.body.INLINE` travel beside the message, as a memory file.


class MailOpen(Msg, tag=21):
    """The program opens its mailbox, or opens it again. Answered with 0 or -errno."""

    req: Number
    home: Address
    pid: Pid
    uid: Id
    gid: Id
    flags: Annotated[int, Meta(ge=-1, le=255)]


class MailTake(Msg, tag=22):
    """It reads ``count`` bytes (-1: is there a message?); ``filter`` is its struct interested, b"" for none.

    ``used``: bytes that it has read of what it was lent; the rest goes back first. ``borrow``: lend it the first message, if this
    is a stream.
    """

    req: Number
    home: Address
    pid: Pid
    count: Annotated[int, Meta(ge=-1, le=2**63 - 1)]
    filter: Annotated[bytes, Meta(max_length=64)] = b""
    used: Mail = 0
    borrow: bool = False


class MailPut(Msg, tag=23):
    """It sends ``size`` bytes to (``to_home``, ``to_pid``); ``data`` unless they come beside.

    ``late``: the program has gone on; the message is accepted even if there is no room, and ``MailAnswer.wait`` tells that.
    """

    req: Number
    home: Address
    pid: Pid
    uid: Id
    gid: Id
    to_home: Address
    to_pid: Pid
    size: Mail
    data: Inline = b""
    late: bool = False


class MailFilters(Msg, tag=24):
    """SIOCSTOREINTERESTS with an array of struct interested; None: SIOCWHICH, answered with the bitmap."""

    req: Number
    home: Address
    pid: Pid
    filters: Inline | None = None


class MailClose(Msg, tag=25):
    """The last descriptor of the mailbox is being closed: its messages are discarded. Answered."""

    req: Number
    home: Address
    pid: Pid


class MailBack(Msg, tag=28):
    """It gives back what it was lent, of which it has read ``used`` bytes. Answered."""

    req: Number
    home: Address
    pid: Pid
    used: Mail


class MailReturned(Msg, tag=29):
    """A mailbox that was left with us (`MailAnswer.left`) goes back: first its messages in order, then this with ``whose`` None.

    ``whose``: home, pid, location, bytes already read; ``data`` unless its ``size`` bytes come beside.
    """

    home: Address
    pid: Pid
    whose: tuple[Address, Pid, Address, Mail] | None
    size: Mail = 0
    data: Inline = b""
    ended: bool = False


# --------------------------------------------------------------------------- control socket: from mosd


class MailAnswer(Msg, tag=44):
    """``result`` is what the call returns; -EAGAIN with ``wait``: try again after MailWake. ``size``, ``offset`` and ``data`` (or
    a memory file beside) are what MailTake brought, ``last`` whose message it was. ``number``: how many filters are stored.

    ``lent``: the message stays in the mailbox, and the next request tells how much of it was used.
    ``left``: the mailbox is empty, and the asker keeps it until MailRecall (`mbox.borrowed`).
    """

    req: Number
    result: Result
    wait: bool = False
    size: Mail = 0
    offset: Mail = 0
    data: Inline = b""
    last: LastMessage | None = None
    number: Count = 0
    lent: bool = False
    left: LeftBox | None = None


class MailWake(Msg, tag=45):
    """What the program waits for may have happened: its call is made again."""

    home: Address
    pid: Pid


class MailRecall(Msg, tag=47):
    """A mailbox that was left is needed here: `MailReturned`."""

    home: Address
    pid: Pid


class MailHeld(Msg, tag=46):
    """To a tracer: ``node`` holds the mailbox of its program ``pid`` now; "" when no other node does. The next mosd asks for it."""

    pid: Pid
    node: Ip


class ChannelReady(Msg, tag=32):
    """The data channel's TCP socket travels beside this message (SCM_RIGHTS). Keys are 32 random bytes.

    ``direct_token`` and ``direct_key`` (if asked for) let another host send the image to ``target``:``port``.
    ``near``: no compression (mosix.map, letter p). ``features``: those of the target (`abi.cpu`). ``frames``, ``packs``: as in
    GuestAccept."""
    req: Number
    key: Secret
    target: Ip
    port: Port
    near: bool
    direct_token: Secret = b""
    direct_key: Secret = b""
    features: Features = ""
    frames: Count = 0
    packs: Count = 0


class ChannelFailed(Msg, tag=33):
    """``reason`` in the words of the manual, section 10.5: "not in map", "no response", "other node refused", ..."""

    req: Number
    reason: Reason


class Command(Msg, tag=34):
    """Set ``name`` of process ``pid`` to ``value`` (a row of `procfs.table`); "migrate" takes an IP, "" for home.

    To a host: ``pid`` is the guest's local PID and ``name`` is "out": ask the home-node to take the guest back, or, when ``value``
    is an IP, to move it there. ``seq``: number of a move, or what `Adjusted` repeats. ``below`` as in OpenChannel. ``why``: of an
    automatic move. ``hurry``: this node is short of memory, so the program shall stand still at once, not grow on while copied.
    """

    pid: Pid
    name: str
    value: str
    seq: Number = 0
    below: Load = 0
    why: str = ""
    hurry: bool = False


class Adjust(Msg, tag=35):
    """mosrun or mosnative was run inside a MOSIX program: for ``pid`` from its next exec on. Who asked: as in `SpawnTracer`."""

    req: Number
    pid: Pid
    uid: Id
    gid: Id
    started: Number
    settings: Settings
    start: Start
    native: bool = False


class DirectImage(Msg, tag=36):
    """To a host: the connection (SCM_RIGHTS) over which another host will send the image."""

    key: Secret


class Config(Msg, tag=37):
    """This node's facts that tracers and hosts need: sent after a Hello. ``userview``: IP -> number.

    ``cluster``: (first address as an unsigned integer, how many) of the ranges and aliases that are this cluster.
    ``private``: by letter of private.conf, (directory, megabytes). ``partners``: as ``cluster``, of the partner-clusters.
    ``freezing``: of freeze.conf.
    """

    ip: Ip
    port: Port
    userview: dict[str, Count]
    speed: Count = 10000
    cluster: list[tuple[Address, Number]] = []
    private: dict[str, tuple[Path, Megabytes]] = {}
    partners: list[tuple[Address, Number]] = []
    freezing: FreezingSpace = FreezingSpace()


# --------------------------------------------------------------------------- mosd -> fork server (spawn requests)


class SpawnTracer(Msg, tag=48):
    """Fork a tracer for ``pid``; the launcher's connection travels beside it, and the tracer answers b"OK" there."""

    pid: Pid
    uid: Id
    gid: Id
    settings: Settings
    start: Start
    socket: Path
    started: Number  #: when ``pid`` began (proc(5), field 22 of stat): another process may get its number


class SpawnHost(Msg, tag=49):
    """Fork a host; the data channel's TCP socket travels beside it."""

    home: Ip
    uid: Id
    comm: Comm
    key: Secret
    token: Secret
    near: bool
    socket: Path
    own_cluster: bool = True  #: its home-node belongs to our cluster (private.conf, C or G)
    features: Features = ""  #: those of its home-node (`abi.cpu`)
    runs_as: Id = 65534  #: the user that its bodies run as, if mosd is root
    packs: Count = 0  #: how its home-node unpacks memory (`migrate.packing`)


class AdoptTracer(Msg, tag=50):
    """A tracer died: fork another that seizes these processes, all at home. ``started``: when each began (`SpawnTracer`)."""

    pids: list[Pid]
    started: list[Number]
    uid: Id
    states: list[ProcState]
    socket: Path


Control = (
    HelloTracer | HelloHost | ProcState | ProcGone | GuestState | GuestGone | OpenChannel | Report | Adjusted | PrivateFile
    | PrivateGone | PrivateLeft | ChannelReady | ChannelFailed | Command | Adjust | DirectImage | Config | SpawnTracer
    | SpawnHost | AdoptTracer | UsageReport | TollPaid | GuestStayed | Consider | MailOpen | MailTake | MailPut | MailFilters
    | MailClose | MailBack | MailReturned | MailAnswer | MailWake | MailRecall | MailHeld
)
_encoder, _control, _peer = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Control), msgspec.msgpack.Decoder(Peer)


def encode(message: msgspec.Struct) -> bytes:
    return _encoder.encode(message)


M = TypeVar("M", bound=msgspec.Struct)


def checked(message: M) -> M:
    """``message`` as its receiver will see it; ValueError for a field that it would refuse."""
    try:
        return msgspec.msgpack.decode(encode(message), type=type(message))
    except OverflowError as error:
        raise ValueError(str(error)) from None


def decode_control(data: bytes) -> Any:
    """The message in ``data``; msgspec.DecodeError when it is not one of `Control`."""
    return _decoded(_control, data)


def decode_peer(data: bytes | memoryview) -> Any:
    return _decoded(_peer, data)


def _decoded(decoder: msgspec.msgpack.Decoder[Any], data: bytes | memoryview) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError:
        raise
    except MALFORMED as error:  # a text that is none, or something nested too deeply
        raise msgspec.DecodeError(str(error)) from None
