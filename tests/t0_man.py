"""The man pages: every option and control file has its item, refused calls are listed, mandoc finds nothing to say."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from mosfs.abi.syscalls import BY_NR, Home
from mosfs.home.process.settings import inherit
from mosfs.procfs.table import CONTROL_FILES
from mosfs.procfs.tree import NODE_FILES, OWN_FILES
from mosfs.tools.mos_autoconf import MOS_AUTOCONF
from mosfs.tools.mos_checkconf import MOS_CHECKCONF
from mosfs.tools.mos_in_job import MOS_IN_JOB
from mosfs.tools.mosacct import MOSACCT
from mosfs.tools.mosbestnode import MOSBESTNODE
from mosfs.tools.mosconf import MOSCONF
from mosfs.tools.mosconf_menus import MENUS
from mosfs.tools.mosctl import MOSCTL
from mosfs.tools.mosctl import VERBS as FUNCTIONS
from mosfs.tools.mosd import MOSD
from mosfs.tools.moskillall import MOSKILLALL
from mosfs.tools.moslab import MOSLAB, VERBS
from mosfs.tools.mosmigrate import MOSMIGRATE
from mosfs.tools.mosmon import MOSMON
from mosfs.tools.mosmon_view import KEYS
from mosfs.tools.mosnative import MOSNATIVE
from mosfs.tools.mospipe import MOSPIPE
from mosfs.tools.mosps import MOSPS
from mosfs.tools.mosrun import MOSENV, MOSRUN
from mosfs.tools.mossetpe import MOSSETPE
from mosfs.tools.mostestload import MOSTESTLOAD
from mosfs.tools.mostimeof import MOSTIMEOF
from mosfs.tools.options import Command
from mosfs.wire.asked import Settings

REPO = Path(__file__).parent.parent
MAN = REPO / "docs/man"
PAGES = sorted(page for page in MAN.glob("*.[178]") if not page.is_symlink())
#: Page: the commands whose options it explains.
COMMANDS: dict[str, tuple[Command, ...]] = {
    "mosrun.1": (MOSRUN, MOSENV, MOSNATIVE),
    "mosmigrate.1": (MOSMIGRATE,),
    "mospipe.1": (MOSPIPE,),
    "mosps.1": (MOSPS,),
    "mosbestnode.1": (MOSBESTNODE,),
    "mosctl.1": (MOSCTL,),
    "moskillall.1": (MOSKILLALL,),
    "mosmon.1": (MOSMON,),
    "mossetpe.1": (MOSSETPE,),
    "mos_checkconf.1": (MOS_CHECKCONF,),
    "mosconf.1": (MOSCONF,),
    "mos_autoconf.1": (MOS_AUTOCONF,),
    "mos_in_job.1": (MOS_IN_JOB,),
    "mostestload.1": (MOSTESTLOAD,),
    "mostimeof.1": (MOSTIMEOF,),
    "mosacct.1": (MOSACCT,),
    "moslab.1": (MOSLAB, *(command for command, _ in VERBS.values())),
    "mosd.8": (MOSD,),
}
#: Page: the words that it explains besides.
WORDS = {"mosconf.1": set(MENUS), "moslab.1": set(VERBS), "mosctl.1": {verb.name for verb in FUNCTIONS}}
needs_mandoc = pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")


def explained(page: str) -> Iterator[str]:
    """The options that have an item in a page, as they are typed: ``.It Fl p Ar list , Cm p Ar list`` is -p and p."""
    for line in (MAN / page).read_text().splitlines():
        words = line.split()
        if words[:1] != [".It"]:
            continue
        for macro, word in pairwise(words):
            if macro == "Fl":
                yield "-" if word == "Ns" else f"-{word}"
            elif macro == "Cm":
                yield word


def section(page: str, title: str) -> str:
    _, _, rest = (MAN / page).read_text().partition(f".Sh {title}\n")
    return rest.partition("\n.Sh ")[0]


def test_every_page_is_known() -> None:
    assert {page.name for page in PAGES} == {*COMMANDS, "mosix.7", "direct_communication.7"}


def test_every_command_has_a_page() -> None:
    """Those that share one are links to it, and in its NAME."""
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    for command in scripts:
        (page,) = MAN.glob(f"{command}.[18]")
        assert f".Nm {command}" in section(page.name, "NAME").replace(" ,\n", "\n").splitlines()


@pytest.mark.parametrize("page", COMMANDS)
def test_exit_statuses_are_explained(page: str) -> None:
    text = section(page, "EXIT STATUS")
    assert re.search(r"\b2\b", text) and "wrong" in text, "a wrong command line"
    for command in COMMANDS[page]:
        assert command.run(lambda _options: 0, ["--no-such-option"]) == 2


def test_every_environment_variable_is_explained() -> None:
    """In a page; those for tests and benchmarks in another document."""
    sources = [path.read_text() for folder in ("mosfs", "tools") for path in (REPO / folder).rglob("*.py")]
    names = {name for source in sources for name in re.findall(r"[\"'](MOSIX_[A-Z_]+[A-Z])[\"']", source)}
    pages = "".join(page.read_text() for page in PAGES)
    others = "".join(page.read_text() for page in (*REPO.glob("docs/design/*.md"), REPO / "tests/README.md"))
    assert len(names) > 5
    assert {name for name in names if name not in pages and name not in others} == set()
    assert {name for name in names if name not in pages} <= {
        "MOSIX_CLOCKS", "MOSIX_CPU_WITHOUT", "MOSIX_KERNEL_WITHOUT", "MOSIX_PRECOPY", "MOSIX_PROBE"}


@pytest.mark.parametrize("page", COMMANDS)
def test_every_option_is_explained_and_no_other(page: str) -> None:
    names = {name for command in COMMANDS[page] for row in command.table for name in row.names}
    assert set(explained(page)) == names | WORDS.get(page, set())


@pytest.mark.parametrize("page", COMMANDS)
def test_what_is_not_there_yet_is_said_to_be_announced(page: str) -> None:
    later = {name for command in COMMANDS[page] for row in command.table if row.later for name in row.names}
    text = (MAN / page).read_text()
    assert not later or "announced" in text.lower()


def test_what_mosrun_within_mosrun_inherits_is_explained() -> None:
    """Its options are those whose settings a program within gets from the one that starts it."""

    def inherited(name: str) -> bool:
        other = "x" if isinstance(getattr(Settings(), name), str) else 1
        return bool(getattr(inherit(replace(Settings(), **{name: other}), Settings()), name) == other)

    names = {name for row in MOSRUN.table if row.key in Settings.__struct_fields__ and inherited(row.key) for name in row.names}
    page = (MAN / "mosrun.1").read_text().partition("is inherited:\n")[2].partition(".Nm mosnative\n")[0]
    assert {f"-{word}" for word in page.split() if word not in (".Fl", ",", "and", ".")} == names


def test_every_function_of_mosctl_is_explained() -> None:
    items = re.findall(r"^\.It Cm (\w+)", section("mosctl.1", "DESCRIPTION"), re.MULTILINE)
    assert set(items) == {verb.name for verb in FUNCTIONS}


def test_every_key_of_mosmon_is_explained() -> None:
    items = re.findall(r"^\.It Ic (.*)$", section("mosmon.1", "DESCRIPTION"), re.MULTILINE)
    assert {key for item in items for key in item.split(" , ")} == set(KEYS)


def test_every_control_file_is_explained() -> None:
    interface = section("mosix.7", "INTERFACE FOR PROGRAMS")
    items = dict(re.findall(r"^\.It Pa (\w+) Pq (\w+)$", interface, re.MULTILINE))
    assert items == {row.name: row.access.value for row in CONTROL_FILES}


@pytest.mark.parametrize("file", sorted({file.name for file in (*NODE_FILES, *OWN_FILES)}))
def test_every_file_about_nodes_is_named(file: str) -> None:
    listed = section("mosix.7", "FILES").partition(".It Pa nodes/")[2]
    assert file in {word for line in listed.splitlines() if line.startswith(".Pa") for word in line.split()}


def test_the_limitations_list_what_the_table_refuses() -> None:
    listed = re.search(r"not supported:\n\.Bd.*\n((?:[^.].*\n)+)\.Ed", section("mosrun.1", "LIMITATIONS"))
    assert listed is not None
    names = listed[1].replace("\n", " ").strip().removesuffix(".").split(", ")
    assert names == sorted(row.name for row in BY_NR.values() if row.home is Home.REFUSE)


@needs_mandoc
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_nothing(page: Path) -> None:
    """But for references to manuals that are not installed here."""
    done = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "referenced manual not found" not in line] == []


@needs_mandoc
def test_the_limitations_can_be_cut_out() -> None:
    """The recipe of the MOSIX manual: man mosrun | sed ..."""
    shown = subprocess.run(["mandoc", "-T", "ascii", MAN / "mosrun.1"], capture_output=True, check=True).stdout
    plain = re.sub(rb".\x08", b"", shown)
    recipe = ["sed", "-e", "1,/^LIMITATIONS/d", "-e", "/^SEE ALSO/,$d"]
    cut = subprocess.run(recipe, input=plain, capture_output=True, check=True).stdout
    assert b"No threads" in cut
    assert b"userfaultfd" in cut
    assert b"moslab(1)" not in cut


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("columns", [40, 80, 120])
def test_groff_comes_to_an_end(page: Path, columns: int) -> None:
    """Its header never does where the volume's name alone is wider than the line. Bounded by work: seconds of CPU time."""
    command = ["prlimit", "--cpu=10", "groff", "-mandoc", "-Tutf8", f"-rLL={columns}n", f"-rLT={columns}n", str(page)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0 and b"Local Manual" in done.stdout.splitlines()[0]
