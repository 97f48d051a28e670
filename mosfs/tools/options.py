"""The option grammar of every mos* command: one table of rows gives parsing, --help and --version, and the
completion of `tools.completions`.

getopt(3) with what mosrun(1) needs beyond it: a dash directly followed by a node number or an IP (``-3``,
``-10.1.2.3``), values glued or separate (``-m400``, ``-m 400``), letters in one word (``-bm400``), a program's own
arguments left alone. argparse cannot: it takes ``-3`` for the program and refuses ``-10.1.2.3``.

This module is on the way of every ``mosrun``: it imports nothing (``typing`` alone would cost more than the parsing).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

FLAG, TEXT, INT, REAL, LIST, NODE, COUNT, WORD, MAYBE, GLUED = range(10)
DIGITS = "0123456789"
MAX_NODE = 65535
#: Digits of a number: more than any option takes, and int() refuses very many.
MOST_DIGITS = 20
#: A usage error shows the synopsis of a command that has no more forms than this.
MOST_FORMS = 4
#: ENOTCONN, ECONNABORTED: how the tree answers when mosd has gone.
DAEMON_GONE = (107, 103)
#: EPIPE: nobody reads standard output any more; the status is that of a death by SIGPIPE (13).
EPIPE, NOBODY_READS = 32, 128 + 13
#: Of no file: getcwd(2) where the current directory has been removed.
ENOENT = 2
#: EIO, EBADF, EFBIG, ENOSPC, EDQUOT: standard output cannot be written.
OUTPUT_FAILED = (5, 9, 27, 28, 122)


class UserError(Exception):
    """What the user did wrong or cannot have: printed as one line ``command: text``, never with a traceback."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class UsageError(UserError):
    """A command line that is not in the synopsis: the line comes last, behind the usage; exit status 2."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


class Option:
    """One row. ``names``: "-m", "--json", "-v --verbose", or "a" for a ps(1) letter without dash; "-" is the node row
    (``-3``).

    ``key``: where the value is stored. ``value``: what a FLAG stores; a COUNT stores how often it was given, a WORD its
    own name without dashes (``-HUP``), a MAYBE its value or "" (``--read``, ``--read=4``, ``--read 4``), a GLUED
    too, but only after "=" (``--trace``, ``--trace=x``).
    ``low``, ``high``: limits of INT and REAL, both
    inclusive. ``later``: parsed, but the feature is announced and not there yet.
    """

    __slots__ = ("high", "key", "kind", "later", "low", "metavar", "names", "text", "value")

    def __init__(self, names: str, key: str, text: str, kind: int = FLAG, *, value: str = "1", metavar: str = "",
                 low: float = 0, high: float = 0, later: bool = False) -> None:
        self.names = names.split()
        self.key = key
        self.text = text
        self.kind = kind
        self.value = value
        self.metavar = metavar
        self.low = low
        self.high = high
        self.later = later


class Parsed:
    """``values``: key to text (numbers in canonical form), the last one given wins. ``lists``: keys of LIST rows.

    ``rest``: the words that are no options. ``later``: the first option used that is not available yet, or "".
    """

    __slots__ = ("later", "lists", "rest", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.rest: list[str] = []
        self.later = ""

    def __contains__(self, key: str) -> bool:
        return key in self.values or key in self.lists

    def get(self, key: str, default: str = "") -> str:
        return self.values.get(key, default)


STANDARD = (
    Option("--help", "help", "print this and exit"),
    Option("--version", "version", "print the version and exit"),
)


class Command:
    """A command's name, synopsis lines, one line about it, and its rows.

    ``permute``: options may follow other words (mosmigrate, mosps); otherwise the first other word ends them (mosrun).
    """

    __slots__ = ("by_name", "name", "permute", "summary", "synopsis", "table")

    def __init__(self, name: str, synopsis: str, summary: str, table: "Sequence[Option]", *,
                 permute: bool = False) -> None:
        self.name = name
        self.synopsis = synopsis
        self.summary = summary
        self.table = (*table, *STANDARD)
        self.permute = permute
        self.by_name = {name: row for row in self.table for name in row.names}

    def parse(self, argv: "Sequence[str]") -> Parsed:
        """Split ``argv`` (without the command's name). UsageError when it is not in the grammar."""
        parsed = Parsed()
        words = list(argv)
        words.reverse()
        bare = any(name[0] != "-" for name in self.by_name)
        while words:
            word = words.pop()
            if word == "--":
                break
            if word.startswith("--"):
                self._long(parsed, word, words)
            elif len(word) > 2 and word in self.by_name:
                row = self.by_name[word]
                self._store(parsed, row, word, row.value)
            elif word.startswith("-") and word != "-":
                self._letters(parsed, word[1:], "-", words)
            elif bare and word and word[0] not in DIGITS:
                self._letters(parsed, word, "", words)
            else:
                parsed.rest.append(word)
                if not self.permute:
                    break
        words.reverse()
        parsed.rest += words
        return parsed

    def _long(self, parsed: Parsed, word: str, words: list[str]) -> None:
        name, glued, value = word.partition("=")
        row = self.by_name.get(name)
        if row is None:
            raise UsageError(f"unknown option {name}")
        if row.kind == FLAG:
            if glued:
                raise UsageError(f"{name} takes no value")
            value = row.value
        elif row.kind == MAYBE:
            value = value if glued or not words or words[-1][:1] not in DIGITS else words.pop()
        elif not glued and row.kind != GLUED:
            value = self._next(name, words)
        self._store(parsed, row, name, value)

    def _letters(self, parsed: Parsed, letters: str, dash: str, words: list[str]) -> None:
        for at, letter in enumerate(letters):
            if letter in DIGITS and dash and "-" in self.by_name:
                self._store(parsed, self.by_name["-"], "-", letters[at:])
                return
            name = dash + letter
            row = self.by_name.get(name)
            if row is None:
                raise UsageError(f"unknown option {name}")
            if row.kind not in (FLAG, COUNT):
                self._store(parsed, row, name, letters[at + 1:] or self._next(name, words))
                return
            self._store(parsed, row, name, row.value)

    @staticmethod
    def _next(name: str, words: list[str]) -> str:
        if not words:
            raise UsageError(f"{name} needs a value")
        return words.pop()

    @staticmethod
    def _store(parsed: Parsed, row: Option, name: str, value: str) -> None:
        if row.later:
            parsed.later = parsed.later or name
        if row.kind == LIST:
            parsed.lists.setdefault(row.key, []).append(value)
        elif row.kind == COUNT:
            parsed.values[row.key] = str(int(parsed.get(row.key, "0")) + 1)
        elif row.kind == WORD:
            parsed.values[row.key] = name.lstrip("-")
        else:
            parsed.values[row.key] = _check(row, name, value)

    def usage(self) -> str:
        """The synopsis, one line a form, and where to read more: that alone where the forms would push the error out of sight."""
        forms = self.synopsis.strip().splitlines()
        if len(forms) > MOST_FORMS:
            return f"usage: {self.name} ...; {self.name} --help tells more\n"
        lines = [f"{'usage:' if at == 0 else '      '} {form.strip()}" for at, form in enumerate(forms)]
        return "\n".join([*lines, f"       {self.name} --help tells more"]) + "\n"

    def help(self) -> str:
        forms = "\n".join(f"  {form.strip()}" for form in self.synopsis.strip().splitlines())
        rows = [(", ".join(shown(row, name) for name in row.names), row) for row in self.table]
        width = min(24, max(len(left) for left, _ in rows))
        lines = [f"  {left:{width}}  {row.text}{' (not available yet)' if row.later else ''}" for left, row in rows]
        return f"{self.name} - {self.summary}\n\n{forms}\n\n" + "\n".join(lines) + "\n"

    def run(self, body: "Callable[[Parsed], int]", argv: "Sequence[str]") -> int:
        """The exit status of ``body``. Answers --help and --version; UserError becomes one line on stderr, and so does a tree
        whose mosd ends while it is asked, and output that cannot be written: its reader's end is status 141, without a line."""
        import sys

        catch_interrupts()
        try:
            if sys.stdout is None:
                sys.stdout = closed_output()
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            status = self._answer(body, argv)
            sys.stdout.flush()
            return status
        except UserError as error:
            complain(f"{self.usage() if isinstance(error, UsageError) else ''}{self.name}: {error.text}\n")
            return error.status
        except OSError as error:
            if error.errno in DAEMON_GONE:
                from mosfs.cluster.paths import NodePaths
                from mosfs.tools.text import NOT_RUNNING

                complain(f"{self.name}: {NOT_RUNNING.format(socket=NodePaths.from_env().socket)}\n")
                return 1
            if error.filename is None and error.errno == ENOENT:
                complain(f"{self.name}: the current directory: {error.strerror}\n")
                return 1
            if error.filename is not None or error.errno not in (EPIPE, *OUTPUT_FAILED):
                raise
            drop(sys.stdout)
            if error.errno == EPIPE:
                return NOBODY_READS
            complain(f"{self.name}: standard output: {error.strerror}\n")
            return 1
        except KeyboardInterrupt:
            return interrupted()

    def _answer(self, body: "Callable[[Parsed], int]", argv: "Sequence[str]") -> int:
        import sys

        parsed = self.parse(argv)
        if "help" in parsed:
            sys.stdout.write(self.help())
            return 0
        if "version" in parsed:
            from mosfs import __version__

            sys.stdout.write(f"{self.name} (mosfs) {__version__}\n")
            return 0
        if parsed.later:
            raise UserError(f"{parsed.later} is not available yet", 125)
        return body(parsed)


def catch_interrupts() -> None:
    """SIGINT is KeyboardInterrupt from here on, after the time in which our commands start (`tools.install_launchers`)."""
    import _signal  # type: ignore[import-not-found]

    if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def interrupted() -> int:
    """End by SIGINT, as who does not catch it: a shell ends its loop or script for that, not for an exit status, which is returned
    where this process cannot be ended so."""
    import _signal
    import os
    import sys

    try:
        sys.stdout.flush()
    except OSError:
        drop(sys.stdout)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    os.kill(os.getpid(), _signal.SIGINT)
    return 130


def complain(text: str) -> None:
    """Write to standard error, if it can be: a message that nobody gets changes no exit status."""
    import sys

    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except OSError:
        drop(sys.stderr)


def closed_output() -> "TextIO":
    """What stands for standard output when it is closed: writing fails with EBADF, as it does for programs in C."""
    import os

    return open(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), "w")


def drop(stream: "TextIO") -> None:
    """Let what is still in the buffer of ``stream`` go nowhere, so that Python does not fail on it again at its exit."""
    import os

    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def shown(row: Option, name: str) -> str:
    """How a name is written with its value: ``-m{mb}``, ``--root {dir}``, ``-{n}``."""
    if row.kind in (FLAG, COUNT, WORD):
        return name
    if row.kind in (MAYBE, GLUED):
        return f"{name}[={{{row.metavar or row.key}}}]"
    value = "{" + (row.metavar or row.key) + "}"
    return f"{name} {value}" if name.startswith("--") else name + value


def number_of(text: str) -> "int | None":
    """The whole number that ``text`` is: ASCII digits, `MOST_DIGITS` at most, perhaps behind a minus; None for anything else."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS else None


def is_ip(text: str) -> bool:
    """Four decimal numbers from 0 to 255: an IPv4 address as the manual writes it (a.b.c.d)."""
    parts = text.split(".")
    return len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) < 4 and int(p) < 256 for p in parts)


def _check(row: Option, name: str, value: str) -> str:
    """``value`` in canonical form; UsageError when it does not fit the row."""
    if row.kind == INT:
        whole = number_of(value)
        if whole is None or not row.low <= whole <= row.high:
            written = f"-{value}" if name == "-" else f"{name}: {value}"
            raise UsageError(f"{written} is not a number from {row.low:g} to {row.high:.0f}")
        return str(whole)
    if row.kind == REAL:
        try:
            number = float(value)
        except ValueError:
            number = row.low - 1
        if not row.low <= number <= row.high:
            raise UsageError(f"{name}: {value} is not a number from {row.low:g} to {row.high:g}")
        return repr(number)
    if row.kind == NODE:
        if 0 < (number_of(value) or 0) <= MAX_NODE:
            return str(number_of(value))
        if not is_ip(value):
            raise UsageError(f"-{value} is neither a node-number from 1 to {MAX_NODE} nor an IP address")
    return value
