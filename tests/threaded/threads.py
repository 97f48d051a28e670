"""Threads that compute, queue, wait with and without time, write files, and start processes."""

import concurrent.futures
import hashlib
import queue
import subprocess
import sys
import threading
import time
import zlib


def hashed(number: int) -> int:
    return int(hashlib.sha256(bytes([number % 251]) * 60000).hexdigest()[:6], 16)


def passed_on(items: int) -> int:
    """Through four threads and the queues between them."""
    lines: list[queue.Queue[int]] = [queue.Queue(3) for _ in range(5)]

    def passes(number: int) -> None:
        while (x := lines[number].get()) >= 0:
            lines[number + 1].put((x * 3 + number) % 1000003)
        lines[number + 1].put(-1)

    threads = [threading.Thread(target=passes, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    feeder = threading.Thread(target=lambda: [lines[0].put(x) for x in [*range(items), -1]])
    feeder.start()
    total = 0
    while (x := lines[4].get()) >= 0:
        total = (total * 7 + x) % 1000003
    for thread in [*threads, feeder]:
        thread.join()
    return total


def waited(number: int) -> int:
    """How many of waits for nothing ended too early."""
    early, never = [], threading.Event()

    def waits(seconds: float) -> None:
        begun = time.monotonic()
        if never.wait(seconds) or time.monotonic() - begun < seconds - 0.0005:
            early.append(seconds)

    threads = [threading.Thread(target=waits, args=(0.005 + 0.003 * i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(early)


def main(rounds: int) -> None:
    lock, counter = threading.Lock(), [0]

    def counts() -> None:
        for _ in range(300):
            with lock:
                counter[0] += 1

    for r in range(rounds):
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            hashes = sum(pool.map(hashed, range(r, r + 40))) % 1000003
            packed = sum(map(len, pool.map(zlib.compress, [bytes([n]) * 100000 for n in range(8)])))
        threads = [threading.Thread(target=counts) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = subprocess.run(["sh", "-c", f"echo child {r}; exit {r % 5}"], capture_output=True, text=True, check=False)
        print(r, hashes, packed, counter[0], passed_on(100), waited(8), done.stdout.strip(), done.returncode, flush=True)


main(int(sys.argv[1]))
