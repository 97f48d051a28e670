/* Calls and settings that kernels of the last years have brought: each gives what it gives natively, or ENOSYS as an older kernel would. */
#include "mos.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/time.h>
#include <sys/uio.h>

#define NR_rseq 334
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_process_madvise 440
#define NR_memfd_secret 447
#define NR_futex_waitv 449
#define NR_futex_wake 454
#define NR_mseal 462
#define NR_getxattrat 464
#define NR_listxattrat 465
#ifndef F_GET_RW_HINT
#define F_GET_RW_HINT 1035
#define F_SET_RW_HINT 1036
#endif
#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

/* Restartable sequences (rseq(2)): where a program is registered it stays so, and its processor's number is kept up to date. */

static void on_tick(int sig UNUSED)
{
}

static int with_rseq(void)
{
	static struct rseq own __attribute__((aligned(32)));
	struct rseq *area = &own;
	long at = 0;
	bool libc = __rseq_size != 0;

	if (libc)
		area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	else if (syscall(NR_rseq, area, sizeof(*area), 0, RSEQ_SIG))
		return errno == ENOSYS ? 5 : 6;
	for (int i = 0; i < 4; i++) {
		check(area->cpu_id < CPU_SETSIZE);
		refused(syscall(NR_rseq, &own, sizeof(own), RSEQ_FLAG_UNREGISTER + 2, RSEQ_SIG), EINVAL);
		check(syscall(NR_rseq, area, sizeof(*area), 0, RSEQ_SIG + 1) == -1 && (errno == EPERM || errno == EINVAL));
		/* it is aborted when it is interrupted within: the loop would never end by itself */
		__asm__ volatile (
			".pushsection __rseq_cs, \"aw\"\n"
			".balign 32\n"
			"7: .long 0, 0\n"
			"   .quad 1f, 2f - 1f, 4f\n"
			".popsection\n"
			"leaq 7b(%%rip), %%rax\n"
			"movq %%rax, %[cs]\n"
			"1: pause\n"
			"jmp 1b\n"
			"2: nop\n"
			"jmp 5f\n"
			".long 0x53053053\n"
			"4: movq $1, %[at]\n"
			"5:\n"
			: [at] "+m" (at), [cs] "=m" (area->rseq_cs) : : "rax", "memory", "cc");
		equal(at, 1);
		at = 0;
		elsewhere();
	}
	return 5;
}

/* A signal ends the loop even where no other task wants the processor: its handler is entered from the place for aborts. */
static void restartable(void)
{
	const long usec = seconds < 0.5 ? 2000 : 30000;
	struct itimerval tick = { { 0, usec }, { 0, usec } }, none = { { 0, 0 }, { 0, 0 } };

	signal(SIGVTALRM, on_tick);
	ok(setitimer(ITIMER_VIRTUAL, &tick, NULL));
	equal(with_rseq(), 5);
	ok(setitimer(ITIMER_VIRTUAL, &none, NULL));
	signal(SIGVTALRM, SIG_DFL);
}

/* Who asks for what cannot be had is told so: by the error that programs know from older kernels. */
static void fallbacks(void)
{
	int word = 1;
	char byte = 7;
	struct iovec all = { &byte, 1 };
	struct { uint64_t val, uaddr; uint32_t flags, reserved; } waiter = { 0, (uintptr_t)&word, 2, 0 };
	struct { uint64_t value; uint32_t size, flags; } attribute = { (uintptr_t)&byte, 1, 0 };
	struct timespec soon = { 0, 0 };
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(page != MAP_FAILED);
	for (int i = 0; i < 2; i++) {
		if (syscall(NR_futex_waitv, &waiter, 1, 0, &soon, CLOCK_MONOTONIC) == -1)
			check(errno == ENOSYS || errno == EAGAIN);
		if (syscall(NR_futex_wake, &word, 1, 1, 2) == -1)
			check(errno == ENOSYS);
		int fd = syscall(NR_memfd_secret, 0);
		if (fd == -1)
			check(errno == ENOSYS);
		else
			ok(close(fd));
		if (syscall(NR_mseal, page, 4096, 1) == -1) /* flags must be 0 */
			check(errno == ENOSYS || errno == EINVAL);
		fd = ok(syscall(NR_pidfd_open, getpid(), 0));
		if (syscall(NR_process_madvise, fd, &all, 1, MADV_COLD, 0) == -1)
			check(errno == ENOSYS || errno == EINVAL);
		ok(close(fd));
		if (syscall(NR_getxattrat, AT_FDCWD, ".", 0, "user.none", &attribute, sizeof(attribute)) == -1)
			check(errno == ENOSYS || errno == ENODATA || errno == EOPNOTSUPP);
		if (syscall(NR_listxattrat, AT_FDCWD, ".", 0, &byte, 0L) == -1)
			check(errno == ENOSYS || errno == EOPNOTSUPP);
		if (syscall(NR_clone3, NULL, 0) == -1)
			check(errno == ENOSYS || errno == EINVAL || errno == EFAULT);
		elsewhere();
	}
	equal(byte, 7);
	ok(munmap(page, 4096));
}

/* How long the data of a file will live: of the inode, whoever asks. */
static void hints(void)
{
	int fd = ok(open("hinted", O_CREAT | O_RDWR | O_TRUNC, 0600));
	uint64_t hint = 2;

	if (fcntl(fd, F_SET_RW_HINT, &hint) == 0)
		for (int i = 0; i < 2; i++) {
			elsewhere();
			hint = 99;
			int other = ok(open("hinted", O_RDONLY));
			ok(fcntl(other, F_GET_RW_HINT, &hint));
			equal(hint, 2);
			ok(close(other));
		}
	else
		check(errno == EINVAL || errno == EPERM);
	hint = 77;
	refused(fcntl(fd, F_SET_RW_HINT, &hint), EINVAL);
	ok(close(fd));
	ok(unlink("hinted"));
}

/* Settings of a process that say the same before and after, and that its children have or do not have. */

struct setting {
	int set, get, value;
	bool inherited;
};

static int with_settings(void *unused UNUSED)
{
	static const struct setting all[] = {
		{ PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER, 1, true },
		{ PR_SET_MEMORY_MERGE, PR_GET_MEMORY_MERGE, 1, true },
		{ PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, 77777, true },
		{ PR_SET_KEEPCAPS, PR_GET_KEEPCAPS, 1, true },
		{ PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, 1, true },
		{ PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, 1, true },
		{ PR_SET_DUMPABLE, PR_GET_DUMPABLE, 0, true },
	};
	bool set[COUNT(all)];

	for (size_t i = 0; i < COUNT(all); i++) {
		set[i] = prctl(all[i].set, all[i].value, 0, 0, 0) == 0;
		if (!set[i])
			check(errno == EINVAL || errno == EPERM || errno == ENOSYS);
	}
	for (int round = 0; round < 3; round++) {
		elsewhere();
		for (size_t i = 0; i < COUNT(all); i++)
			if (set[i])
				equal(prctl(all[i].get, 0, 0, 0, 0), all[i].value);
	}
	pid_t pid = ok(fork());
	if (!pid) {
		for (size_t i = 0; i < COUNT(all); i++)
			if (set[i] && prctl(all[i].get, 0, 0, 0, 0) != (all[i].inherited ? all[i].value : 0))
				_exit(20 + i);
		_exit(6);
	}
	reaped(pid, 6);
	return 8;
}

static void settings(void)
{
	reaped(forked(with_settings, NULL), 8);
}

/* Sealed memory files: what may not be done to them may not be done elsewhere either, by any descriptor. */
static void sealed_exec(void)
{
	int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char path[64], text[8];

	ok(fd);
	write_all(fd, "content", 7);
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE));
	for (int i = 0; i < 2; i++) {
		elsewhere();
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		int again = ok(open(path, O_RDONLY));
		equal(fcntl(again, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE);
		equal(pread(again, text, 7, 0), 7);
		same(text, "content", 7);
		refused(pwrite(fd, "x", 1, 0), EPERM);
		refused(ftruncate(fd, 3), EPERM);
		ok(close(again));
	}
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	ok(close(fd));
}

PROGRAM(PART(restartable), PART(fallbacks), PART(hints), PART(settings), PART(sealed_exec))
