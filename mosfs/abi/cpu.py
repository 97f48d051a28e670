"""What this processor offers programs, as one line that nodes exchange before a program moves (manual, chapter 3).

The line: sorted names of /proc/cpuinfo's flags that a program can notice, then ``xcr0=HEX`` (the state components the
kernel enables for programs, which follow from the flags; Intel SDM volume 1, chapter 13) and ``sigframe=BYTES``
(AT_MINSIGSTKSZ, getauxval(3): the kernel's word for the size of a signal frame with that state).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from struct import iter_unpack

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
#: Flags that add instructions or registers of user mode. All others are the kernel's business or mere speed.
USER_FLAGS = frozenset(_WORDS.split())

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
    """This node's line; it does not change while the node is up."""
    return describe(Path("/proc/cpuinfo").read_text(), sigframe_size(Path("/proc/self/auxv").read_bytes()))


def _split(line: str) -> tuple[set[str], int, int]:
    words = line.split()
    values = dict(word.split("=", 1) for word in words if "=" in word)
    flags = {word for word in words if "=" not in word}
    return flags, int(values.get("xcr0", "0"), 16), int(values.get("sigframe", "0"))


def missing(used: str, offered: str) -> list[str]:
    """Why a program that used ``used`` cannot run where ``offered`` is all there is; empty if it can.

    Names of flags, ``xcr0=HEX`` of the state components that are not there, and ``sigframe=BYTES`` if the same
    components are laid out differently (vendors place some at different offsets).
    """
    flags, xcr0, frame = _split(used)
    flags_there, xcr0_there, frame_there = _split(offered)
    absent = sorted(flags - flags_there)
    if xcr0 & ~xcr0_there:
        absent.append(f"xcr0={xcr0 & ~xcr0_there:x}")
    elif xcr0 == xcr0_there and frame and frame_there and frame != frame_there:
        absent.append(f"sigframe={frame}")
    return absent
