"""Replace pip's entry points of the short commands by scripts that start in no more than the interpreter's own time.

An entry point made by pip starts Python with site-packages, which costs more than all of ``mosrun``. These scripts start
it with ``-IS`` instead: isolated (nothing in the caller's environment or directory changes which code runs) and
without ``site``, with the one folder that holds ``mosfs`` put on the path. The commands named here import nothing but
the standard library; a test sees to that. Only ``moslab`` has site-packages, too.

Their first line names ``native/launch``, a small program that notes what Python forgets, and starts it.

    python -m mosfs.tools.install_launchers [DIRECTORY]      (default: where this Python's own scripts are)
"""

from __future__ import annotations

import os
import sys

import mosfs

#: Command to "module:function"; mosd needs site-packages, and nothing of its caller's, so it keeps the entry point of pip.
LAUNCHERS = {
    "mosrun": "mosrun:main",
    "mosenv": "mosrun:main_env",
    "mosnative": "mosnative:main",
    "mospipe": "mospipe:main",
    "mos_checkconf": "mos_checkconf:main",
    "mosconf": "mosconf:main",
    "mos_autoconf": "mos_autoconf:main",
    "mos_in_job": "mos_in_job:main",
    "mosps": "mosps:main",
    "mosmigrate": "mosmigrate:main",
    "mosbestnode": "mosbestnode:main",
    "mosctl": "mosctl:main",
    "moskillall": "moskillall:main",
    "mosmon": "mosmon:main",
    "mossetpe": "mossetpe:main",
    "mostestload": "mostestload:main",
    "mostimeof": "mostimeof:main",
    "mosacct": "mosacct:main",
    "moslab": "moslab:main",
}
#: Of these, what needs site-packages.
WITH_SITE = frozenset({"moslab"})
SHEBANG_LIMIT = 255  #: bytes of a script's first line that the kernel looks at (execve(2))
LAUNCH = os.path.join(os.path.dirname(os.path.abspath(mosfs.__file__)), "native", "launch")

#: Until the command catches Ctrl-C (`options.catch_interrupts`), that ends it without a word.
SCRIPT = """#!{launch} {options} {python}
import _signal
import sys
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
sys.path.insert(0, {folder!r})
from mosfs.tools.{module} import {function}
sys.exit({function}())
"""


def script(name: str, python: str, folder: str, launch: str = LAUNCH) -> str:
    """Text of the command ``name``; ValueError when ``python`` or ``launch`` cannot stand in ``#!``."""
    module, _, function = LAUNCHERS[name].partition(":")
    options = "-I" if name in WITH_SITE else "-IS"
    text = SCRIPT.format(launch=launch, options=options, python=python, folder=folder, module=module, function=function)
    if len(os.fsencode(text.partition("\n")[0])) > SHEBANG_LIMIT or any(c.isspace() for c in python + launch):
        raise ValueError(f"{launch} {python}: too long or with blanks, so they cannot stand in the first line of a script")
    return text


def install(directory: str) -> list[str]:
    """Write all launchers to ``directory``, each in one step; their paths. OSError also when ``native/launch`` was not built."""
    os.stat(LAUNCH)
    folder = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
    written = []
    for name in LAUNCHERS:
        python = sys.executable if name in WITH_SITE else os.path.realpath(sys.executable)
        path = os.path.join(directory, name)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(script(name, python, folder))
            os.fchmod(file.fileno(), 0o755)
        os.replace(f"{path}.new", path)
        written.append(path)
    return written


def closed(directory: str) -> str:
    """The first folder on the way to ``directory`` that other users may not enter; "" when they may enter all."""
    path = "/"
    for part in ("", *os.path.abspath(directory).split("/")):
        path = os.path.join(path, part)
        if not os.stat(path).st_mode & 0o001:
            return path
    return ""


def main() -> int:
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(sys.executable))
    try:
        install(directory)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"install_launchers: {error}\n")
        return 1
    if folder := closed(directory):
        print(f"setup: other users may not enter {folder}: only you can use these commands (a clone below /opt is for all)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
