"""The sentences of a man page in docs/man, as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.progs import REPO

#: How a sentence begins, and its tests; or why it has none.
Row = tuple[str, str]
FACT = "- says what there is, promises nothing"
#: Macros of mdoc(7) whose arguments are text; the others say how a page looks, or head a section.
_SHOWN = frozenset({
    "Nm", "Xr", "Pa", "Er", "Fn", "Fa", "Va", "Dv", "Ar", "Fl", "Ql", "Dq", "Pq",
    "Op", "Ic", "No", "Li", "Em", "Bq", "Dl", "It", "Sq", "Ev", "Cm", "Sx",
})  # fmt: skip
_BREAKS = frozenset(["Sh", "Ss", "Pp", "Bl", "El", "It", "Bd", "Ed", "Dl", "Bx"])
#: Sections that promise nothing.
_SILENT = frozenset({"NAME", "SYNOPSIS", "SEE ALSO"})
_PUNCTUATION = re.compile(r"\s+([,.;:)])(?=\s|$)")


def _words(line: str) -> list[str]:
    return [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', line.replace('\\(dq', '"').replace("\\-", "-").replace("\\e", "\\"))]


def _text(line: str) -> str:
    """A line of the source without its markup."""
    if not line.startswith("."):
        return line.replace("\\(dq", '"').replace("\\-", "-").replace("\\e", "\\").replace("\\(ga", "`").replace("\\(aq", "'")
    shown, flag = [], ""
    for word in _words(line[1:]):
        if word == "Fl":
            flag = "-"
        elif word == "Nm" and line == ".Nm":
            continue
        elif word == "Ns":
            flag = "\b"
        elif word in _SHOWN:
            continue
        elif word in ",.;:()|":
            shown.append(f"\b{word}" if word != "(" else word)
        else:
            shown.append(flag + word)
            flag = ""
    return " ".join(shown).replace(" \b", "").removeprefix("\b")


def _paragraphs(section: str, lines: list[str]) -> Iterator[str]:
    literal = False
    found: list[str] = []
    for line in lines:
        macro = line[1:].split(" ", 1)[0] if line.startswith(".") else ""
        if macro in _BREAKS:
            if found:
                yield " ".join(found)
            found = []
        if macro in ("Bd", "Ed"):
            literal = macro == "Bd"
        elif macro == "It" and section.startswith("ERROR"):
            found.append(f"[{line.split()[-1]}]" if "Er" in line else "")
        elif macro in _BREAKS and macro not in ("It", "Dl"):
            continue
        elif literal:
            found.append(line.strip().replace("\\e", "\\").replace("\\(ga", "`"))
        else:
            found.append(_text(line))
    if found:
        yield " ".join(found)


def sentences(page: str, only: str = "") -> list[str]:
    """The sentences of a page, in order; ``only``: of this section, or subsection."""
    source = [line for line in (REPO / "docs/man" / page).read_text().splitlines() if not line.startswith('.\\"')]
    sections: dict[str, list[str]] = {}
    name = part = "NAME"
    for line in source:
        if line.startswith(".Sh "):
            name = part = line[4:]
        elif line.startswith(".Ss "):
            part = line[4:]
        sections.setdefault(part if part == only else name, []).append("." + "Pp" if line.startswith((".Sh ", ".Ss ")) else line)
    found: list[str] = []
    for section, lines in sections.items():
        if section in _SILENT or (only and section != only):
            continue
        for paragraph in _paragraphs(section, lines):
            plain = _PUNCTUATION.sub(r"\1", " ".join(paragraph.split()))
            found += [one for one in re.split(r"(?<=[.:;])\s+(?=[A-Z\"`$])", plain) if one]
    return found
