/* Mappings of files show the files: what is written, by whomever, cut off, or added, before and while they are moved around. */
#include "mos.h"
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define PAGE 4096L

static sigjmp_buf back;

static void on_bus(int sig UNUSED)
{
	siglongjmp(back, 1);
}

/* Whether reading this byte raises SIGBUS. */
static bool bus(const volatile char *at)
{
	struct sigaction action = { .sa_handler = on_bus }, before;
	volatile bool raised = true;

	ok(sigaction(SIGBUS, &action, &before));
	if (!sigsetjmp(back, 1)) {
		(void)*at;
		raised = false;
	}
	ok(sigaction(SIGBUS, &before, NULL));
	return raised;
}

/* A file of so many pages, page n full of the letter 'A' + n. */
static int made(const char *name, int pages)
{
	char page[PAGE];
	int fd = ok(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));

	for (int i = 0; i < pages; i++) {
		memset(page, 'A' + i % 26, PAGE);
		write_all(fd, page, PAGE);
	}
	return fd;
}

static volatile char *mapped(int fd, long size, int prot, int flags, long offset)
{
	char *p = mmap(NULL, size, prot, flags, fd, offset);

	check(p != MAP_FAILED);
	return p;
}

static void pause_a_little(void)
{
	rest_ms(seconds < 0.5 ? 1 : 60);
}

static void put(int fd, char c, long at)
{
	equal(pwrite(fd, &c, 1, at), 1);
}

/* Shared for reading, private and untouched: both see all that is written. */
static void written(void)
{
	int fd = made("written", 4);
	volatile char *shared = mapped(fd, 4 * PAGE, PROT_READ, MAP_SHARED, 0);
	volatile char *private = mapped(fd, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	for (int i = 0; i < 8; i++) {
		put(fd, 'a' + i, PAGE + i);
		equal(shared[PAGE + i], 'a' + i);
		equal(private[PAGE + i], 'a' + i);
		pause_a_little();
		equal(shared[PAGE + i], 'a' + i);
		equal(private[PAGE + i], 'a' + i);
		equal(shared[3 * PAGE], 'D');
	}
	ok(munmap((void *)shared, 4 * PAGE));
	ok(munmap((void *)private, 4 * PAGE));
	ok(close(fd));
	ok(unlink("written"));
}

/* What the program has written to its own pages stays, although it is zero, or what the file has there. */
static void own_pages(void)
{
	int fd = made("own", 5);
	volatile char *p = mapped(fd, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	p[PAGE] = 'x';
	memset((char *)p + 2 * PAGE, 0, PAGE);
	p[3 * PAGE] = 'D';
	ok(mprotect((char *)p + 2 * PAGE, PAGE, PROT_READ));
	for (int i = 0; i < 4; i++) {
		put(fd, 'm' + i, 5);
		put(fd, 'n', PAGE);
		put(fd, 'n', 2 * PAGE + 7);
		put(fd, 'n', 3 * PAGE);
		put(fd, 'n' + i, 4 * PAGE);
		pause_a_little();
		equal(p[0], 'A');
		equal(p[5], 'm' + i);
		equal(p[PAGE], 'x');
		equal(p[PAGE + 1], 'B');
		for (int k = 0; k < PAGE; k++)
			equal(p[2 * PAGE + k], 0);
		equal(p[3 * PAGE], 'D');
		equal(p[4 * PAGE], 'n' + i);
	}
	ok(madvise((char *)p + PAGE, 3 * PAGE, MADV_DONTNEED));
	equal(p[PAGE], 'n');
	equal(p[2 * PAGE], 'C');
	equal(p[2 * PAGE + 7], 'n');
	pause_a_little();
	equal(p[3 * PAGE], 'n');
	ok(munmap((void *)p, 5 * PAGE));
	ok(close(fd));
	ok(unlink("own"));
}

static void beyond_the_end(void)
{
	int fd = made("end", 2);
	volatile char *shared = mapped(fd, 8 * PAGE, PROT_READ, MAP_SHARED, 0);
	volatile char *private = mapped(fd, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	private[PAGE] = 'y';
	for (int i = 0; i < 3; i++) {
		check(!bus(shared + PAGE) && !bus(private + PAGE));
		check(bus(shared + 2 * PAGE) && bus(private + 7 * PAGE));
		pause_a_little();
		check(bus(shared + 2 * PAGE) && bus(private + 7 * PAGE));
		ok(ftruncate(fd, 5 * PAGE + 10)); /* more of it, */
		equal(shared[5 * PAGE], 0);
		equal(private[4 * PAGE], 0);
		check(bus(shared + 6 * PAGE));
		put(fd, 'e', 5 * PAGE + 20);
		equal(shared[5 * PAGE + 20], 'e');
		pause_a_little();
		equal(private[5 * PAGE + 20], 'e');
		equal(private[PAGE], i ? 'B' : 'y');
		ok(ftruncate(fd, PAGE)); /* and less: what the program has written there is gone, too */
		check(bus(shared + PAGE) && bus(private + PAGE) && bus(private + 5 * PAGE + 20));
		pause_a_little();
		check(bus(shared + PAGE) && bus(private + PAGE));
		equal(shared[PAGE - 1], 'A');
		ok(ftruncate(fd, 2 * PAGE));
		equal(private[PAGE], 0);
		put(fd, 'B', PAGE);
		equal(private[PAGE], 'B');
	}
	ok(munmap((void *)shared, 8 * PAGE));
	ok(munmap((void *)private, 8 * PAGE));
	ok(close(fd));
	ok(unlink("end"));
}

/* All the calls that write to a file. */
static void ways_to_write(void)
{
	int fd = made("ways", 12), from = made("from", 12), pipes[2], n = 0;
	volatile char *p = mapped(fd, 12 * PAGE, PROT_READ, MAP_SHARED, 0);
	loff_t in = 25 * PAGE / 5, out = 2 * PAGE;
	struct iovec v = { "vec", 3 };

	pause_a_little();
	equal(lseek(fd, n * PAGE, SEEK_SET), n * PAGE);
	equal(write(fd, "one", 3), 3);
	equal(p[n * PAGE + 2], 'e');
	equal(pwritev(fd, &v, 1, ++n * PAGE), 3);
	equal(p[n * PAGE + 2], 'c');
	if (copy_file_range(from, &in, fd, &out, 100, 0) == 100)
		equal(p[2 * PAGE + 99], 'F');
	equal(lseek(fd, 3 * PAGE, SEEK_SET), 3 * PAGE);
	equal(lseek(from, 6 * PAGE, SEEK_SET), 6 * PAGE);
	equal(sendfile(fd, from, NULL, 50), 50);
	equal(p[3 * PAGE + 49], 'G');
	ok(pipe(pipes));
	write_all(pipes[1], "spliced", 7);
	out = 4 * PAGE;
	equal(splice(pipes[0], NULL, fd, &out, 7, 0), 7);
	equal(p[4 * PAGE + 6], 'd');
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * PAGE, PAGE) == 0)
		equal(p[5 * PAGE], 0);
	ok(close(open("ways", O_WRONLY | O_TRUNC)));
	check(bus(p));
	ok(truncate("ways", PAGE));
	equal(p[0], 0);
	ok(close(pipes[0]));
	ok(close(pipes[1]));
	ok(munmap((void *)p, 12 * PAGE));
	ok(close(fd));
	ok(close(from));
	ok(unlink("ways"));
	ok(unlink("from"));
}

static int other_fd;

static int child_writes(void *arg)
{
	put(other_fd, *(char *)arg, 2 * PAGE);
	return 0;
}

static void others_write(void)
{
	int fd = made("others", 3), ends[2];
	volatile char *p = mapped(fd, 3 * PAGE, PROT_READ, MAP_SHARED, 0);
	volatile char *q = mapped(fd, 3 * PAGE, PROT_READ, MAP_PRIVATE, 0);
	char c;

	other_fd = fd;
	for (c = 'a'; c < 'e'; c++) {
		reaped(forked(child_writes, &c), 0);
		equal(p[2 * PAGE], c);
		equal(q[2 * PAGE], c);
	}
	/* another program, which has the file by its name */
	equal(system("printf zzz | dd of=others bs=1 seek=4096 conv=notrunc 2>/dev/null"), 0);
	equal(p[PAGE + 2], 'z');
	equal(q[PAGE], 'z');
	/* a child that has inherited the mapping sees what its parent writes */
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	pid_t child = ok(fork());
	if (child == 0) {
		for (int i = 0; i < 5; i++) {
			if (read(ends[1], &c, 1) != 1 || p[i] != c || q[i] != c)
				_exit(1 + i);
			put(fd, c + 1, PAGE + i);
			if (write(ends[1], &c, 1) != 1)
				_exit(20);
		}
		_exit(0);
	}
	for (int i = 0; i < 5; i++) {
		c = 'p' + i;
		put(fd, c, i);
		write_all(ends[0], &c, 1);
		equal(read_all(ends[0], &c, 1), 1);
		equal(p[PAGE + i], 'q' + i);
		pause_a_little();
	}
	reaped(child, 0);
	ok(close(ends[0]));
	ok(close(ends[1]));
	ok(munmap((void *)p, 3 * PAGE));
	ok(munmap((void *)q, 3 * PAGE));
	ok(close(fd));
	ok(unlink("others"));
}

/* Parts unmapped, protected, moved, covered; a file that has no name and no descriptor any more. */
static void rearranged(void)
{
	int fd = made("parts", 10);
	char *p = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), *moved, *hole;

	check(p != MAP_FAILED);
	ok(unlink("parts"));
	p[9 * PAGE] = 'k';
	hole = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(hole != MAP_FAILED);
	pause_a_little();
	ok(munmap(p + PAGE, PAGE));
	ok(mprotect(p + 2 * PAGE, PAGE, PROT_NONE));
	check(mmap(p + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 3 * PAGE);
	moved = mremap(p + 8 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, hole);
	check(moved == hole);
	check(mmap(p + 5 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == p + 5 * PAGE);
	for (int i = 0; i < 4; i++) {
		put(fd, 'a' + i, 6 * PAGE + i);
		put(fd, 'a' + i, 8 * PAGE + i);
		put(fd, 'a' + i, i);
		pause_a_little();
		equal(p[3 * PAGE], 0);
		equal(p[4 * PAGE], 'E');
		equal(p[5 * PAGE + i], 'a' + i);
		equal(p[6 * PAGE + i], 'a' + i);
		equal(moved[i], 'a' + i);
		equal(moved[PAGE], 'k');
		refused(write(fd, p + PAGE, 1), EFAULT);
	}
	ok(mprotect(p + 2 * PAGE, PAGE, PROT_READ));
	equal(p[2 * PAGE], 'C');
	ok(close(fd));
	pause_a_little();
	equal(p[7 * PAGE + 1], 'H');
	ok(msync(p + 4 * PAGE, 4 * PAGE, MS_SYNC));
	ok(munmap(p, 8 * PAGE));
	ok(munmap(hole, 4 * PAGE));
}

/* A mapping that grows comes to show more of the file. */
static void grown(void)
{
	int fd = made("grown", 150);
	char *p = (char *)mapped(fd, PAGE, PROT_READ, MAP_PRIVATE, PAGE);

	equal(p[0], 'B');
	for (int pages = 40; pages <= 120; pages += 40) {
		p = mremap(p, PAGE * (pages > 40 ? pages - 40 : 1), pages * PAGE, MREMAP_MAYMOVE);
		check(p != MAP_FAILED);
		for (int i = 0; i < pages; i++)
			equal(p[i * PAGE + 7], 'A' + (i + 1) % 26);
		put(fd, 'g', pages * PAGE);
		equal(p[(pages - 1) * PAGE], 'g');
		pause_a_little();
	}
	ok(munmap(p, 120 * PAGE));
	ok(close(fd));
	ok(unlink("grown"));
}

/* Many small ones, and one through which a window moves. */
static void many(void)
{
	int fd = made("many", 200);
	char name[32];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "many%d", i);
		int own = made(name, 1);
		put(own, '0' + i % 10, 3);
		volatile char *p = mapped(own, PAGE, PROT_READ, i & 1 ? MAP_SHARED : MAP_PRIVATE, 0);
		equal(p[3], '0' + i % 10);
		put(own, 'n', 4);
		equal(p[4], 'n');
		ok(munmap((void *)p, PAGE));
		ok(close(own));
		ok(unlink(name));
	}
	for (int i = 0; i < 200; i += 8) {
		volatile char *p = mapped(fd, 4 * PAGE, PROT_READ, MAP_SHARED, i * PAGE);
		for (int k = 0; k < 4; k++)
			equal(p[k * PAGE + 1], 'A' + (i + k) % 26);
		put(fd, 'u', (i + 1) * PAGE);
		equal(p[PAGE], 'u');
		ok(munmap((void *)p, 4 * PAGE));
	}
	ok(close(fd));
	ok(unlink("many"));
}

/* As the kernel refuses them. */
static void refusals(void)
{
	int fd = made("refused", 1), only = ok(open("refused", O_WRONLY)), folder = ok(open(".", O_RDONLY));

	int reader = ok(open("refused", O_RDONLY));
	void *shared = ok(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0)), *sealed = ok(mmap(NULL, PAGE, 0, MAP_SHARED, reader, 0));

	refused(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, only, 0), EACCES);
	refused(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, only, 0), EACCES);
	refused(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, only, 0), EACCES);
	refused(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
	refused(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 999, 0), EBADF);
	for (int i = 0; i < (seconds < 0.5 ? 1 : 4); i++) {
		refused(mprotect(shared, PAGE, PROT_READ | PROT_WRITE), EACCES);
		refused(mprotect(sealed, PAGE, PROT_WRITE), EACCES);
		equal(*(volatile char *)shared, 'A');
		pause_a_little();
	}
	ok(mprotect(sealed, PAGE, PROT_READ));
	equal(*(volatile char *)sealed, 'A');
	ok(munmap(shared, PAGE));
	ok(munmap(sealed, PAGE));
	ok(close(reader));
	refused(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, folder, 0), ENODEV);
	refused(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
	refused(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
	refused(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0), EINVAL);
	refused(mmap((void *)(PAGE * 300 + 1), PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0), EINVAL);
	ok(close(folder));
	ok(close(only));
	ok(close(fd));
	ok(unlink("refused"));
}

/* Whether /proc/self/maps calls the mapping at this address shared, 's', or private, 'p'; and writable, 'w', or not, '-'. */
static void is_called(volatile char *at, char sharing, char writing)
{
	char line[512], right[5] = "";
	unsigned long start = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	check(maps != NULL);
	while (start != (unsigned long)at && fgets(line, sizeof(line), maps))
		sscanf(line, "%lx-%*x %4s", &start, right);
	ok(fclose(maps));
	equal(start, (unsigned long)at);
	equal(right[3], sharing);
	equal(right[1], writing);
}

static int writes_there(void *at)
{
	*(volatile char *)at = 'c';
	return 7;
}

/* Shared, of a file that is open to be written: only read so far, it may be made writable at any time. */
static void made_writable(void)
{
	int fd = made("shared", 3);
	volatile char *p = mapped(fd, 3 * PAGE, PROT_READ, MAP_SHARED, 0);
	char c;

	for (int i = 0; i < (seconds < 0.5 ? 1 : 3); i++) {
		is_called(p, 's', '-');
		put(fd, 'r' + i, PAGE);
		equal(p[PAGE], 'r' + i);
		pause_a_little();
		ok(mprotect((char *)p, 3 * PAGE, PROT_READ | PROT_WRITE));
		is_called(p, 's', 'w');
		p[PAGE + 1] = 'w' + i;
		p[2 * PAGE + 1] = '0' + i;
		equal(pread(fd, &c, 1, PAGE + 1), 1);
		equal(c, 'w' + i);
		reaped(forked(writes_there, (char *)p + 3), 7);
		equal(p[3], 'c');
		equal(pread(fd, &c, 1, 3), 1);
		equal(c, 'c');
		put(fd, '.', 3);
		equal(p[3], '.');
		ok(mprotect((char *)p, 3 * PAGE, PROT_READ));
		pause_a_little();
		equal(p[2 * PAGE + 1], '0' + i);
		equal(pread(fd, &c, 1, 2 * PAGE + 1), 1);
		equal(c, '0' + i);
	}
	ok(munmap((void *)p, 3 * PAGE));
	ok(close(fd));
	ok(unlink("shared"));
}

/* Of how many mappings of the file `name` does /proc tell? */
static int told(const char *name)
{
	char line[PATH_MAX + 200];
	FILE *maps = fopen("/proc/self/maps", "r");
	int found = 0;

	check(maps != NULL);
	while (fgets(line, sizeof line, maps))
		found += strstr(line, name) != NULL;
	fclose(maps);
	return found;
}

/* As a loader does: neighbours alike in all that /proc tells, of which one has been writable. They are never one mapping. */
static void relocated(void)
{
	int fd = made("relocated", 4);
	volatile char *p = mapped(fd, 2 * PAGE, PROT_READ, MAP_PRIVATE, 0);

	ok((long)mmap((char *)p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, PAGE) == -1 ? -1 : 0);
	p[PAGE] = '!';
	ok(mprotect((char *)p + PAGE, PAGE, PROT_READ));
	ok(close(fd));
	for (int i = 0; i < 3; i++) {
		equal(told("/relocated"), 2);
		pause_a_little();
	}
	equal(p[0], 'A');
	equal(p[PAGE], '!');
	ok(munmap((char *)p, 2 * PAGE));
	ok(unlink("relocated"));
}

PROGRAM(PART(written), PART(relocated), PART(made_writable), PART(own_pages), PART(beyond_the_end), PART(ways_to_write), PART(others_write), PART(rearranged), PART(grown), PART(many),
	PART(refusals))
