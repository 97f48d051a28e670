"""A row of the tables: a command with deterministic input, and what it needs."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

SHELL_WORDS = set("|&;<>$(){}*\n")


@dataclass(frozen=True)
class Case:
    """``command`` goes to bash if it has anything for a shell in it, else it is executed directly.

    ``packages``: the Debian packages that are not in every installation, separated by blanks; ``programs``: what of
    them must be there (default: the packages' names). ``status``: the exit status, natively too. ``quick``: it runs by
    default. ``flags``: options of mosrun. ``moves``: it has threads or shares memory, and runs so long that it must
    have moved when it was in motion; ``stays``: what its moves fail with, one or the other, because it is not able to leave home.
    """

    name: str
    command: str
    packages: str = ""
    programs: str = ""
    quick: bool = False
    stdin: str = ""
    status: int = 0
    flags: tuple[str, ...] = ()
    moves: bool = False
    stays: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        return ["bash", "-c", self.command] if SHELL_WORDS & set(self.command) else shlex.split(self.command)

    def unmoved(self, moves: int, reasons: Iterable[str]) -> str:
        """Why a run in motion with so many moves, and others that failed for these ``reasons``, proves nothing; or ""."""
        if self.moves and not moves:
            return "it has never moved"
        if self.stays and not any(why in reason for why in self.stays for reason in reasons):
            return f"nobody was told why it stays: {' or '.join(self.stays)}"
        return ""

    def lacking(self) -> str:
        """Why it cannot run here: "" or one line."""
        programs = (self.programs or self.packages).split()
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            return f"{' '.join(missing)}: not installed (apt-get install {self.packages or missing[0]})"
        return ""
