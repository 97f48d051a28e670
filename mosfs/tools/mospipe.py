"""mospipe(1): programs that feed each other through direct communication instead of pipes.

This process goes under mosrun, forks one child a program, and stays to end each one's input when the program before it has ended.
A child asks for its mosrun options as a recursive mosrun does, opens its mailbox as standard input and its neighbour's as
standard output, and becomes the program. Mailboxes are read as streams here (`STREAM`): what a read does not take stays.
"""

import posix
import sys

from mosfs.tools.mosrun import FAILED, TABLE, ask, execute, find, first_environment, request, under_mosrun
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError

STREAM, END_OF_FILE = 128, 64
BLANKS = " \t\r\n"
#: Of mosrun's options those that say where and how one program runs.
KEYS = ("node", "force", "lock", "freezable", "needmem")

ROWS = (
    *(row for row in TABLE if row.key in KEYS),
    Option("-e -E", "errors", "standard error of the program before this goes to this one too"),
)
SYNOPSIS = "mospipe [mosrun-options] {program+args} [[-e] [mosrun-options] {program+args}]..."
MOSPIPE = Command("mospipe", SYNOPSIS, "run pipelined programs that can migrate", ROWS)


class Stage:
    """One program: its mosrun options, its words, and whether its standard error goes on, too."""

    __slots__ = ("errors", "options", "words")

    def __init__(self, options: Parsed, words: list[str]) -> None:
        self.options = options
        self.words = words
        self.errors = False


def split(text: str) -> list[str]:
    """A program and its arguments, separated by blanks; a backslash quotes the character behind it, itself too."""
    words: list[str] = []
    word: list[str] | None = None
    quoted = False
    for character in text:
        if quoted or (character != "\\" and character not in BLANKS):
            word = [*(word or []), character]
            quoted = False
        elif character == "\\":
            word = word or []
            quoted = True
        elif word is not None:
            words.append("".join(word))
            word = None
    if quoted:
        raise UsageError(f"nothing follows the last backslash of {text!r}")
    return words if word is None else [*words, "".join(word)]


def stages(first: Parsed) -> list[Stage]:
    """The programs of a command line whose beginning is parsed."""
    found: list[Stage] = []
    parsed = first
    while parsed.rest:
        words = split(parsed.rest[0])
        if not words:
            raise UsageError("an empty program")
        if "errors" in parsed:
            if not found:
                raise UsageError("-e stands between programs")
            found[-1].errors = True
        found.append(Stage(parsed, words))
        rest = parsed.rest[1:]
        parsed = MOSPIPE.parse(rest)
        if rest and not parsed.rest:
            raise UsageError("options stand before a program")
    if len(found) < 2:
        raise UsageError("which programs?")
    return found


def go_under_mosrun() -> None:
    """Start again as a MOSIX program; returns when that has happened already."""
    if under_mosrun():
        return
    with open("/proc/self/cmdline", "rb") as file:
        argv = [posix_decode(word) for word in file.read().split(b"\0")[:-1]]
    ask(b"RUN\0unsupported=1\0node=home")
    execute(posix.readlink("/proc/self/exe"), argv, first_environment())


def posix_decode(word: bytes) -> str:
    return word.decode(sys.getfilesystemencoding(), "surrogateescape")


def receiver(pid: int) -> int:
    """A descriptor that sends to process ``pid``, like the writing end of a pipe."""
    return posix.open(f"/proc/mosix/mbox/0.0.0.0/{pid}", posix.O_WRONLY | posix.O_APPEND)


def become(stage: Stage, follower: int, *, first: bool, ready: int) -> None:
    """In the child: be the program. ``follower``: PID of the next one, 0 for none."""
    environ = first_environment()
    path = find(stage.words[0], environ)
    # before it has a mailbox: with one, mosrun would be refused
    if any(key in stage.options for key in KEYS):
        ask(request(stage.options))
    if not first:
        posix.dup2(posix.open("/proc/mosix/mybox", posix.O_RDONLY | posix.O_CREAT, END_OF_FILE | STREAM), 0)
    if follower:
        posix.dup2(receiver(follower), 1)
        if stage.errors:
            posix.dup2(1, 2)
    posix.write(ready, b"+")
    posix.close(ready)
    execute(path, stage.words, environ)


def spawn(stage: Stage, follower: int, *, first: bool) -> int:
    """The child's PID, when it can be sent to; it may have ended with an error, which it has told."""
    reader, writer = posix.pipe()
    pid = posix.fork()
    if not pid:
        status = FAILED
        try:
            posix.close(reader)
            become(stage, follower, first=first, ready=writer)
        except UserError as error:
            sys.stderr.write(f"mospipe: {error.text}\n")
            sys.stderr.flush()
            status = error.status
        except OSError as error:
            sys.stderr.write(f"mospipe: {stage.words[0]}: {error.strerror}\n")
            sys.stderr.flush()
        finally:
            posix._exit(status)
    posix.close(writer)
    posix.read(reader, 1)
    posix.close(reader)
    return pid


def end_input(pid: int) -> None:
    """A message of length zero is the end of the input of ``pid``, unless that has ended."""
    try:
        sender = receiver(pid)
    except OSError:
        return
    try:
        posix.write(sender, b"")
    except OSError:
        pass
    finally:
        posix.close(sender)


def run(programs: list[Stage]) -> int:
    """Run them all; the last one's exit status, as a shell shows it."""
    import _signal  # type: ignore[import-not-found]

    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    followers: dict[int, int] = {}
    follower = result = 0
    for number in reversed(range(len(programs))):
        pid = spawn(programs[number], follower, first=not number)
        followers[pid], follower = follower, pid
    for number in (_signal.SIGINT, _signal.SIGQUIT):
        _signal.signal(number, _signal.SIG_IGN)  # the programs hear them; we stay to the end
    while followers:
        pid, status = posix.wait()
        follower = followers.pop(pid)
        if follower:
            end_input(follower)
        else:
            result = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)
    return result


def launch(parsed: Parsed) -> int:
    programs = stages(parsed)
    go_under_mosrun()
    return run(programs)


def main(argv: list[str] | None = None) -> int:
    return MOSPIPE.run(launch, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
