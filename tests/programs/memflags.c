/* What mmap, madvise and mlock say of memory beside its protection: told by smaps, and by what the kernel does. */
#include "mos.h"
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define PAGE 4096UL
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#define GUARD_INSTALL 102
#define GUARD_REMOVE 103
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define FLAGS_MAX 256

/* VmFlags of the mapping that begins at an address, without what the kernel decides by itself: sd (soft dirty), uw and um (followed). */
static void flags_of(const void *at, char *flags)
{
	char line[512], start[32];
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false;

	check(f != NULL);
	flags[0] = 0;
	snprintf(start, sizeof(start), "%08lx-", (unsigned long)at);
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, start, strlen(start)) == 0)
			here = true;
		if (!here || strncmp(line, "VmFlags:", 8) != 0)
			continue;
		for (char *word = strtok(line + 8, " \n"); word; word = strtok(NULL, " \n"))
			if (strcmp(word, "sd") && strcmp(word, "uw") && strcmp(word, "um"))
				strcat(strcat(flags, word), " ");
		break;
	}
	fclose(f);
	check(flags[0]);
}

static const struct said {
	int prot, flags, advice;
	const char *word;
} all[] = {
	{ 3, ANONYMOUS, -1, "ac" },
	{ 1, ANONYMOUS, -1, "rd" },
	{ 0, ANONYMOUS, -1, "mr" },
	{ 0, ANONYMOUS | MAP_NORESERVE, -1, "nr" },
	{ 3, ANONYMOUS | MAP_NORESERVE, -1, "nr" },
	{ 3, ANONYMOUS | MAP_STACK, -1, "ac" },
	{ 3, ANONYMOUS | MAP_GROWSDOWN, -1, "gd" },
	{ 3, ANONYMOUS | MAP_LOCKED, -1, "lo" },
	{ 3, MAP_DROPPABLE | MAP_ANONYMOUS, -1, "dp" },
	{ 3, ANONYMOUS, MADV_RANDOM, "rr" },
	{ 3, ANONYMOUS, MADV_SEQUENTIAL, "sr" },
	{ 3, ANONYMOUS, MADV_DONTFORK, "dc" },
	{ 3, ANONYMOUS, MADV_DONTDUMP, "dd" },
	{ 3, ANONYMOUS, MADV_WIPEONFORK, "wf" },
	{ 3, ANONYMOUS, MADV_MERGEABLE, "mg" },
	{ 3, ANONYMOUS, MADV_HUGEPAGE, "hg" },
	{ 3, ANONYMOUS, MADV_NOHUGEPAGE, "nh" },
	{ 5, ANONYMOUS, MADV_DONTDUMP, "ex" },
};

/* A mapping with a gap on both sides, so that it stays one; NULL where this kernel does not know the flag. */
static char *alone(const struct said *what, size_t pages)
{
	char *area = ok(mmap(NULL, (pages + 16) * PAGE, 0, ANONYMOUS, -1, 0));

	ok(munmap(area, (pages + 16) * PAGE));
	char *p = mmap(area + 8 * PAGE, pages * PAGE, what->prot, what->flags | MAP_FIXED_NOREPLACE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (what->advice >= 0 && madvise(p, pages * PAGE, what->advice) != 0) {
		ok(munmap(p, pages * PAGE));
		return NULL;
	}
	return p;
}

static void every_flag(void)
{
	char *at[COUNT(all)], before[COUNT(all)][FLAGS_MAX], after[FLAGS_MAX];

	for (size_t i = 0; i < COUNT(all); i++) {
		at[i] = alone(&all[i], 4);
		if (!at[i])
			continue;
		if (all[i].prot & PROT_WRITE)
			memset(at[i], (int)i + 1, 2 * PAGE);
		flags_of(at[i], before[i]);
		if (!strstr(before[i], all[i].word))
			fail("flag %s of case %zu is not in '%s'", all[i].word, i, before[i]);
	}
	for (int round = 0; round < (seconds < 0.5 ? 1 : 4); round++) {
		rest_ms(seconds < 0.5 ? 1 : 150);
		for (size_t i = 0; i < COUNT(all); i++) {
			if (!at[i])
				continue;
			flags_of(at[i], after);
			if (strcmp(before[i], after))
				fail("case %zu (%s): '%s' was '%s'", i, all[i].word, after, before[i]);
			if (all[i].prot & PROT_WRITE && !(all[i].flags & MAP_DROPPABLE))
				equal(at[i][2 * PAGE - 1], i + 1);
		}
	}
	for (size_t i = 0; i < COUNT(all); i++)
		if (at[i])
			ok(munmap(at[i], 4 * PAGE));
}

/* Advice is taken back, and parts of a mapping have different ones. */
static void changed(void)
{
	struct said plain = { 3, ANONYMOUS, -1, "" };
	char *p = alone(&plain, 12), first[FLAGS_MAX], flags[FLAGS_MAX];

	check(p != NULL);
	flags_of(p, first);
	ok(madvise(p, 12 * PAGE, MADV_DONTFORK));
	ok(madvise(p + 4 * PAGE, 4 * PAGE, MADV_DOFORK));
	rest_ms(seconds < 0.5 ? 1 : 120);
	flags_of(p, flags);
	check(strstr(flags, "dc"));
	flags_of(p + 4 * PAGE, flags);
	same(flags, first, strlen(first) + 1);
	flags_of(p + 8 * PAGE, flags);
	check(strstr(flags, "dc"));
	ok(madvise(p, 12 * PAGE, MADV_DOFORK));
	rest_ms(seconds < 0.5 ? 1 : 120);
	flags_of(p, flags);
	same(flags, first, strlen(first) + 1);
	ok(madvise(p, 12 * PAGE, MADV_DONTDUMP));
	check(mmap(p, 12 * PAGE, 3, ANONYMOUS | MAP_FIXED, -1, 0) == p); /* a new mapping has none */
	rest_ms(seconds < 0.5 ? 1 : 120);
	flags_of(p, flags);
	same(flags, first, strlen(first) + 1);
	ok(munmap(p, 12 * PAGE));
}

static char *wiped, *kept, *gone;

static int look(void *unused UNUSED)
{
	unsigned char there;

	equal(wiped[0], 0);
	equal(kept[0], 7);
	refused(mincore(gone, PAGE, &there), ENOMEM);
	rest_ms(seconds < 0.5 ? 1 : 50);
	equal(wiped[PAGE], 0);
	equal(kept[PAGE], 7);
	return 3;
}

static void forks(void)
{
	wiped = ok(mmap(NULL, 4 * PAGE, 3, ANONYMOUS, -1, 0));
	kept = ok(mmap(NULL, 4 * PAGE, 3, ANONYMOUS, -1, 0));
	gone = ok(mmap(NULL, 4 * PAGE, 3, ANONYMOUS, -1, 0));
	ok(madvise(wiped, 4 * PAGE, MADV_WIPEONFORK));
	ok(madvise(gone, 4 * PAGE, MADV_DONTFORK));
	memset(wiped, 7, 4 * PAGE);
	memset(kept, 7, 4 * PAGE);
	memset(gone, 7, 4 * PAGE);
	for (int i = 0; i < (seconds < 0.5 ? 1 : 5); i++) {
		rest_ms(seconds < 0.5 ? 1 : 60);
		reaped(forked(look, NULL), 3);
		equal(wiped[0] + kept[0] + gone[0], 21);
	}
	ok(munmap(wiped, 4 * PAGE));
	ok(munmap(kept, 4 * PAGE));
	ok(munmap(gone, 4 * PAGE));
}

/* MADV_GUARD_INSTALL (Linux 6.13): whoever touches the page gets SIGSEGV, a call EFAULT. */
static void guards(void)
{
	char *p = ok(mmap(NULL, 64 * PAGE, 3, ANONYMOUS, -1, 0));
	int ends[2];

	ok(pipe(ends));
	for (int i = 0; i < 64; i += 4)
		p[i * PAGE] = (char)i;
	if (madvise(p + 8 * PAGE, 2 * PAGE, GUARD_INSTALL) == 0) {
		ok(madvise(p + 20 * PAGE, PAGE, GUARD_INSTALL));
		for (int i = 0; i < (seconds < 0.5 ? 1 : 5); i++) {
			rest_ms(seconds < 0.5 ? 1 : 100);
			refused(write(ends[1], p + 9 * PAGE, 1), EFAULT);
			refused(write(ends[1], p + 20 * PAGE, 1), EFAULT);
			equal(write(ends[1], p + 12 * PAGE, 1), 1);
			equal(p[12 * PAGE] + p[16 * PAGE] + p[24 * PAGE], 12 + 16 + 24);
		}
		ok(madvise(p + 8 * PAGE, 2 * PAGE, GUARD_REMOVE));
		rest_ms(seconds < 0.5 ? 1 : 100);
		equal(p[8 * PAGE], 0);
		p[9 * PAGE] = 1;
		refused(write(ends[1], p + 20 * PAGE, 1), EFAULT);
	}
	ok(close(ends[0]));
	ok(close(ends[1]));
	ok(munmap(p, 64 * PAGE));
}

/* A mapping that grows downward when it is touched below its start. */
static void grows(void)
{
	char *area = ok(mmap(NULL, 4096 * PAGE, 0, ANONYMOUS, -1, 0));

	ok(munmap(area, 4096 * PAGE));
	char *p = mmap(area + 4000 * PAGE, 16 * PAGE, 3, ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	check(p == area + 4000 * PAGE);
	p[0] = 1;
	for (int i = 1; i < 400; i++) {
		*(volatile char *)(p - i * (long)PAGE) = (char)i;
		if (i % 100 == 0)
			rest_ms(seconds < 0.5 ? 1 : 60);
	}
	for (int i = 1; i < 400; i++)
		equal(p[-i * (long)PAGE], (char)i);
	ok(munmap(p - 399 * PAGE, 415 * PAGE));
}

/* More than memory and swap: nothing of it is promised, and some pages are in use. */
static void reserve(void)
{
	size_t n = 3UL << 40;
	char *p = mmap(NULL, n, 3, ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) /* vm.overcommit_memory is 2 */
		return;
	for (size_t at = 0; at < n; at += 1UL << 38)
		datagen(p + at, 2 * PAGE, at);
	rest_ms(seconds < 0.5 ? 1 : 300);
	char copy[2 * PAGE];
	for (size_t at = 0; at < n; at += 1UL << 38) {
		datagen(copy, 2 * PAGE, at);
		same(p + at, copy, 2 * PAGE);
	}
	ok(munmap(p, n));
}

/* Limits below what is in use, or at it, do not hinder a program. */
static int limited(void *unused UNUSED)
{
	struct rlimit small = { 4 << 20, RLIM_INFINITY }, old;

	ok(getrlimit(RLIMIT_DATA, &old));
	small.rlim_max = old.rlim_max;
	char *p = ok(mmap(NULL, 8 << 20, 3, ANONYMOUS, -1, 0));
	uint64_t sum = datagen(p, 8 << 20, 5);
	ok(setrlimit(RLIMIT_DATA, &small));
	rest_ms(seconds < 0.5 ? 1 : 300);
	refused((long)mmap(NULL, 8 << 20, 3, ANONYMOUS, -1, 0), ENOMEM);
	ok(getrlimit(RLIMIT_DATA, &old));
	equal(old.rlim_cur, 4 << 20);
	equal(datasum(p, 8 << 20), sum);
	return 4;
}

static int full(void *unused UNUSED)
{
	struct rlimit hard = { 40 << 20, 40 << 20 };

	ok(setrlimit(RLIMIT_DATA, &hard));
	while (sbrk(PAGE) != (void *)-1)
		;
	rest_ms(seconds < 0.5 ? 1 : 300);
	check(sbrk(PAGE) == (void *)-1);
	return 5;
}

/* Who is not root locks as much memory as its limit says, the one of now. */
static int locking(void *unused UNUSED)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *at = mmap(NULL, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rlimit was, now;

	check(at != MAP_FAILED);
	if (geteuid() == 0) {
		ok(setgid(65534));
		ok(setuid(65534));
	}
	ok(getrlimit(RLIMIT_MEMLOCK, &was));
	now = (struct rlimit){ 16 * page, was.rlim_max };
	ok(setrlimit(RLIMIT_MEMLOCK, &now));
	for (int i = 0; i < (seconds < 0.5 ? 1 : 4); i++) {
		refused(mlock(at, 32 * page), ENOMEM);
		ok(mlock(at, 8 * page));
		rest_ms(seconds < 0.5 ? 1 : 60);
		ok(munlock(at, 8 * page));
	}
	now = (struct rlimit){ 0, 0 };
	ok(prlimit(0, RLIMIT_MEMLOCK, &now, &was));
	equal(was.rlim_cur, 16 * page);
	rest_ms(seconds < 0.5 ? 1 : 60);
	refused(mlock(at, page), EPERM);
	return 6;
}

static void limits(void)
{
	reaped(forked(limited, NULL), 4);
	reaped(forked(full, NULL), 5);
	reaped(forked(locking, NULL), 6);
}

/* Programs that look for the vDSO in maps find it there, once, where the kernel has told them that it is; and it stays. */
static void vdso(void)
{
	const unsigned char *told = (const unsigned char *)getauxval(AT_SYSINFO_EHDR), *first = NULL;

	for (int i = 0; i < (seconds < 0.5 ? 2 : 4); i++) {
		char line[512];
		unsigned long start = 0, end = 0, found = 0;
		FILE *f = fopen("/proc/self/maps", "r");

		check(f != NULL);
		while (fgets(line, sizeof(line), f))
			if (strstr(line, "[vdso]")) {
				equal(sscanf(line, "%lx-%lx r-xp", &start, &end), 2);
				found++;
			}
		fclose(f);
		equal(found, 1);
		equal(start, (unsigned long)told);
		check(end > start);
		first = first ? first : (const unsigned char *)start;
		same(first, "\177ELF", 4);
		equal(first[end - start - 1], first[end - start - 1]);
		rest_ms(seconds < 0.5 ? 1 : 100);
	}
}

/* What prctl says of memory and processor, which forks inherit. */
static int settings_of(void *unused UNUSED)
{
	int huge = ok(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)), bypass = prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0);

	ok(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	if (bypass > 0 && bypass & PR_SPEC_PRCTL)
		ok(prctl(PR_SET_SPECULATION_CTRL, 0, PR_SPEC_DISABLE, 0, 0));
	for (int i = 0; i < (seconds < 0.5 ? 1 : 5); i++) {
		rest_ms(seconds < 0.5 ? 1 : 60);
		equal(ok(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)), 1);
		if (bypass > 0 && bypass & PR_SPEC_PRCTL)
			equal(prctl(PR_GET_SPECULATION_CTRL, 0, 0, 0, 0), PR_SPEC_PRCTL | PR_SPEC_DISABLE);
	}
	ok(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
	rest_ms(seconds < 0.5 ? 1 : 60);
	equal(ok(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0)), 0);
	ok(prctl(PR_SET_THP_DISABLE, huge, 0, 0, 0));
	return 6;
}

/* Huge pages are there or not, as the home-node has them. */
static void huge(void)
{
	size_t size = 2 << 20;
	char *p = mmap(NULL, size, 3, ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (p == MAP_FAILED) {
		check(errno == ENOMEM || errno == EINVAL);
		return;
	}
	p[1] = 4;
	rest_ms(seconds < 0.5 ? 1 : 60);
	equal(p[1], 4);
	ok(munmap(p, size));
}

static void settings(void)
{
	reaped(forked(settings_of, NULL), 6);
}

PROGRAM(PART(every_flag), PART(changed), PART(forks), PART(guards), PART(grows), PART(reserve), PART(limits), PART(vdso), PART(settings),
	PART(huge))
