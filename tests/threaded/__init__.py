"""Programs with several threads for a soak of nothing else (`python -m tests.soak --threads`): rows as those of tests/debian.

Each prints the same whenever it runs, and takes some seconds; those of this folder are built once, into build/threaded.
"""

# ruff: noqa: E501 - the commands are as their shell has them
from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.debian.cases import Case
from tests.progs import BUILT as PROGRAMS
from tests.progs import BY_NAME, REPO, built

SOURCES = Path(__file__).resolve().parent
BUILT = REPO / "build" / "threaded"

#: By source: the compiler, and the command that makes a program of it in BUILT, where it has been copied.
_BUILDS = {
    "routines.go": ("go", "HOME=$PWD GO111MODULE=off go build -o routines routines.go"),
    "Pools.java": ("javac", "javac Pools.java"),
    "teams.c": ("gcc", "gcc -O1 -fopenmp -o teams teams.c"),
    "births.c": ("gcc", "gcc -O1 -pthread -o births births.c"),
}
_NOISE = "openssl enc -aes-128-ctr -K 00 -iv 00 -in /dev/zero 2> /dev/null | head -c"
_DAMPENED = "export OPENBLAS_NUM_THREADS=4 OMP_NUM_THREADS=4"

#: Name, command, and the programs that it needs.
_ROWS = (
    ("go", f"{BUILT}/routines 100", "go"),
    ("java", f"java -cp {BUILT} Pools 12", "java javac"),
    ("java parallel", f"java -XX:+UseParallelGC -Xmx64m -cp {BUILT} Pools 12", "java javac"),
    ("node", f"node {SOURCES}/workers.js 8", "node"),
    ("python", f"/usr/bin/python3 {SOURCES}/threads.py 40", "/usr/bin/python3"),
    ("numpy", f"{_DAMPENED}; /usr/bin/python3 {SOURCES}/matrices.py 60", "/usr/bin/python3 /usr/bin/f2py"),
    ("openmp", f"env OMP_WAIT_POLICY=passive {BUILT}/teams 800", "gcc"),
    ("births", f"{BUILT}/births 150", "gcc"),
    ("pthreads", f"{PROGRAMS}/pthreads 4", "gcc"),
    ("xz", f"{_NOISE} 4000000 > n; seq 400000 > s; xz -T4 --block-size=512KiB -k s n && cksum s.xz n.xz && xz -dc -T4 s.xz | cksum; rm s* n*", "xz openssl"),
    ("zstd", "seq 2000000 > s; zstd -q -T4 -B1MB -9 s -o s.zst && cksum s.zst && zstd -dc s.zst | cksum; rm s s.zst", "zstd"),
    ("ffmpeg", "ffmpeg -v error -nostdin -threads 4 -f lavfi -i testsrc=d=60:s=320x240 -c:v mpeg4 -f md5 -", "ffmpeg"),
    ("octave", f"{_DAMPENED}; octave-cli --norc -q --no-history --eval 'for i = 1:60, A = magic(200) + i * eye(200); printf(\"%.6g\\n\", sum((A * A)(:))); end'", "octave-cli"),
    ("samtools", "for i in $(seq 100000); do printf 'r%d\\t0\\tc\\t%d\\t60\\t20M\\t*\\t0\\t0\\tACGTACGTACGTACGTACGT\\t*\\n' $i $((i * 7919 % 90000 + 1)); done > r;"
     " (printf '@SQ\\tSN:c\\tLN:100000\\n'; cat r) > r.sam; samtools sort -@3 --no-PG -m 1M -o r.bam r.sam && samtools view -@3 r.bam | cksum;"
     " samtools flagstat -@3 r.bam | head -3; rm r r.*", "samtools"),
    ("git", "git init -q r && cd r && for i in 1 2 3 4; do seq $i 9000 > f$i; git add . && git commit -qm $i; done; git -c pack.threads=4 repack -adfq"
     " && git -c grep.threads=3 grep -c 777 | sort; git log --oneline | wc -l; cd .. && rm -rf r", "git"),
)  # fmt: skip


def _build() -> None:
    """What is older than its source, by one of many at a time."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, (compiler, command) in _BUILDS.items():
            source, copy = SOURCES / name, BUILT / name
            if shutil.which(compiler) is None or (copy.exists() and copy.stat().st_mtime >= source.stat().st_mtime):
                continue
            shutil.copyfile(source, copy)
            done = subprocess.run(["bash", "-c", command], cwd=BUILT, capture_output=True, text=True, check=False)
            if done.returncode:
                copy.unlink()
                raise RuntimeError(f"{name}: {done.stderr}")


def cases() -> list[Case]:
    """The rows, built."""
    _build()
    built(BY_NAME["pthreads"])
    return [Case(f"threads {name}", command, programs=programs) for name, command, programs in _ROWS]
