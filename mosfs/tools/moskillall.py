"""moskillall(1): signal all MOSIX processes of this user; of all users, if this is the Super-User."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import INT, WORD, Command, Option, Parsed, UsageError, UserError
from mosfs.tools.tree import Process, Tree

NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ "
    "VTALRM PROF WINCH POLL PWR SYS"
)

MOSKILLALL = Command("moskillall", "moskillall [-{signum} | -{symbolic_signal}]", "kill or signal all your MOSIX processes", (
    Option("-", "signal", "the signal by its number", INT, metavar="signum", low=1, high=64),
    Option(" ".join(f"-{name}" for name in NAMES.split()), "signal", "the signal by its name", WORD),
))


def signal_of(word: str) -> int:
    """The number that a number or name of the table means. SIGSTOP becomes SIGTSTP: the manual forbids it for them."""
    number = int(word) if word.isdigit() else signal.Signals[f"SIG{word}"].value
    return signal.SIGTSTP if number == signal.SIGSTOP else number


def chosen(processes: Iterable[Process], uid: int) -> list[int]:
    """PIDs of those that ``uid`` signals with one call: this node's own, not guests, nor native ones; of everybody for root."""
    return [process.pid for process in processes if not (process.home or process.native) and uid in (0, process.uid)]


def plain_name(word: str) -> str:
    """``-TERM`` for -SIGTERM, -sigterm and -term; every other word as it is."""
    name = word[1:].upper().removeprefix("SIG")
    return f"-{name}" if word.startswith("-") and name in NAMES.split() else word


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    number = signal_of(options.get("signal", "TERM"))
    failed = ""
    for pid in chosen(Tree(NodePaths.from_env()).processes(), os.getuid()):
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it ended meanwhile
            continue
        except OSError as error:
            failed = f"{pid}: {error.strerror}"
    if failed:
        raise UserError(failed)
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOSKILLALL.run(body, [plain_name(word) for word in (sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
