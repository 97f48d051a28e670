"""Ordinary Debian programs at home, away and in motion: same output, status and files as natively.

Every case runs in a directory of its own with the same inputs. A few run by default, and the whole table
with `make test-all`.
"""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.cluster import lab
from tests.progs import Outcome, Place, execute, scratch

NODES = 2
PAUSE = "0.05"
SHELL_WORDS = set("|&;<>$(){}*\n")


@dataclass(frozen=True)
class Case:
    """A row of CASES. ``command`` goes to bash if it has anything for a shell in it, else it is executed directly.

    ``status``: its exit status, natively too. ``quick``: it runs by default.
    """

    name: str
    command: str
    quick: bool = False
    stdin: str = ""
    status: int = 0

    @property
    def argv(self) -> list[str]:
        return ["bash", "-c", self.command] if SHELL_WORDS & set(self.command) else shlex.split(self.command)


CASES = (
    Case("cat", "cat words numbers", quick=True),
    Case("cat stdin", "cat - words -", stdin="from\nstandard input\n"),
    Case("head", "head -c 3000 noise"),
    Case("tail", "tail -n 20 words"),
    Case("wc", "wc words numbers noise"),
    Case("sort", "sort -k2,2 -k1,1n words", quick=True),
    Case("sort big", "sort -S 100K -T . --parallel=1 -o sorted words"),
    Case("uniq", "cut -d' ' -f2 words | sort | uniq -c"),
    Case("tr", "tr a-z A-Z < words > upper"),
    Case("od", "od -A x -t x1z noise"),
    Case("split", "split -b 7000 -d noise piece."),
    Case("sha256sum", "sha256sum words numbers noise", quick=True),
    Case("dd", "dd if=noise of=copy bs=777 status=none conv=notrunc seek=3"),
    Case("cp", "cp -a tree copied"),
    Case("mv and ln", """
        mv tree/a moved && ln moved/b/deep hard && ln -s moved soft
        ls -R soft/ && stat -c '%F %h %n' hard soft"""),
    Case("rm", "rm -r tree noise"),
    Case("ls", "ls -lR --time-style=+ tree"),
    Case("du", "du -a --apparent-size tree"),
    Case("touch", "touch -d @1000000000 words new && stat -c '%Y %n' words new"),
    Case("test", "test -d tree && test ! -e nosuch && test words -nt nosuch"),
    Case("false", "false", status=1),
    Case("missing file", "cat nosuchfile", status=1),
    Case("find", "find tree -type f -size -2k -name '*e*' -exec cksum {} +", quick=True),
    Case("xargs", "find tree -type f -print0 | sort -z | xargs -0 -n 1 wc -c"),
    Case("grep", "grep -rnc alpha words tree", quick=True),
    Case("sed", "sed -i.old -e 's/alpha/ALPHA/g' -e '/beta/d' words", quick=True),
    Case("awk", "awk '{ n[$2] += $1 } END { for (w in n) print w, n[w] | \"sort\" }' words", quick=True),
    Case("diff", """
        tac words > backwards
        diff words backwards > changes
        patch -o again words changes && cmp again backwards"""),
    Case("tar", """
        tar --sort=name --owner=0 --group=0 --mtime=@0 -cf t.tar tree
        mkdir x && tar -xf t.tar -C x && tar -tf t.tar""", quick=True),
    Case("tar gz", "tar --sort=name --owner=0 --group=0 --mtime=@0 -c tree noise | gzip -n > t.tgz && tar -tzf t.tgz"),
    Case("gzip", "gzip -kn9 noise words && gzip -dc words.gz | cmp - words", quick=True),
    Case("bzip2", "bzip2 -k words noise && bzip2 -t words.bz2"),
    Case("xz", "xz -k -T1 words noise && xz -dc noise.xz | cmp - noise"),
    Case("bash", """
        for i in $(seq 40); do (echo $((i * i)) | cat) & wait; done
        trap 'echo bye; exit 4' TERM; kill $$; sleep 9""", quick=True, status=4),
    Case("bash status", "exec 2> /dev/null; bash -c 'kill -SEGV $$'; echo $?; exit 77", status=77),
    Case("git", """
        git init -q -b main . && git add words tree && git commit -qm first
        echo more >> words && git commit -qam second
        git log --stat --format='%H %an %ad %s' && git fsck && git gc -q
        git show HEAD~1:words | cksum && git status -s""", quick=True),
    Case("make", """
        make -sC project CC=gcc && project/program 12
        make -C project --no-print-directory clean all > log""", quick=True),
    Case("perl", "perl -MDigest::MD5=md5_hex -ne '$h{$_}++; END { print md5_hex(join \"\", sort keys %h) }' words"),
    Case("python", """python3 -c '
import hashlib, json, subprocess, zlib
data = open("noise", "rb").read()
print(hashlib.sha1(zlib.compress(data)).hexdigest(), subprocess.run(["wc", "words"], capture_output=True).stdout)
print(json.dumps({"pi": sum((-1) ** k * 4 / (2 * k + 1) for k in range(50000))}))' """, quick=True),
    Case("sqlite3", """sqlite3 db '
        create table t(a integer primary key, b);
        with recursive c(x) as (values(1) union all select x + 1 from c where x < 5000)
            insert into t select x, hex(x * 7919) from c;
        create index i on t(b); select sum(a), max(b) from t;
        delete from t where a % 3; vacuum; pragma integrity_check;' """),
    Case("bc", "bc -l", stdin="""
        scale = 300\n4 * a(1)\n2 ^ 1000
        define f(n) { if (n < 2) return 1; return n * f(n - 1) }\nf(60)\n"""),
    Case("openssl", """
        openssl dgst -sha512 words noise
        openssl enc -aes-256-ctr -K 00 -iv 00 -in noise -out secret 2> /dev/null"""),
    Case("text tools", """
        cksum < noise; tee a b c < words | md5sum; paste a b | head -n 3
        join <(seq 5) <(seq 3 9); comm <(seq 5) <(seq 3 9)"""),
    Case("small tools", """
        date -u -d @1234567890 +%FT%T; printf '%s|' a b; expr 6 '*' 7; basename /x/y.c .c; seq -s, 9
        factor 360360"""),
    Case("env", "env -i A=1 sh -c 'echo $A; unset A; echo ${A-none}; umask; ulimit -c'"),
    Case("timeout", "exec 2> /dev/null; timeout 0.2 sleep 20; echo $?; timeout -s KILL 0.2 sleep 20; echo $?"),
)

CONSTANT = {
    "LC_ALL": "C", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0",
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1000000000 +0000",
    "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org", "GIT_COMMITTER_DATE": "1000000000 +0000",
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
    # Threads are no migrating program's.
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "pack.threads", "GIT_CONFIG_VALUE_0": "1",
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


def result(case: Case, place: Place, root: str = "") -> tuple[Outcome, dict[str, str]]:
    with scratch() as cwd:
        write_inputs(cwd)
        outcome = execute(
            place, case.argv, cwd=cwd, root=root, pause=PAUSE, stdin=case.stdin.encode(),
            environment={**CONSTANT, "HOME": str(cwd)},
        )
        return outcome, fingerprint(cwd)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the lab of this module is."""
    with lab(tmp_path_factory.mktemp("lab"), NODES) as nodes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", nodes.environ["PATH"])
        yield nodes.plan.root


Native = Callable[[Case], tuple[Outcome, dict[str, str]]]


@pytest.fixture(scope="module")
def natively() -> Native:
    """The result of a case natively; each is run once."""

    @cache
    def run(case: Case) -> tuple[Outcome, dict[str, str]]:
        if shutil.which(shlex.split(case.command)[0]) is None and case.argv[0] != "bash":
            pytest.skip(f"{case.argv[0]} is not installed")
        found = result(case, Place.NATIVE)
        assert found[0].status == case.status, found[0]
        return found

    return run


CHOSEN = [pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.long) for case in CASES]


@pytest.mark.parametrize("place", [Place.HOME, Place.AWAY, Place.MOTION])
@pytest.mark.parametrize("case", CHOSEN)
def test_gives_the_same(case: Case, place: Place, root: str, natively: Native) -> None:
    native, native_files = natively(case)
    outcome, files = result(case, place, root)
    assert outcome.difference(native) == ""
    assert outcome.stderr == native.stderr
    assert files == native_files


@pytest.mark.parametrize("case", CHOSEN)
def test_gives_the_same_twice_natively(case: Case, natively: Native) -> None:
    """The table itself: a case whose results differ from run to run proves nothing."""
    native, native_files = natively(case)
    again, files = result(case, Place.NATIVE)
    assert again.difference(native) == ""
    assert (again.stderr, files) == (native.stderr, native_files)
