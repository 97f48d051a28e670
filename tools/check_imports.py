"""Check the import law of docs/design/layout.md on the sources: ``python -m tools.check_imports [FOLDER]``.

A package may import what stands left of it in `LAW`, and itself. Packages that stand together do not see each other.
Imports inside functions and those for the type checker alone count too. `START_SMALL` names modules whose whole import
closure (over our modules, without what is for the type checker alone) must stay clear of heavy libraries.

Inside a package whose folders are `ROOMS` the same law holds for its rooms, and what begins with ``_`` is used in its own file
only. Circles of files inside a package are reported, with the number of files in them; `CIRCLES` is the most that each package
may have, more is a fault, and the numbers may only sink.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

ROOT = "mosfs"
C_MODULE = "mosfs._native"  #: built, so there is no source to read; part of `native`

#: Nothing imports what stands right of it. `native` with its C module knows nothing of ours but facts, `api` nothing at all.
LAW = (
    ("abi", "api"),
    ("native",),
    ("wire",),
    ("trace", "cluster", "balance"),
    ("calls",),
    ("engine", "migrate", "node", "mbox", "ptf", "queue"),
    ("procfs",),
    ("home", "guest", "fuse"),
    ("daemon",),
    ("tools",),
)

RANK = {package: rank for rank, packages in enumerate(LAW) for package in packages}


def event_loop(library: str) -> bool:
    """ptrace belongs to processes, trio and FUSE to the daemon: the two never share one."""
    return library in ("trio", "pyfuse3")


def not_standard(library: str) -> bool:
    """Short commands start without site-packages (`mosfs.tools.install_launchers`)."""
    return library not in sys.stdlib_module_names


#: Module and what it must not reach.
START_SMALL: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("mosfs.api", not_standard),
    ("mosfs.tools.mosrun", not_standard),
    ("mosfs.tools.mosqueue", not_standard),
    ("mosfs.tools.mosnative", not_standard),
    ("mosfs.tools.mospipe", not_standard),
    ("mosfs.tools.mosps", not_standard),
    ("mosfs.tools.mosmigrate", not_standard),
    ("mosfs.tools.mosbestnode", not_standard),
    ("mosfs.tools.mosctl", not_standard),
    ("mosfs.tools.moskillall", not_standard),
    ("mosfs.tools.mosmon", not_standard),
    ("mosfs.tools.mossetpe", not_standard),
    ("mosfs.tools.mos_checkconf", not_standard),
    ("mosfs.tools.mosconf", not_standard),
    ("mosfs.tools.mos_in_job", not_standard),
    ("mosfs.tools.mostestload", not_standard),
    ("mosfs.tools.mostimeof", not_standard),
    ("mosfs.tools.mosacct", not_standard),
    ("mosfs.daemon.forkserver", event_loop),
    ("mosfs.home.start", event_loop),
    ("mosfs.guest.host", event_loop),
)


#: The law within a package, for its folders and files: those that stand together do not see each other.
ROOMS = {
    "home": (("process",), ("ports",), ("tree", "away", "moves", "asks"), ("tracer",), ("start",)),
}

#: Files of a package that are in a circle of imports. No other package has any.
CIRCLES: dict[str, int] = {}

#: Uses of private names of other files in a package. No other package has any.
PRIVATE: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Import:
    """``target``: a module of ours in full, or the first part of a library's name. ``typing_only``: not at run time."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    path: str
    imports: tuple[Import, ...]
    private: tuple[tuple[int, str], ...] = ()  # (line, name) of private names that are another file's


def read_modules(folder: str) -> dict[str, Module]:
    """Every module below ``folder``/mosfs by its dotted name. SyntaxError as it comes."""
    files = dict(source_files(folder))
    return {name: _module(name, path, files.keys()) for name, path in files.items()}


def law_broken(modules: Mapping[str, Module]) -> Iterator[str]:
    """One line, with file and line number, for each import against the law."""
    for module in modules.values():
        package = _package(module.name)
        if package and package not in RANK:
            yield f"{module.path}:1: the import law does not know mosfs.{package}"
        for imported in module.imports:
            other = _package(imported.target) if _ours(imported.target) else ""
            if package and other and other != package and RANK.get(other, len(LAW)) >= RANK.get(package, len(LAW)):
                yield f"{module.path}:{imported.line}: mosfs.{package} must not import mosfs.{other}"


def rooms_broken(modules: Mapping[str, Module]) -> Iterator[str]:
    """One line for each import against `ROOMS`, and for each file that it does not know."""
    for module in modules.values():
        package, room = _package(module.name), _room(module.name)
        if package not in ROOMS or not room:
            continue
        rank = {name: rank for rank, names in enumerate(ROOMS[package]) for name in names}
        if room not in rank:
            yield f"{module.path}:1: the import law does not know the room mosfs.{package}.{room}"
        for imported in module.imports:
            other = _room(imported.target) if _ours(imported.target) and _package(imported.target) == package else ""
            if other and other != room and rank.get(other, len(rank)) >= rank.get(room, len(rank)):
                yield f"{module.path}:{imported.line}: mosfs.{package}.{room} must not import mosfs.{package}.{other}"


def private_report(modules: Mapping[str, Module], most: Mapping[str, int] = PRIVATE) -> Iterator[str]:
    """A line for each private name that is used outside its file, of packages that have more than their number of them."""
    found: dict[str, list[str]] = {}
    for module in modules.values():
        lines = (f"{module.path}:{line}: {name} is private to another file" for line, name in module.private)
        found.setdefault(_package(module.name), []).extend(lines)
    for package, lines_of in found.items():
        if len(lines_of) > most.get(package, 0):
            yield from lines_of


def heavy_starts(modules: Mapping[str, Module]) -> Iterator[str]:
    """One line for each module of `START_SMALL` that is not there, and for each library that one must not reach."""
    for start, forbidden in START_SMALL:
        if start not in modules:
            yield f"{start}: there is no such module, but START_SMALL names it"
            continue
        for library, chain in _reached(modules, start).items():
            if forbidden(library):
                yield f"{modules[start].path}:1: {start} must not import {library}, but does: {' -> '.join(chain)}"


def circles(modules: Mapping[str, Module]) -> dict[str, list[set[str]]]:
    """Of each package that has any: its circles, as the sets of modules that import each other, in however many steps.

    The package itself (its __init__.py) does not count: whoever imports a module of it imports it, too.
    """
    found: dict[str, list[set[str]]] = {}
    inner = {
        name: {one.target for one in module.imports if _package(one.target) == _package(name) and one.target in modules}
        for name, module in modules.items() if name.count(".") > 1
    }
    reached = {name: _closure(inner, name) for name in inner}
    for name in sorted(inner):
        circle = {other for other in reached[name] if name in reached.get(other, ())}
        if circle and circle not in found.setdefault(_package(name), []):
            found[_package(name)].append(circle)
    return {package: those for package, those in found.items() if those}


def _closure(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """What can be reached from ``start``; itself only by a circle."""
    seen: set[str] = set()
    waiting = [start]
    for name in waiting:
        new = graph.get(name, set()) - seen
        seen |= new
        waiting += new
    return seen


def circle_report(modules: Mapping[str, Module], most: Mapping[str, int] = CIRCLES) -> Iterator[tuple[bool, str]]:
    """(is it too much?, a line) for each package with circles."""
    for package, those in circles(modules).items():
        count = sum(map(len, those))
        names = "; ".join(", ".join(sorted(name.removeprefix(f"{ROOT}.{package}.") for name in circle)) for circle in those)
        yield count > most.get(package, 0), f"mosfs/{package}: {count} files in circles, at most {most.get(package, 0)}: {names}"


def _reached(modules: Mapping[str, Module], start: str) -> dict[str, tuple[str, ...]]:
    """Libraries that importing ``start`` may load, each with the shortest chain to it."""
    chains: dict[str, tuple[str, ...]] = {start: (start,)}
    libraries: dict[str, tuple[str, ...]] = {}
    waiting = [start]
    for name in waiting:
        parents = (Import(parent, 1, False) for parent in _parents(name))
        for imported in (*parents, *modules[name].imports):
            target = imported.target
            if imported.typing_only or target in chains:
                continue
            if target in modules:
                chains[target] = (*chains[name], target)
                waiting.append(target)
            elif not _ours(target):
                libraries.setdefault(target, (*chains[name], target))
            elif target == C_MODULE:
                libraries.setdefault("cffi", (*chains[name], target, "cffi"))
    return libraries


def source_files(folder: str, top: str = ROOT) -> Iterator[tuple[str, str]]:
    """Dotted name and path of every module below ``folder``/``top``."""
    for directory, _, names in os.walk(os.path.join(folder, top)):
        for name in names:
            if name.endswith(".py"):
                path = os.path.normpath(os.path.join(directory, name))
                module = os.path.relpath(path, folder).removesuffix(".py").removesuffix("/__init__")
                yield module.replace("/", "."), path


def _module(name: str, path: str, known: Container[str]) -> Module:
    with open(path, encoding="utf-8") as source:
        tree = ast.parse(source.read(), path)
    return Module(name, path, tuple(_imports(name, path, tree, known)), tuple(_private(tree)))


def _private(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Private names of our other files. ``_replace`` and its kind are public: named tuples have no other way."""
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_self(node.value)}
    own |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    own |= {"_replace", "_asdict", "_fields"}
    libraries = {
        (alias.asname or alias.name).split(".")[0]
        for node in nodes if isinstance(node, ast.Import) for alias in node.names if not _ours(alias.name)
    }
    for node in nodes:
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
            if not (isinstance(node.value, ast.Name) and node.value.id in libraries):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and (node.level or _ours(node.module or "")):
            yield from ((node.lineno, alias.name) for alias in node.names if _is_private(alias.name) and alias.name != "_native")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and not name.startswith("__")  # _value_ is what enum documents


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _imports(name: str, path: str, tree: ast.Module, known: Container[str]) -> Iterator[Import]:
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    for node, typing_only in _import_statements(tree, False):
        for target in _targets(node, package, known):
            yield Import(target if _ours(target) else target.split(".")[0], node.lineno, typing_only)


def _import_statements(node: ast.AST, typing_only: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, typing_only
        return
    guarded = node.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") else []
    for child in ast.iter_child_nodes(node):
        yield from _import_statements(child, typing_only or child in guarded)


def _targets(node: ast.Import | ast.ImportFrom, package: str, known: Container[str]) -> list[str]:
    """The modules that one statement names: of ``from a import b``, a.b when that is a module, else a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
    inner = (f"{base}.{alias.name}" for alias in node.names)
    return [name if name in known else base for name in inner]


def _ours(name: str) -> bool:
    return name == ROOT or name.startswith(ROOT + ".")


def _package(name: str) -> str:
    """The package directly below mosfs in a dotted name; "" for mosfs itself."""
    return name.split(".")[1].lstrip("_") if "." in name else ""


def _room(name: str) -> str:
    """The folder or file directly below its package in a dotted name; "" for the package itself."""
    return name.split(".")[2] if name.count(".") > 1 else ""


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def main() -> int:
    folder = sys.argv[1] if len(sys.argv) > 1 else "."
    modules = read_modules(folder)
    if ROOT not in modules:
        sys.stderr.write(f"check_imports: {folder}: there is no {ROOT}/__init__.py in it\n")
        return 2
    faults = [*law_broken(modules), *rooms_broken(modules), *private_report(modules), *heavy_starts(modules)]
    for too_many, line in circle_report(modules):
        sys.stderr.write(f"{line}\n")
        if too_many:
            faults.append(line)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
