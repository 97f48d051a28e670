"""The programs of the demo and their inputs, which are the same on every machine."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1 << 20

#: A skewed alphabet: random bytes become something with the redundancy of text.
LETTERS = bytes((b"etaoinshrdlu \n" * 2 + b"ET AO.,bcfgjkmpqvwxyz0123456789" * 3)[n % 120] for n in range(256))


def text(megabytes: int, seed: int) -> Iterator[bytes]:
    for block in range(megabytes):
        yield random.Random(seed * 1000003 + block).randbytes(MB).translate(LETTERS)


def write_text(path: Path, megabytes: int, seed: int) -> None:
    with path.open("wb") as file:
        file.writelines(text(megabytes, seed))


def bzip2_input(work: Path, scale: float) -> None:
    write_text(work / "big.txt", int(100 * scale), 1)


def xz_input(work: Path, scale: float) -> None:
    write_text(work / "data.txt", int(8 * scale), 2)


def gzip_input(work: Path, scale: float) -> None:
    with gzip.GzipFile(work / "big.txt.gz", "wb", compresslevel=1, mtime=0) as file:
        for block in text(int(150 * scale), 3):
            file.write(block)


def lines_input(work: Path, scale: float) -> None:
    pick = random.Random(4)
    with (work / "lines.txt").open("w") as file:
        file.writelines(f"{pick.getrandbits(48)} line {number}\n" for number in range(int(1_000_000 * scale)))


PYTHON_PROGRAM = '''
import csv, decimal, email.message, fractions, hashlib, itertools, json, os, sqlite3, statistics
import subprocess, sys, tempfile, xml.dom.minidom, zlib

decimal.getcontext().prec = 60
total = decimal.Decimal(0)
digest = hashlib.sha256()
with tempfile.TemporaryDirectory() as folder:
    for step in range(int(sys.argv[1])):
        name = os.path.join(folder, f"part{step % 7}")
        with open(name, "w") as file:
            json.dump({"step": step, "squares": [n * n for n in range(2000)]}, file)
        with open(name) as file:
            data = json.load(file)
        digest.update(zlib.compress(repr(sorted(data["squares"], key=str)).encode()))
        total += decimal.Decimal(step).sqrt()
        if step % 50 == 0:
            answer = subprocess.run(["expr", str(step), "+", "1"], capture_output=True, text=True)
            print(step, total, answer.stdout.strip(), flush=True)
    with open("result.csv", "w", newline="") as file:
        csv.writer(file).writerows([number, str(fractions.Fraction(1, number + 1))] for number in range(1000))
print(digest.hexdigest(), total)
'''

C_PART = '''
#include <math.h>
#include <stdio.h>
#include <string.h>
static double table_{n}[512];
double part_{n}(int rounds)
{{
    double sum = {n}.0;
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < 512; i++) {{
            table_{n}[i] = table_{n}[i] * 0.5 + sin(i * {n}.25 + r);
            sum += table_{n}[i] * cos(sum);
        }}
    return sum;
}}
'''

C_MAIN = '''
#include <stdio.h>
{declarations}
int main(void)
{{
    double sum = 0;
{calls}
    printf("%.17g\\n", sum);
    return 0;
}}
'''

MAKEFILE = '''
CFLAGS = -O2 -Wall
OBJECTS = main.o {objects}
result.txt: program
\t./program > result.txt
program: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS) -lm
clean:
\trm -f program $(OBJECTS)
'''


def python_input(work: Path, scale: float) -> None:
    (work / "program.py").write_text(PYTHON_PROGRAM)


def make_input(work: Path, scale: float) -> None:
    numbers = range(1, int(40 * scale) + 3)
    for n in numbers:
        (work / f"part{n}.c").write_text(C_PART.format(n=n))
    declarations = "\n".join(f"double part_{n}(int);" for n in numbers)
    calls = "\n".join(f"    sum += part_{n}(300);" for n in numbers)
    (work / "main.c").write_text(C_MAIN.format(declarations=declarations, calls=calls))
    (work / "Makefile").write_text(MAKEFILE.format(objects=" ".join(f"part{n}.o" for n in numbers)))


BASH_PROGRAM = '''
trap 'echo "signal seen" >> signals.txt' USR1
trap 'echo "bye, status $?"' EXIT
total=0
for i in $(seq "$1"); do
    value=$(expr "$i" '*' 3)
    total=$((total + value))
    (echo "child $i" | tr a-z A-Z >> children.txt) &
    wait $!
    [ $((i % 20)) = 0 ] && kill -USR1 $$ && sleep 0.05
done
seq 5000 | sort -r | head -100 | while read -r n; do echo "$((n * 2))"; done | md5sum
diff <(seq 10) <(seq 9)
echo "total $total, children $(wc -l < children.txt), signals $(wc -l < signals.txt)"
exit 3
'''


def bash_input(work: Path, scale: float) -> None:
    (work / "script.bash").write_text(BASH_PROGRAM)


SQL_PROGRAM = '''
create table item(id integer primary key, name text, value real);
create index by_name on item(name);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into item select i, 'name ' || (i * 7919 % 10007), i * 0.5 from n;
commit;
select count(*), sum(value), count(distinct name) from item;
update item set value = value * 2 where id % 3 = 0;
delete from item where id % 7 = 0;
select name, count(*), sum(value) from item group by name order by 3 desc, 1 limit 20;
vacuum;
pragma integrity_check;
'''


def sql_input(work: Path, scale: float) -> None:
    (work / "program.sql").write_text(SQL_PROGRAM.format(rows=int(400_000 * scale)))


AWK_PROGRAM = '''
{ for (i = 1; i <= NF; i++) count[length($i) ":" substr($i, 1, 1)]++ }
END { for (key in count) print count[key], key | "sort -k1,1nr -k2"; close("sort -k1,1nr -k2"); print NR }
'''


def awk_input(work: Path, scale: float) -> None:
    write_text(work / "words.txt", int(100 * scale), 5)
    (work / "program.awk").write_text(AWK_PROGRAM)


@dataclass(frozen=True)
class Case:
    """A program: its inputs, written to a directory, and its command, in which ``{n}`` becomes ``size * scale``."""

    name: str
    prepare: Callable[[Path, float], None]
    command: Sequence[str]
    size: int = 0


CASES = (
    Case("bzip2", bzip2_input, ("bzip2", "-k", "big.txt")),
    Case("xz", xz_input, ("xz", "-T1", "-k", "data.txt")),
    Case("gzip -d", gzip_input, ("gzip", "-d", "big.txt.gz")),
    Case("python3", python_input, ("python3", "program.py", "{n}"), 2000),
    Case("make", make_input, ("make", "-s")),
    Case("bash", bash_input, ("bash", "script.bash", "{n}"), 200),
    Case("sqlite3", sql_input, ("sqlite3", "-init", "/dev/null", "data.db", ".read program.sql")),
    Case("sort", lines_input, ("sort", "--parallel=1", "-n", "-S", "16M", "-T", ".", "-o", "sorted.txt", "lines.txt")),
    Case("awk", awk_input, ("awk", "-f", "program.awk", "words.txt")),
)
