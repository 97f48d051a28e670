"""Threads and memory that processes share, which move; and what only ``--stay-home`` runs: files that are mapped
shared for writing, debuggers. Started away that comes home by itself, and its moves fail with the reason."""

# ruff: noqa: E501 - the scripts are as their languages have them
from __future__ import annotations

from tests.debian.cases import Case

STAY = ("--stay-home",)

GO = r"""cat > g.go << 'END'
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

func main() {
	var wait sync.WaitGroup
	results := make(chan int, 10)
	for i := 0; i < 50; i++ {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			sum := 0
			for j := 0; j < 100000; j++ {
				sum += j % (n + 1)
			}
			results <- sum
		}(i)
	}
	total := 0
	for i := 0; i < 50; i++ {
		total += <-results
	}
	wait.Wait()
	fmt.Println(total)
	out, err := exec.Command("sh", "-c", "echo from a child; exit 3").Output()
	fmt.Printf("%q %v\n", out, err)
	time.Sleep(20 * time.Millisecond)
	words, _ := os.ReadFile("words")
	fmt.Println(len(words))
}
END
# the linker maps what it writes, shared
HOME=$PWD GO111MODULE=off $(command -v mosnative) go build -o g g.go && ./g; rm -rf g .cache go"""

JAVA = r"""cat > T.java << 'END'
import java.nio.file.*; import java.util.*; import java.util.concurrent.*;
public class T {
    public static void main(String[] a) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4); List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < 20; i++) { final int n = i; parts.add(pool.submit(() -> { long s = 0; for (int j = 0; j < 100000; j++) s += j % (n + 1); return s; })); }
        long sum = 0; for (Future<Long> part : parts) sum += part.get();
        pool.shutdown(); System.out.println(sum);
        Process child = new ProcessBuilder("sh", "-c", "echo child; exit 4").start();
        System.out.print(new String(child.getInputStream().readAllBytes())); System.out.println(child.waitFor());
        System.out.println(Files.readAllLines(Path.of("words")).size());
    }
}
END
javac T.java && java T; rm T.class"""

NUMPY = r"""unset OPENBLAS_NUM_THREADS OMP_NUM_THREADS; /usr/bin/python3 -c '
import numpy as np
r = np.random.default_rng(1); a = r.random((500, 500)); b = a @ a
for _ in range(5): np.linalg.svd(a)
print(round(float(b.sum()), 3), np.linalg.eigvalsh(a + a.T)[:2].round(6))'"""

#: Some megabytes, of which each block is another thread's.
SEQ = "seq 1000000 > s"

OPENMP = r"""cat > o.c << 'END'
#include <stdio.h>
int main(void)
{
	static double a[4000];
	for (int round = 0; round < 60; round++) {
		#pragma omp parallel for schedule(dynamic, 50)
		for (int i = 0; i < 4000; i++)
			for (int j = 1; j < 2000; j++) a[i] += (i + round) % j * 0.5;
	}
	double sum = 0;
	for (int i = 0; i < 4000; i++) sum += a[i];
	printf("%.1f\n", sum);
	return 0;
}
END
gcc -O1 -fopenmp -o o o.c && OMP_NUM_THREADS=4 OMP_WAIT_POLICY=passive ./o; echo $?; rm o"""

#: Threads that compute, take a mutex, and are stopped by the collector, which does that by signals.
LISP = r"""cat > t.lisp << 'END'
(defvar *lock* (sb-thread:make-mutex))
(defvar *sums* nil)
(defun work (n) (let ((s 0)) (declare (fixnum s)) (dotimes (i 20000000 s) (setf s (mod (+ (* s 31) i n) 1000003)))))
(defun start (n) (sb-thread:make-thread (lambda () (let ((s (work n))) (sb-thread:with-mutex (*lock*) (push (cons n s) *sums*))))))
(let ((threads (loop for n below 4 collect (start n)))) (dotimes (i 20) (gc :full t)) (mapc #'sb-thread:join-thread threads))
(print (sort *sums* #'< :key #'car))
(let ((done (sb-thread:make-semaphore)) (lists (loop for i below 200000 collect (list i))))
  (sb-thread:make-thread (lambda () (gc :full t) (sb-thread:signal-semaphore done)))
  (sb-thread:wait-on-semaphore done) (print (length lists)))
END
sbcl --noinform --no-sysinit --no-userinit --script t.lisp; echo $?"""

#: Threads that compute side by side, since hashing and packing give up Python's lock.
PYTHON = r"""cat > t.py << 'END'
import hashlib, threading, queue, zlib
tasks, done = queue.Queue(), queue.Queue()
def work():
    while (n := tasks.get()) is not None:
        done.put((n, hashlib.pbkdf2_hmac("sha256", b"%d" % n, b"salt", 30000).hex()[:8], len(zlib.compress(b"%d" % n * 100000, 9))))
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for n in [*range(120), *[None] * 4]: tasks.put(n)
for t in threads: t.join()
print(sorted(done.queue))
END
/usr/bin/python3 t.py"""

#: Reads that are sorted in parts, which threads pack and unpack.
SAMTOOLS = r"""for i in $(seq 60000); do printf 'r%d\t0\tc\t%d\t60\t20M\t*\t0\t0\tACGTACGTACGTACGTACGT\t*\n' $i $((i * 7919 % 90000 + 1)); done > r
(printf '@SQ\tSN:c\tLN:100000\n'; cat r) > r.sam; samtools sort -@3 --no-PG -m 1M -o r.bam r.sam && samtools view -@3 r.bam | cksum
samtools flagstat -@3 r.bam | head -n 3; rm r r.*"""

PROCESSES = r"""cat > m.py << 'END'
import concurrent.futures, multiprocessing, queue, threading
def square(x): return x * x
def add(value):
    for _ in range(200):
        with value.get_lock(): value.value += 1
if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool: print(sum(pool.map(square, range(1000))))
    value = multiprocessing.Value("i", 0); some = [multiprocessing.Process(target=add, args=(value,)) for _ in range(4)]
    for p in some: p.start()
    for p in some: p.join()
    print(value.value)
    done = queue.Queue(); threads = [threading.Thread(target=lambda: done.put(sum(range(10000)))) for _ in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(done.qsize())
    with concurrent.futures.ProcessPoolExecutor(2) as pool: print(sum(pool.map(square, range(50))))
    with concurrent.futures.ThreadPoolExecutor(3) as pool: print(sum(pool.map(square, range(50))))
    with multiprocessing.Manager() as manager: shared = manager.dict(); shared["a"] = 1; print(dict(shared))
END
/usr/bin/python3 m.py; rm m.py"""

NODE = r"""cat > n.js << 'END'
const { Worker, isMainThread, parentPort } = require("worker_threads"), child = require("child_process"), fs = require("fs"), crypto = require("crypto");
if (isMainThread) {
  new Worker(__filename).on("message", sum => {
    console.log(sum, child.execSync("echo child").toString().trim(), fs.readFileSync("words").length);
    crypto.pbkdf2("a", "b", 1000, 16, "sha256", (error, key) => console.log(key.toString("hex")));
  });
} else { let sum = 0; for (let i = 0; i < 6e8; i++) sum += i; parentPort.postMessage(sum); }
END
node n.js"""

MPI = r"""cat > m.c << 'END'
#include <mpi.h>
#include <stdio.h>
int main(int c, char **v)
{
	int rank, n, x, sum;
	MPI_Init(&c, &v); MPI_Comm_rank(MPI_COMM_WORLD, &rank); MPI_Comm_size(MPI_COMM_WORLD, &n);
	x = rank + 1; MPI_Allreduce(&x, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	if (!rank) printf("%d %d\n", n, sum);
	return MPI_Finalize();
}
END
mpicc.mpich -o m m.c && mpirun.mpich -n 2 ./m; echo $?; rm m"""

#: By the library itself, so that nothing of its compiler is needed. As root, Open MPI wants to be told twice.
OPEN_MPI = r"""cat > m.py << 'END'
import ctypes
mpi = ctypes.CDLL("libmpi.so.40", ctypes.RTLD_GLOBAL)
def symbol(name): return ctypes.byref(ctypes.c_char.in_dll(mpi, name))
WORLD, DOUBLE, SUM = map(symbol, ("ompi_mpi_comm_world", "ompi_mpi_double", "ompi_mpi_op_sum"))
mpi.MPI_Init(None, None)
rank, size, own, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_double(), ctypes.c_double()
mpi.MPI_Comm_rank(WORLD, ctypes.byref(rank)); mpi.MPI_Comm_size(WORLD, ctypes.byref(size))
for turn in range(30):
    own.value = total.value / size.value + sum(i % (turn + 2) for i in range(rank.value, 60000, size.value))
    mpi.MPI_Allreduce(ctypes.byref(own), ctypes.byref(total), 1, DOUBLE, SUM, WORLD)
if rank.value == 0: print(size.value, total.value, flush=True)
mpi.MPI_Finalize()
END
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR=/tmp
"""
#: Its processes talk by TCP. It tries System V shared memory first, without which it can do: -e.
MPI_TCP = OPEN_MPI + "PMIX_MCA_gds=hash mpirun.openmpi --mca btl self,tcp --mca btl_tcp_if_include lo --oversubscribe -n 2 /usr/bin/python3 m.py; echo $?"
MPI_SHARED = OPEN_MPI + "mpirun.openmpi --oversubscribe -n 2 /usr/bin/python3 m.py; echo $?"

WAL = r"""sqlite3 w.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);'
for i in 1 2 3; do sqlite3 -cmd '.timeout 20000' w.db "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) INSERT INTO t(b) SELECT 'row ' || i FROM n;" & done
wait; sqlite3 w.db 'SELECT count(*), sum(length(b)) FROM t; PRAGMA integrity_check;'; rm -f w.db*"""

GIT = r"""git init -q r && cd r && for i in 1 2 3 4; do seq $i 9000 > f$i; git add . && git commit -qm $i; done
git -c pack.threads=4 repack -adfq && git gc -q && git fsck 2>&1; git log --oneline | wc -l; git -c grep.threads=3 grep -c 777 | sort; cd .. && rm -rf r"""

DEBUGGED = r"""cat > d.c << 'END'
#include <stdio.h>
#include <stdlib.h>
int f(int n)
{
	FILE *file = fopen("words", "r");
	if (!file)
		exit(9);
	fclose(file);
	return n < 2 ? n : f(n - 1) + f(n - 2);
}
int main(int argc, char **argv) { (void)argv; printf("%d\n", f(5)); fflush(stdout); if (argc > 1) abort(); return 7; }
END
gcc -g -o d d.c
"""

SHARED, SYSV = "Shared memory (MAP_SHARED) not supported", "Attaching SYSV shared-memory not supported"
TRACED = "system-call 'ptrace' not supported"

CASES = (
    Case("go", GO, "golang-go", "go", moves=True),
    Case("java", JAVA, "default-jdk-headless", "java javac", moves=True),
    Case("numpy", NUMPY, "python3-numpy libopenblas0-pthread", "/usr/bin/f2py", moves=True),
    Case("openmp", OPENMP, moves=True),
    Case("python threads", PYTHON, moves=True),
    Case("sbcl", LISP, "sbcl", moves=True),
    Case("multiprocessing", PROCESSES, quick=True, flags=("--share-memory",), moves=True),
    Case("node.js", NODE, "nodejs", "node", moves=True),
    Case("octave", """unset OPENBLAS_NUM_THREADS OMP_NUM_THREADS
        octave-cli --norc -q --no-history --eval 'A = magic(60) + eye(60); printf("%.10g\\n", sum(inv(A)(:))); [s, o] = system("echo sub"); disp(o)
        for i = 1:150, A = magic(200) + i * eye(200); printf("%.6g ", sum((A * A)(:))); end; exit(5)'; echo $?""", "octave", "octave-cli", moves=True),
    Case("openmpi", MPI_TCP, "openmpi-bin", "mpirun.openmpi", flags=("-e",), moves=True),
    Case("openmpi shared", MPI_SHARED, "openmpi-bin", "mpirun.openmpi", flags=STAY, stays=(SHARED,)),
    Case("mpich", MPI, "mpich libmpich-dev", "mpicc.mpich mpirun.mpich", flags=STAY, stays=(SHARED, SYSV)),
    Case("ffmpeg", "ffmpeg -v error -nostdin -threads 4 -f lavfi -i testsrc=d=40:s=320x240 -c:v mpeg4 -f md5 -", "ffmpeg", moves=True),
    Case("xz threads", f"{SEQ}; xz -2 -T4 --block-size=512KiB -k s && cksum s.xz && xz -dc -T4 s.xz | cksum; rm s s.xz", moves=True),
    Case("zstd threads", f"{SEQ}; zstd -q -T4 -B1MB -12 s -o s.zst && cksum s.zst && zstd -dc s.zst | cksum; rm s s.zst", "zstd", moves=True),
    Case("pbzip2", f"{SEQ}; pbzip2 -p4 -b2 -k s && cksum s.bz2 && pbzip2 -dc -p4 s.bz2 | cksum; rm s s.bz2", "pbzip2", moves=True),
    Case("samtools threads", SAMTOOLS, "samtools", moves=True),
    Case("stress-ng", "stress-ng -q --cpu 2 --cpu-method matrixprod --cpu-ops 400; echo $?", "stress-ng", flags=("--share-memory",), moves=True),
    Case("sqlite3 wal", WAL, "sqlite3", flags=STAY, stays=(SHARED,)),
    Case("git threads", GIT),
    Case("make -j2", "make -C project -s -j2 && project/program 5 && make -C project -s clean"),
    Case("rsync local", "rsync -a tree copy && rsync -ai tree copy && diff -r tree copy/tree && echo same; rm -r copy", "rsync"),
    Case("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -C c -f k && ssh-keygen -y -f k | diff - k.pub && ls k*; rm k k.pub", "openssh-client", "ssh-keygen"),
    Case("gdb", DEBUGGED + r"""gdb -batch -nx -ex 'set print address off' -ex 'break f' -ex run -ex bt -ex 'print n' -ex delete -ex continue ./d 2>&1 | sed 's/process [0-9]*/process N/'
        gdb -batch -nx -ex 'set print address off' -ex 'run x' -ex 'bt -3' ./d 2>&1 | sed 's/process [0-9]*/process N/'; rm d d.c""", "gdb", flags=STAY, stays=(TRACED,)),
    Case("valgrind", "valgrind -q --vgdb=no ls; valgrind -q --vgdb=no --error-exitcode=3 sh -c 'cat words | wc -l'; echo $?", "valgrind"),
    Case("strace", DEBUGGED + r"""strace -o t ./d; echo $?; sed 's/0x[0-9a-f]*/X/g; s/^getrandom.*/getrandom/; s/[0-9]* vars/N vars/; s/[0-9]\{3,\}/N/g' t
        strace -f -e trace=execve,openat -e signal=none -o t sh -c 'cat words | wc -l; (exit 3)'; echo $?; sed 's/^[0-9]* *//' t | grep -c 'execve.*= 0'; rm d d.c t""", "strace", flags=STAY),
)
