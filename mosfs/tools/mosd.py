"""mosd(8): the MOSIX daemon of this node."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError, UserError

MOSD = Command("mosd", "mosd [--root {dir}] [--foreground]\nmosd --kernel", "the MOSIX daemon of this node", (
    Option("--root", "root", "use the files below this directory (default: MOSIX_ROOT, or /)", TEXT, metavar="dir"),
    Option("--foreground", "foreground", "stay in the foreground, and log to standard error"),
    Option("--kernel", "kernel", "print what this kernel lacks and what is lost by that, a line each, and exit"),
    Option("--tracer", "tracer", "module of the tracer, for tests", TEXT, metavar="module"),
    Option("--host", "host", "module of the guests' host, for tests", TEXT, metavar="module"),
))


def ready(manager: str) -> None:
    """Tell the service manager that we are up (sd_notify(3)): ``manager`` is the address that it has given, "" for none."""
    import socket

    if not manager:
        return
    address = f"\0{manager[1:]}" if manager.startswith("@") else manager  # the first is Linux's abstract name space
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.sendto(b"READY=1", address)
    except OSError as error:
        os.write(2, f"mosd: NOTIFY_SOCKET: {error}\n".encode())


def serve(parsed: Parsed) -> int:
    """0 when it is up (in the background) or has ended as told; one line and 1 when it cannot run."""
    if parsed.rest:
        raise UsageError(f"{parsed.rest[0]}: too much")
    try:
        importlib.import_module("mosfs.native")
    except ImportError as error:  # the C module is not there, or was built from other sources
        raise UserError(str(error)) from None
    if "kernel" in parsed:
        from mosfs.native.kernel import missing

        print(*missing(), sep="\n", end="\n" if any(missing()) else "")
        return 0
    from mosfs.cluster.errors import ConfigError
    from mosfs.cluster.paths import NodePaths, Ports
    from mosfs.daemon.lifecycle import in_background

    paths = NodePaths(parsed.get("root") or os.environ.get("MOSIX_ROOT", ""))
    # Tracers and hosts look here; it must be right for them whatever mosd was told
    os.environ["MOSIX_ROOT"] = paths.root
    try:
        ports = Ports.from_env()
    except ConfigError as error:
        raise UserError(str(error)) from None

    manager = os.environ.pop("NOTIFY_SOCKET", "")  # for us alone, not for helpers

    def complain(why: str) -> None:
        if why:
            os.write(2, f"mosd: {why}\n".encode())
        else:
            ready(manager)

    def work(report: Callable[[str], None]) -> int:
        from mosfs.daemon.service import Options, run
        from mosfs.daemon.spawner import Engine

        engine = Engine()
        engine = Engine(parsed.get("tracer", engine.tracer), parsed.get("host", engine.host))
        os.chdir("/")
        os.umask(0o022)
        return run(Options(paths, ports, engine, "foreground" in parsed), report)

    if "foreground" not in parsed:
        return in_background(work)
    return work(complain)


def main(argv: list[str] | None = None) -> int:
    return MOSD.run(serve, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
