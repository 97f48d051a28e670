#!/usr/bin/env python3
"""A program that steers itself: it works on another node for a while and comes home to tell.

    mosrun python3 examples/control.py 2
"""

import signal
import sys

from mosfs import api


def work() -> int:
    return sum(i * i % 7 for i in range(1, 100_001))


def main() -> int:
    node = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    if not api.running():
        print(f"{sys.argv[0]}: not under mosrun", file=sys.stderr)
        return 1
    moves = []
    signal.signal(signal.SIGUSR1, lambda *_: moves.append(api.where()))
    api.write("sigmig", signal.SIGUSR1)  # tell us of each move ...
    api.write("needmem", 100)  # ... go only where 100 MB are free ...
    print("was locked:", api.swap("lock", 1))  # ... and not by themselves
    if not api.in_cluster(node):
        print(f"{sys.argv[0]}: node {node} is not one of ours", file=sys.stderr)
        return 1
    try:
        api.migrate(node)
    except OSError as error:
        print(f"{sys.argv[0]}: cannot go to node {node}: {error.strerror}", file=sys.stderr)
        return 1
    print("on node", api.where())
    result = work()
    api.migrate(api.HOME)
    print("at home:", "yes" if api.where() == api.HOME else "no")
    print(f"moved {'there and back' if len(moves) >= 2 else 'too little'}, result {result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
