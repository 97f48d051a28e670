"""Programs that use what the computer lacks where they have been moved to: they come back by themselves, and nobody notices.

    python -m tests.machines.uses ROOT OPTION TARGET NAME

starts one by ``mosrun OPTION...``, has it moved to TARGET when it is ready, lets it go on there, and prints `Told` as JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from mosfs.abi import cpu
from mosfs.tools import lab as labs
from mosfs.tools.tree import Tree
from tests.cluster import wait_until
from tests.machines.asked import PATIENCE, Asked
from tests.machines.vm import FIRST, OTHER, THIRD
from tests.progs import BUILT, CFLAGS, compile_c

SOURCE = Path(__file__).with_name("uses.c")
PYTHON = "/usr/bin/python3"  # the distribution's: with its numpy
_STEPS = """
import sys
def step(text):
    print(text, flush=True)
    assert sys.stdin.readline()
"""
_PYTHON = _STEPS + """
import binascii, hashlib, json, random, re, zlib
dice = random.Random(3)
data = dice.randbytes(200000)
step("ready")
print(hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest(), zlib.crc32(data), binascii.crc32(zlib.compress(data)))
words = [data[at:at + 9].hex() for at in range(0, 90000, 9)]
print(sorted(words)[7], len(re.findall("ab+", json.dumps(words))), data.find(b"abc"), sum(data))
print("".join(words).encode().replace(b"a", b"xyz").count(b"z"), sum(1 / (1 + byte) for byte in data))
step("done")
"""
#: Products of small whole numbers: exact, whichever way a processor takes.
_OPENBLAS = _STEPS + """
import ctypes
blas, n = ctypes.CDLL("libopenblas.so.0"), 96
many = ctypes.c_double * (n * n)
a, b, c = many(*(at * 7 % 31 - 15 for at in range(n * n))), many(*(at * 5 % 23 - 11 for at in range(n * n))), many()
step("ready")
blas.cblas_dgemm(101, 111, 112, n, n, n, ctypes.c_double(1), a, n, b, n, ctypes.c_double(0), c, n)
blas.cblas_ddot.restype = ctypes.c_double
print(sum(c), max(c), min(c), c[n + 1], blas.cblas_ddot(n * n, a, 1, b, 1))
step("done")
"""
#: numpy warns of those features that it is told to do without and does not know.
_NUMPY = _STEPS + """
import warnings
warnings.simplefilter("ignore", RuntimeWarning)
import numpy as np
r = np.random.default_rng(1)
a, b = r.integers(-99, 99, (120, 120)).astype(float), r.integers(-99, 99, 50000)
step("ready")
print((a @ a.T).sum(), np.trace(a @ a @ a), np.sort(b)[::999].tolist(), b.cumsum()[-1], (b > 7).sum(), np.maximum(b, 3).sum())
print(np.exp(a / 99).sum().round(3), np.sin(a).sum().round(3), np.sqrt(np.abs(a)).sum().round(3))
step("done")
"""
#: Its library chooses by the processor how it compares, searches, hashes and multiplies; its run-time system has threads.
_GO = """
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"math/big"
	"os"
	"strings"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	step := func(text string) {
		fmt.Println(text)
		if _, err := in.ReadString('\\n'); err != nil {
			os.Exit(1)
		}
	}
	data := make([]byte, 300000)
	for i := range data {
		data[i] = byte(i * i >> 7)
	}
	step("ready")
	same := append([]byte(nil), data...)
	fmt.Println(bytes.Equal(data, same), bytes.Compare(data[1:], same), bytes.IndexByte(data, 255), bytes.Count(data, data[:1]))
	fmt.Println(bytes.Index(data, data[70000:70040]), strings.Index(string(data), string(data[90000:90010])))
	fmt.Printf("%x %08x\\n", sha256.Sum256(data), crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	number := new(big.Int).SetBytes(data[:900])
	fmt.Println(new(big.Int).Exp(number, big.NewInt(65537), new(big.Int).SetBytes(data[1000:1300])))
	step("done")
}
"""
_ONE_THREAD = (("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1"))


@dataclass(frozen=True)
class Use:
    """``needs``: the flag of `mosfs.abi.cpu` that this computer must have for it, "" if it chooses by itself what it uses.
    ``script``: of Python, whose imports the Debian package ``package`` brings; ``go``: a program in Go; else ``words`` are those of
    uses.c. ``options``: of mosrun."""

    name: str
    words: str = ""
    needs: str = ""
    script: str = ""
    static: bool = False
    package: str = ""
    go: str = ""
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        if self.go:
            return [str(built_by_go(self.name, self.go))]
        if self.script:
            return [PYTHON, "-c", self.script]
        return [str(built(self.static)), *shlex.split(self.words)]

    @property
    def chooses(self) -> bool:
        """What it uses can be told to it (mosrun(1), --cpu)."""
        return not self.needs


USES = (
    Use("avx", "avx", "avx"),
    Use("avx2", "avx2", "avx2"),
    Use("avx512", "avx512", "avx512f"),
    Use("avx512-static", "avx512", "avx512f", static=True),
    Use("libc", "libc"),
    Use("libc-static", "libc", static=True),
    Use("saved", "saved", "avx512f"),
    Use("registers-avx", "registers avx wide", "avx"),
    Use("registers-avx2", "registers avx2 wide", "avx2"),
    Use("registers-avx512", "registers avx512", "avx512f"),
    Use("registers-avx512-wide", "registers avx512 wide", "avx512f"),
    Use("python", script=_PYTHON),
    Use("openblas", script=_OPENBLAS, package="libopenblas0-pthread"),
    Use("numpy", script=_NUMPY, package="python3-numpy"),
    Use("go", go=_GO),
)
BY_NAME = {use.name: use for use in USES}


def built(static: bool) -> Path:
    BUILT.mkdir(parents=True, exist_ok=True)
    binary = BUILT / ("uses-static" if static else "uses")
    if not binary.exists() or binary.stat().st_mtime < max(SOURCE.stat().st_mtime, Path(__file__).stat().st_mtime):
        compile_c(SOURCE, binary, CFLAGS + (("-static",) if static else ()))
    return binary


def built_by_go(name: str, source: str) -> Path:
    """The other computer finds it here too. RuntimeError: there is no compiler."""
    folder = BUILT / "go" / name
    binary, main = folder / name, folder / "main.go"
    if binary.exists() and main.read_text() == source:
        return binary
    if shutil.which("go") is None:
        raise RuntimeError("there is no Go here (golang-go)")
    folder.mkdir(parents=True, exist_ok=True)
    main.write_text(source)
    environ = {**os.environ, "GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "CGO_ENABLED": "0"}
    done = subprocess.run(
        ["go", "build", "-o", str(binary), str(main)], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    shutil.rmtree(folder / "cache", ignore_errors=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-400:]}")
    return binary


@dataclass(frozen=True)
class Told:
    """``refused``: why it was not moved; ``went``, ``came``: where it was before it was asked to go on, and when it had (IP, ""
    for home); ``needs``: flags that nodes must have for it in the end; ``lines``: its results."""

    refused: str
    went: str
    came: str
    needs: tuple[str, ...]
    lines: tuple[str, ...]
    status: int
    rest: str

    def wrong(self, native: Sequence[str], poor: str) -> str:
        """What is wrong with it, but where it was in the end; ``poor``: where it was to be asked to go on."""
        if self.refused or self.went != poor:
            return f"not moved, but at {self.went or 'home'}: {self.refused}"
        if list(self.lines) != list(native) or self.status or self.rest:
            return f"natively {native}: {self}"
        return ""


def _processors_known(tree: Tree) -> bool:
    """Has every node told what its processor has?"""
    return all(json.loads(tree.read(f"nodes/{ip}/stat"))["cpu_features"] for ip in (FIRST, OTHER, THIRD))


def _until(program: Asked, word: str) -> list[str]:
    lines: list[str] = []
    while (line := program.line()) != word:
        lines.append(line)
    return lines


def moved(use: Use, root: str, options: list[str], target: str) -> Told:
    """Start it, move it, and let it go on there."""
    if "--cpu=common" in options:
        tree = Tree(labs.require(root).node(1).paths)
        wait_until(lambda: _processors_known(tree), PATIENCE)
    with Asked(root, use.command, [*options, *use.options], dict(_ONE_THREAD)) as program:
        _until(program, "ready")
        refused = program.move(target)
        went = program.process.where
        program.ask()
        lines = _until(program, "done")
        came = program.process
        program.ask()
        status, rest = program.end()
    return Told(refused, went, came.where, came.needs, tuple(lines), status, rest)


@cache
def natively(use: Use) -> list[str]:
    """Its results where it is not moved. RuntimeError: why it cannot be run here."""
    if use.needs and use.needs not in cpu.parse(cpu.features()).flags:
        raise RuntimeError(f"this computer has no {use.needs} itself")
    environ = {**os.environ, **dict(_ONE_THREAD)}
    done = subprocess.run(use.command, input="\n\n", capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise RuntimeError(f"{use.package or use.name}: {done.stderr[-400:]}")
    return done.stdout.splitlines()[1:-1]


def cannot(use: Use) -> str:
    """Why it cannot be run here; or ""."""
    try:
        natively(use)
    except RuntimeError as error:
        return str(error)
    return ""


def main() -> None:
    root, option, target, name = sys.argv[1:]
    print(json.dumps(asdict(moved(BY_NAME[name], root, option.split(), target))))


if __name__ == "__main__":
    main()
