"""Mounting the tree, and healing what a killed mosd left."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pyfuse3

from mosfs.fuse.operations import Operations

log = logging.getLogger(__name__)

DEVICE = "/dev/fuse"
_MNT_DETACH = 2
_NO_DEVICE = (errno.ENOENT, errno.ENXIO, errno.ENODEV)
_libc = ctypes.CDLL(None, use_errno=True)


class MountError(Exception):
    """The tree cannot be mounted: one line for the administrator."""


def require_fuse() -> None:
    """`MountError` when this kernel, or this container, has no FUSE for us. libfuse would say it to the log only."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        hint = " (modprobe fuse; a container needs the device passed in)" if error.errno in _NO_DEVICE else ""
        raise MountError(f"{DEVICE}: {error.strerror}{hint}") from None


def detach(path: str) -> bool:
    """Lazily unmount what is mounted at ``path`` (umount2(2), MNT_DETACH); False when nothing is."""
    if os.geteuid() != 0:
        return subprocess.run(["fusermount3", "-u", "-z", "--", path], check=False).returncode == 0
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), path)


def _mounted(path: str) -> bool:
    """Is something mounted at ``path``? Reads /proc/self/mountinfo: a dead mount answers no stat(2)."""
    shown = os.fsencode(path)
    for special in b"\\ \t\n":  # proc(5): written as octal
        shown = shown.replace(bytes([special]), b"\\%03o" % special)
    with open("/proc/self/mountinfo", "rb") as lines:
        return any(line.split(b" ", 5)[4] == shown for line in lines)


def unmount_all(path: str) -> None:
    """Remove every mount at ``path``: only one mosd runs per root, so whatever is there belongs to a dead one."""
    while _mounted(path) and detach(path):
        log.warning("detached the dead mount %s", path)


@contextmanager
def mounted(operations: Operations, path: str) -> Iterator[None]:
    """The tree is mounted at ``path``; unmounted on exit, even while somebody uses it. `pyfuse3.main` serves it.

    `MountError` when that cannot be.
    """
    require_fuse()
    unmount_all(path)
    os.makedirs(path, exist_ok=True)
    options = {"fsname=mosd", "subtype=mosfs"}
    if os.geteuid() == 0:
        options.add("allow_other")
    try:
        pyfuse3.init(operations, path, options)
    except RuntimeError as error:  # libfuse has said why, to the log
        raise MountError(f"{path}: cannot be mounted ({error}; the log says more)") from None
    try:
        yield
    finally:
        pyfuse3.close(unmount=True)
