/* Objects of the kernel that have properties of their own: they are what they were, wherever their program has been meanwhile. */
#include "mos.h"
#include <linux/securebits.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define NR_pidfd_send_signal 424
#define NR_pidfd_open 434
/* <linux/prctl.h>, newer than some distributions' */
#define PR_GET_AUXV_ 0x41555856
#define PR_GET_MDWE_ 66

static volatile sig_atomic_t caught, of_fd;

static void on_signal(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	of_fd = info->si_fd;
	caught++;
}

static void handle(int sig)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };

	caught = 0;
	of_fd = -1;
	ok(sigaction(sig, &sa, NULL));
}

static void told(int sig, int fd)
{
	for (int i = 0; !caught && i < 5000; i++) {
		struct timespec t = { 0, 1000000 };
		nanosleep(&t, NULL);
	}
	equal(caught, 1);
	equal(of_fd, fd);
	signal(sig, SIG_DFL);
}

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

static size_t text_of(const char *path, char *text, size_t room)
{
	int fd = ok(open(path, O_RDONLY | O_CLOEXEC));
	size_t n = ok(read(fd, text, room - 1));

	text[n] = 0;
	ok(close(fd));
	return n;
}

static void pipe_sizes(void)
{
	static char data[1 << 16];
	int p[2], held = 0;
	ssize_t n;

	ok(pipe2(p, O_NONBLOCK | O_CLOEXEC));
	int size = ok(fcntl(p[0], F_SETPIPE_SZ, 1 << 18));
	equal(size, 1 << 18);
	for (int i = 0; i < 2; i++) {
		elsewhere();
		equal(fcntl(p[1], F_GETPIPE_SZ), size);
		for (held = 0; (n = write(p[1], data, sizeof(data))) > 0; held += n)
			;
		equal(errno, EAGAIN);
		equal(held, size);
		refused(fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
		elsewhere();
		ok(ioctl(p[0], FIONREAD, &held));
		equal(held, size);
		for (; held; held -= n)
			n = ok(read(p[0], data, sizeof(data)));
	}
	equal(fcntl(p[1], F_SETPIPE_SZ, 4096), 4096);
	ok(close(p[0]));
	ok(close(p[1]));
}

static int with_securebits(void *unused UNUSED)
{
	int bits = SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED;

	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0)) {
		equal(errno, EPERM);
		return 9;
	}
	for (int i = 0; i < 3; i++) {
		equal(prctl(PR_GET_SECUREBITS), bits);
		refused(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), EPERM);
		elsewhere();
	}
	pid_t pid = ok(fork());
	if (!pid)
		_exit(prctl(PR_GET_SECUREBITS) == bits ? 6 : 7);
	reaped(pid, 6);
	return 9;
}

static void securebits(void)
{
	reaped(forked(with_securebits, NULL), 9);
}

static void coredump_filter(void)
{
	char before[32], text[32];

	text_of("/proc/self/coredump_filter", before, sizeof(before));
	int fd = ok(open("/proc/self/coredump_filter", O_WRONLY));
	write_all(fd, "0x7", 3);
	ok(close(fd));
	for (int i = 0; i < 2; i++) {
		elsewhere();
		text_of("/proc/self/coredump_filter", text, sizeof(text));
		equal(strtol(text, NULL, 16), 7);
	}
	pid_t pid = ok(fork());
	if (!pid) {
		text_of("/proc/self/coredump_filter", text, sizeof(text));
		_exit(strtol(text, NULL, 16) == 7 ? 3 : 4);
	}
	reaped(pid, 3);
	fd = ok(open("/proc/self/coredump_filter", O_WRONLY));
	dprintf(fd, "0x%s", before);
	ok(close(fd));
}

static int option6(int fd, int name)
{
	int value = -1;
	socklen_t size = sizeof(value);

	ok(getsockopt(fd, IPPROTO_IPV6, name, &value, &size));
	equal(size, sizeof(value));
	return value;
}

static void set6(int fd, int name, int value)
{
	ok(setsockopt(fd, IPPROTO_IPV6, name, &value, sizeof(value)));
}

static void internet6(void)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t size = sizeof(at);
	char buf[16], control[256];
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		equal(errno, EAFNOSUPPORT);
		return;
	}
	set6(fd, IPV6_V6ONLY, 1);
	set6(fd, IPV6_UNICAST_HOPS, 7);
	set6(fd, IPV6_TCLASS, 0x20);
	set6(fd, IPV6_RECVPKTINFO, 1);
	set6(fd, IPV6_RECVHOPLIMIT, 1);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		equal(errno, EADDRNOTAVAIL);
		ok(close(fd));
		return;
	}
	ok(getsockname(fd, (struct sockaddr *)&at, &size));
	ok(connect(fd, (struct sockaddr *)&at, sizeof(at)));
	for (int i = 0; i < 2; i++) {
		struct iovec part = { buf, sizeof(buf) };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
		int found = 0;

		equal(send(fd, "six", 3, 0), 3);
		elsewhere();
		equal(option6(fd, IPV6_V6ONLY), 1);
		equal(option6(fd, IPV6_UNICAST_HOPS), 7);
		equal(option6(fd, IPV6_TCLASS), 0x20);
		equal(recvmsg(fd, &message, 0), 3);
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			equal(c->cmsg_level, IPPROTO_IPV6);
			if (c->cmsg_type == IPV6_PKTINFO)
				same(&((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr, &at.sin6_addr, 16);
			else
				equal(*(int *)CMSG_DATA(c), 7);
			found++;
		}
		equal(found, 2);
	}
	ok(close(fd));
}

static int opens_to_write(void *name)
{
	int fd = open(name, O_WRONLY | O_NONBLOCK);

	return fd >= 0 ? 2 : errno == EWOULDBLOCK ? 3 : 4;
}

static void leases(void)
{
	int fd = ok(open("leased", O_CREAT | O_RDONLY | O_CLOEXEC, 0600));

	ok(fcntl(fd, F_SETSIG, SIGRTMIN + 2));
	handle(SIGRTMIN + 2);
	ok(fcntl(fd, F_SETLEASE, F_RDLCK));
	elsewhere();
	equal(fcntl(fd, F_GETLEASE), F_RDLCK);
	equal(fcntl(fd, F_GETSIG), SIGRTMIN + 2);
	reaped(forked(opens_to_write, "leased"), 3);
	told(SIGRTMIN + 2, fd);
	equal(fcntl(fd, F_GETLEASE), F_UNLCK); /* what it is being broken to */
	ok(fcntl(fd, F_SETLEASE, F_UNLCK));
	elsewhere();
	reaped(forked(opens_to_write, "leased"), 2);
	ok(close(fd));
	ok(unlink("leased"));
}

static void locks(void)
{
	int one = ok(open("locked", O_CREAT | O_RDWR, 0600)), two = ok(open("locked", O_RDWR)), again = ok(dup(one));
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET }, part = { .l_type = F_RDLCK, .l_start = 10, .l_len = 5 };

	ok(fcntl(one, F_OFD_SETLK, &whole));
	ok(close(one));
	elsewhere();
	refused(fcntl(two, F_OFD_SETLK, &part), EAGAIN);
	ok(fcntl(two, F_OFD_GETLK, &part));
	equal(part.l_type, F_WRLCK);
	equal(part.l_pid, -1);
	equal(part.l_len, 0);
	ok(close(again));
	part = (struct flock){ .l_type = F_RDLCK, .l_start = 10, .l_len = 5 };
	ok(fcntl(two, F_OFD_SETLK, &part));
	elsewhere();
	one = ok(open("locked", O_RDWR));
	ok(fcntl(one, F_OFD_GETLK, &whole));
	equal(whole.l_type, F_RDLCK);
	equal(whole.l_start, 10);
	equal(whole.l_len, 5);
	ok(close(one));
	ok(close(two));
	ok(unlink("locked"));
}

static void owners(void)
{
	struct f_owner_ex owner = { F_OWNER_PID, getpid() }, found;
	int p[2];

	ok(pipe(p));
	ok(fcntl(p[0], F_SETOWN_EX, &owner));
	ok(fcntl(p[0], F_SETSIG, SIGRTMIN + 3));
	handle(SIGRTMIN + 3);
	ok(fcntl(p[0], F_SETFL, O_ASYNC));
	elsewhere();
	ok(fcntl(p[0], F_GETOWN_EX, &found));
	equal(found.type, F_OWNER_PID);
	equal(found.pid, getpid());
	equal(fcntl(p[0], F_GETOWN), getpid());
	equal(fcntl(p[0], F_GETSIG), SIGRTMIN + 3);
	equal(fcntl(p[0], F_GETFL) & O_ASYNC, O_ASYNC);
	equal(write(p[1], "x", 1), 1);
	told(SIGRTMIN + 3, p[0]);
	ok(fcntl(p[0], F_SETOWN, -getpgrp()));
	elsewhere();
	ok(fcntl(p[0], F_GETOWN_EX, &found));
	equal(found.type, F_OWNER_PGRP);
	equal(found.pid, getpgrp());
	ok(close(p[0]));
	ok(close(p[1]));
}

static int waits(void *unused UNUSED)
{
	pause();
	return 1;
}

static void pidfds(void)
{
	char path[64], text[1024], line[32];
	siginfo_t info = { 0 };
	pid_t pid = forked(waits, NULL);
	int fd = ok(syscall(NR_pidfd_open, pid, O_NONBLOCK));
	struct pollfd end = { fd, POLLIN, 0 };

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	snprintf(line, sizeof(line), "\nPid:\t%d\n", (int)pid);
	elsewhere();
	text_of(path, text, sizeof(text));
	check(strstr(text, line) != NULL);
	equal(poll(&end, 1, 0), 0);
	refused(waitid(P_PIDFD, fd, &info, WEXITED), EAGAIN);
	ok(syscall(NR_pidfd_send_signal, fd, SIGTERM, NULL, 0));
	equal(poll(&end, 1, 5000), 1);
	elsewhere();
	ok(waitid(P_PIDFD, fd, &info, WEXITED));
	equal(info.si_pid, pid);
	equal(info.si_code, CLD_KILLED);
	equal(info.si_status, SIGTERM);
	refused(syscall(NR_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
	text_of(path, text, sizeof(text));
	check(strstr(text, "\nPid:\t-1\n") != NULL);
	ok(close(fd));
}

static void clock_that_may_be_set(void)
{
	struct itimerspec at = { .it_value.tv_sec = now_ns(CLOCK_REALTIME) / 1000000000 + 1000 }, left;
	int fd = ok(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC));
	char path[64], text[512];
	uint64_t times;

	ok(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	for (int i = 0; i < 2; i++) {
		elsewhere();
		refused(read(fd, &times, 8), EAGAIN);
		ok(timerfd_gettime(fd, &left));
		check(left.it_value.tv_sec > 900 && left.it_value.tv_sec <= 1000);
		text_of(path, text, sizeof(text));
		check(strstr(text, "settime flags: 03") != NULL);
	}
	ok(close(fd));
}

static void seals(void)
{
	int fd = ok(memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC)), plain = ok(memfd_create("plain", 0));

	write_all(fd, "0123456789", 10);
	equal(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	elsewhere();
	refused(ftruncate(fd, 11), EPERM);
	ok(ftruncate(fd, 9));
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE));
	elsewhere();
	equal(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE);
	refused(ftruncate(fd, 8), EPERM);
	refused(pwrite(fd, "x", 1, 0), EPERM);
	volatile char *p = ok(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
	elsewhere();
	equal(p[8], '8');
	ok(munmap((void *)p, 4096));
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
	elsewhere();
	refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	ok(close(fd));
	ok(close(plain));
}

/* prctl(2) that only asks: a value, "no such thing" or "not on this processor" is the same everywhere. */
static void prctls_that_ask(void)
{
	static const int plain[] = { PR_GET_TIMING, PR_GET_FPEMU, PR_GET_FPEXC, PR_GET_UNALIGN, PR_GET_ENDIAN, PR_GET_FP_MODE,
		PR_SVE_GET_VL, PR_GET_TAGGED_ADDR_CTRL, PR_GET_MDWE_, 9999 };
	unsigned long auxv[128] = { 0 }, again[128] = { 0 };
	int first[COUNT(plain)], errors[COUNT(plain)], tsc = 0, size = prctl(PR_GET_AUXV_, auxv, sizeof(auxv), 0, 0);
	int *place = NULL, here;

	check(size == -1 ? errno == EINVAL : size >= 32 && (size_t)size <= sizeof(auxv));
	for (size_t i = 0; i < COUNT(plain); i++) {
		first[i] = prctl(plain[i], 0, 0, 0, 0);
		errors[i] = first[i] < 0 ? errno : 0;
	}
	equal(syscall(SYS_set_tid_address, &here), getpid());
	for (int round = 0; round < 2; round++) {
		elsewhere();
		ok(prctl(PR_GET_TSC, &tsc));
		equal(tsc, PR_TSC_ENABLE);
		if (prctl(PR_GET_TID_ADDRESS, &place) == 0)
			check(place == &here);
		else
			equal(errno, EINVAL); /* a kernel without CONFIG_CHECKPOINT_RESTORE */
		equal(prctl(PR_GET_AUXV_, again, sizeof(again), 0, 0), size);
		same(again, auxv, sizeof(auxv));
		for (size_t i = 0; i < COUNT(plain); i++) {
			int found = prctl(plain[i], 0, 0, 0, 0);
			equal(found < 0 ? errno : 0, errors[i]);
			equal(found, first[i]);
		}
	}
}

PROGRAM(PART(pipe_sizes), PART(securebits), PART(coredump_filter), PART(internet6), PART(leases),
	PART(locks), PART(owners), PART(pidfds), PART(clock_that_may_be_set), PART(seals),
	PART(prctls_that_ask))
