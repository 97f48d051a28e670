"""Print the bash completion of all commands, made from their tables.

    python -m mosfs.tools.completions > etc/completions/mosfs.bash
"""

from __future__ import annotations

import sys

from mosfs.tools import mosmigrate, mosps
from mosfs.tools.moslab import MOSLAB, VERBS
from mosfs.tools.mosnative import MOSNATIVE
from mosfs.tools.mospipe import MOSPIPE
from mosfs.tools.mosrun import MOSENV, MOSRUN
from mosfs.tools.options import completion

HEADER = "# Made by mosfs.tools.completions from the commands' own tables: change those.\n\n"
PIDS = "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
NODES = "home $(sed -n 's/^\\([1-9][0-9]*\\)[ \\t].*/\\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null)"


def text() -> str:
    parts = [
        completion(MOSRUN), completion(MOSENV), completion(MOSNATIVE), completion(MOSPIPE), completion(mosps.MOSPS, PIDS),
        completion(mosmigrate.MOSMIGRATE, f"$([ $COMP_CWORD = 1 ] && echo {PIDS} || echo {NODES})"),
        completion(MOSLAB, " ".join(VERBS)),
    ]
    return HEADER + "\n".join(parts)


def main() -> int:
    sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
