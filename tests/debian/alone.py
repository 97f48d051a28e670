"""Ordinary Debian programs that compute alone for seconds: what is saved, ended and recovered again and again.

    python -m tests.debian.alone [NAME...]      one line each, for the lab that is up

A checkpoint is of one process, without pipes (mosrun(1), CHECKPOINTS), so no shell is among them, nor what
has pipes (xz).
"""

from __future__ import annotations

import argparse
import glob
import os
import random
import sys
from pathlib import Path

from tests.conftest import default_signals
from tests.debian.cases import Case
from tests.debian.compare import CONSTANT, Result, fingerprint
from tests.progs import TIMEOUT, Place, execute, scratch

#: How often each goes on from a checkpoint, and seconds between two of them in the mean.
TIMES, EVERY = 3, "0.1"
SUM = "my $s = 0; for my $i (1 .. 30000000) { $s = ($s * 31 + $i) % 1000003 } print \"$s\\n\""
AWK = "BEGIN { for (i = 0; i < 18000000; i++) s = (s * 31 + i) % 1000003; print s }"

#: A program without pipes, threads or children: the compiler itself, not its driver.
COMPILER = max(glob.glob("/usr/lib/gcc/x86_64-linux-gnu/*/cc1"), default="cc1")

CASES = (
    Case("sort", "sort --parallel=1 -S 1M -T . -k2,2r -o sorted" + 12 * " big"),
    Case("sort with threads", "sort --parallel=4 -S 30M -T . -k2,2r -k1,1n -o sorted huge"),
    Case("zstd", "zstd -q -T3 -B200K -15 blob -o blob.zst", "zstd"),
    Case("pbzip2", "pbzip2 -q -k -p3 -b1 huge", "pbzip2"),
    Case("gzip", "gzip -kn9 blob"),
    Case("bzip2", "bzip2 -k9 blob"),
    Case("lz4", "lz4 -q -11 -BD blob blob.lz4", "lz4"),
    Case("zip", "zip -qX9 blob.zip blob", "zip"),
    Case("sha512sum", "sha512sum" + 24 * " huge"),
    Case("md5sum", "md5sum" + 27 * " huge"),
    Case("sha1sum", "sha1sum" + 32 * " huge"),
    Case("b2sum", "b2sum" + 40 * " huge"),
    Case("cksum", "cksum -a crc" + 240 * " huge"),
    Case("openssl", "openssl dgst -sha3-256" + 18 * " huge"),
    Case("gawk", f"gawk '{AWK}'", "gawk"),
    Case("mawk", f"mawk '{AWK}'", "mawk"),
    Case("original-awk", f"original-awk '{AWK}'", "original-awk"),
    Case("perl", f"perl -e '{SUM}'"),
    Case("python", "python3 alone.py"),
    Case("lua", "lua5.4 -e 'local s = 0 for i = 1, 150000000 do s = (s * 31 + i) % 1000003 end print(s)'", "lua5.4"),
    Case("tcl", "tclsh alone.tcl", "tcl", "tclsh"),
    Case("php", "php -n -r '$s = 0; for ($i = 0; $i < 140000000; $i++) $s = ($s * 31 + $i) % 1000003; echo $s;'", "php-cli", "php"),
    Case("gforth", "gforth -e ': t 0 250000000 0 do 31 * i + 1000003 mod loop . ; t cr bye'", "gforth"),
    Case("bc", "bc -lq alone.bc", "bc"),
    Case("dc", "dc -e '[la1+dsa*pla7000>y]sy 0sa 1 lyx'", "dc"),
    Case("sqlite3", "sqlite3 db '.read alone.sql'", "sqlite3"),
    Case("jq", "jq -n 'reduce range(2500000) as $i (0; (. * 31 + $i) % 1000003)'", "jq"),
    Case("m4", "m4 alone.m4", "m4"),
    Case("factor", "factor 1402963462062740476560341181839 5339046423641406569637966655399 20817115948167960746414238416437"),
    Case("seq", "seq -f %.12g 6000000"),
    Case("shuf", "shuf --random-source=huge -o shuffled -i 1-9000000"),
    Case("tac", "tac -r -s '[0-4]+ [a-z]' big"),
    Case("od", "od -An -N 2500000 -t fL noise"),
    Case("hexdump", "hexdump -C noise", "bsdextrautils", "hexdump"),
    Case("sed", "sed -E -e 's/([0-9])([a-z]*)([0-9])/\\3\\2\\1/g' big big big"),
    Case("grep", "grep -Ecw -m 4000 '(.)(.).*\\2\\1' big"),
    Case("pari", "gp -q -f -D nbthreads=1 alone.gp", "pari-gp", "gp"),
    Case("minisat", "minisat -verb=0 f.cnf out", "minisat", status=20),
    Case("cadical", "cadical -q f.cnf", "cadical", status=20),
    Case("ghostscript", "gs -q -dNOSAFER -dBATCH -dNOPAUSE -sDEVICE=ppmraw -r700 -sOutputFile=page.ppm alone.ps",
         "ghostscript", "gs"),
    Case("gcc", f"{COMPILER} -quiet -O2 alone.c -o alone.s", "gcc", COMPILER),
    Case("ocaml", "ocaml alone.ml", "ocaml-nox", "ocaml"),
    Case("R", "R --vanilla -q -s -f alone.R", "r-base-core", "R"),
    Case("prolog", "swipl -q --no-tty --no-threads -g main,halt alone.pl", "swi-prolog-nox", "swipl"),
    Case("vim", "vim -u NONE -i NONE -n -es -S alone.vim words", "vim"),
    Case("xml", "xmllint --format --output out.xml alone.xml", "libxml2-utils", "xmllint"),
    Case("imagemagick", "convert -limit thread 1 -seed 1 plasma: -resize 1500x1500 -blur 0x12 out.ppm", "imagemagick", "convert"),
)
BY_NAME = {case.name: case for case in CASES}

FILES = {
    "alone.py": """
import hashlib, zlib
s, found = 0, {}
for i in range(5000000):
    s = (s * 31 + i) % 1000003
    found[s % 5000] = i
print(s, hashlib.sha1(repr(sorted(found.items())).encode()).hexdigest(), zlib.crc32(open("huge", "rb").read()))
""",
    "alone.tcl": "set s 0\nfor {set i 0} {$i < 4000000} {incr i} {set s [expr {($s * 31 + $i) % 1000003}]}\nputs $s\n",
    "alone.bc": "scale = 2000\n4 * a(1)\n2 ^ 3000\nquit\n",
    "alone.sql": """create table t(a integer primary key, b);
with recursive c(x) as (values(1) union all select x + 1 from c where x < 800000) insert into t select x, hex(x * 7919) from c;
create index i on t(b); select sum(a), max(b) from t; delete from t where a % 3; pragma integrity_check;
""",
    "alone.m4": "define(`f', `ifelse(eval($1 < 2), 1, $1, `eval(f(eval($1 - 1)) + f(eval($1 - 2)))')')f(28)\n",
    "alone.gp": "s = 0; for(i = 1, 12000000, s = (s * 31 + i) % 1000003); print(s)\nprint(factor(2^173-1))\nquit\n",
    "alone.ps": """%!PS
/Times-Roman findfont 40 scalefont setfont 72 400 moveto (Alone) show
1 1 400 { dup 8 mul 100 moveto 20 0 rlineto } for stroke showpage
""" + "0 0 moveto 500 500 lineto stroke showpage\n" * 6,
    "alone.R": """set.seed(1)
x <- rnorm(300000)
y <- sort(x)
print(sum(y * rev(x)))
s <- 0
for (i in 1:8000000) s <- (s * 31 + i) %% 1000003
print(s)
""",
    "alone.pl": "step(I, S, S) :- I > 5000000, !.\nstep(I, S, R) :- T is (S * 31 + I) mod 1000003, J is I + 1, step(J, T, R).\n"
                "main :- step(0, 0, R), writeln(R).\n",
    "alone.c": "".join(
        f"int f{n}(int *a, int k) {{ int s = 0; for (int i = 0; i < k; i++) {{ if (a[i] & {n}) s += a[i] * k / (i + {n}); "
        f"else for (int j = i; j < k; j += {n % 7 + 1}) a[j] ^= s << (i & 7); }} return s; }}\n" for n in range(1, 160)
    ),
    "alone.ml": """module M = Map.Make(String)
let () = let m = ref M.empty in
  for i = 1 to 300000 do m := M.add (string_of_int (i * 7919 mod 100003)) i !m done;
  Printf.printf "%d %d\\n" (M.cardinal !m) (M.fold (fun _ v s -> (s * 31 + v) mod 1000003) !m 0)
""",
    "alone.vim": "%s/alpha/ALPHA/g\ng/beta/m0\nsort n\nwq\n",
}  # fmt: skip


def write_inputs(folder: Path) -> None:
    """What the rows work on; large enough for a second."""
    chance = random.Random(4)
    names = ["alpha", "beta", "gamma", "delta", "epsilon"]
    lines = [f"{chance.randrange(10**9)} {chance.choice(names)} line {i}\n" for i in range(150_000)]
    (folder / "big").write_text("".join(lines))
    (folder / "noise").write_bytes(chance.randbytes(6_000_000))
    (folder / "words").write_text("".join(lines[:60_000]))
    (folder / "blob").write_bytes(4 * ("".join(lines).encode()[:3_000_000] + chance.randbytes(1_500_000)))
    with open(folder / "huge", "wb") as huge:
        for _ in range(3):
            huge.write((folder / "noise").read_bytes() + b"\n" + (folder / "big").read_bytes())
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "alone.xml").write_text("<r>" + "".join(f"<n a='{i}'><m>{i * i}</m></n>" for i in range(700_000)) + "</r>\n")
    holes = 9
    clauses = [" ".join(str(p * holes + h + 1) for h in range(holes)) + " 0" for p in range(holes + 1)]
    clauses += [f"-{p * holes + h + 1} -{q * holes + h + 1} 0" for h in range(holes) for p in range(holes + 1) for q in range(p)]
    (folder / "f.cnf").write_text("\n".join([f"p cnf {holes * (holes + 1)} {len(clauses)}", *clauses, ""]))
    for path in folder.iterdir():
        os.utime(path, (10**9, 10**9))


def run(case: Case, place: Place, *, root: str = "", timeout: float = TIMEOUT, every: str = EVERY) -> Result:
    """One run of ``case``, in a directory of its own."""
    flags = case.flags if place is not Place.NATIVE else ()
    with scratch() as cwd:
        write_inputs(cwd)
        outcome = execute(
            place, [*flags, *case.argv], cwd=cwd, root=root, pause=every, timeout=timeout,
            environment={**CONSTANT, "HOME": str(cwd)},
        )
        return Result(outcome, fingerprint(cwd))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.debian.alone", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", help="rows (default: all)")
    parser.add_argument("-p", "--place", default=Place.SAVED, type=Place, help="saved, home, away, motion, frozen")
    parser.add_argument("--root", default="", help="the lab (default: moslab's)")
    parser.add_argument("--every", default=EVERY, help="seconds between two checkpoints, in the mean")
    options = parser.parse_intermixed_args()
    default_signals()
    failures, enough = 0, 0
    for case in [BY_NAME[name] for name in options.name] or CASES:
        if lacking := case.lacking():
            print(f"skip {case.name:18} {lacking}", flush=True)
            continue
        native = run(case, Place.NATIVE)
        wrong = ""
        if native.outcome.status != case.status:
            wrong = f"natively status {native.outcome.status}: {native.outcome.stderr[-300:]}"
        again = run(case, options.place, root=options.root, every=options.every)
        wrong = wrong or again.difference(native)
        outcome = again.outcome
        count = outcome.recoveries if options.place is Place.SAVED else outcome.moves + outcome.frozen
        refused = "".join(f", {number} x {reason}" for reason, number in outcome.reasons.items())
        seconds = f"{native.outcome.seconds:6.2f} s, {options.place} {outcome.seconds:6.2f} s"
        print(f"{'FAIL' if wrong else 'ok':4} {case.name:18} {seconds}, {count} times{refused}", wrong, flush=True)
        failures += bool(wrong)
        enough += not wrong and count >= TIMES
    print(f"{enough} programs went on {TIMES} times or more and gave the same; {failures} did not give the same", flush=True)
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
