"""How a row is run: in a directory of its own with the same inputs, at one place, everything it leaves noted."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.debian.cases import Case
from tests.progs import TIMEOUT, Outcome, Place, execute, scratch

PAUSE = "0.05"
CONSTANT = {
    "LC_ALL": "C", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1000000000 +0000",
    "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org", "GIT_COMMITTER_DATE": "1000000000 +0000",
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    # Threads are no migrating program's.
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "pack.threads", "GIT_CONFIG_VALUE_0": "1",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
}
#: Holds times and inode numbers.
VARIABLE = {".git/index"}

MAKEFILE = """\
all: program
program: main.o a.o b.o c.o
\t$(CC) -o $@ $^
%.o: %.c all.h
\t$(CC) -O1 -c -o $@ $<
clean:
\trm -f *.o program
"""
MAIN = '#include "all.h"\nint main(int argc, char **argv) { int n = argc > 1 ? atoi(argv[1]) : 1;\n' \
    'printf("%d %d %d\\n", a(n), b(n), c(n)); return 0; }\n'


def write_inputs(folder: Path) -> None:
    """The same files for every run: text, numbers, noise, a tree, and a small C project."""
    chance = random.Random(4)
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    lines = (f"{chance.randrange(1000)} {chance.choice(names)} line {i}\n" for i in range(4000))
    (folder / "words").write_text("".join(lines))
    (folder / "numbers").write_text("".join(f"{i * i}\n" for i in range(1000)))
    (folder / "noise").write_bytes(chance.randbytes(100_000))
    (folder / "tree/a/b").mkdir(parents=True)
    (folder / "tree/empty").mkdir()
    for i in range(30):
        (folder / "tree" / f"file{i:02}").write_bytes(chance.randbytes(i * 100))
    (folder / "tree/a/b/deep").write_text("alpha at the bottom\n")
    (folder / "tree/link").symlink_to("a/b/deep")
    project = folder / "project"
    project.mkdir()
    (project / "Makefile").write_text(MAKEFILE)
    (project / "all.h").write_text("#include <stdio.h>\n#include <stdlib.h>\nint a(int), b(int), c(int);\n")
    (project / "main.c").write_text(MAIN)
    for number, name in enumerate("abc"):
        body = f"for (int i = 0; i < n; i++) s += i * {number + 2};"
        (project / f"{name}.c").write_text(f'#include "all.h"\nint {name}(int n) {{ int s = 0; {body} return s; }}\n')


def fingerprint(folder: Path) -> dict[str, str]:
    """What is in ``folder``: relative path to kind, permissions and contents' hash."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, mode = str(path.relative_to(folder)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[name] = f"-> {os.readlink(path)}"
        elif stat.S_ISDIR(mode):
            found[name] = f"{stat.S_IMODE(mode):o} directory"
        elif name not in VARIABLE:
            found[name] = f"{stat.S_IMODE(mode):o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


@dataclass(frozen=True)
class Result:
    """An outcome and what the directory held then."""

    outcome: Outcome
    files: Mapping[str, str] = field(default_factory=dict)

    def difference(self, native: Result) -> str:
        """Why this is not what ``native`` was; "" if it is."""
        found = [text] if (text := self.outcome.difference(native.outcome)) else []
        if self.outcome.stderr != native.outcome.stderr and "stderr" not in "".join(found):
            found.append(f"stderr {self.outcome.stderr[-600:]!r}, natively {native.outcome.stderr[-600:]!r}")
        changed = {name for name in {*self.files, *native.files} if self.files.get(name) != native.files.get(name)}
        if changed:
            found.append(f"other files: {' '.join(sorted(changed)[:10])}")
        return "; ".join(found)


def run(case: Case, place: Place, *, root: str = "", pause: str = PAUSE, timeout: float = TIMEOUT) -> Result:
    """One run of ``case`` at ``place`` of the lab below ``root`` ("": moslab's default lab)."""
    flags = case.flags if place is not Place.NATIVE else ()
    with scratch() as cwd:
        write_inputs(cwd)
        outcome = execute(
            place, [*flags, *case.argv], cwd=cwd, root=root, pause=pause, stdin=case.stdin.encode(), timeout=timeout,
            environment={**CONSTANT, "HOME": str(cwd)},
        )
        return Result(outcome, fingerprint(cwd))


@dataclass
class Ratios:
    """Seconds that rows took, by place: the table of run times compared with native runs."""

    seconds: dict[str, dict[Place, float]] = field(default_factory=dict)
    moves: dict[str, int] = field(default_factory=dict)

    def note(self, case: Case, place: Place, outcome: Outcome) -> None:
        self.seconds.setdefault(case.name, {})[place] = outcome.seconds
        if place is Place.MOTION:
            self.moves[case.name] = outcome.moves

    def lines(self) -> list[str]:
        """A title, and a line a row: seconds natively, then how many times as long at each other place."""
        others = [place for place in Place if place is not Place.NATIVE]
        titles = "".join(f"{place:>9}" for place in others)
        found = [f"{'program':24} {'native':>8}{titles}{'moves':>8}"]
        for name, took in self.seconds.items():
            native = took.get(Place.NATIVE)
            if native is None or len(took) == 1:
                continue
            cells = "".join(f"{f'x{took[p] / native:.1f}' if p in took else '-':>9}" for p in others)
            found.append(f"{name:24} {native:6.2f} s{cells}{self.moves.get(name, ''):>8}")
        return found if len(found) > 1 else []


#: Of this session.
RATIOS = Ratios()
