/* A program whose memory lies in a file that never comes, so that whoever reads or writes there waits.
 *
 *     silent WAY FILE
 *
 * WAY: path (such an address as the name of a file), low (such a page in the place of those that a tracer has, by the 32-bit door),
 * gone (nothing of it; the file is open only), drip (as path, page by page, without end). It says "done" when its call has ended, and waits.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLOCK 0x11000
#define MMAP2_32 192
#define PAGES 256

/* Six arguments of the 32-bit door, the last of which is in a register that the compiler may be using. */
static long map_below(long at, long length, long protection, long flags, long fd)
{
	long result;

	__asm__ volatile("push %%rbp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%rbp"
			 : "=a"(result)
			 : "a"(MMAP2_32), "b"(at), "c"(length), "d"(protection), "S"(flags), "D"(fd)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	int fd = open(argv[2], O_RDWR);
	char *page = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	if (page == MAP_FAILED) {
		perror(argv[2]);
		return 1;
	}
	if (!strcmp(argv[1], "path"))
		open(page, O_RDONLY);
	if (!strcmp(argv[1], "low"))
		map_below(CLOCK, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd);
	if (!strcmp(argv[1], "drip")) {
		char *pages = mmap(NULL, PAGES * 4096, PROT_READ, MAP_PRIVATE, fd, 0);

		madvise(pages, PAGES * 4096, MADV_RANDOM);
		for (int at = 0; at < PAGES; at += 2)
			open(pages + at * 4096, O_RDONLY);
	}
	printf("done\n");
	fflush(stdout);
	for (;;)
		pause();
}
