"""Data bases, mathematics, sequences, pictures: programs that compute long, which are those worth moving."""

# ruff: noqa: E501 - the scripts are as their languages have them
from __future__ import annotations

from tests.debian.cases import Case

#: Satisfiable or not, a formula that takes a solver a moment: pigeons and random 3-SAT, in DIMACS.
FORMULA = r"""python3 -c '
import random
r = random.Random(7); n, m = 120, 500
print("p cnf", n, m)
for _ in range(m): print(*[v * r.choice((1, -1)) for v in r.sample(range(1, n + 1), 3)], 0)' > f.cnf"""

SEQUENCES = r"""python3 -c '
import random
r = random.Random(3); base = "".join(r.choice("ACGT") for _ in range(3000))
open("ref.fa", "w").write(">ref\n" + base + "\n")
with open("reads.fq", "w") as q, open("some.fa", "w") as f:
    for i in range(200):
        at = r.randrange(2900); s = list(base[at:at + 80]); s[r.randrange(80)] = r.choice("ACGT"); s = "".join(s)
        q.write(f"@r{i}\n{s}\n+\n" + "I" * 80 + "\n")
    for i in range(12):
        s = list(base[100:340])
        for _ in range(20): s[r.randrange(len(s))] = r.choice("ACGT")
        f.write(f">s{i}\n" + "".join(s) + "\n")'"""

CASES = (
    Case("sqlite3 wide", """sqlite3 db 'pragma journal_mode=delete; create table t(a integer primary key, b text, c real);
        begin; with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i, hex(i * 7919), i / 3.0 from n; commit;
        create index i on t(b); select count(*), sum(c), max(b) from t where b like "1%"; begin; delete from t where a % 2; rollback;
        update t set b = upper(b) || "x" where a % 5 = 0; select avg(length(b)) from t; .dump t' | cksum
        (sqlite3 db "begin exclusive; select 1;" ".shell sleep 0.3" "commit" & sleep 0.1; sqlite3 -cmd ".timeout 5000" db "insert into t values(0, 1, 2)"; wait)
        sqlite3 db 'vacuum; pragma integrity_check; select count(*) from t'; rm db""", "sqlite3", quick=True),
    Case("bc pi", "bc -l", "bc", stdin="scale = 600; 4 * a(1)\ndefine f(n) { if (n < 2) return n; return f(n - 1) + f(n - 2) }\nf(17)\n"),
    Case("dc", "dc", "dc", stdin="[la1+dsa*pla25>y]sy 0sa 1 lyx 2 1000 ^ p 100 k 2 v p\n"),
    Case("R", """R --vanilla -q -s -e 'set.seed(1); x <- rnorm(5000); y <- 2 * x + rnorm(5000); print(coef(lm(y ~ x))); print(summary(x))
        m <- matrix(runif(10000), 100); print(sum(svd(m)$d)); print(system("echo sub", intern = TRUE)); write.csv(head(mtcars), "m.csv")' """,
         "r-base-core", "R"),
    Case("scipy", """/usr/bin/python3 -c '
import numpy as np, scipy.linalg as la, scipy.optimize as so, scipy.sparse as sp, scipy.sparse.linalg as sl
r = np.random.default_rng(5); a = r.random((300, 300)); print(np.linalg.eigvalsh(a + a.T)[:3].round(8), la.lu(a)[2].trace().round(8))
print(so.minimize(so.rosen, np.zeros(6)).x.round(4)); m = sp.random(2000, 2000, 0.002, random_state=3) + sp.eye(2000) * 5
print(sl.spsolve(m.tocsc(), np.ones(2000)).sum().round(8)); np.save("a.npy", a); print(np.load("a.npy", mmap_mode="r").sum().round(6))' """,
         "python3-scipy", "/usr/bin/f2py"),
    Case("gnuplot", """gnuplot -e 'set terminal svg; set output "p.svg"; plot sin(x), "words" using 0:1 every 50 with lines' && grep -c path p.svg
        gnuplot -e 'set terminal dumb 60 20; plot x ** 2' | cksum""", "gnuplot-nox", "gnuplot"),
    Case("pari", "gp -q -f -D nbthreads=1", "pari-gp", "gp", stdin="factor(2^101-1)\nprimepi(10^6)\nzeta(3)\nmatdet(matrix(40,40,i,j,1/(i+j)))\n"),
    Case("glpk", """printf 'var x{1..8} integer, >= 0, <= 9; maximize z: sum{i in 1..8} (i * 7 %% 11) * x[i];
        s.t. c{j in 1..5}: sum{i in 1..8} ((i * j) %% 5 + 1) * x[i] <= 40 + j; solve; display z; end;' | sed 's/%/ mod /g' > m.mod
        glpsol --math m.mod -o out > log; echo $?; grep Objective out; rm log""", "glpk-utils", "glpsol"),
    Case("minisat", f"{FORMULA}; minisat -verb=0 f.cnf out; echo $?; head -n 1 out", "minisat", quick=True),
    Case("cadical", f"{FORMULA}; cadical -q f.cnf > out; echo $?; head -n 2 out | cksum", "cadical"),
    Case("bwa", f"""{SEQUENCES}; bwa index ref.fa 2> /dev/null; bwa mem -t 1 ref.fa reads.fq 2> /dev/null | grep -v '^@' > a.sam
        cut -f1-6 a.sam | cksum; wc -l < a.sam; rm a.sam""", "bwa", flags=("--stay-home",)),
    Case("samtools", f"{SEQUENCES}; samtools faidx ref.fa ref:100-120; samtools dict ref.fa | cut -f1-3", "samtools"),
    Case("muscle", f"{SEQUENCES}; muscle -align some.fa -output out.fa -threads 1 2> /dev/null; grep -v '>' out.fa | cksum", "muscle", flags=("-e",)),
    Case("mafft", f"{SEQUENCES}; mafft --quiet --thread 1 some.fa | cksum", "mafft", flags=("-e",)),
    Case("clustalo", f"{SEQUENCES}; clustalo --threads=1 -i some.fa -o out.fa; cksum < out.fa", "clustalo", flags=("-e",)),
    Case("imagemagick", """export MAGICK_THREAD_LIMIT=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
        convert-im6.q16 -size 200x150 plasma:fractal -seed 3 +repage -resize 50% -rotate 30 -blur 0x2 a.ppm; identify-im6.q16 a.ppm | cut -d' ' -f2,3
        convert-im6.q16 -size 64x64 gradient:red-blue -negate b.pgm; cksum < b.pgm; rm a.ppm""", "imagemagick", "convert-im6.q16 identify-im6.q16", flags=("-e",)),
    Case("ghostscript", """printf '%%!PS\\n/Times-Roman findfont 40 scalefont setfont 72 400 moveto (Hello) show 1 1 60 { dup 8 mul 100 moveto 20 0 rlineto } for stroke showpage\\n' > a.ps
        gs -q -dNOPAUSE -dBATCH -dSAFER -sDEVICE=pbmraw -r40 -sOutputFile=a.pbm a.ps; cksum < a.pbm""", "ghostscript", "gs"),
    Case("graphviz", """awk 'BEGIN { print "digraph g {"; for (i = 1; i < 60; i++) print i, "->", (i * 7) % 60, ";"; print "}" }' > g.dot
        dot -Tplain g.dot | cksum; neato -Tplain g.dot | wc -l""", "graphviz", "dot neato", flags=("--stay-home",)),
    Case("datamash and units", """datamash -s -W -g 2 sum 1 mean 1 count 1 < words; units -t '1 mile' km; factor $((2 ** 61 - 1))""", "datamash units"),
    Case("openssl wide", """openssl genpkey -algorithm ed25519 -out k.pem 2> /dev/null; openssl pkey -in k.pem -pubout -out p.pem
        openssl pkeyutl -sign -inkey k.pem -rawin -in numbers -out s; openssl pkeyutl -verify -pubin -inkey p.pem -rawin -in numbers -sigfile s
        openssl enc -aes-256-cbc -pbkdf2 -k x -nosalt -in words -out w.enc; openssl enc -d -aes-256-cbc -pbkdf2 -k x -nosalt -in w.enc | cmp - words
        openssl req -x509 -key k.pem -subj /CN=x -days 9 -out c.pem; openssl x509 -in c.pem -noout -subject; openssl prime 1000003; rm k.pem p.pem s c.pem""",
         "openssl"),
    Case("sort many", """seq 60000 | awk '{ print ($1 * 7919) % 60013, $1 }' > big; sort -S 200K --parallel=1 -T . -n big | cksum; sort -k2,2r -S 2M --parallel=1 big | uniq -c -w3 | cksum
        split -n l/7 big part.; sort -m -n <(sort -n part.aa) <(sort -n part.ab) | wc -l; shuf --random-source=noise big | head -n 5; rm big part.*"""),
    Case("xz and bzip2", "xz -T1 -9e -k words; bzip2 -9k noise; xz -dc words.xz | cmp - words; bzip2 -dc noise.bz2 | cmp - noise; xz -T1 -k --format=lzma numbers"),
    Case("compute in C", r"""
        cat > n.c << 'END'
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) { double x[64] = {0}, s = 0; char *big = malloc(30 << 20); for (int i = 0; i < 30 << 20; i++) big[i] = i * 31;
    for (int r = 0; r < 400000; r++) for (int i = 0; i < 64; i++) x[i] = fma(x[i], 0.999, sin(i + r * 0.01));
    for (int i = 0; i < 64; i++) s += x[i]; long t = 0; for (int i = 0; i < 30 << 20; i += 97) t += big[i]; printf("%.12g %ld\n", s, t); return 0; }
END
        gcc -O2 -march=x86-64-v3 -o n n.c -lm && ./n; gcc -static -O2 -o n n.c -lm && ./n; rm n""", quick=True),
)
