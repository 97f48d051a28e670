/* Memory that is written at random faster than any network takes it, while a timer ticks and a child does the same. Megabytes in
 * $MOS_MB (default 8). */
#include "mos.h"
#include <sys/mman.h>
#include <sys/time.h>

#define PAGE 4096

static volatile sig_atomic_t ticks;

static void tick(int sig UNUSED)
{
	ticks++;
}

static size_t pages_of(const char *variable)
{
	const char *mb = getenv(variable);

	return (mb ? strtoul(mb, NULL, 10) : 8) << 8;
}

/* Writes for so many milliseconds, then looks whether every page holds what was written last. */
static int scribbled(int milliseconds, uint64_t x)
{
	size_t pages = pages_of("MOS_MB");
	char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *last = calloc(pages, sizeof(*last)), written = 0;

	check(memory != MAP_FAILED && last);
	for (int64_t until = now_ns(CLOCK_MONOTONIC) + milliseconds * 1000000LL; now_ns(CLOCK_MONOTONIC) < until;)
		for (int i = 0; i < 256; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			size_t page = x % pages, at = page * PAGE + (x >> 32) % (PAGE / 8) * 8;
			uint64_t *word = (uint64_t *)(memory + page * PAGE);
			if (*word != last[page])
				fail("page %zu has %#lx instead of %#lx", page, (long)*word, (long)last[page]);
			*(uint64_t *)(memory + at) = x;
			*word = last[page] = ++written;
		}
	for (size_t page = 0; page < pages; page++)
		equal(*(uint64_t *)(memory + page * PAGE), last[page]);
	free(last);
	return munmap(memory, pages * PAGE);
}

static void alone(void)
{
	equal(scribbled(60, 88172645463325252UL), 0);
}

static void with_a_timer(void)
{
	struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART }, before;
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };

	ticks = 0;
	ok(sigaction(SIGALRM, &action, &before));
	ok(setitimer(ITIMER_REAL, &every, NULL));
	do
		equal(scribbled(60, 362436069UL), 0);
	while (ticks <= 3);	/* a machine may be so busy that all of the time passes at once */
	ok(setitimer(ITIMER_REAL, &never, NULL));
	ok(sigaction(SIGALRM, &before, NULL));
}

static int child(void *pipe_)
{
	int *ends = pipe_;
	char byte;

	while (read_all(ends[0], &byte, 1), byte) {
		equal(scribbled(5, byte), 0);
		write_all(ends[3], &byte, 1);
	}
	return 7;
}

/* It computes, and waits, in turn. */
static void with_a_child(void)
{
	int ends[4];
	char byte, answer;

	ok(pipe(ends));
	ok(pipe(ends + 2));
	pid_t pid = forked(child, ends);
	for (byte = 1; byte < 6; byte++) {
		write_all(ends[1], &byte, 1);
		equal(scribbled(5, byte * 7919), 0);
		read_all(ends[2], &answer, 1);
		equal(answer, byte);
	}
	write_all(ends[1], "", 1);
	reaped(pid, 7);
	for (int i = 0; i < 4; i++)
		ok(close(ends[i]));
}

PROGRAM(PART(alone), PART(with_a_timer), PART(with_a_child))
