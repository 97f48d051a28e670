"""mosrun -I and -R: what a checkpoint file says of the program, and the request to go on from it.

Only what these two need of the file is read here (the format: `mosfs.migrate.checkpoint`); all of it is checked by who recovers.
"""

import errno
import json
import os
import stat
import struct
import sys
import zlib

from mosfs.cluster.words import printable
from mosfs.tools.options import Parsed, UsageError, UserError
from mosfs.tools.text import CORRUPT, NO_FILE, NO_LZOP, NO_RESTART, NO_WRITE_ACCESS, NOT_OPEN

#: The second kind is of programs with several threads.
MAGIC, OF_THREADS = b"MOSIX checkpoint 1\n", b"MOSIX checkpoint 2\n"
RECORD = struct.Struct("<IHHI")
HEAD, END, LARGEST = 1, 3, 16 << 20
#: The file in the folder of an incremental checkpoint that has all but the memory that is in others (`mosfs.migrate.increments`).
IMAGE = "image"
#: What is used here of a head, and of each of its files: the type (bytes: a text of which each character is one), and the range
#: of a number or of a length.
OF_HEAD = (
    ("pid", int, 0, 1 << 22), ("comm", str, 0, 64), ("folder", bytes, 0, 4096), ("executable", bytes, 0, 4096),
    ("files", list, 0, 4096),
)  # fmt: skip
OF_FILE = (
    ("fds", list, 1, 4096), ("what", str, 0, 64), ("path", bytes, 0, 4096), ("flags", int, 0, (1 << 32) - 1),
    ("offset", int, 0, (1 << 63) - 1),
)  # fmt: skip
OF_THREAD = (("tid", int, 1, 1 << 22),)
MOST_THREADS = 200
MOST_FD = (1 << 20) - 1
FAILED = 125
#: What unpacks files of lzop(1), and how those begin.
LZOP, LZOP_MAGIC = "/usr/bin/lzop", b"\x89LZO\0\r\n\x1a\n"
PIECE = 1 << 20
#: Program options (mosrun(1), SYNOPSIS): a program that is recovered has its own.
PROGRAM_OPTIONS = ("unsupported", "needmem", "checkpoint_file", "argv0", "cpujob", "decay", "private", "wrapper", "cpu")
MODES = ("read", "write", "read+write", "-")
FLAGS = (
    (os.O_APPEND, "append"), (os.O_NONBLOCK, "nonblock"), (os.O_SYNC & ~os.O_DSYNC, "sync"), (os.O_DSYNC, "dsync"),
    (os.O_DIRECT, "direct"), (os.O_NOATIME, "noatime"), (os.O_PATH, "path"), (os.O_DIRECTORY, "directory"),
)  # fmt: skip


def opened(path: str, text: str) -> "tuple[int, int]":
    """A descriptor of the file, and one of the folder that it is in, if the checkpoint is an incremental one, else the same;
    UserError with ``text``."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = whole = os.open(path, flags)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            try:
                fd = os.open(IMAGE, flags | os.O_NOFOLLOW, dir_fd=whole)
            except FileNotFoundError:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UserError(CORRUPT, FAILED)
        if fd == whole and os.pread(fd, len(LZOP_MAGIC), 0) == LZOP_MAGIC:
            fd = whole = unpacked(fd)
        return fd, whole
    except OSError as error:
        raise UserError(text.format(filename=path, reason=error.strerror), FAILED) from error


def unpacked(packed: int) -> int:
    """A descriptor of a file without a name, in the folder for temporary ones, that has what lzop makes of ``packed``, which is
    closed. UserError; OSError."""
    import subprocess  # both are needed here only
    import tempfile

    if not os.access(LZOP, os.X_OK):
        raise UserError(NO_LZOP, FAILED)
    with os.fdopen(packed, "rb") as source, tempfile.TemporaryFile(buffering=0) as file:
        environ = {name: value for name, value in os.environ.items() if name != "LZOP"}  # options of this user's
        command = [LZOP, "-dc"]
        with subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ) as lzop:
            assert lzop.stdout is not None
            try:
                while piece := lzop.stdout.read(PIECE):
                    left = memoryview(piece)
                    while left:
                        left = left[file.write(left) :]
            except BaseException:
                lzop.kill()
                raise
        if lzop.returncode:
            raise UserError(CORRUPT, FAILED)
        file.seek(0)
        return os.dup(file.fileno())


def head_of(fd: int, path: str = "") -> dict:  # type: ignore[type-arg]
    """The head of the checkpoint file ``path``; the descriptor stands at its beginning again. UserError."""
    try:
        start = os.read(fd, len(MAGIC) + RECORD.size)
        size, kind, reserved, crc = RECORD.unpack(start[len(MAGIC) :])
        if start[: len(MAGIC)] not in (MAGIC, OF_THREADS) or kind != HEAD or reserved or size > LARGEST:
            raise ValueError
        body = b""
        while len(body) < size and (part := os.read(fd, size - len(body))):
            body += part
        if len(body) != size or zlib.crc32(body, zlib.crc32(struct.pack("<IHH", size, kind, 0))) != crc:
            raise ValueError
        head = json.loads(body)
        os.lseek(fd, 0, os.SEEK_SET)
    except (OSError, ValueError, RecursionError, struct.error) as error:
        raise UserError(CORRUPT, FAILED) from error
    if wrong := fault(head):
        raise UserError(f"{CORRUPT}: {path}: {wrong}", FAILED)
    return head  # type: ignore[no-any-return]


def is_complete(fd: int) -> bool:
    """Whether the records of a checkpoint file follow each other up to the last one. Their contents are not read."""
    at, size = len(MAGIC), os.fstat(fd).st_size
    while True:
        record = os.pread(fd, RECORD.size, at)
        if len(record) != RECORD.size:
            return False
        length, kind, _, _ = RECORD.unpack(record)
        at += RECORD.size + length
        if kind == END or at > size or not kind:  # a hole is read as records of no kind, and may be as long as any file
            return bool(kind == END and at == size)


def fault(head: dict) -> str:  # type: ignore[type-arg]
    """What is no value of its field, of those that are used here; "" if all are."""
    if found := fault_in(head, OF_HEAD, ""):
        return found
    for file in head["files"]:
        if found := fault_in(file, OF_FILE, "files: "):
            return found
        for number in file["fds"]:
            if type(number) is not int or not 0 <= number <= MOST_FD:
                return f"files: fds: {said(number)}"
    threads = head.get("threads", [])
    if type(threads) is not list or len(threads) > MOST_THREADS:
        return f"threads: {said(threads)}"
    return next((found for thread in threads if (found := fault_in(thread, OF_THREAD, "threads: "))), "")


def fault_in(record: object, fields: tuple, where: str) -> str:  # type: ignore[type-arg]
    if not isinstance(record, dict):
        return f"{where}{said(record)}"
    for name, kind, least, most in fields:
        if name not in record and name != "offset":
            return f"{where}{name}: missing"
        value = record.get(name, 0)
        sound = type(value) is (str if kind is bytes else kind) and least <= (value if kind is int else len(value)) <= most
        if not sound or (kind is bytes and any(not 0 < ord(character) < 256 for character in value)):
            return f"{where}{name}: {said(value)}"
    return ""


def said(value: object) -> str:
    """The beginning of a value of the file, for people."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:40] + "..."


def shown(path: str) -> str:
    """A path of the head, of which each character is a byte, for people: without what a terminal would obey."""
    return printable(path.encode("latin-1", "replace").decode("utf-8", "replace"))


def inspect(parsed: Parsed) -> int:
    """mosrun -I."""
    if parsed.rest:
        raise UsageError(f"{parsed.rest[0]}: -I takes no program")
    path = parsed.values["inspect"]
    fd, _ = opened(path, NO_FILE)
    head = head_of(fd, path)
    complete = is_complete(fd)
    os.close(fd)
    if not complete:
        raise UserError(CORRUPT, FAILED)
    if "json" in parsed:
        print(json.dumps(head))
        return 0
    print(f"{shown(head['comm'])}, process {head['pid']}; working directory {shown(head['folder'])}")
    if threads := [thread["tid"] for thread in head.get("threads", [])]:
        print(f"{len(threads) + 1} threads: {' '.join(map(str, [head['pid'], *threads]))}")
    print(f"{'FD':>4}  {'MODE':<10}  {'OFFSET':>10}  {'FLAGS':<16}  FILE")
    for file in head["files"]:
        flags = ",".join(name for bit, name in FLAGS if file["flags"] & bit == bit) or "-"
        note = {"unlinked": " (kept here)", "special": " (special)"}.get(file["what"], "")
        for number in file["fds"]:
            mode = MODES[file["flags"] & os.O_ACCMODE]
            print(f"{number:>4}  {mode:<10}  {file.get('offset', 0):>10}  {flags:<16}  {shown(file['path'])}{note}")
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


def request(parsed: Parsed) -> "tuple[list[str], str, int]":
    """What is asked of mosd besides the location options (key=value), the file that this process becomes first: the program's
    own, so that /proc shows it, or whatever is there; and the process ID that it must have, 0 for any (`tools.parent`)."""
    for key in PROGRAM_OPTIONS:
        if key in parsed:
            raise UsageError("program options are not permitted with -R: the checkpoint file has their values")
    if parsed.rest:
        raise UsageError("no program is permitted with -R")
    path = parsed.values["restart"]
    fd, checkpoint = opened(path, NO_RESTART)
    head = head_of(fd, path)
    fields = [f"restart={checkpoint}"]
    known = {number for file in head["files"] for number in file["fds"]}
    for number, name in reopened(parsed.lists.get("reopen", [])).items():
        if number not in known:
            raise UserError(NOT_OPEN.format(number=number), FAILED)
        fields.append(f"reopen{number}=" + os.fsencode(name).decode("latin-1"))
    executable = head["executable"].encode("latin-1")
    usable = os.path.isfile(executable) and os.access(executable, os.X_OK)
    number = head["pid"] if head.get("threads") or "same_pid" in parsed else 0
    return fields, os.fsdecode(executable) if usable else sys.executable, number


def warn_of(name: str) -> str:
    """What to say when no checkpoints can be made with this base name; "" if they can."""
    folder = os.path.dirname(name) or "."
    return "" if os.access(folder, os.W_OK | os.X_OK) else NO_WRITE_ACCESS
