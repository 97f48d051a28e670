"""The project itself: import law, linters, licence, size of files, entry points, documents that tell the truth."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.cluster.check import CHECKS
from mosfs.cluster.load import ClusterMap
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.scalars import DEFAULT_GUEST_UIDS, DEFAULT_SPEED, parse_guest_uids, parse_mosip, parse_speed
from mosfs.cluster.userview import parse_userview, validate_userview
from mosfs.daemon.journal import WISH
from mosfs.native.stamp import stamp
from tools import check_imports, check_sizes

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_OURS = re.compile(r"\.(?!ci$).*|__pycache__|build|results|.*\.egg-info")
MAX_LINES = 700
CHECK_IMPORTS = [sys.executable, "-m", "tools.check_imports"]


def files(*suffixes: str) -> Iterator[Path]:
    """Our files with one of ``suffixes`` (all without): no environment, no build products; links are not followed."""
    for directory, folders, names in os.walk(ROOT):
        folders[:] = [folder for folder in folders if not NOT_OURS.fullmatch(folder)]
        ours = (name for name in names if not name.endswith((".so", ".o")) and name != ".git")  # a file, in a worktree
        yield from (Path(directory, name) for name in ours if name.endswith(suffixes or ""))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ------------------------------------------------------------------------------------------------- import law


@functools.cache
def our_modules() -> dict[str, check_imports.Module]:
    return check_imports.read_modules(str(ROOT))


def test_the_import_law_holds() -> None:
    read = our_modules()
    assert [*check_imports.law_broken(read), *check_imports.rooms_broken(read), *check_imports.private_report(read)] == []
    assert [line for too_many, line in check_imports.circle_report(read) if too_many] == []


def test_small_starts_stay_small() -> None:
    assert list(check_imports.heavy_starts(our_modules())) == []


def test_what_is_large_is_argued() -> None:
    assert list(check_sizes.faults(check_sizes.sizes(str(ROOT)), check_sizes.ARGUED)) == []


def test_sizes_are_counted(tmp_path: Path) -> None:
    fields = "\n".join(f"    f{n}: int" for n in range(24))
    methods = "\n".join(f"    def m{n}(self): self.f{n} = self.g{n // 25} = {n}" for n in range(26))
    text = f"class Large:\n{fields}\n    all: ClassVar[int]\n{methods}\n\ndef long():\n{'    pass' + chr(10)}" + "    pass\n" * 60
    (tmp_path / "mosfs").mkdir()
    (tmp_path / "mosfs" / "a.py").write_text(text)
    found = {(size.name, size.kind): size.count for size in check_sizes.sizes(str(tmp_path))}
    assert found["mosfs.a.Large", "methods"] == 26 and found["mosfs.a.Large", "lines of a class"] == 52
    assert found["mosfs.a.Large", "fields"] == 26 + 2 and found["mosfs.a.long", "lines of a function"] == 62
    lines = list(check_sizes.faults(check_sizes.sizes(str(tmp_path)), {"mosfs.a.long": "a reason", "mosfs.b": "none"}))
    assert [line.partition(": ")[2] for line in lines] == [
        "mosfs.a.Large: 26 methods, at most 25", "mosfs.a.Large: 28 fields, at most 25", "mosfs.b is small enough, or not there",
    ]


def modules(folder: Path, sources: dict[str, str]) -> dict[str, check_imports.Module]:
    """A little mosfs below ``folder``."""
    for name, text in [("__init__.py", ""), *sources.items()]:
        path = folder / "mosfs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return check_imports.read_modules(str(folder))


@pytest.mark.parametrize(
    ("importer", "statement", "verdict"),
    [
        ("wire/a.py", "from mosfs.abi import flags", ""),
        ("wire/a.py", "import mosfs.abi.flags as f, os, trio", ""),
        ("trace/a.py", "from mosfs._native import lib", ""),
        ("native/__init__.py", "from mosfs._native import lib", ""),
        ("wire/a.py", "from . import b\nfrom .b import c", ""),
        ("home/a.py", "from mosfs import __version__", ""),
        ("home/a.py", "from mosfs.migrate.image import Vma", ""),
        ("abi/a.py", "from mosfs import native", ":1: mosfs.abi must not import mosfs.native"),
        ("abi/a.py", "x = 1\nfrom mosfs.wire.b import c", ":2: mosfs.abi must not import mosfs.wire"),
        ("abi/a.py", "def f():\n    from ..wire import b", ":2: mosfs.abi must not import mosfs.wire"),
        ("calls/a.py", "if TYPE_CHECKING:\n    import mosfs.home.tracer", ":2: mosfs.calls must not import mosfs.home"),
        ("trace/a.py", "import mosfs.cluster", ":1: mosfs.trace must not import mosfs.cluster"),
        ("home/a.py", "from mosfs.guest import b", ":1: mosfs.home must not import mosfs.guest"),
        ("daemon/a.py", "import mosfs.tools.mosrun", ":1: mosfs.daemon must not import mosfs.tools"),
        ("tools/a.py", "import mosfs.elsewhere", ":1: mosfs.tools must not import mosfs.elsewhere"),
        ("elsewhere/a.py", "", ":1: the import law does not know mosfs.elsewhere"),
    ],
)
def test_the_law_is_enforced(tmp_path: Path, importer: str, statement: str, verdict: str) -> None:
    sources = {"native/__init__.py": "", "wire/__init__.py": "", "wire/b.py": "", importer: statement}
    found = list(check_imports.law_broken(modules(tmp_path, sources)))
    assert found == ([f"{tmp_path}/mosfs/{importer}{verdict}"] if verdict else [])


def test_heavy_imports_are_found_through_other_modules(tmp_path: Path) -> None:
    sources = {name.removeprefix("mosfs.").replace(".", "/") + ".py": "" for name, _ in check_imports.START_SMALL}
    assert list(check_imports.heavy_starts(modules(tmp_path, sources))) == []
    sources |= {
        "tools/mosrun.py": "import os\nfrom mosfs.tools.b import x",
        "tools/b.py": "def f():\n    from mosfs.wire import c",
        "wire/__init__.py": "import json.decoder",
        "wire/c.py": "if TYPE_CHECKING:\n    import pyfuse3\nelse:\n    import msgspec.json",
        "home/start.py": "import cffi\nimport mosfs.wire.d",
        "wire/d.py": "import trio.lowlevel",
        "guest/host.py": "if typing.TYPE_CHECKING:\n    import trio",
        "tools/mosnative.py": "from mosfs._native import lib",
    }
    assert list(check_imports.heavy_starts(modules(tmp_path, sources))) == [
        f"{tmp_path}/mosfs/tools/mosrun.py:1: mosfs.tools.mosrun must not import msgspec, but does: "
        "mosfs.tools.mosrun -> mosfs.tools.b -> mosfs.wire.c -> msgspec",
        f"{tmp_path}/mosfs/tools/mosnative.py:1: mosfs.tools.mosnative must not import cffi, but does: "
        "mosfs.tools.mosnative -> mosfs._native -> cffi",
        f"{tmp_path}/mosfs/home/start.py:1: mosfs.home.start must not import trio, but does: "
        "mosfs.home.start -> mosfs.wire.d -> trio",
    ]


def test_a_package_counts_when_its_module_is_imported(tmp_path: Path) -> None:
    sources = {name.removeprefix("mosfs.").replace(".", "/") + ".py": "" for name, _ in check_imports.START_SMALL}
    sources |= {"tools/mosps.py": "import mosfs.wire.b", "wire/b.py": "", "wire/__init__.py": "import trio"}
    (found,) = check_imports.heavy_starts(modules(tmp_path, sources))
    assert found.endswith("mosfs.tools.mosps -> mosfs.wire.b -> mosfs.wire -> trio")


def test_rooms_of_a_package_know_their_doors_only(tmp_path: Path) -> None:
    read = modules(tmp_path, {
        "home/process/a.py": "from mosfs.home import ports", "home/ports.py": "from mosfs.home.process import a",
        "home/tree/b.py": "from mosfs.home.process import a\nfrom mosfs.home.tree import c", "home/tree/c.py": "",
        "home/moves/d.py": "def f():\n    from mosfs.home.tree.b import x", "home/tracer.py": "import mosfs.home.moves.d",
        "home/cellar/e.py": "", "guest/a.py": "import mosfs.guest.tracer", "guest/tracer.py": "",
    })  # fmt: skip
    home = f"{tmp_path}/mosfs/home"
    assert sorted(check_imports.rooms_broken(read)) == [
        f"{home}/cellar/e.py:1: the import law does not know the room mosfs.home.cellar",
        f"{home}/moves/d.py:2: mosfs.home.moves must not import mosfs.home.tree",
        f"{home}/process/a.py:1: mosfs.home.process must not import mosfs.home.ports",
    ]


def test_private_names_stay_in_their_file(tmp_path: Path) -> None:
    read = modules(tmp_path, {
        "wire/a.py": "import os\nfrom mosfs.wire.b import _x\nx = os._exit\ny = _x.z._replace(a=1)\n",
        "wire/b.py": "class B:\n    def _f(self): ...\n    def g(self, other): return other._f, self._h\n_x = B()\n",
        "guest/a.py": "def f(host): host._told()\n",
    })
    (found,) = check_imports.private_report(read, {"guest": 1})
    assert found == f"{tmp_path}/mosfs/wire/a.py:2: _x is private to another file"
    assert len(list(check_imports.private_report(read, {"wire": 1}))) == 1


def test_circles_of_files_are_found(tmp_path: Path) -> None:
    """In any number of steps, in functions, and for the type checker; not over another package, or a package and its files."""
    read = modules(tmp_path, {
        "home/__init__.py": "from mosfs.home import a", "home/a.py": "from mosfs.home.b import x",
        "home/b.py": "def f():\n    from . import c",
        "home/c.py": "if TYPE_CHECKING:\n    from mosfs.home.a import y",
        "home/d.py": "from mosfs.home import a\nfrom mosfs.wire import e",
        "guest/a.py": "from mosfs.guest import b", "guest/b.py": "", "wire/e.py": "import mosfs.home.d",
        "mbox/a.py": "from mosfs.mbox import b", "mbox/b.py": "from mosfs.mbox import a",
        "mbox/c.py": "from .d import x", "mbox/d.py": "from . import c",
    })  # fmt: skip
    home = {"mosfs.home.a", "mosfs.home.b", "mosfs.home.c"}
    mbox = [{"mosfs.mbox.a", "mosfs.mbox.b"}, {"mosfs.mbox.c", "mosfs.mbox.d"}]
    assert check_imports.circles(read) == {"home": [home], "mbox": mbox}
    assert dict(check_imports.circle_report(read, {"home": 3, "mbox": 3})) == {
        False: "mosfs/home: 3 files in circles, at most 3: a, b, c", True: "mosfs/mbox: 4 files in circles, at most 3: a, b; c, d",
    }
    found = subprocess.run([*CHECK_IMPORTS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "mosfs/home: 3 files in circles, at most 0: a, b, c" in found.stdout and found.returncode == 1


def test_the_check_as_a_command(tmp_path: Path) -> None:
    modules(tmp_path, {"abi/a.py": "import mosfs.tools"})
    broken = subprocess.run([*CHECK_IMPORTS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert broken.stdout.startswith(f"{tmp_path}/mosfs/abi/a.py:1: mosfs.abi must not import mosfs.tools\n")
    empty = subprocess.run([*CHECK_IMPORTS, str(tmp_path / "abi")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (empty.returncode, empty.stdout, len(empty.stderr.splitlines())) == (2, "", 1)


# ------------------------------------------------------------------------------------------------- packages


@pytest.mark.long
def test_what_is_built_from_an_sdist_runs_where_it_is_installed(tmp_path: Path) -> None:
    """An sdist has all that a wheel and packages of distributions need."""

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=250).stdout

    for path in files():
        (there := tmp_path / "source" / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there, follow_symlinks=False)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path, cwd=tmp_path / "source")
    (archive,) = tmp_path.glob("mosfs-*.tar.gz")
    with tarfile.open(archive) as content:
        held = {name.partition("/")[2] for name in content.getnames()}
    assert {"include/mosix.h", "docs/man/mosrun.1", "mosfs/native/mos.h", "mosfs/native/vdso.c", "mosfs/tools/mosrun.py", "LICENSE",
            "tests/t0_project.py", "Makefile"} <= held  # fmt: skip
    assert any(name.startswith("etc/mosix/") for name in held)
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, archive)
    (wheel,) = tmp_path.glob("mosfs-*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    run(*pip, "--python", tmp_path / "venv" / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    assert PROJECT["version"] in run(tmp_path / "venv" / "bin" / "mosrun", "--version")


# ------------------------------------------------------------------------------------------------- the C module


def imported(folder: Path) -> str:
    """What is said when a copy of the package in ``folder`` imports its C module."""
    command = [sys.executable, "-c", "import mosfs.native"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stderr


def test_a_c_module_of_other_sources_is_told_apart(tmp_path: Path) -> None:
    """One that is older has functions missing, or means something else by them: no program shall run with it."""
    (native := tmp_path / "mosfs" / "native").mkdir(parents=True)
    (tmp_path / "mosfs" / "__init__.py").touch()
    for name in ("__init__.py", "checked.py", "stamp.py"):
        shutil.copy(ROOT / "mosfs" / "native" / name, native)
    (native / "kernel.py").touch()
    (native / "unit.c").write_text("int mos_unit(void);")
    module = tmp_path / "mosfs" / "_native.py"
    module.write_text(f"import types\nffi, lib = None, types.SimpleNamespace(mos_stamp=lambda: {stamp(native)})\n")
    assert imported(tmp_path) == ""
    (native / "unit.c").write_text("int mos_unit(int);")
    assert imported(tmp_path).endswith("run make setup\n")
    module.write_text("import types\nffi, lib = None, types.SimpleNamespace()\n")
    assert imported(tmp_path).endswith("run make setup\n")


# ------------------------------------------------------------------------------------------------- linters


@pytest.mark.lint
@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"]], ids=lambda command: command[0])
def test_linter(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------- sources


def test_every_package_says_what_it_is() -> None:
    folders = {path.parent for path in files(".py") if path.parts[len(ROOT.parts)] in ("mosfs", "tools")}
    assert [shown(folder) for folder in sorted(folders) if not _docstring(folder / "__init__.py")] == []


def _docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text())) if path.is_file() else None


def test_no_file_is_too_long() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in files(".py", ".c", ".h")}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_paths_of_a_developers_machine() -> None:
    machine = re.compile(rb"(^|[^A-Za-z0-9_])/(work|farm)/", re.MULTILINE)
    assert [shown(path) for path in files() if machine.search(path.read_bytes())] == []


# ------------------------------------------------------------------------------------------------- outer shape


def test_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:7] == ["GNU", "GENERAL", "PUBLIC", "LICENSE", "Version", "2,", "June"]
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "GPL-2.0-or-later"
    assert "any later version" in (ROOT / "README.md").read_text()


def test_every_command_has_its_function() -> None:
    missing = []
    for command, target in PROJECT["scripts"].items():
        module, function = target.split(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        source = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        defined = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
        imported = {a.asname or a.name for n in source.body if isinstance(n, ast.ImportFrom) for a in n.names}
        if function not in defined | imported:
            missing.append(f"{command}: {target}")
    assert missing == []


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] == phony[1].split()
    assert all(len(line.split()) > 2 for line in listed.splitlines())


def test_ci_runs_make_test() -> None:
    ci = ROOT / ".ci/run"
    assert os.access(ci, os.X_OK)
    assert ci.read_text().startswith("#!/usr/bin/env bash\n")
    assert ci.read_text().rstrip().endswith("exec make test")


def test_readme_has_the_two_commands_and_documents_have_no_dead_links() -> None:
    assert {"make demo", "make test"} <= set(re.findall(r"make \w+", (ROOT / "README.md").read_text()))
    dead = []
    for page in files(".md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, place = link.partition("#")
            target = page.parent / name if name else page
            if "://" not in link and not (target.exists() and (not place or place in places(target))):
                dead.append(f"{shown(page)}: {link}")
    assert dead == []


def places(page: Path) -> set[str]:
    """What links may name behind a '#': the headings of a page, as browsers of Markdown make their names, and its own anchors."""
    text = page.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = re.findall(r'<a id="([^"]+)">', text)
    return {*anchors, *(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings)}


def test_layout_page_and_check_know_the_same_law() -> None:
    groups = ["{" + ", ".join(packages) + "}" if len(packages) > 1 else packages[0] for packages in check_imports.LAW]
    page = (ROOT / "docs/design/layout.md").read_text()
    assert " -> ".join(groups) in page
    for package, rooms in check_imports.ROOMS.items():
        law = " -> ".join("{" + ", ".join(names) + "}" if len(names) > 1 else names[0] for names in rooms)
        assert f"{package}: {law}\n" in page


def test_answers_of_the_layout_page_are_there() -> None:
    """Each file that an answer names exists, and what it names behind a file is a word of that file."""
    wrong = []
    for row in (ROOT / "docs/design/layout.md").read_text().partition("\n## Questions")[2].splitlines():
        text, answer = "", row.rpartition(" | ")[2]
        for name in re.findall(r"`([^`]+)`", answer):
            path = ROOT / "mosfs" / name
            if "/" in name:
                text = path.read_text() if path.is_file() else ""
            if not (text and ("/" in name or re.search(rf"\b{re.escape(name)}\b", text))):
                wrong.append(name)
    assert wrong == []


def test_version_is_the_same_in_both_places() -> None:
    source = (ROOT / "mosfs/__init__.py").read_text()
    assert f'__version__ = "{PROJECT["version"]}"' in source


def test_examples_for_etc_are_right() -> None:
    etc = ROOT / "etc/mosix"
    table = validate_map(parse_map((etc / "mosix.map").read_text()), lambda name: None)
    view = validate_userview(parse_userview((etc / "userview.map").read_text()), lambda name: None)
    nodes = ClusterMap(table, view)
    assert all(nodes.contains(ip) for ip, _ in view.numbers())
    assert nodes.contains(parse_mosip((etc / "mosip").read_text()))
    assert parse_speed((etc / "speed").read_text()) == DEFAULT_SPEED
    assert parse_guest_uids((etc / "guestuids").read_text()) == DEFAULT_GUEST_UIDS
    assert not (etc / "secret").exists()


def test_every_file_of_etc_is_explained() -> None:
    """In the table beside the examples, and in mosd(8)."""
    names = {*CHECKS, "secret", "partners/NAME", WISH}
    assert set(re.findall(r"^\| `([^`]+)` ", (ROOT / "etc/mosix/README.md").read_text(), re.MULTILINE)) == names
    items = re.findall(r"^\.It Pa ([\w./]+)", (ROOT / "docs/man/mosd.8").read_text(), re.MULTILINE)
    assert {"partners/" if name == "partners/NAME" else name for name in names} <= set(items)
