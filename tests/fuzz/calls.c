/* Random system calls: every number, with odd pointers, lengths and descriptors, and maps over the low addresses where a tracer or
 * host has pages of its own.
 *
 *     calls SEED SECONDS
 *
 * Each round is a child with a seed of its own that makes up to CALLS calls in the current directory and may end in any way; one
 * that waits is killed. The program itself only forks and waits; a child may kill it, too.
 */
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 1500
#define LAST 500
#define X32 0x40000000L
#define ROUND_MS 700
#define COUNT(a) (sizeof (a) / sizeof *(a))

/* What would only end or stop the round, write all disks of the machine, or leave something that outlives the user's processes. */
static const short left_out[] = {
	SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigreturn, SYS_sync, SYS_syncfs, SYS_shmget, SYS_semget, SYS_msgget, SYS_mq_open,
};

static uint64_t state;
static char *buffer, *edge;

static uint64_t any(void)
{
	state += 0x9e3779b97f4a7c15;
	uint64_t z = state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static long below(long most) { return any() % most; }

static long low(void) { return 0x10000 + below(0xf0) * 4096 + (below(4) ? 0 : below(4096)); }

static long pointer(void)
{
	static const long odd[] = { 0, -1, 8, -4096, -8, 0x7ffffffff000, 0x7fffffffffff, (long)0xffff888000000000, 1L << 62, 1L << 47 };

	switch (below(6)) {
	case 0: return odd[below(COUNT(odd))];
	case 1: return low();
	case 2: return (long)edge - below(20); /* a page follows that is not there */
	default: return (long)buffer + below(64) * 256;
	}
}

static long number(void)
{
	static const long odd[] = { 0, 1, 2, 4, 8, 4095, 4096, 65536, 1L << 31, (1L << 31) - 1, 1L << 32, -1, -2, -100, INT64_MAX, INT64_MIN };

	switch (below(4)) {
	case 0: return 1L << below(64);
	case 1: return below(256);
	default: return odd[below(COUNT(odd))];
	}
}

static long descriptor(void)
{
	static const long odd[] = { -1, -100, 1023, 1024, 1 << 20, INT32_MAX, INT32_MIN };

	return below(5) ? below(24) : odd[below(COUNT(odd))];
}

static long argument(void)
{
	switch (below(4)) {
	case 0: return descriptor();
	case 1: return number();
	default: return pointer();
	}
}

/* Names of the current directory, times, vectors of addresses: whatever a call takes it for. */
static void fill(void)
{
	static const char *const names[] = { "a", "b", "c", ".", "d/e", "/proc/self/mem", "/proc/self/maps", "/dev/null", "/dev/zero" };

	for (long at = 0; at < 64 * 256; at += 256) {
		long *words = (long *)(buffer + at);

		switch (below(3)) {
		case 0: strcpy(buffer + at, names[below(COUNT(names))]); break;
		case 1:
			for (int i = 0; i < 32; i++)
				words[i] = argument();
			break;
		default:
			for (int i = 0; i < 32; i++)
				words[i] = below(4);
		}
	}
}

/* Maps over the low addresses, with flags that a random number would seldom be. */
static void maps(void)
{
	static const int flags[] = { MAP_FIXED, MAP_FIXED_NOREPLACE, 0, MAP_FIXED | MAP_GROWSDOWN };
	long at = low() & -4096, size = (1 + below(32)) * 4096;

	switch (below(5)) {
	case 0: syscall(SYS_mmap, at, size, below(8), MAP_PRIVATE | MAP_ANONYMOUS | flags[below(4)], -1, 0); break;
	case 1: syscall(SYS_munmap, at, size); break;
	case 2: syscall(SYS_mprotect, at, size, below(8)); break;
	case 3: syscall(SYS_mremap, buffer + 64 * 256, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, at); break;
	default: syscall(SYS_madvise, at, size, below(26));
	}
}

static void on_signal(int signal) { (void)signal; }

static void signals(void)
{
	struct sigaction action = { .sa_handler = below(3) ? on_signal : SIG_IGN, .sa_flags = below(2) ? SA_RESTART : SA_NODEFER };
	int chosen = below(2) ? SIGUSR1 : 1 + below(64);

	sigaction(chosen, &action, NULL);
	if (chosen != SIGSTOP)
		syscall(SYS_kill, getpid(), chosen);
}

static int among(long nr, const short *numbers, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (nr == numbers[i])
			return 1;
	return 0;
}

/* One call; a child that a random fork or clone made goes on for a few. */
static void call(void)
{
	static const long beyond[] = { X32, INT32_MIN, 1L << 31, 1L << 32, 1L << 63, -1, -2, X32 | 512 };
	long nr = below(LAST + 1), args[6];

	if (among(nr, left_out, COUNT(left_out)))
		return;
	for (int i = 0; i < 6; i++)
		args[i] = argument();
	if (nr == SYS_kill && (int)args[0] <= 0) /* or every round would end early */
		args[0] = getpid();
	if (nr == SYS_clone || nr == SYS_clone3)
		alarm(1);
	if (nr == SYS_alarm || nr == SYS_setitimer)
		return;
	if (!below(16)) /* of x32, negative, and longer than a number is */
		nr ^= beyond[below(COUNT(beyond))];
	syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
}

/* The same by the door for 32-bit programs, which has numbers of its own (man 2 syscall, i386). */
static void call_32(void)
{
	/* exit, sync, pause, kill, alarm, setitimer, ipc, sigreturn, rt_sigreturn, exit_group, mq_open, syncfs, semget, shmget, msgget */
	static const short left[] = { 1, 36, 29, 37, 27, 104, 117, 119, 173, 252, 277, 344, 393, 395, 399 };
	long nr = below(LAST + 1), a[5];

	if (among(nr, left, COUNT(left)))
		return;
	if (nr == 120 || nr == 435) /* clone, clone3 */
		alarm(1);
	for (int i = 0; i < 5; i++)
		a[i] = below(2) ? low() : argument() & 0xffffffff;
	__asm__ volatile("int $0x80" : "+a"(nr) : "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4]) : "memory", "r8", "r9", "r10", "r11");
}

/* Requests of every family, and such that nobody knows. */
static void requests(void)
{
	static const unsigned families[] = { 0x5400, 0x5600, 0x8900, 0x8b00, 0x1200, 0x6600, 0x5800, 0x2400, 0xaa00, 0x9400, 0x7000, 0xb700, 0x1500 };
	unsigned long request = families[below(COUNT(families))] | below(256);

	if (below(3) == 0)
		request |= below(4) << 30 | below(1 << 14) << 16; /* a direction and a length */
	syscall(SYS_ioctl, descriptor(), request, argument());
}

/* Descriptors in messages: from and to buffers anywhere, and cut off at odd lengths. */
static void descriptors(void)
{
	int pair[2];
	long at[2];

	if (socketpair(AF_UNIX, below(2) ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair))
		return;
	for (int turn = 0; turn < 2; turn++) {
		struct iovec part = { (void *)pointer(), below(2) ? below(64) : number() };
		struct msghdr message = { .msg_iov = below(9) ? &part : (void *)pointer(), .msg_iovlen = below(9) ? 1 : number() };
		struct cmsghdr *head = (void *)(buffer + below(32) * 256);

		at[turn] = (long)head;
		message.msg_control = below(5) ? head : (void *)pointer();
		message.msg_controllen = below(5) ? CMSG_LEN(4 * below(40)) : (size_t)number();
		head->cmsg_len = below(9) ? message.msg_controllen : (unsigned long)number();
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = below(5) ? SCM_RIGHTS : SCM_CREDENTIALS;
		for (int i = 0; i < 40; i++)
			((int *)CMSG_DATA(head))[i] = below(9) ? below(8) : descriptor();
		syscall(turn ? SYS_recvmsg : SYS_sendmsg, pair[turn], below(9) ? (long)&message : pointer(), MSG_DONTWAIT | (below(4) ? 0 : number()));
	}
	if (below(3) && at[0] != at[1]) {
		close(pair[0]);
		close(pair[1]);
	}
}

/* A ring for requests, with what a kernel takes more often than chance would have it. */
static void rings(void)
{
	unsigned *words = (unsigned *)(buffer + below(32) * 256);

	memset(words, 0, 120);
	words[2] = below(3) ? 0 : 1U << below(20); /* flags */
	long ring = syscall(SYS_io_uring_setup, below(4) ? 1 + below(64) : number(), below(5) ? (long)words : pointer());
	syscall(SYS_io_uring_enter, below(3) ? ring : descriptor(), below(8), 0, below(2) ? 0 : number(), argument(), number());
	syscall(SYS_io_uring_register, below(3) ? ring : descriptor(), below(32), argument(), below(8));
	if (ring >= 0)
		close(ring);
}

/* A child with whatever it may share; who shares our memory has a stack of its own now and then. */
static void births(void)
{
	long flags = 0, stack = below(2) ? 0 : (long)buffer + 64 * 256 + below(16) * 16;

	for (int i = below(6); i > 0; i--)
		flags |= 1L << (8 + below(26));
	alarm(1);
	if (below(2)) {
		syscall(SYS_clone, flags | (below(3) ? SIGCHLD : below(65)), stack, pointer(), pointer(), pointer());
		return;
	}
	unsigned long *args = (unsigned long *)(buffer + below(32) * 256);

	memset(args, 0, 88);
	args[0] = flags;
	args[1] = args[2] = args[3] = pointer();
	args[4] = below(3) ? SIGCHLD : number();
	args[5] = stack;
	args[6] = stack ? 4096 : 0;
	args[7] = pointer();
	args[8] = below(3) ? 0 : pointer(); /* set_tid */
	args[9] = below(3) ? 0 : below(40);
	args[10] = descriptor();
	syscall(SYS_clone3, args, below(5) ? 88 : number());
}

/* What a process, or a thread, says about itself. */
static void sayings(void)
{
	static const int options[] = { 0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1012, 0x1021, 0x1022, 0x1023, 0x1024, 0x1025, 0x2001, 0x2002,
		0x2003, 0x4001, 0x4002, 0x4003, 0x5001, 0x5002, 0x5003, 0x5004, 0x5005 };

	switch (below(5)) {
	case 0: syscall(SYS_arch_prctl, options[below(COUNT(options))], argument()); break;
	case 1: syscall(SYS_rseq, pointer() & -32, below(5) ? 32 : number(), below(3), 0x53053053); break;
	case 2: syscall(SYS_set_robust_list, pointer(), below(5) ? 24 : number()); break;
	case 3: syscall(SYS_set_tid_address, pointer()); break;
	default: syscall(SYS_prctl, below(80), argument(), argument(), below(2) ? 0 : argument(), below(2) ? 0 : argument());
	}
}

static void one_round(uint64_t seed)
{
	state = seed;
	buffer = mmap(NULL, 32 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	edge = buffer + 31 * 4096;
	munmap(edge, 4096);
	for (int i = 0; i < CALLS; i++) {
		if (i % 50 == 0)
			fill();
		switch (below(16)) {
		case 0: maps(); break;
		case 3: call_32(); break;
		case 4: requests(); break;
		case 5: descriptors(); break;
		case 6: below(2) ? sayings() : rings(); break;
		case 7:
			if (i % 5 == 0)
				births();
			break;
		case 1: signals(); break;
		case 2:
			if (i % 3 == 0 && fork() == 0)
				state += 1, i = CALLS - 40;
			break;
		default: call();
		}
	}
	_exit(0);
}

static void limit(int what, rlim_t most) { setrlimit(what, &(struct rlimit){ most, most }); }

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	uint64_t seed = strtoull(argv[1], NULL, 0);
	double end = now() + atof(argv[2]);
	int rounds = 0;

	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_FSIZE, 1 << 20);
	limit(RLIMIT_AS, 256 << 20);
	limit(RLIMIT_NPROC, 600);
	limit(RLIMIT_CPU, 3600);
	for (; now() < end; rounds++) {
		pid_t child = fork();

		if (child == 0)
			one_round(seed + rounds);
		if (child < 0) {
			usleep(10000);
			continue;
		}
		int status, waited = 0;
		while (waitpid(child, &status, WNOHANG) == 0 && waited++ < ROUND_MS)
			usleep(1000);
		kill(child, SIGKILL);
		while (waitpid(-1, &status, WNOHANG) > 0)
			;
	}
	printf("rounds %d\n", rounds);
	return 0;
}
