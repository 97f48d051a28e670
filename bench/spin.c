/*
 * spin MEGABYTES DIRTY WINDOW [PAIRS [THREADS]]: a program of that size that reads the clock without pause, and writes DIRTY megabytes a
 * second (page by page) into its memory. PAIRS: so many pages of its own besides, each followed by one that is closed. THREADS: so many
 * others, which wait. After every WINDOW milliseconds it prints the largest gap between two readings in that window, in nanoseconds:
 * whatever stops it, for whatever reason, is seen as a gap. Ends when its stdout is closed.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static sem_t never;

static void *waits(void *arg)
{
	while (sem_wait(&never))
		;
	return arg;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	size_t size = strtoul(argv[1], NULL, 10) << 20;
	double rate = strtod(argv[2], NULL) * (1 << 20) / 1e9; /* bytes a nanosecond */
	int64_t window = strtoll(argv[3], NULL, 10) * 1000000;
	uint64_t x = 88172645463325252UL;
	char line[32], *memory = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;

	if (memory == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < size; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(memory + i, &x, 8);
	}
	size_t pairs = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
	char *apart = pairs ? mmap(NULL, pairs * 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) : NULL;
	if (apart == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < pairs; i++) {
		if (mprotect(apart + i * 8192, 4096, PROT_READ | PROT_WRITE))
			return 1;
		apart[i * 8192] = 1;
	}
	sem_init(&never, 0, 0);
	for (size_t i = 0; argc > 5 && i < strtoul(argv[5], NULL, 10); i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, waits, NULL))
			return 1;
	}
	signal(SIGPIPE, SIG_DFL);
	for (;;) {
		int64_t start = now(), last = start, largest = 0, written = 0;
		while (last - start < window) {
			int64_t t = now();
			if (t - last > largest)
				largest = t - last;
			last = t;
			while (size && written < (t - start) * rate) {
				x ^= x << 13, x ^= x >> 7, x ^= x << 17;
				memory[x % size & ~4095UL] = (char)x;
				written += 4096;
				if (written % (1 << 16) == 0)
					break;
			}
		}
		int n = snprintf(line, sizeof(line), "%lld\n", (long long)largest);
		if (write(1, line, n) != n)
			return 1;
	}
}
