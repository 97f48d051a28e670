/* Reads and writes from one byte to 8 MB, through files, pipes and sockets, with checksums. */
#include "mos.h"
#include <sys/socket.h>
#include <sys/uio.h>

#define MOST (8 << 20)
static const size_t blocks[] = { 1, 4096, 65536, 1 << 20, MOST };
static char data[MOST], back[MOST];

static size_t amount(size_t block)
{
	return block == 1 ? 3000 : block < 65536 ? 1 << 19 : block < MOST ? 2 << 20 : MOST;
}

static void through_file(void)
{
	for (size_t i = 0; i < COUNT(blocks); i++) {
		size_t n = amount(blocks[i]);
		uint64_t sum = datagen(data, n, i);
		int fd = ok(open("big", O_RDWR | O_CREAT | O_TRUNC, 0600));
		for (size_t at = 0; at < n; at += blocks[i])
			equal(write(fd, data + at, blocks[i]), blocks[i]);
		equal(lseek(fd, 0, SEEK_SET), 0);
		memset(back, 0, n);
		for (size_t at = 0; at < n; at += blocks[i])
			equal(read(fd, back + at, blocks[i]), blocks[i]);
		check(datasum(back, n) == sum);
		equal(read(fd, back, blocks[i]), 0);
		memset(back, 0, n);
		equal(pread(fd, back, n - 1, 1), n - 1);
		same(back, data + 1, n - 1);
		ok(close(fd));
	}
	ok(unlink("big"));
}

static size_t sending;

static int sender(void *arg)
{
	int *fds = arg;
	size_t n = amount(sending);

	close(fds[0]);
	datagen(data, n, sending);
	for (size_t at = 0; at < n; at += sending)
		if (write(fds[1], data + at, sending) != (ssize_t)sending)
			return 1;
	return 0;
}

static void through(bool socket)
{
	for (size_t i = 0; i < COUNT(blocks); i++) {
		int fds[2];
		size_t n = amount(blocks[i]);
		sending = blocks[i];
		ok(socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds));
		pid_t pid = forked(sender, fds);
		ok(close(fds[1]));
		uint64_t sum = datagen(data, n, sending);
		memset(back, 0, n);
		equal(read_all(fds[0], back, n), n);
		check(datasum(back, n) == sum);
		equal(read(fds[0], back, 1), 0);
		ok(close(fds[0]));
		reaped(pid, 0);
	}
}

static void through_pipe(void)
{
	through(false);
}

static void through_socket(void)
{
	through(true);
}

static void scattered(void)
{
	struct iovec v[200];
	int fd = ok(open("scatter", O_RDWR | O_CREAT | O_TRUNC, 0600));
	size_t at = 0, lengths[200];

	datagen(data, 1 << 20, 5);
	for (int i = 0; i < 200; i++) {
		lengths[i] = (i * 7919) % 9001;
		v[i] = (struct iovec){ data + at, lengths[i] };
		at += lengths[i];
	}
	equal(writev(fd, v, 200), at);
	for (int i = 0; i < 200; i++)
		v[i].iov_base = back + ((char *)v[i].iov_base - data);
	memset(back, 0, at);
	equal(preadv(fd, v, 200, 0), at);
	same(back, data, at);
	ok(close(fd));
	ok(unlink("scatter"));
}

/* More than one message between nodes carries. */
static void long_ones(void)
{
	const size_t n = (33 << 20) + 12345;
	char *text = malloc(n);
	check(text != NULL);
	struct iovec v[3] = { { text, 100 }, { text + 100, n - 300 }, { text + n - 200, 200 } };
	uint64_t sum = datagen(text, n, 6);
	int fd = ok(open("long", O_RDWR | O_CREAT | O_TRUNC, 0600));

	equal(write(fd, text, n), n);
	equal(lseek(fd, 0, SEEK_CUR), n);
	memset(text, 0, n);
	equal(pread(fd, text, n, 0), n);
	check(datasum(text, n) == sum);
	equal(pwritev(fd, v, 3, 1), n);
	memset(text, 0, n);
	equal(lseek(fd, 1, SEEK_SET), 1);
	equal(readv(fd, v, 3), n);
	check(datasum(text, n) == sum);
	equal(lseek(fd, 0, SEEK_CUR), n + 1);
	equal(pread(fd, text, n, 10), n - 9);
	ok(close(fd));
	ok(unlink("long"));
	free(text);
}

PROGRAM(PART(through_file), PART(through_pipe), PART(through_socket), PART(scattered), PART(long_ones))
