/* Loops that time themselves: loops MODE COUNT [SIZE] prints the nanoseconds of one turn, with three decimals. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long count, size;
static int fd;
static char buffer[1 << 20];

static void must(long good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void compute(long steps)
{
	unsigned long x = 88172645463325252UL;

	for (long i = 0; i < steps; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	must(x != 0, "cpu");
}

static void cpu(void)
{
	compute(count);
}

/* A block is read and written in about as long as 15 of them make a second. */
static void steady(void)
{
	for (long i = 0; i < count; i++) {
		compute(25000000);
		must(pread(fd, buffer, size, 0) == size && pwrite(fd, buffer, size, 0) == size, "block");
	}
}

static void ordinary_calls(void)
{
	struct stat st;

	for (long i = 0; i < count; i++) {
		must(pwrite(fd, buffer, 512, 0) == 512, "write");
		must(pread(fd, buffer, 512, 0) == 512, "read");
		must(syscall(SYS_getpid) > 0, "getpid");
		must(stat("/", &st) == 0, "stat");
	}
}

static void open_close(void)
{
	for (long i = 0; i < count; i++) {
		int f = open("/etc/hostname", O_RDONLY | O_CLOEXEC);
		must(f >= 0 && close(f) == 0, "open");
	}
}

static void clock_reads(void)
{
	struct timespec t;

	for (long i = 0; i < count; i++)
		clock_gettime(CLOCK_MONOTONIC, &t);
}

static void forks(void)
{
	for (long i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(0);
		must(waitpid(pid, NULL, 0) == pid, "fork");
	}
}

static void spawns(void)
{
	char *argv[] = { "true", NULL }, *nothing[] = { NULL };
	pid_t pid;

	for (long i = 0; i < count; i++) {
		must(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, nothing) == 0, "posix_spawn");
		must(waitpid(pid, NULL, 0) == pid, "wait");
	}
}

static void getppids(void)
{
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
}

static void reads(void)
{
	for (long i = 0; i < count; i++)
		must(pread(fd, buffer, size, 0) == size, "read");
}

static void writes(void)
{
	for (long i = 0; i < count; i++)
		must(pwrite(fd, buffer, size, 0) == size, "write");
}

/* A file that grows to 64 MB, again and again. */
static void appends(void)
{
	long room = (64L << 20) / size;

	for (long i = 0; i < count; i++) {
		if (i % room == 0)
			must(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0, "truncate");
		must(write(fd, buffer, size) == size, "write");
	}
}

static void *ends(void *arg)
{
	return arg;
}

static void *waits(void *arg)
{
	while (sem_wait(arg))
		;
	return arg;
}

static void *computes(void *arg)
{
	cpu();
	return arg;
}

static void births(void)
{
	pthread_t thread;

	for (long i = 0; i < count; i++)
		must(!pthread_create(&thread, NULL, ends, NULL) && !pthread_join(thread, NULL), "thread");
}

/* As many turns as there are, by each of two threads. */
static void together(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		must(!pthread_create(&threads[i], NULL, computes, NULL), "thread");
	for (int i = 0; i < 2; i++)
		must(!pthread_join(threads[i], NULL), "join");
}

/* For the first thread a program comes home; when it has gone back it is measured. */
static void several(void)
{
	static sem_t never;
	pthread_t thread;

	sem_init(&never, 0, 0);
	must(!pthread_create(&thread, NULL, waits, &never), "thread");
	usleep(500000);
}

static const struct {
	const char *name;
	void (*run)(void);
	void (*before)(void);
} modes[] = {
	{ "cpu", cpu, NULL }, { "calls", ordinary_calls, NULL }, { "open", open_close, NULL }, { "clock", clock_reads, NULL },
	{ "fork", forks, NULL }, { "spawn", spawns, NULL }, { "steady", steady, NULL }, { "getppid", getppids, NULL },
	{ "read", reads, NULL }, { "write", writes, NULL },
	{ "append", appends, NULL }, { "births", births, several }, { "together", together, several },
};

int main(int argc, char **argv)
{
	char name[] = "/tmp/mosfs-bench.XXXXXX";
	struct timespec a, b;

	count = argc > 2 ? atol(argv[2]) : 0;
	size = argc > 3 ? atol(argv[3]) : 512;
	must(count > 0 && size > 0 && size <= (long)sizeof(buffer), "usage: loops MODE COUNT [SIZE]");
	fd = mkstemp(name);
	must(fd >= 0 && unlink(name) == 0, "mkstemp");
	must(pwrite(fd, buffer, sizeof(buffer), 0) == sizeof(buffer), "write");
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		if (strcmp(modes[i].name, argv[1]))
			continue;
		if (modes[i].before)
			modes[i].before();
		clock_gettime(CLOCK_MONOTONIC, &a);
		modes[i].run();
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.3f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / count);
		return 0;
	}
	fprintf(stderr, "loops: no mode %s\n", argv[1]);
	return 1;
}
