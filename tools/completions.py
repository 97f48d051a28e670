"""Print the bash completion of all commands, made from their tables.

    python -m mosfs.tools.completions > etc/completions/mosfs.bash
"""

from __future__ import annotations

import sys

from mosfs.tools import mosmigrate, mosps
from mosfs.tools.mosbestnode import MOSBESTNODE
from mosfs.tools.mosctl import MOSCTL
from mosfs.tools.mosctl import VERBS as FUNCTIONS
from mosfs.tools.moskillall import MOSKILLALL
from mosfs.tools.moslab import MOSLAB, VERBS
from mosfs.tools.mosmon import MOSMON
from mosfs.tools.mosnative import MOSNATIVE
from mosfs.tools.mospipe import MOSPIPE
from mosfs.tools.mosrun import MOSENV, MOSRUN
from mosfs.tools.mossetpe import MOSSETPE
from mosfs.tools.mostestload import MOSTESTLOAD
from mosfs.tools.mostimeof import MOSTIMEOF
from mosfs.tools.options import completion

HEADER = "# Made by mosfs.tools.completions from the commands' own tables: change those.\n\n"
PIDS = "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
NUMBERS = "$(sed -n 's/^\\([1-9][0-9]*\\)[ \\t].*/\\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null)"
NODES = f"home {NUMBERS}"


def text() -> str:
    parts = [
        completion(MOSRUN), completion(MOSENV), completion(MOSNATIVE), completion(MOSPIPE), completion(mosps.MOSPS, PIDS),
        completion(mosmigrate.MOSMIGRATE, f"$([ $COMP_CWORD = 1 ] && echo {PIDS} || echo {NODES})"),
        completion(MOSLAB, " ".join(VERBS)), completion(MOSBESTNODE, " "),
        completion(MOSCTL, f"$([ $COMP_CWORD = 1 ] && echo {' '.join(verb.name for verb in FUNCTIONS)} || echo {NUMBERS})"),
        completion(MOSKILLALL, " "), completion(MOSMON, " "), completion(MOSSETPE), completion(MOSTESTLOAD),
        completion(MOSTIMEOF, PIDS),
    ]
    return HEADER + "\n".join(parts)


def main() -> int:
    sys.stdout.write(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
