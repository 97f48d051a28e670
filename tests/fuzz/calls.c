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
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALLS 1500
#define LAST 500
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

/* One call; a child that a random fork or clone made goes on for a few. */
static void call(void)
{
	long nr = below(LAST + 1), args[6];

	for (unsigned i = 0; i < COUNT(left_out); i++)
		if (nr == left_out[i])
			return;
	for (int i = 0; i < 6; i++)
		args[i] = argument();
	if (nr == SYS_kill && (int)args[0] <= 0) /* or every round would end early */
		args[0] = getpid();
	if (nr == SYS_clone || nr == SYS_clone3)
		alarm(1);
	if (nr == SYS_alarm || nr == SYS_setitimer)
		return;
	syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
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
		switch (below(12)) {
		case 0: maps(); break;
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
