"""The control link of tracers and hosts: its end is told of once, whoever notices it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.wire.control import ControlLink
from mosfs.wire.messages import Command, Report, encode

NOTICE: dict[str, Callable[[ControlLink], object]] = {
    "receiving": lambda link: link.receive(),
    "sending": lambda link: link.send(Report(20, "something")),
}


@contextmanager
def connected(folder: Path) -> Iterator[tuple[ControlLink, socket.socket]]:
    """A link, and the socket at which it waits to be accepted."""
    path = str(folder / "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        link = ControlLink(path)
        assert link.connect()
        yield link, server


@pytest.mark.parametrize("notice", NOTICE)
def test_an_end_is_told_of_once(tmp_path: Path, notice: str) -> None:
    """Else who waits for an answer of mosd would wait for ever, if a message that nobody waits for noticed that it has gone."""
    with connected(tmp_path) as (link, server):
        assert not link.has_ended()
        server.accept()[0].close()
        NOTICE[notice](link)
        assert link.sock is None
        assert [link.has_ended(), link.has_ended()] == [True, False]


def test_all_that_mosd_said_before_its_end_counts(tmp_path: Path) -> None:
    """The kernel tells a reset first, when mosd ended without having read all we said."""
    with connected(tmp_path) as (link, server):
        with server.accept()[0] as theirs:
            link.send(Report(20, "something"))
            for n in range(2):
                theirs.send(encode(Command(n, "out", "")))
        assert [message.pid for message, _ in link.receive()] == [0, 1]
        assert link.sock is None and link.has_ended()


#: A tracer waits for a program that goes on only when its tracer has taken up a setting. Says how it ended, and what is left to do.
WAITS = """
import os, sys
from types import SimpleNamespace
from mosfs.home.tracer import Tracer
from mosfs.trace.task import Task
tracer = Tracer()
tracer.begin(0, 0, sys.argv[1])
assert tracer.mosd.control.connect()
reading, writing = os.pipe()
pid = os.fork()
if not pid:
    os._exit(len(os.read(reading, 10)))
tracer.controls.command = lambda message: os.write(writing, message.value.encode())
status = tracer.controls.wait_for(SimpleNamespace(task=Task(pid)))
print(os.waitstatus_to_exitcode(status), [message.name for message, _ in tracer.mosd.control.receive()])
"""


def test_a_setting_is_taken_up_while_its_tracer_waits(tmp_path: Path) -> None:
    """Moves wait for the end of the wait: they are in order still."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        with subprocess.Popen([sys.executable, "-c", WAITS, path], stdout=subprocess.PIPE, text=True) as tracer:
            mosd, _ = server.accept()
            with mosd:
                for number, (name, value) in enumerate((("migrate", ""), ("needmem", "123"), ("migrate", "10.0.0.1"))):
                    mosd.send(encode(Command(7, name, value, number)))
                assert tracer.communicate(timeout=60)[0] == "3 ['migrate', 'migrate']\n"
