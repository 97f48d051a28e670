/* Uses what not every processor has, when it is told to by a line of its standard input; it may have been moved by then. What is
 * used: avx, avx2, avx512, libc (its copies and searches), saved (registers that it has saved before, as ld.so does), or registers
 * (each must be the same behind an instruction that the node lacked): `registers avx|avx2|avx512 [wide]`. "wide": the upper halves of
 * ZMM0 to 15 are in use too. */
#include <asm/prctl.h>
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wchar.h>

enum { LENGTH = 4096, AREA = 16384 };
static int32_t data[LENGTH];
static uint32_t state = 1;

static uint32_t next(void) { return state = state * 1664525 + 1013904223; }

static void wait_for_line(void)
{
	char byte;

	if (read(0, &byte, 1) != 1)
		exit(3);
}

static void say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

__attribute__((target("avx"))) static void use_avx(void)
{
	__m256d total = _mm256_setzero_pd();
	double parts[4];

	for (int i = 0; i < LENGTH; i += 4)
		total = _mm256_add_pd(total, _mm256_cvtepi32_pd(_mm_loadu_si128((void *)(data + i))));
	_mm256_storeu_pd(parts, total);
	printf("%.0f\n", parts[0] + parts[1] + parts[2] + parts[3]);
}

__attribute__((target("avx2"))) static void use_avx2(void)
{
	__m256i total = _mm256_setzero_si256();
	long long parts[4];

	for (int i = 0; i < LENGTH; i += 4)
		total = _mm256_add_epi64(total, _mm256_cvtepi32_epi64(_mm_loadu_si128((void *)(data + i))));
	_mm256_storeu_si256((void *)parts, total);
	printf("%lld\n", parts[0] + parts[1] + parts[2] + parts[3]);
}

__attribute__((target("avx512f"))) static void use_avx512(void)
{
	__m512i total = _mm512_setzero_si512();

	for (int i = 0; i < LENGTH; i += 8) {
		__m512i some = _mm512_cvtepi32_epi64(_mm256_loadu_si256((void *)(data + i)));
		total = _mm512_mask_add_epi64(total, _mm512_cmpgt_epi64_mask(some, _mm512_setzero_si512()), total, some);
	}
	printf("%lld\n", (long long)_mm512_reduce_add_epi64(total));
}

/* Of every length, at every distance from an alignment: libc chooses other instructions for each. */
static void use_libc(void)
{
	static char from[9000], to[9000];
	static wchar_t wide[600];
	void *(*volatile copy)(void *, const void *, size_t) = memcpy, *(*volatile move)(void *, const void *, size_t) = memmove;
	void *(*volatile set)(void *, int, size_t) = memset, *(*volatile find)(const void *, int, size_t) = memchr;
	int (*volatile compare)(const void *, const void *, size_t) = memcmp, (*volatile order)(const char *, const char *) = strcmp;
	size_t (*volatile length)(const char *) = strlen, (*volatile wide_length)(const wchar_t *) = wcslen;
	char *(*volatile last)(const char *, int) = strrchr;
	uint64_t sum = 0;

	for (size_t n = 1; n < 8192; n += n / 9 + 1)
		for (size_t at = 0; at < 64; at += 7) {
			for (size_t i = 0; i < n; i++)
				from[at + i] = next() >> 24 | 1;
			from[at + n] = 0;
			set(to, 0, sizeof(to));
			copy(to + 3, from + at, n + 1);
			sum = sum * 31 + length(to + 3) + !compare(to + 3, from + at, n + 1) + !order(to + 3, from + at);
			move(to + 5, to + 3, n + 1);
			int sign = compare(to + 5, from + at, n);
			sum = sum * 31 + (sign > 0) - (sign < 0);
			char *found = find(to + 5, 0x51, n), *end = last(to + 5, 0x51);
			sum = sum * 31 + (found ? found - to : 1) * 7 + (end ? end - to : 1);
		}
	for (size_t n = 0; n < 500; n++) {
		wide[n] = 0;
		sum = sum * 31 + wide_length(wide);
		wide[n] = n + 1;
	}
	printf("%016llx\n", (unsigned long long)sum);
}

/* ---------------------------------------------------------------------- registers */

/* Integer registers by their number in machine code. r4 is rsp. */
uint64_t in[16], out[16], in_flags = 0xed7, out_flags, kept_rsp; /* DF and all arithmetic flags */
uint8_t in_state[AREA] __attribute__((aligned(64))), out_state[AREA] __attribute__((aligned(64)));
uint32_t components;
int64_t got;
char byte;
uint8_t stored[64];

/* The state is loaded, the program waits in read(2), where it may be moved; then comes the instruction, which changes nothing. */
#define SCENE(name, instruction) \
	__asm__(".text\n" #name ":\n" \
		"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n" \
		"mov components(%rip), %eax; xor %edx, %edx; xrstor64 in_state(%rip)\n" \
		"mov %rsp, kept_rsp(%rip)\n" \
		"mov in+24(%rip), %rbx; mov in+40(%rip), %rbp; mov in+64(%rip), %r8; mov in+72(%rip), %r9; mov in+80(%rip), %r10\n" \
		"mov in+96(%rip), %r12; mov in+104(%rip), %r13; mov in+112(%rip), %r14; mov in+120(%rip), %r15\n" \
		"xor %eax, %eax; xor %edi, %edi; lea byte(%rip), %rsi; mov $1, %edx; syscall\n" \
		"mov %rax, got(%rip)\n" \
		"mov in+0(%rip), %rax; mov in+8(%rip), %rcx; mov in+16(%rip), %rdx; mov in+48(%rip), %rsi; mov in+56(%rip), %rdi\n" \
		"mov in+88(%rip), %r11; pushq in_flags(%rip); popfq\n" \
		instruction "\n" \
		"mov %rsp, out+32(%rip); pushfq; popq out_flags(%rip); cld\n" \
		"mov %rax, out+0(%rip); mov %rcx, out+8(%rip); mov %rdx, out+16(%rip); mov %rbx, out+24(%rip)\n" \
		"mov %rbp, out+40(%rip); mov %rsi, out+48(%rip); mov %rdi, out+56(%rip); mov %r8, out+64(%rip)\n" \
		"mov %r9, out+72(%rip); mov %r10, out+80(%rip); mov %r11, out+88(%rip); mov %r12, out+96(%rip)\n" \
		"mov %r13, out+104(%rip); mov %r14, out+112(%rip); mov %r15, out+120(%rip)\n" \
		"mov components(%rip), %eax; xor %edx, %edx; xsave64 out_state(%rip)\n" \
		"fninit\n" \
		"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"); \
	void name(void)

SCENE(scene_avx, "vmovups %ymm5, stored(%rip)");
SCENE(scene_avx2, "vextracti128 $1, %ymm5, stored(%rip)");
SCENE(scene_avx512, "vporq %zmm17, %zmm17, %zmm17");

static void fill(uint8_t *to, size_t length)
{
	for (size_t i = 0; i < length; i++)
		to[i] = next() >> 24;
}

/* Offset and size of a component of XSAVE's standard format (Intel SDM volume 1, 13.4.2). */
static size_t place(int component, size_t *size)
{
	unsigned a, b, c, d;

	if (component < 2) {
		*size = component ? 256 : 128;
		return component ? 160 : 32;
	}
	__cpuid_count(0xd, component, a, b, c, d);
	*size = a;
	return b;
}

static void differs(const char *what, int number)
{
	printf("%s %d has changed\n", what, number);
	exit(1);
}

/* SSE, AVX and AVX-512's three (opmasks, upper halves of ZMM0 to 15, ZMM16 to 31), and the x87's. */
static void prepare(bool wide)
{
	unsigned low, high;
	size_t size;

	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	components = low & 0xe7;
	__asm__ volatile("xsave64 %0" : "=m"(in_state) : "a"(components), "d"(0) : "memory");
	fill((uint8_t *)in, sizeof(in));
	uint64_t used = components & (wide ? ~0 : ~0x40);
	memcpy(in_state + 512, &used, 8);
	for (int component = 0; component < 8; component++)
		if (used >> component & 1) {
			size_t at = place(component, &size);
			if (at + size > AREA)
				exit(4);
			fill(in_state + at, size);
		}
	memcpy(in_state, "\x7f\x0f\0\0\xff\0", 6); /* FCW, FSW, FTW: eight valid numbers, made such: */
	for (int i = 0; i < 8; i++) {
		in_state[32 + 16 * i + 7] |= 0x80;
		memset(in_state + 32 + 16 * i + 10, 0, 6);
	}
	memset(in_state + 6, 0, 18);
	memcpy(in_state + 24, "\x80\x3f\0\0", 4); /* MXCSR: rounds up */
}

static void compare(void)
{
	uint64_t used, now;
	size_t size;

	for (int i = 0; i < 16; i++)
		if (i != 4 && in[i] != out[i])
			differs("integer register", i);
	if (out[4] != kept_rsp || (out_flags & 0xed5) != (in_flags & 0xed5))
		differs("stack pointer or flags", 0);
	if (memcmp(in_state, out_state, 5) || memcmp(in_state + 24, out_state + 24, 4))
		differs("control word", 0);
	memcpy(&used, in_state + 512, 8);
	memcpy(&now, out_state + 512, 8);
	for (int component = 0; component < 8; component++) {
		size_t at = place(component, &size);
		if ((used >> component & 1) && (!(now >> component & 1) || memcmp(in_state + at, out_state + at, size)))
			differs("component", component);
		if (!(used >> component & 1) && (now >> component & 1))
			for (size_t i = 0; i < size; i++)
				if (out_state[at + i])
					differs("unused component", component);
	}
}

static void use_registers(void (*scene)(void), bool wide)
{
	uint64_t fs, gs = 0x123456789000, fs_after, gs_after;

	prepare(wide);
	syscall(SYS_arch_prctl, ARCH_SET_GS, gs);
	syscall(SYS_arch_prctl, ARCH_GET_FS, &fs);
	say("ready");
	scene();
	syscall(SYS_arch_prctl, ARCH_GET_FS, &fs_after);
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_after);
	if (got != 1)
		exit(3);
	compare();
	if (fs != fs_after || gs != gs_after)
		differs("segment base", 0);
	printf("components %x\n", components & (wide ? ~0 : ~0x40));
}

static uint8_t saved[AREA] __attribute__((aligned(64)));
static uint64_t pattern[4] = { 0x0123456789abcdef, 0x1122334455667788, 0xfedcba9876543210, 0x8877665544332211 };

/* All but x87 and protection keys, compacted: for as much state as this processor has. */
static void save(void)
{
	__asm__ volatile("vmovdqu %1, %%ymm3\n\txsavec64 %0\n\tvzeroupper"
			 : "+m"(saved) : "m"(pattern), "a"(0xee), "d"(0) : "xmm3");
}

static void use_saved(void)
{
	uint64_t found[4] = { 0 };

	__asm__ volatile("pxor %%xmm3, %%xmm3\n\txrstor64 0x40(%[at],%[index],8)\n\tvmovdqu %%ymm3, %[found]\n\tvzeroupper"
			 : [found] "=m"(found) : [at] "r"(saved - 0x48), [index] "r"(1L), "a"(0xee), "d"(0), "m"(saved)
			 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
			   "xmm13", "xmm14", "xmm15");
	printf("%d\n", memcmp(found, pattern, sizeof found));
}

int main(int argc, char **argv)
{
	static const struct { const char *name; void (*use)(void), (*scene)(void), (*before)(void); } ways[] = {
		{ "avx", use_avx, scene_avx, NULL }, { "avx2", use_avx2, scene_avx2, NULL }, { "avx512", use_avx512, scene_avx512, NULL },
		{ "libc", use_libc, NULL, NULL }, { "saved", use_saved, NULL, save },
	};
	bool registers = argc > 2 && !strcmp(argv[1], "registers");

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (argc > 1 && !strcmp(argv[1 + registers], ways[i].name)) {
			for (int j = 0; j < LENGTH; j++)
				data[j] = next() >> 4;
			if (registers)
				use_registers(ways[i].scene, argc > 3);
			else {
				if (ways[i].before)
					ways[i].before();
				say("ready");
				wait_for_line();
				ways[i].use();
			}
			say("done");
			wait_for_line();
			return 0;
		}
	return 2;
}
