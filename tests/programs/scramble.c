/* scramble FILE: for each byte on stdin a few dozen random things are done to the memory, then the byte is sent back. Not a test by itself:
 * tests/t2_precopy.py copies the memory meanwhile. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL
#define PAGES 256UL
#define FILE_PAGES 24UL

static uint32_t state;

static uint32_t below(uint32_t n)
{
	state = state * 1664525 + 1013904223;
	return (state >> 8) % n;
}

static char *arena, *place;
static int file;

/* as mprotect(2) has it */
static int prot[PAGES];

static void set(unsigned first, unsigned count, int value)
{
	while (count--)
		prot[first++] = value;
}

static void one_thing(void)
{
	unsigned first = below(PAGES), count = 1 + below(12), i;
	char *at = arena + first * PAGE;

	if (first + count > PAGES)
		count = PAGES - first;
	switch (below(11)) {
	case 0: case 1: case 2: case 3:
		for (i = 0; i < count; i++)
			if (prot[first + i] == 3)
				memset(at + i * PAGE + below(PAGE - 64), 1 + below(255), 1 + below(64));
		break;
	case 4:
		for (i = 0; i < count; i++)
			if (prot[first + i] == 3)
				memset(at + i * PAGE, 0, PAGE);
		break;
	case 5:
		madvise(at, count * PAGE, MADV_DONTNEED);
		break;
	case 6:
		munmap(at, count * PAGE);
		if (mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
			abort();
		set(first, count, 3);
		break;
	case 7: {
		int p = below(3) ? PROT_READ | PROT_WRITE : below(2) ? PROT_READ : PROT_NONE;
		if (mprotect(at, count * PAGE, p) == 0)
			set(first, count, p);
		break;
	}
	case 8: {
		int p = below(2) ? PROT_READ : PROT_READ | PROT_WRITE;
		if (mmap(at, count * PAGE, p, MAP_PRIVATE | MAP_FIXED, file, below(FILE_PAGES - 12) * PAGE) != at)
			abort();
		set(first, count, p);
		break;
	}
	case 9:
		if (mremap(at, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place) {
			if (mremap(place, count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at)
				abort();
		} else if (mmap(at, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at)
			set(first, count, 3);
		break;
	default: {
		char *block = malloc(1 + below(200000));
		if (block) {
			*block = 1;
			if (below(2))
				free(block);
		}
	}
	}
}

int main(int argc, char **argv)
{
	unsigned char seed;

	if (argc != 2 || (file = open(argv[1], O_RDONLY)) < 0)
		return 2;
	arena = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	place = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED || place == MAP_FAILED)
		return 2;
	munmap(place, PAGES * PAGE);
	set(0, PAGES, 3);
	while (read(0, &seed, 1) == 1) {
		state = state * 31 + seed;
		for (int i = 0; i < 40; i++)
			one_thing();
		if (write(1, &seed, 1) != 1)
			return 1;
	}
	return 0;
}
