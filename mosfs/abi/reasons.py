"""Why a program stays where it is, cannot be saved there, or was moved: one table, of the manual's reasons (section 10.5) and ours.

A reason is shown, and travels in messages, as its text, which details may follow: "did not complete (no memory there?) (Cannot
allocate memory)". `Reason.of` finds the row of such a text again, so that nobody compares texts.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class Concerns(Enum):
    """What is in the way."""

    TARGET = auto()  # the other node, or the way to it: another one may take the program
    PROGRAM = auto()  # the program as it is, wherever it should go
    MOMENT = auto()  # what is over in a moment


class Reason(StrEnum):
    """The text, and what it concerns."""

    concerns: Concerns

    # The manual's: why `Text.MIGRATE_FAILED`; also what a `ChannelFailed` message and the file ``move`` say.
    NOT_IN_MAP = "not in map", Concerns.TARGET
    NO_RESPONSE = "no response", Concerns.TARGET
    REFUSED = "other node refused", Concerns.TARGET
    INCOMPLETE = "did not complete (no memory there?)", Concerns.TARGET
    # Ours.
    PROCESSOR = "needs ", Concerns.TARGET  # features of a processor, and which node lacks them (`cpu.lacks`)
    CHANGES_FAST = "its memory changes faster than it can be sent", Concerns.TARGET
    UNDER_WAY = "another move is under way", Concerns.MOMENT
    SUPERSEDED = "superseded by another request", Concerns.PROGRAM
    FROZEN = "it is frozen", Concerns.PROGRAM
    LOCKED = "it is locked (mosrun -L)", Concerns.PROGRAM
    STOPPED = "stopped by a signal", Concerns.PROGRAM
    CHANGED_HANDS = "it has become another user's", Concerns.PROGRAM
    SIGNALS = "signals do not cease", Concerns.PROGRAM
    IN_CONTROL_CALL = "it is in a call of its own to MOSIX", Concerns.PROGRAM
    NATIVE = "runs as a native Linux program", Concerns.PROGRAM
    THREADS = "has threads", Concerns.PROGRAM
    THREADS_APART = "has threads with descriptors or a folder of their own", Concerns.PROGRAM
    THREADS_RUN = "its threads cannot be stopped", Concerns.PROGRAM
    CALL_RUNS = "a call of it at home cannot be interrupted", Concerns.PROGRAM
    MEMBER_ENDED = "who shares its memory has ended", Concerns.MOMENT
    MEMBERS_RUN = "who shares its memory cannot be stopped", Concerns.PROGRAM
    FIRST_ENDED = "its first thread has ended", Concerns.PROGRAM
    VFORK = "shares memory after vfork", Concerns.PROGRAM
    IN_MAIL_CALL = "sends or receives a message", Concerns.PROGRAM
    READS_RELATIVE = "reads a file about another program", Concerns.PROGRAM
    IS_SAVED = "a checkpoint of it is being written", Concerns.PROGRAM
    NODE_LOST = "its node was lost", Concerns.PROGRAM
    CALLS_COST = "its calls away have cost", Concerns.PROGRAM  # and how much: it has come home
    REPEATS = "it repeats what it had done on a node that was lost", Concerns.PROGRAM
    STAYS_HOME = "stays at home: ", Concerns.PROGRAM  # and why
    CANNOT_MIGRATE = "cannot be migrated: ", Concerns.PROGRAM  # and why
    # What of its memory cannot travel.
    MEMORY_SHARED = "writable shared memory", Concerns.PROGRAM  # and which
    MEMORY_SYSV = "attached System V shared memory", Concerns.PROGRAM
    MEMORY_HUGE = "huge pages that it has asked for (MAP_HUGETLB)", Concerns.PROGRAM
    MEMORY_DEVICE = "maps a device", Concerns.PROGRAM  # and which
    MEMORY_GUARDED = "it has guard pages, and this kernel does not tell where (Linux 6.15 does)", Concerns.PROGRAM
    RSEQ = (
        "restartable sequences, and a kernel that does not tell where they are: start it with "
        "GLIBC_TUNABLES=glibc.pthread.rseq=0", Concerns.PROGRAM,
    )
    # Why there is no checkpoint.
    SAVING = "a checkpoint is being taken already", Concerns.MOMENT
    MOVING = "it is moving", Concerns.MOMENT
    EXECUTED = "it has executed another program", Concerns.PROGRAM
    MAILS = "it is involved in direct communication", Concerns.PROGRAM
    PRIVATE_FILES = "it has private temporary files", Concerns.PROGRAM

    def __new__(cls, text: str, concerns: Concerns) -> Reason:
        row = str.__new__(cls, text)
        row._value_, row.concerns = text, concerns
        return row

    @classmethod
    def of(cls, text: str) -> Reason | None:
        """The row whose text is the beginning of this one, or the longest of these; None: a reason of the program's own."""
        return max((row for row in cls if text.startswith(row.value)), key=len, default=None)

    def details(self, text: str) -> str:
        """What of ``text`` follows the reason; all of it, if it is another one."""
        return text.removeprefix(self.value)


#: The reasons of the manual.
MANUALS = (Reason.NOT_IN_MAP, Reason.NO_RESPONSE, Reason.REFUSED, Reason.INCOMPLETE)


def concerns(text: str) -> Concerns:
    """What is in the way, where all that is known of it is its text."""
    row = Reason.of(text)
    return Concerns.PROGRAM if row is None else row.concerns
