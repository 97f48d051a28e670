"""The programs of examples/: built, run natively, and run where they belong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Lab, lab
from tests.progs import REPO, compile_c, scratch

EXAMPLES = REPO / "examples"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), 3) as running:
        yield running


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """A folder with the C examples, compiled as their heads say. Nobody may be allowed to enter the usual one of a test."""
    with scratch() as folder:
        for source in EXAMPLES.glob("private*.c"):
            compile_c(source, folder / source.stem, ("-Wall", "-Wextra", "-Werror"))
        yield folder


def test_private_c(nodes: Lab, built: Path) -> None:
    total = sum(n * n for n in range(1_000_000)) % 2**64
    native = subprocess.run([built / "private"], capture_output=True, text=True, check=True)
    assert native.stdout == f"node 0: {total}\n"
    done = nodes.run(1, "mosrun", "-X", "/tmp", str(built / "private"), "2", "3", "0")
    assert (done.stdout, done.stderr) == ("".join(f"node {n}: {total}\n" for n in (0, 2, 3, 0)), "")
    assert not Path("/tmp/numbers").exists()


def test_private_py(nodes: Lab) -> None:
    program = str(EXAMPLES / "private.py")
    native = subprocess.run(["/usr/bin/python3", program], capture_output=True, text=True, check=True)
    assert native.stdout.startswith("200000 True ")
    done = nodes.run(1, "mosrun", "-X", "/tmp", "/usr/bin/python3", program, "2", "3", "0")
    assert (done.stdout, done.stderr) == (native.stdout, "")
