"""The directories of mosrun -X: what may be given, and which path names a private file (mosrun(1), PRIVATE TEMPORARY FILES).

Standard library only: mosrun imports it when it meets -X.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mosfs.abi.texts import Text, text

MAX_DIRECTORIES = 10
MAX_LENGTH = 256
FORBIDDEN = ("/etc", "/proc", "/sys", "/dev")
#: Between the directories in `wire.asked.Settings.private`; so a name cannot contain it.
SEPARATOR = "\n"


def refusal(names: Sequence[str]) -> str:
    """What mosrun answers to these -X arguments, in the manual's words (10.5); "" if they are allowed.

    A directory that contains a forbidden one ("/") is not allowed either.
    """
    if len(names) > MAX_DIRECTORIES:
        return text(Text.TOO_MANY_DIRECTORIES)
    for name in names:
        if not name.startswith("/") or SEPARATOR in name or ".." in name:
            return text(Text.INVALID_DIRECTORY, name=name)
        if len(name.encode("utf-8", "surrogateescape")) > MAX_LENGTH:
            return text(Text.LONG_DIRECTORY)
        plain = plain_name(name)
        if plain == "/" or any(plain == bad or plain.startswith(bad + "/") for bad in FORBIDDEN):
            return text(Text.DISALLOWED_DIRECTORY, name=name)
    return ""


def plain_name(name: str) -> str:
    """Without ".", doubled and trailing slashes. Precondition: no ".."."""
    return "/" + "/".join(part for part in name.split("/") if part not in ("", "."))


def join(names: Sequence[str]) -> str:
    """The value of `Settings.private`: each directory once."""
    return SEPARATOR.join(dict.fromkeys(map(plain_name, names)))


def split(value: str) -> tuple[bytes, ...]:
    """The directories of a `Settings.private`."""
    return tuple(name.encode("utf-8", "surrogateescape") for name in value.split(SEPARATOR) if name)


@dataclass(frozen=True, slots=True)
class Private:
    """``name`` is the whole plain path, b"" for the directory itself. ``slash``: it was written with a slash behind."""

    name: bytes
    slash: bool = False


def classify(path: bytes, directories: Sequence[bytes]) -> Private | None:
    """What ``path`` names: a (possible) file directly in one of ``directories``, such a directory, or nothing private.

    Relative names and names with ".." are ordinary, and so is what lies deeper: sub-directories need a -X of their own.
    """
    if not path.startswith(b"/"):
        return None
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        return None
    plain = b"/" + b"/".join(parts)
    if plain in directories:
        return Private(b"")
    if b"/" + b"/".join(parts[:-1]) in directories:
        return Private(plain, path.endswith((b"/", b"/.")))
    return None
