"""What mosd, a tracer, a host or the fork server is doing: SIGUSR1 writes it to the log, for whoever finds that something hangs.

The handler runs as soon as the interpreter does. Every wait in C has its limit: a tracer or host that waits for events wakes
up once a second, one that waits for a program after half a minute. (`faulthandler` would tell at once, but when its handlers are
chained a second signal may kill the process.)

Nothing is computed for it: what is shown are the fields that the process has, and none of them is changed. Memory of programs
and secrets are not shown, bytes are counted only.
"""

from __future__ import annotations

import _thread  # `threading` would have each fork make its tables anew, 140 pages
import dataclasses
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from enum import Enum
from itertools import islice
from types import FrameType
from typing import Any

from mosfs.cluster.log import complain
from mosfs.wire.channel import Channel
from mosfs.wire.frames import kind_name

SIGNAL = signal.SIGUSR1
#: Characters of a dump, of one of its lines, of one value; items of a container; calls of a stack.
MOST, LINE, VALUE, ITEMS, CALLS = 64 << 10, 1500, 200, 4, 40
#: How deep a line goes into the fields of fields; objects of ours that lie so deep have lines of their own.
DEPTH, LEVELS = 2, 3
SECRET = frozenset({"key", "token", "secret"})

#: A name and a thing for each line; of a thing that is text, just that.
Parts = Callable[[], Iterable[tuple[str, Any]]]

_parts: Parts = tuple
_under_way = _thread.allocate_lock()


def on_signal(parts: Parts) -> None:
    """From now on `SIGNAL` shows ``parts``. A process that is forked inherits that, and calls this again for what it is."""
    global _parts
    _parts = parts
    signal.signal(SIGNAL, _dump)


def _dump(_signal: int, _frame: FrameType | None) -> None:
    """The handler. It runs between any two instructions of the process, so it only reads, and no error of it goes further."""
    if not _under_way.acquire(blocking=False):
        return  # one more signal, while this was at work
    try:
        complain(text(_parts()))
    except Exception as error:
        complain(f"{os.getpid()}: no dump: {type(error).__name__}")
    finally:
        _under_way.release()


def stacks() -> Iterator[str]:
    """Lines with the calls that each thread is in, the innermost last."""
    for ident, frame in sys._current_frames().items():
        if ident != _thread.get_ident():
            yield f"  thread {ident}"
        yield from (f"  at {call.name} ({call.filename}:{call.lineno})" for call in traceback.extract_stack(frame)[-CALLS:])


def text(parts: Iterable[tuple[str, Any]]) -> str:
    """A dump, of at most about `MOST` characters."""
    with open("/proc/self/comm", encoding="ascii", errors="replace") as comm:
        lines = [f"{comm.read().strip()} {os.getpid()}: state", *stacks()]
    size = sum(map(len, lines))
    for name, thing in parts:
        said = thing if isinstance(thing, str) else channel(thing) if isinstance(thing, Channel) else fields(thing)
        line = f"  {name}: {said}"[:LINE]
        size += len(line)
        if size > MOST:
            return "\n".join([*lines, "  ... and more"])
        lines.append(line)
    return "\n".join(lines)


def components(owner: object) -> Iterator[tuple[str, Any]]:
    """A line for ``owner``, and for each object of ours among its fields, and theirs, that has something to say. None repeats
    another."""
    known, level = {id(owner)}, [("", owner)]
    parts = [(type(owner).__name__, owner)]
    for _ in range(LEVELS):
        level = [(f"{path}.{name}".lstrip("."), part) for path, whole in level for name, part in _parts_of(whole, known)]
        parts += level
    for path, part in parts:
        if said := channel(part) if isinstance(part, Channel) else fields(part, known=known):
            yield path, said


def _parts_of(owner: object, known: set[int]) -> Iterator[tuple[str, Any]]:
    """The objects of ours among its fields that are not ``known``; now they are."""
    for name, part in _fields(owner):
        if type(part).__module__.startswith("mosfs.") and not isinstance(part, Enum) and id(part) not in known:
            known.add(id(part))
            yield name, part


def channel(one: Channel) -> str:
    """Its state, and the last frames, sent (>) and received (<): seconds since then, kind, pair and length."""
    now = time.monotonic()
    frames = (f"{now - at:.3f} {way}{kind_name(kind)} {pair} {size}" for at, way, kind, pair, size in one.trail)
    return f"{'lost, ' * one.lost}{one.waiting} frames wait; last frames: {', '.join(frames) or 'none'}"


def fields(thing: object, depth: int = DEPTH, known: Container[int] = ()) -> str:
    """Those fields of ``thing`` that say something: no zeros, nothing empty, no secrets. ``known``: by id(), what has a line of its
    own."""
    told = ((name, part) for name, part in _fields(thing) if name.lstrip("_") not in SECRET and id(part) not in known)
    shown = ((name, value(part, depth - 1)) for name, part in told)
    return " ".join(f"{name}={said}" for name, said in shown if said)


def value(part: Any, depth: int) -> str:
    """``part`` in a few words; "" if there is nothing to say."""
    if isinstance(part, Enum):
        return part.name
    if part is None or isinstance(part, bool | int | float | str):
        said = str(part) if part else ""
        return (said if said.isprintable() else repr(said))[:VALUE]
    if isinstance(part, bytes | bytearray | memoryview):
        return f"{len(part)} bytes" if len(part) else ""
    if isinstance(part, Mapping | list | tuple | set | frozenset | deque):
        return _container(part, depth)
    if depth < 1 or not type(part).__module__.startswith("mosfs."):
        return type(part).__name__
    return f"{type(part).__name__}({fields(part, depth)})"[: 2 * VALUE]


def _container(part: Any, depth: int) -> str:
    if not part:
        return ""
    if isinstance(part, Mapping):
        items = [f"{value(name, 0) or 0}: {value(of, depth - 1) or '-'}" for name, of in islice(part.items(), ITEMS)]
    else:
        items = [value(of, depth - 1) or '-' for of in islice(part, ITEMS)]
    return f"{len(part)}[{', '.join(items)}{', ...' * (len(part) > ITEMS)}]"[: 2 * VALUE]


def _fields(thing: object) -> Iterator[tuple[str, Any]]:
    """Names and values, without a call of any code of ``thing``: no properties."""
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            yield field.name, getattr(thing, field.name, None)
    elif isinstance(names := getattr(type(thing), "__struct_fields__", None), tuple):
        for name in names:
            yield name, getattr(thing, name)
    else:
        yield from getattr(thing, "__dict__", {}).items()
