/* What a program may ask about and do with its pages and its own bookkeeping in the kernel: locks, residence, banks, keys, futexes, lists. */
#include "mos.h"
#include <linux/futex.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/uio.h>

#define PAGE 4096
static void *const nowhere = (void *)8;

static char *pages(int n)
{
	char *at = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(at != MAP_FAILED);
	return at;
}

static void locked(void)
{
	char *at = pages(8);

	ok(mlock(at, 2 * PAGE));
	at[0] = 1;
	ok(munlock(at, 2 * PAGE));
	ok(mlock2(at + 4 * PAGE, PAGE, MLOCK_ONFAULT));
	refused(mlock2(at, PAGE, 99), EINVAL);
	refused(mlock(nowhere, PAGE), ENOMEM);
	ok(munlockall());
	ok(msync(at, PAGE, MS_SYNC));
	refused(msync(at, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	refused(msync(at + 1, PAGE, MS_SYNC), EINVAL);
	ok(munmap(at, 8 * PAGE));
	refused(msync(at, PAGE, MS_SYNC), ENOMEM);
}

static void residence(void)
{
	unsigned char state[8];
	char *at = pages(8);

	at[0] = at[3 * PAGE] = 1;
	ok(mincore(at, 8 * PAGE, state));
	check(state[0] & 1 && state[3] & 1);
	refused(mincore(at, 8 * PAGE, nowhere), EFAULT);
	refused(mincore(at + 1, PAGE, state), EINVAL);
	ok(madvise(at, 4 * PAGE, MADV_DONTNEED));
	equal(at[0], 0);
	ok(madvise(at, PAGE, MADV_WILLNEED));
	ok(madvise(at, PAGE, MADV_SEQUENTIAL));
	ok(madvise(at, PAGE, MADV_DONTFORK));
	ok(madvise(at, PAGE, MADV_DOFORK));
	refused(madvise(at, PAGE, 9999), EINVAL);
	refused(madvise(at + 1, PAGE, MADV_NORMAL), EINVAL);
	ok(munmap(at, 8 * PAGE));
	at = pages(8);
	at[3 * PAGE] = 1;
	char *grown = mremap(at, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
	check(grown != MAP_FAILED && grown[3 * PAGE] == 1);
	grown[15 * PAGE] = 7;
	ok(munmap(grown, 16 * PAGE));
	refused(mincore(grown, PAGE, state), ENOMEM);
	refused(mremap(nowhere, PAGE, PAGE, 0), EINVAL);
}

static void keys(void)
{
	char *at = pages(2);

	/* No key but the default one: the protection is all that changes. */
	ok(syscall(SYS_pkey_mprotect, at, 2 * PAGE, PROT_READ, -1));
	equal(at[5], 0);
	ok(syscall(SYS_pkey_mprotect, at, 2 * PAGE, PROT_READ | PROT_WRITE, -1));
	at[5] = 5;
	refused(syscall(SYS_pkey_mprotect, at, PAGE, PROT_READ, 99), EINVAL);
	ok(munmap(at, 2 * PAGE));
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig UNUSED)
{
	alarms++;
}

static void futexes(void)
{
	struct timespec soon = { 0, 3000000 }, at, bad = { 0, 2000000000 };
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval timer = { { 0, 3000 }, { 0, 3000 } };
	uint32_t word = 5, other = 0;

	equal(syscall(SYS_futex, &word, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
	equal(syscall(SYS_futex, &word, FUTEX_REQUEUE, 1, 1, &other, 0), 0);
	refused(syscall(SYS_futex, &word, FUTEX_WAIT, 4, &soon, NULL, 0), EAGAIN);
	refused(syscall(SYS_futex, nowhere, FUTEX_WAIT, 4, &soon, NULL, 0), EFAULT);
	refused(syscall(SYS_futex, (char *)&word + 1, FUTEX_WAIT, 4, &soon, NULL, 0), EINVAL);
	refused(syscall(SYS_futex, &word, 77, 0, NULL, NULL, 0), ENOSYS);
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	refused(syscall(SYS_futex, &word, FUTEX_WAIT, 5, &soon, NULL, 0), ETIMEDOUT);
	check(now_ns(CLOCK_MONOTONIC) - begin >= 3000000);
	begin = now_ns(CLOCK_MONOTONIC);
	refused(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 5, &soon, NULL, 0), ETIMEDOUT);
	check(now_ns(CLOCK_MONOTONIC) - begin >= 3000000);
	refused(syscall(SYS_futex, &word, FUTEX_WAIT, 5, &bad, NULL, 0), EINVAL);
	refused(syscall(SYS_futex, &word, FUTEX_WAIT, 5, nowhere, NULL, 0), EFAULT);
	for (int real = 0; real < 2; real++) {
		clockid_t clock = real ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		int64_t goal = now_ns(clock) + 3000000;
		at = (struct timespec){ goal / 1000000000, goal % 1000000000 };
		refused(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | (real ? FUTEX_CLOCK_REALTIME : 0), 5, &at, NULL, -1), ETIMEDOUT);
		check(now_ns(clock) >= goal);
	}
	refused(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 5, &at, NULL, 0), EINVAL);
	/* A handler ends it, if it does not restart. */
	alarms = 0;
	ok(sigaction(SIGALRM, &sa, NULL));
	ok(setitimer(ITIMER_REAL, &timer, NULL));
	soon.tv_sec = 100;
	refused(syscall(SYS_futex, &word, FUTEX_WAIT, 5, &soon, NULL, 0), EINTR);
	check(alarms >= 1);
	timer = (struct itimerval){ { 0, 0 }, { 0, 0 } };
	ok(setitimer(ITIMER_REAL, &timer, NULL));
	signal(SIGALRM, SIG_DFL);
}

static void lists(void)
{
	void *head = NULL;
	size_t size = 0;
	int policy = -1;
	pid_t kept = gettid();
	static pid_t tid_place;

	ok(syscall(SYS_get_robust_list, 0, &head, &size));
	equal(size, 24);
	ok(syscall(SYS_set_robust_list, head, 24));
	refused(syscall(SYS_set_robust_list, head, 25), EINVAL);
	refused(syscall(SYS_get_robust_list, 0, nowhere, &size), EFAULT);
	pid_t pid = ok(fork());
	if (pid == 0)
		_exit(syscall(SYS_set_tid_address, &tid_place) == getpid() && gettid() == getpid() && getpid() != kept ? 61 : 1);
	reaped(pid, 61);
	ok(syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 0));
	equal(policy, MPOL_DEFAULT);
	refused(syscall(SYS_get_mempolicy, nowhere, NULL, 0, NULL, 0), EFAULT);
	refused(syscall(SYS_get_mempolicy, &policy, NULL, 0, NULL, 1 << 20), EINVAL);
}

/* Which banks memory comes from: numerical libraries say so of all that they allocate. */
static void banks(void)
{
	unsigned long first = 1;
	int policy = -1;
	char *at = pages(8);

	ok(syscall(SYS_mbind, at, 4 * PAGE, MPOL_PREFERRED, &first, 64, 0));
	memset(at, 7, 8 * PAGE);
	ok(syscall(SYS_mbind, at + PAGE, PAGE, MPOL_BIND, &first, 64, MPOL_MF_MOVE));
	ok(syscall(SYS_mbind, at, 8 * PAGE, MPOL_DEFAULT, NULL, 0, 0));
	ok(syscall(SYS_get_mempolicy, &policy, NULL, 0, at, MPOL_F_ADDR));
	equal(policy, MPOL_DEFAULT);
	refused(syscall(SYS_mbind, at + 1, PAGE, MPOL_DEFAULT, NULL, 0, 0), EINVAL);
	refused(syscall(SYS_mbind, at, PAGE, 99, &first, 64, 0), EINVAL);
	refused(syscall(SYS_mbind, at, PAGE, MPOL_BIND, nowhere, 64, 0), EFAULT);
	refused(syscall(SYS_get_mempolicy, &policy, NULL, 0, nowhere, MPOL_F_ADDR), EFAULT);
	for (int i = 0; i < 8; i++)
		equal(at[i * PAGE], 7);
	ok(munmap(at, 8 * PAGE));
	refused(syscall(SYS_mbind, at, PAGE, MPOL_PREFERRED, &first, 64, 0), EFAULT);
}

static void random_bytes(void)
{
	static unsigned char a[300000], b[300];

	for (size_t n = 0; n <= 256; n += 64)
		equal(syscall(SYS_getrandom, a, n, 0), n);
	equal(syscall(SYS_getrandom, a, sizeof(a), 0), sizeof(a));
	equal(syscall(SYS_getrandom, b, sizeof(b), 1), sizeof(b));
	check(memcmp(a, b, sizeof(b)) != 0);
	refused(syscall(SYS_getrandom, nowhere, 8, 0), EFAULT);
	refused(syscall(SYS_getrandom, a, 8, 0xff00), EINVAL);
}

/* Sources without an end give all that they are asked for, unless a signal comes. */
static void endless(void)
{
	static unsigned char a[3000000];
	static const char *const names[] = { "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random" };

	for (int n = 0; n < 10; n++) {
		memset(a, 1, sizeof(a));
		if (n % 5 == 4) {
			equal(syscall(SYS_getrandom, a, sizeof(a), 0), sizeof(a));
		} else {
			int fd = ok(open(names[n % 5], O_RDONLY));
			struct iovec parts[3] = { { a, 100 }, { a + 100, sizeof(a) / 2 }, { a + 100 + sizeof(a) / 2, sizeof(a) - sizeof(a) / 2 - 100 } };

			equal(n & 1 ? readv(fd, parts, 3) : read(fd, a, sizeof(a)), sizeof(a));
			ok(close(fd));
		}
		size_t zeros = 0;
		for (size_t i = 0; i < sizeof(a); i++)
			zeros += !a[i];
		if (n % 5 < 2)
			equal(zeros, sizeof(a));
		else
			check(zeros > sizeof(a) / 300 && zeros < sizeof(a) / 200);
	}
}

PROGRAM(PART(locked), PART(residence), PART(keys), PART(futexes), PART(lists), PART(banks), PART(random_bytes), PART(endless))
