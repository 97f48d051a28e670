"""The control link of tracers and hosts: its end is told of once, whoever notices it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mosfs.wire.control import ControlLink
from mosfs.wire.messages import Report

NOTICE: dict[str, Callable[[ControlLink], object]] = {
    "receiving": lambda link: link.receive(),
    "sending": lambda link: link.send(Report(20, "something")),
}


@pytest.mark.parametrize("notice", NOTICE)
def test_an_end_is_told_of_once(tmp_path: Path, notice: str) -> None:
    """Else who waits for an answer of mosd would wait for ever, if a message that nobody waits for noticed that it has gone."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        link = ControlLink(path)
        assert link.connect()
        assert not link.has_ended()
        server.accept()[0].close()
        NOTICE[notice](link)
        assert link.sock is None
        assert [link.has_ended(), link.has_ended()] == [True, False]
