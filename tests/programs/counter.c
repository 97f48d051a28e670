/* A long computation without system calls: sieve, matrix, and an integer mix, with results known in advance. */
#include "mos.h"

static void primes(void)
{
	static unsigned char composite[1000000];
	int found = 0;

	memset(composite, 0, sizeof(composite));
	for (size_t i = 2; i < sizeof(composite); i++) {
		if (composite[i])
			continue;
		found++;
		for (size_t j = i * i; j < sizeof(composite); j += i)
			composite[j] = 1;
	}
	equal(found, 78498);
}

static void floating(void)
{
	double a[40][40], b[40][40], c[40][40] = { { 0 } }, trace = 0;

	for (int i = 0; i < 40; i++)
		for (int j = 0; j < 40; j++) {
			a[i][j] = 1.0 / (i + j + 1);
			b[i][j] = i == j ? 2 : 0;
		}
	for (int i = 0; i < 40; i++)
		for (int j = 0; j < 40; j++)
			for (int k = 0; k < 40; k++)
				c[i][j] += a[i][k] * b[k][j];
	for (int i = 0; i < 40; i++)
		trace += c[i][i] - 2 * a[i][i];
	check(trace == 0);
	double sum = 0;
	for (int i = 1; i <= 1000000; i++)
		sum += 1.0 / ((double)i * i);
	check(sum > 1.644933066 && sum < 1.644933067);
}

static void mixing(void)
{
	uint64_t state = 1, x = 0;

	for (int i = 0; i < 2000000; i++)
		x ^= mos_next(&state) + i;
	announce("mix %016llx\n", (unsigned long long)x);
	static uint64_t first;
	if (!first)
		first = x;
	check(x == first);
}

PROGRAM(PART(primes), PART(floating), PART(mixing))
