"""What documents, docstrings and comments name in backquotes is there: files, and what modules and classes of ours have."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: What a document has its reader make.
NOT_THERE = {"mosfs/tools/moswhere.py"}
QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
NAME = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*\.[A-Za-z_]\w*(\(\))?|[A-Z]\w*\.[A-Za-z_]\w*(\(\))?")
FILE = re.compile(r"[\w./-]+\.(py|c|h|md)")
OTHER_FILE = re.compile(r"[\w./-]+\.(conf|map|toml|yml|so)")


def ours(*endings: str) -> list[Path]:
    folders = ("mosfs", "tools", "tests", "bench", "docs", "examples", "include", "etc")
    found = [*ROOT.iterdir(), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return [path for path in found if path.suffix in endings]


class Names:
    """``members``: of each module and class, by the last part of its name; ``bases``: of each class."""

    def __init__(self) -> None:
        self.members: dict[str, set[str]] = defaultdict(set)
        self.bases: dict[str, set[str]] = defaultdict(set)
        for path in ours(".py"):
            module = path.parent.name if path.stem == "__init__" else path.stem
            tree = ast.parse(path.read_text())
            self.members[module] |= set(_assigned(tree.body))
            self.members[path.parent.name].add(path.stem)
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self.members[node.name] |= {*_assigned(node.body), *_attributes(node)}
                    self.bases[node.name] |= {ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases}
            self.members[path.parent.parent.name].add(path.parent.name)
        self.members["mosfs"] |= {"_native"}

    def has(self, owner: str, name: str) -> bool:
        return name in self.members[owner] or any(self.has(base, name) for base in self.bases[owner] if base in self.members)


def _assigned(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _attributes(node: ast.ClassDef) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in ("self", "cls"):
            yield part.attr


@pytest.mark.long  # it parses every source
def test_what_is_named_in_backquotes_is_there() -> None:
    names, files = Names(), [str(path.relative_to(ROOT)) for path in ours(".py", ".c", ".h", ".md")]
    wrong = []
    for path in ours(".py", ".c", ".h", ".md"):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for quoted in QUOTED.findall(line):
                if FILE.fullmatch(quoted):
                    missing = quoted not in NOT_THERE and not any(f"/{file}".endswith(f"/{quoted}") for file in files)
                elif NAME.fullmatch(quoted) and not OTHER_FILE.fullmatch(quoted):
                    *_, owner, name = quoted.removesuffix("()").split(".")
                    missing = owner in names.members and not names.has(owner, name)
                else:
                    continue
                if missing:
                    wrong.append(f"{path.relative_to(ROOT)}:{number}: {quoted}")
    assert wrong == []
