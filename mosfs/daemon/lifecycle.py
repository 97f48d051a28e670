"""The daemon as a process: PID file, log, going to the background, and what SIGUSR1 shows."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Callable, Iterator

import trio

from mosfs.cluster import dump
from mosfs.cluster import log as node_log
from mosfs.daemon.repeats import Repeats
from mosfs.wire import record

log = logging.getLogger(__name__)

repeats = Repeats()


class StartError(Exception):
    """mosd cannot run: one line for the administrator."""


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """``path`` holds our PID and is locked while we run: the lock is what counts. `StartError` when another has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise StartError(f"already running (PID {running})") from None
        if _is_still(descriptor, path):
            break
        os.close(descriptor)  # its owner removed it between our open and our lock
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def _is_still(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def log_to(path: str) -> None:
    """stdout, stderr and logging go to the file at ``path``, which children append to as well; to stderr as it is for "".

    `StartError` if MOSIX_LOG or MOSIX_RECORD is bad.
    """
    if path:
        node_log.to_file(path)
    else:
        node_log.to_stderr()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(repeats)
    for name, level in log_levels(os.environ.get("MOSIX_LOG", "")):
        logging.getLogger(name).setLevel(level)
    if directory := check_recording():
        log.warning("%s: the memory of programs that move is written to files in %s", record.VARIABLE, directory)


def check_recording() -> str:
    """The directory of MOSIX_RECORD, "" for none; `StartError` if it is bad."""
    directory = os.environ.get(record.VARIABLE, "")
    try:
        if directory:
            record.check(directory)
    except OSError as error:
        raise StartError(f"{record.VARIABLE}: {error}") from None
    return directory


def log_levels(text: str) -> Iterator[tuple[str, str]]:
    """Loggers and levels in MOSIX_LOG: ``debug``, or ``daemon:debug,wire:warning``. `StartError` if it is bad."""
    for word in filter(None, text.split(",")):
        package, _, level = word.rpartition(":")
        if level.upper() not in logging.getLevelNamesMapping():
            raise StartError(f"MOSIX_LOG: {word!r}: not [package:]level")
        yield f"mosfs.{package}" if package else "mosfs", level.upper()


def in_background(work: Callable[[Callable[[str], None]], int]) -> int:
    """Fork; the child does ``work(report)`` and calls ``report("")`` when it is up, or ``report(why)`` if it cannot be.

    Returns in the parent: 0, or 1 after the reason was printed. The child is a session of its own and never returns.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()

        def report(why: str) -> None:
            nonlocal writer
            if writer >= 0:
                with contextlib.suppress(BrokenPipeError):  # whoever started us did not wait
                    os.write(writer, f"{why}\n".encode())
                os.close(writer)
                writer = -1

        status = 1
        try:
            status = work(report)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.readline()
    if answer == b"\n":
        return 0
    print(f"mosd: {answer.decode(errors='replace').strip() or 'failed; see its log'}", file=sys.stderr)
    return 1


def task_tree(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    """Lines that show ``task``, where it waits, and its children."""
    frames = [f"{frame.f_code.co_name}:{line}" for frame, line in task.iter_await_frames()]
    yield f"{'  ' * depth}{task.name} <- {' '.join(frames)}"
    for nursery in task.child_nurseries:
        for child in sorted(nursery.child_tasks, key=lambda child: child.name):
            yield from task_tree(child, depth + 1)


def dump_on_signal() -> None:
    """SIGUSR1 writes the stacks of all threads and the tree of trio's tasks to the log. Call inside trio.run."""
    dump.on_signal(_tasks)


def _tasks() -> Iterator[tuple[str, str]]:
    if root := trio.lowlevel.current_root_task():
        yield "tasks", ""
        yield from (("task", line) for line in task_tree(root))
