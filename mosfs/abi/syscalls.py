"""The table of system calls of x86_64: one line a call, in number order. All else about calls is derived from it.

A row: number, name (as in asm/unistd_64.h), arguments (notation of `abi.args`), what happens at home, what happens
away, a note for users (needed unless the call is simply native and forwarded), for TEST rows the tests, and what a
body's host does beside (``host``). Sources:
man 2 of each call; mosrun(1), LIMITATIONS; calls up to Linux 6.18.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from errno import ENOSYS, ENXIO

from mosfs.abi.args import Arg, parse_args, values
from mosfs.abi.commands import REFUSED_PRCTLS
from mosfs.abi.flags import (
    ARCH_SET_CPUID,
    ARCH_SHSTK_ENABLE,
    AT_FDCWD,
    CLONE_FILES,
    CLONE_FS,
    CLONE_IO,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    CLONE_PTRACE,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    MAP_HUGETLB,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    NAMESPACES,
    O_DIRECTORY,
    O_NOFOLLOW,
    RLIMIT_NOFILE,
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_SET_MODE_STRICT,
    TIMER_ABSTIME,
    WNOHANG,
)
from mosfs.abi.ioctls import REFUSED as REFUSED_IOCTLS
from mosfs.abi.memory import SAYING_ADVICE, SAYING_FLAGS
from mosfs.abi.numbers import SYS_MREMAP
from mosfs.abi.signals import SIGSTOP


class Home(StrEnum):
    """What the filter and the tracer do when a program calls at home."""

    NATIVE = "native"  #: the kernel serves it, no stop
    TRAP = "trap"  #: always stops in the tracer
    TEST = "test"  #: stops only when one of the row's tests holds
    ERRNO = "errno"  #: always answered with the row's errno
    FAILS = "fails"  #: the same by the filter itself, no stop
    REFUSE = "refuse"  #: unsupported: killed, or ENOSYS (mosrun -e, -w)


class Away(StrEnum):
    """What the body's host does when a program calls away from home."""

    FORWARD = "forward"  #: the deputy makes the call, arguments carried as described
    BODY = "body"  #: the body's own kernel serves it; pointers stay in the body
    BOTH = "both"  #: the deputy, and then the body's own kernel
    PAIR = "pair"  #: deputy and body each make a child, which belong together
    SPECIAL = "special"  #: code of its own
    ERRNO = "errno"
    REFUSE = "refuse"


class ByHost(StrEnum):
    """What a body's host does about a call by code of its own (`mosfs.guest.serve`), beside what ``away`` says."""

    DEPUTY = "goes home as it is"
    BODY = "is the body's kernel's alone"
    OPEN = "tells control files a name, and home of files of /proc about the body's memory"
    MMAP = "shows a file of home"
    MPROTECT = "of a file that is mapped shared, and shall be written: made at home"
    MREMAP = "piece by piece where moves made several mappings of one; of a file: home first sends what it will show"
    SIGACTION = "notes handlers with SA_RESETHAND"
    SIGPROCMASK = "the body's own kernel; home hears what it must know"
    SIGRETURN = "home hears of the mask that comes back"
    PID = "answered without asking home"
    TID_ADDRESS = "the body's address, the PID of the home-node"
    FORK = "home forks first, then the body"
    EXEC = "home executes the program"
    EXIT = "the deputy ends, then the body"
    FUTEX = "waiting is home's, the rest the body's"
    LIMIT = "a limit that shapes memory is the body's, too"
    CLOCK = "what the vDSO shows; CPU clocks asked again"
    ROBUST_LIST = "by PID: its own is here, another's at home"
    MEMORY = "its own is here; for another's the program comes home"
    MEMPOLICY = "of an address: the body's kernel is asked"


#: (argument, mask, value): holds if argument & mask == value, over all 64 bits.
Test = tuple[int, int, int]
#: Holds if all its tests hold.
Alternative = tuple[Test, ...]

_INT = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Syscall:
    """A row. ``tests``: the call stops when any alternative holds. ``errno`` is 0 unless home is ERRNO or FAILS, or away ERRNO.

    ``host``: code of its own in a body's host; SPECIAL and PAIR are nothing else.
    """

    nr: int
    name: str
    args: tuple[Arg, ...]
    home: Home
    away: Away
    note: str = ""
    tests: tuple[Alternative, ...] = ()
    errno: int = 0
    host: ByHost | None = None

    def values(self, registers: tuple[int, ...]) -> tuple[int, ...]:
        """The six argument registers as the kernel understands them (C ints signed)."""
        return values(self.args, registers)

    def stops(self, registers: tuple[int, ...]) -> bool:
        """Whether a call at home with these raw registers stops in the tracer (ERRNO and REFUSE rows always do). A clone(2) that
        makes a thread (`flags.OF_THREADS`) does so for a program that may have none."""
        if self.nr == SYS_MREMAP and registers[2] > registers[1]:
            return True
        if self.home is Home.TEST:
            return any(all(registers[i] & mask == value for i, mask, value in one) for one in self.tests)
        return self.home not in (Home.NATIVE, Home.FAILS)


def _is(arg: int, *numbers: int) -> tuple[Alternative, ...]:
    """The C int ``arg`` is one of ``numbers``."""
    return tuple(((arg, _INT, number),) for number in numbers)


def _any_bit(arg: int, *flags: int) -> tuple[Alternative, ...]:
    return tuple(((arg, flag, flag),) for flag in flags)


#: Threads, shared memory other than vfork's, and what a pair of deputy and body cannot share or hide.
_CLONE = (
    ((0, CLONE_VM | CLONE_VFORK, CLONE_VM),),
    *_any_bit(0, CLONE_THREAD, CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_PTRACE, CLONE_PARENT, CLONE_SYSVSEM),
    *_any_bit(0, CLONE_SETTLS, CLONE_UNTRACED, CLONE_IO, CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC),
    *_any_bit(0, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET),
)
#: And descriptors of its own, of which we know only those of a process (`home.asks.policy`).
_UNSHARE = _any_bit(0, CLONE_FILES, *(flag for flag in (1 << bit for bit in range(32)) if NAMESPACES & flag))
#: Shared memory; and what the tracer must have heard of, since it travels with the memory (`mosfs.migrate.properties`).
_MMAP = _any_bit(3, MAP_SHARED, MAP_HUGETLB, *SAYING_FLAGS)
_MADVISE = tuple(((2, mask, value),) for mask, value in SAYING_ADVICE)
#: And what lets something grow (`Syscall.stops`): beyond what has become several mappings by a move (`migrate.remap`).
_MREMAP = _any_bit(3, MREMAP_FIXED, MREMAP_DONTUNMAP)
_IOCTL = _is(1, *REFUSED_IOCTLS)
#: And PR_GET_SECCOMP, which must not tell of filters of ours.
_PRCTL = _is(0, *REFUSED_PRCTLS, 21)
_ARCH_PRCTL = _is(0, ARCH_SHSTK_ENABLE, ARCH_SET_CPUID)
_SECCOMP = _is(0, SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER)
_STOP_SECOND, _STOP_THIRD = _is(1, SIGSTOP), _is(2, SIGSTOP)
#: What walks a directory tree step by step cannot come upon a file of ours, and makes many opens.
_OPENAT = (*_is(0, AT_FDCWD & 0xFFFFFFFF), ((2, O_DIRECTORY | O_NOFOLLOW, 0),))
_NOFILE_FIRST, _NOFILE_SECOND = _is(0, RLIMIT_NOFILE), _is(1, RLIMIT_NOFILE)

#: A pointer that is not NULL: on the stack, in a mapping or a heap (bit 46), or in the data of a program at a fixed place.
_POINTER_FOURTH, _POINTER_FIFTH = (_any_bit(arg, 1 << 46, *(1 << bit for bit in range(12, 36))) for arg in (3, 4))
#: Who does not wait may know that a child has ended before we do.
_WAIT4, _WAITID = (*_POINTER_FOURTH, *_any_bit(2, WNOHANG)), (*_POINTER_FIFTH, *_any_bit(3, WNOHANG))
#: CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, and those of clock_getcpuclockid(3), which are negative.
_CPU_CLOCK = (*_is(0, 2, 3), *_any_bit(0, 1 << 31))

NATIVE, TRAP, TEST = Home.NATIVE, Home.TRAP, Home.TEST
FORWARD, BODY, BOTH, PAIR, SPECIAL = Away.FORWARD, Away.BODY, Away.BOTH, Away.PAIR, Away.SPECIAL

#: Notes that several rows share.
_OURS = "names below /proc/self and /proc/mosix may be MOSIX's own"
_LOCAL = "memory of the node where the program runs"
_LOCKED = f"{_LOCAL}; locked again after a move, as far as that node allows"
_SAME = "never changes, wherever the program runs"
_CPU_TOO = "CPU time used away is counted too"
_CPU_TIMER = f"timers of CPU time: {_CPU_TOO}"
_NO_STOP = "beyond the manual: SIGSTOP stops a program, at home and away"
_NOFILE = "beyond the manual: any limit may be set, the number of open files too"
_ADMIN = "administration of the node"
_SHARING = "MAP_SHARED: refused if writable; if not, of nothing, private under -e and -w, and else refused"
_AFFINITY = "the home-node's CPUs: where the program is away it holds as soon as it is home"
_PLACING = "placing memory on one node's banks"
_POLICY = "a program away keeps its policy until it is home"
_TREE_ONLY = "of itself, and of programs of its tree that are at home: it comes home for those"
_UNKNOWN = "what points to memory of unknown shape is refused away"
_NEVER = "no Linux kernel serves it on x86_64"
_KEYS = "keys of the kernel"
_NAMESPACES = "name spaces"
_MOUNTS = "mounting"
_FALLBACK = "answered as an older kernel would; programs fall back"

#: The three sets of select(2).
_SETS = "inout[fds(a0)], inout[fds(a0)], inout[fds(a0)]"

_table: list[Syscall] = []


def _(
    nr: int,
    name: str,
    args: str,
    home: Home,
    away: Away,
    note: str = "",
    tests: tuple[Alternative, ...] = (),
    errno: int = 0,
    host: ByHost | None = None,
) -> None:
    _table.append(Syscall(nr, name, parse_args(args), home, away, note, tests, errno, host))


def _refuse(nr: int, name: str, args: str, note: str) -> None:
    _(nr, name, args, Home.REFUSE, Away.REFUSE, note)


def _errno(nr: int, name: str, args: str, note: str, errno: int = ENOSYS) -> None:
    _(nr, name, args, Home.ERRNO, Away.ERRNO, note, (), errno)


_(0, "read", "fd, out[a2]:ret, size", NATIVE, FORWARD)
_(1, "write", "fd, in[a2], size", NATIVE, FORWARD)
_(2, "open", "path, flags, mode", TRAP, FORWARD, _OURS, host=ByHost.OPEN)
_(3, "close", "fd", NATIVE, FORWARD)
_(4, "stat", "path, out[144]", NATIVE, FORWARD)
_(5, "fstat", "fd, out[144]", NATIVE, FORWARD)
_(6, "lstat", "path, out[144]", NATIVE, FORWARD)
_(7, "poll", "inout[a1*8]:always, int, int", NATIVE, FORWARD)
_(8, "lseek", "fd, off, int", NATIVE, FORWARD)
_(9, "mmap", "ptr, size, int, flags, fd, off", TEST, SPECIAL, _SHARING, _MMAP, host=ByHost.MMAP)
_(10, "mprotect", "ptr, size, int", NATIVE, BODY, _LOCAL, host=ByHost.MPROTECT)
_(11, "munmap", "ptr, size", NATIVE, BODY, _LOCAL)
_(12, "brk", "ptr", NATIVE, BODY, _LOCAL)
_(13, "rt_sigaction", "sig, in[32], out[32], size", NATIVE, BOTH, "handlers run where the program runs",
  host=ByHost.SIGACTION)
_(14, "rt_sigprocmask", "int, in[8], out[8], size", NATIVE, BOTH, "handlers run where the program runs",
  host=ByHost.SIGPROCMASK)
_(15, "rt_sigreturn", "", NATIVE, BODY, "handlers run where the program runs", host=ByHost.SIGRETURN)
_(16, "ioctl", "fd, int, @ioctl", TEST, FORWARD, f"settings of network devices are refused; {_UNKNOWN}", _IOCTL)
_(17, "pread64", "fd, out[a2]:ret, size, off", NATIVE, FORWARD)
_(18, "pwrite64", "fd, in[a2], size, off", NATIVE, FORWARD)
_(19, "readv", "fd, @iov_out, size", NATIVE, FORWARD)
_(20, "writev", "fd, @iov_in, size", NATIVE, FORWARD)
_(21, "access", "path, mode", NATIVE, FORWARD)
_(22, "pipe", "out[8]", NATIVE, FORWARD)
_(23, "select", f"int, {_SETS}, inout[16]:always", NATIVE, FORWARD)
_(24, "sched_yield", "", NATIVE, BODY, "yields where the program runs")
_(
    25, "mremap", "ptr, size, size, flags, ptr", TEST, BODY, _LOCAL, _MREMAP,
    host=ByHost.MREMAP,
)
_(26, "msync", "ptr, size, flags", NATIVE, BODY, _LOCAL)
_(27, "mincore", "ptr, size, ptr", NATIVE, BODY, _LOCAL)
_(28, "madvise", "ptr, size, int", TEST, BODY, _LOCAL, _MADVISE)
_(29, "shmget", "int, size, flags", NATIVE, FORWARD)
_refuse(30, "shmat", "int, ptr, flags", "shared memory; to be read only it is attached at home")
_(31, "shmctl", "int, int, @shmctl", NATIVE, FORWARD)
_(32, "dup", "fd", NATIVE, FORWARD)
_(33, "dup2", "fd, fd", NATIVE, FORWARD)
_(34, "pause", "", NATIVE, FORWARD)
_(35, "nanosleep", "in[16], inout[16]:always", NATIVE, FORWARD)
_(36, "getitimer", "int, out[32]", NATIVE, FORWARD, _CPU_TIMER)
_(37, "alarm", "int", NATIVE, FORWARD)
_(38, "setitimer", "int, in[32], out[32]", NATIVE, FORWARD, _CPU_TIMER)
_(39, "getpid", "", NATIVE, FORWARD, _SAME, host=ByHost.PID)
_(40, "sendfile", "fd, fd, inout[8], size", NATIVE, FORWARD)
_(41, "socket", "int, int, int", NATIVE, FORWARD)
_(42, "connect", "fd, in[a2], int", NATIVE, FORWARD)
_(43, "accept", "fd, inout[*a2], inout[4]", NATIVE, FORWARD)
_(44, "sendto", "fd, in[a2], size, flags, in[a5], int", NATIVE, FORWARD)
_(45, "recvfrom", "fd, out[a2]:ret, size, flags, inout[*a5], inout[4]", NATIVE, FORWARD)
_(46, "sendmsg", "fd, @msg_in, flags", NATIVE, FORWARD)
_(47, "recvmsg", "fd, @msg_out, flags", NATIVE, FORWARD)
_(48, "shutdown", "fd, int", NATIVE, FORWARD)
_(49, "bind", "fd, in[a2], int", NATIVE, FORWARD)
_(50, "listen", "fd, int", NATIVE, FORWARD)
_(51, "getsockname", "fd, inout[*a2], inout[4]", NATIVE, FORWARD)
_(52, "getpeername", "fd, inout[*a2], inout[4]", NATIVE, FORWARD)
_(53, "socketpair", "int, int, int, out[8]", NATIVE, FORWARD)
_(54, "setsockopt", "fd, int, int, @sockopt_in, int", NATIVE, FORWARD, _UNKNOWN)
_(55, "getsockopt", "fd, int, int, @sockopt_out, inout[4]:always", NATIVE, FORWARD, _UNKNOWN)
_(56, "clone", "flags, ptr, out[4], out[4], ptr", TEST, PAIR, "no name spaces, and no threads under --no-threads",
  _CLONE, host=ByHost.FORK)
_(57, "fork", "", NATIVE, PAIR, "the child runs where its parent runs", host=ByHost.FORK)
_(58, "vfork", "", NATIVE, PAIR, "the child runs where its parent runs", host=ByHost.FORK)
_(59, "execve", "path, @argv, @argv", NATIVE, SPECIAL, "32-bit programs run in native mode", host=ByHost.EXEC)
_(60, "exit", "int", NATIVE, SPECIAL, "ends body and deputy", host=ByHost.EXIT)
_(61, "wait4", "pid, inout[4], flags, inout[144]", TEST, FORWARD, _CPU_TOO, _WAIT4)
_(62, "kill", "pid, sig", TEST, FORWARD, _NO_STOP, _STOP_SECOND)
_(63, "uname", "out[390]", NATIVE, FORWARD)
_(64, "semget", "int, int, flags", NATIVE, FORWARD)
_(65, "semop", "int, in[a2*6], size", NATIVE, FORWARD)
_(66, "semctl", "int, int, int, @semctl", NATIVE, FORWARD)
_(67, "shmdt", "ptr", NATIVE, FORWARD)
_(68, "msgget", "int, flags", NATIVE, FORWARD)
_(69, "msgsnd", "int, in[a2+8], size, flags", NATIVE, FORWARD)
_(70, "msgrcv", "int, out[a2+8]:ret+8, size, off, flags", NATIVE, FORWARD)
_(71, "msgctl", "int, int, @msgctl", NATIVE, FORWARD)
_(72, "fcntl", "fd, int, @fcntl", NATIVE, FORWARD)
_(73, "flock", "fd, int", NATIVE, FORWARD)
_(74, "fsync", "fd", NATIVE, FORWARD)
_(75, "fdatasync", "fd", NATIVE, FORWARD)
_(76, "truncate", "path, off", NATIVE, FORWARD)
_(77, "ftruncate", "fd, off", NATIVE, FORWARD)
_(78, "getdents", "fd, out[a2]:ret, int", NATIVE, FORWARD)
_(79, "getcwd", "out[a1]:ret, size", NATIVE, FORWARD)
_(80, "chdir", "path", NATIVE, FORWARD)
_(81, "fchdir", "fd", NATIVE, FORWARD)
_(82, "rename", "path, path", NATIVE, FORWARD)
_(83, "mkdir", "path, mode", NATIVE, FORWARD)
_(84, "rmdir", "path", NATIVE, FORWARD)
_(85, "creat", "path, mode", TRAP, FORWARD, _OURS, host=ByHost.OPEN)
_(86, "link", "path, path", NATIVE, FORWARD)
_(87, "unlink", "path", NATIVE, FORWARD)
_(88, "symlink", "str, path", NATIVE, FORWARD)
_(89, "readlink", "path, out[a2]:ret, int", NATIVE, FORWARD)
_(90, "chmod", "path, mode", NATIVE, FORWARD)
_(91, "fchmod", "fd, mode", NATIVE, FORWARD)
_(92, "chown", "path, int, int", NATIVE, FORWARD)
_(93, "fchown", "fd, int, int", NATIVE, FORWARD)
_(94, "lchown", "path, int, int", NATIVE, FORWARD)
_(95, "umask", "mode", NATIVE, FORWARD)
_(96, "gettimeofday", "out[16], out[8]", NATIVE, FORWARD)
_(97, "getrlimit", "int, out[16]", NATIVE, FORWARD)
_(98, "getrusage", "int, out[144]", TRAP, FORWARD, _CPU_TOO)
_(99, "sysinfo", "out[112]", NATIVE, FORWARD)
_(100, "times", "out[32]", TRAP, FORWARD, _CPU_TOO)
_refuse(101, "ptrace", "int, pid, ptr, ptr", "tracing; with --stay-home debuggers and what they debug run at home")
_(102, "getuid", "", NATIVE, FORWARD)
_refuse(103, "syslog", "int, out[a2]:ret, int", _ADMIN)
_(104, "getgid", "", NATIVE, FORWARD)
_(105, "setuid", "int", NATIVE, FORWARD)
_(106, "setgid", "int", NATIVE, FORWARD)
_(107, "geteuid", "", NATIVE, FORWARD)
_(108, "getegid", "", NATIVE, FORWARD)
_(109, "setpgid", "pid, pid", NATIVE, FORWARD)
_(110, "getppid", "", NATIVE, FORWARD)
_(111, "getpgrp", "", NATIVE, FORWARD)
_(112, "setsid", "", NATIVE, FORWARD)
_(113, "setreuid", "int, int", NATIVE, FORWARD)
_(114, "setregid", "int, int", NATIVE, FORWARD)
_(115, "getgroups", "int, out[a0*4]:ret*4", NATIVE, FORWARD)
_(116, "setgroups", "int, in[a0*4]", NATIVE, FORWARD)
_(117, "setresuid", "int, int, int", NATIVE, FORWARD)
_(118, "getresuid", "out[4], out[4], out[4]", NATIVE, FORWARD)
_(119, "setresgid", "int, int, int", NATIVE, FORWARD)
_(120, "getresgid", "out[4], out[4], out[4]", NATIVE, FORWARD)
_(121, "getpgid", "pid", NATIVE, FORWARD)
_(122, "setfsuid", "int", NATIVE, FORWARD)
_(123, "setfsgid", "int", NATIVE, FORWARD)
_(124, "getsid", "pid", NATIVE, FORWARD)
_(125, "capget", "inout[8]:always, inout[24]", NATIVE, FORWARD)
_(126, "capset", "inout[8]:always, in[24]", NATIVE, FORWARD)
_(127, "rt_sigpending", "out[a1], size", NATIVE, FORWARD)
_(128, "rt_sigtimedwait", "in[8], out[128], in[16], size", NATIVE, FORWARD)
_(129, "rt_sigqueueinfo", "pid, sig, in[128]", TEST, FORWARD, _NO_STOP, _STOP_SECOND)
_(130, "rt_sigsuspend", "@sigmask, size", NATIVE, FORWARD, "waits at home, the handler runs where the program runs")
_(131, "sigaltstack", "in[24], out[24]", NATIVE, BODY, "handlers run where the program runs")
_(132, "utime", "path, in[16]", NATIVE, FORWARD)
_(133, "mknod", "path, mode, int", NATIVE, FORWARD)
_refuse(134, "uselib", "path", _NEVER)
_(135, "personality", "int", NATIVE, FORWARD)
_(136, "ustat", "int, out[32]", NATIVE, FORWARD)
_(137, "statfs", "path, out[120]", NATIVE, FORWARD)
_(138, "fstatfs", "fd, out[120]", NATIVE, FORWARD)
_(139, "sysfs", "int, @sysfs, ptr", NATIVE, FORWARD)
_(140, "getpriority", "int, int", NATIVE, FORWARD)
_(141, "setpriority", "int, int, int", NATIVE, FORWARD, "holds where the program runs within a second")
_(142, "sched_setparam", "pid, in[4]", NATIVE, FORWARD, _POLICY)
_(143, "sched_getparam", "pid, out[4]", NATIVE, FORWARD)
_(144, "sched_setscheduler", "pid, int, in[4]", NATIVE, FORWARD, _POLICY)
_(145, "sched_getscheduler", "pid", NATIVE, FORWARD)
_(146, "sched_get_priority_max", "int", NATIVE, FORWARD)
_(147, "sched_get_priority_min", "int", NATIVE, FORWARD)
_(148, "sched_rr_get_interval", "pid, out[16]", NATIVE, FORWARD)
_(149, "mlock", "ptr, size", TRAP, BODY, _LOCKED)
_(150, "munlock", "ptr, size", TRAP, BODY, _LOCAL)
_refuse(151, "mlockall", "flags", "all memory of a program that shall move")
_(152, "munlockall", "", NATIVE, BODY, _LOCAL)
_(153, "vhangup", "", NATIVE, FORWARD)
_refuse(154, "modify_ldt", "int, ptr, size", "segments of old 16-bit and 32-bit programs")
_refuse(155, "pivot_root", "path, path", _MOUNTS)
_errno(156, "_sysctl", "ptr", _NEVER)
_(157, "prctl", "int, @prctl, ptr, ptr, ptr", TEST, FORWARD, "sandboxes and processor modes are refused", _PRCTL)
_(158, "arch_prctl", "int, ptr", TEST, BODY, "shadow stacks, hiding cpuid: refused", _ARCH_PRCTL)
_refuse(159, "adjtimex", "inout[208]", _ADMIN)
_(160, "setrlimit", "int, in[16]", TEST, FORWARD, _NOFILE, _NOFILE_FIRST, host=ByHost.LIMIT)
_refuse(161, "chroot", "path", _ADMIN)
_(162, "sync", "", NATIVE, FORWARD)
_refuse(163, "acct", "path", _ADMIN)
_refuse(164, "settimeofday", "in[16], in[8]", _ADMIN)
_refuse(165, "mount", "str, path, str, flags, ptr", _MOUNTS)
_refuse(166, "umount2", "path, flags", _MOUNTS)
_refuse(167, "swapon", "path, flags", _ADMIN)
_refuse(168, "swapoff", "path", _ADMIN)
_refuse(169, "reboot", "int, int, int, str", _ADMIN)
_refuse(170, "sethostname", "in[a1], int", _ADMIN)
_refuse(171, "setdomainname", "in[a1], int", _ADMIN)
_refuse(172, "iopl", "int", _ADMIN)
_refuse(173, "ioperm", "size, size, int", _ADMIN)
_refuse(174, "create_module", "str, size", _NEVER)
_refuse(175, "init_module", "in[a1], size, str", _ADMIN)
_refuse(176, "delete_module", "str, flags", _ADMIN)
_refuse(177, "get_kernel_syms", "ptr", _NEVER)
_errno(178, "query_module", "str, int, ptr, size, ptr", _NEVER)
_refuse(179, "quotactl", "int, path, int, ptr", _ADMIN)
_refuse(180, "nfsservctl", "int, ptr, ptr", _NEVER)
_refuse(181, "getpmsg", "", _NEVER)
_errno(182, "putpmsg", "", _NEVER)
_refuse(183, "afs_syscall", "", _NEVER)
_refuse(184, "tuxcall", "", _NEVER)
_refuse(185, "security", "", _NEVER)
_(186, "gettid", "", NATIVE, FORWARD, _SAME, host=ByHost.PID)
_(187, "readahead", "fd, off, size", NATIVE, FORWARD)
_(188, "setxattr", "path, str, in[a3], size, flags", NATIVE, FORWARD)
_(189, "lsetxattr", "path, str, in[a3], size, flags", NATIVE, FORWARD)
_(190, "fsetxattr", "fd, str, in[a3], size, flags", NATIVE, FORWARD)
_(191, "getxattr", "path, str, out[a3]:ret, size", NATIVE, FORWARD)
_(192, "lgetxattr", "path, str, out[a3]:ret, size", NATIVE, FORWARD)
_(193, "fgetxattr", "fd, str, out[a3]:ret, size", NATIVE, FORWARD)
_(194, "listxattr", "path, out[a2]:ret, size", NATIVE, FORWARD)
_(195, "llistxattr", "path, out[a2]:ret, size", NATIVE, FORWARD)
_(196, "flistxattr", "fd, out[a2]:ret, size", NATIVE, FORWARD)
_(197, "removexattr", "path, str", NATIVE, FORWARD)
_(198, "lremovexattr", "path, str", NATIVE, FORWARD)
_(199, "fremovexattr", "fd, str", NATIVE, FORWARD)
_(200, "tkill", "pid, sig", TEST, FORWARD, _NO_STOP, _STOP_SECOND)
_(201, "time", "out[8]", NATIVE, FORWARD)
_(202, "futex", "@futex, int, int, ptr, ptr, int", NATIVE, SPECIAL, "the only thread waits until the timeout or a signal",
  host=ByHost.FUTEX)
_(203, "sched_setaffinity", "pid, int, in[a1]", TRAP, FORWARD, _AFFINITY)
_(204, "sched_getaffinity", "pid, int, out[a1]:ret", TRAP, FORWARD, "the home-node's CPUs, whatever a tracer does meanwhile")
_errno(205, "set_thread_area", "ptr", _NEVER)
_refuse(206, "io_setup", "int, inout[8]", "results arrive in shared memory")
_refuse(207, "io_destroy", "ptr", "results arrive in shared memory")
_refuse(208, "io_getevents", "ptr, off, off, ptr, in[16]", "results arrive in shared memory")
_refuse(209, "io_submit", "ptr, off, ptr", "results arrive in shared memory")
_refuse(210, "io_cancel", "ptr, ptr, ptr", "results arrive in shared memory")
_errno(211, "get_thread_area", "ptr", _NEVER)
_refuse(212, "lookup_dcookie", "off, out[a2]:ret, size", _NEVER)
_(213, "epoll_create", "int", NATIVE, FORWARD)
_errno(214, "epoll_ctl_old", "", _NEVER)
_errno(215, "epoll_wait_old", "", _NEVER)
_refuse(216, "remap_file_pages", "ptr, size, int, size, flags", "shared memory")
_(217, "getdents64", "fd, out[a2]:ret, int", NATIVE, FORWARD)
_(218, "set_tid_address", "ptr", NATIVE, SPECIAL, "of the body, answered with the PID of the home-node", host=ByHost.TID_ADDRESS)
_(219, "restart_syscall", "", NATIVE, SPECIAL, "the deputy resumes what was interrupted, with that call's arguments",
  host=ByHost.DEPUTY)
_(220, "semtimedop", "int, in[a2*6], size, in[16]", NATIVE, FORWARD)
_(221, "fadvise64", "fd, off, size, int", NATIVE, FORWARD)
_(222, "timer_create", "int, in[64], inout[4]", NATIVE, FORWARD)
_(223, "timer_settime", "int, flags, in[32], out[32]", TEST, FORWARD, _CPU_TIMER, _any_bit(1, TIMER_ABSTIME))
_(224, "timer_gettime", "int, out[32]", NATIVE, FORWARD)
_(225, "timer_getoverrun", "int", NATIVE, FORWARD)
_(226, "timer_delete", "int", NATIVE, FORWARD)
_refuse(227, "clock_settime", "int, in[16]", _ADMIN)
_(228, "clock_gettime", "int, out[16]", TEST, FORWARD, f"clocks of CPU time: {_CPU_TOO}", _CPU_CLOCK,
  host=ByHost.CLOCK)
_(229, "clock_getres", "int, out[16]", NATIVE, FORWARD)
_(230, "clock_nanosleep", "int, flags, in[16], inout[16]:always", TEST, FORWARD,
  "by clocks of CPU time: at home, where the program stays; CPU time used away does not count", _CPU_CLOCK)
_(231, "exit_group", "int", NATIVE, SPECIAL, "ends body and deputy", host=ByHost.EXIT)
_(232, "epoll_wait", "fd, out[a2*12]:ret*12, int, int", NATIVE, FORWARD)
_(233, "epoll_ctl", "fd, int, fd, in[12]", NATIVE, FORWARD)
_(234, "tgkill", "pid, pid, sig", TEST, FORWARD, _NO_STOP, _STOP_THIRD)
_(235, "utimes", "path, in[32]", NATIVE, FORWARD)
_errno(236, "vserver", "", _NEVER)
_(237, "mbind", "ptr, size, int, in[fds(a4)], size, flags", NATIVE, BODY, f"{_LOCAL}, and its banks; a move undoes it")
_(238, "set_mempolicy", "int, in[fds(a2)], size", NATIVE, FORWARD, "the policy of the home-node")
_(239, "get_mempolicy", "out[4], inout[fds(a2)], size, ptr, flags", NATIVE, FORWARD, "of an address: where it runs",
  host=ByHost.MEMPOLICY)
_(240, "mq_open", "str, flags, mode, in[64]", NATIVE, FORWARD)
_(241, "mq_unlink", "str", NATIVE, FORWARD)
_(242, "mq_timedsend", "fd, in[a2], size, int, in[16]", NATIVE, FORWARD)
_(243, "mq_timedreceive", "fd, out[a2]:ret, size, out[4], in[16]", NATIVE, FORWARD)
_(244, "mq_notify", "fd, @sigevent", NATIVE, FORWARD)
_(245, "mq_getsetattr", "fd, in[64], out[64]", NATIVE, FORWARD)
_refuse(246, "kexec_load", "size, size, ptr, flags", _ADMIN)
_(247, "waitid", "int, pid, inout[128]:always, flags, inout[144]", TEST, FORWARD, _CPU_TOO, _WAITID)
_refuse(248, "add_key", "str, str, in[a3], size, int", _KEYS)
_refuse(249, "request_key", "str, str, str, int", _KEYS)
_refuse(250, "keyctl", "int, ptr, ptr, ptr, ptr", _KEYS)
_(251, "ioprio_set", "int, int, int", NATIVE, FORWARD)
_(252, "ioprio_get", "int, int", NATIVE, FORWARD)
_(253, "inotify_init", "", NATIVE, FORWARD)
_(254, "inotify_add_watch", "fd, path, flags", NATIVE, FORWARD)
_(255, "inotify_rm_watch", "fd, int", NATIVE, FORWARD)
_refuse(256, "migrate_pages", "pid, size, in[fds(a1)], in[fds(a1)]", _PLACING)
_(257, "openat", "fd, path, flags, mode", TEST, FORWARD, _OURS, _OPENAT, host=ByHost.OPEN)
_(258, "mkdirat", "fd, path, mode", NATIVE, FORWARD)
_(259, "mknodat", "fd, path, mode, int", NATIVE, FORWARD)
_(260, "fchownat", "fd, path, int, int, flags", NATIVE, FORWARD)
_(261, "futimesat", "fd, path, in[32]", NATIVE, FORWARD)
_(262, "newfstatat", "fd, path, out[144], flags", NATIVE, FORWARD)
_(263, "unlinkat", "fd, path, flags", NATIVE, FORWARD)
_(264, "renameat", "fd, path, fd, path", NATIVE, FORWARD)
_(265, "linkat", "fd, path, fd, path, flags", NATIVE, FORWARD)
_(266, "symlinkat", "str, fd, path", NATIVE, FORWARD)
_(267, "readlinkat", "fd, path, out[a3]:ret, int", NATIVE, FORWARD)
_(268, "fchmodat", "fd, path, mode", NATIVE, FORWARD)
_(269, "faccessat", "fd, path, mode", NATIVE, FORWARD)
_(270, "pselect6", f"int, {_SETS}, inout[16]:always, @pselect_mask", NATIVE, FORWARD)
_(271, "ppoll", "inout[a1*8]:always, int, inout[16]:always, @sigmask, size", NATIVE, FORWARD)
_(272, "unshare", "flags", TEST, FORWARD, "new name spaces are refused, and a thread's own descriptors", _UNSHARE)
_(273, "set_robust_list", "ptr, size", NATIVE, SPECIAL, "of the body", host=ByHost.BODY)
_(274, "get_robust_list", "pid, out[8], out[8]", NATIVE, BODY, "of another process away: none", host=ByHost.ROBUST_LIST)
_(275, "splice", "fd, inout[8], fd, inout[8], size, flags", NATIVE, FORWARD)
_(276, "tee", "fd, fd, size, flags", NATIVE, FORWARD)
_(277, "sync_file_range", "fd, off, off, flags", NATIVE, FORWARD)
_(278, "vmsplice", "fd, @iov_both, size, flags", NATIVE, FORWARD, "away, what is later changed of the memory is not in the pipe")
_refuse(279, "move_pages", "pid, size, ptr, ptr, ptr, flags", _PLACING)
_(280, "utimensat", "fd, path, in[32], flags", NATIVE, FORWARD)
_(281, "epoll_pwait", "fd, out[a2*12]:ret*12, int, int, @sigmask, size", NATIVE, FORWARD)
_(282, "signalfd", "fd, in[8], size", NATIVE, FORWARD)
_(283, "timerfd_create", "int, flags", NATIVE, FORWARD)
_(284, "eventfd", "int", NATIVE, FORWARD)
_(285, "fallocate", "fd, mode, off, off", NATIVE, FORWARD)
_(286, "timerfd_settime", "fd, flags, in[32], out[32]", NATIVE, FORWARD)
_(287, "timerfd_gettime", "fd, out[32]", NATIVE, FORWARD)
_(288, "accept4", "fd, inout[*a2], inout[4], flags", NATIVE, FORWARD)
_(289, "signalfd4", "fd, in[8], size, flags", NATIVE, FORWARD)
_(290, "eventfd2", "int, flags", NATIVE, FORWARD)
_(291, "epoll_create1", "flags", NATIVE, FORWARD)
_(292, "dup3", "fd, fd, flags", NATIVE, FORWARD)
_(293, "pipe2", "out[8], flags", NATIVE, FORWARD)
_(294, "inotify_init1", "flags", NATIVE, FORWARD)
_(295, "preadv", "fd, @iov_out, size, off, off", NATIVE, FORWARD)
_(296, "pwritev", "fd, @iov_in, size, off, off", NATIVE, FORWARD)
_(297, "rt_tgsigqueueinfo", "pid, pid, sig, in[128]", TEST, FORWARD, _NO_STOP, _STOP_THIRD)
_refuse(298, "perf_event_open", "ptr, pid, int, fd, flags", "counters in shared memory")
_(299, "recvmmsg", "fd, @mmsg_out, int, flags, inout[16]", NATIVE, FORWARD)
_(300, "fanotify_init", "flags, flags", NATIVE, FORWARD)
_(301, "fanotify_mark", "fd, flags, off, fd, path", NATIVE, FORWARD)
_(302, "prlimit64", "pid, int, in[16], out[16]", TEST, FORWARD, _NOFILE, _NOFILE_SECOND, host=ByHost.LIMIT)
_(303, "name_to_handle_at", "fd, path, @file_handle, inout[8]:always, flags", NATIVE, FORWARD)
_(304, "open_by_handle_at", "fd, @file_handle, flags", NATIVE, FORWARD)
_refuse(305, "clock_adjtime", "int, inout[208]", _ADMIN)
_(306, "syncfs", "fd", NATIVE, FORWARD)
_(307, "sendmmsg", "fd, @mmsg_in, int, flags", NATIVE, FORWARD)
_refuse(308, "setns", "fd, flags", _NAMESPACES)
_(309, "getcpu", "out[4], out[4], ptr", NATIVE, FORWARD, "a processor of the home-node")
_(310, "process_vm_readv", "pid, ptr, size, ptr, size, flags", TRAP, SPECIAL, _TREE_ONLY, host=ByHost.MEMORY)
_(311, "process_vm_writev", "pid, ptr, size, ptr, size, flags", TRAP, SPECIAL, _TREE_ONLY, host=ByHost.MEMORY)
_(312, "kcmp", "pid, pid, int, size, size", NATIVE, FORWARD)
_refuse(313, "finit_module", "fd, str, flags", _ADMIN)
_(314, "sched_setattr", "pid, @sched_attr, flags", NATIVE, FORWARD, _POLICY)
_(315, "sched_getattr", "pid, inout[a2], int, flags", NATIVE, FORWARD)
_(316, "renameat2", "fd, path, fd, path, flags", NATIVE, FORWARD)
_(317, "seccomp", "int, flags, inout[6]", TEST, FORWARD, "filters of a program's own are refused", _SECCOMP)
_(318, "getrandom", "out[a1]:ret, size, flags", NATIVE, BODY, "random numbers of the node where the program runs")
_(319, "memfd_create", "str, flags", NATIVE, FORWARD)
_refuse(320, "kexec_file_load", "fd, fd, size, in[a2], flags", _ADMIN)
_refuse(321, "bpf", "int, inout[a2], int", _ADMIN)
_(322, "execveat", "fd, path, @argv, @argv, flags", NATIVE, SPECIAL, "32-bit programs run in native mode", host=ByHost.EXEC)
_refuse(323, "userfaultfd", "flags", "page faults answered by another thread")
_errno(324, "membarrier", "int, flags, int", _FALLBACK)
_(325, "mlock2", "ptr, size, flags", TRAP, BODY, _LOCKED)
_(326, "copy_file_range", "fd, inout[8], fd, inout[8], size, flags", NATIVE, FORWARD)
_(327, "preadv2", "fd, @iov_out, size, off, off, flags", NATIVE, FORWARD)
_(328, "pwritev2", "fd, @iov_in, size, off, off, flags", NATIVE, FORWARD)
_(329, "pkey_mprotect", "ptr, size, int, int", NATIVE, BODY, _LOCAL, host=ByHost.MPROTECT)
_errno(330, "pkey_alloc", "flags, int", _FALLBACK)
_errno(331, "pkey_free", "int", _FALLBACK)
_(332, "statx", "fd, path, flags, int, out[256]", NATIVE, FORWARD)
_refuse(333, "io_pgetevents", "ptr, off, off, ptr, in[16], ptr", "results arrive in shared memory")
_(334, "rseq", "ptr, int, flags, int", NATIVE, SPECIAL, "registered with the kernel where the program runs", host=ByHost.BODY)
_(335, "uretprobe", "", NATIVE, Away.ERRNO, "only for the kernel's own probes", (), ENXIO)
_(336, "uprobe", "", NATIVE, Away.ERRNO, "only for the kernel's own probes", (), ENXIO)
_(424, "pidfd_send_signal", "fd, sig, in[128], flags", TEST, FORWARD, _NO_STOP, _STOP_SECOND)
_refuse(425, "io_uring_setup", "int, inout[120]", "queues in shared memory")
_refuse(426, "io_uring_enter", "fd, int, int, flags, ptr, size", "queues in shared memory")
_refuse(427, "io_uring_register", "fd, int, ptr, int", "queues in shared memory")
_refuse(428, "open_tree", "fd, path, flags", _MOUNTS)
_refuse(429, "move_mount", "fd, path, fd, path, flags", _MOUNTS)
_refuse(430, "fsopen", "str, flags", _MOUNTS)
_refuse(431, "fsconfig", "fd, int, str, ptr, int", _MOUNTS)
_refuse(432, "fsmount", "fd, flags, flags", _MOUNTS)
_refuse(433, "fspick", "fd, path, flags", _MOUNTS)
_(434, "pidfd_open", "pid, flags", NATIVE, FORWARD)
_(435, "clone3", "in[a1], size", Home.FAILS, Away.ERRNO, _FALLBACK, errno=ENOSYS)  # libc asks for each thread
_(436, "close_range", "int, int, flags", NATIVE, FORWARD)
_(437, "openat2", "fd, path, in[a3], size", TRAP, FORWARD, _OURS, host=ByHost.OPEN)
_(438, "pidfd_getfd", "fd, fd, flags", NATIVE, FORWARD)
_(439, "faccessat2", "fd, path, mode, flags", NATIVE, FORWARD)
_errno(440, "process_madvise", "fd, @iov_in, size, int, flags", _FALLBACK)
_(441, "epoll_pwait2", "fd, out[a2*12]:ret*12, int, in[16], @sigmask, size", NATIVE, FORWARD)
_refuse(442, "mount_setattr", "fd, path, flags, in[a4], size", _MOUNTS)
_refuse(443, "quotactl_fd", "fd, int, int, ptr", _ADMIN)
_(444, "landlock_create_ruleset", "in[a1], size, flags", NATIVE, FORWARD)
_(445, "landlock_add_rule", "fd, int, in[16], flags", NATIVE, FORWARD)
_(446, "landlock_restrict_self", "fd, flags", NATIVE, FORWARD)
_errno(447, "memfd_secret", "flags", _FALLBACK)
_(448, "process_mrelease", "fd, flags", NATIVE, FORWARD)
_errno(449, "futex_waitv", "in[a1*24], int, flags, in[16], int", _FALLBACK)
_refuse(450, "set_mempolicy_home_node", "ptr, size, size, flags", _PLACING)
_(451, "cachestat", "fd, in[16], out[40], flags", NATIVE, FORWARD)
_(452, "fchmodat2", "fd, path, mode, flags", NATIVE, FORWARD)
_errno(453, "map_shadow_stack", "ptr, size, flags", _FALLBACK)
_errno(454, "futex_wake", "@futex, size, int, flags", _FALLBACK)
_errno(455, "futex_wait", "@futex, size, size, flags, in[16], int", _FALLBACK)
_errno(456, "futex_requeue", "in[48], flags, int, int", _FALLBACK)
_(457, "statmount", "in[*a0], inout[a2], size, flags", NATIVE, FORWARD)
_(458, "listmount", "in[*a0], out[a2*8]:ret*8, size, flags", NATIVE, FORWARD)
_(459, "lsm_get_self_attr", "int, inout[*a2], inout[4]:always, flags", NATIVE, FORWARD)
_(460, "lsm_set_self_attr", "int, in[a2], int, flags", NATIVE, FORWARD)
_(461, "lsm_list_modules", "inout[*a1], inout[4]:always, flags", NATIVE, FORWARD)
_errno(462, "mseal", "ptr, size, flags", "sealed memory could not leave; programs fall back")
_errno(463, "setxattrat", "fd, path, flags, str, ptr, size", _FALLBACK)
_errno(464, "getxattrat", "fd, path, flags, str, ptr, size", _FALLBACK)
_(465, "listxattrat", "fd, path, flags, out[a4]:ret, size", NATIVE, FORWARD)
_(466, "removexattrat", "fd, path, flags, str", NATIVE, FORWARD)
_refuse(467, "open_tree_attr", "fd, path, flags, in[a4], size", _MOUNTS)
_(468, "file_getattr", "fd, path, inout[a3], size, flags", NATIVE, FORWARD)
_(469, "file_setattr", "fd, path, in[a3], size, flags", NATIVE, FORWARD)

BY_NR: dict[int, Syscall] = {call.nr: call for call in _table}
BY_NAME: dict[str, Syscall] = {call.name: call for call in _table}
