"""Calls that a signal for a handler may end with EINTR (signal(7)). No program expects that of another, whatever comes."""

from __future__ import annotations

from mosfs.abi.syscalls import BY_NAME

#: Those of signal(7), and of the pages of the others.
_NAMES = (
    "accept accept4 clock_nanosleep close connect copy_file_range creat dup2 dup3 epoll_pwait epoll_pwait2 epoll_wait"
    " fallocate fcntl fdatasync flock fstatfs fsync ftruncate futex futex_wait futex_waitv getrandom io_getevents"
    " io_pgetevents ioctl mq_timedreceive mq_timedsend msgrcv msgsnd nanosleep open openat openat2 pause poll ppoll pread64"
    " preadv preadv2 pselect6 pwrite64 pwritev pwritev2 read readv recvfrom recvmmsg recvmsg restart_syscall rt_sigsuspend"
    " rt_sigtimedwait select semop semtimedop sendfile sendmmsg sendmsg sendto splice statfs sync_file_range tee truncate"
    " vmsplice wait4 waitid write writev"
)
CALLS = frozenset(BY_NAME[name].nr for name in _NAMES.split())
