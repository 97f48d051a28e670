"""The functions of mosctl(1) about other clusters: each edits a file below /etc/mosix or var/mosix, and mosd reads it (manual,
6.4).

So they hold when mosd is started again, and mosd need not write the administrator's files.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import load_max_guests, read_partners
from mosfs.cluster.partners import MAX_PRIORITY, with_priority
from mosfs.cluster.scalars import MAX_GUESTS, MaxGuests, print_max_guests
from mosfs.cluster.words import decimal
from mosfs.tools.options import Parsed, UsageError, UserError
from mosfs.tools.orders import SUPER_USER, configure
from mosfs.tools.tree import Tree

#: Guests for each processor, where nothing else says how many (mosctl(1), openmulti).
GUESTS_A_PROCESSOR = 8
UNLIMITED = "unlimited"


def put(verb: str, path: str, text: str, private: bool = False) -> None:
    """Replace the file in one step, with the mode and owner that it has, or, if ``private``, for ourselves alone. UserError for
    ordinary users and a full disk."""
    try:
        mode, owner, group = 0o600 if private else 0o644, -1, -1
        with suppress(FileNotFoundError):
            before = os.stat(path)
            if not private:
                mode, owner, group = before.st_mode & 0o777, before.st_uid, before.st_gid
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd, new = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
        try:
            with open(fd, "w", encoding="utf-8") as file:
                os.fchmod(fd, mode)
                os.fchown(fd, owner, group)
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise
    except PermissionError:
        raise UserError(SUPER_USER.format(verb=verb)) from None
    except OSError as error:
        raise UserError(f"{verb}: {path}: {error.strerror}") from error


def remove(verb: str, path: str) -> None:
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        refused = isinstance(error, PermissionError)
        raise UserError(SUPER_USER.format(verb=verb) if refused else f"{verb}: {path}: {error.strerror}") from error


def running(tree: Tree) -> None:
    """UserError "not running", before anything is written."""
    tree.fact("pid")


def known_guests(tree: Tree) -> MaxGuests:
    try:
        return load_max_guests(tree.paths)
    except ConfigError as error:
        raise UserError(str(error)) from None


def number(verb: str, word: str) -> int:
    found = decimal(word, 0, MAX_GUESTS)
    if found is None:
        raise UsageError(f"{verb}: {word} is not a number of 0-{MAX_GUESTS}")
    return found


def isolate(tree: Tree, verb: str, _: Parsed) -> int:
    running(tree)
    put("isolate", tree.paths.isolated, "")
    configure(tree, verb="isolate")
    return 0


def rejoin(tree: Tree, word: str, _: Parsed) -> int:
    """Without a number no guests of other clusters may come (readings, row 26)."""
    most = number("rejoin", word) if word else 0
    running(tree)
    put("rejoin", tree.paths.max_guests, print_max_guests(MaxGuests(most)))
    remove("rejoin", tree.paths.isolated)
    configure(tree, verb="rejoin")
    return 0


def maxguests(tree: Tree, word: str, _: Parsed) -> int:
    if not word:
        most = known_guests(tree).most
        print(UNLIMITED if most is None else most)
        return 0
    most = number("maxguests", word)
    running(tree)
    put("maxguests", tree.paths.max_guests, print_max_guests(MaxGuests(most)))
    configure(tree, verb="maxguests")
    return 0


def opened(given: int | None, guests: MaxGuests, processors: int) -> int:
    """What openmulti sets: the number given, else the file's if it is positive, else that before closemulti, else 8 a processor."""
    return given if given is not None else guests.most or guests.before or GUESTS_A_PROCESSOR * processors


def openmulti(tree: Tree, word: str, _: Parsed) -> int:
    given = number("openmulti", word) if word else None
    running(tree)
    most = opened(given, known_guests(tree), int(tree.fact("ncpus")))
    put("openmulti", tree.paths.max_guests, print_max_guests(MaxGuests(most)))
    configure(tree, verb="openmulti")
    return 0


def closemulti(tree: Tree, _: str, __: Parsed) -> int:
    """The former number stays behind the 0, for openmulti."""
    running(tree)
    guests = known_guests(tree)
    put("closemulti", tree.paths.max_guests, print_max_guests(MaxGuests(0, guests.most or guests.before)))
    configure(tree, verb="closemulti")
    return 0


def cngpri(tree: Tree, partner: str, options: Parsed) -> int:
    words = options.rest[1:]
    if len(words) < 2:
        raise UsageError("cngpri: which partner, and which priority?")
    priority = decimal(words[1], 0, MAX_PRIORITY)
    if priority is None:
        raise UsageError(f"cngpri: {words[1]} is not a priority of 0-{MAX_PRIORITY}")
    running(tree)
    try:
        files = read_partners(tree.paths)
    except ConfigError as error:
        raise UserError(str(error)) from None
    if partner not in files:
        raise UserError(f"cngpri: {partner}: no such partner-cluster")
    path = f"{tree.paths.partners}/{partner}"
    with open(path, encoding="utf-8") as file:
        put("cngpri", path, with_priority(file.read(), priority))
    configure(tree, verb="cngpri")
    return 0
