/* Threads that move with their program (mosrun --threads): what they wait for, in every way that they can. */
#include "mos.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#define THREADS 6

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static long sum, whose;

/* THREADS of them, each with its number, to their ends. */
static void all_run(void *(*routine)(void *))
{
	pthread_t threads[THREADS];

	for (long i = 0; i < THREADS; i++)
		started(&threads[i], routine, (void *)i);
	for (long i = 0; i < THREADS; i++)
		joined(threads[i]);
}

static void *adds(void *arg)
{
	static __thread long mine;
	long number = (long)arg;
	pid_t tid = syscall(SYS_gettid);

	mine = 0;
	for (int i = 0; i < 40; i++) {
		pthread_mutex_lock(&mutex);
		while (whose % THREADS != number)
			pthread_cond_wait(&turn, &mutex);
		sum = (sum * 3 + number) % 1000003;
		whose++;
		mine++;
		pthread_cond_broadcast(&turn);
		pthread_mutex_unlock(&mutex);
		equal(syscall(SYS_gettid), tid);
		if (i % 8 == number)
			rest_ms(2);
	}
	return (void *)mine;
}

/* A condition variable passes the turn round; thread-local data and IDs stay what they are. */
static void in_turn(void)
{
	pthread_t threads[THREADS];
	long expected = 0;

	sum = whose = 0;
	for (long i = 0; i < THREADS; i++)
		started(&threads[i], adds, (void *)i);
	for (long i = 0; i < THREADS; i++)
		equal(joined(threads[i]), 40);
	for (long i = 0; i < 40 * THREADS; i++)
		expected = (expected * 3 + i % THREADS) % 1000003;
	equal(sum, expected);
}

static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spin;
static long cells[THREADS], total, spun;

static void *meets(void *arg)
{
	long number = (long)arg;

	for (int i = 0; i < 12; i++) {
		cells[number] = i * THREADS + number;
		pthread_barrier_wait(&barrier);
		pthread_rwlock_rdlock(&rwlock);
		for (long other = 0; other < THREADS; other++)
			equal(cells[other], i * THREADS + other);
		pthread_rwlock_unlock(&rwlock);
		pthread_barrier_wait(&barrier);
		pthread_rwlock_wrlock(&rwlock);
		total += number;
		pthread_rwlock_unlock(&rwlock);
		pthread_spin_lock(&spin);
		spun++;
		pthread_spin_unlock(&spin);
	}
	return NULL;
}

static void barriers(void)
{
	total = spun = 0;
	equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	equal(pthread_spin_init(&spin, 0), 0);
	all_run(meets);
	equal(total, 12 * (THREADS * (THREADS - 1) / 2));
	equal(spun, 12 * THREADS);
	pthread_barrier_destroy(&barrier);
	pthread_spin_destroy(&spin);
}

static void in_ms(clockid_t clock, long ms, struct timespec *at)
{
	clock_gettime(clock, at);
	at->tv_nsec += ms * 1000000;
	at->tv_sec += at->tv_nsec / 1000000000;
	at->tv_nsec %= 1000000000;
}

static void *waits_for_nothing(void *arg)
{
	pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t never = PTHREAD_COND_INITIALIZER;
	struct timespec at, so_long = { 0, 60000000 };
	int word = 7;
	long begun, way = (long)arg;
	sem_t none;

	sem_init(&none, 0, 0);
	for (int i = 0; i < 3; i++) {
		begun = now_ns(CLOCK_MONOTONIC);
		if (way == 0) {
			in_ms(CLOCK_REALTIME, 60, &at);
			pthread_mutex_lock(&own);
			equal(pthread_cond_timedwait(&never, &own, &at), ETIMEDOUT);
			pthread_mutex_unlock(&own);
		} else if (way == 1) {
			in_ms(CLOCK_MONOTONIC, 60, &at);
			pthread_mutex_lock(&own);
			equal(pthread_cond_clockwait(&never, &own, CLOCK_MONOTONIC, &at), ETIMEDOUT);
			pthread_mutex_unlock(&own);
		} else if (way == 2) {
			refused(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, &so_long, NULL, 0), ETIMEDOUT);
		} else if (way == 3) {
			in_ms(CLOCK_REALTIME, 60, &at);
			refused(sem_timedwait(&none, &at), ETIMEDOUT);
		} else {
			pthread_mutex_lock(&own);
			in_ms(CLOCK_REALTIME, 60, &at);
			equal(pthread_mutex_timedlock(&own, &at), ETIMEDOUT);
			pthread_mutex_unlock(&own);
		}
		check(now_ns(CLOCK_MONOTONIC) - begun >= 59900000);
	}
	return NULL;
}

/* Waits that end at a time, by clocks and from now on. */
static void timed(void)
{
	pthread_t threads[5];

	for (long i = 0; i < 5; i++)
		started(&threads[i], waits_for_nothing, (void *)i);
	for (long i = 0; i < 5; i++)
		joined(threads[i]);
}

static int pipes[THREADS][2];

static void *passes_on(void *arg)
{
	long number = (long)arg;
	char byte;

	for (int i = 0; i < 20; i++) {
		read_all(pipes[number][0], &byte, 1);
		byte++;
		write_all(pipes[(number + 1) % THREADS][1], &byte, 1);
	}
	return NULL;
}

/* Each waits in a call at home, and its answer comes to it. */
static void calls_of_threads(void)
{
	pthread_t threads[THREADS];
	char byte = 0;

	for (int i = 0; i < THREADS; i++)
		ok(pipe(pipes[i]));
	for (long i = 1; i < THREADS; i++)
		started(&threads[i], passes_on, (void *)i);
	for (int i = 0; i < 20; i++) {
		write_all(pipes[1][1], &byte, 1);
		read_all(pipes[0][0], &byte, 1);
		equal(byte, (i + 1) * (THREADS - 1));
	}
	for (long i = 1; i < THREADS; i++)
		joined(threads[i]);
	for (int i = 0; i < THREADS; i++) {
		ok(close(pipes[i][0]));
		ok(close(pipes[i][1]));
	}
}

static void *maps(void *arg)
{
	long number = (long)arg;

	for (int i = 0; i < 20; i++) {
		size_t size = 4096 * (1 + (number * 7 + i) % 40);
		unsigned char *block = malloc(size);
		unsigned long before = datagen(block, size, number * 100 + i);
		if (i % 5 == 0)
			rest_ms(3);
		equal(datasum(block, size), before);
		free(block);
	}
	return NULL;
}

static void memory_of_threads(void)
{
	all_run(maps);
}

/* Trapped calls without a pause: other threads must not keep the first from standing (wait4 tells of the newest first). */
static void *grows(void *arg)
{
	long number = (long)arg;

	for (int i = 0; i < 300; i++) {
		size_t size = 4096 * (1 + (number * 7 + i) % 20);
		unsigned char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		check(block != MAP_FAILED);
		block[size - 1] = (unsigned char)i;
		block = mremap(block, size, size + 8192, MREMAP_MAYMOVE);
		check(block != MAP_FAILED);
		equal(block[size - 1], (unsigned char)i);
		ok(munmap(block, size + 8192));
	}
	return NULL;
}

static void growing(void)
{
	all_run(grows);
}

static void *computes(void *arg UNUSED)
{
	struct timespec before = {0, 0}, now;

	for (int i = 0; i < 300; i++) {
		for (volatile int k = 0; k < 20000; k++)
			;
		ok(clock_gettime(i % 3 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID, &now));
		if (!(i % 3))
			continue;
		check(now.tv_sec > before.tv_sec || (now.tv_sec == before.tv_sec && now.tv_nsec >= before.tv_nsec));
		before = now;
	}
	return NULL;
}

static void clocks_of_threads(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		started(&threads[i], computes, NULL);
	for (int i = 0; i < 2; i++)
		joined(threads[i]);
}

static __thread long caught_here;
static sem_t ready;
static volatile int stop;

static void on_signal(int sig UNUSED)
{
	caught_here++;
}

static void *is_signalled(void *arg UNUSED)
{
	sem_post(&ready);
	while (caught_here < 5)
		usleep(1000);
	return (void *)caught_here;
}

/* Signals find the thread that they are for. Those of real time are queued, however late it hears of them. */
static void signals_to_threads(void)
{
	struct sigaction action = { .sa_handler = on_signal }, before;
	pthread_t threads[3];

	caught_here = 0;
	sem_init(&ready, 0, 0);
	ok(sigaction(SIGRTMIN, &action, &before));
	for (long i = 0; i < 3; i++) {
		started(&threads[i], is_signalled, NULL);
		while (sem_wait(&ready) < 0)
			equal(errno, EINTR);
	}
	for (int i = 0; i < 5; i++) {
		for (int j = 0; j < 3; j++)
			equal(pthread_kill(threads[j], SIGRTMIN), 0);
		rest_ms(2);
	}
	for (int j = 0; j < 3; j++)
		equal(joined(threads[j]), 5);
	equal(caught_here, 0);
	ok(sigaction(SIGRTMIN, &before, NULL));
}

static pthread_t first;
static sem_t asked;

static void *signals_the_first(void *arg UNUSED)
{
	caught_here = 0;
	for (int i = 0; i < 5; i++) {
		equal(pthread_kill(first, SIGRTMIN), 0);
		rest_ms(3);
	}
	sem_post(&asked);
	while (!stop)
		rest_ms(1);
	return (void *)caught_here;
}

/* One for the first thread is not taken by another, which does not block it either. */
static void signals_to_the_first(void)
{
	struct sigaction action = { .sa_handler = on_signal }, before;
	pthread_t threads[2];

	caught_here = stop = 0;
	first = pthread_self();
	sem_init(&asked, 0, 0);
	ok(sigaction(SIGRTMIN, &action, &before));
	for (int i = 0; i < 2; i++)
		started(&threads[i], signals_the_first, NULL);
	for (int i = 0; i < 2; i++)
		while (sem_wait(&asked) < 0)
			equal(errno, EINTR);
	while (caught_here < 10)
		usleep(1000);
	stop = 1;
	for (int i = 0; i < 2; i++)
		equal(joined(threads[i]), 0);
	equal(caught_here, 10);
	ok(sigaction(SIGRTMIN, &before, NULL));
}

static sem_t nobody_posts;
static volatile int interrupted;

static void *is_interrupted(void *arg UNUSED)
{
	refused(sem_wait(&nobody_posts), EINTR);
	interrupted = 1;
	return NULL;
}

/* A wait for others ends by a signal, if its handler does not say otherwise: so Python hears of Ctrl-C. */
static void waits_that_signals_end(void)
{
	struct sigaction action = { .sa_handler = on_signal }, before;
	pthread_t thread;

	sem_init(&nobody_posts, 0, 0);
	ok(sigaction(SIGUSR1, &action, &before));
	for (int i = 0; i < 2; i++) {
		interrupted = 0;
		started(&thread, is_interrupted, NULL);
		while (!interrupted) { /* one that comes before it waits ends nothing */
			rest_ms(5);
			(void)pthread_kill(thread, SIGUSR1);
		}
		joined(thread);
	}
	ok(sigaction(SIGUSR1, &before, NULL));
}

static void *waits_for_one(void *arg)
{
	sigset_t *set = arg;
	int sig = 0;

	sem_post(&ready);
	equal(sigwait(set, &sig), 0);
	return (void *)(long)sig;
}

/* A signal to the process, which one thread waits for and all others block. */
static void sigwait_of_a_thread(void)
{
	pthread_t thread;
	sigset_t set, before;

	sem_init(&ready, 0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	started(&thread, waits_for_one, &set);
	sem_wait(&ready);
	ok(kill(getpid(), SIGUSR2));
	equal(joined(thread), SIGUSR2);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void cleans(void *arg)
{
	(*(int *)arg)++;
}

static void *blocks(void *arg)
{
	int fds[2];
	char byte;

	ok(pipe(fds));
	pthread_cleanup_push(cleans, arg);
	sem_post(&ready);
	(void)!read(fds[0], &byte, 1);
	pthread_cleanup_pop(0);
	return NULL;
}

static void cancelled(void)
{
	pthread_t thread;
	int cleaned = 0;
	void *result;

	sem_init(&ready, 0, 0);
	started(&thread, blocks, &cleaned);
	sem_wait(&ready);
	rest_ms(5);
	equal(pthread_cancel(thread), 0);
	equal(pthread_join(thread, &result), 0);
	check(result == PTHREAD_CANCELED);
	equal(cleaned, 1);
}

static pthread_mutex_t of_a_kind;

static void *dies_with_it(void *arg UNUSED)
{
	pthread_mutex_lock(&of_a_kind);
	rest_ms(5);
	return NULL;
}

/* Whoever ends with a robust mutex leaves word of it. */
static void robust(void)
{
	pthread_mutexattr_t attr;
	pthread_t thread;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	equal(pthread_mutex_init(&of_a_kind, &attr), 0);
	started(&thread, dies_with_it, NULL);
	joined(thread);
	equal(pthread_mutex_lock(&of_a_kind), EOWNERDEAD);
	equal(pthread_mutex_consistent(&of_a_kind), 0);
	equal(pthread_mutex_unlock(&of_a_kind), 0);
	pthread_mutex_destroy(&of_a_kind);
}

static void *counts(void *arg UNUSED)
{
	for (int i = 0; i < 30; i++) {
		equal(pthread_mutex_lock(&of_a_kind), 0);
		equal(pthread_mutex_lock(&of_a_kind), EDEADLK);
		total++;
		if (i % 10 == 0)
			rest_ms(2);
		equal(pthread_mutex_unlock(&of_a_kind), 0);
	}
	return NULL;
}

/* Mutexes that inherit priority have their owner's ID in them, which kernels read. */
static void inheriting(void)
{
	pthread_mutexattr_t attr;
	pthread_t threads[THREADS];

	total = 0;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	equal(pthread_mutex_init(&of_a_kind, &attr), 0);
	for (long i = 0; i < THREADS; i++)
		started(&threads[i], counts, NULL);
	for (long i = 0; i < THREADS; i++)
		joined(threads[i]);
	equal(total, 30 * THREADS);
	pthread_mutex_destroy(&of_a_kind);
}

static void *works(void *arg)
{
	volatile long *n = arg;

	while (!stop)
		(*n)++;
	return NULL;
}

static int says_seven(void *arg UNUSED)
{
	rest_ms(5);
	return 7;
}

/* A child has the thread that made it, and no other. */
static void forks(void)
{
	pthread_t threads[2];
	long counted[2] = { 0, 0 };

	stop = 0;
	for (int i = 0; i < 2; i++)
		started(&threads[i], works, &counted[i]);
	for (int i = 0; i < 3; i++)
		reaped(forked(says_seven, NULL), 7);
	stop = 1;
	for (int i = 0; i < 2; i++)
		joined(threads[i]);
}

static int counts_signals(void *arg)
{
	struct sigaction action = { .sa_handler = on_signal };
	int *told = arg;

	caught_here = 0;
	ok(sigaction(SIGRTMIN, &action, NULL));
	write_all(told[1], "", 1);
	while (caught_here < 4)
		usleep(1000);
	return caught_here;
}

/* A child that lives on hears of its signals, wherever it was made. */
static void children_are_signalled(void)
{
	pthread_t thread;
	long counted = 0;
	int told[2];
	char byte;

	stop = 0;
	ok(pipe(told));
	started(&thread, works, &counted);
	for (int i = 0; i < 2; i++) {
		pid_t child = forked(counts_signals, told);

		read_all(told[0], &byte, 1);
		for (int j = 0; j < 4; j++) {
			ok(kill(child, SIGRTMIN));
			rest_ms(4);
		}
		reaped(child, 4);
	}
	stop = 1;
	joined(thread);
	ok(close(told[0]));
	ok(close(told[1]));
}

static void *makes_others(void *arg)
{
	pthread_t threads[2];
	long depth = (long)arg;

	if (!depth)
		return (void *)1;
	for (int i = 0; i < 2; i++)
		started(&threads[i], makes_others, (void *)(depth - 1));
	if (depth == 2)
		rest_ms(2);
	return (void *)(joined(threads[0]) + joined(threads[1]));
}

/* Threads that are made by threads, all over the tree at once. */
static void born_of_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++) {
		started(&thread, makes_others, (void *)3);
		equal(joined(thread), 8);
	}
}

static void *ends(void *arg)
{
	return arg;
}

static void many(void)
{
	pthread_t threads[40];

	for (long i = 0; i < 40; i++)
		started(&threads[i], ends, (void *)i);
	for (long i = 0; i < 40; i++)
		equal(joined(threads[i]), i);
}

static void *exits(void *arg UNUSED)
{
	rest_ms(5);
	_exit(11);
}

static int leaves_by_thread(void *arg UNUSED)
{
	pthread_t threads[2];

	stop = 0;
	long counted = 0;
	started(&threads[0], works, &counted);
	started(&threads[1], exits, NULL);
	joined(threads[0]);
	return 1;
}

static void *executes(void *arg UNUSED)
{
	rest_ms(5);
	execl("/bin/sh", "sh", "-c", "exit 9", NULL);
	return NULL;
}

static int executes_by_thread(void *arg UNUSED)
{
	pthread_t threads[2];

	stop = 0;
	long counted = 0;
	started(&threads[0], works, &counted);
	started(&threads[1], executes, NULL);
	joined(threads[0]);
	return 1;
}

static void *outlives(void *arg UNUSED)
{
	rest_ms(10);
	_exit(5);
}

static int first_ends(void *arg UNUSED)
{
	pthread_t thread;

	started(&thread, outlives, NULL);
	pthread_exit(NULL);
}

static int killed_with_threads(void *arg UNUSED)
{
	pthread_t thread;

	stop = 0;
	long counted = 0;
	started(&thread, works, &counted);
	rest_ms(5);
	raise(SIGTERM);
	joined(thread);
	return 1;
}

static void ends_of_processes(void)
{
	reaped(forked(leaves_by_thread, NULL), 11);
	reaped(forked(executes_by_thread, NULL), 9);
	reaped(forked(first_ends, NULL), 5);
	killed(forked(killed_with_threads, NULL), SIGTERM);
}

PROGRAM(PART(in_turn), PART(barriers), PART(timed), PART(calls_of_threads), PART(memory_of_threads), PART(growing),
	PART(clocks_of_threads), PART(signals_to_threads), PART(signals_to_the_first), PART(waits_that_signals_end),
	PART(sigwait_of_a_thread), PART(cancelled), PART(robust), PART(inheriting), PART(forks), PART(children_are_signalled),
	PART(born_of_threads), PART(many), PART(ends_of_processes))
