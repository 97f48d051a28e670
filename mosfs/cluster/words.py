"""Numbers as people write them, and text as they may be shown it."""

from __future__ import annotations

_DIGITS = 20  # more would be a mistake, and int() refuses very many
#: Characters of a line that names what somebody else has chosen. A path has up to 4095 bytes, and messages take no longer line.
MOST_TOLD = 1000


def decimal(word: str, low: int, high: int) -> int | None:
    """``word`` as a number of ``low``-``high``: ASCII digits only, no sign, blank or underscore. None otherwise."""
    if not (word.isascii() and word.isdigit() and len(word) <= _DIGITS):
        return None
    number = int(word)
    return number if low <= number <= high else None


def printable(text: str) -> str:
    """``text``, whoever chose it: nothing in it reaches a terminal or a log as a control."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def told(text: str) -> str:
    """A line for people about a file, say, of whatever name: printable, what is not UTF-8 too, and `MOST_TOLD` characters
    long at most."""
    kept = (MOST_TOLD - 3) // 2
    return printable(text if len(text) <= MOST_TOLD else f"{text[:kept]}...{text[-kept:]}")
