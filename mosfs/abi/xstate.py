"""The extended state of a processor (NT_X86_XSTATE) laid out for another one: pure functions.

Every kernel shows this state in the standard format of XSAVE (Intel SDM volume 1, 13.4): 512 bytes of FXSAVE, a header of 64 bytes,
then each component at the offset that CPUID leaf 0xD of *that* processor says. Where components are, and how much there is in
all, differs between vendors, generations and kernels; what a component holds does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

LEGACY_SIZE, HEADER_SIZE = 512, 64
HEADER_END = LEGACY_SIZE + HEADER_SIZE
#: Where the header says which components are not in their initial state (XSTATE_BV).
_IN_USE = slice(LEGACY_SIZE, LEGACY_SIZE + 8)
#: The components that FXSAVE holds: x87 and SSE. Every x86_64 processor has them.
LEGACY = 0b11
PKRU = 9
#: Bytes that a component has at most (the tiles of AMX).
LONGEST = 8192
#: Tiles of AMX, which programs give back after each use (TILERELEASE). They do not travel while they are in use.
STAYS = 1 << 17 | 1 << 18
#: Protection keys as Linux sets them up for each program (pkeys(7)): it may use key 0 only.
PKRU_DEFAULT = (0x55555554).to_bytes(4, "little")
#: component: the flag of `cpu.USER_FLAGS` that users know it by
NAMES = {2: "avx", 5: "avx512f", 6: "avx512f", 7: "avx512f", PKRU: "pku", 17: "amx_tile", 18: "amx_tile", 19: "apx"}


class Component(NamedTuple):
    """Component ``number`` of XCR0: ``size`` bytes at ``offset`` of the standard format."""

    number: int
    offset: int
    size: int


Layout = tuple[Component, ...]


class Lacking(Exception):
    """State in use has no place on this processor. ``features``: the flags that stand for it, sorted."""

    def __init__(self, features: Iterable[str]) -> None:
        self.features = sorted(set(features))
        super().__init__(" ".join(self.features))


def checked(rows: Iterable[tuple[int, int, int]], size: int) -> Layout:
    """A layout that came with an image of ``size`` bytes: ValueError if it contradicts itself or them."""
    layout = tuple(Component(*row) for row in rows)
    end = HEADER_END
    for c in sorted(layout, key=lambda c: c.offset):
        if not (2 <= c.number < 63 and c.size > 0 and end <= c.offset and c.offset + c.size <= size):
            raise ValueError(f"component {c.number} lies at {c.offset}, {c.size} bytes, of {size}")
        end = c.offset + c.size
    if len({c.number for c in layout}) != len(layout):
        raise ValueError("a component is named twice")
    return layout


def checked_waiting(rows: Iterable[tuple[int, bytes]]) -> dict[int, bytes]:
    """Waiting components that came with an image: ValueError if they cannot be such."""
    waiting = dict(rows)
    for number, data in waiting.items():
        if not 2 <= number < 63 or not 0 < len(data) <= LONGEST:
            raise ValueError(f"component {number} of {len(data)} bytes waits")
    return waiting


def name_of(number: int) -> str:
    return NAMES.get(number, f"xstate{number}")


def in_use(state: bytes, layout: Layout) -> list[Component]:
    """The components whose contents differ from what a new program has. The header alone does not say: a processor may count a
    component as in use after all of it has become zero again."""
    bits = int.from_bytes(state[_IN_USE], "little")
    return [c for c in layout if bits >> c.number & 1 and _matters(c, state[c.offset : c.offset + c.size])]


def _matters(component: Component, contents: bytes) -> bool:
    if component.number == PKRU:
        return contents[:4] not in (bytes(4), PKRU_DEFAULT)
    return any(contents)


def waits(number: int, there: int) -> bool:
    """Whether a component that a node (XCR0 ``there``) lacks can wait beside a program that runs there.

    It can if no instruction of that node would change it: then the program cannot tell, because those that use it raise SIGILL. AVX
    registers beyond SSE: legacy instructions leave them alone (SDM volume 1, 14.9). Upper halves of ZMM0 to 15: AVX instructions
    clear them. Opmasks, ZMM16 to 31 and R16 to R31 have no other names.
    """
    return {2: True, 5: True, 6: not there >> 2 & 1, 7: True, 19: True}.get(number, False)


def lacking(state: bytes, layout: Layout, there: int) -> list[str]:
    """The flags of components in use that a node whose XCR0 is ``there`` does not have, and that cannot wait meanwhile."""
    has = there & ~STAYS
    return sorted({name_of(c.number) for c in in_use(state, layout) if not (has >> c.number & 1 or waits(c.number, has))})


def lost(state: bytes, layout: Layout, there: int, room: int) -> list[str]:
    """The flags of what is in use in the ``state`` of a signal's frame and would be lost on a node when its handler returns.

    ``there``: its XCR0. ``room``: bytes of state in its own frames: of longer ones its kernel restores FXSAVE only. Nothing waits
    here: what waits is of now, and not of when the signal came.
    """
    used = in_use(state, _within(state, layout))
    return sorted({name_of(c.number) for c in used if len(state) > room or not there >> c.number & 1})


def misread(state: bytes, layout: Layout, own: Layout, waiting: Mapping[int, bytes]) -> list[str]:
    """The same on our processor, whose layout may be another: components in use that it has elsewhere, and those that have waited
    while the signal came, which the return would set back to their initial state."""
    places, within = {c.number: c for c in own}, _within(state, layout)
    moved = {c.number for c in in_use(state, within) if places.get(c.number, c) != c}
    return sorted({name_of(number) for number in moved | (waiting.keys() & places.keys())})


def _within(state: bytes, layout: Layout) -> Layout:
    return tuple(c for c in layout if c.offset + c.size <= len(state))


def arranged(state: bytes, layout: Layout, waiting: Mapping[int, bytes], own: Layout, size: int) -> tuple[bytes, dict[int, bytes]]:
    """``state`` of another processor in our ``own`` layout of ``size`` bytes, and the components that wait here.

    ``waiting``: those that waited there. `Lacking` if one in use has no place here and cannot wait. Components that are not in use
    there, or that only we have, are in their initial state.
    """
    if len(state) < HEADER_END or size < HEADER_END:
        raise ValueError(f"{len(state)} bytes of state for {size}")
    places = {c.number: c for c in own if not STAYS >> c.number & 1}
    has = sum(1 << number for number in places)
    contents = {**waiting, **{c.number: state[c.offset : c.offset + c.size] for c in in_use(state, layout)}}
    homeless = {n: data for n, data in contents.items() if n not in places or places[n].size != len(data)}
    if absent := [name_of(n) for n in homeless if n in places or not waits(n, has)]:
        raise Lacking(absent)
    made = bytearray(size)
    made[:LEGACY_SIZE] = state[:LEGACY_SIZE]
    bits = int.from_bytes(state[_IN_USE], "little") & LEGACY
    if PKRU in places and PKRU not in contents:
        contents[PKRU] = PKRU_DEFAULT.ljust(places[PKRU].size, b"\0")
    for number in contents.keys() - homeless.keys():
        bits |= 1 << number
        made[places[number].offset : places[number].offset + places[number].size] = contents[number]
    made[_IN_USE] = bits.to_bytes(8, "little")
    return bytes(made), homeless
