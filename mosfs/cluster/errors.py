"""The one error of configuration files."""

from __future__ import annotations

from mosfs.cluster.words import printable

_SHOWN = 60


class ConfigError(Exception):
    """A configuration file is wrong. ``str()`` is one line: ``FILE, line N: 'VALUE': TEXT``, N from 1.

    Parts that are not known are left out. ``value`` is shown quoted, shortened, and free of control characters; a
    secret must never be given as value.
    """

    def __init__(self, file: str, text: str, *, line: int | None = None, value: str | None = None) -> None:
        super().__init__(file, text, line, value)
        self.file = file
        self.text = text
        self.line = line
        self.value = value

    def __str__(self) -> str:
        where = printable(self.file) + ("" if self.line is None else f", line {self.line}")
        return ": ".join(part for part in (where, _quoted(self.value), self.text) if part)


def _quoted(value: str | None) -> str:
    if value is None:
        return ""
    return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "...")
