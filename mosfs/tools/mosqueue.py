"""mosrun -S: the private queue, with the options and files of the command line (`mosfs.queue`, docs/design/queue.md)."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from mosfs.abi.texts import Text, text
from mosfs.cluster.paths import NodePaths
from mosfs.queue import progress
from mosfs.queue.commands import CannotRead, Commands, Line, names_of, open_commands
from mosfs.queue.halt import Halt, parse_halt, seconds
from mosfs.queue.log import Log, LogError, open_log
from mosfs.queue.output import Outputs
from mosfs.queue.progress import Counts, ProgressFile
from mosfs.queue.queue import Hooks, Plan, Queue, QueueError
from mosfs.queue.runners import MOST, RUNNER, Runners
from mosfs.tools.options import Parsed, UsageError, UserError, complain
from mosfs.tools.tree import Tree

FAILED = 125  #: as mosrun has it
#: Options that are about one program: with -S each line would need its own.
ALONE = {"restart": "-R", "inspect": "-I", "reopen": "-O", "argv0": "-z", "json": "--json"}
#: What mosrun asks for each line anew, because it is not inherited.
EACH = ("node", "force", "checkpoint_file", "checkpoint_limit", "checkpoint_interval")
#: Nor is this by a program that asks for something else.
TOO = (*EACH, "private", "needmem")
#: Seconds that --resume waits for the lines that a killed queue has left running.
LEFT_RUNNING = 3600.0
#: Descriptors that the queue needs for itself, and the most files that outputs may wait in.
OWN_FILES, MOST_OUTPUTS = 40, 1000
#: The failed-commands file is put in order at the end when it is not larger, bytes.
SORTED = 64 << 20
#: Seconds that mosd may take to hear of the end of a program.
REMEMBERING = 0.5
#: Exit status: failures at most (mosrun(1)).
MOST_FAILURES = 255

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Launcher:
    """What mosrun does for one program: makes the message for mosd of some of its options, sends it and returns what the
    environment shall have besides, joins both, and gives back the signals that Python ignores."""

    environ: dict[bytes, bytes]
    shell: str
    socket: str
    keys: tuple[str, ...]
    request: Callable[[Parsed], bytes]
    ask: Callable[[bytes], list[bytes]]
    with_preset: Callable[[dict[bytes, bytes], list[bytes]], dict[bytes, bytes]]
    give_signals_back: Callable[[], None]


def run(parsed: Parsed, launcher: Launcher) -> int:
    """The exit status: how many lines have failed; 128 and its number when a signal ended the queue early."""
    for key, option in ALONE.items():
        if key in parsed:
            raise UsageError(f"{option} is not for -S, which runs many programs")
    plan = plan_of(parsed)
    commands, fail_file = files(parsed.rest)
    log = None
    try:
        if name := parsed.get("joblog"):
            log = open_log(name, plan.resume, LEFT_RUNNING if plan.resume else 0.0)
        return Session(launcher, parsed, plan, commands, log, fail_file).run()
    except (LogError, QueueError, CannotRead) as error:
        raise UserError(str(error), FAILED) from None
    except OSError as error:  # of the files in which outputs wait (--group), or of where they go
        if error.errno == errno.EPIPE:
            raise
        raise UserError(f"{error.filename or 'standard output'}: {error.strerror}", FAILED) from None


def plan_of(parsed: Parsed) -> Plan:
    again = "resume_failed" in parsed
    resume = again or "resume" in parsed
    if resume and "joblog" not in parsed:
        raise UsageError(f"--resume{'-failed' * again} needs --joblog")
    return Plan(
        int(parsed.get("queue")), int(parsed.get("retries", "1")), value(parsed, "timeout", seconds, 0.0),
        value(parsed, "delay", seconds, 0.0), value(parsed, "halt", parse_halt, Halt()), resume, again,
    )


def value(parsed: Parsed, key: str, parse: Callable[[str], T], default: T) -> T:
    try:
        return parse(parsed.get(key)) if key in parsed else default
    except ValueError:
        raise UsageError(f"--{key} does not take {parsed.get(key)}") from None


def files(words: list[str]) -> tuple[Commands, str]:
    """The commands-file, open, and the name of the file for those that fail."""
    if not words:
        if os.isatty(0):
            raise UsageError("-S needs a commands-file (- for standard input)")
        words = ["-"]
    try:
        name, fail_file = names_of(words, os.path.exists(words[0]))
    except ValueError as error:
        raise UsageError(f"-S takes {error}") from None
    try:
        return open_commands(name), fail_file
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}", FAILED) from None


class FailFile:
    """The failed-commands file: each line as it fails, in their order at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._numbers = array("Q")
        self._broken = False
        try:
            self._file = open(name, "w+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{name}: {error.strerror}", FAILED) from None

    def add(self, line: Line) -> None:
        """After the first line that cannot be written whole there are no more; and of it nothing is there, as half a command is
        another one."""
        if self._broken:
            return
        data = line.text + b"\n"
        try:
            written = self._file.write(data)
            self._broken = written < len(data)
            if self._broken:
                self._file.truncate(self._file.tell() - written)
            self._numbers.append(line.number)
        except OSError:
            self._broken = True

    def close(self) -> bool:
        """Whether all of it was written."""
        try:
            with self._file:
                if not self._broken:
                    self._sort()
        except OSError:
            self._broken = True
        return not self._broken

    def _sort(self) -> None:
        order = sorted(range(len(self._numbers)), key=self._numbers.__getitem__)
        if order == list(range(len(order))) or not self._file.seekable() or self._file.tell() > SORTED:
            return
        self._file.seek(0)
        lines = self._file.readlines()
        self._file.seek(0)
        data = b"".join(lines[at] for at in order)
        self._broken = self._file.write(data) < len(data)


class Where:
    """Where programs have ended, as the tree tells."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        try:
            self.here = tree.number(tree.fact("ip")) or tree.fact("ip")
        except UserError:
            self.here = ""

    def of(self, pid: int, seconds: float) -> tuple[str, int]:
        """Node and moves of a program that has ended after so many seconds; "" and -1 when nobody knows. What the tree does not
        remember has used nothing on other nodes."""
        until = time.monotonic() + REMEMBERING
        while os.path.exists(f"{self.tree.mount}/proc/{pid}/nmigs"):  # mosd has not heard of its end yet
            if time.monotonic() > until:
                return "", -1
            time.sleep(0.002)
        try:
            told = json.loads(self.tree.read(f"ended/{pid}/stat"))
        except OSError:
            return self.here, 0 if self.here else -1
        if told["ago"] > seconds + REMEMBERING:  # another one that had its number
            return self.here, 0
        return (self.tree.number(told["where"]) or told["where"]) if told["where"] else self.here, told["nmigs"]


class Session:
    """One mosrun -S, around its `Queue`."""

    def __init__(self, launcher: Launcher, parsed: Parsed, plan: Plan, commands: Commands, log: Log | None, fail_file: str) -> None:
        self.launcher, self.parsed, self.plan, self.commands, self.log = launcher, parsed, plan, commands, log
        self.fail_file = FailFile(fail_file) if fail_file else None
        self.file = ProgressFile(progress.folder_of(NodePaths.from_env().state))
        self.begun = time.monotonic()
        grouped = "group" in parsed or "keep_order" in parsed
        self.terminal = os.isatty(2) and os.environ.get("TERM") != "dumb" and (grouped or not os.isatty(1))
        self.filed = float("-inf")
        self.shown = self.filed if self.terminal else self.begun
        self.outputs = Outputs("keep_order" in parsed, room_for_outputs()) if grouped else None
        self.signal = 0

    def run(self) -> int:
        message = b""
        if any(key in self.parsed for key in EACH):
            message = self.launcher.socket.encode(errors="surrogateescape") + b"\0" + self.launcher.request(part(self.parsed, TOO))
        runners = Runners(self.become, min(self.plan.maxjobs, MOST), message)
        failed = self.fail_file.add if self.fail_file else lambda line: None
        hooks = Hooks(self.say, failed, self.progress, Where(Tree(NodePaths.from_env())).of)
        queue = Queue(self.plan, self.commands, runners, hooks, log=self.log, outputs=self.outputs)
        self.catch(queue)
        try:
            failures = queue.run()
        finally:
            self.file.close()
            complete = self.fail_file is None or self.fail_file.close()
        if not complete:
            self.say(text(Text.FAIL_FILE))
        elif self.fail_file and self.commands.changed():
            self.say(text(Text.COMMANDS_CHANGED))
        left = queue.stop and queue.done < self.commands.total
        return 128 + self.signal if left else min(failures, MOST_FAILURES)

    def catch(self, queue: Queue) -> None:
        def caught(number: int, frame: object) -> None:
            self.signal = self.signal or number
            queue.asked_to_stop(number, frame)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, caught)

    def become(self, channel: socket.socket) -> NoReturn:
        """In a child: be a runner, which is a MOSIX program. UserError when it cannot be one."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        own = [key for key in self.launcher.keys if key not in EACH]
        preset = self.launcher.ask(self.launcher.request(part(self.parsed, own)))
        journal = self.log.journal if self.log is not None else -1
        for fd in (channel.fileno(), journal):
            if fd >= 0:
                os.set_inheritable(fd, True)
        self.launcher.give_signals_back()
        words = ["mosrun-runner", str(channel.fileno()), str(journal), self.launcher.shell]
        os.execve(RUNNER, words, self.launcher.with_preset(self.launcher.environ, preset))

    # ------------------------------------------------------------------- what the user sees

    def say(self, what: str) -> None:
        complain(f"{self.clear()}mosrun: {what}\n")

    def clear(self) -> str:
        """What takes the progress away from the terminal, before something else is written there."""
        return "\r\x1b[K" if self.terminal and self.shown > 0 else ""

    def progress(self, counts: Counts, last: bool) -> None:
        now = time.monotonic()
        if last or now - self.filed >= progress.FILE:
            self.filed = now
            self.file.write(counts)
        if not self.terminal and "progress" not in self.parsed:
            return
        if not last and now - self.shown < (progress.TERMINAL if self.terminal else progress.PLAIN):
            return
        self.shown = now
        line = progress.shown(counts, now - self.begun, not self.commands.regular and not self.commands.finished)
        if self.terminal:
            complain("\r\x1b[K" + line[:width() - 1] + "\n" * last)
        else:
            complain(f"mosrun: {line}\n")


def width() -> int:
    """Columns of the terminal, which may be gone by now, and may not know how many it has."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def part(parsed: Parsed, keys: Iterable[str]) -> Parsed:
    """These options only."""
    chosen = Parsed()
    chosen.values = {key: parsed.values[key] for key in keys if key in parsed.values}
    if "private" in parsed:
        chosen.lists["private"] = parsed.lists["private"]
    return chosen


def room_for_outputs() -> int:
    """Lines whose output may be in files at once: two descriptors each."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(MOST_OUTPUTS, (soft - MOST - OWN_FILES) // 2))
