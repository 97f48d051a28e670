"""The programs whose nodes are killed (`tests.outlive`): what each is, and what of its work can be told from outside.

A script of bash runs each in an empty folder; ``$A`` and ``$B`` stand before commands that outlive their nodes; natively they are
empty.
"""

from __future__ import annotations

import errno
import hashlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import communicate

PATIENCE = 240.0
#: How a program ends whose node is gone, at rest and on its way.
GONE = (b"mosrun: Lost communication with ", b"mosrun: Process killed while attempting to migrate from ")
PYTHON = "/usr/bin/python3 -IS"


@dataclass
class Outcome:
    """``status`` as Popen.returncode; ``late``: it had not ended when patience did."""

    status: int
    out: bytes
    err: bytes
    files: dict[str, bytes]
    late: bool = False

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], folder: Path) -> Outcome:
        late = False
        try:
            out, err = communicate(process, None, PATIENCE)
        except subprocess.TimeoutExpired:
            late = True
            process.kill()
            out, err = process.communicate()
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        return cls(process.returncode, out, err, files, late)


@dataclass(frozen=True)
class Program:
    """``files``: what is in its folder before. ``grows``: names of files that it only appends to. ``itself``: what it does is
    another thing each time; whether that has been one thing ("" or what is wrong). ``sound``: "" or what is wrong with what
    it has left at any moment. ``mosix``: natively it cannot run, so what is expected is what it does at home. ``several``: it is
    several processes, of which others go on when one is ended. ``lost``: with these errors of its calls it may be told, and fail,
    that what it had at the node is gone."""

    script: str
    files: Mapping[str, str] = field(default_factory=dict)
    grows: tuple[str, ...] = ("out",)
    itself: Callable[[Outcome], str] | None = None
    sound: Callable[[Path], str] | None = None
    mosix: bool = False
    several: bool = False
    lost: tuple[int, ...] = ()

    def prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, text in self.files.items():
            (folder / name).write_text(text)


def python(text: str, **more: object) -> Program:
    """One program of Python, in a.py."""
    return Program(f"exec $A {PYTHON} a.py", {"a.py": text}, **more)  # type: ignore[arg-type]


def consistent(found: Outcome) -> str:
    """Of "random": what it believes that it has written is what is there, each key once, and time has not gone back."""
    told, lines = found.out.split(), found.files["out"].splitlines()
    if found.status or found.err or len(told) != 2 or told[0] != hashlib.sha256(found.files["out"]).hexdigest().encode():
        return "the file is not what the program has written"
    numbers, keys, times = zip(*(line.split() for line in lines), strict=True)
    if int(told[1]) != len(lines) or [*map(int, numbers)] != [*range(len(lines))] or len({*keys}) != len(lines):
        return "a line is missing or was written twice"
    return "" if [*map(int, times)] == sorted(map(int, times)) else "time has gone back"


def whole_database(folder: Path) -> str:
    done = subprocess.run(["sqlite3", "db", "pragma integrity_check"], cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.stdout == "ok\n" else f"the database is damaged: {done.stdout}{done.stderr}"


COMPUTE = """
import errno
import hashlib
x = bytes(64)
for i in range(3000000):
    x = hashlib.sha256(x).digest()
print(x.hex())
"""

APPEND = """
import os, time
x = 1
fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(700):
    for _ in range(1500):
        x = (x * 1103515245 + 12345) % (1 << 31)
    os.write(fd, f"{i} {x}\\n".encode())
    time.sleep(0.008)
print("end", x)
"""

PIPE = """
import os, time, zlib
r, w = os.pipe()
total = 0
for i in range(800):
    os.write(w, str(i).encode() * 500)
    if i % 3 == 0:
        time.sleep(0.02)
    total = zlib.crc32(os.read(r, 65536), total)
print(total)
"""

RANDOM = """
import hashlib, os, random, time
written = hashlib.sha256()
keys = random.Random(os.urandom(16))
fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(500):
    key = os.urandom(8).hex() if i % 2 else f"{keys.getrandbits(64):016x}"
    line = f"{i} {key} {time.time_ns() if i % 2 else time.clock_gettime_ns(time.CLOCK_REALTIME)}\\n".encode()
    os.write(fd, line)
    written.update(line)
    time.sleep(0.003 + keys.random() / 100)
print(written.hexdigest(), 500)
"""

DATABASE = """
create table t(i integer primary key, x integer);
with recursive c(i) as (select 1 union all select i + 1 from c where i < 60000) insert into t select i, i * 7919 % 10007 from c;
create index x on t(x);
update t set x = x + 1 where i % 3 = 0;
delete from t where i % 7 = 0;
begin; insert into t select i + 100000, x from t where i % 5 = 0; commit;
update t set x = x * 3 % 10007 where i % 2 = 0;
with recursive c(i) as (select 1 union all select i + 1 from c where i < 1500000) select sum(i * 31 % 97) from c;
begin; delete from t where i % 11 = 0; update t set x = x + i % 5; commit;
select count(*), sum(x), max(x) from t;
"""

#: A C file that takes a compiler half a second, and the recipe of four.
PART = "\n".join(
    f"int f@_{i}(int x) {{ int s = {i}; for (int k = 0; k < x; k++) s += (s << 3) ^ (k * {i + 3}); switch (s & 7) "
    f"{{ case 0: return s + 1; case 1: return s * {i}; case 2: return s - x; default: return f@_{max(i - 1, 0)}(x / 2); }} }}"
    if i else "int f@_0(int x) { return x; }" for i in range(60)
) + "\n"  # fmt: skip
MAKEFILE = """
all: prog
\t@echo linked >>out
prog: m.o p0.o p1.o p2.o p3.o
\tgcc -o $@ $^
%.o: %.c
\tgcc -O2 -c -o $@ $<
\t@echo $@ >>out
"""

SHELL = """
i=0 x=1
while [ $i -lt 150 ]; do
    for ((j = 0; j < 60; j++)); do x=$(((x * 1103515245 + 12345) % 2147483648)); done
    echo "$i $x" >> out
    [ $((i % 15)) != 7 ] || echo "sum $(echo $x | cksum)" >> out
    read -rt 0.02 </dev/zero || :
    i=$((i + 1))
done
echo end $x
"""

SORT = """BEGIN {
    for (i = 0; i < 500000; i++) a[i] = x = (x * 1103515 + 12345) % 2147483648
    print "made" > "out"
    n = asort(a)
    for (i = 1; i <= n; i += 1000) print a[i]
    for (i = 0; i < 3000000; i++) { x = (x * 1103 + 12345) % 65536; if (i % 20000 == 0) print i, x > "out" }
    print n
}"""

#: Two programs that answer each other by two FIFOs; each notes what it was told.
TALK = """
import os, sys, time
name, begins = sys.argv[1], sys.argv[1] == "a"
inward, outward = (open("ba", "rb", 0), None) if not begins else (None, open("ba", "wb", 0))
outward = outward or open("ab", "wb", 0)
inward = inward or open("ab", "rb", 0)
notes = os.open("notes." + name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
x = 7
for i in range(400):
    if begins:
        outward.write(b"%08d" % x)
    told = inward.read(8)
    if len(told) != 8:
        sys.exit(f"{name}: the other one has ended")
    os.write(notes, told + b"\\n")
    x = (int(told) * 1103 + i + 12345) % 99999989
    for _ in range(2000):
        pass
    if not begins:
        outward.write(b"%08d" % x)
    time.sleep(0.005)
print(name, x)
"""

#: Parent and child by mailboxes (direct_communication(7)).
LETTERS = """
import os, time
def box():
    return os.open("/proc/mosix/mybox", os.O_RDWR | os.O_CREAT, 0)
def to(pid):
    return os.open(f"/proc/mosix/mbox/0.0.0.0/{pid}", os.O_WRONLY)
inward = box()
child = os.fork()
if not child:
    inward = box()
    parent = to(os.getppid())
    os.write(parent, b"ready")
    while word := os.read(inward, 4096):
        os.write(parent, b"%d" % (int(word) * 1103 % 99991))
    os._exit(0)
assert os.read(inward, 100) == b"ready"
other = to(child)
fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
x = 5
for i in range(300):
    os.write(other, b"%d" % (x + i))
    x = int(os.read(inward, 4096))
    os.write(fd, b"%d %d\\n" % (i, x))
    time.sleep(0.01)
os.write(other, b"")
print(os.waitpid(child, 0)[1])
"""

#: Signals that meet it while it computes, and in calls.
ALARMS = """
import os, signal, time
count, x = 0, 1
fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def rings(*_):
    global count
    if count == 60:
        return
    count += 1
    os.write(fd, b"%d\\n" % count)
    if count == 60:
        signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, rings)
signal.setitimer(signal.ITIMER_REAL, 0.07, 0.07)
while count < 60:
    for _ in range(20000):
        x = (x * 1103515245 + 12345) % (1 << 31)
    if count % 2:
        time.sleep(0.03)
print(count)
"""

PROGRAMS: dict[str, Program] = {
    "compute": python(COMPUTE),
    "append": python(APPEND),
    "pipe": python(PIPE),
    "random": python(RANDOM, itself=consistent),
    "database": Program("exec $A sqlite3 db <sql", {"sql": DATABASE}, (), sound=whole_database),
    "compile": Program("exec $A make -s", {
        "Makefile": MAKEFILE, "m.c": "int f0_59(int); int main(void) { return f0_59(9) == 12345; }\n",
        **{f"p{part}.c": PART.replace("@", str(part)) for part in range(4)},
    }, (), several=True),
    "shell": Program("exec $A bash a.sh", {"a.sh": SHELL}, (), several=True),
    "sort": Program("exec $A gawk -f a.awk", {"a.awk": SORT}),
    "talk": Program(
        f"mkfifo ab ba; $A {PYTHON} t.py a >a.txt & $B {PYTHON} t.py b >b.txt; s=$?; wait $! && exit $s",
        {"t.py": TALK}, ("notes.a", "notes.b"), several=True,
    ),
    "letters": python(LETTERS, mosix=True, several=True, lost=(errno.ENETUNREACH, errno.ECONNRESET, errno.EIO)),
    "alarms": python(ALARMS),
}  # fmt: skip


def beyond(program: Program, found: Outcome, expected: Outcome) -> list[str]:
    """The files that it only appends to and that are not the beginning of what they should be."""
    return [name for name in program.grows if not expected.files.get(name, b"").startswith(found.files.get(name, b""))]


def failures(program: Program) -> tuple[bytes, ...]:
    """How the last line of a program of Python begins that was ended by one of the errors which it may be told."""
    return tuple(f"{type(OSError(number, '')).__name__}: [Errno {number}]".encode() for number in program.lost)


def verdict(program: Program, found: Outcome, expected: Outcome, folder: Path) -> tuple[str, str]:
    """("equal", ""), ("message", what it said), or ("WRONG", why)."""
    if found.late:
        return "WRONG", "it hangs"
    if program.sound is not None and (damage := program.sound(folder)):
        return "WRONG", damage
    said = [line for line in found.err.splitlines() if line.startswith(GONE)]
    if said:
        if found.status == 0 and not program.several:
            return "WRONG", "it was ended by the loss of its node, and tells success"
        if program.itself is None and (torn := beyond(program, found, expected)):
            return "WRONG", f"{torn[0]} is not the beginning of what it should be"
        if not (program.several or expected.out.startswith(found.out)):
            return "WRONG", "what it printed is not the beginning of what it should be"
        return "message", said[0].decode(errors="replace")
    if found.status and (told := [line for line in found.err.splitlines() if line.startswith(failures(program))]):
        torn = beyond(program, found, expected)
        if torn or not expected.out.startswith(found.out):
            return "WRONG", f"{told[0]!r}, and not the beginning of what it should be: {torn}"
        return "message", told[0].decode(errors="replace")
    if program.itself is not None:
        wrong = program.itself(found)
        return ("WRONG", wrong) if wrong else ("equal", "")
    if (found.status, found.out, found.err) != (expected.status, expected.out, expected.err):
        return "WRONG", f"status {found.status}, {found.out[-200:]!r}, {found.err[-300:]!r}"
    differing = [name for name in found.files.keys() | expected.files.keys() if found.files.get(name) != expected.files.get(name)]
    return ("WRONG", f"other files: {differing}") if differing else ("equal", "")
