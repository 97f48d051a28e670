"""``mosrun.conf``: what the administrator presets, forces and limits of mosrun (manual, 4.6 and 6.5). The file is ours.

A line is a word and what it is set to; a word comes once. ``users`` and ``confined`` list users by name or number, and groups as
``@GROUP``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mosfs.cluster.lines import Position, data_lines
from mosfs.cluster.words import decimal

MOSRUN_CONF = "mosrun.conf"
#: The highest number of a user or group.
MAX_ID = (1 << 32) - 2
MOST = 1_000_000
GROUP = "@"

BEST, UNSUPPORTED, THREADS, MEMORY, PROGRAMS, STARTS, USERS, CONFINED = WORDS = (
    "best", "unsupported", "threads", "memory", "programs", "starts", "users", "confined",
)
DEFAULT, FORCED, MANDATORY, REFUSED = "default", "forced", "mandatory", "refused"
#: What ``unsupported`` may be, and what that is in `wire.asked.Settings`.
MODES = {"-e": 1, "-w": 2, "--stay-home": 3}

#: The users that a user's or group's name means; None for nobody that is known.
Accounts = Callable[[str], frozenset[int] | None]


@dataclass(frozen=True, slots=True)
class Rules:
    """``best``: "", `DEFAULT` or `FORCED`; ``unsupported``: a key of `MODES` or ""; ``threads``: "" or `REFUSED`; ``programs`` and
    ``starts``: most at a time and most in a day that a user has started, None for no limit; ``users``: who may use mosrun at all,
    None for everybody; ``confined``: whose programs stay in their own cluster. Root is bound by nothing that is forced or limited.

    Users are words of the file in what `parse_rules` gives; ``ids`` has those that `resolved` found."""

    best: str = ""
    unsupported: str = ""
    threads: str = ""
    memory: bool = False
    programs: int | None = None
    starts: int | None = None
    users: tuple[str, ...] | None = None
    confined: tuple[str, ...] = ()
    ids: Mapping[str, frozenset[int]] = field(default_factory=dict, compare=False, repr=False)

    def _among(self, words: tuple[str, ...], uid: int) -> bool:
        return any(uid in self.ids.get(word, ()) for word in words)

    def admits(self, uid: int) -> bool:
        """May this user use mosrun?"""
        return uid == 0 or self.users is None or self._among(self.users, uid)

    def confines(self, uid: int) -> bool:
        """Must the programs of this user stay in their own cluster?"""
        return uid != 0 and self._among(self.confined, uid)


def parse_rules(text: str, file: str = MOSRUN_CONF) -> Rules:
    """ConfigError for a line that says nothing that we know. Whether users exist is not looked up here."""
    found: dict[str, object] = {}
    for position, line in data_lines(file, text):
        word, *values = line.split()
        if word not in WORDS:
            raise position.error(word, f"not one of {' '.join(WORDS)}")
        if word in found:
            raise position.error(word, "has been said above")
        if not values:
            raise position.error(word, "a value must follow")
        found[word] = _listed(position, values) if word in (USERS, CONFINED) else _single(position, word, values)
    return Rules(**found)  # type: ignore[arg-type]


def _single(position: Position, word: str, values: list[str]) -> object:
    if len(values) > 1:
        raise position.error(" ".join(values), "only one value may follow")
    (value,) = values
    if word in (PROGRAMS, STARTS):
        return position.number(value, 0, MOST)
    allowed = {BEST: (DEFAULT, FORCED), UNSUPPORTED: tuple(MODES), THREADS: (REFUSED,), MEMORY: (MANDATORY,)}[word]
    if value not in allowed:
        raise position.error(value, f"must be {' or '.join(allowed)}")
    return True if word == MEMORY else value


def _listed(position: Position, values: list[str]) -> tuple[str, ...]:
    for value in values:
        name = value.removeprefix(GROUP)
        if not name or not name.isprintable() or ":" in name or (name.isdecimal() and decimal(name, 0, MAX_ID) is None):
            raise position.error(value, "neither a user nor @GROUP")
    return tuple(dict.fromkeys(values))


def print_rules(rules: Rules) -> str:
    """The text of which `parse_rules` makes ``rules``; "" when they say nothing."""
    lines = []
    for word in WORDS:
        value = getattr(rules, word)
        if word in (USERS, CONFINED):
            value = " ".join(value or ())
        elif word == MEMORY:
            value = MANDATORY if value else ""
        if value not in (None, ""):
            lines.append(f"{word} {value}\n")
    return "".join(lines)


def resolved(rules: Rules, text: str, file: str, accounts: Accounts) -> Rules:
    """``rules``, which are those of ``text``, with the numbers of their users; ConfigError for a name that nobody has. May wait for
    a directory service."""
    ids: dict[str, frozenset[int]] = {}
    for position, line in data_lines(file, text):
        word, *values = line.split()
        for value in values if word in (USERS, CONFINED) else ():
            known = accounts(value)
            if known is None:
                raise position.error(value, "no such group" if value.startswith(GROUP) else "no such user")
            ids[value] = known
    return replace(rules, ids=ids)


def system_accounts(name: str) -> frozenset[int] | None:
    """The users that this machine means by ``name``; those of a group have it as one of theirs, or as the first. A number is a user
    whether or not he has a name."""
    import grp
    import pwd

    if not name.startswith(GROUP):
        if (number := decimal(name, 0, MAX_ID)) is not None:
            return frozenset({number})
        try:
            return frozenset({pwd.getpwnam(name).pw_uid})
        except KeyError:
            return None
    try:
        number = decimal(name[1:], 0, MAX_ID)
        group = grp.getgrnam(name[1:]) if number is None else grp.getgrgid(number)
    except KeyError:
        return None
    members = set(group.gr_mem)
    return frozenset(user.pw_uid for user in pwd.getpwall() if user.pw_gid == group.gr_gid or user.pw_name in members)


def any_accounts(name: str) -> frozenset[int]:
    """Accounts of a root image, whose users are not this machine's: any name may be one."""
    return frozenset()
