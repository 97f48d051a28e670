/* Sockets: TCP and UDP on the loopback, Unix streams and datagrams, vectors, options, passing of descriptors. */
#include "mos.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listener(struct sockaddr_in *at)
{
	int fd = ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), on = 1;
	socklen_t n = sizeof(*at);

	*at = loopback(0);
	ok(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	ok(bind(fd, (void *)at, n));
	ok(listen(fd, 8));
	ok(getsockname(fd, (void *)at, &n));
	equal(n, sizeof(*at));
	check(at->sin_port != 0);
	return fd;
}

static void tcp_in_one(void)
{
	struct sockaddr_in at, peer, name;
	socklen_t n = sizeof(peer);
	char buf[100];
	int l = listener(&at), error;
	int c = ok(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));

	if (connect(c, (void *)&at, sizeof(at)) < 0)
		equal(errno, EINPROGRESS);
	int s = ok(accept4(l, (void *)&peer, &n, SOCK_CLOEXEC));
	struct pollfd p = { c, POLLOUT, 0 };
	equal(poll(&p, 1, -1), 1);
	n = sizeof(error);
	ok(getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &n));
	equal(error, 0);
	n = sizeof(name);
	ok(getsockname(c, (void *)&name, &n));
	equal(name.sin_port, peer.sin_port);
	ok(getpeername(c, (void *)&name, &n));
	equal(name.sin_port, at.sin_port);
	refused(recv(c, buf, 1, 0), EAGAIN);
	equal(send(s, "hello", 5, MSG_NOSIGNAL), 5);
	p.events = POLLIN;
	equal(poll(&p, 1, -1), 1);
	equal(recv(c, buf, sizeof(buf), MSG_PEEK), 5);
	equal(recv(c, buf, 2, 0), 2);
	equal(recvfrom(c, buf + 2, 90, MSG_DONTWAIT, NULL, NULL), 3);
	same(buf, "hello", 5);
	int on = 1, value = 0;
	ok(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	n = sizeof(value);
	ok(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &value, &n));
	check(value != 0);
	ok(getsockopt(c, SOL_SOCKET, SO_TYPE, &value, &n));
	equal(value, SOCK_STREAM);
	ok(shutdown(s, SHUT_WR));
	equal(poll(&p, 1, -1), 1);
	equal(recv(c, buf, 1, 0), 0);
	equal(send(c, "back", 4, 0), 4);
	equal(recv(s, buf, 4, MSG_WAITALL), 4);
	ok(close(c));
	equal(recv(s, buf, 1, 0), 0);
	ok(close(s));
	ok(close(l));
	c = ok(socket(AF_INET, SOCK_STREAM, 0));
	refused(connect(c, (void *)&at, sizeof(at)), ECONNREFUSED);
	refused(getpeername(c, (void *)&name, &n), ENOTCONN);
	ok(close(c));
	refused(socket(AF_INET, 999, 0), EINVAL);
}

#define BULK 600000
static char data[BULK], back[BULK];

static int upper_server(void *arg)
{
	int l = *(int *)arg, s = accept(l, NULL, NULL);
	char buf[30000];
	ssize_t n;

	while ((n = recv(s, buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			buf[i] ^= 0x20;
		write_all(s, buf, n);
	}
	return n == 0 ? 15 : 1;
}

static void tcp_with_fork(void)
{
	struct sockaddr_in at;
	int l = listener(&at);
	size_t out = 0, in = 0;
	pid_t pid = forked(upper_server, &l);
	int c = ok(socket(AF_INET, SOCK_STREAM, 0));

	ok(close(l));
	ok(connect(c, (void *)&at, sizeof(at)));
	datagen(data, BULK, 8);
	while (in < BULK) {
		struct pollfd p = { c, POLLIN | (out < BULK ? POLLOUT : 0), 0 };
		check(poll(&p, 1, -1) == 1);
		if (p.revents & POLLOUT) {
			ssize_t n = send(c, data + out, BULK - out, MSG_DONTWAIT);
			check(n > 0 || errno == EAGAIN);
			out += n > 0 ? n : 0;
			if (out == BULK)
				ok(shutdown(c, SHUT_WR));
		}
		if (p.revents & POLLIN) {
			ssize_t n = ok(recv(c, back + in, BULK - in, 0));
			check(n > 0);
			in += n;
		}
	}
	for (int i = 0; i < BULK; i++)
		back[i] ^= 0x20;
	same(back, data, BULK);
	equal(recv(c, back, 1, 0), 0);
	ok(close(c));
	reaped(pid, 15);
}

static void udp(void)
{
	struct sockaddr_in a = loopback(0), b = loopback(0), from;
	socklen_t n = sizeof(a);
	char buf[2000];
	int x = ok(socket(AF_INET, SOCK_DGRAM, 0)), y = ok(socket(AF_INET, SOCK_DGRAM, 0));

	ok(bind(x, (void *)&a, n));
	ok(bind(y, (void *)&b, n));
	ok(getsockname(x, (void *)&a, &n));
	ok(getsockname(y, (void *)&b, &n));
	for (int size = 0; size <= 1400; size += 350) {
		datagen(data, size, size);
		equal(sendto(x, data, size, 0, (void *)&b, sizeof(b)), size);
		n = sizeof(from);
		equal(recvfrom(y, buf, sizeof(buf), 0, (void *)&from, &n), size);
		equal(from.sin_port, a.sin_port);
		same(buf, data, size);
	}
	ok(connect(x, (void *)&b, sizeof(b)));
	equal(send(x, "12345", 5, 0), 5);
	equal(recv(y, buf, 2, MSG_TRUNC), 5);
	struct timeval tv = { 0, 2000 };
	ok(setsockopt(y, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	refused(recv(y, buf, 2, 0), EAGAIN);
	ok(close(x));
	ok(close(y));
}

static void messages(void)
{
	int pair[2], file = ok(open("passed", O_RDWR | O_CREAT | O_TRUNC, 0600));
	struct iovec out[3] = { { "one", 3 }, { "two", 3 }, { "three", 5 } };
	char a[4], b[20], control[CMSG_SPACE(2 * sizeof(int))] = "";
	struct iovec in[2] = { { a, 4 }, { b, 20 } };
	struct msghdr m = { .msg_iov = out, .msg_iovlen = 3, .msg_control = control, .msg_controllen = sizeof(control) };

	ok(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int)) };
	memcpy(CMSG_DATA(c), (int[]){ file, pair[0] }, 2 * sizeof(int));
	equal(sendmsg(pair[0], &m, 0), 11);
	memset(control, 0, sizeof(control));
	m = (struct msghdr){ .msg_iov = in, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control) };
	equal(recvmsg(pair[1], &m, MSG_CMSG_CLOEXEC), 11);
	same(a, "onet", 4);
	same(b, "wothree", 7);
	c = CMSG_FIRSTHDR(&m);
	check(c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(2 * sizeof(int)));
	int got[2];
	memcpy(got, CMSG_DATA(c), sizeof(got));
	equal(write(got[0], "through", 7), 7);
	equal(lseek(file, 0, SEEK_CUR), 7);
	equal(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	ok(close(got[0]));
	ok(close(got[1]));
	m = (struct msghdr){ .msg_iov = out, .msg_iovlen = 1 };
	equal(sendmsg(pair[0], &m, 0), 3);
	in[0].iov_len = 2;
	m = (struct msghdr){ .msg_iov = in, .msg_iovlen = 1 };
	equal(recvmsg(pair[1], &m, 0), 2);
	check(m.msg_flags & MSG_TRUNC);
	struct mmsghdr many[3] = { { { .msg_iov = out, .msg_iovlen = 1 }, 0 },
				   { { .msg_iov = out + 1, .msg_iovlen = 2 }, 0 },
				   { { .msg_iov = out, .msg_iovlen = 3 }, 0 } };
	equal(sendmmsg(pair[0], many, 3, 0), 3);
	equal(many[2].msg_len, 11);
	for (int i = 0; i < 3; i++)
		equal(recv(pair[1], b, sizeof(b), 0), many[i].msg_len);
	ok(close(pair[0]));
	equal(recv(pair[1], b, sizeof(b), 0), 0);
	refused(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	ok(close(pair[1]));
	ok(close(file));
	ok(unlink("passed"));
}

static int unix_client(void *arg UNUSED)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "stream" };
	char buf[16];
	int c = socket(AF_UNIX, SOCK_STREAM, 0);

	if (connect(c, (void *)&at, sizeof(at)) < 0)
		return 1;
	write_all(c, "ping", 4);
	return read_all(c, buf, 4) == 4 && memcmp(buf, "pong", 4) == 0 ? 16 : 2;
}

static void unix_sockets(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "stream" }, from;
	struct ucred cred;
	socklen_t n = sizeof(cred);
	char buf[16];
	int l = ok(socket(AF_UNIX, SOCK_STREAM, 0));

	ok(bind(l, (void *)&at, sizeof(at)));
	refused(bind(l, (void *)&at, sizeof(at)), EADDRINUSE);
	ok(listen(l, 1));
	pid_t pid = forked(unix_client, NULL);
	int s = ok(accept(l, NULL, NULL));
	ok(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &n));
	equal(cred.pid, pid);
	equal(cred.uid, getuid());
	equal(read_all(s, buf, 4), 4);
	write_all(s, "pong", 4);
	reaped(pid, 16);
	ok(close(s));
	ok(close(l));
	ok(unlink("stream"));
	struct sockaddr_un x = { .sun_family = AF_UNIX, .sun_path = "x" }, y = { .sun_family = AF_UNIX, .sun_path = "y" };
	int a = ok(socket(AF_UNIX, SOCK_DGRAM, 0)), b = ok(socket(AF_UNIX, SOCK_DGRAM, 0));
	ok(bind(a, (void *)&x, sizeof(x)));
	ok(bind(b, (void *)&y, sizeof(y)));
	equal(sendto(a, "data", 4, 0, (void *)&y, sizeof(y)), 4);
	equal(sendto(a, "", 0, 0, (void *)&y, sizeof(y)), 0);
	n = sizeof(from);
	equal(recvfrom(b, buf, 16, 0, (void *)&from, &n), 4);
	equal(strcmp(from.sun_path, "x"), 0);
	equal(recv(b, buf, 16, 0), 0);
	ok(close(a));
	ok(close(b));
	ok(unlink("x"));
	ok(unlink("y"));
}

PROGRAM(PART(tcp_in_one), PART(tcp_with_fork), PART(udp), PART(messages), PART(unix_sockets))
