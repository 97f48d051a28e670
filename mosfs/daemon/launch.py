"""What mosrun and mosnative ask of mosd: plain text, because the launcher cannot afford to import anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from msgspec.structs import replace

from mosfs.abi import levels
from mosfs.abi.texts import Text, text
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import parse_directories
from mosfs.cluster.mosrun_conf import DEFAULT, FORCED, MODES, Rules
from mosfs.daemon.channels import NOT_IN_MAP
from mosfs.native import kernel
from mosfs.node.choice import any_flags, best, choose, common_flags
from mosfs.node.nodes import NotInMap
from mosfs.node.world import World
from mosfs.procfs.table import name_of_checkpoints
from mosfs.ptf import directories
from mosfs.wire.asked import Settings, Start
from mosfs.wire.messages import checked

OK = b"OK"

RUN = b"RUN"
NATIVE = b"NATIVE"

#: Seconds that a host name may take to resolve.
RESOLVE_TIMEOUT = 5.0

#: Keys of the request that are integers of `Settings`; their ranges are that message's.
_SETTINGS = frozenset({"unsupported", "lock", "freezable", "needmem", "cpujob", "decay", "checkpoint_limit", "checkpoint_interval",
                       "outlive", "incremental", "threads", "share_memory", "compress"})
#: What begins the keys of mosrun -O: a descriptor follows.
REOPEN = "reopen"
#: More digits are no number that we know.
MAX_DIGITS = 10
_HOME = ("", "home", "0")
BEST = "best"

TOO_MANY = "mosd is busy with too many requests of yours: try again later"
TOO_MANY_WAIT = "too many of your programs wait for memory already: try again later"
NOT_ADMITTED = "the administrator does not let you use mosrun on this node"
ONLY_BEST = "the administrator lets programs start on the best node only (-b)"
NEEDS_MEMORY = "the administrator wants to know how much memory the program needs (-m{mb})"
STAYS_IN_CLUSTER = "the administrator keeps your programs in this cluster"

#: A node as the user typed it to its IP, or None; may wait for a name server.
Resolve = Callable[[str], str | None]


#: What a user's own list of freezing directories is called in messages (mosrun(1)).
FREEZE_DIRS = "FREEZE_DIR or .freeze_dirs"


class Refused(Exception):
    """The text to print after "mosrun: "."""


def refused(text: str) -> bytes:
    return b"ERR\0" + text.encode()


@dataclass(frozen=True, slots=True)
class Request:
    """A launcher's request. ``node`` is as the user typed it, "" = not given; ``trace``: see `Start`; ``level``: of
    `abi.levels.NAMES`, "" = not given; ``confined``: it may run in our own cluster only."""

    native: bool
    settings: Settings = field(default_factory=Settings)
    node: str = ""
    force: bool = False
    trace: int = -1
    level: str = ""
    restart: int = -1
    reopen: list[tuple[int, str]] = field(default_factory=list)
    number: bool = False
    confined: bool = False

    def continued(self) -> dict[str, Any]:
        """What of `Start` is about going on from a checkpoint."""
        return {"restart": self.restart, "reopen": self.reopen, "number": self.number}


def parse(data: bytes) -> Request | None:
    """The request in a datagram; None when it is not a launcher's, `Refused` when it is a bad one."""
    verb, _, rest = data.partition(b"\0")
    if verb == NATIVE:
        return Request(native=True)
    if verb != RUN:
        return None
    try:
        return _parse(dict(pair.partition("=")[::2] for pair in rest.decode().split("\0") if pair))
    except UnicodeDecodeError:
        raise Refused("names of files and nodes must be text in UTF-8") from None
    except ValueError:
        raise Refused("mosd does not understand this mosrun: are their versions the same?") from None


def _parse(pairs: dict[str, str]) -> Request:
    """ValueError for keys, numbers and names that no mosrun sends."""
    number = pairs.pop("number", "0") == "1"
    node, force, trace = pairs.pop("node", ""), pairs.pop("force", "0"), _integer(pairs.pop("trace", "-1"))
    restart = _integer(pairs.pop("restart", "-1"))
    reopen = [(_integer(key.removeprefix(REOPEN)), pairs.pop(key)) for key in list(pairs) if key.startswith(REOPEN)]
    checkpoints = name_of_checkpoints(pairs.pop("checkpoint_file")) if "checkpoint_file" in pairs else ""
    private, level, freezing = pairs.pop("private", ""), pairs.pop("cpu", ""), pairs.pop("freeze_dirs", "")
    if private and (reason := directories.refusal(private.split(directories.SEPARATOR))):
        raise Refused(reason)
    try:
        parse_directories(freezing, FREEZE_DIRS)
    except ConfigError as error:
        raise Refused(str(error)) from None
    if not pairs.keys() <= _SETTINGS:
        raise ValueError("unknown key")
    numbers = {key: _integer(value) for key, value in pairs.items()}
    settings = checked(replace(Settings(private=private, checkpoint_file=checkpoints, freeze_dirs=freezing), **numbers))
    checked(Start(shown=node, trace=trace, restart=restart, reopen=reopen))
    level = levels.level_named(level) if level else ""
    return Request(False, settings, node, force == "1", trace, level, restart, reopen, number)


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("not a number of ours")
    return int(text)


def ruled(request: Request, rules: Rules, uid: int, *, inside: bool) -> Request:
    """``request`` of the user ``uid`` as the administrator's ``rules`` have it (manual, 4.6); `Refused` when they forbid it.

    ``inside``: of a program that runs under mosrun already. It has its memory, unsupported calls and threads from that one, and
    begins where that one is, unless the best node is forced."""
    if request.native:
        return request
    if not rules.admits(uid):
        raise Refused(NOT_ADMITTED)
    forced = rules.best == FORCED and uid != 0
    if forced and request.node not in ("", BEST):
        raise Refused(ONLY_BEST)
    settings, again = request.settings, inside or request.restart >= 0
    if rules.memory and uid != 0 and settings.needmem < 0 and not again:
        raise Refused(NEEDS_MEMORY)
    if rules.unsupported and settings.unsupported < 0 and not again:
        settings = replace(settings, unsupported=MODES[rules.unsupported])
    if rules.threads and settings.threads < 0 and not again:
        settings = replace(settings, threads=0)
    best = not request.node and (forced or (rules.best == DEFAULT and not inside))
    return dataclasses.replace(request, settings=settings, node=BEST if best else request.node, confined=rules.confines(uid))


def must_wait(world: World, request: Request) -> bool:
    """mosrun(1), -m: with -b the program does not begin until a node has enough memory."""
    need = max(request.settings.needmem, 0)
    return request.node == BEST and need > 0 and choose(world, need, reserve=False, own=request.confined) is None


def ok(start: Start) -> bytes:
    """The answer to a launcher that may become the program: OK, and what it adds to its environment."""
    return b"\0".join([OK, *(entry.encode() for entry in start.preset)])


def preset(world: World, level: str) -> list[str]:
    """What a program of this level (`abi.levels.NAMES`) is told by its environment.

    It may begin on a node that has more than this one, or make exec there: what it is not to use is hidden wherever it is."""
    met = any_flags(world)
    gone = levels.hidden(level, met, common_flags(world) if level == levels.COMMON else met)
    told = levels.preset(met, gone)
    if not kernel.has("rseq_told"):
        told["GLIBC_TUNABLES"] = ":".join(filter(None, (told.get("GLIBC_TUNABLES"), "glibc.pthread.rseq=0")))
    return [f"{name}={value}" for name, value in told.items()]


async def place(world: World, request: Request, look_up: Callable[[str], Awaitable[str | None]]) -> Start:
    """Where the program shall start; `Refused` for a node that is not in the map, unless it may start at home then.

    The best node is our choice, not the user's: when it has changed its mind meanwhile the program starts at home."""
    if request.node in _HOME:
        return Start("", request.force, request.node)
    if request.node == BEST:
        return Start(best(world, max(request.settings.needmem, 0), own=request.confined), True, request.node)
    ip: str | None = None
    with trio.move_on_after(RESOLVE_TIMEOUT):
        ip = await look_up(request.node)
    try:
        target = world.target(ip or "")
        if request.confined and target and not world.map.relation(target).own:
            raise Refused(STAYS_IN_CLUSTER)
        return Start(target, request.force, request.node)
    except NotInMap:
        if request.force:
            return Start("", request.force, request.node)
        raise Refused(text(Text.MIGRATE_FAILED, computer=request.node, reason=NOT_IN_MAP)) from None
