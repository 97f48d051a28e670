"""XRSTOR, by which ld.so gives registers back behind the first call of a function (Intel SDM volume 2, 2.1 and XRSTOR).

Where it is made with state that XSAVEC has saved on another processor, it raises #GP if this one has not got XSAVEC, or a component
that the other one has, even if that is not in use: SIGSEGV, and not SIGILL.
"""

from __future__ import annotations

from collections.abc import Sequence

from mosfs.abi.xstate import LEGACY_SIZE, NAMES

#: The registers of an address by their numbers in an instruction.
REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
_COMPACTED = 1 << 63
_ADDRESSES = (1 << 64) - 1
#: Where the state's header is, behind what FXSAVE writes, and how much of it says which components there are: XSTATE_BV, XCOMP_BV.
HEADER_AT, HEADER_SIZE = LEGACY_SIZE, 16
_RSP, _RBP = 4, 5


def operand(code: bytes, registers: Sequence[int], rip: int) -> int | None:
    """From where XRSTOR at the start of ``code``, which lies at ``rip``, takes state; None if it is another instruction.
    ``registers``: their values, in the order of `REGISTERS`."""
    at, rex = 0, 0
    if code[:1] and code[0] & 0xF0 == 0x40:
        at, rex = 1, code[0]
    if code[at : at + 2] != b"\x0f\xae" or len(code) < at + 3:
        return None
    modrm, at = code[at + 2], at + 3
    mode, base = modrm >> 6, modrm & 7
    if modrm >> 3 & 7 != 5 or mode == 3:
        return None
    address = 0
    if base == _RSP:  # a SIB byte follows
        if len(code) <= at:
            return None
        sib, at = code[at], at + 1
        index, base = sib >> 3 & 7 | (rex & 2) << 2, sib & 7
        if index != _RSP:
            address += registers[index] << (sib >> 6)
    no_base = base == _RBP and not mode
    size = 1 if mode == 1 else 4 if mode == 2 or no_base else 0
    moved = code[at : at + size]
    if len(moved) < size:
        return None
    address += int.from_bytes(moved, "little", signed=True)
    if not no_base:
        address += registers[base | (rex & 1) << 3]
    elif modrm & 7 == _RBP:  # relative to the next instruction
        address += rip + at + size
    return address & _ADDRESSES


def unknown(header: bytes, xcr0: int, *, compacts: bool) -> list[str]:
    """The flags for which XRSTOR refuses state with these `HEADER_SIZE` bytes, sorted. ``xcr0``: of this processor; ``compacts``:
    it has XSAVEC."""
    used, held = (int.from_bytes(header[at : at + 8], "little") for at in (0, 8))
    there = (used | held & ~_COMPACTED) & ~xcr0
    found = {name for number, name in NAMES.items() if there >> number & 1}
    if held & _COMPACTED and not compacts:
        found.add("xsavec")
    return sorted(found)
