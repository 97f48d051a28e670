"""The link of a tracer or host to the mosd of its node (`wire.control`), with what both of them say over it in the same way."""

from __future__ import annotations

import os

from mosfs.cluster.log import complain
from mosfs.wire.control import ControlLink
from mosfs.wire.messages import Report

#: Level of an ordinary line of the log (logging.INFO).
INFO = 20


class MosdLink(ControlLink):
    """``who`` we are, for lines that mosd cannot take."""

    def __init__(self, path: str, who: str) -> None:
        super().__init__(path)
        self.who = who

    def log(self, line: str, level: int = INFO) -> None:
        """A line for mosd's log; on standard error when mosd is not there."""
        if not self.send(Report(level, line)):
            complain(f"{self.who} {os.getpid()}: {line}")
