/* OpenMP: loops with every schedule, reductions, tasks, sections, locks, and threads that wait for each other. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static long fibonacci(int n)
{
	long a, b;
	if (n < 12)
		return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
#pragma omp task shared(a)
	a = fibonacci(n - 1);
#pragma omp task shared(b)
	b = fibonacci(n - 2);
#pragma omp taskwait
	return a + b;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1, n = 200000;
	double *x = malloc(n * sizeof *x);
	omp_lock_t lock;

	omp_init_lock(&lock);
	omp_set_num_threads(6);
	for (int r = 0; r < rounds; r++) {
		long sum = 0, tasks = 0, locked = 0, turns = 0;
		double largest = 0;
#pragma omp parallel for schedule(static)
		for (int i = 0; i < n; i++)
			x[i] = (double)((i * 7919L + r) % 1009);
#pragma omp parallel for schedule(dynamic, 100) reduction(+ : sum)
		for (int i = 0; i < n; i++)
			sum += (long)x[i] * (i % 13);
#pragma omp parallel for schedule(guided) reduction(max : largest)
		for (int i = 0; i < n; i++)
			if (x[i] > largest)
				largest = x[i];
#pragma omp parallel
#pragma omp single
		tasks = fibonacci(20);
#pragma omp parallel
		for (int i = 0; i < 50; i++) {
			omp_set_lock(&lock);
			locked++;
			omp_unset_lock(&lock);
#pragma omp barrier
#pragma omp master
			turns++;
		}
		printf("%d %ld %.0f %ld %ld %ld\n", r, sum, largest, tasks, locked, turns);
	}
	omp_destroy_lock(&lock);
	free(x);
	return 0;
}
