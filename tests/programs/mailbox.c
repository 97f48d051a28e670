/* Direct communication (direct_communication(7)): sending, receiving, flags, filters, order; each part names the sentences it is about. */
#include "mos.h"
#include "../../include/mosix/mailbox.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>

static char text[1 << 16];

static int box(int flags)
{
	return ok(open("/proc/mosix/mybox", O_CREAT, flags));
}

static int sender(pid_t pid)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/mosix/mbox/0.0.0.0/%d", pid);
	return ok(open(path, 1));
}

static void say(int fd, const char *s)
{
	equal(write(fd, s, strlen(s)), strlen(s));
}

#define hears(fd, s) \
	do { \
		memset(text, 0, sizeof(text)); \
		equal(read(fd, text, sizeof(text)), strlen(s)); \
		if (strcmp(text, s)) \
			fail("heard '%s', not '%s'", text, s); \
	} while (0)

static unsigned int get_ip(const char *file_name)
{
	int ip = open(file_name, 0);

	return ip == -1 && errno > 255 ? -errno : ip;
}

/* "The returned value"; "Re-opening always returns the same value"; "without losing any pending messages"; "Closing my_mbox" */
static void opening(void)
{
	int mine = box(0), other;

	check(fcntl(mine, F_GETFD) != -1);
	say(other = sender(getpid()), "one");
	equal(box(8), mine);
	hears(mine, "one");
	refused(read(mine, text, 10), EAGAIN);
	equal(open("/proc/self/mybox", O_CREAT, 8), mine);
	equal(open("/proc/mosix/mybox", 0), mine); /* without O_CREAT the flags stay */
	refused(read(mine, text, 10), EAGAIN);
	say(other, "lost");
	ok(close(mine));
	refused(write(other, "x", 1), EACCES); /* willing to accept them */
	mine = box(8);
	refused(read(mine, text, 10), EAGAIN);
	ok(close(other));
	ok(close(mine));
	refused(write(mine, "x", 1), EBADF);
}

/* ERRORS of the sender */
static void errors(void)
{
	char path[80];
	int fds[130], mine = box(0), n = 0, them;

	refused(open("/proc/mosix/mbox/0.0.0.0/1", 1), ENOENT);
	refused(open("/proc/mosix/mbox/0.0.0.0/99999999", 1), ENOENT);
	refused(open("/proc/mosix/mbox/10.99.99.99/77", 1), ENOENT);
	snprintf(path, sizeof(path), "/proc/mosix/mbox/0.0.0.0/%d", getpid());
	refused(open(path, 0), EINVAL);
	refused(open(path, 2), EINVAL);
	refused(open("/proc/mosix/mybox", O_CREAT, 1024), EINVAL);
	them = sender(getpid());
	refused(write(them, text, (32 << 20) + 1), EINVAL);
	refused(write(them, text, -1), EINVAL);
	refused(write(them, (void *)8, 5), EFAULT);
	refused(read(them, text, 5), EBADF);
	refused(write(mine, text, 5), EBADF);
	ok(close(them));
	while (n < 130 && (fds[n] = open(path, 1)) >= 0)
		n++;
	equal(errno, EMFILE);
	equal(n, 128);
	while (n--)
		ok(close(fds[n]));
	pid_t pid = ok(fork());
	if (!pid)
		_exit(0);
	equal(mos_wait(pid), 0);
	them = sender(pid); /* "this error is detected only when attempting to send" */
	refused(write(them, "x", 1), ESRCH);
	ok(close(them));
	ok(close(mine));
}

/* Zero-length, "count cannot be zero", "A count of -1", truncation, flags 8, 32 and 64, readv */
static void reading(void)
{
	char a[4], b[100];
	struct iovec iov[2] = { { a, 4 }, { b, 100 } };
	int mine = box(8), me = sender(getpid());

	refused(read(mine, text, -1), EAGAIN);
	refused(read(mine, text, 0), EINVAL);
	say(me, "hello world");
	equal(read(mine, text, -1), 11);
	equal(open("/proc/self/message_length", 0), 11);
	equal(open("/proc/self/sender_pid", 0), getpid());
	check(get_ip("/proc/self/sender_home") >> 24 != 0);
	equal(read(mine, text, 5), 5);
	same(text, "hello", 5);
	equal(open("/proc/self/message_length", 0), 11);
	refused(read(mine, text, 5), EAGAIN);
	say(me, "0123456789");
	equal(readv(mine, iov, 2), 10);
	same(a, "0123", 4);
	same(b, "456789", 6);
	equal(box(8 | 32), mine);
	say(me, "a long message");
	say(me, "short");
	equal(read(mine, text, 6), 5);
	same(text, "short", 5);
	refused(read(mine, text, 6), EAGAIN);
	hears(mine, "a long message");
	equal(write(me, "", 0), 0);
	say(me, "after");
	equal(read(mine, text, 5), 0);
	hears(mine, "after");
	equal(box(8 | 64), mine);
	equal(write(me, "", 0), 0);
	say(me, "behind");
	equal(read(mine, text, 50), 0);
	equal(read(mine, text, 50), 0);
	equal(read(mine, text, -1), 0);
	equal(box(8), mine);
	hears(mine, "behind");
	equal(box(8 | 128), mine);
	say(me, "stream");
	equal(read(mine, text, 4), 4);
	equal(read(mine, text, 4), 2);
	same(text, "am", 2);
	ok(close(me));
	ok(close(mine));
}

/* FILTERING */
static void filters(void)
{
	struct interested f = { .conditions = INTERESTED_IN_MINLEN, .minlen = 4 }, many[3] = {
		{ .conditions = INTERESTED_IN_MAXLEN, .maxlen = 2 },
		{ .conditions = INTERESTED_IN_PATTERN, .testlen = 2, .testoffset = 1, .testdata = "es" },
		{ .conditions = INTERESTED_IN_PID | INTERESTED_IN_HOME | INTERESTED_IN_MESSAGENO, .pid = getpid(), .msgno = -4 },
	};
	struct interests store = { 3, many };
	unsigned char bits[4] = { 0xff, 0xff, 0xff, 0xff };
	int mine = box(8), me = sender(getpid());

	say(me, "abc");
	say(me, "test");
	say(me, "defgh");
	equal(syscall(SYS_ioctl, mine, SIOCINTERESTED, &f), 0);
	equal(read(mine, text, -1), 4);
	hears(mine, "test");
	f.conditions = INTERESTED_IN_MAXLEN;
	f.maxlen = 3;
	hears(mine, "abc");
	f.maxlen = 4;
	refused(read(mine, text, 10), EAGAIN);
	f.conditions = PREVENT_REMOVAL | INTERESTED_IN_OFFSET | INTERESTED_IN_MESSAGENO;
	f.msgno = 1;
	f.msgoffset = 2;
	hears(mine, "fgh");
	hears(mine, "fgh");
	equal(open("/proc/self/message_length", 0), 5);
	f.conditions |= INTERESTED_IN_PID;
	f.pid = getpid() + 1;
	refused(read(mine, text, 10), ENODATA);
	f.pid = getpid();
	f.msgno = 2;
	refused(read(mine, text, 10), EAGAIN);
	f.conditions = INTERESTED_IN_PATTERN;
	f.testlen = 9;
	refused(read(mine, text, 10), EINVAL);
	f.testlen = 8;
	f.conditions |= INTERESTED_IN_MAXLEN;
	f.maxlen = 7;
	refused(read(mine, text, 10), EINVAL); /* "impossible to receive any message" */
	equal(syscall(SYS_ioctl, mine, SIOCINTERESTED, NULL), (long)&f);
	refused(ioctl(mine, SIOCINTERESTED, (void *)8), EFAULT);
	equal(box(8 | 32), mine);
	f.conditions = INTERESTED_IN_MESSAGENO;
	f.msgno = 1;
	ok(ioctl(mine, SIOCINTERESTED, &f));
	refused(read(mine, text, 4), ENODATA);
	ok(ioctl(mine, SIOCINTERESTED, NULL));
	equal(ioctl(mine, SIOCSTOREINTERESTS, &store), 0);
	say(me, "yes");
	equal(ioctl(mine, SIOCWHICH, bits), 3);
	equal(bits[0], 6);
	equal(bits[1], 0xff);
	store.number = 1025;
	refused(ioctl(mine, SIOCSTOREINTERESTS, &store), EINVAL);
	store.number = -1;
	refused(ioctl(mine, SIOCSTOREINTERESTS, &store), EINVAL);
	store.number = 0;
	equal(ioctl(mine, SIOCSTOREINTERESTS, &store), 0);
	equal(ioctl(mine, SIOCWHICH, bits), 0);
	f.conditions = INTERESTED_IN_MAXLEN;
	f.maxlen = 0;
	ok(ioctl(mine, SIOCINTERESTED, &f));
	store.number = 3;
	equal(ioctl(mine, SIOCSTOREINTERESTS, &store), 0);
	equal(box(8), mine); /* "re-opening with different flags does not cancel the filtering" */
	refused(read(mine, text, 10), EAGAIN);
	equal(ioctl(mine, SIOCWHICH, bits), 3);
	refused((int)syscall(SYS_close_range, mine, mine, 8), EINVAL);
	refused(dup3(me, mine, O_NONBLOCK), EINVAL);
	equal(ioctl(mine, SIOCWHICH, bits), 3);
	ok(close(mine)); /* "Closing my_mbox also cancels the filtering", "discards the stored filters" */
	mine = box(8);
	equal(ioctl(mine, SIOCWHICH, bits), 0);
	equal(syscall(SYS_ioctl, mine, SIOCINTERESTED, NULL), 0);
	say(me, "unfiltered");
	hears(mine, "unfiltered");
	ok(close(me));
	ok(close(mine));
}

/* "These file-descriptors are inherited by child processes"; "my_mbox is NOT inherited"; dup2 to 0, 1, 2; "whichever is closed last" */
static void inheritance(void)
{
	int mine = box(0), me = sender(getpid()), keep = ok(dup(0)), out = ok(dup(1)), status;
	pid_t pid = ok(fork());

	if (!pid) {
		refused(fcntl(mine, F_GETFD), EBADF);
		ok(dup2(me, 1));
		say(1, "from the child");
		ok(close(me));
		execl("/bin/sh", "sh", "-c", "echo from exec", (char *)NULL);
		_exit(9);
	}
	ok(dup2(mine, 0));
	hears(0, "from the child");
	hears(0, "from exec\n");
	equal(mos_wait(pid), 0);
	say(me, "kept");
	ok(close(mine));
	equal(box(0), 0);
	hears(0, "kept");
	ok(dup2(keep, 0));
	refused(write(me, "x", 1), EACCES);
	ok(close(keep));
	ok(dup2(out, 1));
	ok(close(out));
	ok(close(me));

	/* and through exec: a program that knows of nothing reads what was sent */
	pid = ok(fork());
	if (!pid) {
		char line[10];
		mine = box(64 | 128); /* sh reads one byte at a time */
		check(mine >= 0);
		check(read(mine, line, 10) == 2);
		ok(dup2(mine, 0));
		ok(close(mine));
		int quiet = ok(open("/dev/null", O_WRONLY));
		ok(dup2(quiet, 1));
		execlp("sh", "sh", "-c", "read a && [ \"$a\" = 'for exec' ] && ! read b", (char *)NULL);
		_exit(9);
	}
	me = sender(pid);
	while (write(me, "go", 2) == -1) {
		equal(errno, EACCES);
		rest_ms(1);
	}
	say(me, "for exec\n");
	equal(write(me, "", 0), 0);
	status = mos_wait(pid);
	equal(status, 0);
	ok(close(me));
}

/* Who writes and reads on one node need not ask an office for each message; nor is there a mailbox when it has been closed. */
static void closed_by_dup(void)
{
	int mine = box(0), me = sender(getpid()), other = ok(dup(0));

	for (int i = 0; i < 12; i++) {
		say(me, "again");
		hears(mine, "again");
	}
	equal(dup2(other, mine), mine);
	refused(write(me, "x", 1), EACCES);
	ok(close(mine));
	ok(close(other));
	ok(close(me));
}

static volatile int caught;

static void on_signal(int sig UNUSED)
{
	caught++;
}

static int later(void *what)
{
	rest_ms(30);
	if (*(int *)what) {
		check(kill(getppid(), *(int *)what) == 0);
		rest_ms(30);
	}
	int fd = sender(getppid());
	say(fd, "at last");
	return 0;
}

/* With O_APPEND like a pipe: SIGPIPE and EPIPE without a receiver, a long write is short */
static void like_a_pipe(void)
{
	struct sigaction act = { .sa_handler = on_signal }, old;
	char path[80], *big = calloc(1, (32 << 20) + 5);
	int mine = box(128), end;

	snprintf(path, sizeof(path), "/proc/mosix/mbox/0.0.0.0/%d", getpid());
	end = ok(open(path, O_WRONLY | O_APPEND));
	say(end, "one");
	say(end, "two");
	equal(read(mine, text, 2), 2);
	same(text, "on", 2);
	equal(read_all(mine, text, 4), 4);
	same(text, "etwo", 4);
	equal(write(end, big, (32 << 20) + 5), 32 << 20);
	ok(close(mine));
	ok(sigaction(SIGPIPE, &act, &old));
	caught = 0;
	ssize_t n; /* away a write may be over before it is found out */
	while ((n = write(end, "x", 1)) == 1)
		usleep(1000);
	equal(n, -1);
	equal(errno, EPIPE);
	while (!caught)
		usleep(1000);
	equal(caught, 1);
	ok(sigaction(SIGPIPE, &old, NULL));
	ok(close(end));
	free(big);
}

/* "the call blocks until either a message or a signal arrives"; EINTR; SIGIO */
static void blocking(void)
{
	struct sigaction act = { .sa_handler = on_signal }, old, oldio;
	int mine = box(0), none = 0, usr1 = SIGUSR1, winch = SIGWINCH;
	pid_t pid = forked(later, &none);

	hears(mine, "at last");
	equal(open("/proc/self/sender_pid", 0), pid);
	reaped(pid, 0);
	pid = forked(later, &winch); /* ignored: not noticed */
	hears(mine, "at last");
	reaped(pid, 0);
	caught = 0;
	ok(sigaction(SIGUSR1, &act, &old));
	for (int tries = 0;; tries++) {
		caught = 0;
		pid = forked(later, &usr1);
		ssize_t n = read(mine, text, 100);
		equal(caught, 1);
		if (n == -1)
			break;
		equal(n, 7); /* a move took so long that the signal came between two attempts to read */
		check(tries < 20);
		reaped(pid, 0);
	}
	equal(errno, EINTR);
	hears(mine, "at last");
	reaped(pid, 0);
	act.sa_flags = SA_RESTART;
	ok(sigaction(SIGUSR1, &act, NULL));
	pid = forked(later, &usr1);
	hears(mine, "at last");
	equal(caught, 2);
	reaped(pid, 0);
	ok(sigaction(SIGUSR1, &old, NULL));

	ok(sigaction(SIGIO, &act, &oldio));
	equal(box(16), mine);
	caught = 0;
	pid = forked(later, &none);
	while (!caught)
		usleep(1000);
	reaped(pid, 0);
	/* poll(2) does not tell */
	struct pollfd polled = { .fd = mine, .events = POLLIN | POLLPRI };
	int before = ok(poll(&polled, 1, 0)), events = polled.revents;
	hears(mine, "at last");
	equal(ok(poll(&polled, 1, 0)), before);
	equal(polled.revents, events);
	ok(sigaction(SIGIO, &oldio, NULL));
	ok(close(mine));
}

/* Lengths up to 32MB; "no more space": ENOSPC with O_NONBLOCK, else the sender waits */
static void room(void)
{
	static const size_t sizes[] = { 1, 4095, 32768, 32769, 1 << 20, (5 << 20) + 3, 32 << 20 };
	char *big = malloc(32 << 20), *got = malloc(32 << 20);
	int mine = box(8), me = sender(getpid());

	datagen(big, 32 << 20, 7);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		equal(write(me, big, sizes[i]), sizes[i]);
		equal(read(mine, got, 32 << 20), sizes[i]);
		same(big, got, sizes[i]);
	}
	equal(write(me, big, 32 << 20), 32 << 20);
	ok(fcntl(me, F_SETFL, O_NONBLOCK));
	refused(write(me, big, 1), ENOSPC);
	equal(write(me, big, 0), 0);
	ok(fcntl(me, F_SETFL, 0));
	pid_t pid = ok(fork());
	if (!pid) {
		equal(write(me, "waited", 6), 6);
		_exit(0);
	}
	rest_ms(20);
	equal(read(mine, got, 32 << 20), 32 << 20);
	equal(read(mine, got, 10), 0);
	equal(box(0), mine);
	hears(mine, "waited");
	reaped(pid, 0);
	free(big);
	free(got);
	ok(close(me));
	ok(close(mine));
}

static int as_other(void *what)
{
	int *expected = what, fd;

	if (setgid(expected[1]) || setuid(65534))
		return 9;
	fd = sender(getppid());
	if (write(fd, "x", 1) == 1)
		return expected[0] ? 2 : 0;
	return errno == expected[0] ? 0 : 3;
}

/* "Allow receiving messages from other users of the same group", "from all other users"; EACCES (only root can test it) */
static void rights(void)
{
	int mine = box(0), no_one[2] = { EACCES, 65534 }, same_group[2] = { 0, 0 }, other_group[2] = { EACCES, 65534 };
	int anybody[2] = { 0, 65534 };

	if (!getuid() && !getgid()) {
		reaped(forked(as_other, no_one), 0);
		equal(box(1), mine);
		reaped(forked(as_other, other_group), 0);
		reaped(forked(as_other, same_group), 0);
		equal(box(2), mine);
		reaped(forked(as_other, anybody), 0);
		equal(box(0), mine);
		equal(read(mine, text, 10), 1);
		equal(read(mine, text, 10), 1);
	}
	ok(close(mine));
}

struct letter {
	int from, number;
	char filler[];
};
enum { MEMBERS = 4 };
static int letters = 30;
static pid_t members[MEMBERS];

/* One of four: sends to all others in turn, and checks what comes from each. */
static void member(int self, int mine)
{
	int to[MEMBERS], next[MEMBERS] = { 0 }, sent = 0, got = 0, all = letters * (MEMBERS - 1);
	struct letter *out = malloc(70000), *in = malloc(70000);

	for (int i = 0; i < MEMBERS; i++)
		to[i] = sender(members[i]);
	while (sent < letters || got < all) {
		if (sent < letters) {
			for (int i = 0; i < MEMBERS; i++) {
				size_t size = sizeof(*out) + (sent % 50 == 49 ? 65000 : sent % 7 * 100);
				if (i == self)
					continue;
				out->from = self;
				out->number = sent;
				memset(out->filler, sent, size - sizeof(*out));
				equal(write(to[i], out, size), size);
			}
			sent++;
		}
		while (got < sent * (MEMBERS - 1)) { /* who only sent would fill the others' mailboxes, and wait for ever */
			ssize_t size = ok(read(mine, in, 70000));
			check(in->from >= 0 && in->from < MEMBERS && in->from != self);
			equal(in->number, next[in->from]);
			equal(size, sizeof(*in) + (in->number % 50 == 49 ? 65000 : in->number % 7 * 100));
			for (size_t i = 0; i < size - sizeof(*in); i++)
				check(in->filler[i] == (char)in->number);
			equal(open("/proc/self/sender_pid", 0), members[in->from]);
			next[in->from]++;
			got++;
		}
	}
	equal(box(8), mine);
	refused(read(mine, in, 70000), EAGAIN); /* nothing twice */
	free(in);
	free(out);
}

/* "the order of messages per receiver is preserved, even when the sender(s) and receiver migrate" */
static void order(void)
{
	int ready[2], go[2], done[2];
	char byte;

	if (getenv("MOS_LETTERS"))
		letters = atoi(getenv("MOS_LETTERS"));
	ok(pipe(ready));
	ok(pipe(go));
	ok(pipe(done));
	for (int i = 0; i < MEMBERS; i++) {
		members[i] = ok(fork());
		if (!members[i]) {
			int mine = box(0);
			equal(write(ready[1], "r", 1), 1);
			equal(read_all(go[0], members, sizeof(members)), sizeof(members));
			member(i, mine);
			equal(write(done[1], "d", 1), 1);
			equal(read(go[0], &byte, 1), 1); /* until all are done: nobody may send to the dead */
			_exit(0);
		}
	}
	for (int i = 0; i < MEMBERS; i++)
		equal(read(ready[0], &byte, 1), 1);
	for (int i = 0; i < MEMBERS; i++)
		write_all(go[1], members, sizeof(members));
	for (int i = 0; i < MEMBERS; i++)
		equal(read(done[0], &byte, 1), 1);
	write_all(go[1], "abcd", MEMBERS);
	for (int i = 0; i < MEMBERS; i++)
		reaped(members[i], 0);
	for (int i = 0; i < 2; i++) {
		ok(close(ready[i]));
		ok(close(go[i]));
		ok(close(done[i]));
	}
}

static volatile int ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

/* Letter n of a child: its length is scattered around what is served in various ways, and every byte tells n. */
static size_t letter(int n)
{
	static const int lengths[] = { 1, 64, 300, 4000, 16300, 16384, 20000, 40000 };
	size_t length = lengths[n * 7 % 8] + n % 13;

	memset(text, 'a' + n % 26, length);
	return length;
}

static void hears_letter(int mine, int n, size_t most, pid_t from)
{
	static char expected[1 << 16];
	size_t length = letter(n);
	ssize_t got;

	memcpy(expected, text, length);
	memset(text, 0, sizeof(text));
	do
		got = read(mine, text, most);
	while (got == -1 && errno == EINTR);
	equal(got, length < most ? length : most);
	same(text, expected, got);
	if (n % 10 == 0) {
		equal(open("/proc/self/sender_pid", 0), from);
		equal(open("/proc/self/message_length", 0), length);
	}
}

/* Two relatives that write to each other all the time: the tracer or host knows both, and serves them in shorter and shorter ways. */
static void near(void)
{
	struct sigaction act = { .sa_handler = tick }, old;
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { { 0, 0 }, { 0, 0 } };
	int mine = box(0), to, up[2], n, file;
	char path[] = "near-XXXXXX", byte = 0;
	struct stat st;
	pid_t parent = getpid(), child;

	ok(pipe(up));
	child = ok(fork());
	if (!child) {
		mine = box(0);
		to = sender(parent);
		equal(write(up[1], &byte, 1), 1);
		for (n = 0; n < 100; n++) { /* there and back */
			hears_letter(mine, n, sizeof(text), parent);
			equal(write(to, text, letter(n)), letter(n));
		}
		for (n = 0; n < 100; n++) /* all at once */
			equal(write(to, text, letter(n)), letter(n));
		hears_letter(mine, 1, sizeof(text), parent);
		for (n = 0; n < 100; n++) { /* a timer here and there */
			equal(write(to, text, letter(n)), letter(n));
			if (n % 20 == 0)
				usleep(7000);
		}
		hears_letter(mine, 2, sizeof(text), parent); /* what went to the file is not here */
		_exit(0);
	}
	equal(read(up[0], &byte, 1), 1);
	to = sender(child);
	for (n = 0; n < 100; n++) {
		equal(write(to, text, letter(n)), letter(n));
		hears_letter(mine, n, sizeof(text), child);
	}
	usleep(5000);
	for (n = 0; n < 100; n++)
		hears_letter(mine, n, n % 5 ? sizeof(text) : 200, child);
	equal(write(to, text, letter(1)), letter(1));
	ok(sigaction(SIGALRM, &act, &old));
	setitimer(ITIMER_REAL, &often, NULL);
	for (n = 0; n < 100; n++)
		hears_letter(mine, n, sizeof(text), child);
	setitimer(ITIMER_REAL, &never, NULL);
	ok(sigaction(SIGALRM, &old, NULL));
	check(ticks > 0);
	file = ok(mkstemp(path)); /* a number that was a sender's */
	ok(dup2(file, to));
	equal(write(to, text, letter(1)), letter(1));
	ok(close(to));
	equal(ok(dup(file)), to);
	equal(write(to, text, letter(1)), letter(1));
	ok(fstat(file, &st));
	equal(st.st_size, 2 * letter(1));
	ok(unlink(path));
	ok(close(to));
	equal(sender(child), to);
	equal(write(to, text, letter(2)), letter(2));
	equal(mos_wait(child), 0);
	for (n = 0; n < 2000 && write(to, "x", 1) == 1; n++) /* its last node may hear a little later that it has ended */
		usleep(1000);
	refused(write(to, "x", 1), ESRCH);
	ok(close(to));
	ok(close(mine));
	ok(close(file));
	ok(close(up[0]));
	ok(close(up[1]));
}

PROGRAM(PART(opening), PART(errors), PART(reading), PART(filters), PART(inheritance), PART(closed_by_dup), PART(like_a_pipe), PART(blocking), PART(rights), PART(room), PART(order), PART(near))
