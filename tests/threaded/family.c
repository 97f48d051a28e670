/* The walk of tests/t5_shared.py: a program and its children, which take turns in memory that they share. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 3

struct board {
	pthread_mutex_t mutex;
	pthread_cond_t turn;
	long whose, value, stop;
};

static struct board *board;

/* Memory without a name; of a file in /dev/shm, which stays open, if `opened` is not NULL. */
static void *shared(size_t size, int *opened)
{
	char path[] = "/dev/shm/family-XXXXXX";

	if (!opened)
		return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*opened = mkostemp(path, O_CLOEXEC);
	if (*opened < 0 || unlink(path) || ftruncate(*opened, size))
		return MAP_FAILED;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *opened, 0);
}

static void child_ended(int sig)
{
	(void)sig;
	if (!board->stop)
		_exit(8);
}

/* One turn: 0 when all is over. */
static int turn(long number)
{
	int goes_on;

	pthread_mutex_lock(&board->mutex);
	while (!board->stop && board->whose % (CHILDREN + 1) != number)
		pthread_cond_wait(&board->turn, &board->mutex);
	goes_on = !board->stop;
	if (goes_on) {
		board->value = (board->value * 5 + number) % 1000003;
		board->whose++;
	}
	pthread_cond_broadcast(&board->turn);
	pthread_mutex_unlock(&board->mutex);
	return goes_on;
}

int main(int argc, char **argv)
{
	char path[4096], text[100];
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;
	pid_t parent = getpid();
	int file, status, opened = -1;
	struct board read_of_it;

	snprintf(path, sizeof path, "%s/lines", argc > 1 ? argv[1] : ".");
	file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	snprintf(path, sizeof path, "%s/stop", argc > 1 ? argv[1] : ".");
	board = shared(64 << 12, argc > 2 ? &opened : NULL);
	if (board == MAP_FAILED)
		return 9;
	pthread_mutexattr_init(&mutex);
	pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&board->mutex, &mutex);
	pthread_condattr_init(&cond);
	pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&board->turn, &cond);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = child_ended, .sa_flags = SA_NOCLDSTOP }, NULL);
	for (long i = 1; i <= CHILDREN; i++) {
		if (fork())
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		while (turn(i))
			;
		_exit(0);
	}
	for (long i = 0; access(path, F_OK) != 0; i++) {
		turn(0);
		usleep(2000);
		write(file, text, snprintf(text, sizeof text, "%ld %ld\n", i, board->whose / (CHILDREN + 1)));
	}
	pthread_mutex_lock(&board->mutex);
	board->stop = 1;
	pthread_cond_broadcast(&board->turn);
	pthread_mutex_unlock(&board->mutex);
	for (int i = 0; i < CHILDREN; i++)
		if (wait(&status) < 0 || status)
			return 10;
	if (opened >= 0) {
		ssize_t got = -1;

		for (int i = 0; i < 3 && got < 0; i++) /* for which it comes home; where it cannot, the call fails */
			got = pread(opened, &read_of_it, sizeof read_of_it, 0);
		if (got != sizeof read_of_it || read_of_it.value != board->value)
			return 11;
	}
	printf("end %ld %ld\n", board->whose, board->value);
	return 7;
}
