/* What is set once and must be so for ever: of sockets, terminals and epoll sets, wherever their program has been meanwhile. */
#include "mos.h"
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <termios.h>

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

/* ------------------------------------------------------------------ sockets: every option that can be read */

struct option {
	int result, error;
	socklen_t length;
	unsigned char value[128];
};

static const int levels[] = { SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 };
#define OPTIONS 90
#define ROWS ((int)COUNT(levels) * OPTIONS)

/* Options that change by themselves, or whose answer is a new descriptor. */
static bool unsteady(int level, int name)
{
	if (level == SOL_SOCKET) /* SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_PEERPIDFD */
		return name == 49 || name == 56 || name == 77;
	if (level == IPPROTO_TCP) /* TCP_INFO, TCP_TIMESTAMP, TCP_CC_INFO, TCP_ZEROCOPY_RECEIVE */
		return name == 11 || name == 24 || name == 26 || name == 35;
	return level == IPPROTO_IPV6 && (name == 24 || name == 61); /* the MTU of a path */
}

static void read_options(int fd, struct option *rows)
{
	for (int i = 0; i < ROWS; i++) {
		struct option *row = &rows[i];
		int level = levels[i / OPTIONS], name = i % OPTIONS;

		memset(row, 0, sizeof *row);
		if (unsteady(level, name))
			continue;
		row->length = sizeof row->value;
		row->result = getsockopt(fd, level, name, row->value, &row->length);
		row->error = row->result ? errno : 0;
	}
}

static void same_options(const char *what, const struct option *before, const struct option *after)
{
	for (int i = 0; i < ROWS; i++)
		if (memcmp(&before[i], &after[i], sizeof *before))
			fail("%s: option %d/%d: %d (errno %d), %u bytes, then %d (errno %d), %u bytes, %d and %d", what, levels[i / OPTIONS],
				i % OPTIONS, before[i].result, before[i].error, before[i].length, after[i].result, after[i].error, after[i].length,
				*(const int *)before[i].value, *(const int *)after[i].value);
}

static void number(int fd, int level, int name, int value)
{
	ok(setsockopt(fd, level, name, &value, sizeof value));
}

static void general(int fd)
{
	struct linger linger = { 1, 7 };
	struct timeval wait = { 3, 250000 }, wait_to_send = { 4, 500000 };
	static const int on[] = { SO_KEEPALIVE, SO_OOBINLINE, SO_TIMESTAMP, SO_REUSEADDR, SO_REUSEPORT, SO_NO_CHECK, 41 /* SO_RXQ_OVFL */ };

	for (size_t i = 0; i < COUNT(on); i++)
		number(fd, SOL_SOCKET, on[i], 1);
	number(fd, SOL_SOCKET, SO_SNDBUF, 12345);
	number(fd, SOL_SOCKET, SO_RCVBUF, 23456);
	number(fd, SOL_SOCKET, SO_RCVLOWAT, 5);
	number(fd, SOL_SOCKET, SO_PRIORITY, 3);
	ok(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
	ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait));
	ok(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait_to_send, sizeof wait_to_send));
}

static int tcp_socket(void)
{
	int fd = ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

	general(fd);
	number(fd, IPPROTO_IP, IP_TOS, 0x10);
	number(fd, IPPROTO_IP, IP_TTL, 77);
	number(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	number(fd, IPPROTO_TCP, TCP_KEEPIDLE, 111);
	number(fd, IPPROTO_TCP, TCP_KEEPINTVL, 22);
	number(fd, IPPROTO_TCP, TCP_KEEPCNT, 6);
	number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 65432);
	number(fd, IPPROTO_TCP, TCP_LINGER2, 17);
	number(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	number(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 9999);
	ok(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	return fd;
}

static int udp_socket(void)
{
	int fd = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	struct ip_mreqn group = { .imr_multiaddr.s_addr = htonl(0xEFFF0107), .imr_address.s_addr = htonl(INADDR_LOOPBACK) };

	general(fd);
	number(fd, IPPROTO_IP, IP_PKTINFO, 1);
	number(fd, IPPROTO_IP, IP_RECVTTL, 1);
	number(fd, IPPROTO_IP, IP_MULTICAST_TTL, 9);
	number(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
	number(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
	ok(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof group));
	return fd;
}

static int udp6_socket(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 && errno == EAFNOSUPPORT)
		return -1;
	ok(fd);
	number(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	number(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	number(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
	number(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 66);
	return fd;
}

static int unix_socket(void)
{
	int pair[2];

	ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	number(pair[0], SOL_SOCKET, SO_PASSCRED, 1);
	number(pair[0], SOL_SOCKET, SO_PEEK_OFF, 0);
	ok(close(pair[1]));
	return pair[0];
}

static void every_socket_option(void)
{
	static const struct { const char *name; int (*make)(void); } kinds[] = {
		{ "tcp", tcp_socket }, { "udp", udp_socket }, { "udp6", udp6_socket }, { "unix", unix_socket },
	};
	static struct option before[COUNT(kinds)][ROWS], after[ROWS];
	int fds[COUNT(kinds)];

	for (size_t i = 0; i < COUNT(kinds); i++)
		if ((fds[i] = kinds[i].make()) >= 0)
			read_options(fds[i], before[i]);
	elsewhere();
	for (size_t i = 0; i < COUNT(kinds); i++)
		if (fds[i] >= 0) {
			read_options(fds[i], after);
			same_options(kinds[i].name, before[i], after);
			ok(close(fds[i]));
		}
}

/* ------------------------------------------------------------------ what is on its way in sockets */

static void tcp_pair(int *one, int *other)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof at;
	int listener = ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

	ok(bind(listener, (struct sockaddr *)&at, sizeof at));
	ok(listen(listener, 1));
	ok(getsockname(listener, (struct sockaddr *)&at, &size));
	*one = ok(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ok(connect(*one, (struct sockaddr *)&at, sizeof at));
	*other = ok(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	ok(close(listener));
}

static void urgent_data(void)
{
	int one, other, at_mark = -1;
	char text[8] = "";
	struct pollfd pollfd;

	tcp_pair(&one, &other);
	equal(ok(send(one, "abc", 3, 0)), 3);
	equal(ok(send(one, "!", 1, MSG_OOB)), 1);
	equal(ok(send(one, "de", 2, 0)), 2);
	elsewhere();
	pollfd = (struct pollfd){ .fd = other, .events = POLLPRI };
	equal(ok(poll(&pollfd, 1, 5000)), 1);
	equal(pollfd.revents, POLLPRI);
	equal(ok(recv(other, text, sizeof text, 0)), 3); /* no read goes beyond the mark */
	ok(ioctl(other, SIOCATMARK, &at_mark));
	equal(at_mark, 1);
	elsewhere();
	equal(ok(recv(other, text, 1, MSG_OOB)), 1);
	equal(text[0], '!');
	equal(ok(recv(other, text, sizeof text, 0)), 2);
	refused(recv(other, text, 1, MSG_OOB), EINVAL);
	ok(close(one));
	ok(close(other));
}

static void peeking(void)
{
	int pair[2];
	char text[8];

	ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	number(pair[0], SOL_SOCKET, SO_PEEK_OFF, 2);
	equal(ok(write(pair[1], "abcdefgh", 8)), 8);
	equal(ok(recv(pair[0], text, 2, MSG_PEEK)), 2);
	same(text, "cd", 2);
	elsewhere();
	equal(ok(recv(pair[0], text, 2, MSG_PEEK)), 2);
	same(text, "ef", 2);
	equal(ok(read(pair[0], text, 2)), 2);
	same(text, "ab", 2);
	elsewhere();
	equal(ok(recv(pair[0], text, 8, MSG_PEEK)), 2);
	same(text, "gh", 2);
	ok(close(pair[0]));
	ok(close(pair[1]));
}

static void corked(void)
{
	int one, other, waiting = -1;
	char text[8];

	tcp_pair(&one, &other);
	number(one, IPPROTO_TCP, TCP_CORK, 1);
	equal(ok(write(one, "abc", 3)), 3);
	equal(ok(write(one, "def", 3)), 3);
	number(one, IPPROTO_TCP, TCP_CORK, 0);
	elsewhere();
	equal(ok(recv(other, text, 6, MSG_WAITALL)), 6);
	same(text, "abcdef", 6);
	number(other, SOL_SOCKET, SO_RCVLOWAT, 4);
	equal(ok(write(one, "xyz", 3)), 3);
	elsewhere();
	struct pollfd pollfd = { .fd = other, .events = POLLIN };
	equal(ok(poll(&pollfd, 1, 20)), 0); /* three are less than it wants */
	equal(ok(write(one, "!", 1)), 1);
	equal(ok(poll(&pollfd, 1, 5000)), 1);
	ok(ioctl(other, FIONREAD, &waiting));
	equal(waiting, 4);
	ok(close(one));
	ok(close(other));
}

/* What came beside a datagram, by its level and type; NULL if it did not. */
static void *beside(struct msghdr *message, int level, int type)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
		if (c->cmsg_level == level && c->cmsg_type == type)
			return CMSG_DATA(c);
	return NULL;
}

static void facts_beside_datagrams(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof at;
	char text[16], room[512];
	struct iovec part = { text, sizeof text };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	int to = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), from = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	ok(bind(to, (struct sockaddr *)&at, sizeof at));
	ok(getsockname(to, (struct sockaddr *)&at, &size));
	number(to, IPPROTO_IP, IP_PKTINFO, 1);
	number(to, IPPROTO_IP, IP_RECVTTL, 1);
	number(to, SOL_SOCKET, SO_TIMESTAMPNS, 1);
	number(from, IPPROTO_IP, IP_TTL, 55);
	number(from, IPPROTO_UDP, UDP_CORK, 1);
	equal(ok(sendto(from, "one ", 4, 0, (struct sockaddr *)&at, sizeof at)), 4);
	elsewhere();
	equal(ok(sendto(from, "two", 3, 0, (struct sockaddr *)&at, sizeof at)), 3);
	int64_t before = now_ns(CLOCK_REALTIME);
	number(from, IPPROTO_UDP, UDP_CORK, 0);
	elsewhere();
	equal(ok(recvmsg(to, &message, 0)), 7);
	same(text, "one two", 7);
	struct in_pktinfo *info = beside(&message, IPPROTO_IP, IP_PKTINFO);
	check(info && info->ipi_addr.s_addr == htonl(INADDR_LOOPBACK));
	int *ttl = beside(&message, IPPROTO_IP, IP_TTL);
	check(ttl != NULL);
	equal(*ttl, 55);
	struct timespec *when = beside(&message, SOL_SOCKET, SO_TIMESTAMPNS);
	check(when != NULL);
	int64_t stamp = when->tv_sec * 1000000000LL + when->tv_nsec;
	check(stamp >= before - 10000000000LL && stamp <= now_ns(CLOCK_REALTIME) + 10000000000LL); /* of this clock, not of another */
	ok(close(to));
	ok(close(from));
}

static void errors_in_a_queue(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, refuser;
	socklen_t size = sizeof at;
	char text[16], room[512];
	struct iovec part = { text, sizeof text };
	struct msghdr message = { .msg_name = &refuser, .msg_namelen = sizeof refuser, .msg_iov = &part, .msg_iovlen = 1,
		.msg_control = room, .msg_controllen = sizeof room };
	int fd = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), gone = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	ok(bind(gone, (struct sockaddr *)&at, sizeof at));
	ok(getsockname(gone, (struct sockaddr *)&at, &size));
	ok(close(gone));
	number(fd, IPPROTO_IP, IP_RECVERR, 1);
	equal(ok(sendto(fd, "lost", 4, 0, (struct sockaddr *)&at, sizeof at)), 4);
	elsewhere();
	struct pollfd pollfd = { .fd = fd };
	equal(ok(poll(&pollfd, 1, 5000)), 1);
	equal(pollfd.revents, POLLERR);
	equal(ok(recvmsg(fd, &message, MSG_ERRQUEUE)), 4);
	same(text, "lost", 4);
	check(message.msg_flags & MSG_ERRQUEUE);
	equal(refuser.sin_port, at.sin_port);
	struct sock_extended_err *error = beside(&message, IPPROTO_IP, IP_RECVERR);
	check(error != NULL);
	equal(error->ee_errno, ECONNREFUSED);
	equal(error->ee_origin, SO_EE_ORIGIN_ICMP);
	ok(close(fd));
}

static void a_group(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xEFFF0107) };
	struct ip_mreqn group = { .imr_multiaddr = at.sin_addr, .imr_address.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof at;
	char text[8];
	int to = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), from = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	group.imr_ifindex = if_nametoindex("lo");
	ok(bind(to, (struct sockaddr *)&at, sizeof at));
	ok(getsockname(to, (struct sockaddr *)&at, &size));
	ok(setsockopt(to, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
	ok(setsockopt(from, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof group));
	elsewhere();
	equal(ok(sendto(from, "all", 3, 0, (struct sockaddr *)&at, sizeof at)), 3);
	elsewhere();
	struct pollfd pollfd = { .fd = to, .events = POLLIN };
	equal(ok(poll(&pollfd, 1, 5000)), 1);
	equal(ok(recv(to, text, sizeof text, 0)), 3);
	ok(setsockopt(to, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group));
	refused(setsockopt(to, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group), EADDRNOTAVAIL);
	ok(close(to));
	ok(close(from));
}

static void links(void)
{
	struct { struct nlmsghdr head; struct ifinfomsg link; } ask = {
		.head = { sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 4711, 0 } };
	static char answer[1 << 15] __attribute__((aligned(8)));
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = ok(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), loops = 0;

	number(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	equal(ok(sendto(fd, &ask, sizeof ask, 0, (struct sockaddr *)&kernel, sizeof kernel)), (int)sizeof ask);
	for (bool done = false; !done;) {
		elsewhere();
		int n = ok(recv(fd, answer, sizeof answer, 0));
		for (struct nlmsghdr *m = (void *)answer; NLMSG_OK(m, (unsigned)n); m = NLMSG_NEXT(m, n)) {
			equal(m->nlmsg_seq, 4711);
			done = done || m->nlmsg_type == NLMSG_DONE;
			if (m->nlmsg_type == RTM_NEWLINK)
				loops += !!(((struct ifinfomsg *)NLMSG_DATA(m))->ifi_flags & IFF_LOOPBACK);
		}
	}
	equal(loops, 1);
	ok(close(fd));
}

static void send_fds(int through, int first, int second)
{
	char room[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8))) = "";
	struct iovec part = { "f", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(2 * sizeof(int)) };
	memcpy(CMSG_DATA(c), (int[]){ first, second }, 2 * sizeof(int));
	equal(ok(sendmsg(through, &message, 0)), 1);
}

static void descriptors_on_their_way(void)
{
	int pair[2], pipes[2], found[2];
	char text[8], room[CMSG_SPACE(2 * sizeof(int))] __attribute__((aligned(8)));
	struct iovec part = { text, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };

	ok(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
	ok(pipe2(pipes, O_CLOEXEC));
	equal(ok(write(pipes[1], "kept", 4)), 4);
	send_fds(pair[0], pipes[0], pair[0]); /* the socket is on its way in itself, too */
	ok(close(pipes[0]));
	elsewhere();
	equal(ok(write(pipes[1], "more", 4)), 4); /* somebody may still read it */
	equal(ok(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC)), 1);
	int *fds = beside(&message, SOL_SOCKET, SCM_RIGHTS);
	check(fds != NULL);
	memcpy(found, fds, sizeof found);
	elsewhere();
	equal(ok(fcntl(found[0], F_GETFD)), FD_CLOEXEC);
	equal(ok(read(found[0], text, 8)), 8);
	same(text, "keptmore", 8);
	equal(ok(send(found[1], "x", 1, 0)), 1);
	equal(ok(recv(pair[1], text, 8, 0)), 1);
	for (int i = 0; i < 2; i++) {
		ok(close(found[i]));
		ok(close(pair[i]));
	}
	ok(close(pipes[1]));
}

/* ------------------------------------------------------------------ epoll, pipes, files, terminals */

static void exclusive_and_nested(void)
{
	int event = ok(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE)), inner = ok(epoll_create1(EPOLL_CLOEXEC)), outer = ok(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event wanted = { EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, { .u64 = 0x1122334455667788 } }, got;
	uint64_t two = 2, value = 0;

	ok(epoll_ctl(inner, EPOLL_CTL_ADD, event, &wanted));
	wanted = (struct epoll_event){ EPOLLIN, { .u64 = 7 } };
	refused(epoll_ctl(inner, EPOLL_CTL_MOD, event, &wanted), EINVAL); /* what is exclusive cannot be changed */
	ok(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &wanted));
	refused(epoll_ctl(inner, EPOLL_CTL_ADD, outer, &wanted), ELOOP);
	elsewhere();
	equal(ok(epoll_wait(outer, &got, 1, 0)), 0);
	equal(ok(write(event, &two, 8)), 8);
	elsewhere();
	equal(ok(epoll_wait(outer, &got, 1, 5000)), 1);
	equal(got.data.u64, 7);
	equal(ok(epoll_wait(inner, &got, 1, 0)), 1);
	check(got.data.u64 == 0x1122334455667788);
	elsewhere();
	equal(ok(epoll_wait(inner, &got, 1, 0)), 0); /* it has told of the edge */
	for (int i = 0; i < 2; i++) {
		equal(ok(read(event, &value, 8)), 8);
		equal(value, 1);
	}
	ok(close(outer));
	ok(close(inner));
	ok(close(event));
}

static void packets_in_a_pipe(void)
{
	int pipes[2];
	char text[16];

	ok(pipe2(pipes, O_CLOEXEC | O_DIRECT));
	equal(ok(write(pipes[1], "first", 5)), 5);
	equal(ok(write(pipes[1], "second", 6)), 6);
	elsewhere();
	check(ok(fcntl(pipes[1], F_GETFL)) & O_DIRECT);
	equal(ok(read(pipes[0], text, 3)), 3); /* the rest of the packet is gone */
	equal(ok(read(pipes[0], text, 16)), 6);
	same(text, "second", 6);
	ok(close(pipes[0]));
	ok(close(pipes[1]));
}

static volatile sig_atomic_t noticed;

static void on_notice(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	noticed = info->si_fd;
}

static void changes_in_a_directory(void)
{
	struct sigaction sa = { .sa_sigaction = on_notice, .sa_flags = SA_SIGINFO | SA_RESTART };
	int fd = ok(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), file;

	ok(sigaction(SIGRTMIN + 3, &sa, NULL));
	ok(fcntl(fd, F_SETSIG, SIGRTMIN + 3));
	if (fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT)) { /* a kernel without it */
		equal(errno, EINVAL);
		ok(close(fd));
		return;
	}
	for (int i = 0; i < 2; i++) {
		noticed = -1;
		elsewhere();
		file = ok(open("made", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
		ok(close(file));
		for (int j = 0; noticed < 0 && j < 5000; j++)
			nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		equal(noticed, fd);
		ok(unlink("made"));
	}
	ok(close(fd));
	signal(SIGRTMIN + 3, SIG_DFL);
}

static void a_directory_in_the_middle(void)
{
	char name[32];
	int seen[40] = { 0 }, n;
	static char room[512];

	ok(mkdir("many", 0700));
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof name, "many/%02d", i);
		ok(close(ok(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600))));
	}
	int fd = ok(open("many", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	while ((n = ok(syscall(SYS_getdents64, fd, room, 200)))) {
		for (int at = 0; at < n; at += *(unsigned short *)(room + at + 16))
			if (room[at + 19] != '.')
				seen[atoi(room + at + 19)]++;
		if (seconds < 0.5 || seen[17])
			elsewhere();
	}
	for (int i = 0; i < 40; i++) {
		equal(seen[i], 1);
		snprintf(name, sizeof name, "many/%02d", i);
		ok(unlink(name));
	}
	ok(close(fd));
	ok(rmdir("many"));
}

static void a_terminal_in_packet_mode(void)
{
	int master = ok(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)), on = 1, mode = 0, slave;
	struct winsize size = { 33, 111, 5, 6 }, now_size;
	struct termios set, now_set;
	char text[64];

	ok(grantpt(master));
	ok(unlockpt(master));
	ok(ioctl(master, TIOCPKT, &on));
	slave = ok(open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC));
	ok(tcgetattr(slave, &set));
	cfmakeraw(&set);
	set.c_cc[VMIN] = 3;
	set.c_cc[VTIME] = 1;
	ok(tcsetattr(slave, TCSANOW, &set));
	ok(ioctl(master, TIOCSWINSZ, &size));
	ok(ioctl(slave, TIOCEXCL));
	elsewhere();
	ok(tcgetattr(slave, &now_set));
	same(now_set.c_cc, set.c_cc, sizeof set.c_cc);
	check(now_set.c_lflag == set.c_lflag && now_set.c_iflag == set.c_iflag && now_set.c_oflag == set.c_oflag && now_set.c_cflag == set.c_cflag);
	ok(ioctl(slave, TIOCGWINSZ, &now_size));
	same(&now_size, &size, sizeof size);
	ok(ioctl(master, TIOCGPKT, &mode));
	equal(mode, 1);
	ok(ioctl(slave, TIOCGEXCL, &mode));
	equal(mode, 1);
	ok(ioctl(slave, TIOCNXCL));
	equal(ok(read(master, text, sizeof text)), 1);
	equal(text[0], TIOCPKT_NOSTOP); /* the keys for stop and start are none any more */
	equal(ok(write(slave, "abc", 3)), 3);
	elsewhere();
	equal(ok(read(master, text, sizeof text)), 4);
	equal(text[0], TIOCPKT_DATA);
	same(text + 1, "abc", 3);
	ok(tcflush(slave, TCOFLUSH));
	elsewhere();
	equal(ok(read(master, text, sizeof text)), 1);
	equal(text[0], TIOCPKT_FLUSHWRITE);
	ok(close(slave));
	ok(close(master));
}

PROGRAM(PART(every_socket_option),
	PART(urgent_data), PART(peeking), PART(corked), PART(facts_beside_datagrams), PART(errors_in_a_queue), PART(a_group), PART(links),
	PART(descriptors_on_their_way), PART(exclusive_and_nested), PART(packets_in_a_pipe), PART(changes_in_a_directory),
	PART(a_directory_in_the_middle), PART(a_terminal_in_packet_mode))
