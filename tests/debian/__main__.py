"""Run rows by hand, for the lab that is up (tests/debian/__init__.py)."""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter

from tests.conftest import default_signals
from tests.debian import compare
from tests.debian.table import CASES, packages
from tests.progs import TIMEOUT, Place


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.debian", description="Debian programs here and there, one line each")
    parser.add_argument("name", nargs="*", help="rows (default: all)")
    parser.add_argument("-p", "--places", default="home,away,motion", help="which of native,home,away,motion")
    parser.add_argument("--packages", action="store_true", help="print the Debian packages that the rows need")
    parser.add_argument("--root", default="", help="the lab (default: moslab's)")
    parser.add_argument("--every", default=compare.PAUSE, help="seconds between two moves")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds after which one hangs")
    options = parser.parse_intermixed_args()
    if options.packages:
        print(*packages())
        return 0
    chosen = [case for case in CASES if not options.name or case.name in options.name]
    places = [Place(word) for word in options.places.split(",")]
    default_signals()  # what this process was told to ignore, its programs would too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended and its files removed
    failures = 0
    for case in chosen:
        if lacking := case.lacking():
            print(f"skip {case.name:18} {lacking}", flush=True)
            continue
        native = compare.run(case, Place.NATIVE, timeout=options.timeout)
        verdicts, reasons = [], Counter[str]()
        if native.outcome.status != case.status:
            verdicts.append(f"natively status {native.outcome.status}: {native.outcome.stderr[-300:]}")
        cells = f"{native.outcome.seconds:6.2f} s"
        for place in places:
            again = compare.run(case, place, root=options.root, pause=options.every, timeout=options.timeout)
            ratio = again.outcome.seconds / native.outcome.seconds
            moved = f" ({again.outcome.moves})" if place is Place.MOTION else ""
            cells += f"  {place} x{ratio:.1f}{moved}"
            outcome = again.outcome
            unmoved = case.unmoved(outcome.moves, outcome.reasons) if place is Place.MOTION else ""
            if text := again.difference(native) or unmoved:
                verdicts.append(f"{place}: {text}")
            reasons.update(outcome.reasons)
        told = [f"{count} x {reason}" for reason, count in reasons.items()]
        print(f"{'FAIL' if verdicts else 'ok':4} {case.name:18} {cells}", *told, *verdicts, sep="\n     ", flush=True)
        failures += bool(verdicts)
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
