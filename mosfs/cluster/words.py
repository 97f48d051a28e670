"""Numbers as people write them, and text as they may be shown it."""

from __future__ import annotations

_DIGITS = 20  # more would be a mistake, and int() refuses very many


def decimal(word: str, low: int, high: int) -> int | None:
    """``word`` as a number of ``low``-``high``: ASCII digits only, no sign, blank or underscore. None otherwise."""
    if not (word.isascii() and word.isdigit() and len(word) <= _DIGITS):
        return None
    number = int(word)
    return number if low <= number <= high else None


def printable(text: str) -> str:
    """``text``, whoever chose it: nothing in it reaches a terminal or a log as a control."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
