/* What cannot leave home: threads, memory shared for writing, For mosrun --stay-home. */
#include "mos.h"
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#define THREADS 8

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static long shared_sum, whose;

static void *adds(void *arg)
{
	long number = (long)arg;

	for (int i = 0; i < 50; i++) {
		pthread_mutex_lock(&mutex);
		while (whose % THREADS != number)
			pthread_cond_wait(&turn, &mutex);
		shared_sum = shared_sum * 3 + number;
		shared_sum %= 1000003;
		whose++;
		pthread_cond_broadcast(&turn);
		pthread_mutex_unlock(&mutex);
	}
	return (void *)(number * number);
}

static void in_turn(void)
{
	pthread_t threads[THREADS];
	long expected = 0;

	shared_sum = whose = 0;
	for (long i = 0; i < THREADS; i++)
		equal(pthread_create(&threads[i], NULL, adds, (void *)i), 0);
	for (long i = 0; i < THREADS; i++) {
		void *result;
		equal(pthread_join(threads[i], &result), 0);
		equal((long)result, i * i);
	}
	for (long i = 0; i < 50 * THREADS; i++)
		expected = (expected * 3 + i % THREADS) % 1000003;
	equal(shared_sum, expected);
	announce("sum %ld", expected);
}

static void *opens_files(void *arg)
{
	char name[32];

	snprintf(name, sizeof name, "thread.%ld", (long)arg);
	for (int i = 0; i < 20; i++) {
		int fd = ok(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
		write_all(fd, name, strlen(name));
		ok(close(fd));
		struct stat st;
		ok(stat(name, &st));
		equal(st.st_size, (long)strlen(name));
	}
	ok(unlink(name));
	return NULL;
}

static void files_of_threads(void)
{
	pthread_t threads[THREADS];

	for (long i = 0; i < THREADS; i++)
		equal(pthread_create(&threads[i], NULL, opens_files, (void *)i), 0);
	for (long i = 0; i < THREADS; i++)
		equal(pthread_join(threads[i], NULL), 0);
}

static volatile sig_atomic_t caught_by;
static sem_t caught;

static void handler(int sig UNUSED)
{
	caught_by = syscall(SYS_gettid);
	sem_post(&caught);
}

static void *waits_for_signal(void *arg)
{
	*(pid_t *)arg = syscall(SYS_gettid);
	sem_post(&caught);
	while (!caught_by)
		usleep(1000);
	return NULL;
}

static void signals_to_a_thread(void)
{
	struct sigaction action = {.sa_handler = handler};
	pthread_t thread;
	pid_t tid = 0;

	caught_by = 0;
	ok(sem_init(&caught, 0, 0));
	ok(sigaction(SIGUSR1, &action, NULL));
	equal(pthread_create(&thread, NULL, waits_for_signal, &tid), 0);
	while (sem_wait(&caught))
		;
	equal(pthread_kill(thread, SIGUSR1), 0);
	while (sem_wait(&caught))
		;
	equal(caught_by, tid);
	equal(pthread_join(thread, NULL), 0);
}

static void *forks(void *arg UNUSED)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(5);
	reaped(pid, 5);
	return NULL;
}

static void fork_from_a_thread(void)
{
	pthread_t thread;

	equal(pthread_create(&thread, NULL, forks, NULL), 0);
	equal(pthread_join(thread, NULL), 0);
}

static void *executes(void *arg UNUSED)
{
	execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
	_exit(1);
}

static int threads_then_exec(void *arg UNUSED)
{
	pthread_t idle, thread;
	pid_t tid;

	sem_init(&caught, 0, 0);
	caught_by = 0;
	pthread_create(&idle, NULL, waits_for_signal, &tid);
	pthread_create(&thread, NULL, executes, NULL);
	pause();
	return 1;
}

static void exec_by_a_thread(void)
{
	reaped(forked(threads_then_exec, NULL), 9);
}

static void shared_with_a_child(void)
{
	long *cell = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	check(cell != MAP_FAILED);
	pid = fork();
	if (pid == 0) {
		cell[1] = 4711;
		_exit(0);
	}
	reaped(pid, 0);
	equal(cell[1], 4711);
	ok(munmap(cell, 4096));
}

static void shared_file(void)
{
	int fd = ok(open("shared", O_RDWR | O_CREAT | O_TRUNC, 0600));
	char *map, back[5];

	ok(ftruncate(fd, 4096));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(map != MAP_FAILED);
	memcpy(map, "hello", 5);
	equal(pread(fd, back, 5, 0), 5);
	same(back, "hello", 5);
	ok(munmap(map, 4096));
	ok(close(fd));
	ok(unlink("shared"));
}

PROGRAM(PART(in_turn), PART(files_of_threads), PART(signals_to_a_thread), PART(fork_from_a_thread), PART(exec_by_a_thread),
	PART(shared_with_a_child), PART(shared_file))
