/* The verbs of the test programs.
 *
 * A program is a list of parts; PROGRAM(PART(a), PART(b)) makes its main():
 *
 *     prog [SECONDS [PART...]]
 *
 * runs all parts (or the named ones) round after round until SECONDS have passed, at least once. Every round sets up what it needs,
 * uses it, verifies it, and cleans up, so that a program may be moved at any moment of any round. The first round prints one
 * line a part; the last line is PASS, exit status 0. Anything wrong prints "FAIL file:line in part: reason" and exits 1.
 * What is printed never depends on time, PIDs or addresses: the runner compares it with a native run.
 *
 *     check(cond)            fail unless cond holds
 *     equal(a, b)            fail unless two integers are equal; prints both
 *     same(a, b, n)          fail unless two memory areas are equal; prints the first difference
 *     ok(call)               value of a call that must not return -1; fails with errno's text
 *     refused(call, error)   the call must return -1 with errno == error
 *     fail(fmt, ...)         give up
 *     announce(fmt, ...)     a line on stdout, in the first round only
 *     datagen(buf, n, seed)  fill with reproducible random bytes; returns their checksum
 *     datasum(buf, n)        checksum of an area, to compare with datagen's
 *     now_ns(clock)          clock_gettime as nanoseconds
 *     rest_ms(n)             sleep; fails if the sleep is cut short
 *     forked(fn, arg)        fork; the child runs fn(arg) and exits with its value; returns the PID
 *     reaped(pid, code)      wait for the child; it must exit with code
 *     killed(pid, sig)       wait for the child; it must die by sig
 *     started(t, run, arg)   make the thread *t, which runs run(arg)
 *     joined(t)              wait for the thread; what it returned, as a number
 *     write_all, read_all    exactly n bytes, in as many calls as it takes
 *     seconds                the first argument
 *
 * The current directory is a fresh scratch directory, removed at the end. Children leave by _exit.
 */
#ifndef MOS_H
#define MOS_H

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UNUSED __attribute__((unused))

struct part {
	const char *name;
	void (*run)(void);
};
#define PART(function) { #function, function }
#define PROGRAM(...) \
	int main(int argc, char **argv) \
	{ \
		static const struct part parts[] = { __VA_ARGS__ }; \
		return mos_main(argc, argv, parts, COUNT(parts)); \
	}

static double seconds UNUSED = 0.05;
static const char *mos_part = "start";
static bool mos_first = true;
static pid_t mos_pid;
static char mos_dir[PATH_MAX] = "";

static int mos_unlink(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *where UNUSED)
{
	return remove(path);
}

static void mos_cleanup(void)
{
	if (mos_dir[0] && getpid() == mos_pid && chdir("/") == 0)
		nftw(mos_dir, mos_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

__attribute__((noreturn, format(printf, 3, 4)))
static void mos_fail(const char *file, int line, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	dprintf(1, "FAIL %s:%d in %s: %s\n", file, line, mos_part, text);
	mos_cleanup();
	_exit(1);
}

#define fail(...) mos_fail(__FILE__, __LINE__, __VA_ARGS__)
#define check(cond) \
	do { \
		if (!(cond)) \
			fail("not true: %s (errno: %s)", #cond, strerror(errno)); \
	} while (0)
#define equal(a, b) \
	do { \
		long long a_ = (long long)(a), b_ = (long long)(b); \
		if (a_ != b_) \
			fail("%s is %lld, not %lld (errno: %s)", #a, a_, b_, strerror(errno)); \
	} while (0)
#define same(a, b, n) mos_same(__FILE__, __LINE__, #a, a, b, n)
#define ok(call) \
	({ \
		__typeof__(call) r_ = (call); \
		if (r_ == (__typeof__(call))-1) \
			fail("%s: %s", #call, strerror(errno)); \
		r_; \
	})
#define refused(call, error) \
	do { \
		errno = 0; \
		long r_ = (long)(call); \
		if (r_ != -1) \
			fail("%s gave %ld, not an error", #call, r_); \
		if (errno != (error)) \
			fail("%s: %s, not %s", #call, strerror(errno), strerror(error)); \
	} while (0)
#define announce(...) \
	do { \
		if (mos_first) \
			dprintf(1, __VA_ARGS__); \
	} while (0)

static UNUSED void mos_same(const char *file, int line, const char *what, const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (size_t i = 0; i < n; i++)
		if (x[i] != y[i])
			mos_fail(file, line, "%s differs at byte %zu of %zu: %02x, not %02x", what, i, n, x[i], y[i]);
}

static UNUSED int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	ok(clock_gettime(clock, &t));
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static UNUSED void rest_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	ok(nanosleep(&t, NULL));
}

static UNUSED uint64_t mos_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static UNUSED uint64_t datasum(const void *buf, size_t n)
{
	const unsigned char *p = buf;
	uint64_t sum = n, word;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&word, p, 8);
		sum = (sum ^ word) * 0x100000001b3ULL;
		sum ^= sum >> 29;
	}
	for (; n; n--, p++)
		sum = (sum ^ *p) * 0x100000001b3ULL;
	return sum;
}

static UNUSED uint64_t datagen(void *buf, size_t n, uint64_t seed)
{
	unsigned char *p = buf;
	uint64_t word;
	size_t i;

	for (i = 0; i + 8 <= n; i += 8) {
		word = mos_next(&seed);
		memcpy(p + i, &word, 8);
	}
	word = mos_next(&seed);
	memcpy(p + i, &word, n - i);
	return datasum(buf, n);
}

static UNUSED pid_t forked(int (*fn)(void *), void *arg)
{
	pid_t pid = ok(fork());

	if (pid == 0)
		_exit(fn(arg));
	return pid;
}

static UNUSED int mos_wait(pid_t pid)
{
	int status;

	for (;;) {
		pid_t got = waitpid(pid, &status, 0);
		if (got == pid)
			return status;
		if (got != -1 || errno != EINTR)
			fail("waitpid gave %d: %s", got, strerror(errno));
	}
}

#define reaped(pid, code) \
	do { \
		int s_ = mos_wait(pid); \
		if (!WIFEXITED(s_) || WEXITSTATUS(s_) != ((code) & 255)) \
			fail("child's status is %#x, not exit %d", s_, (code) & 255); \
	} while (0)
#define killed(pid, sig) \
	do { \
		int s_ = mos_wait(pid); \
		if (!WIFSIGNALED(s_) || WTERMSIG(s_) != (sig)) \
			fail("child's status is %#x, not death by %d", s_, (sig)); \
	} while (0)

static UNUSED void started(pthread_t *thread, void *(*run)(void *), void *arg)
{
	equal(pthread_create(thread, NULL, run, arg), 0);
}

static UNUSED long joined(pthread_t thread)
{
	void *result;

	equal(pthread_join(thread, &result), 0);
	return (long)result;
}

static UNUSED void write_all(int fd, const void *buf, size_t n)
{
	for (const char *p = buf; n;) {
		ssize_t got = ok(write(fd, p, n));
		p += got;
		n -= got;
	}
}

static UNUSED size_t read_all(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = ok(read(fd, (char *)buf + done, n - done));
		if (got == 0)
			break;
		done += got;
	}
	return done;
}

static UNUSED int mos_main(int argc, char **argv, const struct part *parts, size_t count)
{
	const char *tmp = getenv("TMPDIR");
	int64_t start = now_ns(CLOCK_MONOTONIC);

	if (argc > 1)
		seconds = atof(argv[1]);
	mos_pid = getpid();
	snprintf(mos_dir, sizeof(mos_dir), "%s/mos.XXXXXX", tmp ? tmp : "/tmp");
	check(mkdtemp(mos_dir) != NULL);
	ok(chdir(mos_dir));
	do {
		for (size_t i = 0; i < count; i++) {
			bool wanted = argc <= 2;
			for (int a = 2; a < argc; a++)
				wanted |= strcmp(argv[a], parts[i].name) == 0;
			if (!wanted)
				continue;
			mos_part = parts[i].name;
			parts[i].run();
			if (getenv("MOS_RECOVERED")) /* a process that goes on from a checkpoint is another */
				mos_pid = getpid();
			equal(getpid(), mos_pid);
			announce("%s\n", mos_part);
		}
		mos_first = false;
	} while (now_ns(CLOCK_MONOTONIC) - start < seconds * 1e9);
	mos_cleanup();
	dprintf(1, "PASS\n");
	return 0;
}

#endif
