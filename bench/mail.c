/* mail {box|pipe} {ping|stream} COUNT SIZE [NODE]: nanoseconds a message takes one way between two processes, by mailboxes or by pipes.
 *
 * ping: one message at a time, there and back. stream: COUNT messages one way, as fast as they are taken, and one back.
 * NODE: the child moves there first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int by_box, in, out;
static size_t size;
static char *buffer;

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static int sender(pid_t pid)
{
	char path[80];
	snprintf(path, sizeof path, "/proc/mosix/mbox/0.0.0.0/%d", (int)pid);
	return open(path, 1);
}

static void put(void)
{
	must(write(out, buffer, size) == (ssize_t)size, "write");
}

static void get(void)
{
	size_t done = 0;
	do {
		ssize_t n = read(in, buffer + done, size - done);
		must(n > 0, "read");
		done += n;
	} while (!by_box && done < size);
	must(done == size, "length");
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	int down[2], up[2], stream;
	long count, i;
	pid_t child;
	char byte = 0;

	if (argc < 5)
		return 2;
	by_box = !strcmp(argv[1], "box");
	stream = !strcmp(argv[2], "stream");
	count = atol(argv[3]);
	size = atol(argv[4]);
	buffer = calloc(1, size);
	must(pipe(down) == 0 && pipe(up) == 0, "pipe");
	child = fork();
	must(child >= 0, "fork");
	if (!child) {
		if (argc > 5)
			must(open("/proc/self/migrate", 1 | O_CREAT, atoi(argv[5])) >= 0, "migrate");
		in = down[0];
		out = up[1];
		if (by_box) {
			in = open("/proc/mosix/mybox", O_CREAT, 0);
			must(in >= 0, "mybox");
			must(write(up[1], &byte, 1) == 1, "ready");
			must(read(down[0], &byte, 1) == 1, "go");
			out = sender(getppid());
			must(out >= 0, "mbox");
		}
		get();
		put(); /* everything has been touched once */
		for (i = 0; i < count; i++) {
			get();
			if (!stream)
				put();
		}
		if (stream)
			put();
		_exit(0);
	}
	in = up[0];
	out = down[1];
	if (by_box) {
		in = open("/proc/mosix/mybox", O_CREAT, 0);
		must(in >= 0, "mybox");
		must(read(up[0], &byte, 1) == 1, "ready");
		out = sender(child);
		must(out >= 0, "mbox");
		must(write(down[1], &byte, 1) == 1, "go");
	}
	put();
	get();
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < count; i++) {
		put();
		if (!stream)
			get();
	}
	if (stream)
		get();
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%.0f\n", ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec) / count / (stream ? 1 : 2));
	must(waitpid(child, NULL, 0) == child, "wait");
	return 0;
}
