"""The private queue itself: one loop that starts lines, hears of their ends, and writes down both."""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mosfs.abi.texts import Text, text
from mosfs.queue.commands import Commands, Line
from mosfs.queue.halt import NOW, Halt, Tally
from mosfs.queue.joblog import Row, Todo, row_of
from mosfs.queue.log import Log, LogError
from mosfs.queue.output import Outputs, Pair
from mosfs.queue.progress import Counts
from mosfs.queue.runners import CANNOT, SAID, Runner, Runners, send_line

#: Seconds from SIGTERM to SIGKILL.
PATIENCE = 5.0
#: Lines that are written down as started at once, at most.
BATCH = 256


class QueueError(Exception):
    """What ends the queue: one line for the user."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user has chosen. Seconds; ``retries``: how often a line is tried in all; ``again``: --resume-failed."""

    maxjobs: int
    retries: int = 1
    timeout: float = 0.0
    delay: float = 0.0
    halt: Halt = field(default_factory=Halt)
    resume: bool = False
    again: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """A line that runs. ``began``: seconds of the wall; ``ends``: when it is told to end, ``killed``: when it is killed, monotonic
    seconds."""

    line: Line
    runner: Runner
    attempt: int
    began: float
    ends: float
    pair: Pair | None
    killed: float = 0.0
    timed_out: bool = False


@dataclass(slots=True)
class Hooks:
    """What the queue tells of itself: ``say`` a line for the user, ``failed`` a line that failed, ``progress`` how far it is (at
    least once a second, and once more at its end), and ask: ``locate``, at which node a process ended that
    ran so many seconds, and its moves."""

    say: Callable[[str], None]
    failed: Callable[[Line], None] = lambda line: None
    progress: Callable[[Counts, bool], None] = lambda counts, last: None
    locate: Callable[[int, float], tuple[str, int]] = lambda pid, seconds: ("", -1)


class Queue:
    """`run` is the whole of it. ``stop``: how often the user has asked it to stop."""

    def __init__(self, plan: Plan, commands: Commands, runners: Runners, hooks: Hooks, *, log: Log | None = None,
                 outputs: Outputs | None = None) -> None:
        self.plan, self.commands, self.runners, self.hooks, self.log, self.outputs = plan, commands, runners, hooks, log, outputs
        self.done = self.failed = self.before = self.doubtful = self.stop = 0
        self.halted = ""
        self._running: dict[int, Job] = {}
        self._again: deque[tuple[Line, int, Row]] = deque()  # lines to be tried again: the next attempt, how the last one ended
        self._next_start = 0.0
        self._clean = True  # nothing was started whose end is not known
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    # ------------------------------------------------------------------- from outside

    @property
    def counts(self) -> Counts:
        return Counts(self.commands.total, self.done, self.failed, len(self._running), self.before)

    def asked_to_stop(self, number: int, frame: object) -> None:
        """A signal: the first ends the starting, the second all lines. SIGHUP counts twice: nobody is there to send a second."""
        self.stop += 2 if number == signal.SIGHUP else 1
        os.write(self._waker, b"\0")

    def run(self) -> int:
        """How many lines have failed, those in doubt included. QueueError, LogError, or OSError of what the lines print."""
        said = 0
        try:
            while not self._over():
                self._start()
                self.hooks.progress(self.counts, False)
                self._wait()
                self._act(time.monotonic())
                if self.stop != said:
                    said = self.stop
                    self._stopping()
            for line, _, row in self._again:
                self._final(line, row)
            self.hooks.progress(self.counts, True)
        finally:
            self.runners.close()
            os.close(self._wake)
            os.close(self._waker)
        if self.log is not None:
            self.log.close(complete=self._clean and not self._running)
        return self.failed

    # ------------------------------------------------------------------- starting

    def _over(self) -> bool:
        nothing_left = self._stops or (self.commands.finished and not self._again)
        return nothing_left and not self._running

    @property
    def _stops(self) -> bool:
        return bool(self.stop or self.halted)

    def _may_start(self) -> bool:
        return (not self._stops and len(self._running) < self.plan.maxjobs and time.monotonic() >= self._next_start
                and (self.outputs is None or not self.outputs.full))

    def _start(self) -> None:
        """Start what may be: noted as started together, because the disk is waited for once."""
        while self._may_start():
            room = 1 if self.plan.delay else min(BATCH, self.plan.maxjobs - len(self._running))
            batch: list[tuple[Line, int]] = []
            while len(batch) < room and (entry := self._next()) is not None:
                batch.append(entry)
            if not batch:
                return
            if self.log is not None:
                self.log.started((line.number, line.text) for line, _ in batch)
            for line, attempt in batch:
                self._begin(line, attempt)

    def _next(self) -> tuple[Line, int] | None:
        """The next line to be run, and the number of the attempt."""
        if self._again:
            return self._again.popleft()[:2]
        while (line := self.commands.next()) is not None:
            if line.broken:
                self.hooks.say(text(Text.BROKEN_LINE, number=line.number))
                self._count(line, failed=True)
                if self._stops:
                    return None
            elif self._todo(line) is Todo.RUN:
                return line, 1
        return None

    def _todo(self, line: Line) -> Todo:
        """With --resume: what happens to this line. What need not run is counted here."""
        if self.log is None or not self.plan.resume:
            return Todo.RUN
        past = self.log.past
        if not past.same(line.number, line.text):
            raise QueueError(f"{self.log.path}: line {line.number} of the commands-file is not the one that ran")
        todo = past.todo(line.number, self.plan.again)
        if (missing := past.missing.pop(line.number, None)) and todo is not Todo.RUN:
            self.log.row(row_of(line.number, *missing, line.text))
        if todo is Todo.RUN:
            return todo
        self.done += 1
        self.before += 1
        if todo is Todo.DOUBT:
            self._doubt(line)
        return todo

    def _doubt(self, line: Line) -> None:
        self._clean = False
        self.doubtful += 1
        self.failed += 1
        self.hooks.say(f"line {line.number} is in doubt: it was started, and nobody saw its end: {shown(line.text)}")
        self.hooks.failed(line)

    def _begin(self, line: Line, attempt: int) -> None:
        pair = self.outputs.begin(line.number) if self.outputs is not None else None
        now, wall = time.monotonic(), time.time()
        self._next_start = now + self.plan.delay
        ends = now + self.plan.timeout if self.plan.timeout else float("inf")
        while True:
            runner = self.runners.choose()
            try:
                send_line(runner, line.number, line.text, pair)
            except OSError:
                self._lost(runner)
                continue
            break
        self._running[line.number] = Job(line, runner, attempt, wall, ends, pair)

    # ------------------------------------------------------------------- waiting

    def _wait(self) -> None:
        """Wait until something happens, or is due."""
        if self._over():
            return
        poll = select.poll()
        for fd in (self._wake, *self.runners.all):
            poll.register(fd, select.POLLIN)
        hungry = self._may_start() and self.commands.hungry and not self.commands.regular
        if hungry:
            poll.register(self.commands.fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(self._pause() * 1000)]
        for fd in ready:
            if fd == self._wake:
                os.read(self._wake, 4096)
            elif fd == self.commands.fd and hungry:
                self.commands.read()
            elif (runner := self.runners.all.get(fd)) is not None:
                self._hear(runner)

    def _pause(self) -> float:
        """Seconds that nothing is due: at most one, for the progress."""
        now = time.monotonic()
        due = [job.killed or job.ends for job in self._running.values()] if self.plan.timeout or self._killing else []
        if self._next_start > now and not self._stops and len(self._running) < self.plan.maxjobs:
            due.append(self._next_start)
        return max(0.0, min([1.0, *(at - now for at in due)]))

    @property
    def _killing(self) -> bool:
        return self.stop > 1 or self.halted == NOW

    def _act(self, now: float) -> None:
        """End what runs too long, or is to end; kill what does not."""
        if not (self.plan.timeout or self._killing):
            return
        for number, job in self._running.items():
            if job.killed:
                if now >= job.killed:
                    self.runners.signal(number, job.runner, signal.SIGKILL)
                    job.killed = now + PATIENCE
            elif self._killing or now >= job.ends:
                job.timed_out = not self._killing
                job.killed = now + PATIENCE
                self.runners.signal(number, job.runner, signal.SIGTERM)
                self.runners.signal(number, job.runner, signal.SIGCONT)

    def _stopping(self) -> None:
        running = len(self._running)
        if self.stop > 1:
            self.hooks.say(f"ending {running} command-lines")
        elif running:
            self.hooks.say(f"starting no more; waiting for {running} command-lines (once more ends them)")

    # ------------------------------------------------------------------- ends

    def _hear(self, runner: Runner) -> None:
        try:
            said = runner.channel.recv(SAID)
        except ConnectionResetError:
            return  # told once, when it ended without reading all we said: what it sent before is still there
        except OSError:
            said = b""
        if not said:
            self._lost(runner)
            return
        if said.startswith(CANNOT):
            self._cannot(runner, said.removeprefix(CANNOT).decode(errors="surrogateescape"))
            return
        letter, *words = said.split()
        if letter == b"J":
            raise LogError(f"{self.log.journal_path if self.log else ''}: {os.strerror(int(words[0]))}")
        number = int(words[0])
        runner.lines.discard(number)
        if (job := self._running.pop(number, None)) is None:
            return
        if letter == b"F":
            self.hooks.say(f"line {number} could not be started: {os.strerror(int(words[1]))}")
            self._ended(job, 125 << 8, time.time(), 0)
        else:
            self._ended(job, int(words[1]), float(words[2]), int(words[6]))

    def _ended(self, job: Job, status: int, end: float, pid: int) -> None:
        row = row_of(job.line.number, status, job.began, end, job.line.text, job.timed_out)
        if row.failed and job.attempt < self.plan.retries and not self._stops:
            if job.pair is not None and self.outputs is not None:
                self.outputs.forget(job.pair)
            self._again.append((job.line, job.attempt + 1, self._located(row, pid)))
            return
        if job.pair is not None and self.outputs is not None:
            self.outputs.end(job.line.number, job.pair)
        self._final(job.line, self._located(row, pid))

    def _located(self, row: Row, pid: int) -> Row:
        if self.log is None:
            return row
        node, moves = self.hooks.locate(pid, row.runtime) if pid else ("", -1)
        return replace(row, node=node, moves=moves)

    def _final(self, line: Line, row: Row) -> None:
        if self.log is not None:
            self.log.row(row)
        self._count(line, row.failed)

    def _count(self, line: Line, failed: bool) -> None:
        self.done += 1
        if failed:
            self.failed += 1
            self.hooks.failed(line)
        halt = self.plan.halt
        if not self.halted and halt.reached(Tally(self.done - self.before, self.failed - self.doubtful, self.commands.total)):
            self.halted = halt.when
            self.hooks.say(f"{'ending' if halt.when == NOW else 'starting no more'}: --halt {halt}")

    def _lost(self, runner: Runner) -> None:
        """A runner was killed, and with it the knowledge how its lines end."""
        self.runners.gone(runner)
        for number in runner.lines:
            if (job := self._running.pop(number, None)) is None:
                continue
            self._clean = False
            self.hooks.say(f"line {number} is in doubt: the process that ran it was killed: {shown(job.line.text)}")
            if job.pair is not None and self.outputs is not None:
                self.outputs.end(number, job.pair)
            self._count(job.line, failed=True)

    def _cannot(self, runner: Runner, reason: str) -> None:
        """It could not become a runner. Its lines go to others; when there are none, that is the end."""
        self.runners.gone(runner)
        if not self.runners.all:
            self._clean = False
            raise QueueError(reason)
        self.runners.most = len(self.runners.all)
        for number in runner.lines:
            if (job := self._running.pop(number, None)) is not None:
                send_line(other := self.runners.choose(), number, job.line.text, job.pair)
                job.runner = other
                self._running[number] = job


def shown(command: bytes) -> str:
    """As much of a line as fits into a message."""
    text = command[:200].decode(errors="replace")
    return text if len(command) <= 200 else text + "..."
