"""What docs/recipes.md says, each with the real tool: its tasks spread over the nodes, and its results are those without MOSIX."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until
from tests.progs import REPO

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(900)]
SECONDS = 180.0
NAMES = ("a", "b", "c", "d")
PAGE = REPO / "docs/recipes.md"
#: Computes until the file "go" is there, at which it looks seldom, and then writes its name to the file NAME.out.
WORK = """
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    volatile unsigned long x = 1;
    char name[100];
    while (access("go", F_OK) != 0)
        for (long i = 0; i < 100000000; i++)
            x = x * 3 + 1;
    snprintf(name, sizeof name, "%s.out", argv[argc - 1]);
    FILE *out = fopen(name, "w");
    return out == NULL || fprintf(out, "%s is done\\n", argv[argc - 1]) < 0 || fclose(out) != 0;
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Programs move by themselves there."""
    with cluster.lab(tmp_path_factory.mktemp("recipes"), 3, balance=True) as running:
        for node in running.plan.nodes():
            wait_until(lambda ip=node.ip: running.tree(1).read(f"nodes/{ip}/status") == "alive", SECONDS)
        yield running


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("work") / "work"
    subprocess.run(["gcc", "-O1", "-x", "c", "-o", program, "-"], input=WORK, text=True, check=True)
    return program


@pytest.fixture
def folder(tmp_path: Path, work: Path) -> Path:
    """Where a recipe runs: with the program, and an input file for each task."""
    shutil.copy(work, tmp_path / "work")
    for name in NAMES:
        (tmp_path / f"{name}.in").write_text(f"{name}\n")
    return tmp_path


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def said(line: str) -> str:
    """A line of the page, which must be there."""
    assert f"    {line}\n" in PAGE.read_text(), "docs/recipes.md"
    return line


def places(nodes: Lab) -> set[str]:
    """Where the tasks are that run now."""
    return {process.where for process in nodes.tree(1).processes() if process.comm == "work"}


@contextmanager
def started(nodes: Lab, folder: Path, *command: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "said").open("wb") as output:
        process = nodes.start(1, *command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        (folder / "go").touch()
        if process.poll() is None:
            process.terminate()
        process.wait()


def runs(nodes: Lab, folder: Path, *command: str) -> None:
    """It spreads, ends well, and has done all; nothing is left of it."""
    with started(nodes, folder, *command) as process:
        patience = time.monotonic() + 20 * SECONDS
        while len(places(nodes)) < 2:
            assert process.poll() is None and time.monotonic() < patience, (folder / "said").read_text()
            time.sleep(0.05)
        (folder / "go").touch()
        wait_until(lambda: process.poll() is not None, SECONDS)
        assert process.returncode == 0, (folder / "said").read_text()
    done(folder)
    wait_until(lambda: not nodes.tree(1).pids("proc"), SECONDS)


def done(folder: Path) -> None:
    assert {name: (folder / f"{name}.out").read_text() for name in NAMES} == {name: f"{name} is done\n" for name in NAMES}


def script(folder: Path, *lines: str) -> str:
    (folder / "script").write_text("".join(f"{line}\n" for line in lines))
    return str(folder / "script")


MAKEFILE = """all: a.out b.out c.out d.out
%.out: %.in
\t./work $*
"""


@pytest.mark.parametrize("line", [
    "mosrun -e make -j4", "make -j4 SHELL=$(command -v mosrun) .SHELLFLAGS='-b -e sh -c'",
])
def test_make(nodes: Lab, folder: Path, line: str) -> None:
    (folder / "Makefile").write_text(MAKEFILE)
    runs(nodes, folder, "bash", script(folder, said(line)))


def test_xargs(nodes: Lab, folder: Path) -> None:
    line = said("ls *.in | sed 's/.in$//' | xargs -P 4 -n 1 mosrun -b -e ./work")
    runs(nodes, folder, "bash", script(folder, line))


@needs("parallel")
def test_gnu_parallel(nodes: Lab, folder: Path) -> None:
    runs(nodes, folder, "bash", script(folder, said("parallel -j 4 mosrun -b -e ./work {/.} ::: *.in")))


def test_a_private_queue(nodes: Lab, folder: Path) -> None:
    line = said("for f in *.in; do echo \"exec ./work ${f%.in}\"; done | mosrun -b -e -S4 --joblog log -")
    runs(nodes, folder, "bash", script(folder, line))
    assert len((folder / "log").read_text().splitlines()) == 1 + len(NAMES)


def test_a_sweep_in_bash(nodes: Lab, folder: Path) -> None:
    runs(nodes, folder, "bash", script(folder, said("for f in *.in; do mosrun -b -e ./work ${f%.in} & done; wait")))


def test_a_sweep_in_python(nodes: Lab, folder: Path) -> None:
    """The lines of the page as they are."""
    text = PAGE.read_text()
    lines = [line[4:] for line in text[text.index("    import concurrent"):].split("\n\n")[0].splitlines()]
    runs(nodes, folder, sys.executable, script(folder, *lines))


def test_an_interactive_shell(nodes: Lab, folder: Path) -> None:
    """Whatever is typed at it spreads."""
    said("mosrun -e bash")
    runs(nodes, folder, "mosrun", "-e", "bash", "-c", "for name in a b c d; do ./work $name & done; wait")


@needs("Rscript")
def test_mclapply_of_r(nodes: Lab, folder: Path) -> None:
    lines = script(folder, 'ok <- parallel::mclapply(c("a", "b", "c", "d"), function(n) system2("./work", n), mc.cores = 4)',
                   "quit(status = sum(unlist(ok)))")
    said("mosrun --stay-home Rscript sweep.R")
    runs(nodes, folder, "mosrun", "--stay-home", "Rscript", lines)


#: Talks with a kernel as a notebook does; each cell's answer is a line. Its argument: the nodes that the kernel goes to.
NOTEBOOK = """
import subprocess, sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="mosfs")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=180)
def cell(code):
    said = []
    hear = lambda message: said.append(message["content"].get("text") or message["content"].get("evalue", ""))
    client.execute_interactive(code, timeout=180, output_hook=hear)
    print("".join(said).strip(), flush=True)
cell("import os, threading; kept = list(range(1000)); me = os.getpid()")
for node in sys.argv[1:]:
    cell(f"print(os.open('/proc/self/migrate', os.O_WRONLY | os.O_CREAT, {node}))")
    cell("print(len(kept), me == os.getpid(), threading.active_count() > 1, os.open('/proc/self/nmigs', 0) > 0)")
manager.interrupt_kernel()
cell("print(sum(kept))")
client.stop_channels()
manager.shutdown_kernel()
"""


@pytest.mark.skipif(subprocess.run(["/usr/bin/python3", "-c", "import ipykernel, jupyter_client"], capture_output=True).returncode,
                    reason="ipykernel is not installed")
def test_jupyter(nodes: Lab, folder: Path) -> None:
    """Its kernel moves itself, with its threads, and is interrupted and ended as ever."""
    said("jupyter kernelspec install --user etc/jupyter/mosfs")
    shutil.copytree(REPO / "etc/jupyter", folder / "jupyter/kernels")
    (folder / "notebook.py").write_text(NOTEBOOK)
    words = ["env", f"JUPYTER_PATH={folder}/jupyter", f"PATH=/usr/bin:{nodes.environ['PATH']}", "python3", "notebook.py"]
    places = ("2", "3", "0", "2")
    talk = nodes.run(1, *words, *places, cwd=folder, timeout=600)
    expected = ["", *(line for _ in places for line in ("0", "1000 True True True")), "499500", ""]
    assert talk.stdout.split("\n") == expected, talk.stderr
    wait_until(lambda: not nodes.tree(1).pids("proc"), SECONDS)


@needs("busybox")
def test_cron(nodes: Lab, folder: Path) -> None:
    """A crontab that busybox's crond runs at the next full minute; what cron gives its jobs is little."""
    said("0 3 * * *  mosrun -b -e ./nightly")
    tables = folder / "tables"
    tables.mkdir()
    words = " & ".join(f"mosrun -b -e ./work {name}" for name in NAMES)
    path = nodes.environ["PATH"]
    root = nodes.node(1).paths.root
    (tables / "root").write_text(f"* * * * * cd {folder}; [ -e once ] || {{ touch once; PATH='{path}' MOSIX_ROOT={root}; "
                                 f"export PATH MOSIX_ROOT; {words} & wait; touch ended; }}\n")
    with started(nodes, folder, "busybox", "crond", "-f", "-c", str(tables)):
        wait_until(lambda: len(places(nodes)) > 1, SECONDS)
        (folder / "go").touch()
        wait_until((folder / "ended").exists, SECONDS)
    done(folder)
    wait_until(lambda: not nodes.tree(1).pids("proc"), SECONDS)


SNAKEFILE = """
rule all:
    input: expand("{name}.out", name=["a", "b", "c", "d"])
rule work:
    input: "{name}.in"
    output: "{name}.out"
    shell: "./work {wildcards.name}"
"""


@pytest.fixture(scope="session")
def snakemake(pytestconfig: pytest.Config) -> str:
    """Of PyPI, in an environment of its own that is kept; skipped where it cannot be had."""
    folder = REPO / "build" / "recipes"
    program = folder / "bin" / "snakemake"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in ([sys.executable, "-m", "venv", folder], [folder / "bin/python", "-m", "pip", "-q", "install", "snakemake"]):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                pytest.skip("snakemake cannot be installed from PyPI here")
        (folder / "complete").touch()
    return str(program)


def test_snakemake(nodes: Lab, folder: Path, snakemake: str) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE)
    said("mosrun --stay-home snakemake -j 4")
    os.environ.pop("PYTHONPATH", None)
    runs(nodes, folder, "mosrun", "--stay-home", snakemake, "-j", "4", "--latency-wait", "60")
