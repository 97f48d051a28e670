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
        (sqlite3 -cmd ".timeout 20000" db "begin exclusive; select 1;" ".shell sleep 0.3" "commit" & sleep 0.1; sqlite3 -cmd ".timeout 20000" db "insert into t values(0, 1, 2)"; wait)
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
    Case("lmdb", """/usr/bin/python3 -c '
import lmdb
env = lmdb.open("d", lock=False, map_size=1 << 26); bad = 0
for k in range(40):
    with env.begin(write=True) as t:
        for i in range(20): t.put(b"key%d" % (k * 20 + i), b"v%d" % k * 50)
    with env.begin() as t: bad += t.stat()["entries"] != (k + 1) * 20
with env.begin() as t: print(t.stat()["entries"], bad, t.get(b"key777"))'; rm -r d""",
         "python3-lmdb lmdb-utils", "mdb_stat"),
    Case("gnuplot", """gnuplot -e 'set terminal svg; set output "p.svg"; plot sin(x), "words" using 0:1 every 50 with lines' && grep -c path p.svg
        gnuplot -e 'set terminal dumb 60 20; plot x ** 2' | cksum""", "gnuplot-nox", "gnuplot"),
    Case("pari", "gp -q -f -D nbthreads=1", "pari-gp", "gp", stdin="factor(2^101-1)\nprimepi(10^6)\nzeta(3)\nmatdet(matrix(40,40,i,j,1/(i+j)))\n"),
    Case("glpk", """printf 'var x{1..8} integer, >= 0, <= 9; maximize z: sum{i in 1..8} (i * 7 %% 11) * x[i];
        s.t. c{j in 1..5}: sum{i in 1..8} ((i * j) %% 5 + 1) * x[i] <= 40 + j; solve; display z; end;' | sed 's/%/ mod /g' > m.mod
        glpsol --math m.mod -o out > log; echo $?; grep Objective out; rm log""", "glpk-utils", "glpsol"),
    Case("minisat", f"{FORMULA}; minisat -verb=0 f.cnf out; echo $?; head -n 1 out", "minisat", quick=True),
    Case("cadical", f"{FORMULA}; cadical -q f.cnf > out; echo $?; head -n 2 out | cksum", "cadical"),
    Case("bwa", f"""{SEQUENCES}; bwa index ref.fa 2> /dev/null; for i in $(seq 100); do cat reads.fq; done > many.fq
        bwa mem -t 1 ref.fa many.fq 2> /dev/null | grep -v '^@' > a.sam; cut -f1-6 a.sam | cksum; wc -l < a.sam; rm a.sam many.fq""", "bwa", moves=True),
    Case("samtools", f"{SEQUENCES}; samtools faidx ref.fa ref:100-120; samtools dict ref.fa | cut -f1-3", "samtools"),
    Case("muscle", f"{SEQUENCES}; muscle -align some.fa -output out.fa -threads 1 2> /dev/null; grep -v '>' out.fa | cksum", "muscle", moves=True),
    Case("mafft", f"{SEQUENCES}; mafft --quiet --thread 1 some.fa | cksum", "mafft", moves=True),
    Case("clustalo", f"{SEQUENCES}; clustalo --threads=1 -i some.fa -o out.fa; cksum < out.fa", "clustalo"),
    Case("imagemagick", """export MAGICK_THREAD_LIMIT=1 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
        convert-im6.q16 -size 200x150 plasma:fractal -seed 3 +repage -resize 50% -rotate 30 -blur 0x2 a.ppm; identify-im6.q16 a.ppm | cut -d' ' -f2,3
        convert-im6.q16 -size 64x64 gradient:red-blue -negate b.pgm; cksum < b.pgm; rm a.ppm""", "imagemagick", "convert-im6.q16 identify-im6.q16"),
    Case("ghostscript", """printf '%%!PS\\n/Times-Roman findfont 40 scalefont setfont 72 400 moveto (Hello) show 1 1 60 { dup 8 mul 100 moveto 20 0 rlineto } for stroke showpage\\n' > a.ps
        gs -q -dNOPAUSE -dBATCH -dSAFER -sDEVICE=pbmraw -r40 -sOutputFile=a.pbm a.ps; cksum < a.pbm""", "ghostscript", "gs"),
    Case("graphviz", """awk 'BEGIN { print "digraph g {"; for (i = 1; i < 60; i++) print i, "->", (i * 7) % 60, ";"; print "}" }' > g.dot
        dot -Tplain g.dot | cksum; neato -Tplain g.dot | wc -l""", "graphviz", "dot neato"),
    Case("fortran", r"""cat > f.f90 << 'END'
program f
  real(8), save :: big(1500, 1500)
  real(8) :: a(200, 200), x(200)
  real(16) :: q = 1
  integer :: i, j, k, u
  do j = 1, 200; do i = 1, 200; a(i, j) = sin(real(i * j, 8)); end do; a(j, j) = a(j, j) + 200; x(j) = j; end do
  do k = 1, 199; do i = k + 1, 200; a(i, k) = a(i, k) / a(k, k); x(i) = x(i) - a(i, k) * x(k)
    a(i, k + 1:) = a(i, k + 1:) - a(i, k) * a(k, k + 1:); end do; end do
  do i = 200, 1, -1; x(i) = (x(i) - dot_product(a(i, i + 1:), x(i + 1:))) / a(i, i); end do
  open (newunit=u, file='d', access='direct', recl=80, form='unformatted'); do i = 1, 150; write (u, rec=i) x(i:i + 9); end do
  read (u, rec=77) x(1:10); close (u)
  big = 1.5d0; do k = 1, 10; big = big * 1.01d0 + transpose(big) * 1d-3; end do
  do i = 1, 100000; q = q + 1q0 / real(i, 16)**2; end do
  print '(5es20.12)', x(1:10); print *, sum(big), q
end program
END
        gfortran -O2 -o f f.f90 && ./f; gfortran -O3 -mavx2 -static -o f f.f90 && ./f; rm f""", "gfortran"),
    Case("ocaml", r"""cat > a.ml << 'END'
module M = Map.Make(String)
let () = let m = ref M.empty in for i = 1 to 50000 do m := M.add (string_of_int (i * 7919 mod 10007)) i !m done; Printf.printf "%d\n" (M.cardinal !m);
  let a = Array.init 200000 float in Array.sort (fun x y -> compare y x) a; Gc.compact (); Printf.printf "%.1f\n" a.(77);
  let rec d n = if n = 0 then 0 else 1 + d (n - 1) in (try print_int (d 100000000) with Stack_overflow -> print_endline "too deep"); exit 6
END
        ocamlopt -o a a.ml 2> /dev/null; ./a; echo $?; ocaml a.ml; rm a a.cm* a.o""", "ocaml-nox", "ocamlopt ocaml"),
    Case("latex", r"""printf '\\documentclass{article}\\begin{document}\\tableofcontents\\section{A}$\\int_0^1 x$ \\cite{a}\\newpage\\begin{thebibliography}{9}\\bibitem{a} X.\\end{thebibliography}\\end{document}\n' > a.tex
        export SOURCE_DATE_EPOCH=1000000000 FORCE_SOURCE_DATE=1; for i in 1 2; do pdflatex -interaction=batchmode a; echo $?; done; latex -interaction=batchmode a; dvips -q a -o; rm a.log""",
         "texlive-latex-base", "pdflatex latex dvips"),
    Case("netpbm", """pgmramp -lr 200 100 > r.pgm; pamscale 0.5 r.pgm | pgmtoppm red-blue | pnmgamma 1.5 > x.ppm; pnmtopng x.ppm > x.png; pngtopnm x.png | cmp - x.ppm
        pnmflip -r90 x.ppm | ppmhist | cksum; ppmtogif x.ppm 2> /dev/null | giftopnm | cksum""", "netpbm", "pgmramp pnmtopng"),
    Case("hmmer", f"""{SEQUENCES}; awk 'BEGIN {{ print "# STOCKHOLM 1.0" }} /^>/ {{ n = substr($1, 2); next }} {{ print n, $1 }} END {{ print "//" }}' some.fa > a.sto
        hmmbuild --cpu 0 --dna m.hmm a.sto > /dev/null; hmmsearch --cpu 0 m.hmm some.fa | grep -v '^#' | cksum; sed -i '/^DATE/d' m.hmm""", "hmmer", "hmmbuild hmmsearch"),
    Case("clustalw", f"{SEQUENCES}; clustalw -INFILE=some.fa -OUTFILE=o.aln -QUIET | tail -n 3; cksum o.aln", "clustalw"),
    Case("bcftools", r"""(printf '##fileformat=VCFv4.2\n##contig=<ID=r,length=3000>\n##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n'
        for i in $(seq 10 29 2900); do printf "r\t$i\t.\tA\tC\t$((i % 60))\tPASS\tDP=$((i % 30))\n"; done) > a.vcf; bcftools view --no-version -Oz a.vcf -o a.vcf.gz; bcftools index a.vcf.gz
        bcftools view -H a.vcf.gz r:100-300; bcftools filter --no-version -i 'QUAL>30 && DP>5' a.vcf | wc -l; bcftools query -f '%POS %INFO/DP\n' a.vcf.gz | cksum""", "bcftools"),
    Case("bedtools", r"""for i in $(seq 300); do printf "chr$((i % 3))\t$((i * 97 % 5000))\t$((i * 97 % 5000 + 100))\tn$i\n"; done | sort -k1,1 -k2,2n > s.bed
        bedtools merge -i s.bed | cksum; bedtools closest -a s.bed -b s.bed -d | cksum""", "bedtools"),
    Case("gnu parallel", """mkdir .parallel; touch .parallel/will-cite; seq 8 | parallel -j4 -k 'echo {} $(({} * {})); wc -l < words'; parallel -j3 gzip -9nk ::: tree/file0?
        parallel -k --pipe -N 1000 sort < words | cksum; seq 100 | parallel -k -X echo | wc -w; rm -r .parallel""", "parallel"),
    Case("makefile of jobs", r"""printf 'OUT = $(patsubst %%,r%%,$(shell seq 12))\nsum: $(OUT)\n\tcat $(sort $^) | sort -n | cksum > $@\nr%%:\n\tawk "BEGIN { for (i = 0; i < 100000; i++) s += i * $* %% 7; print s }" > $@\nbad: sum\n\tfalse\n' > M
        make -f M -j4 -s; cat sum; make -f M -j2 -s bad 2>&1; echo $?; touch r5; make -f M -n; seq 20 | xargs -P4 -I% sh -c 'seq % 900 | md5sum > o%'; cat o* | sort | cksum"""),
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
        gcc -O2 -march=x86-64-v3 -o n n.c -lm && ./n; gcc -static -O2 -o n n.c -lm && ./n; rm n"""),
)
