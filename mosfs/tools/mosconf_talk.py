"""The dialogues of mosconf(1): what is asked, and what the answers make of the files. They neither print nor write.

A dialogue is a generator: it yields a `Question`, gets the answer, and changes its `Draft`. What it yields else is to be printed;
the answer to that is not looked at. At `Wrong` the last answer did not fit, and the question comes again.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mosfs.cluster.address import Resolver
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.mosix_map import AliasLine, RangeLine, parse_map, validate_map
from mosfs.cluster.secret import parse_secret

T = TypeVar("T")
MAP, VIEW, SECRET, PARTNERS = "mosix.map", "userview.map", "secret", "partners"
#: Random bytes of a key that mosconf makes.
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Question:
    """``hidden``: the answer is not shown while it is typed."""

    text: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why the last answer is asked for again."""

    text: str


class Automatic(Exception):
    """Whoever answers wants the nodes to be found: what follows is the dialogue of mos_autoconf(1)."""


Talk = Generator["Question | Wrong | str", str, T]


@dataclass
class Draft:
    """The files below etc/mosix by name, as they are and as they shall be; one that is not in there does not exist. A key that is
    there already is not: ``has_key`` tells of it."""

    before: dict[str, str]
    has_key: bool
    resolver: Resolver
    files: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.files = dict(self.before)

    def set(self, name: str, text: str) -> None:
        """An empty text: the file shall not exist."""
        if text.strip():
            self.files[name] = text
        else:
            self.files.pop(name, None)

    def changes(self) -> dict[str, str | None]:
        """The files that shall be different, by name; None: no such file any more."""
        names = sorted({*self.before, *self.files})
        return {name: self.files.get(name) for name in names if self.files.get(name) != self.before.get(name)}


def yes(text: str, default: bool = True) -> Talk[bool]:
    while True:
        answer = (yield Question(f"{text} [{'Y/n' if default else 'y/N'}]? ")).strip().lower()
        if answer in ("", "y", "yes", "n", "no"):
            return answer.startswith("y") if answer else default
        yield Wrong("y or n")


def value(text: str, current: str, check: Callable[[str], object]) -> Talk[str]:
    """A word that ``check`` takes without ConfigError, or what it is now."""
    while True:
        answer = (yield Question(f"{text} [{current}]: ")).strip()
        try:
            if answer:
                check(answer)
        except ConfigError as error:
            yield Wrong(error.text)
        else:
            return answer or current


def is_data(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("#")


def listed(lines: Sequence[str], what: str) -> str:
    """The lines that say something, with the numbers by which they are deleted."""
    data = [line.strip() for line in lines if is_data(line)]
    return "\n".join([f"{what}:", *(f"{at:4}  {line}" for at, line in enumerate(data, 1))] if data else [f"{what}: none"])


def without(lines: Sequence[str], answer: str) -> list[str] | None:
    """``lines`` without the one that ``answer`` (-2: the second) deletes; None when there is none. Comments stay."""
    at = [number for number, line in enumerate(lines) if is_data(line)]
    which = int(answer[1:]) if answer[1:].isascii() and answer[1:].isdigit() and len(answer) < 7 else 0
    if not 0 < which <= len(at):
        return None
    return [line for number, line in enumerate(lines) if number != at[which - 1]]


def edit(
    text: str, what: str, prompt: str, build: Callable[[str], Talk[str]], check: Callable[[str], object],
    *, head_lines: int = 0, special: Callable[[str], str] = lambda answer: "",
) -> Talk[str]:
    """Lines are added, each begun by an answer and ended by ``build``, and deleted by -N, until an empty answer. ``check`` raises
    ConfigError for a text that must not be. The first ``head_lines`` of ``text`` are left alone. ``special``: what to say to an
    answer that is no line, else ""."""
    head, lines = text.split("\n")[:head_lines], text.rstrip("\n").split("\n")[head_lines:]
    lines = [] if lines == [""] else lines
    while True:
        yield listed(lines, what)
        answer = (yield Question(f"{prompt}, -N to delete line N, Enter when done: ")).strip()
        if not answer:
            return "".join(f"{line}\n" for line in (*head, *lines))
        if said := special(answer):
            yield said
            continue
        if answer.startswith("-"):
            left = without(lines, answer)
            if left is None:
                yield Wrong("there is no such line")
            lines = lines if left is None else left
            continue
        try:
            line = yield from build(answer)
            check("".join(f"{each}\n" for each in (*head, *lines, line)))
        except ConfigError as error:
            yield Wrong(error.text if error.value is None else f"{error.value!r}: {error.text}")
        else:
            lines.append(line)


def distant(host: str, count: str, default: bool) -> Talk[bool]:
    """The question of the manual, section 4.3.2."""
    single = count.strip() == "1"
    return (yield from yes("Is this node distant" if single else "Are these nodes distant", default))


ADVANCED = "Advanced: near or distant is asked for, and A.B.C.D=HOST is an alias of a node"
NODES = "First address (or name) of a range of nodes"


def nodes(draft: Draft) -> Talk[None]:
    """Which nodes are in this cluster (manual, 4.2). Near or distant, and aliases, are asked for behind a '+' only, or when some
    are in the file."""
    text = draft.files.get(MAP, "")
    advanced = _is_advanced(text)

    def build(answer: str) -> Talk[str]:
        if "=" in answer:
            return answer
        count = yield from value("How many nodes", "1", lambda word: parse_map(f"{answer} {word}\n"))
        far = advanced and (yield from distant(answer, count, False))
        return f"{answer} {count}{'' if far else ' p'}"

    def check(changed: str) -> None:
        validate_map(parse_map(changed), draft.resolver, partner=lambda address: True)

    def special(answer: str) -> str:
        nonlocal advanced
        if answer == "a":
            raise Automatic
        advanced = advanced or answer == "+"
        return ADVANCED if answer == "+" else ""

    prompt = NODES + (", A.B.C.D=HOST: an alias" if advanced else ", a: automatic, +: advanced")
    draft.set(MAP, (yield from edit(text, "Nodes of this cluster", prompt, build, check, special=special)))


def _is_advanced(text: str) -> bool:
    try:
        return any(isinstance(line, AliasLine) or (isinstance(line, RangeLine) and not line.near) for line in parse_map(text))
    except ConfigError:
        return True


def key(draft: Draft, random: Callable[[int], bytes]) -> Talk[None]:
    """Authentication: the key of the whole multi-cluster (manual, 4.3 and chapter 6). It is never shown."""
    if (draft.has_key or SECRET in draft.files) and not (yield from yes("There is a key already. Make another one", False)):
        return
    if (yield from yes("Make a strong random key (otherwise you type one)")):
        draft.set(SECRET, base64.b64encode(random(KEY_BYTES)).decode() + "\n")
        yield "All nodes need the same key: copy the file secret to them, mode 0600."
        return
    while True:
        first = yield Question("Key, at least 8 characters: ", hidden=True)
        try:
            parse_secret(first.encode("utf-8", "surrogateescape"))
        except ConfigError as error:
            yield Wrong(error.text)
            continue
        if first == (yield Question("The same again: ", hidden=True)):
            draft.set(SECRET, f"{first}\n")
            return
        yield Wrong("the two are not the same")
