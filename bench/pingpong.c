/* pingpong COUNT OUT BACK CORES: one TCP connection over the loopback between two processes, both on one core or on two; OUT bytes
 * there, BACK bytes back, nothing computed. Prints the nanoseconds of one round trip. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buffer[4 << 20];

static void must(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void on_core(int wanted)
{
	cpu_set_t all, one;

	must(sched_getaffinity(0, sizeof(all), &all) == 0, "sched_getaffinity");
	wanted %= CPU_COUNT(&all);
	for (int core = 0;; core++)
		if (CPU_ISSET(core, &all) && wanted-- == 0) {
			CPU_ZERO(&one);
			CPU_SET(core, &one);
			must(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
			return;
		}
}

static void put(int fd, long n)
{
	for (long done = 0; done < n;) {
		ssize_t got = send(fd, buffer + done, n - done, 0);
		must(got > 0, "send");
		done += got;
	}
}

static void get(int fd, long n)
{
	for (long done = 0; done < n;) {
		ssize_t got = recv(fd, buffer + done, n - done, 0);
		must(got > 0, "recv");
		done += got;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	struct timespec a, b;
	int on = 1, l = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 5)
		return 2;
	long count = atol(argv[1]), out = atol(argv[2]), back = atol(argv[3]);
	must(out <= (long)sizeof(buffer) && back <= (long)sizeof(buffer), "size");
	must(bind(l, (void *)&at, n) == 0 && listen(l, 1) == 0 && getsockname(l, (void *)&at, &n) == 0, "listen");
	pid_t pid = fork();
	if (pid == 0) {
		on_core(atoi(argv[4]) - 1);
		int s = accept(l, NULL, NULL);
		setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		for (long i = 0; i < count + count / 10; i++) {
			get(s, out);
			put(s, back);
		}
		_exit(0);
	}
	on_core(0);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(c, (void *)&at, sizeof(at)) == 0, "connect");
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	for (long i = 0; i < count / 10; i++) {
		put(c, out);
		get(c, back);
	}
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < count; i++) {
		put(c, out);
		get(c, back);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	must(waitpid(pid, NULL, 0) == pid, "waitpid");
	printf("%.3f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / count);
	return 0;
}
