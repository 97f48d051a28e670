"""Build the Debian package: ``make deb``, or ``python -m tools.deb WHEELS DIRECTORY``.

It holds an environment of its own, made for one Python: the one that builds it, on which the package depends by its version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mosfs
from mosfs.tools.options import UserError
from tools import stage

CONTROL = """Package: mosfs
Version: {version}
Architecture: amd64
Maintainer: The mosfs developers <mosfs@localhost>
Section: net
Priority: optional
Installed-Size: {size}
Depends: {libraries}, {python}, init-system-helpers
Recommends: fuse3
Suggests: bash-completion, logrotate
Conflicts: mosix
Description: unmodified programs that migrate between nodes while they run
 MOSIX 4 as a layer of files: mosrun starts a program that can run on any node
 of a cluster, move to another one in mid-computation, and come home.
 .
 This package is made for {python}. For another Python build one there, with
 make deb in the source.
"""
#: The configuration that an upgrade keeps.
CONFFILES = ("/etc/default/mosix", "/etc/init.d/mosix", "/etc/logrotate.d/mosix", "/etc/mosix/README.md")
LICENCES = "/usr/share/doc/mosfs/copyright"


def build(wheels: Path, directory: Path) -> Path:
    """Make the package of ``wheels`` in ``directory``; its path. UserError or OSError."""
    python = os.path.realpath(sys.executable)
    if not python.startswith("/usr/bin/python3."):
        raise UserError(f"{python} is not the Python of a package of this distribution: make setup PYTHON=/usr/bin/python3")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir(mode=0o755)
        stage.stage(stage.Destination(root, "/usr"), wheels, python)
        _compress_pages(root)
        (root / LICENCES[1:]).write_text(licences(root / "usr/lib/mosfs"), encoding="utf-8")
        size = sum(path.lstat().st_size for path in root.rglob("*")) >> 10
        control = root / "DEBIAN"
        control.mkdir(mode=0o755)
        version = f"{mosfs.__version__}-1"
        text = CONTROL.format(version=version, size=size, python=os.path.basename(python), libraries=_libraries(root, Path(folder)))
        (control / "control").write_text(text)
        (control / "conffiles").write_text("".join(f"{name}\n" for name in CONFFILES))
        for script in (stage.SOURCE / "etc/debian").iterdir():
            shutil.copy(script, control)
            (control / script.name).chmod(0o755)
        directory.mkdir(parents=True, exist_ok=True)
        package = directory / f"mosfs_{version}_amd64.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(package)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package


def _compress_pages(root: Path) -> None:
    """Man pages as Debian has them."""
    for page in list((root / "usr/share/man").rglob("*.[178]")):
        if page.is_symlink():
            page.with_name(f"{page.name}.gz").symlink_to(f"{os.readlink(page)}.gz")
            page.unlink()
        else:
            subprocess.run(["gzip", "-9n", page], check=True)


def _libraries(root: Path, folder: Path) -> str:
    """The packages of the shared libraries that our binaries need, with their versions (dpkg-shlibdeps)."""
    (folder / "debian").mkdir()
    (folder / "debian/control").write_text("Source: mosfs\n\nPackage: mosfs\nArchitecture: amd64\n")
    binaries = [path for path in (root / "usr/lib/mosfs").rglob("*.so*") if not path.is_symlink()]
    command = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", *(f"-e{path}" for path in binaries)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip().splitlines()[-1])
    return done.stdout.strip().removeprefix("shlibs:Depends=")


def licences(library: Path) -> str:
    """The copyright file: ours, and the licence texts of what is bundled."""
    return "\n".join(_licences(library))


def _licences(library: Path) -> Iterator[str]:
    yield "mosfs: GNU General Public License, version 2 or (at your option) any later version;"
    yield "on Debian systems its text is in /usr/share/common-licenses/GPL-2.\n"
    yield "It does not come from the makers of MOSIX. Bundled in /usr/lib/mosfs:\n"
    for info in sorted(library.glob("*.dist-info")):
        if not info.name.startswith("mosfs-"):
            yield f"{'-' * 79}\n{info.name.removesuffix('.dist-info')}\n"
            for path in sorted(info.rglob("*")):
                if path.is_file() and path.name.upper().startswith(("LICENSE", "COPYING")):
                    yield path.read_text(encoding="utf-8", errors="replace")


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 2:
        print("usage: python -m tools.deb WHEELS DIRECTORY", file=sys.stderr)
        return 2
    os.umask(0o022)
    try:
        print(build(Path(words[0]), Path(words[1])))
    except (UserError, OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"deb: {error.text if isinstance(error, UserError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
