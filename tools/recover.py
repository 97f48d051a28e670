"""mosrun -I and -R: what a checkpoint file says of the program, and the request to go on from it.

Only what these two need of the file is read here (the format: `mosfs.migrate.checkpoint`); all of it is checked by who recovers.
"""

import json
import os
import stat
import struct
import sys
import zlib

from mosfs.tools.options import Parsed, UsageError, UserError
from mosfs.tools.text import CORRUPT, NO_FILE, NO_RESTART, NO_WRITE_ACCESS, NOT_OPEN

MAGIC = b"MOSIX checkpoint 1\n"
RECORD = struct.Struct("<IHHI")
HEAD, LARGEST = 1, 256 << 20
FAILED = 125
#: Program options (mosrun(1), SYNOPSIS): a program that is recovered has its own.
PROGRAM_OPTIONS = ("unsupported", "needmem", "checkpoint_file", "argv0", "cpujob", "decay", "private", "wrapper", "cpu")
MODES = ("read", "write", "read+write", "-")
FLAGS = (
    (os.O_APPEND, "append"), (os.O_NONBLOCK, "nonblock"), (os.O_SYNC & ~os.O_DSYNC, "sync"), (os.O_DSYNC, "dsync"),
    (os.O_DIRECT, "direct"), (os.O_NOATIME, "noatime"), (os.O_PATH, "path"), (os.O_DIRECTORY, "directory"),
)  # fmt: skip


def opened(path: str, text: str) -> int:
    """A descriptor of the file; UserError with ``text``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UserError(CORRUPT, FAILED)
    except OSError as error:
        raise UserError(text.format(filename=path, reason=error.strerror), FAILED) from error
    return fd


def head_of(fd: int) -> dict:  # type: ignore[type-arg]
    """The head of a checkpoint file; the descriptor stands at its beginning again. UserError."""
    try:
        start = os.read(fd, len(MAGIC) + RECORD.size)
        size, kind, reserved, crc = RECORD.unpack(start[len(MAGIC) :])
        if start[: len(MAGIC)] != MAGIC or kind != HEAD or reserved or size > LARGEST:
            raise ValueError
        body = b""
        while len(body) < size and (part := os.read(fd, size - len(body))):
            body += part
        if len(body) != size or zlib.crc32(body, zlib.crc32(struct.pack("<IHH", size, kind, 0))) != crc:
            raise ValueError
        head = json.loads(body)
        os.lseek(fd, 0, os.SEEK_SET)
        if not isinstance(head, dict):
            raise ValueError
    except (OSError, ValueError, struct.error) as error:
        raise UserError(CORRUPT, FAILED) from error
    return head


def shown(path: str) -> str:
    """A path of the head, of which each character is a byte, for people: without what a terminal would obey."""
    name = path.encode("latin-1", "replace").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in name)


def inspect(parsed: Parsed) -> int:
    """mosrun -I."""
    path = parsed.values["inspect"]
    fd = opened(path, NO_FILE)
    head = head_of(fd)
    os.close(fd)
    try:
        if "json" in parsed:
            print(json.dumps(head))
            return 0
        print(f"{shown(head['comm'])}, process {head['pid']}; working directory {shown(head['folder'])}")
        print(f"{'FD':>4}  {'MODE':<10}  {'OFFSET':>10}  {'FLAGS':<16}  FILE")
        for file in head["files"]:
            flags = ",".join(name for bit, name in FLAGS if file["flags"] & bit == bit) or "-"
            note = {"unlinked": " (kept here)", "special": " (special)"}.get(file["what"], "")
            for number in file["fds"]:
                mode = MODES[file["flags"] & os.O_ACCMODE]
                print(f"{number:>4}  {mode:<10}  {file['offset']:>10}  {flags:<16}  {shown(file['path'])}{note}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(CORRUPT, FAILED) from error
    return 0


def reopened(words: "list[str]") -> "dict[int, str]":
    """What -O says: descriptor to file name. The list is separated by what it begins with, if that is no digit. UsageError."""
    found = {}
    for word in words:
        between, rest = (",", word) if not word or word[0].isdigit() else (word[0], word[1:])
        name = ""
        waiting: list[int] = []
        for part in rest.split(between):
            number, equals, name = part.partition("=")
            if not (number.isascii() and number.isdigit() and len(number) < 8) or (equals and not name):
                raise UsageError(f"-O: {part!r} is not fd=file")
            waiting.append(int(number))
            if equals:
                found.update(dict.fromkeys(waiting, name))
                waiting = []
        if waiting:
            raise UsageError(f"-O: {word!r} ends without a file")
    return found


def request(parsed: Parsed) -> "tuple[list[str], str]":
    """What is asked of mosd besides the location options (key=value), and the file that this process becomes first: the program's
    own, so that /proc shows it, or whatever is there."""
    for key in PROGRAM_OPTIONS:
        if key in parsed:
            raise UsageError("program options are not permitted with -R: the checkpoint file has their values")
    if parsed.rest:
        raise UsageError("no program is permitted with -R")
    path = parsed.values["restart"]
    fd = opened(path, NO_RESTART)
    head = head_of(fd)
    fields = [f"restart={fd}"]
    known = {number for file in head.get("files", ()) for number in file.get("fds", ())}
    for number, name in reopened(parsed.lists.get("reopen", [])).items():
        if number not in known:
            raise UserError(NOT_OPEN.format(number=number), FAILED)
        fields.append(f"reopen{number}=" + os.fsencode(name).decode("latin-1"))
    executable = str(head.get("executable", "")).encode("latin-1", "replace")
    usable = os.path.isfile(executable) and os.access(executable, os.X_OK)
    return fields, os.fsdecode(executable) if usable else sys.executable


def warn_of(name: str) -> str:
    """What to say when no checkpoints can be made with this base name; "" if they can."""
    folder = os.path.dirname(name) or "."
    return "" if os.access(folder, os.W_OK | os.X_OK) else NO_WRITE_ACCESS
