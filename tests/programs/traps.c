/* Traps: int3, icebp, the trap flag and illegal instructions, in code that is made anew for each seed.
 *
 * A handler notes where each trap is and what the kernel says of it. The notes of every round are those of the first, and what is
 * printed of them is compared with the native run.
 */
#include "mos.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>

enum { SEEDS = 12, SNIPPETS = 60, NOTES = 4096 };

#define CODE(bytes) { bytes, sizeof(bytes) - 1 }
#define TRAP_ON "\x9c\x81\x0c\x24\x00\x01\x00\x00\x9d"  /* pushf; orl $0x100,(%rsp); popf */
#define TRAP_OFF "\x9c\x81\x24\x24\xff\xfe\xff\xff\x9d" /* pushf; andl $~0x100,(%rsp); popf */
#define INT3 "\xcc"
#define ICEBP "\xf1\x90" /* icebp; nop */
#define UD2 "\x0f\x0b"
#define FORK "\xb8\x39\x00\x00\x00\x0f\x05"
#define RET "\xc3"

static const struct { const char *bytes; size_t size; } snippets[] = {
	CODE("\x90"), CODE("\xff\xc0"), CODE(TRAP_ON), CODE(TRAP_ON), CODE(TRAP_OFF), CODE(INT3), CODE(ICEBP), CODE(UD2),
	CODE("\xb8\x6e\x00\x00\x00\x0f\x05"),                         /* getppid() */
	CODE("\xb8\x18\x00\x00\x00\x0f\x05"),                         /* sched_yield() */
	CODE("\xb8\x02\x00\x00\x00\x31\xff\x31\xf6\x31\xd2\x0f\x05"), /* open(NULL, 0, 0) */
	CODE("\xb8\x01\x00\x00\x00\xbf\xff\xff\xff\xff\x0f\x05"),     /* write(-1, ...) */
	CODE("\x48\x89\xe6\xb9\x03\x00\x00\x00\xf3\xac"),             /* mov %rsp,%rsi; mov $3,%ecx; rep lodsb */
};

static struct note { int sig, code, at; bool step; } notes[NOTES];
static volatile int noted;
static char *code;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	if (sig == SIGTRAP && info->si_code == TRAP_BRKPT && *(char *)regs[REG_RIP] == ICEBP[0])
		regs[REG_RIP]++; /* some virtual machines tell it before the instruction, and would for ever */
	if (noted < NOTES)
		notes[noted++] = (struct note){ sig, info->si_code, (int)(regs[REG_RIP] - (long)code), regs[REG_EFL] & 0x100 };
	if (sig == SIGILL)
		regs[REG_RIP] += 2;
}

static void watch(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	ok(sigaction(SIGTRAP, &action, NULL));
	ok(sigaction(SIGILL, &action, NULL));
}

static void fresh(void)
{
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(code != MAP_FAILED);
}

static long run(void)
{
	long result;
	__asm__ volatile("sub $128,%%rsp; call *%1; add $128,%%rsp" : "=a"(result) : "r"(code)
			 : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

static uint32_t next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 16;
}

static uint64_t sum_of_notes(void)
{
	uint64_t sum = 1469598103934665603UL;
	for (int i = 0; i < noted; i++) {
		const int words[] = { notes[i].sig, notes[i].code, notes[i].at, notes[i].step };
		for (size_t w = 0; w < COUNT(words); w++)
			sum = (sum ^ (uint32_t)words[w]) * 1099511628211UL;
	}
	return sum;
}

static void generated(void)
{
	static uint64_t first[SEEDS];
	fresh();
	watch(on_trap);
	for (uint32_t seed = 0; seed < SEEDS; seed++) {
		uint32_t state = seed;
		char *end = code;
		for (int i = 0; i < SNIPPETS; i++) {
			size_t n = next(&state) % COUNT(snippets);
			memcpy(end, snippets[n].bytes, snippets[n].size);
			end += snippets[n].size;
		}
		memcpy(end, TRAP_OFF RET, sizeof(TRAP_OFF RET));
		noted = 0;
		run();
		check(noted > 0 && noted < NOTES);
		if (mos_first)
			first[seed] = sum_of_notes();
		announce("%u: %d traps, %016lx\n", seed, noted, first[seed]);
		if (sum_of_notes() != first[seed])
			for (int i = 0; i < noted; i++)
				fprintf(stderr, "%d: %d %d %d %d\n", i, notes[i].sig, notes[i].code, notes[i].at, notes[i].step);
		equal((long)sum_of_notes(), (long)first[seed]);
	}
	ok(munmap(code, 4096));
}

static const struct { const char *name, *bytes; } ends[] = {
	{ "int3", INT3 RET }, { "icebp", ICEBP RET }, { "trap flag", TRAP_ON RET }, { "ud2", UD2 RET },
};

/* What ends a program that has no handler, ignores the signal, or blocks it. */
static void without_a_handler(void)
{
	fresh();
	for (size_t i = 0; i < COUNT(ends); i++)
		for (int how = 0; how < 3; how++) {
			int sig = ends[i].bytes[0] == UD2[0] ? SIGILL : SIGTRAP, status;
			pid_t child = ok(fork());
			if (!child) {
				struct rlimit none = { 0, 0 };
				sigset_t set;
				setrlimit(RLIMIT_CORE, &none);
				signal(sig, how == 1 ? SIG_IGN : SIG_DFL);
				sigemptyset(&set);
				sigaddset(&set, sig);
				sigprocmask(how == 2 ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
				memcpy(code, ends[i].bytes, 16);
				run();
				_exit(77);
			}
			ok(waitpid(child, &status, 0));
			announce("%s, %s: %d\n", ends[i].name, how ? how == 1 ? "ignored" : "blocked" : "default", status & 0x7f);
			check(WIFSIGNALED(status) && WTERMSIG(status) == sig);
		}
	ok(munmap(code, 4096));
}

/* A child that is born while its parent is single-stepped is so too. */
static void forked_while_stepping(void)
{
	int status;
	fresh();
	watch(on_trap);
	memcpy(code, TRAP_ON FORK TRAP_OFF RET, sizeof(TRAP_ON FORK TRAP_OFF RET));
	noted = 0;
	long child = run();
	if (!child)
		_exit(noted);
	check(child > 0);
	int mine = noted;
	ok(waitpid((pid_t)child, &status, 0));
	check(WIFEXITED(status));
	announce("%d traps, and %d in the child\n", mine, WEXITSTATUS(status));
	ok(munmap(code, 4096));
}

/* The program that is executed then is not. */
static void executed_while_stepping(void)
{
	static char *const argv[] = { "true", NULL };
	static const char path[] = "/bin/true";
	int status;
	fresh();
	watch(on_trap);
	pid_t child = ok(fork());
	if (!child) {
		char *end = code;
		const uint64_t words[] = { (uint64_t)path, (uint64_t)argv, 0 };
		const char moves[][2] = { "\xbf", "\xbe", "\xba" };
		memcpy(end, TRAP_ON, sizeof(TRAP_ON) - 1);
		end += sizeof(TRAP_ON) - 1;
		for (int i = 0; i < 3; i++) {
			*end++ = 0x48;
			*end++ = moves[i][0];
			memcpy(end, &words[i], 8);
			end += 8;
		}
		memcpy(end, "\xb8\x3b\x00\x00\x00\x0f\x05" TRAP_OFF RET, 7 + sizeof(TRAP_OFF RET));
		run();
		_exit(77);
	}
	ok(waitpid(child, &status, 0));
	announce("status %x\n", (unsigned)status);
	check(status == 0);
	ok(munmap(code, 4096));
}

PROGRAM(PART(generated), PART(without_a_handler), PART(forked_while_stepping), PART(executed_while_stepping))
