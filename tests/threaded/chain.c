/* A program and a chain of others take turns in memory that they share: each of the chain works for a moment, makes the next one
   and ends. Nobody of the chain is there for long, whoever is asked to move. Ends when the file "stop" is there. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORK 3
#define PATIENCE 150000 /* rests in which nothing happens */

struct board {
	volatile long turn, sum, stop;
};

static struct board *board;

/* Whether it is our turn: 0 when all is over. */
static int turn(long of)
{
	for (long i = 0; board->turn % 2 != of; i++) {
		if (board->stop || i > PATIENCE)
			return 0;
		usleep(200);
	}
	return 1;
}

static void chain(void)
{
	for (;;) {
		for (int i = 0; i < WORK; i++) {
			if (!turn(1))
				_exit(0);
			board->sum += board->turn;
			board->turn++;
		}
		if (fork())
			_exit(0);
	}
}

int main(int argc, char **argv)
{
	char path[4096];
	long expected = 0;

	snprintf(path, sizeof path, "%s/stop", argc > 1 ? argv[1] : ".");
	board = mmap(NULL, 64 << 12, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 9;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (fork() == 0)
		chain();
	do {
		if (!turn(0))
			return 8;
		board->turn++;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	} while (access(path, F_OK));
	if (!turn(0))
		return 8;
	board->stop = 1;
	while (wait(NULL) > 0)
		;
	for (long i = 1; i < board->turn; i += 2)
		expected += i;
	return board->sum == expected ? 7 : 6;
}
