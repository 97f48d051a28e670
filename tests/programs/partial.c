/* Buffers of which a page cannot be reached: every direction x object x page; and lengths that are not what the kernel uses. The first round
 * prints what each transfer gave and what was left; natively that is the reference. */
#include "mos.h"
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>

enum { PAGE = 4096, PAGES = 3, SIZE = PAGES * PAGE };

static char pattern[4 * SIZE];

/* An object: two ends (the same for files), how much it is given to be read. */
struct object {
	const char *name;
	void (*make)(int fds[2]);
	int given; /* -1: nothing is written to it before it is read */
	bool writable;
};

static void make_file(int fds[2])
{
	fds[0] = fds[1] = ok(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
	ok(ftruncate(fds[0], 0));
}

static void make_pipe(int fds[2])
{
	ok(pipe2(fds, O_NONBLOCK));
}

static void make_pair(int fds[2], int type)
{
	ok(socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, fds));
}

static void make_stream(int fds[2])
{
	make_pair(fds, SOCK_STREAM);
}

static void make_datagram(int fds[2])
{
	make_pair(fds, SOCK_DGRAM);
}

static void make_packet(int fds[2])
{
	make_pair(fds, SOCK_SEQPACKET);
}

static void make_tcp(int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(at);
	int l = ok(socket(AF_INET, SOCK_STREAM, 0));

	ok(bind(l, (void *)&at, n));
	ok(listen(l, 1));
	ok(getsockname(l, (void *)&at, &n));
	fds[1] = ok(socket(AF_INET, SOCK_STREAM, 0));
	ok(connect(fds[1], (void *)&at, n));
	fds[0] = ok(accept(l, NULL, NULL));
	close(l);
}

static void make_event(int fds[2])
{
	fds[0] = fds[1] = ok(eventfd(7, EFD_NONBLOCK));
}

static void make_tty(int fds[2])
{
	struct termios raw;

	ok(openpty(&fds[1], &fds[0], NULL, NULL, NULL));
	ok(tcgetattr(fds[0], &raw));
	cfmakeraw(&raw);
	ok(tcsetattr(fds[0], TCSANOW, &raw));
}

static void make_zero(int fds[2])
{
	fds[0] = fds[1] = ok(open("/dev/zero", O_RDWR));
}

static void make_directory(int fds[2])
{
	char name[32];

	mkdir("dir", 0700);
	for (int i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "dir/a name of the same size %03d", i);
		int fd = open(name, O_WRONLY | O_CREAT, 0600);
		if (fd >= 0)
			close(fd);
	}
	fds[0] = fds[1] = ok(open("dir", O_RDONLY | O_DIRECTORY));
}

static const struct object objects[] = {
	{ "file", make_file, SIZE, true }, { "pipe", make_pipe, SIZE, true }, { "stream", make_stream, SIZE, true },
	{ "datagram", make_datagram, SIZE, true }, { "seqpacket", make_packet, SIZE, true }, { "tcp", make_tcp, SIZE, true },
	{ "eventfd", make_event, -1, true }, { "tty", make_tty, 64, false }, { "zero", make_zero, -1, true },
};

/* PAGES pages of which number `which` is missing, or may only be read. `data`: they hold the pattern. */
static char *holed(int which, bool missing, bool data)
{
	char *m = mmap(NULL, SIZE + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(m != MAP_FAILED);
	if (data)
		memcpy(m, pattern, SIZE);
	if (which < PAGES && missing)
		ok(munmap(m + which * PAGE, PAGE));
	else if (which < PAGES)
		ok(mprotect(m + which * PAGE, PAGE, PROT_READ));
	return m;
}

static void unholed(char *m)
{
	ok(munmap(m, SIZE + 2 * PAGE));
}

static const char *word(long result)
{
	static char text[4][40];
	static int turn;
	char *t = text[turn++ % 4];

	if (result < 0)
		snprintf(t, sizeof(text[0]), "%s", strerrorname_np(errno));
	else
		snprintf(t, sizeof(text[0]), "%ld", result);
	return t;
}

/* What there is to be read without waiting. */
static long left_in(int fd)
{
	static char rest[8 * SIZE];
	struct pollfd p = { fd, POLLIN, 0 };
	long sum = 0, n;

	while (poll(&p, 1, 0) == 1 && p.revents & POLLIN && (n = read(fd, rest, sizeof(rest))) > 0 && sum < SIZE * 4)
		sum += n;
	return sum;
}

enum way { BYTES, AT, VECTOR, SOCKET, MESSAGE, WAYS };
static const char *const ways[] = { "bytes", "at", "vector", "socket", "message" };

static long get(int fd, char *m, enum way way)
{
	struct iovec v[2] = { { m, PAGE + 100 }, { m + PAGE + 100, SIZE - PAGE - 100 } };
	struct msghdr h = { .msg_iov = v, .msg_iovlen = 2 };

	switch (way) {
	case BYTES: return read(fd, m, SIZE);
	case AT: return pread(fd, m, SIZE, 0);
	case VECTOR: return readv(fd, v, 2);
	case SOCKET: return recv(fd, m, SIZE, 0);
	default: return recvmsg(fd, &h, 0);
	}
}

static long put(int fd, char *m, enum way way)
{
	struct iovec v[2] = { { m, PAGE + 100 }, { m + PAGE + 100, SIZE - PAGE - 100 } };
	struct msghdr h = { .msg_iov = v, .msg_iovlen = 2 };

	switch (way) {
	case BYTES: return write(fd, m, SIZE);
	case AT: return pwrite(fd, m, SIZE, 0);
	case VECTOR: return writev(fd, v, 2);
	case SOCKET: return send(fd, m, SIZE, MSG_NOSIGNAL);
	default: return sendmsg(fd, &h, MSG_NOSIGNAL);
	}
}

static void one_read(const struct object *o, enum way way, int which, bool missing)
{
	int fds[2];
	char *m = holed(which, missing, false);

	o->make(fds);
	if (o->given > 0)
		equal(write(fds[1], pattern, o->given), o->given);
	if (!strcmp(o->name, "file"))
		ok(lseek(fds[0], 0, SEEK_SET));
	struct pollfd p = { fds[0], POLLIN, 0 };
	int queued = 0;
	while (o->given > 0 && !strcmp(o->name, "tcp") && queued < o->given)
		ok(ioctl(fds[0], FIONREAD, &queued));
	equal(poll(&p, 1, -1), 1);
	long n = get(fds[0], m, way);
	const char *said = word(n);
	if (n > 0 && o->given > 0)
		same(m, pattern, n);
	long rest = !strcmp(o->name, "zero") ? 0 : !strcmp(o->name, "file") ? lseek(fds[0], 0, SEEK_CUR) : left_in(fds[0]);
	announce("read %s %s page %d %s: %s, then %ld\n", o->name, ways[way], which, missing ? "missing" : "protected", said, rest);
	close(fds[0]);
	if (fds[1] != fds[0])
		close(fds[1]);
	unholed(m);
}

static void one_write(const struct object *o, enum way way, int which)
{
	int fds[2];
	char *m = holed(which, true, true);

	o->make(fds);
	if (!strcmp(o->name, "eventfd"))
		left_in(fds[0]);
	long n = put(fds[1], m, way), sum = n, queued = 0;
	const char *said = word(n);
	if (!strcmp(o->name, "tcp") && n > 0)
		while (queued < n) {
			int now = 0;
			ok(ioctl(fds[0], FIONREAD, &now));
			queued = now;
		}
	if (!strcmp(o->name, "file"))
		sum = lseek(fds[1], 0, SEEK_END);
	else if (strcmp(o->name, "zero") && strcmp(o->name, "eventfd"))
		sum = left_in(fds[0]);
	announce("write %s %s page %d: %s, arrived %ld\n", o->name, ways[way], which, said, sum);
	close(fds[0]);
	if (fds[1] != fds[0])
		close(fds[1]);
	unholed(m);
}

static bool is_socket(const char *name)
{
	return strchr("sdt", name[0]) && strcmp(name, "tty");
}

static bool fits(const struct object *o, enum way way)
{
	if (way == AT)
		return !strcmp(o->name, "file") || !strcmp(o->name, "zero");
	return way < SOCKET || is_socket(o->name);
}

static void reads(void)
{
	for (size_t i = 0; i < COUNT(objects); i++)
		for (enum way way = 0; way < WAYS; way++)
			for (int which = 0; which <= PAGES; which++)
				for (int missing = 0; missing < 2 && fits(&objects[i], way); missing++)
					one_read(&objects[i], way, which, missing);
}

static void writes(void)
{
	for (size_t i = 0; i < COUNT(objects); i++)
		for (enum way way = 0; way < WAYS; way++)
			for (int which = 0; which <= PAGES && objects[i].writable && fits(&objects[i], way); which++)
				one_write(&objects[i], way, which);
}

/* getdents64 gives whole entries; getrandom what fits. */
static void others(void)
{
	static char all[16 * SIZE];
	int fds[2];

	make_directory(fds);
	for (int which = 0; which < PAGES; which++)
		for (int missing = 0; missing < 2; missing++) {
			char *m = holed(which, missing, false);
			ok(lseek(fds[0], 0, SEEK_SET));
			long n = syscall(SYS_getdents64, fds[0], m, SIZE);
			check(which ? n > 0 && n <= which * PAGE : n == -1 && errno == EFAULT);
			for (;;) { /* no entry is lost */
				long more = syscall(SYS_getdents64, fds[0], all, sizeof(all));
				check(more >= 0);
				n = (n < 0 ? 0 : n) + more;
				if (!more)
					break;
			}
			check(n >= 402 * 24);
			n = syscall(SYS_getrandom, m, SIZE, 0);
			announce("getrandom page %d: %s\n", which, word(n));
			unholed(m);
		}
	close(fds[0]);
	ok(chdir("dir"));
	for (int i = 0; i < 400; i++) {
		snprintf(all, sizeof(all), "a name of the same size %03d", i);
		ok(unlink(all));
	}
	ok(chdir(".."));
	ok(rmdir("dir"));
	/* sendfile and splice to a pipe need no buffer, but their offset is one */
	int p[2], f = ok(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600));
	make_pipe(p);
	equal(write(f, pattern, SIZE), SIZE);
	char *m = holed(1, true, false);
	refused(sendfile(p[1], f, (off_t *)(m + PAGE), SIZE), EFAULT);
	refused(sendfile(p[1], f, (off_t *)(m + PAGE - 4), SIZE), EFAULT);
	equal(left_in(p[0]), 0);
	unholed(m);
	close(f), close(p[0]), close(p[1]);
	unlink("file");
}

/* A length that is not believed, or only as far as the kernel believes it. */
static void lengths(void)
{
	static const size_t sizes[] = { SIZE_MAX, SIZE_MAX / 2, (size_t)1 << 62, (size_t)1 << 50 };
	int p[2], s[2], on = 1, value = 0;
	char *m = holed(2, true, true);

	for (size_t i = 0; i < COUNT(sizes); i++) {
		make_pipe(p);
		make_stream(s);
		equal(write(p[1], pattern, 100), 100);
		equal(write(s[1], pattern, 100), 100);
		long n = syscall(SYS_read, p[0], m, sizes[i]);
		announce("read of %zx: %s", sizes[i], word(n));
		n = syscall(SYS_write, p[1], m, sizes[i]);
		announce(", write %s", word(n));
		struct iovec v = { m, sizes[i] };
		n = readv(p[0], &v, 1);
		announce(", readv %s", word(n));
		n = recv(s[0], m, sizes[i], 0);
		announce(", recv %s\n", word(n));
		close(p[0]), close(p[1]), close(s[0]), close(s[1]);
	}
	make_stream(s);
	ok(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &on, 1 << 30));
	socklen_t much = INT_MAX;
	ok(getsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &value, &much));
	equal(value, 1);
	equal(much, sizeof(value));
	memcpy(m + 2 * PAGE - sizeof(int), &on, sizeof(on)); /* the kernel takes an int, whatever is behind it */
	ok(setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, m + 2 * PAGE - sizeof(int), 4096));
	much = 4096;
	ok(getsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, m + 2 * PAGE - sizeof(int), &much));
	equal(much, sizeof(value));
	close(s[0]), close(s[1]);
	unholed(m);
}

/* O_DIRECT looks at where memory lies within a block. */
static void direct(void)
{
	char *m = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("file", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
	static const int places[] = { 0, 512, 1, 16, 100, 256 };

	check(m != MAP_FAILED);
	memcpy(m, pattern, 2 * PAGE);
	announce("O_DIRECT: %s\n", fd < 0 ? strerrorname_np(errno) : "opened");
	for (size_t i = 0; i < COUNT(places) && fd >= 0; i++) {
		long n = pwrite(fd, m + places[i], PAGE, 0);
		announce("at %d: write %s", places[i], word(n));
		n = pread(fd, m + places[i], PAGE, 0);
		struct iovec v[2] = { { m + places[i], PAGE }, { m + 3 * PAGE + places[i], PAGE } };
		announce(", read %s", word(n));
		n = pwritev(fd, v, 2, 0);
		announce(", vector %s\n", word(n));
	}
	if (fd >= 0)
		close(fd);
	unlink("file");
	munmap(m, 8 * PAGE);
}

static void tidy(void)
{
	unlink("file");
}

static void begin(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (char)(i * 7 + i / PAGE);
}

PROGRAM(PART(begin), PART(reads), PART(writes), PART(others), PART(lengths), PART(direct), PART(tidy))
