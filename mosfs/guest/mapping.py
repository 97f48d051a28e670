"""Files as memory of guests: mmap(2) of a file, and mremap(2)."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from functools import partial

import msgspec

from mosfs.abi.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_WRITE
from mosfs.abi.numbers import SYS_MPROTECT, SYS_MUNMAP
from mosfs.calls.request import Request
from mosfs.guest.body import Body
from mosfs.guest.completion import Completion
from mosfs.guest.forwarding import UNSUPPORTED, Forwarding
from mosfs.guest.in_body import remapped
from mosfs.migrate import shown
from mosfs.migrate.filecopy import WANT
from mosfs.migrate.image import BadImage, Vma, is_object
from mosfs.migrate.maps import file_maps, mapping_at
from mosfs.migrate.ranges import Range
from mosfs.trace.inject import Calls
from mosfs.trace.layout import USER_END
from mosfs.wire.frames import Kind
from mosfs.wire.orders import MmapOrder

_PLACEMENT = 0x100000 | 0x40  # FIXED_NOREPLACE, 32BIT


@dataclass(slots=True)
class MapRequest:
    """A file mapping under way at ``addr``; ``reserved``: the memory there is taken already. ``file``: number of the file, or 0 and
    what it shows: (offset, bytes). ``shared``: as it was asked for."""

    addr: int
    length: int
    prot: int
    flags: int
    offset: int = 0
    name: str = ""
    reserved: bool = False
    file: int = 0
    shared: bool = False
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    came: int = 0  # bytes of the chunks


class MappedFiles:
    def __init__(self, forwarding: Forwarding, completion: Completion) -> None:
        self._forwarding = forwarding
        self._completion = completion

    def mmap(self, body: Body, args: tuple[int, ...]) -> None:
        addr, length, prot, flags, fd, offset = args
        if flags & MAP_ANONYMOUS and not flags & MAP_SHARED:
            body.task.cont()
            return
        if flags & MAP_ANONYMOUS:
            # shared, and not to be written: home knows whether that may be private (`calls.policy.Do.PRIVATE`)
            body.call.both = True
            self._forwarding.forward(body, Request(body.call.nr, args, body.task.peek_mask()), UNSUPPORTED)
            return
        if offset & 4095:
            self._completion.finish(body, -errno.EINVAL)
            return
        if not length or length > USER_END:  # it fails, and home knows why: the descriptor is looked at before the length
            self._forwarding.forward(body, Request(body.call.nr, args, body.task.peek_mask()))
            return
        whole = (length + 4095) & ~4095
        request = MapRequest(addr, whole, prot & 7, flags, offset)
        if not flags & MAP_FIXED:
            request.reserved = True
            try:
                with Calls(body.task, base=body.call.regs) as call:
                    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags & _PLACEMENT
                    request.addr = call.map(addr, whole, 0, kind)
            except OSError as error:
                self._completion.finish(body, -(error.errno or errno.ENOMEM))
                return
        body.call.mapping = request
        order = MmapOrder(whole, prot & 7, flags, fd & 0xFFFFFFFF, offset, self._forwarding.mask(body), request.addr)
        then = partial(self._mapped, body, request)
        self._forwarding.ask(body, Kind.MMAP, msgspec.msgpack.encode(order), then=then)

    def mremap(self, body: Body, args: tuple[int, ...]) -> None:
        """A mapping grows; of a file, home first sends what it will show."""
        mapping = mapping_at(body.pid, args[0])
        found = body.memory.copies.known(mapping) if mapping is not None and mapping.inode else None
        if mapping is None or found is None or is_object(found[0]) or args[2] > USER_END:
            self._completion.finish(body, remapped(body))
            return
        body.call.both = True
        want = WANT.pack(found[0], mapping.offset + args[0] - mapping.start, args[2])
        self._forwarding.ask(body, Kind.WANT, want)

    def mprotect(self, body: Body, args: tuple[int, ...]) -> None:
        """What shows a file, shared, is a copy here, and may become writable at home only: the call goes there with the program."""
        start, end = args[0], args[0] + args[1]
        shared = args[2] & PROT_WRITE and any(
            m.shared and m.start < end and start < m.end and (found := body.memory.copies.known(m)) and not is_object(found[0])
            for m in file_maps(body.pid)
        )
        if not shared:
            body.task.cont()
            return
        body.call.both = True
        self._forwarding.forward(body, Request(body.call.nr, args, body.task.peek_mask()), UNSUPPORTED)

    def name(self, body: Body, payload: bytes, *, shared: bool) -> None:
        """MMAP_NAME: number and name of the file."""
        if body.call.mapping is not None and len(payload) >= 4:
            body.call.mapping.file = int.from_bytes(payload[:4], "little")
            body.call.mapping.name = payload[4:].decode("latin-1")
            body.call.mapping.shared = shared and bool(body.call.mapping.flags & MAP_SHARED)

    def data(self, body: Body, payload: bytes) -> None:
        """MMAP_DATA: a piece of a file that has no number."""
        mapping = body.call.mapping
        if mapping is None:
            return
        offset = int.from_bytes(payload[:8], "little")
        mapping.came += len(payload) - 8
        if offset + len(payload) - 8 > mapping.length or mapping.came > mapping.length:
            raise BadImage("more of a file than is mapped")
        mapping.chunks.append((offset, payload[8:]))

    def _mapped(self, body: Body, request: MapRequest, result: int) -> int | None:
        """All of the file has come, or what of it was offered is asked for: then None. Map its copy; or what it shows as private
        memory, if it cannot be followed."""
        if result >= 0 and (part := body.memory.copies.lacks(request.file, request.offset, request.length)):
            want = WANT.pack(request.file, part[0], part[1] - part[0])
            self._forwarding.ask(body, Kind.WANT, want, then=partial(self._asked, body, request, part))
            return None
        body.call.mapping = None
        with Calls(body.task, base=body.call.regs) as call:
            if result >= 0:
                try:
                    result = self._map_file(body, call, request)
                except OSError as error:
                    result = -(error.errno or errno.ENOMEM)
            if result < 0 and request.reserved:
                call(SYS_MUNMAP, request.addr, request.length)
        return result

    def _asked(self, body: Body, request: MapRequest, part: Range, result: int) -> int | None:
        """What has not come with the answer is not there at home any more."""
        body.memory.copies.forgo(request.file, part)
        return self._mapped(body, request, result)

    def _map_file(self, body: Body, call: Calls, request: MapRequest) -> int:
        """The address, or a negative errno; OSError too."""
        new = Vma(
            request.addr, request.addr + request.length, request.prot, name=request.name, offset=request.offset, file=request.file,
            shared=request.shared and request.file > 0,
        )  # fmt: skip
        if body.memory.copies.has(request.file):
            body.memory.copies.name(request.file, request.name)
            return body.memory.copies.map(call, request.file, new)
        result = call.map(request.addr, request.length, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
        for offset, data in request.chunks:
            body.task.write(result + offset, data)
        if request.prot != 3:
            call(SYS_MPROTECT, result, request.length, request.prot)
        if request.name:
            body.memory.names = shown.with_mapping(body.memory.names, new)
        return result
