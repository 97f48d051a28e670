/* A terminal: modes, sizes, line editing, and job control on a pseudo-terminal that the program opens itself. */
#include "mos.h"
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;

static void open_pair(void)
{
	char name[64];

	master = ok(posix_openpt(O_RDWR | O_NOCTTY));
	equal(grantpt(master), 0);
	equal(unlockpt(master), 0);
	equal(ptsname_r(master, name, sizeof(name)), 0);
	slave = ok(open(name, O_RDWR | O_NOCTTY));
	char *again = ttyname(slave);
	check(again && strcmp(again, name) == 0);
}

static void close_pair(void)
{
	ok(close(slave));
	ok(close(master));
}

static void modes(void)
{
	struct termios t, back;
	int n;

	open_pair();
	check(isatty(slave) && isatty(master));
	ok(tcgetattr(slave, &t));
	check(t.c_lflag & ICANON && t.c_lflag & ECHO);
	cfmakeraw(&t);
	t.c_cc[VMIN] = 3;
	t.c_cc[VTIME] = 0;
	cfsetspeed(&t, B38400);
	ok(tcsetattr(slave, TCSANOW, &t));
	ok(tcgetattr(slave, &back));
	equal(back.c_lflag, t.c_lflag);
	equal(back.c_cc[VMIN], 3);
	equal(cfgetospeed(&back), B38400);
	write_all(master, "a\003z", 3);
	char buf[8];
	equal(read(slave, buf, 8), 3);
	same(buf, "a\003z", 3);
	t.c_cc[VMIN] = 0;
	t.c_cc[VTIME] = 1;
	ok(tcsetattr(slave, TCSADRAIN, &t));
	equal(read(slave, buf, 8), 0);
	write_all(slave, "out", 3);
	struct pollfd p = { master, POLLIN, 0 };
	equal(poll(&p, 1, -1), 1);
	ok(ioctl(master, FIONREAD, &n));
	equal(n, 3);
	equal(read(master, buf, 8), 3);
	ok(ioctl(slave, TIOCOUTQ, &n));
	write_all(master, "gone", 4);
	ok(tcflush(slave, TCIFLUSH));
	t.c_lflag |= ICANON;
	ok(tcsetattr(slave, TCSAFLUSH, &t));
	ok(tcdrain(slave));
	ok(tcflow(slave, TCOOFF));
	ok(tcflow(slave, TCOON));
	ok(tcsendbreak(slave, 0));
	close_pair();
	int fd = ok(open("plain", O_RDWR | O_CREAT, 0600));
	refused(tcgetattr(fd, &t), ENOTTY);
	refused(ioctl(fd, TIOCGWINSZ, buf), ENOTTY);
	ok(close(fd));
	ok(unlink("plain"));
}

static void line_editing(void)
{
	char buf[64], shown[4096];
	size_t n = 0;

	open_pair();
	write_all(master, "abc\177\177xy\n", 8);
	equal(read(slave, buf, sizeof(buf)), 4);
	same(buf, "axy\n", 4);
	write_all(master, "kill me\025next\nmore\n", 18);
	equal(read(slave, buf, sizeof(buf)), 5);
	same(buf, "next\n", 5);
	equal(read(slave, buf, 2), 2);
	equal(read(slave, buf + 2, sizeof(buf)), 3);
	same(buf, "more\n", 5);
	write_all(master, "\004", 1);
	equal(read(slave, buf, sizeof(buf)), 0);
	write_all(slave, "END\n", 4);
	/* What is shown comes in pieces, which may end anywhere. */
	do {
		struct pollfd p = { master, POLLIN, 0 };
		equal(poll(&p, 1, -1), 1);
		check(n < sizeof(shown));
		n += ok(read(master, shown + n, sizeof(shown) - n));
	} while (!memmem(shown, n, "END\r\n", 5));
	close_pair();
}

static volatile sig_atomic_t winches, interrupts;

static void count_signal(int sig)
{
	if (sig == SIGWINCH)
		winches++;
	else
		interrupts++;
}

static int tty_child(void *arg UNUSED)
{
	struct winsize w;
	sigset_t none;
	struct sigaction sa = { .sa_handler = count_signal };

	mos_part = "tty_child";
	close(master);
	sigemptyset(&none);
	check(setsid() == getpid());
	ok(ioctl(slave, TIOCSCTTY, 0));
	equal(tcgetpgrp(slave), getpid());
	equal(tcgetsid(slave), getpid());
	int fd = ok(open("/dev/tty", O_RDWR));
	ok(close(fd));
	ok(sigaction(SIGWINCH, &sa, NULL));
	ok(sigaction(SIGINT, &sa, NULL));
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGWINCH);
	sigaddset(&block, SIGINT);
	ok(sigprocmask(SIG_BLOCK, &block, NULL));
	write_all(slave, "R", 1);
	while (!winches)
		sigsuspend(&none);
	ok(ioctl(slave, TIOCGWINSZ, &w));
	equal(w.ws_row, 33);
	equal(w.ws_col, 111);
	write_all(slave, "W", 1);
	while (!interrupts)
		sigsuspend(&none);
	signal(SIGQUIT, SIG_DFL);
	write_all(slave, "I", 1);
	for (;;)
		pause();
}

static void wait_for(char c)
{
	char got = 0;

	while (got != c) {
		struct pollfd p = { master, POLLIN, 0 };
		equal(poll(&p, 1, -1), 1);
		equal(read(master, &got, 1), 1);
	}
}

static void signals_of_the_terminal(void)
{
	struct winsize w = { 33, 111, 0, 0 };
	int status;

	open_pair();
	winches = interrupts = 0;
	pid_t pid = forked(tty_child, NULL);
	wait_for('R');
	ok(ioctl(master, TIOCSWINSZ, &w));
	wait_for('W');
	write_all(master, "\003", 1);
	wait_for('I');
	write_all(master, "\034", 1);
	status = mos_wait(pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGQUIT);
	close_pair();
}

static int job(void *arg UNUSED)
{
	char line[16];

	mos_part = "job";
	setpgid(0, 0);
	for (;;) {
		ssize_t n = read(slave, line, sizeof(line));
		if (n == 2 && line[0] == 'q')
			return 7;
		if (n <= 0)
			return 8;
	}
}

static int shell(void *arg UNUSED)
{
	int status;

	mos_part = "shell";
	close(master);
	ok(setsid());
	ok(ioctl(slave, TIOCSCTTY, 0));
	signal(SIGTTOU, SIG_IGN);
	pid_t me = getpgrp(), pid = ok(fork());
	if (pid == 0) {
		signal(SIGTTOU, SIG_DFL);
		_exit(job(NULL));
	}
	setpgid(pid, pid);
	/* In the background its read stops it by SIGTTIN. */
	equal(waitpid(pid, &status, WUNTRACED), pid);
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
	ok(tcsetpgrp(slave, pid));
	equal(tcgetpgrp(slave), pid);
	ok(kill(-pid, SIGCONT));
	equal(waitpid(pid, &status, WCONTINUED), pid);
	check(WIFCONTINUED(status));
	write_all(slave, "F", 1);
	/* Now the other side types Ctrl-Z. */
	equal(waitpid(pid, &status, WUNTRACED), pid);
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
	ok(tcsetpgrp(slave, me));
	write_all(slave, "Z", 1);
	ok(tcsetpgrp(slave, pid));
	ok(kill(-pid, SIGCONT));
	write_all(slave, "C", 1);
	equal(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	return 0;
}

static void job_control(void)
{
	struct termios t;

	open_pair();
	ok(tcgetattr(slave, &t));
	t.c_lflag &= ~ECHO;
	ok(tcsetattr(slave, TCSANOW, &t));
	pid_t pid = forked(shell, NULL);
	wait_for('F');
	write_all(master, "x\n\032", 3);
	wait_for('Z');
	wait_for('C');
	write_all(master, "q\n", 2);
	reaped(pid, 0);
	close_pair();
}

static volatile sig_atomic_t hangups;

static void on_hangup(int sig UNUSED)
{
	hangups++;
}

static int hung_up(void *arg)
{
	int *ready = arg;
	char c;
	struct sigaction sa = { .sa_handler = on_hangup };

	mos_part = "hung_up";
	close(master);
	ok(sigaction(SIGHUP, &sa, NULL));
	ok(setsid());
	ok(ioctl(slave, TIOCSCTTY, 0));
	write_all(ready[1], "x", 1);
	for (;;) {
		ssize_t n = read(slave, &c, 1);
		if (n == 0)
			break;
		check(n == -1 && (errno == EINTR || errno == EIO));
		if (errno == EIO)
			break;
	}
	check(hangups == 1);
	return 3;
}

static void hangup(void)
{
	int ready[2];
	char c;

	hangups = 0;
	ok(pipe(ready));
	open_pair();
	pid_t pid = forked(hung_up, ready);
	ok(close(slave));
	equal(read(ready[0], &c, 1), 1);
	ok(close(master));
	reaped(pid, 3);
	ok(close(ready[0]));
	ok(close(ready[1]));
}

PROGRAM(PART(modes), PART(line_editing), PART(signals_of_the_terminal), PART(job_control), PART(hangup))
