"""What the files of ``/etc/mosix`` share: comments, words, numbers, ranges, and errors that know their position."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeVar

from mosfs.cluster.address import Resolver, allowed, lookup
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.words import decimal

#: The most bytes of a file: 256 lines of a map, with room for comments.
MAX_SIZE = 1 << 20


def read_text(file: str) -> str:
    """The content of a configuration file; ConfigError when it is none, is too long, or cannot be read."""
    try:
        # O_NONBLOCK: a FIFO in its place must not keep us waiting.
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(file, "not a file")
            data = stream.read(MAX_SIZE + 1)
        if len(data) > MAX_SIZE:
            raise ConfigError(file, f"longer than {MAX_SIZE} bytes")
        if b"\0" not in data:  # in no text, but in UTF-8; neither a path nor a name may have one
            return data.decode("utf-8-sig")  # some editors put a mark before the first line
    except OSError as error:
        raise ConfigError(file, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        pass
    raise ConfigError(file, "not a text file (UTF-8)")


@dataclass(frozen=True, slots=True)
class Position:
    """A line of a file (from 1), for errors; 0 when the line was not read from a file."""

    file: str
    line: int

    def error(self, value: str, text: str) -> ConfigError:
        return ConfigError(self.file, text, line=self.line or None, value=value)

    def number(self, word: str, low: int, high: int) -> int:
        """``word`` as a decimal number of ``low``-``high``; ConfigError otherwise."""
        number = decimal(word, low, high)
        if number is None:
            raise self.error(word, f"not a number of {low}-{high}")
        return number

    def address(self, text: str, resolver: Resolver, count: int = 1) -> int:
        """The first of ``count`` addresses that MOSIX allows; ConfigError otherwise."""
        address = lookup(text, resolver)
        if address is None:
            raise self.error(text, "not an IP address and not a known host name")
        if not allowed(address, count):
            raise self.error(text, "IP addresses 0.0.x.x and 255.255.255.x are not allowed in MOSIX")
        return address


def data_lines(file: str, text: str) -> Iterator[tuple[Position, str]]:
    """Every line that is neither empty nor a comment ("lines beginning with a '#'"), stripped."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield Position(file, number), stripped


class Span(Protocol):
    """Consecutive numbers. ``first`` and ``count`` as in the files."""

    @property
    def first(self) -> int: ...

    @property
    def count(self) -> int: ...


S = TypeVar("S", bound=Span)


def sorted_apart(spans: Iterable[tuple[S, Position, str]]) -> tuple[S, ...]:
    """The spans in order. When two overlap: ConfigError at the position of the one that comes later in the file.

    The third of each tuple is the value to show.
    """
    ordered = sorted(spans, key=lambda entry: entry[0].first)
    for before, after in pairwise(ordered):
        if before[0].first + before[0].count > after[0].first:
            earlier, later = sorted((before, after), key=lambda entry: entry[1].line)
            raise later[1].error(later[2], f"overlaps {earlier[2]!r}")
    return tuple(span for span, _, _ in ordered)


def find(spans: Sequence[S], number: int) -> S | None:
    """The span that holds ``number``, out of spans that are sorted and apart."""
    at = bisect_right(spans, number, key=lambda span: span.first) - 1
    if at >= 0 and number < spans[at].first + spans[at].count:
        return spans[at]
    return None
