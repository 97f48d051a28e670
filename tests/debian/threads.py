"""Threads; and what only ``--stay-home`` runs: memory shared for writing, debuggers. Started away
that comes home by itself."""

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
print(round(float(b.sum()), 3), np.linalg.eigvalsh(a + a.T)[:2].round(6))'"""

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
} else { let sum = 0; for (let i = 0; i < 1e6; i++) sum += i; parentPort.postMessage(sum); }
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

WAL = r"""sqlite3 w.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);'
for i in 1 2 3; do sqlite3 -cmd '.timeout 20000' w.db "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO t(b) SELECT 'row ' || i FROM n;" & done
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

CASES = (
    Case("go", GO, "golang-go", "go"),
    Case("java", JAVA, "default-jdk-headless", "java javac"),
    Case("numpy", NUMPY, "python3-numpy libopenblas0-pthread", "/usr/bin/f2py"),
    Case("multiprocessing", PROCESSES, quick=True, flags=("--share-memory",)),
    Case("node.js", NODE, "nodejs", "node"),
    Case("octave", """octave-cli --norc -q --no-history --eval 'A = magic(60) + eye(60); printf("%.10g\\n", sum(inv(A)(:))); [s, o] = system("echo sub"); disp(o); exit(5)'; echo $?""",
         "octave", "octave-cli"),
    Case("mpich", MPI, "mpich libmpich-dev", "mpicc.mpich mpirun.mpich", flags=STAY),
    Case("ffmpeg", "ffmpeg -v error -nostdin -f lavfi -i testsrc=d=2:s=320x240 -c:v mpeg4 -f md5 -", "ffmpeg"),
    Case("xz threads", "seq 300000 > s && xz -T2 --block-size=512KiB -k s && xz -dc -T2 s.xz | cksum; cksum s.xz; rm s s.xz"),
    Case("sqlite3 wal", WAL, "sqlite3", flags=STAY),
    Case("git threads", GIT),
    Case("make -j2", "make -C project -s -j2 && project/program 5 && make -C project -s clean", flags=STAY),
    Case("rsync local", "rsync -a tree copy && rsync -ai tree copy && diff -r tree copy/tree && echo same; rm -r copy", "rsync", flags=STAY),
    Case("ssh-keygen", "ssh-keygen -q -t ed25519 -N '' -C c -f k && ssh-keygen -y -f k | diff - k.pub && ls k*; rm k k.pub", "openssh-client", "ssh-keygen", flags=STAY),
    Case("gdb", DEBUGGED + r"""gdb -batch -nx -ex 'set print address off' -ex 'break f' -ex run -ex bt -ex 'print n' -ex delete -ex continue ./d 2>&1 | sed 's/process [0-9]*/process N/'
        gdb -batch -nx -ex 'set print address off' -ex 'run x' -ex 'bt -3' ./d 2>&1 | sed 's/process [0-9]*/process N/'; rm d d.c""", "gdb", flags=STAY),
    Case("valgrind", "valgrind -q --vgdb=no ls; valgrind -q --vgdb=no --error-exitcode=3 sh -c 'cat words | wc -l'; echo $?", "valgrind"),
    Case("strace", DEBUGGED + r"""strace -o t ./d; echo $?; sed 's/0x[0-9a-f]*/X/g; s/^getrandom.*/getrandom/; s/[0-9]* vars/N vars/; s/[0-9]\{3,\}/N/g' t
        strace -f -e trace=execve,openat -e signal=none -o t sh -c 'cat words | wc -l; (exit 3)'; echo $?; sed 's/^[0-9]* *//' t | grep -c 'execve.*= 0'; rm d d.c t""", "strace", flags=STAY),
)
