"""Levels of processors that a program can be started for (mosrun(1), --cpu), and how it is told: what it is preset to.

Levels are those of the x86-64 psABI ("Micro-Architecture Levels", section 3.1.1 of System V Application Binary Interface, AMD64
supplement). A library that chooses its code by the processor can be told by a variable of the environment what not to use, each in
its own words; the documentation of each is named at its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mosfs.abi.cpu import BASE

NATIVE, COMMON = "native", "common"
_V1 = BASE | {"3dnowprefetch", "clflush", "fxsr_opt", "mmxext", "rdtscp"}  # hints, and what changes no library's choice
_V2 = _V1 | {"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}
_V3 = _V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
#: All processors of this level have XSAVEC: then ld.so saves what is in use only.
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "xgetbv1", "xsavec", "xsaveopt"}
#: Name: the flags of `abi.cpu` that a program may use. "v2" and the like are short for these.
LEVELS: Mapping[str, frozenset[str]] = {"x86-64": _V1, "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}
#: All that --cpu and the file ``cpu`` take.
NAMES = (COMMON, "x86-64-v2", "x86-64-v3", "x86-64-v4", NATIVE)
SHORT = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"}


def level_named(text: str) -> str:
    """One of `NAMES`; ValueError for what is none."""
    name = SHORT.get(text, text)
    if name not in NAMES:
        raise ValueError(f"not a level of processors: {text}")
    return name


def hidden(name: str, here: frozenset[str], common: frozenset[str]) -> list[str]:
    """The flags of this processor (``here``) that a program of the level ``name`` shall not use, sorted.

    ``common``: what all nodes have."""
    if name == NATIVE:
        return []
    return sorted(here - (common if name == COMMON else LEVELS[name]) - BASE)


def level_of(flags: frozenset[str]) -> int:
    """The highest level that a processor with these flags reaches, 1 to 4. Beyond level 1 only flags count that the psABI names."""
    reached = 1
    for number, needed in enumerate((_V2, _V3, _V4 - {"xgetbv1", "xsaveopt"}), 2):
        if not needed - _V1 <= flags:
            break
        reached = number
    return reached


#: glibc manual, "Hardware Capability Tunables": flags by the names of GLIBC_TUNABLES. Until 2.32 some were NAME_Usable.
_GLIBC = {
    "pni": "SSE3", "ssse3": "SSSE3", "sse4_1": "SSE4_1", "sse4_2": "SSE4_2", "popcnt": "POPCNT", "movbe": "MOVBE", "abm": "LZCNT",
    "bmi1": "BMI1", "bmi2": "BMI2", "avx": "AVX", "avx2": "AVX2", "fma": "FMA", "fma4": "FMA4", "f16c": "F16C", "xsavec": "XSAVEC",
    "avx512f": "AVX512F", "avx512bw": "AVX512BW", "avx512cd": "AVX512CD", "avx512dq": "AVX512DQ", "avx512vl": "AVX512VL",
    "avx512er": "AVX512ER", "avx512pf": "AVX512PF", "rtm": "RTM", "xop": "XOP",
}  # fmt: skip
#: What glibc prefers, by the same. It settles that before it hears what is hidden from it, and would copy by AVX nevertheless.
_GLIBC_PREFERS = {"avx": "AVX_Fast_Unaligned_Load"}
_GLIBC_USABLE = ("avx", "avx2", "fma", "fma4", "xop", "xsavec", "avx512f", "avx512dq")
#: numpy, "CPU build options": names of dispatched features. What may be in its baseline must not stand here: it would not start.
#: Those that it does not know it passes over, with a warning (RuntimeWarning).
_NUMPY = {
    "avx": "AVX X86_V3", "f16c": "F16C X86_V3", "fma": "FMA3 X86_V3", "avx2": "AVX2 X86_V3", "bmi1": "X86_V3", "bmi2": "X86_V3",
    "abm": "X86_V3", "movbe": "X86_V3", "avx512f": "AVX512F X86_V4", "avx512cd": "AVX512CD X86_V4", "avx512bw": "X86_V4",
    "avx512dq": "X86_V4", "avx512vl": "AVX512_SKX X86_V4", "avx512_vnni": "AVX512_CLX", "avx512vbmi": "AVX512_CNL",
    "avx512_vbmi2": "AVX512_ICL", "avx512_fp16": "AVX512_SPR", "fma4": "FMA4", "xop": "XOP",
}  # fmt: skip
#: Go, package internal/cpu: options of GODEBUG that all its versions know; of others it would complain.
_GO = {
    "adx": "adx", "aes": "aes", "avx": "avx", "avx2": "avx2", "bmi1": "bmi1", "bmi2": "bmi2", "fma": "fma",
    "pclmulqdq": "pclmulqdq", "popcnt": "popcnt", "pni": "sse3", "ssse3": "ssse3", "sse4_1": "sse41", "sse4_2": "sse42",
}  # fmt: skip
#: OPENSSL_ia32cap(3): bits of its two vectors, CPUID leaf 1 (EDX, ECX above) and leaf 7 (EBX, ECX above).
_OPENSSL = (
    {"pni": 32, "pclmulqdq": 33, "ssse3": 41, "xop": 43, "fma": 44, "sse4_1": 51, "sse4_2": 52, "movbe": 54, "popcnt": 55,
     "aes": 57, "avx": 60, "rdrand": 62},
    {"bmi1": 3, "avx2": 5, "bmi2": 8, "avx512f": 16, "avx512dq": 17, "rdseed": 18, "adx": 19, "avx512ifma": 21, "sha_ni": 29,
     "avx512bw": 30, "avx512vl": 31, "avx512vbmi": 33, "vaes": 41, "vpclmulqdq": 42},
)  # fmt: skip
#: Variable: its value for programs of level 1 to 4. OpenBLAS, "Runtime variables"; oneMKL, "Instruction Set Specific Dispatching";
#: PyTorch, "ATen CPU dispatch"; oneDNN, "CPU Dispatcher Control".
_BY_LEVEL = {
    "OPENBLAS_CORETYPE": ("Prescott", "Nehalem", "Haswell", "SkylakeX"),
    "MKL_ENABLE_INSTRUCTIONS": ("SSE4_2", "SSE4_2", "AVX2", "AVX512"),
    "ATEN_CPU_CAPABILITY": ("default", "default", "avx2", "avx512"),
    "ONEDNN_MAX_CPU_ISA": ("SSE41", "SSE41", "AVX2", "AVX512_CORE"),
}
#: Flags whose state ld.so would save by another size than that of the processor that the program moves to (`cpu.overflowing`).
_OF_LD_SO = frozenset({"avx", "avx512f", "xsavec"})
#: Flags that change what the libraries of `_BY_LEVEL` choose.
_OF_MATHEMATICS = frozenset(_V4 - _V1 - {"xgetbv1", "xsavec", "xsaveopt", "lahf_lm", "cx16", "xsave"})


def preset(here: frozenset[str], gone: Iterable[str]) -> dict[str, str]:
    """Variables for a program that shall not use the flags ``gone`` of its processor, ``here``; none if there are none."""
    gone = here & set(gone)
    made: dict[str, str] = {}
    if names := [_GLIBC[flag] for flag in sorted(gone & _GLIBC.keys())]:
        names += [f"{_GLIBC[flag]}_Usable" for flag in _GLIBC_USABLE if flag in gone]
        names += [name for flag, name in _GLIBC_PREFERS.items() if flag in gone]
        made["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in names)
    if gone & _OF_LD_SO:
        made["LD_BIND_NOW"] = "1"
    if gone & _OF_MATHEMATICS:
        level = level_of(here - gone)
        made |= {name: values[level - 1] for name, values in _BY_LEVEL.items()}
    if found := {name for flag in gone & _NUMPY.keys() for name in _NUMPY[flag].split()}:
        made["NPY_DISABLE_CPU_FEATURES"] = " ".join(sorted(found))
    if names := [_GO[flag] for flag in sorted(gone & _GO.keys())]:
        made["GODEBUG"] = ",".join(f"cpu.{name}=off" for name in names)
    masks = [sum(1 << bit for flag, bit in vector.items() if flag in gone) for vector in _OPENSSL]
    if any(masks):
        made["OPENSSL_ia32cap"] = ":".join(f"~{mask:#x}" for mask in masks)
    return made
