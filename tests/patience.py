"""How long a test waits for what may hang: by seconds that the waiting processes had, not by those of a clock on the wall."""

from __future__ import annotations

import os
import subprocess
import time


def share(text: str, processors: int) -> float:
    """Of a second, how much each task gets that wants a processor now: ``text`` is that of /proc/loadavg (proc_loadavg(5))."""
    return min(1.0, processors / max(1, int(text.split()[3].partition("/")[0])))


class Patience:
    """So many ``seconds``. One in which many wait for processors counts only as what each of them gets: on a busy machine nothing
    is late for that."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self._processors = len(os.sched_getaffinity(0))
        self._looked = time.monotonic()

    @property
    def step(self) -> float:
        """Seconds until it should be asked again whether it is :meth:`over`."""
        return min(1.0, self.left)

    def over(self) -> bool:
        now = time.monotonic()
        with open("/proc/loadavg", encoding="ascii") as file:
            self.left -= (now - self._looked) * share(file.read(), self._processors)
        self._looked = now
        return self.left < 0.01


def communicate(child: subprocess.Popen[bytes], stdin: bytes | None, timeout: float) -> tuple[bytes, bytes]:
    """As Popen.communicate, but patient. subprocess.TimeoutExpired."""
    patience = Patience(timeout)
    while True:
        try:
            return child.communicate(stdin, patience.step)
        except subprocess.TimeoutExpired:
            if patience.over():
                raise
        stdin = None  # it is being written already
