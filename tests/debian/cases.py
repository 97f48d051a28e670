"""A row of the tables: a command with deterministic input, and what it needs."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass

SHELL_WORDS = set("|&;<>$(){}*\n")


@dataclass(frozen=True)
class Case:
    """``command`` goes to bash if it has anything for a shell in it, else it is executed directly.

    ``packages``: the Debian packages that are not in every installation, separated by blanks; ``programs``: what of
    them must be there (default: the packages' names). ``status``: the exit status, natively too. ``quick``: it runs by
    default. ``flags``: options of mosrun, where a program falls back to something else than threads or shared memory.
    """

    name: str
    command: str
    packages: str = ""
    programs: str = ""
    quick: bool = False
    stdin: str = ""
    status: int = 0
    flags: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        return ["bash", "-c", self.command] if SHELL_WORDS & set(self.command) else shlex.split(self.command)

    def lacking(self) -> str:
        """Why it cannot run here: "" or one line."""
        programs = (self.programs or self.packages).split()
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            return f"{' '.join(missing)}: not installed (apt-get install {self.packages or missing[0]})"
        return ""
