"""mosnative(1): run a program natively, outside of MOSIX, from a program that runs under mosrun."""

import sys

from mosfs.tools.mosrun import FAILED, execute, find, first_environment, go_native
from mosfs.tools.options import Command, Parsed, UsageError

MOSNATIVE = Command("mosnative", "mosnative program [args]...", "run a native program from within mosrun", ())


def launch(parsed: Parsed) -> int:
    """Returns only by UserError."""
    if not parsed.rest:
        from mosfs.tools.text import NO_PROGRAM

        raise UsageError(NO_PROGRAM)
    environ = first_environment()
    path = find(parsed.rest[0], environ)
    go_native()
    execute(path, parsed.rest, environ)
    return FAILED


def main(argv: list[str] | None = None) -> int:
    return MOSNATIVE.run(launch, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
