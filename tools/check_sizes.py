"""Check that classes and functions stay small enough to be read: ``python -m tools.check_sizes [FOLDER]``.

What is larger than `MOST` stands in `ARGUED` with the reason. An entry there that is not needed any more is a fault as well, so
that the table is what is true.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tools.check_imports import source_files

#: The most of each kind. A method or field that a class inherits counts where it is written.
MOST = {"lines of a class": 350, "methods": 25, "fields": 25, "lines of a function": 60}

#: What may have more, by its full name, and why.
ARGUED = {
    "mosfs.trace.task.Task": "One method a request of the kernel, a few lines each; two classes would be two objects a process.",
    "mosfs.migrate.image.ImageMeta": "The format of an image: a field for each thing that travels, in the order of the versions.",
    "mosfs.migrate.precopy.Precopy": "What one round of one algorithm hands on to the next; nobody else reads or writes any of it.",
}


@dataclass(frozen=True, slots=True)
class Size:
    """``name``: in full, as mosfs.home.tracer.Tracer; ``kind``: a key of `MOST`."""

    path: str
    line: int
    name: str
    kind: str
    count: int


def sizes(folder: str) -> Iterator[Size]:
    """Of every class and function below ``folder``, in mosfs and tools, whatever is counted of it. SyntaxError as it comes."""
    for module, path in (*source_files(folder), *source_files(folder, "tools")):
        with open(path, encoding="utf-8") as source:
            tree = ast.parse(source.read(), path)
        yield from _inside(tree, path, module)


def _inside(node: ast.AST, path: str, prefix: str) -> Iterator[Size]:
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{child.name}"
            yield Size(path, child.lineno, name, "lines of a function", _lines(child))
        elif isinstance(child, ast.ClassDef):
            name = f"{prefix}.{child.name}"
            yield Size(path, child.lineno, name, "lines of a class", _lines(child))
            yield Size(path, child.lineno, name, "methods", len(list(_methods(child))))
            yield Size(path, child.lineno, name, "fields", len(_fields(child)))
        yield from _inside(child, path, name)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (inner for inner in node.body if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef))


def _fields(node: ast.ClassDef) -> set[str]:
    """Names that the class declares for its objects, and that its methods set in them."""
    declared = {
        inner.target.id for inner in node.body if isinstance(inner, ast.AnnAssign)
        and isinstance(inner.target, ast.Name) and "ClassVar" not in ast.unparse(inner.annotation)
    }
    stored = {
        inner.attr for method in _methods(node) for inner in ast.walk(method)
        if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name) and inner.value.id == "self"
    }
    return declared | stored


def faults(found: Iterator[Size], argued: Mapping[str, str]) -> Iterator[str]:
    """One line for each size over `MOST` that is not in ``argued``, and for each entry there that nothing needs."""
    needed = set()
    for size in found:
        if size.count <= MOST[size.kind]:
            continue
        needed.add(size.name)
        if size.name not in argued:
            yield f"{size.path}:{size.line}: {size.name}: {size.count} {size.kind}, at most {MOST[size.kind]}"
    yield from (f"ARGUED: {name} is small enough, or not there" for name in sorted(argued.keys() - needed))


def main() -> int:
    found = list(faults(sizes(sys.argv[1] if len(sys.argv) > 1 else "."), ARGUED))
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
