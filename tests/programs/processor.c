/* Instructions that not every processor has: those that this one had when the program began are used to its end, wherever it is then.
 * Where one is lacking the program must come to no harm: the right result, or none, and an illegal instruction stays one. */
#include "mos.h"
#include <immintrin.h>
#include <setjmp.h>

#define LENGTH 4096
static int32_t data[LENGTH];
static int64_t sum;
static sigjmp_buf back;

static void fill(void)
{
	sum = 0;
	for (int i = 0; i < LENGTH; i++)
		sum += data[i] = i * 2654435761U >> 12;
}

__attribute__((target("avx2"))) static int64_t sum_avx2(void)
{
	__m256i total = _mm256_setzero_si256();
	int64_t parts[4];

	for (int i = 0; i < LENGTH; i += 4)
		total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(_mm_loadu_si128((void *)(data + i))));
	_mm256_storeu_si256((void *)parts, total);
	return parts[0] + parts[1] + parts[2] + parts[3];
}

__attribute__((target("avx512f"))) static int64_t sum_avx512(void)
{
	__m512i total = _mm512_setzero_si512();

	for (int i = 0; i < LENGTH; i += 8)
		total = _mm512_add_epi64(total, _mm512_cvtepi32_epi64(_mm256_loadu_si256((void *)(data + i))));
	return _mm512_reduce_add_epi64(total);
}

__attribute__((target("fma"))) static double fused(double x)
{
	return _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(x), _mm_set_sd(x), _mm_set_sd(-1)));
}

__attribute__((target("sse4.2"))) static uint32_t crc(void)
{
	uint32_t value = ~0U;

	for (int i = 0; i < LENGTH; i++)
		value = _mm_crc32_u32(value, data[i]);
	return value;
}

__attribute__((target("bmi,lzcnt,popcnt"))) static int counts(uint32_t value)
{
	return _tzcnt_u32(value) * 10000 + _lzcnt_u32(value) * 100 + _mm_popcnt_u32(value);
}

static bool avx2, avx512, fma, sse42, bits;
static uint32_t first_crc;

static void features(void)
{
	static bool known;

	if (!known) {
		__builtin_cpu_init();
		avx2 = __builtin_cpu_supports("avx2");
		avx512 = __builtin_cpu_supports("avx512f");
		fma = __builtin_cpu_supports("fma");
		sse42 = __builtin_cpu_supports("sse4.2");
		bits = __builtin_cpu_supports("bmi") && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("popcnt");
		fill();
		first_crc = sse42 ? crc() : 0;
	}
	known = true;
}

static void vectors(void)
{
	features();
	fill();
	for (int i = 0; i < 50; i++) {
		if (avx2)
			equal(sum_avx2(), sum);
		if (avx512)
			equal(sum_avx512(), sum);
		rest_ms(1);
	}
}

static void scalars(void)
{
	features();
	fill();
	for (int i = 0; i < 50; i++) {
		if (fma) /* 3 * 3 - 1, and an error term that two roundings lose */
			check(fused(3) == 8 && fused(1 + 0x1p-30) == 0x1p-29 + 0x1p-60);
		if (sse42)
			equal(crc(), first_crc);
		if (bits) {
			equal(counts(0x00f0), 42404);
			equal(counts(0), 323200); /* where BSF and BSR would differ */
		}
		rest_ms(1);
	}
}

/* What is in a register when a program moves must be there afterwards, also if the next processor has no such register: then it
 * does not move there now. */
__attribute__((target("avx2"))) static void held(void)
{
	features();
	if (!avx2)
		return;
	uint64_t in[4] = {1, 0x1234567890abcdef, ~0ULL, 42}, out[4];
	int64_t end = now_ns(CLOCK_MONOTONIC) + 20000000;

	do {
		uint64_t n = 1 << 20;
		__asm__ volatile("vmovdqu (%[in]), %%ymm9\n\t1: dec %[n]\n\tjnz 1b\n\tvmovdqu %%ymm9, (%[out])\n\tvzeroupper"
				 : [n] "+r"(n)
				 : [in] "r"(in), [out] "r"(out)
				 : "xmm9", "memory", "cc");
		same(in, out, sizeof in);
	} while (now_ns(CLOCK_MONOTONIC) < end);
}

static void jump(int sig UNUSED) { siglongjmp(back, 1); }

/* Illegal everywhere: the signal is the program's own, caught or deadly. */
static void illegal(void)
{
	struct sigaction act = {.sa_handler = jump}, before;

	ok(sigaction(SIGILL, &act, &before));
	volatile int caught = 0;
	for (volatile int i = 0; i < 3; i++)
		if (sigsetjmp(back, 1))
			caught++;
		else
			__asm__ volatile("ud2");
	equal(caught, 3);
	ok(sigaction(SIGILL, &before, NULL));
	pid_t child = ok(fork());
	if (!child) {
		signal(SIGILL, SIG_DFL);
		__asm__ volatile("ud2");
		_exit(0);
	}
	killed(child, SIGILL);
}

PROGRAM(PART(vectors), PART(scalars), PART(held), PART(illegal))
