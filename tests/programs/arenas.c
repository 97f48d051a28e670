/* Memory that programs share by files in /dev/shm, and move with (mosrun --share-memory): as semaphores and arenas of Python's are. */
#include "mos.h"
#include <fcntl.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define CHILDREN 3
#define SIZE 5000 /* of an arena: what memory has of its last page is behind the end of the file */

static long page;

/* A file without a name. */
static int unnamed(size_t size, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/dev/shm/arenas-%d-%ld", getpid(), random());
	fd = ok(open(path, O_RDWR | O_CREAT | O_EXCL | flags, 0600));
	ok(unlink(path));
	ok(ftruncate(fd, size));
	return fd;
}

static unsigned char *mapped(int fd, size_t size)
{
	void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(made != MAP_FAILED);
	return made;
}

static sem_t *semaphore(int value)
{
	char name[64];
	sem_t *made;

	snprintf(name, sizeof name, "/arenas-%d-%ld", getpid(), random());
	made = sem_open(name, O_CREAT | O_EXCL, 0600, value);
	check(made != SEM_FAILED);
	ok(sem_unlink(name));
	return made;
}

struct ring {
	sem_t *full, *empty, *lock;
	long *words; /* 8 of them, then a sum */
};

static int produces(void *arg)
{
	struct ring *r = arg;

	for (int i = 0; i < 60; i++) {
		ok(sem_wait(r->empty));
		ok(sem_wait(r->lock));
		r->words[8] += i;
		r->words[r->words[9]++ % 8] = i;
		ok(sem_post(r->lock));
		ok(sem_post(r->full));
		if (i % 20 == 3)
			rest_ms(2);
	}
	return 1;
}

/* Semaphores that are files, and memory beside them. */
static void semaphores(void)
{
	struct ring r = { semaphore(0), semaphore(4), semaphore(1), NULL };
	int fd = unnamed(page, O_CLOEXEC);
	pid_t pids[CHILDREN];
	long sum = 0;

	r.words = (long *)mapped(fd, page);
	for (int i = 0; i < CHILDREN; i++)
		pids[i] = forked(produces, &r);
	for (int i = 0; i < 60 * CHILDREN; i++) {
		ok(sem_wait(r.full));
		ok(sem_wait(r.lock));
		sum += r.words[i % 8];
		ok(sem_post(r.lock));
		ok(sem_post(r.empty));
	}
	for (int i = 0; i < CHILDREN; i++)
		reaped(pids[i], 1);
	equal(sum, CHILDREN * 59 * 60 / 2);
	equal(r.words[8], sum);
	ok(sem_close(r.full));
	ok(sem_close(r.empty));
	ok(sem_close(r.lock));
	ok(munmap(r.words, page));
	ok(close(fd));
}

struct arena {
	int fd;
	unsigned char *at;
	sem_t *mine, *yours;
};

static void give(sem_t *to, sem_t *from)
{
	ok(sem_post(to));
	ok(sem_wait(from));
}

/* What one writes by its descriptor the other finds in its memory, and the other way round. */
static int answers(void *arg)
{
	struct arena *a = arg;
	char text[8];
	struct stat st;

	ok(sem_wait(a->yours));
	equal(ok(pread(a->fd, text, 6, 100)), 6); /* what it has written in memory */
	same(text, "memory", 6);
	memcpy(a->at + SIZE + 7, "behind", 6); /* the end */
	equal(ok(pwrite(a->fd, "descr.", 6, 200)), 6);
	ok(fstat(a->fd, &st));
	equal(st.st_size, SIZE);
	give(a->mine, a->yours);
	equal(ok(lseek(a->fd, 0, SEEK_CUR)), 310); /* it has read */
	equal(ok(read(a->fd, text, 5)), 5);
	same(text, "third", 5);
	give(a->mine, a->yours);
	a->at[2 * page + 1] = 9; /* it has grown */
	ok(sem_post(a->mine));
	return 4;
}

static void arena(void)
{
	struct arena a = { unnamed(SIZE, O_CLOEXEC), NULL, semaphore(0), semaphore(0) };
	unsigned char *more;
	char text[16];
	pid_t child;
	uint64_t sum;
	int opened;

	a.at = mapped(a.fd, 4 * page);
	sum = datagen(a.at + 400, SIZE - 400, 11);
	child = forked(answers, &a);
	rest_ms(3);
	memcpy(a.at + 100, "memory", 6);
	memcpy(a.at + 300, "ten bytes.third", 15);
	give(a.yours, a.mine);
	same(a.at + SIZE + 7, "behind", 6);
	same(a.at + 200, "descr.", 6);
	equal(ok(lseek(a.fd, 300, SEEK_SET)), 300);
	equal(ok(read(a.fd, text, 10)), 10);
	same(text, "ten bytes.", 10);
	rest_ms(3);
	give(a.yours, a.mine);
	equal(ok(lseek(a.fd, 0, SEEK_CUR)), 315);
	rest_ms(3);
	equal(ok(lseek(a.fd, 0, SEEK_CUR)), 315);
	equal(ok(fcntl(a.fd, F_GETFD)), FD_CLOEXEC);
	equal(ok(fcntl(a.fd, F_GETFL)) & O_ACCMODE, O_RDWR);
	snprintf(text, sizeof text, "/dev/fd/%d", a.fd);
	opened = ok(open(text, O_RDONLY)); /* and by its name, as others do */
	equal(ok(pread(opened, text, 5, 310)), 5);
	same(text, "third", 5);
	ok(close(opened));
	rest_ms(3);
	ok(ftruncate(a.fd, 3 * page));
	give(a.yours, a.mine);
	equal(a.at[2 * page + 1], 9);
	equal(datasum(a.at + 400, SIZE - 400), sum);
	more = mapped(a.fd, page);
	rest_ms(3);
	more[5] ^= 0x5a;
	equal(more[5], a.at[5]);
	ok(munmap(a.at, 4 * page)); /* and what is in it stays */
	ok(munmap(more, page));
	rest_ms(3);
	a.at = mapped(a.fd, 3 * page);
	equal(datasum(a.at + 400, SIZE - 400), sum);
	reaped(child, 4);
	ok(munmap(a.at, 3 * page));
	ok(sem_close(a.mine));
	ok(sem_close(a.yours));
	ok(close(a.fd));
}

static int touches(void *arg)
{
	unsigned char *at = arg;

	rest_ms(2);
	at[1] = 5;
	at[page] = 5; /* the file ends before */
	return 1;
}

static int says_hello(void *arg UNUSED)
{
	execl("/bin/sh", "sh", "-c", "test \"$(head -c 5 <&9)\" = hello && printf 'world' 1<>/dev/fd/9", (char *)NULL);
	return 1;
}

/* Others by whom it is open: what is executed, who gets it in a message, and who has a lock on it. */
static int receives(void *arg)
{
	int from = *(int *)arg, got = -1;
	char control[CMSG_SPACE(sizeof got)], byte;
	struct iovec part = { &byte, 1 };
	struct msghdr head = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	unsigned char *at;

	equal(ok(recvmsg(from, &head, 0)), 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&head)), sizeof got);
	at = mapped(got, page);
	rest_ms(2);
	equal(at[9], 77);
	at[10] = 78;
	return 6;
}

static int is_locked_out(void *arg)
{
	struct flock whole = { .l_type = F_WRLCK };

	refused(fcntl(*(int *)arg, F_SETLK, &whole), EAGAIN);
	return 3;
}

static void others(void)
{
	int fd = unnamed(page, O_CLOEXEC), pair[2];
	unsigned char *at = mapped(fd, 2 * page);
	char control[CMSG_SPACE(sizeof fd)] = { 0 }, byte = 1;
	struct iovec part = { &byte, 1 };
	struct msghdr head = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct flock whole = { .l_type = F_WRLCK };
	pid_t child;

	memcpy(at, "hello", 5);
	rest_ms(3);
	ok(dup2(fd, 9));
	rest_ms(3);
	reaped(forked(says_hello, NULL), 0);
	same(at, "world", 5);
	equal(ok(lseek(fd, 0, SEEK_SET)), 0);
	memcpy(at, "hello", 5);
	rest_ms(3);
	equal(WEXITSTATUS(ok(system("test \"$(head -c 5 <&9)\" = hello"))), 0);
	ok(close(9));
	killed(forked(touches, at), SIGBUS);
	equal(at[1], 5);
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = forked(receives, &pair[0]);
	at[9] = 77;
	CMSG_FIRSTHDR(&head)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&head)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&head)->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&head)), &fd, sizeof fd);
	rest_ms(2);
	equal(ok(sendmsg(pair[1], &head, 0)), 1);
	reaped(child, 6);
	equal(at[10], 78);
	ok(close(pair[0]));
	ok(close(pair[1]));
	ok(fcntl(fd, F_SETLK, &whole));
	rest_ms(3);
	reaped(forked(is_locked_out, &fd), 3);
	ok(munmap(at, 2 * page));
	ok(close(fd));
}

static char shm[64];

static int opens_it(void *arg UNUSED)
{
	int fd = ok(shm_open(shm, O_RDWR, 0));
	unsigned char *at = mapped(fd, page);

	ok(close(fd));
	equal(at[1], 3);
	rest_ms(2);
	at[2] = 4;
	return 8;
}

/* With a name it stays; without, it moves, though each has opened it. */
static void named(void)
{
	unsigned char *at;
	pid_t child;
	int fd;

	snprintf(shm, sizeof shm, "/arenas-%d", getpid());
	fd = ok(shm_open(shm, O_RDWR | O_CREAT | O_EXCL, 0600));
	ok(ftruncate(fd, page));
	at = mapped(fd, page);
	ok(close(fd));
	at[1] = 3;
	child = forked(opens_it, NULL);
	rest_ms(3);
	reaped(child, 8);
	equal(at[2], 4);
	ok(shm_unlink(shm));
	rest_ms(3);
	equal(at[2], 4);
	ok(munmap(at, page));
}

int main(int argc, char **argv)
{
	static const struct part parts[] = { PART(semaphores), PART(arena), PART(others), PART(named) };

	page = sysconf(_SC_PAGESIZE);
	return mos_main(argc, argv, parts, COUNT(parts));
}
