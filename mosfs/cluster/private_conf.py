"""``/etc/mosix/private.conf``: where private temporary files are kept, and how much of them a process may have (mosix(7)).

    LETTERS DIRECTORY [MEGABYTES]     O own processes, C guests from the own cluster, G guests from other clusters
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from mosfs.cluster.lines import Position, data_lines

#: A petabyte, in megabytes: more is a mistake.
MAX_MEGABYTES = 1 << 30


class Owner(StrEnum):
    """Whose processes a line is for."""

    OWN = "O"
    CLUSTER = "C"
    OTHERS = "G"


#: Megabytes where the third field is missing.
DEFAULT_MEGABYTES = {Owner.OWN: 5 << 10, Owner.CLUSTER: 2 << 10, Owner.OTHERS: 1 << 10}


@dataclass(frozen=True, slots=True)
class PrivateLine:
    """A line as written. ``megabytes`` None: not given. ``line`` (from 1, 0 = not from a file) is for errors only."""

    owners: tuple[Owner, ...]
    directory: str
    megabytes: int | None = None
    line: int = field(default=0, compare=False)

    def __str__(self) -> str:
        limit = "" if self.megabytes is None else f" {self.megabytes}"
        return f"{''.join(self.owners)} {self.directory}{limit}"


@dataclass(frozen=True, slots=True)
class Space:
    """Disk-space of one owner: a directory and the most that one process may have there, in megabytes."""

    directory: str
    megabytes: int


#: No entry: no disk-space for such processes.
Spaces = dict[Owner, Space]


def parse_private(text: str, file: str = "private.conf") -> tuple[PrivateLine, ...]:
    """The lines in their order, without empty lines and '#' lines. ConfigError at the first wrong one."""
    return tuple(_parse_line(position, line) for position, line in data_lines(file, text))


def print_private(lines: Iterable[PrivateLine]) -> str:
    """The text of which `parse_private` makes ``lines``."""
    return "".join(f"{line}\n" for line in lines)


def validate_private(lines: Iterable[PrivateLine], file: str = "private.conf") -> Spaces:
    """What the lines mean. ConfigError for a letter that two lines have."""
    spaces: Spaces = {}
    for line in lines:
        for owner in line.owners:
            if owner in spaces:
                raise Position(file, line.line).error(str(line), f"another line has the letter {owner} already")
            megabytes = DEFAULT_MEGABYTES[owner] if line.megabytes is None else line.megabytes
            spaces[owner] = Space(line.directory, megabytes)
    return spaces


def default_spaces(directory: str, is_directory: Callable[[str], bool]) -> Spaces:
    """Without the file: all in ``directory`` (the manual's /private), if it exists."""
    if not is_directory(directory):
        return {}
    return {owner: Space(directory, megabytes) for owner, megabytes in DEFAULT_MEGABYTES.items()}


def _parse_line(position: Position, text: str) -> PrivateLine:
    match text.split():
        case [letters, directory, *limit] if len(limit) < 2:
            owners = _owners(position, letters)
            if not directory.startswith("/"):
                raise position.error(directory, "a directory starts with '/'")
            megabytes = position.number(limit[0], 1, MAX_MEGABYTES) if limit else None
            return PrivateLine(owners, directory, megabytes, position.line)
        case _:
            raise position.error(text, "a line is: letters of O, C and G, directory, and perhaps a number of megabytes")


def _owners(position: Position, letters: str) -> tuple[Owner, ...]:
    try:
        owners = tuple(Owner(letter) for letter in letters)
    except ValueError:
        raise position.error(letters, "not letters of O, C and G") from None
    if len(set(owners)) != len(owners):
        raise position.error(letters, "a letter is there twice")
    return owners
