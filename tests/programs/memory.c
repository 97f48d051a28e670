/* Memory: heap, break, maps of all kinds, stack; contents are checked after they were moved around. */
#include "mos.h"
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096UL

static char *map(size_t n, int prot)
{
	char *p = mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED);
	return p;
}

static void heap(void)
{
	char *blocks[500];
	uint64_t sums[500];

	for (int i = 0; i < 500; i++) {
		size_t n = 16 + (i * 37 % 97) * 160;
		blocks[i] = malloc(n);
		check(blocks[i] != NULL);
		sums[i] = datagen(blocks[i], n, i);
	}
	for (int i = 0; i < 500; i += 2)
		free(blocks[i]);
	for (int i = 1; i < 500; i += 2) {
		size_t n = 16 + (i * 37 % 97) * 160;
		check(datasum(blocks[i], n) == sums[i]);
		blocks[i] = realloc(blocks[i], n * 3);
		check(blocks[i] != NULL && datasum(blocks[i], n) == sums[i]);
		free(blocks[i]);
	}
	malloc_trim(0);
}

static void growth(void)
{
	size_t n = (size_t)(seconds < 0.3 ? 20 : 300) << 20;
	char *p = malloc(n);

	check(p != NULL);
	for (size_t at = 0; at < n; at += PAGE)
		*(uint64_t *)(p + at + 16) = at * 2654435761u;
	for (size_t at = 0; at < n; at += PAGE)
		check(*(uint64_t *)(p + at + 16) == at * 2654435761u);
	free(p);
}

static void program_break(void)
{
	char *before = sbrk(0);

	check(sbrk(1 << 20) == before);
	check((char *)sbrk(0) == before + (1 << 20));
	uint64_t sum = datagen(before, 1 << 20, 9);
	check(sbrk(3 << 20) != (void *)-1);
	check(datasum(before, 1 << 20) == sum);
	for (size_t i = 1 << 20; i < 4 << 20; i += PAGE)
		equal(before[i], 0);
	ok(brk(before + (1 << 19)));
	check(sbrk(0) == before + (1 << 19));
	check(sbrk(1 << 19) == before + (1 << 19));
	for (size_t i = 1 << 19; i < 1 << 20; i += PAGE)
		equal(before[i], 0);
	ok(brk(before));
}

static void mapping(void)
{
	char *p = map(64 * PAGE, PROT_READ | PROT_WRITE);
	uint64_t sum = datagen(p, 64 * PAGE, 2);
	char *target = map(128 * PAGE, PROT_NONE);

	ok(munmap(p + 10 * PAGE, PAGE));
	char *again = mmap(p + 10 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	check(again == p + 10 * PAGE);
	equal(again[5], 0);
	refused(mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	sum = datagen(p, 64 * PAGE, 3);
	ok(mprotect(p + 3 * PAGE, 2 * PAGE, PROT_READ));
	check(datasum(p, 64 * PAGE) == sum);
	ok(mprotect(p + 3 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
	p = mremap(p, 64 * PAGE, 100 * PAGE, MREMAP_MAYMOVE);
	check(p != MAP_FAILED && datasum(p, 64 * PAGE) == sum);
	equal(p[99 * PAGE], 0);
	p = mremap(p, 100 * PAGE, 64 * PAGE, 0);
	check(p != MAP_FAILED);
	p = mremap(p, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + 20 * PAGE);
	check(p == target + 20 * PAGE && datasum(p, 64 * PAGE) == sum);
	ok(madvise(p, 8 * PAGE, MADV_DONTNEED));
	for (size_t i = 0; i < 8 * PAGE; i += 100)
		equal(p[i], 0);
	ok(madvise(p, 64 * PAGE, MADV_WILLNEED));
	refused(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	ok(munmap(target, 128 * PAGE));
	refused(msync(target + 64 * PAGE, PAGE, MS_SYNC), ENOMEM);
	refused(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	refused(mprotect((void *)PAGE, 17, PROT_READ), ENOMEM);
	refused(munmap((void *)1, PAGE), EINVAL);
}

#define BLOCK 24UL

/* One mapping, in which pages have been unreadable, or gone, for a while in which the program may be moved. */
static char *mended(uint64_t *sum)
{
	char *p = map(3 * BLOCK * PAGE, PROT_READ | PROT_WRITE);

	datagen(p, BLOCK * PAGE, 5);
	ok(munmap(p + BLOCK * PAGE, 2 * BLOCK * PAGE)); /* room to grow */
	ok(mprotect(p + 4 * PAGE, 3 * PAGE, PROT_NONE));
	ok(munmap(p + 11 * PAGE, 2 * PAGE));
	rest_ms(seconds < 0.5 ? 1 : 40);
	ok(mprotect(p + 4 * PAGE, 3 * PAGE, PROT_READ | PROT_WRITE));
	check(mmap(p + 11 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 11 * PAGE);
	*sum = datagen(p, BLOCK * PAGE, 6);
	rest_ms(seconds < 0.5 ? 1 : 20);
	return p;
}

static bool gone(char *p, size_t n)
{
	for (size_t i = 0; i < n; i += PAGE)
		if (msync(p + i, PAGE, MS_ASYNC) == 0 || errno != ENOMEM)
			return false;
	return true;
}

static void empty(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		equal(p[i], 0);
}

/* mremap(2) over what is one mapping, wherever it was. */
static void remapped(void)
{
	uint64_t sum;
	const size_t n = BLOCK * PAGE;
	char *q, *p = mended(&sum);

	check(mremap(p, n, 2 * n, 0) == p && datasum(p, n) == sum); /* in its place */
	empty(p + n, n);
	check(mmap(p + 2 * n, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p + 2 * n);
	refused(mremap(p, 2 * n, 3 * n, 0), ENOMEM);
	q = mremap(p, 2 * n, 3 * n, MREMAP_MAYMOVE);
	check(q != MAP_FAILED && q != p && datasum(q, n) == sum && gone(p, 2 * n));
	empty(q + n, 2 * n);
	check(mremap(q, 3 * n, n, 0) == q && datasum(q, n) == sum && gone(q + n, 2 * n));
	ok(munmap(q, n));
	ok(munmap(p + 2 * n, PAGE));

	char *target = map(3 * n, PROT_NONE);
	for (size_t m = n / 2; m <= 2 * n; m *= 2) { /* shrinks, moves, grows */
		size_t kept = m < n ? m : n;
		char *copy = malloc(n);
		p = mended(&sum);
		memcpy(copy, p, n);
		check(mremap(p, n, m, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE) == target + PAGE);
		same(target + PAGE, copy, kept);
		empty(target + PAGE + kept, m - kept);
		check(gone(p, n));
		free(copy);
	}
	p = mended(&sum);
	q = mremap(p, n, n, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	check(q != MAP_FAILED && q != p && datasum(q, n) == sum);
	empty(p, n);
	ok(munmap(q, n));
	ok(munmap(p, n));

	p = mended(&sum); /* a part of it, in the middle of its ends */
	char *copy = malloc(n);
	memcpy(copy, p, n);
	q = mremap(p + 2 * PAGE, 12 * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
	check(q != MAP_FAILED);
	same(q, copy + 2 * PAGE, 12 * PAGE);
	empty(q + 12 * PAGE, 8 * PAGE);
	check(gone(p + 2 * PAGE, 12 * PAGE));
	same(p, copy, 2 * PAGE);
	same(p + 14 * PAGE, copy + 14 * PAGE, n - 14 * PAGE);
	ok(munmap(p, n));
	ok(munmap(q, 20 * PAGE));
	free(copy);

	p = mended(&sum); /* what differs is not one mapping */
	ok(mprotect(p + 8 * PAGE, PAGE, PROT_READ));
	refused(mremap(p, n, 2 * n, MREMAP_MAYMOVE), EFAULT);
	ok(munmap(p + 8 * PAGE, PAGE));
	refused(mremap(p, n, 2 * n, MREMAP_MAYMOVE), EFAULT);
	refused(mremap(p, n, n, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE), EINVAL);
	ok(munmap(p, n));
	ok(munmap(target, 3 * n));
}

/* The same with a mapping of a file. */
static void file_remapped(void)
{
	const size_t n = BLOCK * PAGE;
	char *data = malloc(2 * n), *p, *q;
	int fd = ok(open("remapped", O_RDWR | O_CREAT | O_TRUNC, 0600));

	datagen(data, 2 * n, 8);
	write_all(fd, data, 2 * n);
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	check(p != MAP_FAILED);
	for (size_t i = 0; i < n; i += 3 * PAGE)
		p[i] = data[i] = 'p';
	ok(mprotect(p + 5 * PAGE, 2 * PAGE, PROT_NONE));
	rest_ms(seconds < 0.5 ? 1 : 40);
	ok(mprotect(p + 5 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
	q = mremap(p, n, 2 * n, MREMAP_MAYMOVE);
	check(q != MAP_FAILED);
	same(q, data, 2 * n);
	rest_ms(seconds < 0.5 ? 1 : 20);
	same(q, data, 2 * n);
	ok(munmap(q, 2 * n));
	ok(close(fd));
	ok(unlink("remapped"));
	free(data);
}

static void files_mapped(void)
{
	size_t n = 50 * PAGE + 100;
	char *data = malloc(n);

	datagen(data, n, 11);
	int fd = ok(open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600));
	write_all(fd, data, n);
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	char *half = mmap(NULL, 10 * PAGE, PROT_READ, MAP_PRIVATE, fd, 20 * PAGE);
	check(p != MAP_FAILED && half != MAP_FAILED);
	int ro = ok(open("mapped", O_RDONLY));
	char *shared = mmap(NULL, n, PROT_READ, MAP_SHARED, ro, 0);
	check(shared != MAP_FAILED);
	ok(close(ro));
	same(p, data, n);
	same(half, data + 20 * PAGE, 10 * PAGE);
	same(shared, data, n);
	for (size_t i = n; i < 51 * PAGE; i++)
		equal(p[i], 0);
	memset(p + 7 * PAGE, 'x', PAGE);
	same(half, data + 20 * PAGE, 10 * PAGE);
	char c;
	equal(pread(fd, &c, 1, 7 * PAGE), 1);
	equal(c, data[7 * PAGE]);
	ok(close(fd));
	ok(unlink("mapped"));
	same(p, data, 7 * PAGE);
	equal(p[7 * PAGE + 5], 'x');
	same(p + 8 * PAGE, data + 8 * PAGE, n - 8 * PAGE);
	ok(munmap(p, n));
	ok(munmap(half, 10 * PAGE));
	ok(munmap(shared, n));
	fd = ok(open("/proc/self/exe", O_RDONLY));
	p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	check(p != MAP_FAILED && memcmp(p, "\177ELF", 4) == 0);
	ok(munmap(p, PAGE));
	ok(close(fd));
	free(data);
}

static void reserves(void)
{
	size_t n = 8UL << 30;
	char *p = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	check(p != MAP_FAILED);
	for (size_t at = 0; at < n; at += 1UL << 30) {
		ok(mprotect(p + at, 4 * PAGE, PROT_READ | PROT_WRITE));
		datagen(p + at, 4 * PAGE, at);
	}
	char copy[4 * PAGE];
	for (size_t at = 0; at < n; at += 1UL << 30) {
		datagen(copy, 4 * PAGE, at);
		same(p + at, copy, 4 * PAGE);
	}
	ok(munmap(p, n));
}

static void code(void)
{
	static const unsigned char add[] = { 0x8d, 0x04, 0x37, 0xc3 }; /* lea (%rdi,%rsi),%eax; ret */
	char *p = map(PAGE, PROT_READ | PROT_WRITE);

	memcpy(p, add, sizeof(add));
	ok(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	for (int i = 0; i < 1000; i++)
		equal(((int (*)(int, int))p)(i, 41), i + 41);
	ok(munmap(p, PAGE));
}

static __attribute__((noinline)) uint64_t deep(int left, uint64_t seed)
{
	volatile uint64_t frame[60];

	for (int i = 0; i < 60; i++)
		frame[i] = seed + i;
	uint64_t below = left ? deep(left - 1, seed * 3 + 1) : 0, sum = 0;
	for (int i = 0; i < 60; i++)
		sum += frame[i];
	if (sum != 60 * seed + 1770)
		fail("a stack frame %d above the last has changed", left);
	return below + sum;
}

static void stack(void)
{
	struct rlimit limit;

	ok(getrlimit(RLIMIT_STACK, &limit));
	check(limit.rlim_cur >= 7 << 20);
	uint64_t first = deep(11500, 1);
	check(deep(11500, 1) == first);
}

static void random_data(void)
{
	static char data[20 << 20];
	uint64_t sum = datagen(data, sizeof(data), 77);

	for (int i = 0; i < 4; i++) {
		check(datasum(data, sizeof(data)) == sum);
		data[i * 5000000] ^= 1;
		check(datasum(data, sizeof(data)) != sum);
		data[i * 5000000] ^= 1;
	}
}

/* Some programs lay themselves out at fixed low addresses (valgrind's client begins at 0x108000). */
static void low_addresses(void)
{
	unsigned char *low = mmap((void *)0x108000, 0x80000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	uint64_t sum;

	equal((long)low, 0x108000);
	sum = datagen(low, 0x80000, 7);
	rest_ms(seconds < 0.5 ? 1 : 100);
	equal(datasum(low, 0x80000), sum);
	ok(munmap(low, 0x80000));
}

static volatile sig_atomic_t heard;

static void hear(int sig)
{
	(void)sig;
	heard++;
}

/* Below that there is nothing of the program's, whatever is mapped there meanwhile, and calls over it leave that as it is. */
static void nothing_below(void)
{
	char *const bottom = (char *)0x10000, *above = (char *)0x101000;

	for (int i = 0; i < 3; i++) {
		equal((long)mmap(above, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), (long)above);
		memset(above, 'x', PAGE);
		/* to the end of the mapping above, which goes on being touched as natively */
		refused(mprotect(bottom, above + PAGE - bottom, PROT_READ), ENOMEM);
		refused(syscall(SYS_pkey_mprotect, bottom, PAGE, PROT_NONE, -1), ENOMEM);
		equal(above[0], 'x');
		above[0] = 'x';
		refused(madvise(bottom, above + PAGE - bottom, MADV_DONTNEED), ENOMEM);
		equal(above[0], 0);
		refused(madvise(bottom, PAGE, 12345), EINVAL);
		refused(madvise(bottom, PAGE, MADV_DONTNEED), ENOMEM);
		refused(mprotect(bottom + 1, PAGE, PROT_READ), EINVAL);
		refused(munmap(bottom + 1, PAGE), EINVAL);
		refused(munmap(bottom, -1L), EINVAL);
		refused(munmap(bottom, 0), EINVAL);
		ok(mprotect(bottom, 0, PROT_READ));
		check(mremap(bottom, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
		check(mmap(bottom + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED && errno == EINVAL);
		ok(munmap(bottom, PAGE));
		ok(munmap(bottom, above + PAGE - bottom));
		refused(mprotect(above, PAGE, PROT_READ), ENOMEM);
		/* what is done to the program from outside still works */
		heard = 0;
		signal(SIGUSR1, hear);
		ok(kill(getpid(), SIGUSR1));
		equal(heard, 1);
		signal(SIGUSR1, SIG_DFL);
		rest_ms(seconds < 0.5 ? 1 : 50);
	}
}

PROGRAM(PART(low_addresses), PART(nothing_below), PART(heap), PART(growth), PART(program_break), PART(mapping), PART(remapped), PART(file_remapped),
	PART(files_mapped), PART(reserves), PART(code), PART(stack),
	PART(random_data))
