/* Direct communication (direct_communication(7)): a parent gives work to children on other nodes, and adds up what they send back.
 *
 *     cc -Iinclude -o mailbox examples/mailbox.c
 *     mosrun ./mailbox 2 3            one child on node 2, one on node 3
 *
 * Messages go from node to node; the home-node does not see them.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mosix/mailbox.h"

struct part {
	long first, last;
};

static int send_to(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/mosix/mbox/0.0.0.0/%d", (int)pid);
	return open(path, 1);
}

/* A child: its parts come by its own mailbox, an empty message is the end. */
static int work(const char *node)
{
	int in = open("/proc/mosix/mybox", O_CREAT, 0), out = send_to(getppid());
	struct part part;
	long sum;

	if (in < 0 || out < 0 || write(out, "", 0) < 0) /* an empty message: I am ready */
		return 1;
	open("/proc/self/migrate", 1 | O_CREAT, atoi(node));
	while (read(in, &part, sizeof(part)) == sizeof(part)) {
		for (sum = 0; part.first <= part.last; part.first++)
			sum += part.first;
		if (write(out, &sum, sizeof(sum)) != sizeof(sum))
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int in = open("/proc/mosix/mybox", O_CREAT, 0), children = argc - 1, to[16], parts = 0, i;
	long sum, total = 0;

	if (in < 0 || children < 1 || children > 16) {
		fprintf(stderr, "run me under mosrun, with node-numbers\n");
		return 1;
	}
	for (i = 0; i < children; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(work(argv[1 + i]));
		to[i] = send_to(pid);
	}
	for (i = 0; i < children; i++)
		if (read(in, &sum, sizeof(sum)) != 0)
			return 1;
	for (long first = 1; first <= 1000000; first += 10000, parts++) {
		struct part part = { first, first + 9999 };

		if (write(to[parts % children], &part, sizeof(part)) != sizeof(part))
			return 1;
	}
	for (i = 0; i < children; i++)
		if (write(to[i], "", 0) != 0)
			return 1;
	while (parts--) {
		if (read(in, &sum, sizeof(sum)) != sizeof(sum))
			return 1;
		total += sum;
	}
	printf("%ld\n", total);
	while (wait(NULL) > 0)
		;
	return 0;
}
