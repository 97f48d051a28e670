"""Levels of processors: what is hidden from a program, by which variables, and how those join with the user's."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi import cpu, levels
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.scalars import parse_level, print_level
from mosfs.tools import mosrun

LD_SO = "/lib64/ld-linux-x86-64.so.2"
HERE = cpu.parse(cpu.features()).flags
RICH = cpu.USER_FLAGS
sets = st.frozensets(st.sampled_from(sorted(cpu.USER_FLAGS))).map(lambda flags: flags | cpu.BASE)


@given(sets, sets, st.sampled_from(levels.NAMES))
def test_what_is_left_is_within_the_level(here: frozenset[str], common: frozenset[str], name: str) -> None:
    gone = set(levels.hidden(name, here, common))
    assert gone <= here and not gone & cpu.BASE
    allowed = {levels.NATIVE: here, levels.COMMON: common}.get(name, levels.LEVELS.get(name, frozenset()))
    assert here - gone <= allowed | cpu.BASE


@given(sets)
def test_nothing_is_preset_where_nothing_is_hidden(here: frozenset[str]) -> None:
    assert levels.preset(here, levels.hidden(levels.NATIVE, here, frozenset())) == {}
    assert levels.preset(here, levels.hidden(levels.COMMON, here, here)) == {}
    assert levels.preset(here, cpu.USER_FLAGS - here) == {}


@given(sets, sets)
def test_variables_are_words_of_limited_length(here: frozenset[str], common: frozenset[str]) -> None:
    """The message that carries them allows 2,048 characters (`wire.asked.Start`)."""
    for name, value in levels.preset(here, levels.hidden(levels.COMMON, here, common)).items():
        assert re.fullmatch(r"[A-Za-z_0-9]+", name) and re.fullmatch(r"[-\w=.,:~ ]+", value) and len(value) < 1000


def test_each_level_is_within_the_next() -> None:
    one, two, three, four = levels.LEVELS.values()
    assert cpu.BASE < one < two < three < four <= cpu.USER_FLAGS
    assert [levels.level_of(flags) for flags in (one, two, three, four, RICH)] == [1, 2, 3, 4, 4]
    assert levels.level_of(three - {"bmi2"}) == 2 and levels.level_of(four - {"avx512vl"}) == 3


def test_what_libraries_are_told() -> None:
    told = levels.preset(RICH, levels.hidden("x86-64-v3", RICH, RICH))
    assert told["OPENBLAS_CORETYPE"] == "Haswell" and told["MKL_ENABLE_INSTRUCTIONS"] == "AVX2"
    assert "-AVX512F" in told["GLIBC_TUNABLES"] and "-AVX2" not in told["GLIBC_TUNABLES"]
    assert "X86_V4" in told["NPY_DISABLE_CPU_FEATURES"].split() and "X86_V3" not in told["NPY_DISABLE_CPU_FEATURES"].split()
    assert told["LD_BIND_NOW"] == "1", "on Haswell ld.so has no XSAVEC"
    assert "LD_BIND_NOW" not in levels.preset(RICH, levels.hidden("x86-64-v4", RICH, RICH))
    common = levels.preset(RICH, levels.hidden(levels.COMMON, RICH, RICH - {"sha_ni"}))
    assert common == {"OPENSSL_ia32cap": f"~0x0:~{1 << 29:#x}"}


@pytest.mark.parametrize("level", [2, 3])
def test_what_glibc_selects(level: int) -> None:
    """ld.so itself says which directories of libraries it would take (ld.so(8), glibc-hwcaps)."""
    if levels.level_of(HERE) < level or "glibc-hwcaps" not in _ld_so_help({}):
        pytest.skip("this computer's processor or libc does not reach it")
    told = levels.preset(HERE, levels.hidden(f"x86-64-v{level}", HERE, HERE))
    assert _supported(_ld_so_help(told)) == [f"x86-64-v{n}" for n in range(level, 1, -1)]


def test_what_glibc_prefers_is_not_what_is_hidden() -> None:
    """It has settled on AVX for its copies before it hears that there is none."""
    told = levels.preset(HERE, levels.hidden("x86-64-v2", HERE, HERE))
    done = subprocess.run([LD_SO, "--list-diagnostics"], env=told, capture_output=True, text=True, check=False)
    preferred = re.findall(r"^x86.cpu_features.preferred.(AVX\w+)=0x(\d)", done.stdout, re.MULTILINE)
    if not preferred:
        pytest.skip("this libc does not tell")
    assert preferred == [("AVX_Fast_Unaligned_Load", "0")]


def _ld_so_help(told: dict[str, str]) -> str:
    return subprocess.run([LD_SO, "--help"], env={"PATH": os.environ["PATH"], **told}, capture_output=True, text=True).stdout


def _supported(text: str) -> list[str]:
    return re.findall(r"^  (x86-64-v\d) \(supported", text, re.MULTILINE)


# --------------------------------------------------------------------------- names


def test_names_that_the_launcher_knows() -> None:
    assert set(mosrun.LEVELS) == {*levels.NAMES, *levels.SHORT}
    for name in mosrun.LEVELS:
        assert levels.level_named(name) in levels.NAMES


@pytest.mark.parametrize("name", mosrun.LEVELS)
def test_the_file_takes_each_name(name: str) -> None:
    level = parse_level(f"{name}\n")
    assert level == levels.level_named(name) == parse_level(print_level(level))


@pytest.mark.parametrize("text", ["x86-64-v5\n", "\n", "v2 v3\n", "V3\n", "avx\n"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^cpu, line 1: "):
        parse_level(text)


# --------------------------------------------------------------------------- the launcher

PRESET = [b"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2", b"GODEBUG=cpu.avx2=off", b"LD_BIND_NOW=1", b"OPENBLAS_CORETYPE=Nehalem"]


def test_an_environment_without_them_gets_all() -> None:
    made = mosrun.with_preset({b"HOME": b"/"}, PRESET)
    assert made == {b"HOME": b"/", **dict(entry.split(b"=", 1) for entry in PRESET)}
    assert mosrun.with_preset({b"HOME": b"/"}, []) == {b"HOME": b"/"}


@pytest.mark.parametrize(("mine", "made"), [
    (b"glibc.malloc.check=1", b"glibc.malloc.check=1:glibc.cpu.hwcaps=-AVX2"),
    (b"glibc.cpu.hwcaps=-ERMS", b"glibc.cpu.hwcaps=-ERMS,-AVX2"),
    (b"glibc.cpu.hwcaps=AVX2:glibc.malloc.check=1", b"glibc.malloc.check=1:glibc.cpu.hwcaps=AVX2,-AVX2"),
])
def test_tunables_of_the_user_stay(mine: bytes, made: bytes) -> None:
    assert mosrun.with_preset({b"GLIBC_TUNABLES": mine}, PRESET)[b"GLIBC_TUNABLES"] == made
    assert mosrun.with_preset({b"GLIBC_TUNABLES": made}, PRESET)[b"GLIBC_TUNABLES"].endswith(b"-AVX2"), "once more changes nothing"


def test_what_the_user_has_set_comes_first_or_stays() -> None:
    mine = {b"GODEBUG": b"gctrace=1", b"LD_BIND_NOW": b"yes", b"OPENBLAS_CORETYPE": b"Zen"}
    made = mosrun.with_preset(mine, PRESET)
    assert made[b"GODEBUG"] == b"cpu.avx2=off,gctrace=1"
    assert made[b"LD_BIND_NOW"] == b"yes" and made[b"OPENBLAS_CORETYPE"] == b"Zen"


def test_the_file_of_an_etc_is_the_default(tmp_path: Path) -> None:
    from mosfs.cluster.load import load
    from mosfs.cluster.paths import NodePaths

    paths = NodePaths(str(tmp_path))
    Path(paths.etc).mkdir(parents=True)
    Path(paths.mosix_map).write_text("10.0.0.1 2\n")
    Path(paths.secret).write_text("0123456789\n")
    Path(paths.secret).chmod(0o600)
    Path(paths.mosip).write_text("10.0.0.1\n")
    assert load(paths).level == levels.NATIVE
    Path(paths.level).write_text("v3\n")
    assert load(paths).level == "x86-64-v3"
