/* A program that puts code of its own where a tracer or host injects its calls, and so answers in the kernel's place.
 *
 *     [STAY=1] stub WAY CODE NUMBER [FILE]
 *
 * Then it does what makes a tracer inject calls (it opens a file about its own memory), and under STAY waits for five SIGUSR1, for
 * each of which a host injects some.
 *
 * WAY how the code comes there: map (mmap MAP_FIXED), move (mremap), protect (mprotect), mem (/proc/self/mem), thread (that, by another),
 * sibling (that, by a process with the same memory), child (that, by a process with its own), old (mmap2 by the 32-bit door).
 * CODE what it does: number (every call returns NUMBER; 77 is FILE, opened to read, 78 a pipe, 79 a file in memory), loop, ill, segv,
 * sleep (pause(2) for ever), forged (a call that is none).
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STUB 0x10000

static unsigned char code[256];
static size_t length;
static volatile sig_atomic_t caught;

static void put(const void *bytes, size_t n)
{
	memcpy(code + length, bytes, n);
	length += n;
}

static void put32(uint32_t word) { put(&word, 4); }

#define PUT(...) do { const unsigned char bytes[] = { __VA_ARGS__ }; put(bytes, sizeof bytes); } while (0)

static void magic(void) { PUT(0xb8, 0xff, 0x01, 0, 0, 0x0f, 0x05, 0xf4); } /* mov $0x1ff,%eax; syscall; hlt */

static void compose(const char *what, uint32_t number)
{
	if (!strcmp(what, "number")) {
		PUT(0xbf); /* mov $number,%edi */
		put32(number);
		magic();
	} else if (!strcmp(what, "loop"))
		PUT(0xeb, 0xfe);
	else if (!strcmp(what, "ill"))
		PUT(0x0f, 0x0b);
	else if (!strcmp(what, "segv"))
		PUT(0x31, 0xc0, 0xff, 0xe0); /* xor %eax,%eax; jmp *%rax */
	else if (!strcmp(what, "sleep"))
		PUT(0x31, 0xff, 0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7);
	else if (!strcmp(what, "forged"))
		PUT(0xb8, 0xf3, 0x01, 0, 0, 0x0f, 0x05, 0xf4);
	else
		exit(2);
}

static char memory[32] = "/proc/self/mem";

static void *by_mem(void *unused)
{
	int fd = open(memory, O_RDWR);
	(void)unused;
	if (fd < 0 || pwrite(fd, code, length, STUB) != (ssize_t)length)
		perror("mem");
	close(fd);
	return NULL;
}

static int as_sibling(void *unused)
{
	by_mem(unused);
	_exit(0);
}

/* mmap2 of 32-bit programs: its arguments are in ebx ecx edx esi edi ebp. */
static long old_mmap(long at, long size, long protection, long flags)
{
	long result;
	__asm__ volatile("push %%rbx; push %%rbp; mov %1, %%ebx; xor %%ebp, %%ebp; int $0x80; pop %%rbp; pop %%rbx"
			 : "=a"(result)
			 : "r"((int)at), "0"(192L), "c"(size), "d"(protection), "S"(flags), "D"(-1L)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static void place(const char *way)
{
	static char stack[65536] __attribute__((aligned(16)));
	pthread_t thread;
	pid_t other;
	if (!strcmp(way, "map")) {
		if (mmap((void *)STUB, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != (void *)STUB)
			perror("mmap");
		else
			memcpy((void *)STUB, code, length);
	} else if (!strcmp(way, "move")) {
		void *from = mmap(NULL, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(from, code, length);
		if (mremap(from, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)STUB) != (void *)STUB)
			perror("mremap");
	} else if (!strcmp(way, "protect")) {
		if (mprotect((void *)STUB, 4096, 7))
			perror("mprotect");
		else
			memcpy((void *)STUB, code, length);
	} else if (!strcmp(way, "mem"))
		by_mem(NULL);
	else if (!strcmp(way, "thread")) {
		if (pthread_create(&thread, NULL, by_mem, NULL))
			perror("thread");
		pthread_join(thread, NULL);
	} else if (!strcmp(way, "sibling")) {
		if ((other = clone(as_sibling, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL)) < 0)
			perror("clone");
		waitpid(other, NULL, 0);
	} else if (!strcmp(way, "child")) {
		snprintf(memory, sizeof memory, "/proc/%d/mem", getpid());
		if (!(other = fork()))
			as_sibling(NULL);
		waitpid(other, NULL, 0);
	} else if (!strcmp(way, "old")) {
		if (old_mmap(STUB, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED) != STUB)
			perror("mmap2");
		else
			memcpy((void *)STUB, code, length);
	} else
		exit(2);
}

static void on_signal(int sig)
{
	(void)sig;
	caught++;
}

int main(int n, char **v)
{
	int ends[2], fd;
	if (n < 4)
		return 2;
	compose(v[2], (uint32_t)atoi(v[3]));
	if (n > 4) {
		if ((fd = open(v[4], O_RDONLY)) < 0 || dup2(fd, 77) != 77 || pipe(ends) || dup2(ends[1], 78) != 78)
			return perror(v[4]), 2;
		fd = memfd_create("mine", 0);
		if (write(fd, "mine", 4) != 4 || dup2(fd, 79) != 79)
			return 2;
	}
	signal(SIGUSR1, on_signal);
	printf("begun %d\n", getpid());
	fflush(stdout);
	place(v[1]);
	printf("placed\n");
	fflush(stdout);
	/* what makes a tracer inject: a file about its own memory; what makes a host inject: a signal with a handler */
	fd = open("/proc/self/maps", O_RDONLY);
	printf("maps %d\n", fd < 0 ? -errno : fd);
	fflush(stdout);
	for (int i = 0; i < 6000 && getenv("STAY") && caught < 5; i++)
		usleep(10000);
	return 0;
}
