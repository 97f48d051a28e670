"""mosrun(1) and mosenv: start a program that may run, and move, anywhere in the cluster.

The launcher asks mosd for a tracer, which seizes this very process; then it execs the program. So the program is the
shell's own child, with the PID, terminal, process group and exit status that the shell expects. All a start costs
beyond the interpreter is paid in this file, which therefore imports only modules built into the interpreter;
`install_launchers` starts it without site-packages.
"""

import posix
import sys

from mosfs.tools.options import GLUED, INT, LIST, NODE, TEXT, Command, Option, Parsed, UsageError, UserError, complain

FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127  #: as env(1), timeout(1) and the shell have it
MAX_FILES = 1024
MAX_DIRECTORIES = 4096  #: bytes of ~/.freeze_dirs
#: Below MOSIX_ROOT. `mosfs.cluster.paths` knows it too, but costs more than all of this file; a test compares the two.
SOCKET = "run/mosd/sock"
SUN_PATH = 107
EPERM, ENOENT, EACCES, ENOTDIR, ENOEXEC = 1, 2, 13, 20, 8

#: Rows whose values go to mosd under their own key; the others are the launcher's business.
KEYS = ("unsupported", "lock", "freezable", "needmem", "cpujob", "decay", "node", "force", "trace", "cpu", "checkpoint_file",
        "checkpoint_limit", "checkpoint_interval", "outlive", "incremental", "threads", "share_memory", "compress")
#: Rows that are about -S.
QUEUE = ("joblog", "resume", "resume_failed", "retries", "halt", "timeout", "delay", "group", "keep_order", "progress")
#: What --cpu takes. `mosfs.abi.levels` knows them too, but costs more than all of this file; a test compares the two.
LEVELS = ("common", "x86-64-v2", "x86-64-v3", "x86-64-v4", "native", "v2", "v3", "v4")
#: This command, as the code of a Python that knows its folder.
AGAIN = "import sys; sys.path.insert(0, {folder!r}); from mosfs.tools.mosrun import main; sys.exit(main())"
#: Variables in which several things are said, and what stands between these. In the first what comes last wins, and must be ours.
JOINED = {b"GLIBC_TUNABLES": b":", b"GODEBUG": b","}
HWCAPS = b"glibc.cpu.hwcaps="

TABLE = (
    Option("-b", "node", "start on the best available node", value="best"),
    Option("-r", "node", "start on this host", TEXT, metavar="host"),
    Option("-", "node", "start on this node: its number, or its IP (a.b.c.d)", NODE, metavar="n"),
    Option("-h", "node", "start in the home-node", value="home"),
    Option("-F", "force", "run the program even if that node is unavailable"),
    Option("--trace", "trace", "tell the system calls that MOSIX serves, on standard error or to a file", GLUED, metavar="file"),
    Option("-L", "lock", "do not migrate the program automatically", value="1"),
    Option("-l", "lock", "reverse the effect of -L", value="0"),
    Option("-g", "freezable", "do not freeze the program automatically", value="0"),
    Option("-G", "freezable", "reverse the effect of -g", value="1"),
    Option("-m", "needmem", "memory that the program needs, in megabytes", INT, metavar="mb", high=262143),
    Option("--outlive", "outlive", "the program goes on when the node where it runs dies", value="1"),
    Option("-e", "unsupported", "unsupported system calls fail with ENOSYS instead of ending the program", value="1"),
    Option("-w", "unsupported", "as -e, with a line on standard error for each", value="2"),
    Option("-u", "unsupported", "reverse the effect of -e and -w", value="0"),
    Option("--stay-home", "unsupported", "unsupported system calls keep the program at home, and work", value="3"),
    Option("--threads", "threads", "reverse the effect of --no-threads", value="1"),
    Option("--no-threads", "threads", "threads are unsupported, as in MOSIX", value="0"),
    Option("--share-memory", "share_memory", "programs may share memory, and move with it", value="1"),
    Option("--no-share-memory", "share_memory", "reverse the effect of --share-memory", value="0"),
    Option("--cpu", "cpu", "let the program use no more of its processor than others have", TEXT, metavar="level"),
    Option("-z", "argv0", "the program's arguments begin at argument #0"),
    Option("-c", "cpujob", "leave system calls and I/O out of migration considerations", value="1"),
    Option("-n", "cpujob", "reverse the effect of -c", value="0"),
    Option("-d", "decay", "share of 10000 of its statistics kept each second", INT, metavar="decay", high=10000),
    Option("-p", "wrapper", "called by a setgid wrapper: run the program with the real group"),
    Option("-t -T", "ignored", "ignored: options of older releases"),
    Option("-S", "queue", "run the lines of a commands-file, so many at a time", INT, metavar="maxjobs", low=1,
           high=30000),
    Option("--joblog", "joblog", "with -S: write how each line ended, as GNU parallel does", TEXT, metavar="file"),
    Option("--resume", "resume", "with --joblog: go on where an earlier queue has stopped"),
    Option("--resume-failed", "resume_failed", "as --resume, and run the lines that failed again"),
    Option("--retries", "retries", "with -S: try a line so many times", INT, metavar="n", low=1, high=1000000),
    Option("--halt", "halt", "with -S: when to stop early: now,fail=1 or soon,fail=10% and the like", TEXT, metavar="when"),
    Option("--timeout", "timeout", "with -S: end a line that runs longer: seconds, or with m, h, d", TEXT, metavar="time"),
    Option("--delay", "delay", "with -S: time between the starts of two lines", TEXT, metavar="time"),
    Option("--group", "group", "with -S: print what a line prints when it has ended, not mixed"),
    Option("--keep-order", "keep_order", "with -S: as --group, in the order of the lines"),
    Option("--progress", "progress", "with -S: tell how far it is, also when not on a terminal"),
    Option("-R", "restart", "continue from a checkpoint file", TEXT, metavar="file"),
    Option("-O", "reopen", "with -R: other files for these descriptors", LIST, metavar="fd=file"),
    Option("--same-pid", "same_pid", "with -R: with the process ID that the program had"),
    Option("-I", "inspect", "inspect a checkpoint file", TEXT, metavar="file"),
    Option("--json", "json", "with -I: as JSON"),
    Option("-A", "checkpoint_interval", "checkpoint every so many minutes", INT, metavar="minutes", high=10000000),
    Option("-C", "checkpoint_file", "base name of checkpoint files", TEXT, metavar="file"),
    Option("-N", "checkpoint_limit", "checkpoint files before they are recycled", INT, metavar="max", high=10000000),
    Option("--incremental", "incremental", "checkpoints share what has not changed since the last one", value="1"),
    Option("--compress", "compress", "checkpoint and freeze files are compressed", value="1"),
    Option("--no-compress", "compress", "reverse the effect of --compress", value="0"),
    Option("-X", "private", "a directory of private temporary files", LIST, metavar="/directory"),
)

SYNOPSIS = """
{0} [location options] [program options] program [args]...
{0} -S{{maxjobs}} [location options] [program options] [queue options] {{commands-file}}[,{{failed-file}}]
{0} -R{{file}} [-O{{fd=file}}[,{{fd2=file2}}]]... [location options]
{0} -I{{file}}
"""

MOSRUN = Command("mosrun", SYNOPSIS.format("mosrun"), "run a program that can migrate", TABLE)
MOSENV = Command("mosenv", SYNOPSIS.format("mosenv"), "mosrun for programs that need LD_LIBRARY_PATH", TABLE)


def request(parsed: Parsed) -> bytes:
    """The launcher's one message (docs/design/protocols.md): ``RUN`` and what was given, as key=value."""
    fields = [f"{key}={parsed.values[key]}" for key in KEYS if key in parsed.values]
    if "private" in parsed:
        fields.append("private=" + private(parsed.lists["private"]))
    if own := freezing_directories(first_environment()):
        fields.append("freeze_dirs=" + own)
    return "\0".join(["RUN", *fields]).encode("utf-8", "surrogateescape")


def freezing_directories(environ: dict[bytes, bytes]) -> str:
    """What FREEZE_DIR says, else the lines of $HOME/.freeze_dirs; "" for neither. UserError when that cannot be read."""
    directory = posix_decode(environ.get(b"FREEZE_DIR", b""))
    if directory:
        return directory
    path = posix_decode(environ.get(b"HOME", b"")) + "/.freeze_dirs"
    try:
        file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return ""
    try:
        lines = posix.read(file, MAX_DIRECTORIES + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", FAILED) from error
    finally:
        posix.close(file)
    if len(lines) > MAX_DIRECTORIES:
        raise UserError(f"{path}: longer than {MAX_DIRECTORIES} bytes", FAILED)
    return posix_decode(lines)


def private(names: list[str]) -> str:
    """The directories of -X as mosd wants them; UserError in the manual's words, with what the manual says of them."""
    from mosfs.ptf.directories import join, refusal

    if reason := refusal(names):
        rule = ": it must start with '/' and not include '..'" if reason.startswith("Invalid") else ""
        raise UserError(reason + rule, FAILED)
    return join(names)


def ask(message: bytes) -> list[bytes]:
    """Send ``message`` to this node's mosd and wait for its OK; UserError with its text otherwise.

    Returns what the program's environment shall have besides (NAME=value).

    The socket is close-on-exec and stays open until then: mosd and the tracer see its end as the exec.
    """
    import _socket

    path = root_path(SOCKET)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        if len(path.encode(errors="surrogateescape")) > SUN_PATH:  # through its folder's descriptor any length will do
            folder = posix.open(path.rpartition("/")[0], posix.O_PATH | posix.O_CLOEXEC)
            path = f"/proc/self/fd/{folder}/sock"
        connection.connect(path)
    except OSError as error:
        from mosfs.tools.text import NOT_RUNNING

        raise UserError(NOT_RUNNING.format(socket=root_path(SOCKET)), FAILED) from error
    try:
        connection.send(message)
        answer = connection.recv(65536)
    except OSError:
        answer = b""
    word, *preset = answer.split(b"\0")
    if word != b"OK":
        from mosfs.tools.text import NO_ANSWER

        raise UserError(answer.removeprefix(b"ERR\0").decode("utf-8", "replace") or NO_ANSWER, FAILED)
    _held.append(connection)
    return preset


_held: list[object] = []  # keeps the connection from being collected, and thereby closed, before the exec


def root_path(name: str) -> str:
    root = posix.environ.get(b"MOSIX_ROOT", b"") or b"/"
    return posix_decode(root).rstrip("/") + "/" + name


def posix_decode(name: bytes) -> str:
    return name.decode(sys.getfilesystemencoding(), "surrogateescape")


def find(program: str, environ: dict[bytes, bytes]) -> str:
    """Path of ``program`` as execvp(3) would find it; UserError 127 if there is none, 126 if it cannot be executed."""
    found = ENOENT
    folders = [""] if "/" in program else posix_decode(environ.get(b"PATH", b"/bin:/usr/bin")).split(":")
    for folder in folders:
        path = program if "/" in program else f"{folder or '.'}/{program}"
        try:
            mode = posix.stat(path).st_mode
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR) or "/" in program:
                found = error.errno or ENOENT
            continue
        if mode & 0o170000 == 0o100000 and posix.access(path, posix.X_OK):
            return path
        found = EACCES
    raise UserError(f"{program}: {posix.strerror(found)}", NOT_FOUND if found in (ENOENT, ENOTDIR) else NOT_EXECUTABLE)


def is_32bit(path: str) -> bool:
    """Whether ``path`` is an ELF file of class 32; False for what cannot be read or is a script."""
    try:
        file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        return posix.read(file, 5) == b"\x7fELF\x01"
    except OSError:
        return False
    finally:
        posix.close(file)


def open_trace(path: str) -> int:
    """The descriptor of this process where the calls shall be told, which the tracer copies: of the file, or standard error."""
    try:
        if not path:
            posix.fstat(2)  # where it is closed, 2 would be the connection to mosd
            return 2
        return posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_APPEND | posix.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(f"{path or 'standard error'}: {error.strerror}", FAILED) from error


def first_environment() -> dict[bytes, bytes]:
    """The environment this process was started with.

    Python adds LC_CTYPE to its own when the locale is C (PEP 538); the program must not see that. The kernel still has
    the original.
    """
    if posix.environ.get(b"LC_CTYPE") != b"C.UTF-8":
        return posix.environ
    try:
        file = posix.open("/proc/self/environ", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return posix.environ
    parts = []
    while part := posix.read(file, 1 << 20):
        parts.append(part)
    posix.close(file)
    original = [entry.partition(b"=") for entry in b"".join(parts).split(b"\0")]
    return {name: value for name, equals, value in original if equals} or posix.environ


def with_preset(environ: dict[bytes, bytes], preset: list[bytes]) -> dict[bytes, bytes]:
    """``environ`` with what mosd presets. What the user has set stays; a variable that says several things has both."""
    made = dict(environ)
    for entry in preset:
        name, _, value = entry.partition(b"=")
        mine, between = environ.get(name, b""), JOINED.get(name, b"")
        if between and mine:
            made[name] = tunables(mine, value) if name == b"GLIBC_TUNABLES" else value + between + mine
        elif not mine:
            made[name] = value
    return made


def tunables(mine: bytes, preset: bytes) -> bytes:
    """GLIBC_TUNABLES of the user with ours, which is one of hwcaps: what it names is out of use, whatever else is."""
    words = mine.split(b":")
    theirs = [word.removeprefix(HWCAPS) for word in words if word.startswith(HWCAPS)]
    capabilities = b",".join([*theirs, preset.removeprefix(HWCAPS)])
    return b":".join([*(word for word in words if not word.startswith(HWCAPS)), HWCAPS + capabilities])


def check_descriptors() -> None:
    """mosrun(1), LIMITATIONS: a program has 1024 files at most, so none beyond may be open."""
    for name in posix.listdir("/proc/self/fd"):
        if int(name) >= MAX_FILES:
            from mosfs.tools.text import FILE_DESCRIPTOR

            raise UserError(FILE_DESCRIPTOR.format(number=name), FAILED)


def give_signals_back() -> None:
    """Make SIGPIPE and SIGXFSZ as they were: the interpreter ignores them for itself, and what is ignored stays so over exec.

    Our commands' first line (native/launch.c) notes which signals were ignored; of a Python that was started otherwise nobody
    knows, and both become the default."""
    import _signal  # type: ignore[import-not-found]

    ignored = int(sys._xoptions.get("ignored") or "0", 16)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_IGN if ignored >> (number - 1) & 1 else _signal.SIG_DFL)


def execute(path: str, argv: list[str], environ: dict[bytes, bytes]) -> None:
    """Become the program; returns only by UserError. A text file without ``#!`` is the shell's, as in execvp(3)."""
    give_signals_back()
    try:
        posix.execve(path, argv, environ)
    except OSError as error:
        failure = error
    if failure.errno == ENOEXEC:
        try:
            posix.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], environ)
        except OSError as error:
            failure = error
    status = NOT_FOUND if failure.errno in (ENOENT, ENOTDIR) else NOT_EXECUTABLE
    raise UserError(f"{path}: {failure.strerror}", status)


def take_real_group() -> None:
    """Give the wrapper's group up. Its mark on this process, that nobody may trace it, goes with an exec of the same command; not
    of the same file, which that group alone may read (manual, 6.5)."""
    group = posix.getgid()
    if posix.getresgid() != (group, group, group):
        posix.setresgid(group, group, group)
        words = list(sys.orig_argv)
        if sys.argv[0] in words:
            at = words.index(sys.argv[0])
            words[at:at + 1] = ["-c", AGAIN.format(folder=sys.path[0])]
        posix.execve(sys.executable, words, first_environment())


def launch(parsed: Parsed) -> int:
    """The whole of mosrun: returns only by UserError."""
    import _signal

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if "inspect" in parsed:
        from mosfs.tools.recover import inspect

        return inspect(parsed)
    if "restart" in parsed:
        return recover(parsed)
    if "reopen" in parsed:
        raise UsageError("-O needs -R: which checkpoint file?")
    if "same_pid" in parsed:
        raise UsageError("--same-pid needs -R: which checkpoint file?")
    if "queue" in parsed:
        return queue(parsed)
    if option := next((key for key in QUEUE if key in parsed), ""):
        raise UsageError(f"--{option.replace('_', '-')} needs -S")
    if not parsed.rest:
        from mosfs.tools.text import NO_PROGRAM

        raise UsageError(NO_PROGRAM)
    if parsed.get("cpu", "native") not in LEVELS:
        raise UsageError(f"--cpu takes one of {' '.join(LEVELS)}")
    environ = first_environment()
    if "wrapper" in parsed:
        take_real_group()
    path = find(parsed.rest[0], environ)
    argv = parsed.rest
    if "argv0" in parsed:
        argv = argv[1:] or argv
    check_descriptors()
    if is_32bit(path):
        from mosfs.tools.text import PROGRAM_32BIT

        complain(f"mosrun: {PROGRAM_32BIT.format(program=parsed.rest[0])}\n")
        go_native()
    else:
        if "trace" in parsed:
            parsed.values["trace"] = str(open_trace(parsed.values["trace"]))
        if "checkpoint_file" in parsed or "checkpoint_interval" in parsed:
            from mosfs.tools.recover import warn_of

            if warning := warn_of(parsed.get("checkpoint_file")):
                complain(f"mosrun: {warning}\n")
        environ = with_preset(environ, ask(request(parsed)))
    execute(path, argv, environ)
    return FAILED


def queue(parsed: Parsed) -> int:
    """mosrun -S: its exit status."""
    if parsed.get("cpu", "native") not in LEVELS:
        raise UsageError(f"--cpu takes one of {' '.join(LEVELS)}")
    if "wrapper" in parsed:
        take_real_group()
    occupy_outputs()
    from mosfs.tools.mosqueue import Launcher, run

    environ = first_environment()
    shell = find("bash", environ)
    check_descriptors()
    if "trace" in parsed:
        parsed.values["trace"] = str(open_trace(parsed.values["trace"]))
    return run(parsed, Launcher(environ, shell, root_path(SOCKET), KEYS, request, ask, with_preset, give_signals_back))


def occupy_outputs() -> None:
    """Take the numbers 1 and 2 where they are closed, until exec: else files of ours have them, to which lines would write."""
    number, others = 0, []
    while number <= 2:
        number = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        others += [] if number in (1, 2) else [number]
    for number in others:
        posix.close(number)


def recover(parsed: Parsed) -> int:
    """mosrun -R: become the program of a checkpoint file; returns only by UserError."""
    from mosfs.tools import recover as recovery

    fields, path, number = recovery.request(parsed)
    environ = first_environment()
    check_descriptors()
    if number not in (0, posix.getpid()):
        from mosfs.tools.parent import become

        become(number)
        fields.append("number=1")
    if "trace" in parsed:
        parsed.values["trace"] = str(open_trace(parsed.values["trace"]))
    ask(request(parsed) + b"\0" + "\0".join(fields).encode())
    execute(path, [path], environ)
    return FAILED


def go_native() -> None:
    """Leave MOSIX with the next exec. Outside of mosrun there is nothing to leave, and mosd need not even run."""
    if under_mosrun():
        ask(b"NATIVE\0")


def under_mosrun() -> bool:
    """Whether this is a MOSIX program: such a one is refused to write a control file that is only read, for others there is none.

    Not by reading it: posix.open takes the answer for a descriptor and marks that close-on-exec."""
    try:
        posix.close(posix.open("/proc/self/nmigs", posix.O_WRONLY | posix.O_CLOEXEC))
    except OSError as error:
        return error.errno == EPERM
    return False


def main(argv: list[str] | None = None) -> int:
    return MOSRUN.run(launch, sys.argv[1:] if argv is None else argv)


def main_env(argv: list[str] | None = None) -> int:
    return MOSENV.run(launch, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
