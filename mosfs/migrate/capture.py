"""Everything of a stopped program but its memory contents, read off the task by ptrace, /proc and a few injected calls.

Preconditions: the task is in a ptrace stop, and `Stop` is how it got there. Postconditions: it still is (in the stub),
its memory and kernel state unchanged; the caller resumes it with the registers of the image, or gives it away.
"""

from __future__ import annotations

import errno
import resource
import struct
from collections.abc import Mapping, Sequence

from mosfs.abi.flags import ERESTART_RESTARTBLOCK, PR_GET_DUMPABLE, PR_GET_TID_ADDRESS, RESTARTS
from mosfs.abi.numbers import SYS_BRK, SYS_GET_ROBUST_LIST, SYS_PRCTL, SYS_RESTART_SYSCALL, SYS_RT_SIGACTION, SYS_SIGALTSTACK
from mosfs.abi.reasons import Reason
from mosfs.migrate import properties, rseq, settings
from mosfs.migrate import shown as shows
from mosfs.migrate.dirty import guards
from mosfs.migrate.image import VERSION, ImageMeta, Thread, Timer, Vma
from mosfs.migrate.maps import CannotMove, Known, read_maps, travelling, unknown
from mosfs.migrate.precopy import Precopy
from mosfs.migrate.properties import Said
from mosfs.migrate.ranges import Range, merge
from mosfs.native import kernel
from mosfs.native.registers import Registers
from mosfs.trace import layout, xstate
from mosfs.trace.inject import Calls
from mosfs.trace.proc import comm_of, content, stat_fields, status_sets
from mosfs.trace.stops import Stop
from mosfs.trace.task import MOST_PENDING, Task, TaskGone, copy_regs, regs_bytes

#: Where struct sigaction of so many signals has room, behind a row of calls for them in the first page of the scratch.
ACTIONS_AT, ACTIONS_AT_ONCE, ACTION_SIZE = layout.SCRATCH + layout.PAGE // 2, 32, 32


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def user_regs(regs: Registers, stop: Stop) -> Registers:
    """The registers as they stand before the next user instruction: an interrupted call is rewound to be made again.

    EINTR at a TRAP stop is our doing, since a signal would have stopped the task first (some calls return it for any interruption,
    signal(7)). The kernel does the same for ERESTART* results (arch/x86/kernel/signal.c); a sleep with a restart block goes on by
    restart_syscall(2), which the home process can still make, because the block lives in its kernel task.
    """
    r = copy_regs(regs)
    number = signed(r.orig_rax)
    if stop is Stop.SECCOMP:
        r.rip -= 2
        r.rax = number
    elif number >= 0:
        result = signed(r.rax)
        if result == -ERESTART_RESTARTBLOCK:
            r.rip -= 2
            r.rax = SYS_RESTART_SYSCALL
        elif result in RESTARTS or (result == -errno.EINTR and stop is Stop.TRAP):
            r.rip -= 2
            r.rax = number
    r.orig_rax = 0xFFFF_FFFF_FFFF_FFFF
    return r


def title_at(pid: int) -> tuple[int, int]:
    """Where the arguments of a process begin and its environment ends: what ps(1) shows of it."""
    mm = mm_addresses(pid, 0)
    return mm[7], mm[10]


def mm_addresses(pid: int, brk: int) -> list[int]:
    """start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end."""
    try:
        f = stat_fields(pid)
    except OSError as error:
        raise TaskGone(pid) from error

    def field(n: int) -> int:
        return int(f[n - 3])

    return [
        field(26), field(27), field(45), field(46), field(47), brk,
        field(28), field(48), field(49), field(50), field(51),
    ]  # fmt: skip


def actions(call: Calls, known: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    """(signal, kernel sigaction) of every signal, in their order; of those that are ``known`` the task is not asked."""
    found, asked = list(known.items()), [sig for sig in range(1, 65) if sig not in known]
    for first in range(0, len(asked), ACTIONS_AT_ONCE):
        some = asked[first : first + ACTIONS_AT_ONCE]
        call.many([(SYS_RT_SIGACTION, sig, 0, ACTIONS_AT + ACTION_SIZE * place, 8) for place, sig in enumerate(some)])
        told = call.task.read(ACTIONS_AT, ACTION_SIZE * len(some))
        found += [(sig, told[ACTION_SIZE * place : ACTION_SIZE * (place + 1)]) for place, sig in enumerate(some)]
    return sorted(found)


def mappings_of(pid: int, said: Said, names: Sequence[Vma], copy: Precopy | None, known: Known = unknown) -> list[Vma]:
    """All mappings of a stopped task with their properties and names. CannotMove.

    ``said``: what it has said of its memory; ``names``: the files that it has shown; ``copy``: what has sent it ahead, if anything
    has; ``known``: tells which files are followed.
    """
    if copy is not None:
        vmas = copy.mappings()
    else:
        vmas = travelling(read_maps(pid), known)
        vmas = shows.overlaid(properties.overlaid(vmas, properties.read(pid)) if said.calls else vmas, names)
    return properties.overlaid(vmas, said.owed) if said.owed else vmas


def guards_of(pid: int, said: Said, vmas: list[Vma]) -> list[Range]:
    """The guard pages of a task with these mappings. CannotMove where the kernel does not tell (Linux 6.13 and 6.14)."""
    if not said.guards:
        return []
    if not kernel.has("guards_told"):
        raise CannotMove(Reason.MEMORY_GUARDED)
    return guards(pid, merge((vma.start, vma.end) for vma in vmas))


def capture(
    call: Calls, regs: Registers, vmas: list[Vma], *,
    pid: int, uid: int, features: str, home: str, shown: Timer, pending: bool, said: Said,
    whole: bool = False, known_actions: Mapping[int, bytes] | None = None,
) -> ImageMeta:
    """The head of the image. ``call`` is an open session in the stub, ``regs`` from `user_regs`.

    ``pending``: take queued signals along (a body does; at home they stay with the process, which becomes the deputy).
    ``whole``: also say of which signals nothing was said, because the process that it is built in may have been told something.
    ``known_actions``: what is done at signals, as far as it need not be asked (`actions`).
    """
    task: Task = call.task
    sets = status_sets(task.pid)
    brk = call.must(SYS_BRK, 0)
    own = capture_thread(call, regs, pending=pending)
    dumpable = call(SYS_PRCTL, PR_GET_DUMPABLE)
    with open(f"/proc/{task.pid}/auxv", "rb", buffering=0) as auxv:
        aux = shows.with_our_vdso(auxv.read(layout.PAGE))
    return ImageMeta(
        version=VERSION,
        pid=pid,
        uid=uid,
        comm=own.comm,
        features=features,
        regs=own.regs,
        xstate=own.xstate,
        xlayout=list(xstate.own_layout()),
        mask=own.mask,
        actions=[(sig, action) for sig, action in actions(call, known_actions or {}) if whole or any(action)],
        ignored=sets["SigIgn"],
        altstack=own.altstack,
        pending=own.pending,
        rseq=own.rseq,
        tid_address=own.tid_address,
        robust=own.robust,
        mm=mm_addresses(task.pid, brk),
        auxv=aux,
        vmas=vmas,
        limits=limits_of(task.pid),
        shown=shown,
        home=home,
        dumpable=dumpable,
        guards=guards_of(task.pid, said, vmas),
        settings=settings.read(call),
    )


def capture_thread(call: Calls, regs: Registers, *, pending: bool) -> Thread:
    """What is the own of the thread that ``call`` is an open session in; as `capture`."""
    results = call.many(questions(ACTIONS_AT))
    return captured(call, regs, results, call.task.read(ACTIONS_AT, 48), pending=pending)


def questions(at: int) -> list[tuple[int, ...]]:
    """The calls that tell what a thread has for itself, 48 bytes at ``at``."""
    return [(SYS_SIGALTSTACK, 0, at), (SYS_PRCTL, PR_GET_TID_ADDRESS, at + 24), (SYS_GET_ROBUST_LIST, 0, at + 32, at + 40)]


def captured(call: Calls, regs: Registers, results: Sequence[int], told: bytes, *, pending: bool) -> Thread:
    """That thread. ``results`` and ``told``: what `questions` have returned, and stored."""
    task: Task = call.task
    waiting = task.peek_pending() if pending else []
    if len(waiting) > MOST_PENDING:
        raise CannotMove(f"more than {MOST_PENDING} signals wait for it")
    if results[0]:
        raise OSError(-results[0], "the stack for signals")
    altstack, tid_address, *robust = struct.unpack("<24s3Q", told)
    return Thread(
        tid=task.own, comm=comm_of(task.pid), regs=regs_bytes(regs), xstate=xstate.read(task), mask=call.mask, altstack=altstack,
        rseq=rseq.of(call), tid_address=0 if results[1] else tid_address, robust=(0, 0) if results[2] else (robust[0], robust[1]),
        pending=waiting,
    )


_LIMIT_NAMES = {
    b"Max stack size": resource.RLIMIT_STACK,
    b"Max address space": resource.RLIMIT_AS,
    b"Max data size": resource.RLIMIT_DATA,
    b"Max locked memory": resource.RLIMIT_MEMLOCK,
}


def limits_of(pid: int) -> dict[int, tuple[int, int]]:
    """The limits that shape memory, from /proc: prlimit(2) on another user's process needs CAP_SYS_RESOURCE."""
    shown = _shown_limits(pid)
    return {which: shown[name] for name, which in _LIMIT_NAMES.items()}


def all_limits(pid: int) -> list[tuple[int, int]]:
    """(soft, hard) of all sixteen, in the order of their numbers; -1 for none."""
    return list(_shown_limits(pid).values())


def cpu_limit(pid: int) -> tuple[int, int]:
    """RLIMIT_CPU, soft and hard, in seconds; -1 for none."""
    return _shown_limits(pid)[b"Max cpu time"]


def core_limit(pid: int) -> int:
    """The soft RLIMIT_CORE in bytes; -1 for none."""
    return _shown_limits(pid)[b"Max core file size"][0]


def _shown_limits(pid: int) -> dict[bytes, tuple[int, int]]:
    """/proc/PID/limits: name -> (soft, hard)."""
    try:
        lines = content(f"/proc/{pid}/limits").splitlines()[1:]
    except OSError as error:
        raise TaskGone(pid) from error
    found = {}
    for line in lines:
        soft, hard = (-1 if word == b"unlimited" else int(word) for word in line[25:].split()[:2])
        found[line[:25].rstrip()] = (soft, hard)
    return found
