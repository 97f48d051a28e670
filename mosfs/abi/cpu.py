"""What a processor offers programs, and what a program has made use of (manual, chapter 3).

Nodes tell it each other as one line. A program does not need all that its node has: an instruction that another node lacks raises
SIGILL there, which its host sees before the program does (`suspects`), and state that is not in use can be missing
(`mosfs.abi.xstate`). Only what changes results without a fault must be there beforehand (`SILENT`).

The line: sorted names of /proc/cpuinfo's flags that a program can notice, then ``xcr0=HEX`` (the state components the
kernel enables for programs, which follow from the flags; Intel SDM volume 1, chapter 13) and ``sigframe=BYTES``
(AT_MINSIGSTKSZ, getauxval(3): the kernel's word for the size of a signal frame with that state).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from struct import iter_unpack

from mosfs.abi.reasons import Reason

_WORDS = """
    3dnow 3dnowext 3dnowprefetch abm adx aes amx_bf16 amx_complex amx_fp16 amx_int8 amx_tile apx avx avx2
    avx512_4fmaps avx512_4vnniw avx512_bf16 avx512_bitalg avx512_fp16 avx512_vbmi2 avx512_vnni avx512_vp2intersect
    avx512_vpopcntdq avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf avx512vbmi avx512vl avx_ifma
    avx_ne_convert avx_vnni avx_vnni_int16 avx_vnni_int8 bmi1 bmi2 cldemote clflush clflushopt clwb clzero cmov
    cmpccxadd cx16 cx8 enqcmd f16c fma fma4 fsgsbase fxsr fxsr_opt gfni hle lahf_lm lwp
    misalignsse mmx mmxext monitorx movbe movdir64b movdiri mwaitx ospke pclmulqdq pku pni popcnt prefetchi
    prefetchwt1 ptwrite raoint rdpid rdpru rdrand rdseed rdtscp rtm serialize sha512 sha_ni sm3 sm4 sse sse2 sse4_1
    sse4_2 sse4a ssse3 tbm tsxldtrk user_shstk vaes vpclmulqdq waitpkg xgetbv1 xop xsave xsavec xsaveopt
"""
#: Flags that add instructions or registers of user mode. All others are the kernel's business or mere speed. Nodes tell each other
#: the places of theirs in this list (`packed`): new ones stand at its end, and none is ever taken out.
PLACES = tuple(_WORDS.split())
USER_FLAGS = frozenset(PLACES)
#: Bytes of `packed`.
PACKED = 16
#: What every x86_64 processor has. A node that does not say so says nothing.
BASE = frozenset({"cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})

#: flag: bits of XCR0 that the kernel sets when it shows the flag.
XCR0_BITS = {"fpu": 0x1, "sse": 0x2, "avx": 0x4, "avx512f": 0xE0, "ospke": 0x200, "amx_tile": 0x60000, "apx": 0x80000}
_AT_MINSIGSTKSZ = 51


def describe(cpuinfo: str, sigframe: int) -> str:
    """The line for the text of /proc/cpuinfo and a signal frame's size in bytes (0: unknown)."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    sets = [set(value.split()) for key, _, value in lines if key.strip() == "flags"]
    flags = set.intersection(*sets) if sets else set()
    xcr0 = 0
    for flag, bits in XCR0_BITS.items():
        xcr0 |= bits if flag in flags else 0
    return " ".join([*sorted(flags & USER_FLAGS), f"xcr0={xcr0:x}", f"sigframe={sigframe}"])


def sigframe_size(auxv: bytes) -> int:
    """AT_MINSIGSTKSZ of an auxiliary vector (16-byte entries), 0 if the kernel is too old to tell."""
    return next((value for key, value in iter_unpack("<QQ", auxv) if key == _AT_MINSIGSTKSZ), 0)


@cache
def features() -> str:
    """This node's line; it does not change while the node is up. Flags that MOSIX_CPU_WITHOUT names, for tests, are left out."""
    line = describe(Path("/proc/cpuinfo").read_text(), sigframe_size(Path("/proc/self/auxv").read_bytes()))
    return without(line, os.environ.get("MOSIX_CPU_WITHOUT", "").split())


def without(line: str, hidden: Iterable[str]) -> str:
    """``line`` of a processor that lacks the flags ``hidden``, and the state that goes with them."""
    found = parse(line)
    gone = USER_FLAGS & set(hidden)
    if not gone & found.flags:
        return line
    xcr0 = found.xcr0 & ~sum(XCR0_BITS.get(flag, 0) for flag in gone)
    return " ".join([*sorted(found.flags - gone), f"xcr0={xcr0:x}", f"sigframe={found.sigframe}"])


@lru_cache(maxsize=8)
def packed(flags: frozenset[str]) -> bytes:
    """``flags`` in `PACKED` bytes, for other nodes: bit n of the little-endian number is the flag at place n."""
    return sum(1 << at for at, flag in enumerate(PLACES) if flag in flags).to_bytes(PACKED, "little")


@lru_cache(maxsize=1024)
def unpacked(data: bytes) -> frozenset[str]:
    """The flags that another node has told; none if it has told nothing, or what no x86_64 processor is. Bits that we have no name
    for are of a newer version, and no program here can need them."""
    bits = int.from_bytes(data, "little")
    flags = frozenset(flag for at, flag in enumerate(PLACES) if bits >> at & 1)
    return flags if flags >= BASE else frozenset()


#: Flags whose instructions do something else where the processor does not know them: LZCNT is executed as BSR, TZCNT as BSF (Intel
#: SDM volume 2, "LZCNT", "TZCNT"; AMD APM volume 3, the same). What else older processors take for another instruction are hints
#: (PREFETCHW, CLDEMOTE, PAUSE, XACQUIRE, ENDBR64, RDSSP ...), which change no result.
SILENT = frozenset({"abm", "bmi1"})


@dataclass(frozen=True, slots=True)
class Processor:
    """A line, taken apart. ``xcr0``: the state components that programs have; ``sigframe``: bytes of a signal frame, or 0."""

    flags: frozenset[str]
    xcr0: int
    sigframe: int


@lru_cache(maxsize=64)
def parse(line: str) -> Processor:
    """ValueError if it makes no sense; flags that we do not know are left out, since no program here can have used them."""
    words = line.split()
    values = dict(word.split("=", 1) for word in words if "=" in word)
    xcr0, sigframe = int(values.get("xcr0", "0"), 16), int(values.get("sigframe", "0"))
    if not (0 <= xcr0 < 1 << 64 and 0 <= sigframe < 1 << 20):
        raise ValueError(f"processor features out of range: xcr0={xcr0:x} sigframe={sigframe}")
    return Processor(frozenset(words) & USER_FLAGS, xcr0, sigframe)


def sensible(line: str) -> str:
    """``line``, which somebody else sent; "" (unknown) if it makes no sense."""
    try:
        parse(line)
    except ValueError:
        return ""
    return line


def union(one: str, other: str) -> str:
    """The line of what a program may have seen that was at two nodes."""
    if one == other or not other:
        return one
    a, b = parse(one), parse(other)
    return " ".join([*sorted(a.flags | b.flags), f"xcr0={a.xcr0 | b.xcr0:x}", f"sigframe={max(a.sigframe, b.sigframe)}"])


def required(seen: str, needs: Iterable[str] = ()) -> list[str]:
    """What a program that has seen the features ``seen`` and is known to use ``needs`` must find at a node."""
    return sorted((parse(seen).flags & SILENT) | set(needs))


def missing(needed: Iterable[str], offered: str) -> list[str]:
    """Which of the flags ``needed`` a node with the line ``offered`` lacks, sorted."""
    return sorted(set(needed) - parse(offered).flags)


def overflowing(seen: str, there: str) -> list[str]:
    """Flags of the components for which code that saves a processor's state with XSAVE has no room, and that are ``there``.

    ld.so does so at the first call of each function (lazy binding), into as many bytes as CPUID named when the program began.
    XSAVEC writes what is in use only, and FXSAVE always the same.
    """
    mine, theirs = parse(seen), parse(there)
    if "xsave" not in mine.flags or "xsavec" in mine.flags:
        return []
    return sorted(flag for flag, bits in XCR0_BITS.items() if flag != "fpu" and bits & theirs.xcr0 & ~mine.xcr0)


def lacks(names: Iterable[str], node: str) -> str:
    """The reason that users read."""
    return f"{Reason.PROCESSOR}{' '.join(names)}, which {node or 'the home-node'} lacks"


_LEGACY_PREFIXES = frozenset(b"\x66\xf2\xf3\x2e\x36\x3e\x26\x64\x65\x67\xf0")
#: Opcode map, or opcode, of an instruction (`opcode_map`): the flags that may stand for it.
_ROWS = """
    vex   avx avx2 avx_ifma avx_ne_convert avx_vnni avx_vnni_int16 avx_vnni_int8 bmi1 bmi2 cmpccxadd f16c fma fma4 gfni sha512
    vex   sm3 sm4 vaes vpclmulqdq amx_bf16 amx_complex amx_fp16 amx_int8 amx_tile avx512f avx512dq avx512bw
    evex  apx gfni vaes vpclmulqdq
    xop   xop tbm lwp
    rex2  apx
    0f38  adx aes gfni movbe movdir64b movdiri enqcmd raoint sha_ni sse4_1 sse4_2 ssse3 user_shstk
    0f3a  aes gfni pclmulqdq sha_ni sse4_1 sse4_2 ssse3
    0f01  clzero mwaitx ospke pku rdpru rdtscp rtm serialize xgetbv1 xsave user_shstk
    0fae  clflush clflushopt clwb fsgsbase fxsr ptwrite sse sse2 user_shstk waitpkg xsave xsaveopt
    0fc7/1  cx16 cx8
    0fc7/4  xsavec
    0fc7/6  rdrand
    0fc7/7  rdseed rdpid
    0fb8  popcnt
    0f0d  3dnowprefetch prefetchwt1
    0f0f  3dnow 3dnowext
    0f    cmov mmx mmxext pni sse sse2 sse4a
    c6c7  rtm
    9e9f  lahf_lm
"""


def _table(rows: str) -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {"evex": {flag for flag in USER_FLAGS if flag.startswith("avx512")}}
    for name, *flags in (line.split() for line in rows.strip().splitlines()):
        table.setdefault(name, set()).update(flags)
    return {name: frozenset(flags) for name, flags in table.items()}


_BY_MAP = _table(_ROWS)


def opcode_map(code: bytes) -> str:
    """The row of `_BY_MAP` for the instruction at the start of ``code`` (Intel SDM volume 2, 2.1 to 2.7); "" for none."""
    at = 0
    while at < len(code) and code[at] in _LEGACY_PREFIXES:
        at += 1
    if at < len(code) and code[at] & 0xF0 == 0x40:
        at += 1
    first, second, third = (*code[at : at + 3], 0, 0, 0)[:3]
    if first == 0x0F:
        name = f"0f{second:02x}" + (f"/{third >> 3 & 7}" if second == 0xC7 else "")
        return "" if second == 0x0B else name if name in _BY_MAP else "0f"
    if first == 0x8F and second & 0x1F >= 8:  # else it is POP
        return "xop"
    if first in (0xC6, 0xC7) and second == 0xF8:
        return "c6c7"
    return {0x62: "evex", 0xC4: "vex", 0xC5: "vex", 0xD5: "rex2", 0x9E: "9e9f", 0x9F: "9e9f"}.get(first, "")


def suspects(code: bytes, lacking: Iterable[str]) -> list[str]:
    """The instruction at the start of ``code`` has raised SIGILL: which of the flags ``lacking`` here may stand for it, sorted.

    Empty: it is illegal everywhere."""
    name, missing_here = opcode_map(code), set(lacking)
    base = {"vex": "avx", "evex": "avx512f"}.get(name)  # without which there is none of the kind
    return [base] if base in missing_here and base is not None else sorted(_BY_MAP.get(name, frozenset()) & missing_here)
