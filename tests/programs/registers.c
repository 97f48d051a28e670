/* Everything a CPU holds stays where it is: integer, x87, SSE, AVX and AVX-512 registers, masks, control words, segment bases, red zone.
 *
 * Each part loads a pattern, spins for some milliseconds without a system call, and compares. */
#include "mos.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <immintrin.h>

static uint64_t spins;

static void measure(void)
{
	uint64_t n = 1 << 16;

	for (int64_t took = 0; took < 1000000; n *= 2) {
		int64_t begin = now_ns(CLOCK_MONOTONIC);
		__asm__ volatile("1: dec %0; jnz 1b" : "=r"(spins) : "0"(n) : "cc");
		took = now_ns(CLOCK_MONOTONIC) - begin;
	}
	spins = n / 2 * (seconds < 1 ? 2 : 30);
}

static void integers(void)
{
	uint64_t out[10], n = spins;

	for (int flags = 0; flags < 2; flags++) {
		unsigned char carry = flags;
		__asm__ volatile(
			"mov $0x0101010101010101, %%r8\n\t mov $0x0202020202020202, %%r9\n\t mov $0x0303030303030303, %%r10\n\t"
			"mov $0x0404040404040404, %%r11\n\t mov $0x0505050505050505, %%r12\n\t mov $0x0606060606060606, %%r13\n\t"
			"mov $0x0707070707070707, %%r14\n\t mov $0x0808080808080808, %%r15\n\t"
			"mov $0x0909090909090909, %%rdx\n\t mov $0x0a0a0a0a0a0a0a0a, %%rsi\n\t"
			"negb %[carry]\n\t"
			"1: dec %[n]\n\t jnz 1b\n\t"
			"setc %[carry]\n\t"
			"mov %%r8, 0(%[out])\n\t mov %%r9, 8(%[out])\n\t mov %%r10, 16(%[out])\n\t mov %%r11, 24(%[out])\n\t"
			"mov %%r12, 32(%[out])\n\t mov %%r13, 40(%[out])\n\t mov %%r14, 48(%[out])\n\t mov %%r15, 56(%[out])\n\t"
			"mov %%rdx, 64(%[out])\n\t mov %%rsi, 72(%[out])\n\t"
			: [n] "+c"(n), [carry] "+a"(carry)
			: [out] "b"(out)
			: "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdx", "rsi", "memory", "cc");
		for (int i = 0; i < 10; i++)
			check(out[i] == (i + 1) * 0x0101010101010101ULL);
		equal(carry, flags);
		n = spins;
	}
}

static void red_zone(void)
{
	uint64_t out[16], n = spins;

	__asm__ volatile(
		"sub $128, %%rsp\n\t"
		"mov $16, %%rdx\n\t"
		"1: mov %%rdx, %%rax\n\t neg %%rax\n\t mov %%rdx, (%%rsp,%%rax,8)\n\t dec %%rdx\n\t jnz 1b\n\t"
		"2: dec %[n]\n\t jnz 2b\n\t"
		"mov $16, %%rdx\n\t"
		"3: mov %%rdx, %%rax\n\t neg %%rax\n\t mov (%%rsp,%%rax,8), %%rax\n\t mov %%rax, -8(%[out],%%rdx,8)\n\t dec %%rdx\n\t jnz 3b\n\t"
		"add $128, %%rsp\n\t"
		: [n] "+c"(n)
		: [out] "b"(out)
		: "rax", "rdx", "memory", "cc");
	for (int i = 0; i < 16; i++)
		equal(out[i], i + 1);
}

static void x87(void)
{
	double in[8] = { 1.25, -2.5, 3e300, 4e-300, 5.0625, -0.0, 7.75, 1e10 }, out[8];
	uint64_t n = spins;
	unsigned short word = 0x0f7f, got, old;

	__asm__ volatile("fnstcw %0" : "=m"(old));
	__asm__ volatile("fldcw %0" ::"m"(word));
	__asm__ volatile(
		"fldl 0(%[in])\n\t fldl 8(%[in])\n\t fldl 16(%[in])\n\t fldl 24(%[in])\n\t"
		"fldl 32(%[in])\n\t fldl 40(%[in])\n\t fldl 48(%[in])\n\t fldl 56(%[in])\n\t"
		"1: dec %[n]\n\t jnz 1b\n\t"
		"fstpl 56(%[out])\n\t fstpl 48(%[out])\n\t fstpl 40(%[out])\n\t fstpl 32(%[out])\n\t"
		"fstpl 24(%[out])\n\t fstpl 16(%[out])\n\t fstpl 8(%[out])\n\t fstpl 0(%[out])\n\t"
		: [n] "+c"(n)
		: [in] "r"(in), [out] "r"(out)
		: "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
	__asm__ volatile("fnstcw %0" : "=m"(got));
	__asm__ volatile("fldcw %0" ::"m"(old));
	same(out, in, sizeof(in));
	equal(got, word);
	long double third = 1.0L / 3, product = third;
	for (uint64_t i = 0; i < spins / 100; i++)
		product = product * 3 / 3;
	check(product > 0.33333333333L && product < 0.33333333334L);
}

static void sse(void)
{
	static unsigned char in[256] __attribute__((aligned(64))), out[256] __attribute__((aligned(64)));
	uint64_t n = spins;
	unsigned mxcsr = _mm_getcsr();

	datagen(in, sizeof(in), 1);
	_mm_setcsr((mxcsr & ~0x6000u) | 0x2000);
	__asm__ volatile(
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t movdqa 16*\\i(%[in]), %%xmm\\i\n\t .endr\n\t"
		"1: dec %[n]\n\t jnz 1b\n\t"
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t movdqa %%xmm\\i, 16*\\i(%[out])\n\t .endr\n\t"
		: [n] "+c"(n)
		: [in] "r"(in), [out] "r"(out)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
		  "xmm12", "xmm13", "xmm14", "xmm15");
	unsigned now = _mm_getcsr();
	_mm_setcsr(mxcsr);
	equal(now & 0x6000, 0x2000);
	same(out, in, sizeof(in));
}

__attribute__((target("avx"))) static void avx_registers(unsigned char *in, unsigned char *out, uint64_t n)
{
	__asm__ volatile(
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t vmovdqu 32*\\i(%[in]), %%ymm\\i\n\t .endr\n\t"
		"1: dec %[n]\n\t jnz 1b\n\t"
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t vmovdqu %%ymm\\i, 32*\\i(%[out])\n\t .endr\n\t"
		"vzeroupper\n\t"
		: [n] "+c"(n)
		: [in] "r"(in), [out] "r"(out)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
		  "xmm12", "xmm13", "xmm14", "xmm15");
}

static void avx(void)
{
	unsigned char in[512], out[512];

	if (!__builtin_cpu_supports("avx"))
		return;
	datagen(in, sizeof(in), 2);
	avx_registers(in, out, spins);
	same(out, in, sizeof(in));
}

__attribute__((target("avx512f,avx512bw"))) static void avx512_registers(unsigned char *in, unsigned char *out, uint64_t *k, uint64_t n)
{
	__asm__ volatile(
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
		"vmovdqu64 64*\\i(%[in]), %%zmm\\i\n\t .endr\n\t"
		".irp i,0,1,2,3,4,5,6,7\n\t kmovq 8*\\i(%[k]), %%k\\i\n\t .endr\n\t"
		"1: dec %[n]\n\t jnz 1b\n\t"
		".irp i,0,1,2,3,4,5,6,7\n\t kmovq %%k\\i, 64+8*\\i(%[k])\n\t .endr\n\t"
		".irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
		"vmovdqu64 %%zmm\\i, 64*\\i(%[out])\n\t .endr\n\t"
		"vzeroupper\n\t"
		: [n] "+c"(n)
		: [in] "r"(in), [out] "r"(out), [k] "r"(k)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
		  "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
		  "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7");
}

static void avx512(void)
{
	unsigned char in[2048], out[2048];
	uint64_t k[16];

	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw"))
		return;
	datagen(in, sizeof(in), 3);
	datagen(k, 64, 4);
	avx512_registers(in, out, k, spins);
	same(out, in, sizeof(in));
	same(k + 8, k, 64);
}

static void protection_keys(void)
{
	unsigned a, b, c, d, before, after, wanted;
	uint64_t n = spins;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c & 16))
		return;
	__asm__ volatile("rdpkru" : "=a"(before) : "c"(0) : "rdx");
	wanted = before ^ 0xc0000000;
	__asm__ volatile("wrpkru" ::"a"(wanted), "c"(0), "d"(0));
	__asm__ volatile("1: dec %0\n\t jnz 1b" : "+r"(n)::"cc");
	__asm__ volatile("rdpkru" : "=a"(after) : "c"(0) : "rdx");
	__asm__ volatile("wrpkru" ::"a"(before), "c"(0), "d"(0));
	check(after == wanted);
}

static void segment_base(void)
{
	static uint64_t area[4] = { 11, 22, 33, 44 };
	uint64_t n = spins, got, base = 0, old;

	ok(syscall(SYS_arch_prctl, ARCH_GET_GS, &old));
	ok(syscall(SYS_arch_prctl, ARCH_SET_GS, area));
	__asm__ volatile("1: dec %0\n\t jnz 1b" : "+r"(n)::"cc");
	__asm__ volatile("mov %%gs:16, %0" : "=r"(got));
	equal(got, 33);
	ok(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
	check(base == (uint64_t)area);
	ok(syscall(SYS_arch_prctl, ARCH_SET_GS, old));
}

PROGRAM(PART(measure), PART(integers), PART(red_zone), PART(x87), PART(sse), PART(avx), PART(avx512), PART(protection_keys),
	PART(segment_base))
