/* Pointers, lengths and numbers that no program means: what the kernel answers, and nothing else. The same everywhere. */
#include "mos.h"
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Unmapped; at the very end of all addresses, where an offset leads beyond them; not canonical. */
static const long nowhere[] = { 8, -1, -8, -4096, 0x7fffffffffff, 1L << 62 };

static void signals(void)
{
	for (unsigned i = 0; i < COUNT(nowhere); i++) {
		long at = nowhere[i];

		refused(syscall(SYS_rt_sigaction, SIGUSR1, at, 0L, 8L), EFAULT);
		refused(syscall(SYS_rt_sigprocmask, SIG_BLOCK, at, 0L, 8L), EFAULT);
		refused(syscall(SYS_sigaltstack, at, 0L), EFAULT);
		refused(syscall(SYS_rt_sigtimedwait, at, 0L, 0L, 8L), EFAULT);
		refused(syscall(SYS_rt_sigsuspend, at, 8L), EFAULT);
		refused(syscall(SYS_rt_sigpending, at, 8L), EFAULT);
	}
	refused(syscall(SYS_rt_sigaction, 0, 0L, 0L, 8L), EINVAL);
	refused(syscall(SYS_rt_sigaction, 65, 0L, 0L, 8L), EINVAL);
	refused(syscall(SYS_rt_sigaction, SIGUSR1, 0L, 0L, 4L), EINVAL);
	refused(syscall(SYS_rt_sigaction, -1L, 0L, 0L, 8L), EINVAL);
}

static void places(void)
{
	int zero = ok(open("/dev/zero", O_RDWR | O_CLOEXEC));

	for (unsigned i = 0; i < COUNT(nowhere); i++) {
		long at = nowhere[i];

		refused(syscall(SYS_open, at, O_RDONLY), EFAULT);
		refused(syscall(SYS_openat2, AT_FDCWD, "/dev/null", at, sizeof(struct open_how)), EFAULT);
		refused(syscall(SYS_execve, at, 0L, 0L), EFAULT);
		refused(syscall(SYS_execve, "/bin/true", at, 0L), EFAULT);
		refused(syscall(SYS_execve, "/bin/true", 0L, at), EFAULT);
		refused(syscall(SYS_stat, "/", at), EFAULT);
		refused(syscall(SYS_fstat, zero, at), EFAULT);
		refused(syscall(SYS_read, zero, at, 16L), EFAULT);
		refused(syscall(SYS_readv, zero, at, 2L), EFAULT);
		refused(syscall(SYS_writev, zero, at, 1L), EFAULT);
		refused(syscall(SYS_pipe2, at, 0L), EFAULT);
		refused(syscall(SYS_getcwd, at, 100L), EFAULT);
		refused(syscall(SYS_uname, at), EFAULT);
		refused(syscall(SYS_poll, at, 3L, 0L), EFAULT);
		refused(syscall(SYS_select, 8L, at, 0L, 0L, 0L), EFAULT);
		refused(syscall(SYS_nanosleep, at, 0L), EFAULT);
		refused(syscall(SYS_clock_gettime, CLOCK_PROCESS_CPUTIME_ID, at), EFAULT);
		refused(syscall(SYS_getrusage, RUSAGE_SELF, at), EFAULT);
		refused(syscall(SYS_setrlimit, RLIMIT_CORE, at), EFAULT);
		refused(syscall(SYS_prlimit64, 0L, RLIMIT_STACK, at, 0L), EFAULT);
		refused(syscall(SYS_getrandom, at, 8L, 0L), EFAULT);
		refused(syscall(SYS_times, at), EFAULT);
		refused(syscall(SYS_epoll_ctl, zero, 1L, zero, at), EFAULT);
	}
	refused(syscall(SYS_read, zero, "", -1L), EFAULT);
	refused(syscall(SYS_readv, zero, 0L, -1L), EINVAL);
	refused(syscall(SYS_writev, zero, 0L, 1025L), EINVAL);
	ok(close(zero));
}

static void mappings(void)
{
	int fd = ok(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));

	write_all(fd, "0123456789", 10);
	refused(syscall(SYS_mmap, 0L, 0L, PROT_READ, MAP_PRIVATE, fd, 0L), EINVAL);
	refused(syscall(SYS_mmap, 0L, -1L, PROT_READ, MAP_PRIVATE, fd, 0L), ENOMEM);
	refused(syscall(SYS_mmap, 0L, -4096L, PROT_READ, MAP_PRIVATE, fd, 0L), ENOMEM);
	refused(syscall(SYS_mmap, 0L, 1L << 63, PROT_READ, MAP_PRIVATE, fd, 0L), ENOMEM);
	refused(syscall(SYS_mmap, 0L, 1L << 50, PROT_READ, MAP_PRIVATE, fd, 0L), ENOMEM);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, MAP_PRIVATE, fd, 1L), EINVAL);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, MAP_PRIVATE, -1L, 0L), EBADF);
	refused(syscall(SYS_munmap, 1L, 4096L), EINVAL);
	ok(close(fd));
	ok(unlink("file"));
}

static void positions(void)
{
	int fd = ok(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
	char c;

	refused(syscall(SYS_lseek, fd, 0L, 77L), EINVAL);
	refused(syscall(SYS_lseek, fd, 0L, -1L), EINVAL);
	refused(syscall(SYS_lseek, fd, -1L, SEEK_SET), EINVAL);
	refused(syscall(SYS_pread64, fd, &c, 1L, -1L), EINVAL);
	refused(syscall(SYS_pwrite64, fd, &c, 1L, LONG_MIN), EINVAL);
	refused(syscall(SYS_ftruncate, fd, -1L), EINVAL);
	refused(syscall(SYS_lseek, 1L << 31, 0L, SEEK_SET), EBADF);
	equal(lseek(fd, 0, SEEK_CUR), 0);
	ok(close(fd));
	ok(unlink("file"));
}

/* Many messages with much in them, all the same memory: some are sent, and none in part by who waits. */
static void messages(void)
{
	static struct mmsghdr many[1024], got;
	static struct iovec pieces[64];
	static char page[65536], back[65536 * 64];
	int pair[2];

	memset(page, 'm', sizeof(page));
	for (unsigned i = 0; i < COUNT(pieces); i++)
		pieces[i] = (struct iovec){ page, sizeof(page) };
	for (unsigned i = 0; i < COUNT(many); i++)
		many[i].msg_hdr = (struct msghdr){ .msg_iov = pieces, .msg_iovlen = COUNT(pieces) };
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ssize_t n;

		close(pair[1]);
		while ((n = read(pair[0], back, sizeof(back))) > 0)
			for (ssize_t i = 0; i < n; i++)
				if (back[i] != 'm')
					_exit(2);
		_exit(n ? 1 : 0);
	}
	close(pair[0]);
	int status, sent = ok(sendmmsg(pair[1], many, 1024, MSG_DONTWAIT));
	check(sent > 0 && many[0].msg_len > 0);
	for (int rounds = 0; rounds < 3; rounds++) {
		sent = ok(sendmmsg(pair[1], many, 9, 0));
		check(sent > 0 && sent <= 9);
		for (int i = 0; i < sent; i++)
			equal(many[i].msg_len, sizeof(back));
	}
	ok(shutdown(pair[1], SHUT_WR));
	equal(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	equal(WEXITSTATUS(status), 0);
	refused(syscall(SYS_sendmmsg, pair[1], -1L, 4L, MSG_NOSIGNAL), EFAULT);
	got.msg_hdr.msg_iov = (void *)-8L;
	got.msg_hdr.msg_iovlen = 3;
	refused(syscall(SYS_sendmmsg, pair[1], &got, 1L, MSG_NOSIGNAL), EFAULT);
	ok(close(pair[1]));
}

/* More arguments than any program may get, most of them the same long string. */
static void arguments(void)
{
	size_t most = 1 << 20;
	char *text = ok(mmap(NULL, 131072, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char **words = ok(mmap(NULL, most * sizeof(*words), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	memset(text, 'a', 131071);
	for (size_t i = 0; i < most - 1; i++)
		words[i] = text;
	refused(syscall(SYS_execve, "/bin/true", words, 0L), E2BIG);
	refused(syscall(SYS_execve, "/bin/true", 0L, words), E2BIG);
	refused(syscall(SYS_execve, "/no/such/file", words, 0L), ENOENT);
	ok(munmap(text, 131072));
	ok(munmap(words, most * sizeof(*words)));
}

static int child_of(unsigned long flags, long where, long tid)
{
	long pid = syscall(SYS_clone, SIGCHLD | flags, 0L, where, tid, 0L);
	int status;

	if (pid == 0)
		_exit(17);
	ok(pid);
	equal(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A PID that cannot be stored is not stored. */
static void births(void)
{
	int here = 0;

	for (unsigned i = 0; i < COUNT(nowhere); i++) {
		equal(child_of(CLONE_CHILD_SETTID, 0, nowhere[i]), 17);
		equal(child_of(CLONE_PARENT_SETTID, nowhere[i], 0), 17);
	}
	equal(child_of(CLONE_PARENT_SETTID, (long)&here, 0), 17);
	check(here > 0);
	for (unsigned i = 0; i < COUNT(nowhere); i++)
		refused(syscall(SYS_clone, SIGCHLD | CLONE_PIDFD, 0L, nowhere[i], 0L, 0L), EFAULT);
	refused(syscall(SYS_clone, SIGCHLD | CLONE_PIDFD | CLONE_PARENT_SETTID, 0L, &here, 0L, 0L), EINVAL);
}

/* clone(2) with CLONE_PIDFD: the lowest free descriptor, which tells of the child's end, and which the child does not have. */
static void pidfds(void)
{
	int fd = -1, lowest = ok(dup(1)), gate[2], status;
	char byte;

	ok(close(lowest));
	ok(pipe(gate));
	int next = ok(dup(1));
	ok(close(next));
	pid_t pid = syscall(SYS_clone, SIGCHLD | CLONE_PIDFD, 0L, &fd, 0L, 0L);
	if (pid == 0) {
		close(gate[1]);
		_exit(read(gate[0], &byte, 1) == 0 && fd == -1 && fcntl(next, F_GETFD) == -1 ? 23 : 24);
	}
	ok(pid);
	equal(fd, next);
	equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	equal(poll(&p, 1, 0), 0);
	equal(syscall(SYS_pidfd_send_signal, fd, 0L, 0L, 0L), 0);
	ok(close(gate[0]));
	ok(close(gate[1]));
	equal(poll(&p, 1, -1), 1);
	equal(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	equal(WEXITSTATUS(status), 23);
	ok(close(fd));
}

static volatile sig_atomic_t told;

static void on_end(int sig)
{
	told = sig;
}

/* Children whose end is told by another signal, or by none; and one that its parent waits for without sharing memory (clone(2)). */
static void kinds_of_children(void)
{
	struct timespec rest = { 0, 20000000 };
	struct sigaction on = { .sa_handler = on_end, .sa_flags = SA_RESTART };
	int status, p[2], mine = 1;
	char byte;

	ok(sigaction(SIGUSR2, &on, NULL));
	told = 0;
	pid_t pid = syscall(SYS_clone, SIGUSR2, 0L, 0L, 0L, 0L);
	if (pid == 0)
		_exit(31);
	ok(pid);
	equal(waitpid(pid, &status, __WALL), pid);
	equal(WEXITSTATUS(status), 31);
	equal(told, SIGUSR2);
	told = 0;
	pid = syscall(SYS_clone, 0L, 0L, 0L, 0L, 0L);
	if (pid == 0)
		_exit(32);
	ok(pid);
	equal(waitpid(pid, &status, __WCLONE), pid);
	equal(WEXITSTATUS(status), 32);
	refused(waitpid(-1, &status, 0), ECHILD);
	equal(told, 0);
	check(signal(SIGUSR2, SIG_DFL) != SIG_ERR);
	ok(pipe2(p, O_NONBLOCK));
	pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0L, 0L, 0L, 0L);
	if (pid == 0) {
		mine = 2;
		nanosleep(&rest, NULL);
		_exit(write(p[1], "x", 1) == 1 ? 33 : 34);
	}
	ok(pid);
	equal(read(p[0], &byte, 1), 1);
	equal(mine, 1);
	equal(waitpid(pid, &status, 0), pid);
	equal(WEXITSTATUS(status), 33);
	close(p[0]), close(p[1]);
}

/* A call whose number has more than 32 bits, of which the kernel looks at the lower ones (before Linux 5.14: it knows none such). */
static long with_more(unsigned long more, long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(more | number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}

static void numbers(void)
{
	static const unsigned long upper[] = { 1UL << 32, 0xffffffffUL << 32, 1UL << 63, 0x12345678UL << 32 };
	char *nothing = NULL;

	for (unsigned i = 0; i < COUNT(upper); i++) {
		int known = with_more(upper[i], SYS_getppid, 0, 0, 0) == getppid();

		if (!known)
			equal(with_more(upper[i], SYS_getppid, 0, 0, 0), -ENOSYS);
		equal(with_more(upper[i], SYS_uname, 8, 0, 0), known ? -EFAULT : -ENOSYS);
		equal(with_more(upper[i], SYS_open, (long)nothing, O_RDONLY, 0), known ? -EFAULT : -ENOSYS);
		equal(with_more(upper[i], SYS_dup2, -1, 5, 0), known ? -EBADF : -ENOSYS);
	}
}

PROGRAM(PART(numbers), PART(signals), PART(places), PART(mappings), PART(positions), PART(messages), PART(arguments), PART(births), PART(pidfds), PART(kinds_of_children))
