/* Threads that make threads, detached ones and such that are waited for; forks and execs among them. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t ended;

static void *leaf(void *arg)
{
	return (void *)((long)arg * 2);
}

static void *detached(void *arg)
{
	(void)arg;
	pthread_detach(pthread_self());
	sem_post(&ended);
	return NULL;
}

static void *branch(void *arg)
{
	pthread_t leaves[3];
	long sum = 0;

	for (long i = 0; i < 3; i++)
		if (pthread_create(&leaves[i], NULL, leaf, (void *)((long)arg * 10 + i)))
			exit(3);
	for (int i = 0; i < 3; i++) {
		void *got;
		pthread_join(leaves[i], &got);
		sum += (long)got;
	}
	return (void *)sum;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;

	sem_init(&ended, 0, 0);
	for (int r = 0; r < rounds; r++) {
		pthread_t branches[4], loose;
		long sum = 0;
		int status = 0;
		pid_t child;

		for (long i = 0; i < 4; i++)
			if (pthread_create(&branches[i], NULL, branch, (void *)i))
				return 4;
		for (int i = 0; i < 5; i++)
			if (pthread_create(&loose, NULL, detached, NULL))
				return 5;
		child = fork();
		if (!child) {
			if (r % 2)
				execl("/bin/sh", "sh", "-c", "exit 6", NULL);
			_exit(6);
		}
		waitpid(child, &status, 0);
		for (int i = 0; i < 4; i++) {
			void *got;
			pthread_join(branches[i], &got);
			sum += (long)got;
		}
		for (int i = 0; i < 5; i++)
			sem_wait(&ended);
		for (volatile int i = 0; i < 3000000; i++)
			;
		printf("%d %ld %d\n", r, sum, WEXITSTATUS(status));
		fflush(stdout);
	}
	return 0;
}
