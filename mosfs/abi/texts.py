"""The messages of the manual, section 10.5, in its words; the order is the manual's.

A text is printed as ``text(Text.NO_MEMORY)`` after whatever prefix the speaker uses ("mosrun: "). Quotation marks are
straight and the path of lzop has its slash (the scan of the manual lost both).
"""

from __future__ import annotations

from enum import Enum, StrEnum
from string import Formatter


class Where(StrEnum):
    """Who says it, or when."""

    UNSUPPORTED = "a program meets an unsupported feature"
    START = "mosrun, before the program runs"
    RUN = "while the program runs"
    FREEZE = "freezing and un-freezing"
    SECURITY = "links between nodes"
    CHECKPOINT = "taking, inspecting and continuing from checkpoints"
    QUEUE = "mosrun -S"
    PRIVATE = "mosrun -X"
    OBSOLETE = "batch jobs, which are no longer there: never said"


class Text(Enum):
    """Format strings with named fields, and where each applies."""

    # An unsupported feature.
    SYSCALL = "system-call '{name}' not supported under MOSIX", Where.UNSUPPORTED
    MAP_SHARED = "Shared memory (MAP_SHARED) not supported under MOSIX", Where.UNSUPPORTED
    SHMAT = "Attaching SYSV shared-memory not supported under MOSIX", Where.UNSUPPORTED
    PRCTL = "Prctl option #{number} not supported under MOSIX", Where.UNSUPPORTED
    IPC = "IPC system-call #{number} not supported under MOSIX", Where.UNSUPPORTED
    SYSFS = "Sysfs option '{number}' not supported under MOSIX", Where.UNSUPPORTED
    IOCTL = "Ioctl 0x{number:x} not supported under MOSIX", Where.UNSUPPORTED
    MAP_DEVICE = "Mapping special character files not supported under MOSIX", Where.UNSUPPORTED
    PRIORITY = "getpriority/setpriority supported under MOSIX only for self", Where.UNSUPPORTED
    # Other errors.
    NO_PTRACE = "kernel does not support full ptrace options", Where.START
    NO_MEMORY = "failed allocating memory", Where.RUN
    ILLEGAL_CALL = "illegal system call #{number}", Where.RUN
    SYSFS_NAME = "sysfs detected an unreasonably long file-system name", Where.RUN
    NOFILE_IGNORED = "WARNING: setrlimit(RLIMIT_NOFILE) ignored by MOSIX", Where.RUN
    HIGH_DESCRIPTOR = "File-descriptor #{number} is open (only 1024 files supported under MOSIX)", Where.START
    NO_MAPS = "Failed reading memory-maps", Where.RUN
    NO_MEM_FILE = "Failed opening memory file", Where.RUN
    TOO_SECURE = "Kernel too secure to run MOSIX (by non-Super-User)", Where.START
    MIGRATE_FAILED = "failed migrating to {computer}: {reason}", Where.START
    TOO_BUSY = "{computer} is too busy to receive now", Where.START
    TIMED_OUT = "connection timed out", Where.OBSOLETE
    BATCH_REFUSED = "batch refused by other party ({computer})", Where.OBSOLETE
    LOST = "Lost communication with {computer}", Where.RUN
    KILLED_MIGRATING = "Process killed while attempting to migrate from {computer1} to {computer2}", Where.RUN
    UNFREEZE_FAILED = "Un-freeze failed", Where.FREEZE
    DECOMPRESS_FAILED = "Failed decompressing freeze file", Where.FREEZE
    REFREEZING = "Re-freezing because un-freeze failed", Where.FREEZE
    NO_FREEZE_SPACE = "No space to freeze", Where.FREEZE
    COMPROMISED = "Security Compromised", Where.SECURITY
    AUTHENTICATION = "Authentication violation with {computer}", Where.SECURITY
    INCOMPATIBLE = "Target node runs an incompatible version", Where.START
    BITS_32 = "{program} is a 32-bit program - will run in native Linux mode", Where.START
    SEEMS_DEAD = "remote-site ({computer}) seems to be dead", Where.RUN
    BAD_CHECKPOINT = "Corrupt or improper checkpoint file", Where.CHECKPOINT
    NO_RESTART = "Could not restart with {filename}: {reason}", Where.CHECKPOINT
    NOT_OPEN = "File-descriptor {number} was not open at the time of checkpoint!", Where.CHECKPOINT
    RESTORE_FAILED_WHY = "Restoration failed: {reason}", Where.CHECKPOINT
    NO_LZOP = "checkpoint file is compressed - but no /usr/bin/lzop here!", Where.CHECKPOINT
    NO_WRITE_ACCESS = "WARNING: no write-access in checkpoint directory!", Where.CHECKPOINT
    CHECKPOINT_FILE = "Checkpoint file {filename}: {reason}", Where.CHECKPOINT
    NO_DESCRIPTOR = "Could not restore file-descriptor {number} with '{filename}': {reason}", Where.CHECKPOINT
    RESTORE_FAILED = "Restoration failed", Where.CHECKPOINT
    BROKEN_LINE = "Line #{number} is too long or broken!", Where.QUEUE
    COMMANDS_CHANGED = "Commands-file changed: failed-commands file is incomplete!", Where.QUEUE
    FAIL_FILE = "Failed writing to failed-commands file!", Where.QUEUE
    INVALID_DIRECTORY = "Invalid private-directory name ({name})", Where.PRIVATE
    DISALLOWED_DIRECTORY = "Disallowed private-directory name ({name})", Where.PRIVATE
    TOO_MANY_DIRECTORIES = "Too many private directories", Where.PRIVATE
    LONG_DIRECTORY = "Private directory name too long", Where.PRIVATE
    NO_PRIVATE_SPACE = "Insufficient disk-space for private files", Where.PRIVATE

    def __init__(self, format_: str, where: Where) -> None:
        self.format_string = format_
        self.where = where

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that `text` wants."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.format_string) if name)


#: Ours: what to do about the commonest refusals, said once a program in one further line.
THREADS_ADVICE = (
    "many programs do without threads if OMP_NUM_THREADS=1, OPENBLAS_NUM_THREADS=1 and MKL_NUM_THREADS=1 are set; "
    "with --threads they work"
)
SHARED_ADVICE = "with --stay-home shared memory works, at home"
#: Ours: before a program is killed because something unforeseen came up while it was served.
SERVING_FAILED = "Process killed: MOSIX failed while serving it (the log of {computer} has the reason)"


def text(which: Text, **fields: str | int) -> str:
    """The message, one line without a newline. KeyError if a field is missing."""
    return which.format_string.format(**fields)
