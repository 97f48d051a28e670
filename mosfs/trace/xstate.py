"""The extended state of a traced program, and where this processor keeps it (`mosfs.abi.xstate`)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import cache

from mosfs.abi.xstate import HEADER_END, LEGACY, LEGACY_SIZE, Component, Layout, arranged
from mosfs.native import ffi, lib
from mosfs.trace.task import Task, check

NT_PRFPREG, NT_X86_XSTATE = 2, 0x202
_LEAF = 0xD
#: More than any kernel gives: AMX has 8 KB.
_ROOM = 16384


@cache
def own_layout() -> Layout:
    """What the kernel enables beyond SSE, by CPUID leaf 0xD (Intel SDM volume 1, 13.2)."""
    enabled = lib.mos_xcr0() & ~LEGACY
    out = ffi.new("unsigned int[4]")
    found = []
    for number in range(2, 63):
        if enabled >> number & 1:
            lib.mos_cpuid(_LEAF, number, out)
            if out[0]:
                found.append(Component(number, int(out[1]), int(out[0])))
    return tuple(found)


def read(task: Task) -> bytes:
    """The state of a stopped task in the standard format; FXSAVE and an empty header where the kernel does not use XSAVE."""
    room = bytearray(_ROOM)
    got = lib.mos_getregset(task.pid, NT_X86_XSTATE, ffi.from_buffer(room), _ROOM)
    if got == -errno.ENODEV:
        check(lib.mos_getregset(task.pid, NT_PRFPREG, ffi.from_buffer(room), LEGACY_SIZE), "floating point state", task.pid)
        room[LEGACY_SIZE] = LEGACY
        got = HEADER_END
    return bytes(room[: check(got, "xstate", task.pid)])


def write(task: Task, state: bytes, layout: Layout, waiting: Mapping[int, bytes]) -> dict[int, bytes]:
    """Give a stopped task the ``state`` that a processor of this ``layout`` had, with what was ``waiting`` there.

    Returns what waits here (`xstate.arranged`). `xstate.Lacking`: some of it can neither be here nor wait.
    """
    size = len(read(task))
    own = own_layout() if size > HEADER_END else ()
    data = state
    left: dict[int, bytes] = {}
    if waiting or layout != own or len(state) != size:
        data, left = arranged(state, layout, waiting, own, size)
    if size == HEADER_END and not lib.mos_xcr0():
        check(lib.mos_setregset(task.pid, NT_PRFPREG, ffi.from_buffer(data), LEGACY_SIZE), "floating point state", task.pid)
    else:
        check(lib.mos_setregset(task.pid, NT_X86_XSTATE, ffi.from_buffer(data), size), "xstate", task.pid)
    return left
