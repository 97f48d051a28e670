"""What the second computer boots: a kernel of this distribution, and a small root in memory. Built once, in build/machines.

The project itself is not in it: the machine mounts the folder of this checkout, at the same place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
BUILT = REPO / "build" / "machines"
#: What the root holds beside the essential packages: what the programs of the tests and mosfs call.
PACKAGES = "python3,libfuse3-3,fuse3,iproute2,procps,kmod,gawk,bash,util-linux"
MODULES = ("fuse", "virtio_pci", "virtio_net", "9p", "9pnet_virtio")
TOOLS = ("qemu-system-x86_64", "debootstrap", "depmod", "modprobe", "cpio", "dpkg-deb", "ip", "nsenter", "unshare")

INIT = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run /tmp
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
for folder in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $folder; done
chmod 1777 /tmp /dev/shm
for module in $(cat /modules.order); do insmod $module; done
for word in $(cat /proc/cmdline); do case $word in mosfs.*) eval "$(echo ${{word#mosfs.}})";; esac; done
ip link set lo up
ip link set eth0 up
ip addr add $address/24 dev eth0
mkdir -p "{REPO}"
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 source "{REPO}"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
cd /
python3 -u "{REPO}/tests/machines/guest.py" $address
sync
echo o > /proc/sysrq-trigger
sleep 60
"""


class CannotBuild(Exception):
    """There is no second computer here; the text says why."""


@dataclass(frozen=True)
class Image:
    kernel: Path
    root: Path
    version: str  # of the kernel


def _run(*command: str, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise CannotBuild(f"{' '.join(command[:3])} ...: {(done.stderr or done.stdout).strip()[-400:]}")
    return str(done.stdout)


def _kernel(folder: Path) -> str:
    """Unpack the distribution's kernel below ``folder``; its version."""
    depends = _run("apt-cache", "depends", "linux-image-amd64")
    name = next((line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line), "")
    if not name:
        raise CannotBuild("this distribution has no package linux-image-amd64")
    folder.mkdir(parents=True)
    _run("apt-get", "download", name, cwd=folder)
    package = next(folder.glob("*.deb"))
    _run("dpkg-deb", "-x", str(package), str(folder))
    package.unlink()
    version = name.removeprefix("linux-image-")
    modules = folder / "lib" / "modules"
    if not modules.exists():
        modules = folder / "usr" / "lib" / "modules"
        (folder / "lib").symlink_to("usr/lib")
    _run("depmod", "-b", str(folder), version)
    return version


def _modules(folder: Path, version: str, root: Path) -> None:
    """Copy the modules that the machine needs, with their order."""
    order: list[str] = []
    for name in MODULES:
        for line in _run("modprobe", "-d", str(folder), "-S", version, "--show-depends", name).splitlines():
            if line.startswith("insmod") and (path := line.split()[1]) not in order:
                order.append(path)
    (root / "modules").mkdir(exist_ok=True)
    for path in order:
        shutil.copy(path, root / "modules")
    (root / "modules.order").write_text("".join(f"/modules/{Path(path).name}\n" for path in order))


def _suite() -> str:
    with open("/etc/os-release", encoding="utf-8") as file:
        found = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    return found.get("VERSION_CODENAME", "bookworm").strip('"')


def _root(folder: Path) -> None:
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", _suite(), str(folder))
    for name in ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf"):
        shutil.rmtree(folder / name, ignore_errors=True)


def build() -> Image:
    """The image, made now if it is not there. CannotBuild: what is missing, and what brings it."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise CannotBuild(f"not installed: {' '.join(missing)} (make test-machines, as root, installs them)")
    if os.geteuid():
        raise CannotBuild("needs root")
    done = BUILT / "version"
    if not done.exists():
        shutil.rmtree(BUILT, ignore_errors=True)
        version = _kernel(BUILT / "kernel")
        print("machines: building the root of the second computer", file=sys.stderr)
        _root(BUILT / "root")
        _modules(BUILT / "kernel", version, BUILT / "root")
        done.write_text(version)
    version = done.read_text()
    init = BUILT / "root" / "vminit"
    if not init.exists() or init.read_text() != INIT or not (BUILT / "root.cpio").exists():
        init.write_text(INIT)
        init.chmod(0o755)
        _run("sh", "-c", "find . -xdev | cpio --quiet -H newc -o > ../root.cpio", cwd=BUILT / "root")
    return Image(BUILT / "kernel" / "boot" / f"vmlinuz-{version}", BUILT / "root.cpio", version)
