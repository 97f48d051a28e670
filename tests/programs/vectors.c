/* Data in several pieces and from descriptor to descriptor: the readv and sendmsg families, splice and its kin. */
#include "mos.h"
#include <linux/fs.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static void *const nowhere = (void *)8;

/* Two pages, of which the second cannot be touched. */
static char *half_mapped(void)
{
	char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(at != MAP_FAILED);
	ok(mprotect(at + 4096, 4096, PROT_NONE));
	return at;
}

static void bad_memory(void)
{
	char *half = half_mapped(), c[16] = "";
	const char *constant = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int p[2], fd = ok(open("b", O_RDWR | O_CREAT | O_TRUNC, 0600));

	ok(pipe(p));
	equal(write(p[1], "abcdefgh", 8), 8);
	refused(read(p[0], nowhere, 4), EFAULT);
	refused(read(p[0], (char *)constant, 4), EFAULT);
	refused(read(p[0], half + 4096, 4), EFAULT);
	/* What could not be stored is still there. */
	equal(read(p[0], c, 8), 8);
	same(c, "abcdefgh", 8);
	refused(write(p[1], nowhere, 4), EFAULT);
	refused(write(p[1], half + 4096, 4), EFAULT);
	equal(write(p[1], nowhere, 0), 0);
	equal(read(p[0], nowhere, 0), 0);
	memset(half, 'h', 4096);
	equal(pwrite(fd, half, 4096, 0), 4096);
	equal(pwrite(fd, half + 4000, 200, 4096), 96);
	equal(pread(fd, half + 4000, 200, 0), 96);
	equal(lseek(fd, 0, SEEK_END), 4192);
	struct iovec v[3] = { { c, 4 }, { nowhere, 4 }, { c + 8, 4 } };
	equal(pwritev(fd, v, 3, 0), 4);
	equal(preadv(fd, v, 3, 0), 4);
	v[0].iov_base = nowhere;
	equal(lseek(fd, 0, SEEK_SET), 0);
	refused(readv(fd, v, 3), EFAULT);
	refused(readv(fd, nowhere, 1), EFAULT);
	refused(writev(fd, nowhere, 1), EFAULT);
	ok(close(p[0]));
	ok(close(p[1]));
	ok(close(fd));
	ok(munmap(half, 8192));
	ok(munmap((char *)constant, 4096));
	ok(unlink("b"));
}

static void counts(void)
{
	static struct iovec many[1025];
	static char cells[1024];
	char a[4] = "", b[4] = "";
	int fd = ok(open("v", O_RDWR | O_CREAT | O_TRUNC, 0600));
	struct iovec two[2] = { { "xy", 2 }, { "z", 1 } }, in[2] = { { a, 2 }, { b, 2 } };

	for (int i = 0; i < 1025; i++)
		many[i] = (struct iovec){ cells + i % 1024, 1 };
	datagen(cells, 1023, 4);
	equal(writev(fd, many, 1024), 1024);
	refused(writev(fd, many, 1025), EINVAL);
	refused(readv(fd, many, 1025), EINVAL);
	equal(writev(fd, many, 0), 0);
	equal(readv(fd, NULL, 0), 0);
	refused(writev(fd, (struct iovec[]){ { a, (size_t)-1 } }, 1), EINVAL);
	refused(writev(fd, (struct iovec[]){ { a, 1 }, { a, (size_t)1 << 63 } }, 2), EINVAL);
	equal(pwritev(fd, two, 2, 5000), 3);
	equal(preadv(fd, in, 2, 5000), 3);
	same(a, "xy", 2);
	same(b, "z", 2);
	refused(preadv(fd, in, 2, -5), EINVAL);
	equal(lseek(fd, 10, SEEK_SET), 10);
	equal(pwritev2(fd, two, 2, -1, 0), 3);
	equal(lseek(fd, 0, SEEK_CUR), 13);
	equal(pwritev2(fd, two, 1, 0, RWF_APPEND), 2);
	equal(lseek(fd, 0, SEEK_END), 5005);
	refused(preadv2(fd, in, 2, 0, 1 << 30), EOPNOTSUPP);
	ok(close(fd));
	ok(unlink("v"));
}

#define CONTROL 512

static size_t with_control(struct msghdr *m, int type, const void *data, size_t n)
{
	struct cmsghdr *c = m->msg_control;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(n);
	memcpy(CMSG_DATA(c), data, n);
	return m->msg_controllen = CMSG_SPACE(n);
}

static void rights_and_credentials(void)
{
	char control[CONTROL] __attribute__((aligned(8))) = "", text[32];
	int pair[2], p[2], on = 1, got[8];
	struct iovec out = { "m", 1 }, in = { text, sizeof(text) };
	struct msghdr m = { .msg_iov = &out, .msg_iovlen = 1, .msg_control = control };

	ok(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	ok(pipe(p));
	with_control(&m, SCM_RIGHTS, (int[]){ p[0], p[1], p[0] }, 12);
	equal(sendmsg(pair[0], &m, 0), 1);
	/* Room for two of three: the third is dropped, and the flags say so. */
	m = (struct msghdr){ .msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_LEN(8) };
	equal(recvmsg(pair[1], &m, 0), 1);
	check(m.msg_flags & MSG_CTRUNC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	check(c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(8));
	memcpy(got, CMSG_DATA(c), 8);
	equal(write(got[1], "through", 7), 7);
	equal(read(got[0], text, sizeof(text)), 7);
	equal(fcntl(got[0], F_GETFD), 0);
	ok(close(got[0]));
	ok(close(got[1]));
	m = (struct msghdr){ .msg_iov = &out, .msg_iovlen = 1, .msg_control = control };
	with_control(&m, SCM_RIGHTS, (int[]){ 999 }, 4);
	refused(sendmsg(pair[0], &m, 0), EBADF);
	ok(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	struct ucred me = { getpid(), getuid(), getgid() }, seen;
	with_control(&m, SCM_CREDENTIALS, &me, sizeof(me));
	equal(sendmsg(pair[0], &m, 0), 1);
	m = (struct msghdr){ .msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CONTROL };
	memset(control, 0, CONTROL);
	equal(recvmsg(pair[1], &m, 0), 1);
	c = CMSG_FIRSTHDR(&m);
	check(c && c->cmsg_type == SCM_CREDENTIALS);
	memcpy(&seen, CMSG_DATA(c), sizeof(seen));
	check(seen.pid == getpid() && seen.uid == getuid() && seen.gid == getgid());
	equal(m.msg_controllen, CMSG_SPACE(sizeof(seen)));
	/* A child's message, which tells its own number. */
	pid_t pid = ok(fork());
	if (pid == 0)
		_exit(send(pair[0], "child", 5, 0) == 5 ? 0 : 1);
	m = (struct msghdr){ .msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CONTROL };
	equal(recvmsg(pair[1], &m, 0), 5);
	c = CMSG_FIRSTHDR(&m);
	memcpy(&seen, CMSG_DATA(c), sizeof(seen));
	equal(seen.pid, pid);
	reaped(pid, 0);
	refused(sendmsg(pair[0], nowhere, 0), EFAULT);
	refused(recvmsg(pair[1], nowhere, MSG_DONTWAIT), EFAULT);
	m = (struct msghdr){ .msg_iov = nowhere, .msg_iovlen = 1 };
	refused(sendmsg(pair[0], &m, 0), EFAULT);
	m = (struct msghdr){ .msg_iov = &out, .msg_iovlen = 1, .msg_control = nowhere, .msg_controllen = 64 };
	refused(sendmsg(pair[0], &m, 0), EFAULT);
	m = (struct msghdr){ .msg_iov = &out, .msg_iovlen = 1025 };
	refused(sendmsg(pair[0], &m, 0), EMSGSIZE);
	m = (struct msghdr){ 0 };
	equal(sendmsg(pair[0], &m, 0), 0);
	equal(recvmsg(pair[1], &m, 0), 0);
	for (int i = 0; i < 2; i++) {
		ok(close(p[i]));
		ok(close(pair[i]));
	}
}

static void names_of_messages(void)
{
	struct sockaddr_un a = { AF_UNIX, "a" }, b = { AF_UNIX, "b" }, from;
	socklen_t size = offsetof(struct sockaddr_un, sun_path) + 2;
	char x[8] = "", y[8] = "";
	struct iovec out[2] = { { "half", 4 }, { "whole", 5 } }, in[2] = { { x, 4 }, { y, 8 } };
	int s = ok(socket(AF_UNIX, SOCK_DGRAM, 0)), t = ok(socket(AF_UNIX, SOCK_DGRAM, 0));
	struct msghdr m = { .msg_name = &b, .msg_namelen = sizeof(b), .msg_iov = out, .msg_iovlen = 2 };

	ok(bind(s, (void *)&a, size));
	ok(bind(t, (void *)&b, size));
	equal(sendmsg(s, &m, 0), 9);
	memset(&from, 0x55, sizeof(from));
	m = (struct msghdr){ .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = in, .msg_iovlen = 2 };
	equal(recvmsg(t, &m, 0), 9);
	same(x, "half", 4);
	same(y, "whole", 5);
	check(from.sun_family == AF_UNIX && strcmp(from.sun_path, "a") == 0);
	equal(m.msg_namelen, size);
	equal(m.msg_flags, 0);
	equal(m.msg_controllen, 0);
	/* A name that is longer than its room: cut, but its length is told. */
	struct sockaddr_un tail;
	memset(&tail, 0x55, sizeof(tail));
	equal(sendto(s, "n", 1, 0, (void *)&b, sizeof(b)), 1);
	m = (struct msghdr){ .msg_name = &tail, .msg_namelen = 2, .msg_iov = in, .msg_iovlen = 1 };
	equal(recvmsg(t, &m, 0), 1);
	check(m.msg_namelen > 2 && tail.sun_family == AF_UNIX && tail.sun_path[0] == 0x55);
	equal(sendto(s, "n", 1, 0, (void *)&b, sizeof(b)), 1);
	socklen_t n = 2;
	equal(recvfrom(t, x, 1, 0, (void *)&tail, &n), 1);
	check(n > 2 && tail.sun_path[0] == 0x55);
	refused(sendto(s, "n", 1, 0, nowhere, 16), EFAULT);
	refused(sendto(s, "n", 1, 0, (void *)&b, 1000), EINVAL);
	ok(close(s));
	ok(close(t));
	ok(unlink("a"));
	ok(unlink("b"));
}

static void many_messages(void)
{
	static char text[8][64];
	struct iovec io[8][2];
	struct mmsghdr m[8];
	struct timespec soon = { 0, 3000000 };
	int pair[2];

	ok(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	for (int i = 0; i < 8; i++) {
		datagen(text[i], 60, i);
		io[i][0] = (struct iovec){ text[i], i };
		io[i][1] = (struct iovec){ text[i] + i, 1 };
		m[i] = (struct mmsghdr){ { .msg_iov = io[i], .msg_iovlen = 2 }, 99 };
	}
	equal(sendmmsg(pair[0], m, 5, 0), 5);
	for (int i = 0; i < 5; i++)
		equal(m[i].msg_len, i + 1);
	equal(m[5].msg_len, 99);
	static char back[8][64];
	for (int i = 0; i < 8; i++) {
		io[i][0] = (struct iovec){ back[i], 2 };
		io[i][1] = (struct iovec){ back[i] + 2, 60 };
		m[i].msg_len = 77;
	}
	equal(recvmmsg(pair[1], m, 3, 0, NULL), 3);
	equal(recvmmsg(pair[1], m + 3, 5, MSG_WAITFORONE, NULL), 2);
	for (int i = 0; i < 5; i++) {
		equal(m[i].msg_len, i + 1);
		same(back[i], text[i], i + 1);
	}
	equal(m[5].msg_len, 77);
	equal(send(pair[0], "1", 1, 0), 1);
	equal(recvmmsg(pair[1], m, 1, 0, &soon), 1);
	refused(recvmmsg(pair[1], m, 1, MSG_DONTWAIT, NULL), EAGAIN);
	refused(recvmmsg(pair[1], nowhere, 1, MSG_DONTWAIT, NULL), EFAULT);
	equal(sendmmsg(pair[0], m, 0, 0), 0);
	m[1].msg_hdr.msg_iov = nowhere;
	m[0].msg_hdr.msg_iov[0].iov_len = 1;
	m[0].msg_hdr.msg_iov[1].iov_len = 0;
	equal(sendmmsg(pair[0], m, 2, 0), 1);
	ok(close(pair[0]));
	equal(recvmmsg(pair[1], m, 1, 0, NULL), 1);
	ok(close(pair[1]));
}

static void between_files(void)
{
	static char data[100000], back[100000];
	int a = ok(open("a", O_RDWR | O_CREAT | O_TRUNC, 0600)), b = ok(open("b", O_RDWR | O_CREAT | O_TRUNC, 0600)), p[2];
	off_t from = 1000, to = 500;

	datagen(data, sizeof(data), 9);
	equal(pwrite(a, data, sizeof(data), 0), sizeof(data));
	equal(sendfile(b, a, &from, 3000), 3000);
	equal(from, 4000);
	equal(lseek(a, 0, SEEK_CUR), 0);
	equal(pread(b, back, 4000, 0), 3000);
	same(back, data + 1000, 3000);
	equal(sendfile(b, a, NULL, 10), 10);
	equal(lseek(a, 0, SEEK_CUR), 10);
	from = sizeof(data);
	equal(sendfile(b, a, &from, 10), 0);
	refused(sendfile(b, a, nowhere, 10), EFAULT);
	refused(sendfile(b, -1, NULL, 10), EBADF);
	from = 20;
	equal(copy_file_range(a, &from, b, &to, 50000, 0), 50000);
	check(from == 50020 && to == 50500);
	equal(pread(b, back, 50000, 500), 50000);
	same(back, data + 20, 50000);
	refused(copy_file_range(a, &from, b, &to, 10, 1), EINVAL);
	refused(copy_file_range(a, nowhere, b, &to, 10, 0), EFAULT);
	ok(pipe(p));
	from = 7;
	equal(splice(a, &from, p[1], NULL, 5000, 0), 5000);
	equal(from, 5007);
	int q[2];
	ok(pipe(q));
	equal(tee(p[0], q[1], 2000, 0), 2000);
	equal(read(q[0], back, 4000), 2000);
	same(back, data + 7, 2000);
	to = 0;
	equal(splice(p[0], NULL, b, &to, 5000, SPLICE_F_MOVE), 5000);
	equal(to, 5000);
	equal(pread(b, back, 5000, 0), 5000);
	same(back, data + 7, 5000);
	refused(splice(p[0], NULL, b, &to, 10, SPLICE_F_NONBLOCK), EAGAIN);
	refused(tee(p[0], q[1], 10, SPLICE_F_NONBLOCK), EAGAIN);
	refused(splice(a, NULL, b, NULL, 10, 0), EINVAL);
	refused(splice(p[0], &from, b, NULL, 10, 0), ESPIPE);
	ok(close(p[1]));
	equal(splice(p[0], NULL, b, &to, 10, 0), 0);
	equal(tee(p[0], q[1], 10, 0), 0);
	ok(close(p[0]));
	ok(close(q[0]));
	ok(close(q[1]));
	ok(close(a));
	ok(close(b));
	ok(unlink("a"));
	ok(unlink("b"));
}

#define BIG 900000
static char big[BIG], big_back[BIG];

static int slow_reader(void *arg)
{
	size_t got = 0;
	ssize_t n;

	while (got < BIG && (n = read(*(int *)arg, big_back + got, BIG - got < 60000 ? BIG - got : 60000)) > 0) {
		got += n;
		rest_ms(2);
	}
	return got == BIG && memcmp(big, big_back, BIG) == 0 ? 11 : 1;
}

/* A blocking transfer of many pieces is whole, however often the program is moved inside it. */
static void long_transfers(void)
{
	struct iovec v[9];
	int fds[2], n;

	datagen(big, BIG, 5);
	for (int i = 0; i < 9; i++)
		v[i] = (struct iovec){ big + i * (BIG / 9), BIG / 9 };
	for (int kind = 0; kind < 4; kind++) {
		if (kind == 0)
			ok(pipe(fds));
		else
			ok(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
		pid_t pid = forked(slow_reader, &fds[0]);
		struct msghdr m = { .msg_iov = v, .msg_iovlen = 9 };
		if (kind < 2)
			equal(writev(fds[1], v, 9), BIG);
		else if (kind == 2)
			equal(sendmsg(fds[1], &m, 0), BIG);
		else
			equal(sendto(fds[1], big, BIG, 0, NULL, 0), BIG);
		ok(close(fds[1]));
		reaped(pid, 11);
		n = 0;
		ok(ioctl(fds[0], FIONREAD, &n));
		equal(n, 0);
		ok(close(fds[0]));
		for (int i = 0; i < 9; i++)
			check(v[i].iov_base == big + i * (BIG / 9) && v[i].iov_len == BIG / 9);
	}
}

static int knocker(void *arg)
{
	static const int sigs[] = { SIGWINCH, SIGUSR1, SIGURG, SIGCONT };

	for (int i = 0; i < 16; i++) {
		rest_ms(1);
		if (kill(*(pid_t *)arg, sigs[i % 4]) < 0)
			return 1;
	}
	return 14;
}

/* Signals that nobody hears break nothing off (but for a program that is traced in the plain way, as t2_table.py does). */
static void undisturbed(void)
{
	struct iovec v[2] = { { big, BIG / 2 }, { big + BIG / 2, BIG / 2 } };
	pid_t me = getpid();
	int fds[2];

	if (getenv("MOS_TRACED"))
		return;
	datagen(big, BIG, 8);
	signal(SIGUSR1, SIG_IGN);
	for (int kind = 0; kind < 2; kind++) {
		ok(pipe(fds));
		pid_t reader = forked(slow_reader, &fds[0]), other = forked(knocker, &me);
		if (kind)
			equal(write(fds[1], big, BIG), BIG);
		else
			equal(writev(fds[1], v, 2), BIG);
		ok(close(fds[1]));
		reaped(reader, 11);
		reaped(other, 14);
		ok(close(fds[0]));
	}
	signal(SIGUSR1, SIG_DFL);
}

static int slow_writer(void *arg)
{
	for (size_t done = 0; done < BIG; done += BIG / 30) {
		if (write(*(int *)arg, big + done, BIG / 30) != BIG / 30)
			return 1;
		rest_ms(1);
	}
	return 12;
}

/* MSG_WAITALL waits for everything. */
static void waiting_for_all(void)
{
	struct iovec v[3] = { { big_back, 100 }, { big_back + 100, BIG - 1100 }, { big_back + BIG - 1000, 1000 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 3 };
	int fds[2];

	datagen(big, BIG, 6);
	for (int kind = 0; kind < 2; kind++) {
		ok(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
		pid_t pid = forked(slow_writer, &fds[1]);
		memset(big_back, 0, BIG);
		if (kind)
			equal(recvmsg(fds[0], &m, MSG_WAITALL), BIG);
		else
			equal(recv(fds[0], big_back, BIG, MSG_WAITALL), BIG);
		same(big_back, big, BIG);
		reaped(pid, 12);
		ok(close(fds[0]));
		ok(close(fds[1]));
	}
}

PROGRAM(PART(bad_memory), PART(counts), PART(rights_and_credentials), PART(names_of_messages), PART(many_messages), PART(between_files),
	PART(long_transfers), PART(undisturbed), PART(waiting_for_all))
