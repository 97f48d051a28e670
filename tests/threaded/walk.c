/* The walk of tests/t5_faults.py by the first of eight threads; the others count together, wait for it and for times. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OTHERS 7

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t line_written = PTHREAD_COND_INITIALIZER;
static long first_total, second_total, lines;
static volatile int stop;

static void fails(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(9);
}

static void *counts(void *arg)
{
	static __thread long mine;
	long number = (long)arg, seen = 0;

	while (!stop) {
		struct timespec at;

		pthread_mutex_lock(&lock);
		if (first_total != second_total)
			fails("the totals differ");
		first_total++;
		for (volatile int i = 0; i < 100 * number; i++)
			;
		second_total++;
		mine++;
		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += 3000000 * number;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		if (seen == lines)
			pthread_cond_timedwait(&line_written, &lock, &at);
		seen = lines;
		pthread_mutex_unlock(&lock);
	}
	return (void *)mine;
}

int main(int argc, char **argv)
{
	char path[4096], text[100];
	pthread_t others[OTHERS];
	long x = 1, total = 0;
	int file;

	snprintf(path, sizeof path, "%s/lines", argc > 1 ? argv[1] : ".");
	file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	snprintf(path, sizeof path, "%s/stop", argc > 1 ? argv[1] : ".");
	for (long i = 0; i < OTHERS; i++)
		if (pthread_create(&others[i], NULL, counts, (void *)i))
			fails("no thread");
	while (access(path, F_OK)) {
		for (int j = 0; j < 200; j++)
			x = (x * 1103515245 + 12345) % (1L << 31);
		int length = snprintf(text, sizeof text, "%ld %ld\n", lines, x);
		if (write(file, text, length) != length)
			fails("no line");
		pthread_mutex_lock(&lock);
		lines++;
		pthread_cond_broadcast(&line_written);
		pthread_mutex_unlock(&lock);
		usleep(1000);
	}
	stop = 1;
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&line_written);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < OTHERS; i++) {
		void *counted;
		pthread_join(others[i], &counted);
		total += (long)counted;
	}
	if (total != first_total || total != second_total)
		fails("the totals are not what was counted");
	printf("end %ld %ld\n", lines, x);
	return 7;
}
