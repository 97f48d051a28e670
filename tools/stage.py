"""Lay out an installation: ``make install`` and the Debian package are made of it.

    python -m tools.stage WHEELS [--destdir DIR] [--prefix DIR] [--python FILE]

WHEELS is a folder with the wheels of mosfs and of all that it needs; nothing is fetched. They go to PREFIX/lib/mosfs, an
environment of their own, which the commands name. What is laid out does not name the machine that it was made on.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mosfs.tools import install_launchers
from mosfs.tools.options import UserError

SOURCE = Path(__file__).resolve().parent.parent

#: What mosd(8) is started by. -I and -S: neither its caller's environment nor the system's own libraries change which code runs.
MOSD = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
from mosfs.tools.mosd import main
sys.exit(main())
"""

#: Files of the source, where they go below the prefix ("" for an absolute place), and their modes.
FILES: tuple[tuple[str, str, int], ...] = (
    ("docs/man/*.1", "share/man/man1", 0o644),
    ("docs/man/*.7", "share/man/man7", 0o644),
    ("docs/man/*.8", "share/man/man8", 0o644),
    ("include/*.h", "include", 0o644),
    ("include/mosix/*.h", "include/mosix", 0o644),
    ("examples/*", "share/doc/mosfs/examples", 0o644),
    ("etc/mosix/*", "share/doc/mosfs/examples/mosix", 0o644),
    ("README.md", "share/doc/mosfs", 0o644),
    ("CHANGELOG.md", "share/doc/mosfs", 0o644),
    ("docs/compatibility.md", "share/doc/mosfs", 0o644),
    ("docs/mixed-clusters.md", "share/doc/mosfs", 0o644),
    ("docs/metrics.md", "share/doc/mosfs", 0o644),
    ("etc/prometheus/*", "share/doc/mosfs/examples/prometheus", 0o644),
    ("etc/jupyter/mosfs/*", "share/doc/mosfs/examples/jupyter/mosfs", 0o644),
    ("etc/grafana/*", "share/doc/mosfs/examples/grafana", 0o644),
    ("etc/completions/_mosfs", "share/zsh/vendor-completions", 0o644),
    ("etc/systemd/*.service", "lib/systemd/system", 0o644),
    ("etc/init.d/mosix", "/etc/init.d", 0o755),
    ("etc/default/mosix", "/etc/default", 0o644),
    ("etc/logrotate.d/mosix", "/etc/logrotate.d", 0o644),
    ("etc/mosix/README.md", "/etc/mosix", 0o644),
)
#: Folders of a node (mosix(7), manual 5.2-5.4) and their modes. What is private is root's alone.
FOLDERS = (
    ("/etc/mosix", 0o755), ("/etc/mosix/partners", 0o755), ("/var/mosix", 0o755), ("/var/mosix/multi", 0o755), ("/freeze", 0o700),
    ("/private", 0o700),
)


@dataclass(frozen=True, slots=True)
class Destination:
    """``destdir`` is put before every path that is written, ``prefix`` is what the paths are below once it is in use."""

    destdir: Path
    prefix: str

    def staged(self, path: str) -> Path:
        """Where ``path`` is written: below the prefix, or an absolute one as it is."""
        return Path(f"{self.destdir}/{os.path.join(self.prefix, path)}")

    @property
    def library(self) -> str:
        """The environment, as it is called in use."""
        return os.path.join(self.prefix, "lib/mosfs")


def stage(destination: Destination, wheels: Path, python: str) -> None:
    """Write everything. UserError when the wheels do not suffice; OSError."""
    _environment(destination, wheels)
    _commands(destination, python)
    for pattern, folder, mode in FILES:
        for source in sorted(SOURCE.glob(pattern)):
            if not source.is_dir():
                _copy(destination, source, f"{folder}/{source.name}", mode)
    _bash_completions(destination)
    for folder, mode in FOLDERS:
        destination.staged(folder).mkdir(parents=True, exist_ok=True)
        destination.staged(folder).chmod(mode)
    with contextlib.suppress(FileExistsError):  # the manual's name for the state of a node
        destination.staged("/etc/mosix/var").symlink_to("/var/mosix")


def _environment(destination: Destination, wheels: Path) -> None:
    """The package and its libraries, compiled for this Python, with neither pip's notes nor what only building needs."""
    library = Path(f"{destination.destdir}/{destination.library}")
    shutil.rmtree(library, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-index", f"--find-links={wheels}",
           "--no-compile", "--root-user-action=ignore", f"--target={library}", "mosfs"]  # fmt: skip
    done = subprocess.run(pip, capture_output=True, text=True, check=False, env={**os.environ, "PIP_CONFIG_FILE": os.devnull})
    if done.returncode:
        raise UserError(f"{wheels}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'pip failed'}")
    shutil.rmtree(library / "bin", ignore_errors=True)
    for name in _built_here(library):
        subprocess.run(["strip", "--strip-unneeded", name], check=True)
    (library / "mosfs/native/launch").chmod(0o755)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # The names that tracebacks show are those in use
    here = str(destination.destdir)
    if not compileall.compile_dir(library, quiet=1, force=True, stripdir=here, prependdir="/", invalidation_mode=mode):
        raise UserError(f"{library}: cannot be compiled")


def _built_here(library: Path) -> Iterator[Path]:
    """The binaries that this machine has compiled: they have its paths in what is for debuggers."""
    yield library / "mosfs/native/launch"
    yield from library.glob("mosfs/_native*.so")
    yield from library.glob("pyfuse3/*.so")


def _commands(destination: Destination, python: str) -> None:
    launch = f"{destination.library}/mosfs/native/launch"
    for name in install_launchers.LAUNCHERS:
        _write(destination.staged(f"bin/{name}"), install_launchers.script(name, python, destination.library, launch), 0o755)
    _write(destination.staged("sbin/mosd"), MOSD.format(python=python, folder=destination.library), 0o755)


def _bash_completions(destination: Destination) -> None:
    """bash-completion looks for a file of each command's name; all are links to one."""
    folder = destination.staged("share/bash-completion/completions")
    _copy(destination, SOURCE / "etc/completions/mosfs.bash", "share/bash-completion/completions/mosrun", 0o644)
    for name in ("mosd", *install_launchers.LAUNCHERS):
        if name != "mosrun":
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to("mosrun")


def _copy(destination: Destination, source: Path, target: str, mode: int) -> None:
    """A link stays a link; in services ``@SBIN@`` becomes the folder of mosd, ``@BIN@`` that of the other commands."""
    there = destination.staged(target)
    if source.is_symlink():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.unlink(missing_ok=True)
        there.symlink_to(os.readlink(source))
    else:
        text = source.read_text(encoding="utf-8")
        for mark, folder in (("@SBIN@", "sbin"), ("@BIN@", "bin")):
            text = text.replace(mark, os.path.join(destination.prefix, folder))
        _write(there, text, mode)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="stage", description="lay out an installation")
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--destdir", type=Path, default=Path())
    parser.add_argument("--prefix", default="/usr/local")
    parser.add_argument("--python", default=os.path.realpath(sys.executable))
    options = parser.parse_args(argv)
    os.umask(0o022)
    destdir = options.destdir.resolve() if options.destdir != Path() else Path("/")
    try:
        stage(Destination(destdir, options.prefix), options.wheels, options.python)
    except (UserError, OSError, ValueError) as error:
        print(f"stage: {error.text if isinstance(error, UserError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
