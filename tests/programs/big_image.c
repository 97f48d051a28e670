/* A large image: random memory, checked over and over while some of it changes. Megabytes in $MOS_MB (default 16). */
#include "mos.h"
#include <sys/mman.h>

static char *image;
static uint64_t *sums;
static size_t megabytes;

static void whole_image(void)
{
	static uint64_t turn;

	if (!image) {
		const char *mb = getenv("MOS_MB");
		megabytes = mb ? strtoul(mb, NULL, 10) : 16;
		image = mmap(NULL, megabytes << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		sums = calloc(megabytes, sizeof(*sums));
		check(image != MAP_FAILED && sums);
		for (size_t i = 0; i < megabytes; i++)
			sums[i] = datagen(image + (i << 20), 1 << 20, i);
	}
	for (size_t i = 0; i < megabytes; i++) {
		if (datasum(image + (i << 20), 1 << 20) != sums[i])
			fail("megabyte %zu has changed", i);
		if (i % 8 == turn % 8)
			sums[i] = datagen(image + (i << 20), 1 << 20, i + turn * 1000);
	}
	turn++;
}

PROGRAM(PART(whole_image))
