"""``/etc/mosix/secret``: the password that makes a node one of us (mosix(7)). No error ever shows any of it."""

from __future__ import annotations

import os
import stat

from mosfs.cluster.errors import ConfigError

MIN_LENGTH = 8
_MODE = 0o600
_MAX_SIZE = 64 * 1024


def parse_secret(data: bytes, file: str = "secret") -> bytes:
    """The password in the file's content: one line of at least 8 bytes, without its end, which may be that of other systems'
    editors. ConfigError otherwise."""
    secret = data.removesuffix(b"\n").removesuffix(b"\r")
    if not secret.strip():
        raise ConfigError(file, "empty")
    if b"\n" in secret:
        raise ConfigError(file, "must be a single line", line=2)
    if len(secret) < MIN_LENGTH:
        raise ConfigError(file, f"too short: {len(secret)} characters, at least {MIN_LENGTH} are needed", line=1)
    return secret


def print_secret(secret: bytes) -> bytes:
    return secret + b"\n"


def validate_secret_file(mode: int, owner: int, uid: int, file: str = "secret") -> None:
    """ConfigError unless a daemon of ``uid`` can rely on the secrecy of a file with this ``st_mode`` and ``st_uid``."""
    if not stat.S_ISREG(mode):
        raise ConfigError(file, "not a regular file")
    if owner not in (0, uid):
        raise ConfigError(file, f"must belong to root or to uid {uid}", value=f"uid {owner}")
    if stat.S_IMODE(mode) != _MODE:
        raise ConfigError(file, "mode must be 0600 (chmod 600!)", value=f"mode {stat.S_IMODE(mode):04o}")


def read_secret(file: str) -> bytes:
    """The password in ``file``. Mode, owner and content are those of one open file: nobody can exchange it in between.

    ConfigError, or OSError when it cannot be opened.
    """
    # O_NONBLOCK: a FIFO in its place must not hang the daemon.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        validate_secret_file(status.st_mode, status.st_uid, os.geteuid(), file)
        return parse_secret(os.read(fd, _MAX_SIZE), file)
    finally:
        os.close(fd)
