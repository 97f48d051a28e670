"""The compatibility page, made from the tables: ``python -m mosfs.abi.compat > docs/compatibility.md``."""

from __future__ import annotations

from collections.abc import Iterable

from mosfs.abi.commands import PRCTLS, Acts
from mosfs.abi.flags import MAX_FILES
from mosfs.abi.ioctls import REFUSED
from mosfs.abi.syscalls import BY_NAME, BY_NR, Away, Home, Syscall

_LIMITATIONS = """
    acct add_key adjtimex afs_syscall bdflush capget capset chroot clock_getres clock_nanosleep clock_settime
    create_module delete_module epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd eventfd2
    fanotify_init fanotify_mark futex get_kernel_syms get_mempolicy get_robust_list getcpu getpmsg init_module
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup
    io_submit ioperm iopl ioprio_get ioprio_set kexec_load keyctl lookup_dcookie madvise mbind migrate_pages mlock
    mlockall move_pages mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink munlock munlockall
    nfsservctl perf_event_open personality pivot_root prlimit64 prof_counter_open ptrace quotactl reboot recvmmsg
    remap_file_pages request_key rt_sigqueueinfo rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getparam sched_getscheduler sched_rr_get_interval
    sched_setaffinity sched_setparam sched_setscheduler security set_mempolicy setdomainname sethostname
    set_robust_list settimeofday shmat signalfd signalfd4 swapoff swapon syslog timer_create timer_delete
    timer_getoverrun timer_gettime timer_settime timerfd timerfd_gettime timerfd_settime tuxcall unshare uselib
    vmsplice waitid
"""
#: The unsupported calls of mosrun(1), LIMITATIONS, in the manual's order and spelling.
LIMITATIONS = tuple(_LIMITATIONS.split())
#: Names of that list which the kernel spells differently; None: x86_64 never had a number for it.
RENAMED = {"timerfd": "timerfd_create", "bdflush": None, "prof_counter_open": None}


def limited() -> frozenset[str]:
    """The calls of LIMITATIONS that exist, as the kernel spells them."""
    return frozenset(real for name in LIMITATIONS if (real := RENAMED.get(name, name)))

_HOME = {
    Home.NATIVE: "native",
    Home.TRAP: "looked at",
    Home.TEST: "looked at if it matters",
    Home.ERRNO: "error",
    Home.FAILS: "error",
    Home.REFUSE: "**refused**",
}
_AWAY = {
    Away.FORWARD: "at home",
    Away.BODY: "where it runs",
    Away.BOTH: "both",
    Away.PAIR: "both",
    Away.SPECIAL: "both",
    Away.ERRNO: "error",
    Away.REFUSE: "**refused**",
}

_HEAD = """\
# Which system calls work

Made from `mosfs/abi/` by `python -m mosfs.abi.compat`; do not edit.

*At home* says what happens while a program started by `mosrun` runs on its home-node, *away* where the call is served
once it has migrated. "Refused" calls end the program with `system-call '{name}' not supported under MOSIX`; under
`mosrun -e` and `mosrun -w` they fail with ENOSYS instead. "Error" means that the call always fails as on a kernel that
does not know it, which C libraries and programs are prepared for. A number that is in no table is an
`illegal system call`. Calls without a remark behave as they do without MOSIX."""


_MEMORY = """## What is seen of memory

* A mapping of a file stays a mapping of that file, but for a private temporary file (`mosrun -X`), which no other process can
  open, for a file that the node's root may not open (the kernel shows files of another user's FUSE to that user only), and
  for a file with a write lease (fcntl(2), F_SETLEASE), which opening it would break. Once
  a program with such a mapping has moved, the mapping is memory with what the file showed then. It does not see later changes.
* To follow the other files home opens and reads them. So who watches them (inotify(7), fanotify(7)) is told of opens and reads
  that the program has not made, and of a file that a program maps while it is away nobody gets a write lease.
* `VmRSS` counts pages that are resident where the program is. After a move pages of files are so only as the program touches
  them again, as on a node that has just given them up (proc_pid_status(5)).
* Names that a program gives its anonymous memory (PR_SET_VMA_ANON_NAME, in kernels with CONFIG_ANON_VMA_NAME) are lost when it
  moves.
* The processor whose number the kernel writes into memory for rseq(2), which sched_getcpu(3) of glibc 2.35 and newer tells, is
  one of the node where the program is, and may be higher than any of the home-node. getcpu(2) and sched_getaffinity(2) tell of
  the home-node. With GLIBC_TUNABLES=glibc.pthread.rseq=0 so does sched_getcpu(3).
* After personality(2) with READ_IMPLIES_EXEC memory that the program maps away is not executable unless it says so.
* `/proc/self/map_files` of a program that is away shows what the home-node has mapped for it.
* Programs outside of the tree see the process at home (mosrun(1), BUGS)."""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(call: Syscall) -> tuple[str, ...]:
    return str(call.nr), call.name, _HOME[call.home], _AWAY[call.away], call.note


def _section(title: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return f"## {title}\n\n{_table(heads, rows)}"


def render() -> str:
    """The whole page, Markdown, ending with a newline."""
    served = [call for call in BY_NR.values() if call.home not in (Home.REFUSE, Home.ERRNO, Home.FAILS)]
    ioctls = [(f"`{request:#x}`", name) for request, name in sorted(REFUSED.items())]
    refused = [call for call in BY_NR.values() if call.home is Home.REFUSE]
    beyond = [f"`{name}`" for name in sorted(limited()) if BY_NAME[name].home is not Home.REFUSE]
    options = [row for row in PRCTLS.values() if row.place is Acts.REFUSE]
    return "\n\n".join([
        _HEAD,
        f"{len(served)} calls are served, {len(BY_NR) - len(served) - len(refused)} answered with an error, "
        f"{len(refused)} refused. Programs have at most {MAX_FILES} open files.",
        f"## Beyond the manual\n\nThe manual lists these as unsupported; they work: {', '.join(beyond)}.",
        _MEMORY,
        _section("Refused calls", ("number", "call", "reason"), ((str(c.nr), c.name, c.note) for c in refused)),
        _section("Refused requests of ioctl", ("request", "name"), ioctls),
        _section("Refused options of prctl", ("option", "name"), ((str(row.number), row.name) for row in options)),
        _section("All calls", ("number", "call", "at home", "away", "remark"), map(_row, BY_NR.values())),
    ]) + "\n"


if __name__ == "__main__":
    print(render(), end="")
