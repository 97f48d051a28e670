"""``/etc/mosix/freeze.conf``: when programs are frozen automatically, and where frozen ones are kept (mosix(7)).

    1 UNITS RED BLUE [HOME [CLUSTER [MIN-KEEP [MAX-PROCS [SLICE [KILLING-MEMORY]]]]]]
    /DIRECTORY [WEIGHT]
    U UID
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Position, data_lines

#: Below `NodePaths.etc`.
FREEZE_CONF = "freeze.conf"
#: The manual, 4.5.3.
MOST_DIRECTORIES = 10
#: More of anything is a mistake.
MOST, MOST_ID = 1e9, (1 << 32) - 2
#: Fields of a policy that must be there, with the number of their class, which is 1.
LEAST_FIELDS = 4
_NUMBER = re.compile(r"-?(\d{1,12}(\.\d{0,12})?|\.\d{1,12})", re.ASCII)


def written(number: float) -> str:
    """``number`` as the file may have it: without an exponent, which Python writes for large and small ones."""
    from decimal import Decimal

    return format(Decimal(repr(number)), "f")


@dataclass(frozen=True, slots=True)
class Policy:
    """The fields of mosix(7) from the second on, in their order; a mark or ``most`` below 0 is off. ``standard``: marks are in
    units of the standard load, else in programs; ``slice``: minutes; ``killing``: megabytes."""

    standard: bool
    red: float
    blue: float
    home: float = -1.0
    cluster: float = -1.0
    keep: int = 0
    most: int = -1
    slice: int = 20
    killing: int = 0

    def __str__(self) -> str:
        return f"1 {self.standard:d} " + " ".join(written(getattr(self, each.name)) for each in fields(self)[1:])


#: What mosconf(1) writes, the manual's default (4.5.2).
USUAL = Policy(standard=True, red=6.0, blue=4.0, home=0.0, cluster=-1.0, keep=1)


@dataclass(frozen=True, slots=True)
class Directory:
    """``weight``: how likely it is chosen, among the others; 0: only when no other one is of use."""

    path: str
    weight: float = 1.0

    def __str__(self) -> str:
        return self.path if self.weight == 1 else f"{self.path} {written(self.weight).removesuffix('.0')}"


@dataclass(frozen=True, slots=True)
class Freezing:
    """The whole file. ``policy`` None: nothing is frozen automatically; ``uid`` None: files are made as root."""

    policy: Policy | None = None
    directories: tuple[Directory, ...] = field(default=())
    uid: int | None = None

    @property
    def killing(self) -> int:
        """Megabytes from which on a program is ended when there is no room to freeze it; -1 where no policy says so."""
        return -1 if self.policy is None else self.policy.killing


def parse_freezing(text: str, file: str = FREEZE_CONF) -> Freezing:
    """ConfigError at the first wrong line."""
    policy: Policy | None = None
    directories: list[Directory] = []
    uid: int | None = None
    for position, line in data_lines(file, text):
        words = line.split()
        if words[0].startswith("/"):
            if len(directories) == MOST_DIRECTORIES:
                raise position.error(words[0], f"there may be {MOST_DIRECTORIES} freezing directories")
            directories.append(_directory(position, line, words))
        elif words[0] == "U":
            if uid is not None:
                raise position.error(line, "another line has a user already")
            if len(words) != 2:
                raise position.error(line, "a line is: U, number of a user")
            uid = position.number(words[1], 0, MOST_ID)
        elif policy is not None:
            raise position.error(line, "another line has a policy already")
        else:
            policy = _policy(position, line, words)
    return Freezing(policy, tuple(directories), uid)


def print_freezing(freezing: Freezing) -> str:
    """The text of which `parse_freezing` makes ``freezing``."""
    lines: list[object] = [] if freezing.policy is None else [freezing.policy]
    lines += freezing.directories
    lines += [] if freezing.uid is None else [f"U {freezing.uid}"]
    return "".join(f"{line}\n" for line in lines)


def parse_directories(text: str, file: str) -> tuple[Directory, ...]:
    """The lines of ~/.freeze_dirs (mosrun(1)). ConfigError."""
    freezing = parse_freezing(text, file)
    if freezing.policy is not None or freezing.uid is not None:
        raise ConfigError(file, "a line is: directory, and perhaps its weight")
    return freezing.directories


def order(directories: Iterable[Directory], random: float) -> list[Directory]:
    """In which order they are tried. ``random``, from 0 to 1, chooses the first by its weight; the others follow in their order,
    those of weight 0 last."""
    usual = [each for each in directories if each.weight > 0]
    last = [each for each in directories if each.weight <= 0]
    left = random * sum(each.weight for each in usual)
    for chosen in usual:
        left -= chosen.weight
        if left < 0:
            return [chosen, *(each for each in usual if each is not chosen), *last]
    return [*usual, *last]


def _directory(position: Position, line: str, words: list[str]) -> Directory:
    match words:
        case [path]:
            return Directory(path)
        case [path, weight]:
            return Directory(path, _float(position, weight, 0))
        case _:
            raise position.error(line, "a line is: directory, and perhaps its weight")


def _policy(position: Position, line: str, words: list[str]) -> Policy:
    if words[0] != "1":
        raise position.error(words[0], "a line begins with 1, U, or the '/' of a directory")
    if not LEAST_FIELDS <= len(words) <= len(fields(Policy)) + 1:
        raise position.error(line, f"a policy has {LEAST_FIELDS} to {len(fields(Policy)) + 1} fields")
    values: list[float] = [position.number(words[1], 0, 1)]
    values += [_float(position, word, -1) for word in words[2:6]]
    values += [_whole(position, word, low) for word, low in zip(words[6:], (0, -1, 1, 0))]
    standard, *rest = values
    policy = Policy(bool(standard), *rest)  # type: ignore[arg-type]
    if policy.red >= 0 and not 0 <= policy.blue < policy.red:
        raise position.error(words[3], "the blue mark must be below the red one, significantly")
    return policy


def _float(position: Position, word: str, low: float) -> float:
    number = float(word) if _NUMBER.fullmatch(word) else math.nan
    if not low <= number <= MOST:
        raise position.error(word, f"not a number of {low:g}-{MOST:g}")
    return number


def _whole(position: Position, word: str, low: int) -> int:
    if word == "-1" and low == -1:
        return -1
    return position.number(word, max(low, 0), int(MOST))
