"""Programs on processors that differ: what they need, what an illegal instruction was, and state laid out anew."""

from __future__ import annotations

import signal
import subprocess
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi import cpu, xrstor, xstate
from mosfs.abi.xstate import PKRU, PKRU_DEFAULT, Component, Lacking, arranged, checked, in_use, lacking, lost, misread
from mosfs.home.process.processor import Demand, binds_late
from mosfs.migrate import suits
from mosfs.trace.frames import frames_in
from mosfs.trace.task import Task

# Standard formats as CPUID leaf 0xD of real processors gives them: PKRU and AVX-512 move about.
PLAIN = ()
AVX = (Component(2, 576, 256),)
INTEL = (*AVX, Component(5, 1088, 64), Component(6, 1152, 512), Component(7, 1664, 1024), Component(PKRU, 2688, 8))
AMD = (*AVX, Component(5, 832, 64), Component(6, 896, 512), Component(7, 1408, 1024), Component(PKRU, 2432, 8))
SIZES = {PLAIN: 576, AVX: 832, INTEL: 2696, AMD: 2440}


def bits(layout: xstate.Layout) -> int:
    """XCR0 of a processor with this layout."""
    return xstate.LEGACY | sum(1 << c.number for c in layout)


def state(layout: xstate.Layout, contents: dict[int, bytes]) -> bytes:
    """A state in which just these components are in use."""
    made = bytearray(SIZES[layout])
    made[:512] = bytes(range(256)) * 2
    used = xstate.LEGACY
    for c in layout:
        if c.number in contents:
            used |= 1 << c.number
            made[c.offset : c.offset + c.size] = contents[c.number].ljust(c.size, b"\0")
    made[512:520] = used.to_bytes(8, "little")
    return bytes(made)


@pytest.mark.parametrize("there", [INTEL, AMD, AVX, PLAIN], ids=["intel", "amd", "avx", "plain"])
@pytest.mark.parametrize("here", [INTEL, AMD, AVX], ids=["intel", "amd", "avx"])
@given(data=st.data())
def test_state_comes_back_as_it_was(here: xstate.Layout, there: xstate.Layout, data: st.DataObject) -> None:
    """Out to another layout and back: the same components in use with the same contents."""
    used = data.draw(st.sets(st.sampled_from([c.number for c in here])))
    before = state(here, {c.number: data.draw(st.binary(min_size=1, max_size=c.size)) for c in here if c.number in used})
    if lacking(before, here, bits(there)):
        with pytest.raises(Lacking):
            arranged(before, here, {}, there, SIZES[there])
        return
    away, waiting = arranged(before, here, {}, there, SIZES[there])
    after, left = arranged(away, there, waiting, here, SIZES[here])
    assert not left
    assert {c.number: after[c.offset :][: c.size] for c in in_use(after, here)} == {
        c.number: before[c.offset :][: c.size] for c in in_use(before, here)
    }
    assert after[:512] == before[:512] == away[:512]
    assert int.from_bytes(away[512:520], "little") & 3 == 3 and away[520:576] == bytes(56)


def test_what_is_in_use_decides() -> None:
    zmm = state(INTEL, {6: b"x"})
    assert lacking(zmm, INTEL, 0x7) == ["avx512f"] and lacking(zmm, INTEL, 0x2E7) == []
    with pytest.raises(Lacking) as error:
        arranged(zmm, INTEL, {}, AVX, SIZES[AVX])
    assert error.value.features == ["avx512f"]
    # counted as in use by the processor, and empty again: a copy loop has ended
    assert lacking(state(INTEL, {6: b"", 7: b"\0" * 1024, 2: b""}), INTEL, 0x3) == []
    assert arranged(state(INTEL, {2: b""}), INTEL, {}, PLAIN, 576) == (state(PLAIN, {}), {})


def test_what_no_instruction_there_can_change_waits() -> None:
    """libc's copies leave something in ZMM16 to 31, and nothing clears it."""
    zmm16 = state(INTEL, {7: b"libc"})
    assert lacking(zmm16, INTEL, 0x7) == []
    away, waiting = arranged(zmm16, INTEL, {}, AVX, SIZES[AVX])
    assert in_use(away, AVX) == [] and waiting == {7: b"libc".ljust(1024, b"\0")}
    further, still = arranged(away, AVX, waiting, PLAIN, SIZES[PLAIN])
    assert still == waiting
    back, left = arranged(further, PLAIN, still, AMD, SIZES[AMD])
    assert back == state(AMD, {7: b"libc", PKRU: PKRU_DEFAULT}) and left == {}


def test_upper_halves_wait_only_where_nothing_clears_them() -> None:
    upper = state(INTEL, {6: b"x", 2: b"y"})
    assert lacking(upper, INTEL, 0x3) == [] and lacking(upper, INTEL, 0x7) == ["avx512f"]


def test_protection_keys_as_linux_sets_them_are_not_in_use() -> None:
    assert lacking(state(INTEL, {PKRU: PKRU_DEFAULT}), INTEL, 0x7) == []
    assert lacking(state(INTEL, {PKRU: b"\x05"}), INTEL, 0x7) == ["pku"]
    came, _ = arranged(state(AVX, {}), AVX, {}, INTEL, SIZES[INTEL])
    assert came[2688:2692] == PKRU_DEFAULT and int.from_bytes(came[512:520], "little") >> PKRU & 1


def test_tiles_in_use_stay() -> None:
    tiles = (*AVX, Component(18, 2816, 8192))
    blob = bytearray(2816 + 8192)
    blob[512:520] = (1 << 18).to_bytes(8, "little")
    assert lacking(bytes(blob), tiles, 0x60007) == []
    blob[2816] = 1
    assert lacking(bytes(blob), tiles, 0x60007) == ["amx_tile"]


@pytest.mark.parametrize("rows", [
    [(2, 576, 300)], [(2, 500, 256)], [(1, 576, 8)], [(70, 576, 8)], [(2, 576, 0)], [(2, 576, -8)], [(2, 576, 64), (2, 640, 64)],
    [(2, 576, 128), (5, 600, 64)],
])
def test_a_layout_that_contradicts_itself(rows: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError):
        checked(rows, 832)


@given(
    st.binary(max_size=3000), st.lists(st.tuples(*3 * [st.integers(-1, 3000)]), max_size=4), st.sampled_from(list(SIZES)),
    st.dictionaries(st.integers(-1, 70), st.binary(max_size=300), max_size=4),
)
def test_no_state_is_too_odd(
    blob: bytes, rows: list[tuple[int, int, int]], own: xstate.Layout, waiting: dict[int, bytes]
) -> None:
    try:
        made, _ = arranged(blob, checked(rows, len(blob)), xstate.checked_waiting(waiting.items()), own, SIZES[own])
    except (ValueError, Lacking):
        return
    assert len(made) == SIZES[own]


# --------------------------------------------------------------------------- illegal instructions


INSTRUCTIONS = {
    "vpaddq %zmm1, %zmm2, %zmm3": "avx512f",
    "vpaddb %ymm17, %ymm1, %ymm2": "avx512bw",
    "vpaddd %ymm1, %ymm2, %ymm3": "avx2",
    "vaddps %ymm1, %ymm2, %ymm3": "avx",
    "vfmadd231pd %ymm1, %ymm2, %ymm3": "fma",
    "mulx %rax, %rbx, %rcx": "bmi2",
    "andn %rax, %rbx, %rcx": "bmi1",
    "crc32b %al, %ecx": "sse4_2",
    "pshufb %xmm1, %xmm2": "ssse3",
    "pmulld %xmm1, %xmm2": "sse4_1",
    "aesenc %xmm1, %xmm2": "aes",
    "pclmulqdq $0, %xmm1, %xmm2": "pclmulqdq",
    "popcnt %rax, %rbx": "popcnt",
    "movbe (%rdi), %rax": "movbe",
    "adcx %rax, %rbx": "adx",
    "sha256rnds2 %xmm0, %xmm1, %xmm2": "sha_ni",
    "rdrand %rax": "rdrand",
    "rdseed %eax": "rdseed",
    "rdfsbase %rax": "fsgsbase",
    "rdtscp": "rdtscp",
    "xsaveopt (%rdi)": "xsaveopt",
    "clwb (%rdi)": "clwb",
    "tpause %eax": "waitpkg",
    "xbegin .": "rtm",
    "xend": "rtm",
    "rdpkru": "ospke",
    "vaesenc %zmm1, %zmm2, %zmm3": "vaes",
    "vfmaddpd %xmm1,%xmm2,%xmm3,%xmm4": "fma4",
    "prefetchw (%rdi)": "3dnowprefetch",
    "lahf": "lahf_lm",
    "cmpxchg16b (%rdi)": "cx16",
    "vphaddbd %xmm1, %xmm2": "xop",
    "gs movbe (%r9), %r10": "movbe",
    "haddps %xmm1, %xmm2": "pni",
    "clzero": "clzero",
    "serialize": "serialize",
}


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the assembler makes of each of them, at 32 bytes."""
    folder = tmp_path_factory.mktemp("code")
    source = folder / "all.s"
    source.write_text("".join(f".p2align 5\n{line}\n" for line in INSTRUCTIONS))
    subprocess.run(["gcc", "-c", source, "-o", folder / "all.o"], check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", folder / "all.o", folder / "all.bin"], check=True)
    code = Path(folder / "all.bin").read_bytes()
    return {line: code[32 * n : 32 * n + 15] for n, line in enumerate(INSTRUCTIONS)}


def test_what_an_instruction_may_be_of(machine_code: dict[str, bytes]) -> None:
    known = cpu.USER_FLAGS - {"avx", "avx512f"}
    assert {line: flag for line, flag in INSTRUCTIONS.items() if flag not in ("avx", "avx512f")
            and flag not in cpu.suspects(machine_code[line], known)} == {}  # fmt: skip
    assert cpu.suspects(machine_code["vpaddb %ymm17, %ymm1, %ymm2"], cpu.USER_FLAGS) == ["avx512f"]  # and then perhaps more
    assert cpu.suspects(machine_code["vpaddd %ymm1, %ymm2, %ymm3"], cpu.USER_FLAGS) == ["avx"]


@pytest.mark.parametrize("code", [b"\x0f\x0b", b"\x06", b"\x90", b"", b"\xf0", b"\x48", b"\x8f\x00", b"\x66" * 15])
def test_what_is_illegal_everywhere_is_of_nothing(code: bytes) -> None:
    assert cpu.suspects(code, cpu.USER_FLAGS) == []


@given(st.binary(max_size=15))
def test_any_code_can_be_asked(code: bytes) -> None:
    assert set(cpu.suspects(code, {"avx2", "avx512f"})) <= {"avx2", "avx512f"}


# --------------------------------------------------------------------------- what a program needs


RICH = "abm avx avx2 avx512f bmi1 sse sse2 xcr0=e7 sigframe=3000"
MIDDLE = "abm avx avx2 bmi1 sse sse2 xcr0=7 sigframe=1500"
POOR = "sse sse2 xcr0=3 sigframe=900"


def test_only_what_changes_results_is_needed_beforehand() -> None:
    assert Demand(RICH).required == ["abm", "bmi1"] and Demand(POOR).required == []
    assert cpu.missing(Demand(RICH).required, POOR) == ["abm", "bmi1"]
    visitor = Demand(POOR)
    visitor.ran_at("10.0.0.2", RICH)
    assert visitor.required == ["abm", "bmi1"]  # it may have chosen its code there


def test_where_an_illegal_instruction_is_legal() -> None:
    at_home = Demand(RICH)
    assert at_home.refuge(["avx512f"]) == "" and not at_home.foreign
    visitor = Demand(POOR)
    assert visitor.refuge(["avx2"]) is None and not visitor.foreign
    visitor.ran_at("10.0.0.3", RICH)
    visitor.ran_at("10.0.0.2", MIDDLE)
    assert visitor.foreign and visitor.refuge(["avx2"]) == "10.0.0.2" and visitor.refuge(["avx512f"]) == "10.0.0.3"
    visitor.needs = frozenset({"avx512f"})
    assert visitor.refuge(["avx2"]) == "10.0.0.3"
    visitor.ran_at("10.0.0.3", POOR)  # another machine has the address now
    assert visitor.refuge(["avx2"]) is None


def test_state_saved_into_too_little_room() -> None:
    """XSAVE writes all that the node has, into what ld.so has measured where the program began."""
    avx, compact, old = "avx xsave xcr0=7", "avx xsave xsavec xcr0=7", "sse2 xcr0=3"
    assert cpu.overflowing(avx, RICH) == ["avx512f"] and cpu.overflowing(avx, POOR) == cpu.overflowing(avx, MIDDLE) == []
    assert cpu.overflowing(compact, RICH) == cpu.overflowing(old, RICH) == []


def test_who_binds_late(tmp_path: Path) -> None:
    source = tmp_path / "wait.c"
    source.write_text("#include <unistd.h>\nint main(void) { char c = 0; write(1, &c, 1); return (int)read(0, &c, 1); }\n")
    for name, flags, environ, late in [
        ("dynamic", (), {}, True), ("dynamic", (), {"LD_BIND_NOW": "1"}, False), ("dynamic", (), {"LD_BIND_NOW": ""}, True),
        ("static", ("-static",), {}, False),
    ]:
        subprocess.run(["gcc", *flags, source, "-o", tmp_path / name], check=True)
        with subprocess.Popen([tmp_path / name], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.read(1) == b"\0"  # it runs
            assert binds_late(process.pid) is late, (name, environ)
            assert process.stdin is not None
            process.stdin.close()
    assert binds_late(2**22 + 1)


#: PR_SET_MM, PR_SET_MM_MAP, with an environment of 64 MB of zeros; the rest as /proc/self/stat has it. 77: this kernel cannot.
LONG_ENVIRONMENT = r"""
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#define LENGTH (64UL << 20)
int main(void)
{
	unsigned long field[60] = {0}, map[13];
	char text[4096], *word, c = 0;
	int number = 3;
	FILE *file = fopen("/proc/self/stat", "r");
	void *zeros = mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	fgets(text, sizeof text, file);
	for (word = strtok(strrchr(text, ')') + 2, " "); word && number < 60; word = strtok(NULL, " "))
		sscanf(word, "%lu", &field[number++]);
	unsigned long as_told[13] = { field[26], field[27], field[45], field[46], field[47], (unsigned long)sbrk(0), field[28],
		field[48], field[49], (unsigned long)zeros, (unsigned long)zeros + LENGTH, 0, 0xffffffffUL << 32 };
	memcpy(map, as_told, sizeof map);
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, map, sizeof map, 0))
		return 77;
	write(1, &c, 1);
	return (int)read(0, &c, 1);
}
"""


def test_an_environment_of_any_length_costs_little(tmp_path: Path) -> None:
    """A process may say of any memory that it is its environment."""
    (tmp_path / "long.c").write_text(LONG_ENVIRONMENT)
    subprocess.run(["gcc", "-w", tmp_path / "long.c", "-o", tmp_path / "long"], check=True)
    with subprocess.Popen([tmp_path / "long"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        if process.stdout.read(1) != b"\0":
            assert process.wait() == 77
            pytest.skip("this kernel lets nobody say where an environment is")
        tracemalloc.start()
        try:
            assert binds_late(process.pid)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            process.stdin.close()
    assert most < 40 << 20, "8 MB, and no object for each of the eight million empty words in it"


def test_equal_nodes_leave_no_trace() -> None:
    program = Demand(RICH)
    program.ran_at("10.0.0.2", RICH)
    program.ran_at("10.0.0.3", POOR)
    program.ran_at("10.0.0.4", "")
    assert program.visited == {} and program.seen == RICH


@pytest.mark.parametrize("line", ["xcr0=?", "xcr0=-1", "sigframe=99999999999", "sigframe=x", "xcr0=" + "f" * 17])
def test_a_line_that_makes_no_sense_is_as_none(line: str) -> None:
    assert cpu.sensible(line) == ""


def test_an_unknown_flag_is_nothing() -> None:
    assert cpu.parse("avx9 sse").flags == {"sse"} and cpu.missing(["avx9"], RICH) == ["avx9"]
    assert cpu.lacks(["avx512f"], "10.0.0.3") == "needs avx512f, which 10.0.0.3 lacks"


# --------------------------------------------------------------------------- processors as others see them

LINE = "abm avx avx2 avx512f bmi1 cmov cx8 fxsr mmx pni sse sse2 xsave xsavec xcr0=e7 sigframe=3632"


def test_a_processor_without_some_flags() -> None:
    """What goes with them goes too: their state. This is how tests make a node poorer (MOSIX_CPU_WITHOUT)."""
    poor = cpu.without(LINE, ["avx512f", "abm", "none-such"])
    assert cpu.parse(poor).flags == cpu.parse(LINE).flags - {"avx512f", "abm"}
    assert cpu.parse(poor).xcr0 == 0x7 and cpu.missing(["abm", "avx2"], poor) == ["abm"]
    assert cpu.without(LINE, []) == cpu.without(LINE, ["amx_tile"]) == LINE


@given(st.text(max_size=200))
def test_lines_that_others_send(text: str) -> None:
    """Whatever they say is a line of ours, or nothing."""
    line = cpu.sensible(text)
    if line:
        found = cpu.parse(line)
        assert found.flags <= cpu.USER_FLAGS and 0 <= found.xcr0 < 1 << 64 and 0 <= found.sigframe < 1 << 20


@pytest.mark.parametrize("line", [
    "sse xcr0=-1", "sse xcr0=zz", f"sse xcr0={1 << 64:x}", "sse sigframe=-1", "sse sigframe=99999999", "xcr0=7 sigframe=1e3",
])
def test_lines_out_of_range_say_nothing(line: str) -> None:
    assert cpu.sensible(line) == ""


# --------------------------------------------------------------------------- frames of signals


def test_a_frame_keeps_what_the_kernel_there_would_read() -> None:
    """One that is longer than its own is read as FXSAVE only, so that even AVX, which it has, would be lost."""
    used = state(INTEL, {2: b"a"})
    assert lost(used, INTEL, bits(INTEL), SIZES[INTEL]) == []
    assert lost(used, INTEL, bits(AVX), SIZES[AVX]) == ["avx"] == lost(used, INTEL, bits(INTEL), SIZES[AMD])
    assert lost(state(INTEL, {}), INTEL, bits(PLAIN), SIZES[PLAIN]) == []
    assert lost(state(AVX, {2: b"a"}), AVX, bits(INTEL), SIZES[INTEL]) == []
    assert lost(state(INTEL, {7: b"z"}), INTEL, bits(AVX), SIZES[INTEL]) == ["avx512f"]
    # an older frame, of a processor with less
    assert lost(state(AVX, {2: b"a"}), INTEL, bits(AVX), SIZES[AVX]) == []


def test_a_frame_of_another_layout() -> None:
    used = state(AMD, {2: b"a", 7: b"z"})
    assert misread(used, AMD, AMD, {}) == [] == misread(state(AMD, {2: b"a"}), AMD, INTEL, {})
    assert misread(used, AMD, INTEL, {}) == ["avx512f"]
    assert misread(state(AVX, {2: b"a"}), AVX, INTEL, {7: b"z"}) == ["avx512f"]  # it waited while the signal came
    assert misread(state(PLAIN, {}), PLAIN, AVX, {7: b"z"}) == []


PLACES = st.integers(0, 300)


@given(st.sampled_from([PLAIN, AVX, INTEL, AMD]), PLACES, st.binary(max_size=200))
def test_frames_are_found_in_a_stack(layout: xstate.Layout, lines: int, noise: bytes) -> None:
    """Whatever else lies there; and a piece of one is none."""
    inner = state(layout, {c.number: b"x" for c in layout})
    start, rsp = 0x7FFF_0000_0000, 0x7FFF_1234_5678
    at = start + 1024 + 64 * lines
    fx = bytearray(inner)
    fx[464:484] = (0x46505853).to_bytes(4, "little") + (len(inner) + 4).to_bytes(4, "little") + (
        bits(layout).to_bytes(8, "little") + len(inner).to_bytes(4, "little"))
    context = rsp.to_bytes(8, "little") + bytes(56) + at.to_bytes(8, "little")
    stack = noise.ljust(1024 + 64 * lines - len(context), b"\0")[: 1024 + 64 * lines - len(context)] + context
    whole = stack + bytes(fx) + (0x46505845).to_bytes(4, "little") + noise
    assert [(frame.rsp, frame.state) for frame in frames_in(whole, start)] == [(rsp, bytes(fx))]
    assert list(frames_in(whole[: len(stack) + len(fx)], start)) == []
    assert list(frames_in(stack + bytes(fx) + bytes(8), start)) == []


# --------------------------------------------------------------------------- state that was saved elsewhere

#: rax, rcx, rdx, ...: every register has its own number, and rsp, rbp as well.
VALUES = [0x1000 * (number + 1) for number in range(16)]


@pytest.mark.parametrize(("code", "address"), [
    ("0fae6c2440", 0x5040),  # xrstor 0x40(%rsp), as in ld.so
    ("480fae6c2440", 0x5040),  # xrstor64
    ("0fae28", 0x1000),  # (%rax)
    ("490fae2c24", 0xD000),  # (%r12)
    ("490fae6d00", 0xE000),  # 0x0(%r13)
    ("480faeadc0fdffff", 0x6000 - 0x240),  # -0x240(%rbp)
    ("480fae2d10000000", 0x400000 + 8 + 0x10),  # 0x10(%rip)
    ("0fae2c2500100000", 0x1000),  # 0x1000
    ("480fae6cc840", 0x1000 + 8 * 0x2000 + 0x40),  # 0x40(%rax,%rcx,8)
    ("4a0fae2ca0", 0x1000 + 4 * 0xD000),  # (%rax,%r12,4)
    ("0faee8", None),  # lfence
    ("0fae6c24", None), ("0fae", None), ("", None), ("0fae2c", None), ("0faea0", None), ("640fae28", None), ("0f05", None),
    ("0fae20", None),  # xsave (%rax)
])  # fmt: skip
def test_from_where_xrstor_reads(code: str, address: int | None) -> None:
    assert xrstor.operand(bytes.fromhex(code), VALUES, 0x400000) == address


@given(st.binary(max_size=15))
def test_any_code_may_be_xrstor(code: bytes) -> None:
    address = xrstor.operand(code, VALUES, 0x400000)
    assert address is None or 0 <= address < 1 << 64


def header(used: int, held: int) -> bytes:
    return used.to_bytes(8, "little") + held.to_bytes(8, "little")


@pytest.mark.parametrize(("used", "held", "xcr0", "compacts", "needs"), [
    (0x7, 0, 0x7, False, []), (0xE7, 0, 0x7, True, ["avx512f"]),
    (0x6, 1 << 63 | 0xE6, 0xE7, True, []), (0x6, 1 << 63 | 0xE6, 0x7, True, ["avx512f"]),
    (0x6, 1 << 63 | 0x6, 0x7, False, ["xsavec"]), (0x6, 1 << 63 | 0xE6, 0x3, False, ["avx", "avx512f", "xsavec"]),
    ((1 << 64) - 1, (1 << 64) - 1, (1 << 64) - 1, True, []),
])  # fmt: skip
def test_which_state_cannot_be_restored(used: int, held: int, xcr0: int, compacts: bool, needs: list[str]) -> None:
    assert xrstor.unknown(header(used, held), xcr0, compacts=compacts) == needs


class Refused:
    """A task that is about to get a signal at an instruction."""

    def __init__(self, code: str, si_code: int, state: bytes = b"") -> None:
        self.code, self.si_code, self.state = bytes.fromhex(code), si_code, state

    def peek_siginfo(self) -> bytes:
        return bytes(8) + self.si_code.to_bytes(4, "little", signed=True) + bytes(116)

    def peek_regs(self) -> SimpleNamespace:
        return SimpleNamespace(rip=0x400000, **dict.fromkeys(xrstor.REGISTERS, 0x7000))

    def read_into(self, address: int, text: bytearray) -> int:
        text[: len(self.code)] = self.code
        return len(self.code)

    def read(self, address: int, size: int) -> bytes:
        if address != 0x7040 + 512 or not self.state:
            raise OSError(14, "not there")
        return self.state[:size]


XRSTOR, UD2 = "0fae6c2440", "0f0b"
SAVED = header(0x6, 1 << 63 | 0xE6)
LACKING = ["avx512f", "xsavec"]
HERE = "avx avx2 sse sse2 xsave xcr0=7 sigframe=1500"


def test_signals_of_instructions_that_others_know() -> None:
    def asked(task: Refused, sig: int, lacking: list[str] = LACKING) -> suits.Unsuited | None:
        return suits.unsuited_instruction(cast("Task", task), sig, lacking, HERE)

    segv, ill, kernel = signal.SIGSEGV, signal.SIGILL, 0x80
    assert asked(Refused(XRSTOR, kernel, SAVED), segv) == (LACKING, True)
    assert asked(Refused(XRSTOR, kernel, SAVED), segv, ["avx512f"]) == (["avx512f"], True)
    assert asked(Refused("62f17c48", 2), ill) == (["avx512f"], False)
    for nobody in (
        asked(Refused(XRSTOR, kernel, SAVED), segv, []), asked(Refused(XRSTOR, kernel), segv),
        asked(Refused(XRSTOR, 1, SAVED), segv),
        asked(Refused(XRSTOR, kernel, header(7, 0)), segv), asked(Refused(XRSTOR, 0, SAVED), segv), asked(Refused(UD2, 2), ill),
        asked(Refused(UD2, kernel, SAVED), segv), asked(Refused(XRSTOR, kernel, SAVED), signal.SIGBUS), asked(Refused("", 2), 33),
    ):
        assert nobody is None
