"""The log is not the strangers' to fill: of lines that are alike so many a minute, then their number.

Whoever connects, asks or sends nonsense causes lines; none of them may cause as many as he likes, nor lines that look like others.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

PERIOD = 60.0
#: Lines of one text in a period: about the same process or address, and in all.
EACH, ALL = 60, 600

#: Logger and text.
Text = tuple[str, str]


class Repeats(logging.Filter):
    """For a handler. Lines below INFO, which somebody has asked for, are all let through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._since = clock()
        self._all: Counter[Text] = Counter()
        self._each: Counter[tuple[Text, object]] = Counter()
        self._left: Counter[Text] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        record.args = _plain(record.args)
        if record.levelno < logging.INFO or record.name == __name__:
            return True
        self.turn()
        text = (record.name, str(record.msg))
        about = (text, record.args[0] if isinstance(record.args, tuple) and record.args else None)
        if self._each[about] >= EACH or self._all[text] >= ALL:
            self._left[text] += 1
            return False
        self._each[about] += 1
        self._all[text] += 1
        return True

    def turn(self) -> None:
        """At the end of a period, tell what was left out, and begin anew."""
        if self._clock() - self._since < PERIOD:
            return
        left, self._left = self._left, Counter()
        self._since = self._clock()
        self._all.clear()
        self._each.clear()
        for (name, text), count in left.items():
            logging.getLogger(__name__).warning("%d lines like this were left out: %s: %s", count, name, text.partition("\n")[0])


def _plain(arguments: object) -> tuple[object, ...] | None:
    """Texts in which no control character can end a line or change a terminal; lines within a text are set in."""
    if not isinstance(arguments, tuple):
        return (_text(str(arguments)),) if arguments else None
    return tuple(_text(each) if isinstance(each, str) else each for each in arguments)


def _text(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\n    " if c == "\n" else f"\\x{ord(c):02x}" for c in text)
