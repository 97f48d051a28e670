"""The tree of a node: folders and files over a `World`, addressed by `Entry`, without a file system.

A place is three small numbers (which folder, whose, which file), and packs into an inode number. So there is nothing to
count and nothing to forget: a place is valid as long as its subject exists. All functions answer at once and raise
OSError with the errno that the caller shall see: ENOENT for what is gone, EACCES for others' programs, EINVAL for
nonsense, ERANGE for a number that is too small or too big, EHOSTUNREACH for nodes that are not in the map, EAGAIN while
a program's tracer is not connected. Only a setting is said to a tracer first: `node.pending` waits for its answer.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from mosfs.abi.outcomes import UNDER_WAY
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.node import guests
from mosfs.node.ended import Ended
from mosfs.node.nodes import Node, NotInMap
from mosfs.node.pending import Asked
from mosfs.node.programs import Guest, Order, Program
from mosfs.node.world import World
from mosfs.procfs import letters
from mosfs.procfs import node as node_folder
from mosfs.procfs.metrics import metrics
from mosfs.procfs.table import (
    BY_NAME,
    CONTROL_FILES,
    Access,
    ControlFile,
    Kind,
    NotInRange,
    name_of_checkpoints,
    parse,
)
from mosfs.wire.messages import Command, ProcState
from mosfs.wire.place import Place

#: A bigger map is not listed whole in nodes/, only the nodes that are known.
LISTED_MAP = 1000

SELF = "self"
UNKNOWN = "-"

_json = msgspec.json.Encoder()


class Folder(IntEnum):
    ROOT = 0
    PROC = 1
    PROGRAM = 2
    GUESTS = 3
    GUEST = 4
    NODES = 5
    NODE = 6
    OWN = 7
    ENDED = 8
    GONE = 9  # a program that has ended
    MBOX = 16
    HOME = 17  # mailboxes of one home-node
    LETTERS = 18  # a mailbox: key and file together say whose (`letters.pack`)


class Entry(NamedTuple):
    """A file, or the folder itself when ``file`` is 0. ``key``: PID, or IP as integer; 0 in folders that exist once."""

    folder: Folder
    key: int = 0
    file: int = 0

    @property
    def inode(self) -> int:
        return 1 + (self.folder | self.file << 8 | self.key << 16)

    @classmethod
    def of(cls, inode: int) -> Entry:
        packed = inode - 1
        return cls(Folder(packed & 0xFF), packed >> 16, packed >> 8 & 0xFF)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a folder; the functions get the world and the folder's subject.

    ``ask`` makes a question of it: anyone may write, and reads the answer back on the same open file; who reads without
    writing gets the answer to "".
    """

    name: str
    text: str
    read: Callable[[World, Any], object] | None = None
    write: Callable[[World, Any, str], Asked | None] | None = None
    ask: Callable[[World, Any, str], object] | None = None


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows. ``timeout``: seconds that the kernel may keep it."""

    mode: int
    uid: int
    timeout: float


SELF_LINK = Entry(Folder.ROOT, file=0xFF)


def _json_line(fields: dict[str, object]) -> str:
    return _json.encode(fields).decode()


def fields_of(message: msgspec.Struct) -> dict[str, Any]:
    """Names and values of a message, nested ones too."""
    return {
        name: fields_of(value) if isinstance(value := getattr(message, name), msgspec.Struct) else value
        for name in message.__struct_fields__
    }


# --------------------------------------------------------------------------- programs


def _migrate(world: World, program: Program, text: str) -> None:
    word = text.strip()
    value = 0 if word == "home" else as_unsigned(word) if "." in word else parse(BY_NAME["migrate"], word)
    world.move(program, value)


def _ask(world: World, _: Program, text: str) -> None:
    """A question has no place for its answer in a write but success: EHOSTUNREACH says no."""
    word = text.strip()
    value = as_unsigned(word) if "." in word else parse(_NODE, word)
    if not world.in_cluster(value):
        raise NotInMap(word)


_NODE = ControlFile("node", Access.WRITE, 1, 2**32 - 1, "a node number or IP")


#: What mosmigrate(1) writes to the file ``checkpoint``; any number means the first.
_THEN = ("checkpoint", "chkstop", "chkexit")


def _checkpoint(world: World, program: Program, text: str) -> None:
    word = text.strip()
    if word not in _THEN:
        parse(BY_NAME["checkpoint"], text)
        word = _THEN[0]
    world.checkpoint(program, word)


#: What is written to the file ``frozen``: by hand (mosmigrate(1)), for another package, and to have it go on.
_MARKS = {"freeze": "M", "preempt": "P", "continue": ""}


def _freeze(world: World, program: Program, text: str) -> None:
    mark = _MARKS.get(text.strip())
    if mark is None:
        raise ValueError(f"frozen: one of {', '.join(_MARKS)}")
    world.freeze(program, mark)


def _control(row: ControlFile) -> File:
    """The file for a row of the table."""

    def show(world: World, program: Program) -> object:
        fact = _PROGRAM_FACTS.get(row.name)
        return fact(world, program) if fact else settings_shown(program.state)[row.name]

    def change(world: World, program: Program, text: str) -> Asked:
        return world.set(program, row.name, name_of_checkpoints(text) if row.kind is Kind.NAME else parse(row, text))

    write = {"migrate": _migrate, "checkpoint": _checkpoint, "in_cluster": _ask}.get(row.name, change)
    return File(row.name, row.text, show if row.file_reads else None, write if row.file_writes else None)


def _last(field: str) -> Callable[[World, Program], object]:
    """About the last message that the program read; IPs as unsigned numbers, as `whereami` shows them."""

    def show(_: World, program: Program) -> object:
        last = program.state.last_message
        if last is None:
            return UNKNOWN
        value = getattr(last, field)
        return as_unsigned(value) if isinstance(value, str) else value

    return show


_PROGRAM_FACTS: dict[str, Callable[[World, Program], object]] = {
    "whereami": lambda world, program: world.whereami(program.state.where),
    "nmigs": lambda _, program: program.state.nmigs,
    "sigmig": lambda _, program: program.state.sigmig,
    "checkpoint": lambda _, program: program.state.next_checkpoint,
    "checkpointfile": lambda _, program: program.state.settings.checkpoint_file or f"ckpt.{program.state.pid}",
    "in_cluster": lambda world, program: int(world.map.contains(program.state.where or world.ip)),
    "sender_home": _last("home"),
    "sender_pid": _last("pid"),
    "sender_location": _last("location"),
    "message_length": _last("length"),
}


def _where(world: World, program: Program) -> str:
    """The WHERE column of mosps(1)."""
    state = program.state
    if state.where:
        return world.shown(state.where)
    return state.state if state.state in (Place.STARTING, Place.LEAVING) else Place.HOME.value


def _move(world: World, program: Program) -> str:
    number, result = program.outcome(Order.MOVE)
    target = program.last_target
    return f"{number} {world.shown(target) if target else 'home'} {result or UNDER_WAY}"


def _outcome(order: Order) -> Callable[[World, Program], str]:
    """Number and result of the last order of this kind."""

    def show(_: World, program: Program) -> str:
        number, result = program.outcome(order)
        return f"{number} {result or UNDER_WAY}"

    return show


def _outliving(_: World, program: Program) -> str:
    found = program.state.outliving
    if found is None:
        return ""
    size = found.image_bytes + found.log_bytes
    told = f"images={found.images} bytes={size} brought={found.brought} memory={found.memory} "
    told += f"interval={found.interval} outlived={found.outlived}"
    return f"no: {found.unsafe}; {told}" if found.unsafe else f"yes; {told}"


def _why(_: World, program: Program) -> str:
    """Away: why it was sent there. Here: what holds it, what the last round of decisions said, or why the last move failed."""
    state = program.state
    return state.because if state.where else state.barred or program.balanced.verdict or state.why


def _history(world: World, subject: Program | Guest) -> dict[str, object]:
    """What decisions know of a program: seconds of CPU, megabytes, and rates a second over the remembered past."""
    settings = subject.state.settings
    decay = settings.decay if settings else -1
    usage, history = subject.balanced.usage, subject.balanced.history(world.clock(), decay)
    if usage is None:
        return {}
    seconds = max(history.wall, 1e-9)
    return {
        "age": usage.age, "here": usage.here, "demand": usage.demand, "size_mb": usage.size_mb,
        "cpu": round(history.share, 4), "calls": round(history.call_rate, 1), "received": round(history.received / seconds),
        "sent": round(history.sent / seconds), "seconds": round(history.wall, 1),
    }


def _everything(world: World, subject: Program | Guest) -> str:
    facts = {**fields_of(subject.state), "history": _history(world, subject)}
    if isinstance(subject, Program):
        now = world.clock()
        facts["path"] = [[round(now - visit.at, 1), visit.where, visit.why] for visit in subject.path]
    return _json_line(facts)


_HISTORY = File("history", "what it used, as JSON: CPU seconds, memory, rates of calls and bytes, fading by decayrate",
                lambda w, s: _json_line(_history(w, s)))

PROGRAM_FILES = (
    *map(_control, CONTROL_FILES),
    File("where", "here, leaving, starting, or the number or IP of the node", _where),
    File("frozen", "-, or who froze it: A automatically, P another package, M by hand; N/A if it cannot be frozen. "
         "What may be written: freeze, preempt, continue",
         lambda _, p: p.state.frozen, _freeze),
    File("freezing", "number and result of the last write to frozen: ... while it is done, ok, or the reason",
         _outcome(Order.FREEZE)),
    File("why", "why it stays where it is, or why it was sent there; empty when nothing is known", _why),
    File("checkpointed", "number and result of the last checkpoint that a user asked for: ... while it is taken, ok, or the reason",
         _outcome(Order.SAVE)),
    File("move", "number, target and result of the last move: ... while it runs, ok, or the reason", _move),
    File("outliving", "with outlive: yes, or why it would end with its node just now; images taken, bytes at home, bytes that the "
         "last one brought, bytes of memory at home, seconds to the next, nodes outlived", _outliving),
    File("awaytime", "CPU seconds of user level that were used on other nodes",
         lambda _, p: p.balanced.usage.user_away if p.balanced.usage else 0.0),
    File("stat", "everything above as JSON", _everything),
    _HISTORY,
)

# --------------------------------------------------------------------------- programs that have ended


def _total(world: World, ended: Ended) -> str:
    return _json_line({
        "pid": ended.pid, "uid": ended.uid, "comm": ended.comm, "ago": round(world.clock() - ended.at, 1),
        "where": ended.where, "nmigs": ended.nmigs, **fields_of(ended.total),
    })


ENDED_FILES = (
    File("usertime", "CPU seconds of user level that it and its children used, on all nodes", lambda _, e: e.user),
    File("systime", "the same of system level", lambda _, e: e.system),
    File("stat", "everything above as JSON, by where it was used, and how many seconds ago it ended", _total),
)

# --------------------------------------------------------------------------- guests


def _send_out(_: World, guest: Guest, text: str) -> None:
    if text.strip() not in ("out", "home"):
        raise ValueError("out")
    guest.send(Command(guest.state.pid, "out", ""))


GUEST_FILES = (
    File("from", "number or IP of its home-node", lambda w, g: w.shown(g.state.home)),
    File("origpid", "process ID at home", lambda _, g: g.state.origpid),
    File("uid", "user ID at home", lambda _, g: g.state.uid),
    File("pid", "process ID of the body on this node", lambda _, g: g.state.pid),
    File("comm", "name of the program", lambda _, g: g.state.comm),
    File("migrate", "out asks its home-node to take it back", write=_send_out),
    File("stat", "everything above as JSON", _everything),
    _HISTORY,
    File("why", "why it stays on this node", lambda _, g: g.balanced.verdict),
)

# --------------------------------------------------------------------------- nodes


def _age(world: World, node: Node) -> float | None:
    return None if node.status is None else round(max(0.0, world.clock() - node.heard), 1)


def _fact(name: str) -> Callable[[World, Node], object]:
    return lambda _, node: UNKNOWN if node.status is None else getattr(node.status, name)


def _memory(_: World, node: Node) -> str:
    return UNKNOWN if node.status is None else f"{node.status.mem_free} {node.status.mem_total}"


def _swap(_: World, node: Node) -> str:
    return UNKNOWN if node.status is None else f"{node.status.swap_free} {node.status.swap_total}"


def _flag(field: str) -> Callable[[World, Node], object]:
    return lambda world, _: int(getattr(world.switches, field))


def _number(world: World, node: Node) -> object:
    return UNKNOWN if (number := world.map.number_of(node.ip)) is None else number


def _version(world: World, node: Node) -> str | None:
    if node.ip == world.ip:
        return world.version
    return node.version or (node.hello.version if node.hello else None)


def _node_stat(world: World, node: Node) -> str:
    known = {} if node.status is None else fields_of(node.status)
    return _json_line({
        "ip": node.ip, "number": world.map.number_of(node.ip), **node_folder.cluster_of(world, node),
        "status": node_folder.condition(world, node), "age": _age(world, node), "version": _version(world, node),
        **node_folder.processor(world, node), **known,
    })


_ABOUT_NODES = (
    File("load", "100 = one runnable process for each processor of standard speed", _fact("load")),
    File("speed", "10000 = a standard processor", _fact("speed")),
    File("ncpus", "number of processors", _fact("ncpus")),
    File("memory", "free and total memory in megabytes", _memory),
    File("swap", "free and total swap space in megabytes", _swap),
    File("frozen", "number of frozen programs", _fact("frozen")),
    File("paging", "pages a second from and to swap", _fact("paging")),
    File("guests", "number of guests there", _fact("guests")),
    File("processes", "number of MOSIX processes that run there", _fact("processes")),
    File("rstatus", "the twelve integers of mosctl rstatus", node_folder.rstatus),
    File("number", "node-number, - for none", _number),
    File("stat", "everything above as JSON", _node_stat),
)

NODE_FILES = (
    *_ABOUT_NODES,
    File("status", "alive, blocked, dead, or unknown", node_folder.condition),
    File("version", "version of its software", lambda w, n: _version(w, n) or UNKNOWN),
    File("age", "seconds since its last sign of life", lambda w, n: UNKNOWN if (age := _age(w, n)) is None else age),
)


OWN_FILES = (
    *_ABOUT_NODES,
    File("ip", "IP address of this node", lambda w, _: w.ip),
    File("version", "version of the software", lambda w, _: w.version),
    File("port", "TCP port for migrations", lambda w, _: w.port),
    File("pid", "process ID of mosd", lambda w, _: w.pid),
    File("programs", "number of programs whose home-node this is", lambda w, _: len(w.programs)),
    File("away", "number of programs of this node that are away", lambda w, _: node_folder.programs_away(w)),
    File("stay", "1 keeps programs and guests from leaving automatically", _flag("stay"), node_folder.switch("stay")),
    File("lstay", "1 keeps programs of this node from leaving automatically", _flag("lstay"), node_folder.switch("lstay")),
    File("block", "1 lets no guests in", _flag("blocked"), node_folder.switch("blocked")),
    File("expel", "1 sends all guests away", write=node_folder.expel),
    File("bring", "1 brings all programs of this node home", write=node_folder.bring),
    File("shutdown", "1 expels, brings, and ends mosd; 1 while it does", _flag("ending"), node_folder.shutdown),
    File("best", "the best node for one more program: write mem=MB, reserve; read IP, or 0", ask=node_folder.best),
    File("whois", "write a number or IP; read IP and number", ask=node_folder.whois),
    File("map", "the IPs of all nodes of the map", lambda w, _: "\n".join(w.map.nodes())),
    File("partners", "the partner-clusters, as JSON", node_folder.partners),
    File("reload", "a path, nothing or . reads the configuration again; number and result (..., ok, or why not) of the last time",
         lambda w, _: f"{w.reload.number} {w.reload.result}", node_folder.reload),
    File("misplaced", "programs and guests that are where the map does not allow them",
         lambda w, _: node_folder.count_misplaced(w)),
    File("cluster", "all numbered nodes as JSON", node_folder.cluster),
    File("loads", "loads over the last hour, as JSON: the oldest of each node first, null where they were not known",
         node_folder.loads),
    File("gossip", "counters of the exchange of information, as JSON", lambda w, _: _json_line(dict(w.counts.gossip))),
    File("decisions", "the last automatic moves and refusals, with their reasons", lambda w, _: "\n".join(w.decisions)),
    File("metrics", "what Prometheus reads: load, moves, guests, gossip", lambda w, _: metrics(w)),
)

ROOT_FILES = (
    File("priority", "best priority of the MOSIX processes that run here: 0 is our own cluster, 65535 if there are none",
         lambda world, _: guests.running(world)),
)

# --------------------------------------------------------------------------- folders


@dataclass(frozen=True, slots=True)
class Spec:
    """A kind of folder: files, subject (None: it is gone), ``private`` = for the owner and root only."""

    files: tuple[File, ...]
    subject: Callable[[World, int], Any]
    private: bool = False
    timeout: float = 0.0


def _node(world: World, key: int) -> Node | None:
    ip = to_ip(key)
    return (world.nodes.get(ip) or Node(ip)) if world.map.relation(ip).known else None


SPECS = {
    Folder.ROOT: Spec(ROOT_FILES, lambda world, _: world, timeout=60.0),
    Folder.PROC: Spec((), lambda world, _: world, timeout=60.0),
    Folder.PROGRAM: Spec(PROGRAM_FILES, lambda world, key: world.programs.get(key), private=True),
    Folder.ENDED: Spec((), lambda world, _: world, timeout=60.0),
    Folder.GONE: Spec(ENDED_FILES, lambda world, key: world.ended.get(key, world.clock()), private=True),
    Folder.GUESTS: Spec((), lambda world, _: world, timeout=60.0),
    Folder.GUEST: Spec(GUEST_FILES, lambda world, key: world.guests.get(key)),
    Folder.NODES: Spec((), lambda world, _: world, timeout=60.0),
    Folder.NODE: Spec(NODE_FILES, _node),
    Folder.OWN: Spec(OWN_FILES, lambda world, _: world.me),
    Folder.MBOX: Spec((), lambda world, _: world, timeout=60.0),
    Folder.HOME: Spec((), lambda world, key: world if not key or world.map.relation(to_ip(key)).known else None),
    Folder.LETTERS: Spec((), lambda world, _: world),
}

_TOP = {
    "proc": Folder.PROC, "guests": Folder.GUESTS, "nodes": Folder.NODES, "node": Folder.OWN, "mbox": Folder.MBOX,
    "ended": Folder.ENDED,
}
_INSIDE = {Folder.PROC: Folder.PROGRAM, Folder.ENDED: Folder.GONE, Folder.GUESTS: Folder.GUEST, Folder.NODES: Folder.NODE}


def _error(number: int) -> OSError:
    return OSError(number, "")


class Tree:
    """The tree over ``world``. ``admin`` is the uid that counts as root besides 0: the one that mosd runs as."""

    def __init__(self, world: World, admin: int) -> None:
        self.world = world
        self.admin = admin

    def subject(self, place: Entry) -> Any:
        """What the folder of ``place`` is about; ENOENT when it is gone."""
        found = SPECS[place.folder].subject(self.world, place.key)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    def attributes(self, place: Entry) -> Attributes:
        subject = self.subject(place)
        spec = SPECS[place.folder]
        if place.folder is Folder.LETTERS:
            seen = letters.look(self.world.letters, *letters.unpack(place.key, place.file), self.admin)
            return Attributes(seen.mode, seen.uid, 0.0)
        owner = self._owner(subject)
        if place == SELF_LINK:
            return Attributes(stat.S_IFLNK | 0o777, owner, 0.0)
        if not place.file:
            return Attributes(stat.S_IFDIR | (0o500 if spec.private else 0o555), owner, spec.timeout)
        file = self._file(place)
        if file.ask:
            return Attributes(stat.S_IFREG | 0o666, owner, spec.timeout)
        reading = (0o400 if spec.private else 0o444) if file.read else 0
        writing = 0o200 if file.write else 0
        return Attributes(stat.S_IFREG | reading | writing, owner, spec.timeout)

    def _owner(self, subject: Any) -> int:
        match subject:
            case Program(state=state):
                return state.uid
            case Ended(uid=uid):
                return uid
        return self.admin

    def check(self, place: Entry, uid: int, bits: int) -> None:
        """EACCES unless ``uid`` may do what ``bits`` say (R_OK, W_OK, X_OK); root may whatever anyone may."""
        attributes = self.attributes(place)
        mode = attributes.mode & 0o777
        owner, others = mode >> 6, mode & 7
        granted = owner if uid in (0, self.admin, attributes.uid) else others
        if bits & ~granted:
            raise _error(errno.EACCES)

    def lookup(self, folder: Entry, name: str, uid: int, pid: int) -> Entry:
        """The place called ``name`` in ``folder``, for a caller with this uid and PID."""
        self.check(folder, uid, 1)
        if folder.file:
            raise _error(errno.ENOTDIR)
        if folder.folder in _INSIDE:
            place = Entry(_INSIDE[folder.folder], _key(folder.folder, name))
            self.subject(place)
            return place
        if folder.folder is Folder.MBOX:
            place = Entry(Folder.HOME, letters.home_of(name))
            self.subject(place)
            return place
        if folder.folder is Folder.HOME:
            return Entry(Folder.LETTERS, *letters.pack(folder.key, letters.pid_of(name)))
        for found, place in self.children(folder, pid):
            if found == name:
                return place
        raise _error(errno.ENOENT)

    def children(self, folder: Entry, pid: int) -> Iterator[tuple[str, Entry]]:
        """Names and places in a folder as process ``pid`` sees it, in a stable order."""
        world = self.world
        match folder.folder:
            case Folder.ROOT:
                yield from ((name, Entry(kind)) for name, kind in _TOP.items())
                yield from ((file.name, folder._replace(file=n)) for n, file in enumerate(ROOT_FILES, 1))
                if pid in world.programs:
                    yield SELF, SELF_LINK
            case Folder.PROC:
                yield from ((str(key), Entry(Folder.PROGRAM, key)) for key in sorted(world.programs))
            case Folder.ENDED:
                yield from ((str(key), Entry(Folder.GONE, key)) for key in world.ended.pids(world.clock()))
            case Folder.GUESTS:
                yield from ((str(key), Entry(Folder.GUEST, key)) for key in sorted(world.guests))
            case Folder.NODES:
                keys = sorted(map(as_unsigned, self._listed_nodes()))
                yield from ((to_ip(key), Entry(Folder.NODE, key)) for key in keys)
            case Folder.MBOX:
                homes = letters.listed(world.letters, as_unsigned(world.ip))
                yield from ((to_ip(home), Entry(Folder.HOME, home)) for home in homes)
            case Folder.HOME:
                pids = sorted(world.letters.pids(folder.key)) if world.letters is not None else []
                yield from ((str(found), Entry(Folder.LETTERS, *letters.pack(folder.key, found))) for found in pids)
            case _:
                self.subject(folder)
                files = SPECS[folder.folder].files
                yield from ((file.name, folder._replace(file=n)) for n, file in enumerate(files, 1))

    def _listed_nodes(self) -> set[str]:
        known = {ip for ip in self.world.nodes if self.world.map.relation(ip).known}
        listed = list(islice(chain(self.world.map.nodes(), self.world.map.partner_nodes()), LISTED_MAP + 1))
        return known if len(listed) > LISTED_MAP else known.union(listed)

    def link(self, pid: int) -> str:
        """Where self/ leads for process ``pid``; ENOENT outside mosrun."""
        if pid not in self.world.programs:
            raise _error(errno.ENOENT)
        return f"proc/{pid}"

    def read(self, place: Entry) -> bytes:
        if place.folder is Folder.LETTERS and self.world.letters is not None:
            return self.world.letters.show(*letters.unpack(place.key, place.file)).encode()
        file = self._file(place)
        if file.ask is not None:
            return f"{file.ask(self.world, self.subject(place), '')}\n".encode()
        if file.read is None:
            raise _error(errno.EACCES)
        return f"{file.read(self.world, self.subject(place))}\n".encode()

    def write(self, place: Entry, data: bytes) -> bytes | Asked | None:
        """Do what ``data`` says; the answer that the same open file shall read, or a setting that is still to be confirmed."""
        file = self._file(place)
        try:
            if file.ask is not None:
                return f"{file.ask(self.world, self.subject(place), data.decode())}\n".encode()
            if file.write is None:
                raise _error(errno.EACCES)
            return file.write(self.world, self.subject(place), data.decode())
        except NotInMap:
            raise _error(errno.EHOSTUNREACH) from None
        except NotInRange:
            raise _error(errno.ERANGE) from None
        except ConnectionError:
            raise _error(errno.EAGAIN) from None
        except ValueError:
            raise _error(errno.EINVAL) from None

    def _file(self, place: Entry) -> File:
        files = SPECS[place.folder].files
        if not 0 < place.file <= len(files):
            raise _error(errno.EISDIR if not place.file else errno.ENOENT)
        return files[place.file - 1]


def _key(folder: Folder, name: str) -> int:
    """The key of the subfolder ``name``; ENOENT unless the name is exactly as `Tree.children` writes it."""
    try:
        key = as_unsigned(name) if folder is Folder.NODES else int(name)
    except ValueError:
        raise _error(errno.ENOENT) from None
    if key < 0 or name != (to_ip(key) if folder is Folder.NODES else str(key)):
        raise _error(errno.ENOENT)
    return key


def settings_shown(state: ProcState) -> Mapping[str, int]:
    """Current value of every setting that is a number, defaults in the place of "not given"; keys are names of control files."""
    return {
        row.name: row.default if (value := getattr(state.settings, row.setting)) < 0 else value
        for row in BY_NAME.values()
        if row.setting and row.kind is Kind.NUMBER
    }
