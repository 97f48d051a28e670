/* Memory that programs share and write, and move with (mosrun --share-memory). */
#include "mos.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#define PAGES 40
#define CHILDREN 3

static long page;

static unsigned char *shared(size_t size)
{
	void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(made != MAP_FAILED);
	return made;
}

/* Of one program alone: what it is, is kept, and can be changed. */
static void alone(void)
{
	unsigned char *at = shared(PAGES * page), *more;
	unsigned long sum;

	for (int i = 0; i < PAGES; i++)
		equal(at[i * page + i], 0);
	sum = datagen(at, PAGES / 2 * page, 7);
	for (int i = 0; i < 20; i++) {
		at[(PAGES - 1) * page] = i;
		rest_ms(4);
		equal(at[(PAGES - 1) * page], i);
		equal(datasum(at, PAGES / 2 * page), sum);
	}
	ok(mprotect(at + page, page, PROT_READ));
	rest_ms(3);
	equal(datasum(at, PAGES / 2 * page), sum);
	ok(mprotect(at + page, page, PROT_READ | PROT_WRITE));
	ok(madvise(at, PAGES * page, MADV_DONTNEED)); /* it is shared: what is in it stays */
	equal(datasum(at, PAGES / 2 * page), sum);
	ok(munmap(at + 30 * page, page));
	rest_ms(3);
	more = mremap(at, 0, 4 * page, MREMAP_MAYMOVE); /* once more, the same memory */
	check(more != MAP_FAILED);
	rest_ms(3);
	more[5] ^= 0x55;
	equal(at[5], more[5]);
	rest_ms(3);
	at[5] ^= 0x55;
	equal(at[5], more[5]);
	equal(datasum(at, PAGES / 2 * page), sum);
	ok(munmap(at, PAGES * page));
	rest_ms(3);
	same(more, more, 4 * page);
	ok(munmap(more, 4 * page));
}

/* What several processes have together. */
struct board {
	pthread_mutex_t mutex;
	pthread_cond_t turn;
	pthread_barrier_t barrier;
	sem_t full, empty;
	long whose, sum, count;
	int ring[8];
	pid_t pids[CHILDREN + 1];
};

static struct board *board;

static void set_up(int robust, int inherits)
{
	pthread_mutexattr_t mutex;
	pthread_condattr_t cond;
	pthread_barrierattr_t barrier;

	board = (struct board *)shared(sizeof *board);
	equal(pthread_mutexattr_init(&mutex), 0);
	equal(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED), 0);
	if (robust)
		equal(pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST), 0);
	if (inherits)
		equal(pthread_mutexattr_setprotocol(&mutex, PTHREAD_PRIO_INHERIT), 0);
	equal(pthread_mutex_init(&board->mutex, &mutex), 0);
	equal(pthread_condattr_init(&cond), 0);
	equal(pthread_condattr_setpshared(&cond, PTHREAD_PROCESS_SHARED), 0);
	equal(pthread_cond_init(&board->turn, &cond), 0);
	equal(pthread_barrierattr_init(&barrier), 0);
	equal(pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED), 0);
	equal(pthread_barrier_init(&board->barrier, &barrier, CHILDREN + 1), 0);
	ok(sem_init(&board->full, 1, 0));
	ok(sem_init(&board->empty, 1, 4));
}

static void clear_up(void)
{
	ok(munmap(board, sizeof *board));
}

/* Each in its turn, whoever they are. */
static void in_turns(long number)
{
	for (int i = 0; i < 12; i++) {
		equal(pthread_mutex_lock(&board->mutex), 0);
		while (board->whose % (CHILDREN + 1) != number)
			equal(pthread_cond_wait(&board->turn, &board->mutex), 0);
		board->sum = (board->sum * 3 + number) % 1000003;
		board->whose++;
		equal(pthread_cond_broadcast(&board->turn), 0);
		equal(pthread_mutex_unlock(&board->mutex), 0);
		if (i % 4 == number)
			rest_ms(2);
	}
}

static int turns(void *arg)
{
	long number = (long)arg;
	int waited;

	board->pids[number] = getpid();
	in_turns(number);
	waited = pthread_barrier_wait(&board->barrier);
	check(waited == 0 || waited == PTHREAD_BARRIER_SERIAL_THREAD);
	for (int i = 0; i <= CHILDREN; i++)
		check(board->pids[i] > 0);
	equal(board->pids[number], getpid());
	return (int)number + 10;
}

/* A family: locks, conditions and barriers among processes. */
static void family(void)
{
	pid_t pids[CHILDREN];
	long expected = 0;

	set_up(0, 0);
	for (long i = 0; i < CHILDREN; i++)
		pids[i] = forked(turns, (void *)(i + 1));
	turns((void *)0);
	for (int i = 0; i < CHILDREN; i++) {
		reaped(pids[i], i + 11);
		equal(board->pids[i + 1], pids[i]);
	}
	for (int i = 0; i < 12 * (CHILDREN + 1); i++)
		expected = (expected * 3 + i % (CHILDREN + 1)) % 1000003;
	equal(board->sum, expected);
	clear_up();
}

static int produces(void *arg UNUSED)
{
	for (int i = 0; i < 100; i++) {
		ok(sem_wait(&board->empty));
		board->ring[i % 8] = i * 7;
		ok(sem_post(&board->full));
		if (i % 25 == 3)
			rest_ms(2);
	}
	return 1;
}

/* Semaphores, and waits with an end, which nobody reaches but the last. */
static void stream(void)
{
	struct timespec until;
	pid_t producer;

	set_up(0, 0);
	producer = forked(produces, NULL);
	for (int i = 0; i < 100; i++) {
		ok(clock_gettime(CLOCK_REALTIME, &until));
		until.tv_sec += 100;
		ok(sem_timedwait(&board->full, &until));
		equal(board->ring[i % 8], i * 7);
		ok(sem_post(&board->empty));
	}
	reaped(producer, 1);
	ok(clock_gettime(CLOCK_REALTIME, &until));
	until.tv_nsec += 20000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	refused(sem_timedwait(&board->full, &until), ETIMEDOUT);
	clear_up();
}

static int dies(void *arg UNUSED)
{
	equal(pthread_mutex_lock(&board->mutex), 0);
	board->whose = getpid();
	rest_ms(15);
	kill(getpid(), SIGKILL);
	return 0;
}

static int waits_for_it(void *arg UNUSED)
{
	int how;

	while (board->whose == 0)
		rest_ms(1);
	how = pthread_mutex_lock(&board->mutex);
	equal(how, EOWNERDEAD);
	equal(pthread_mutex_consistent(&board->mutex), 0);
	board->count = 77;
	equal(pthread_mutex_unlock(&board->mutex), 0);
	return 5;
}

/* Who has a robust lock dies: who waits for it hears of that. */
static void robust(void)
{
	pid_t dying, waiting;

	set_up(1, 0);
	dying = forked(dies, NULL);
	waiting = forked(waits_for_it, NULL);
	killed(dying, SIGKILL);
	reaped(waiting, 5);
	equal(board->whose, dying);
	equal(board->count, 77);
	equal(pthread_mutex_lock(&board->mutex), 0);
	equal(pthread_mutex_unlock(&board->mutex), 0);
	clear_up();
}

static int locks(void *arg UNUSED)
{
	for (int i = 0; i < 60; i++) {
		equal(pthread_mutex_lock(&board->mutex), 0);
		board->count++;
		if (i % 20 == 0)
			rest_ms(1);
		equal(pthread_mutex_unlock(&board->mutex), 0);
	}
	return 2;
}

/* The owner's ID is in a lock that inherits priority, and kernels read it. */
static void inherits(void)
{
	pid_t pids[CHILDREN];

	set_up(0, 1);
	for (int i = 0; i < CHILDREN; i++)
		pids[i] = forked(locks, NULL);
	locks(NULL);
	for (int i = 0; i < CHILDREN; i++)
		reaped(pids[i], 2);
	equal(board->count, 60 * (CHILDREN + 1));
	clear_up();
}

static int makes_another(void *arg UNUSED)
{
	pid_t child = forked(locks, NULL);

	locks(NULL);
	reaped(child, 2);
	return 3;
}

static int executes(void *arg UNUSED)
{
	rest_ms(2);
	execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
	return 1;
}

/* Children of children, one that executes another program, and one that maps more. */
static void generations(void)
{
	unsigned char *more = shared(3 * page);
	pid_t child, shell;

	set_up(0, 0);
	child = forked(makes_another, NULL);
	shell = forked(executes, NULL);
	equal(WEXITSTATUS(ok(system("exit 4"))), 4); /* by posix_spawn, whose child has this memory for a moment */
	more[page] = 1;
	locks(NULL);
	reaped(shell, 9);
	reaped(child, 3);
	equal(board->count, 180);
	equal(more[page], 1);
	ok(munmap(more, 3 * page));
	clear_up();
}

int main(int argc, char **argv)
{
	static const struct part parts[] = {
		PART(alone), PART(family), PART(stream), PART(robust), PART(inherits), PART(generations),
	};

	page = sysconf(_SC_PAGESIZE);
	return mos_main(argc, argv, parts, COUNT(parts));
}
