/* What signals do: every default action, who hears what from whom, order of queued ones, masks in handlers, restarts call by call. */
#include "mos.h"
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <termios.h>

static volatile sig_atomic_t count[65], order[64], heard;
static volatile siginfo_t infos[65];

static void on_signal(int sig, siginfo_t *info, void *context UNUSED)
{
	count[sig]++;
	infos[sig] = *info;
	if (heard < (int)COUNT(order))
		order[heard++] = sig;
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };

	count[sig] = 0;
	ok(sigaction(sig, &sa, NULL));
}

static sigset_t only(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	if (sig)
		sigaddset(&set, sig);
	return set;
}

/* A child that waits until it is told to go on, or until a signal ends it. */
static pid_t waiting_child(int p[2])
{
	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		char c;
		struct rlimit none = { 0, 0 };
		setrlimit(RLIMIT_CORE, &none);
		close(p[1]);
		setpgid(0, 0);
		_exit(read(p[0], &c, 1) == 1 ? 91 : 1);
	}
	ok(close(p[0]));
	/* A group of its own, which is no orphan while we live: the stop keys' signals do nothing to orphans. */
	setpgid(pid, pid);
	return pid;
}

static void defaults(void)
{
	static const int ignored[] = { SIGCHLD, SIGURG, SIGWINCH, SIGCONT }, stops[] = { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };
	int p[2], status;

	for (int sig = 1; sig <= 64; sig += sig == 31 ? 3 : sig < 31 ? 1 : 15) {
		bool spared = false, stopped = false;

		signal(sig, SIG_DFL); /* who started us may have ignored some */
		for (int i = 0; i < 4; i++) {
			spared |= sig == ignored[i];
			stopped |= sig == stops[i];
		}
		pid_t pid = waiting_child(p);
		ok(kill(pid, sig));
		if (stopped) {
			equal(waitpid(pid, &status, WUNTRACED), pid);
			check(WIFSTOPPED(status));
			equal(WSTOPSIG(status), sig);
			ok(kill(pid, SIGCONT));
			equal(waitpid(pid, &status, WCONTINUED), pid);
			check(WIFCONTINUED(status));
		}
		if (spared || stopped) {
			equal(write(p[1], "x", 1), 1);
			reaped(pid, 91);
		} else
			killed(pid, sig);
		ok(close(p[1]));
	}
}

static void senders(void)
{
	siginfo_t made = { .si_signo = SIGRTMIN + 1, .si_code = SI_QUEUE };

	made.si_pid = 4242;
	made.si_uid = 77;
	made.si_int = 55;
	handle(SIGUSR1, 0);
	handle(SIGRTMIN + 1, 0);
	ok(syscall(SYS_tkill, gettid(), SIGUSR1));
	check(count[SIGUSR1] == 1 && infos[SIGUSR1].si_code == SI_TKILL && infos[SIGUSR1].si_pid == getpid());
	ok(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	check(count[SIGUSR1] == 2 && infos[SIGUSR1].si_code == SI_TKILL && infos[SIGUSR1].si_uid == getuid());
	ok(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGRTMIN + 1, &made));
	check(count[SIGRTMIN + 1] == 1 && infos[SIGRTMIN + 1].si_pid == 4242 && infos[SIGRTMIN + 1].si_int == 55);
	made.si_code = -77;
	ok(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN + 1, &made));
	check(count[SIGRTMIN + 1] == 2 && infos[SIGRTMIN + 1].si_code == -77 && infos[SIGRTMIN + 1].si_uid == 77);
	refused(syscall(SYS_tkill, -1, SIGUSR1), EINVAL);
	refused(syscall(SYS_tgkill, getpid(), 1, SIGUSR1), ESRCH);
	refused(syscall(SYS_tgkill, getpid(), gettid(), 65), EINVAL);
	refused(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, (void *)8), EFAULT);
	made.si_code = 0;
	refused(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &made), EPERM);
	ok(kill(0, 0));
	refused(kill(0x7ffffff0, SIGTERM), ESRCH);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGRTMIN + 1, SIG_DFL);
}

static int barrage(void *arg)
{
	pid_t to = *(pid_t *)arg;

	for (int i = 0; i < 5; i++)
		for (int sig = SIGRTMIN + 3; sig >= SIGRTMIN; sig--)
			if (sigqueue(to, sig, (union sigval){ .sival_int = i }) < 0)
				return 1;
	return kill(to, SIGUSR2) < 0 || kill(to, SIGUSR2) < 0 || kill(to, SIGUSR1) < 0 ? 2 : 92;
}

/* Blocked meanwhile: the lowest numbers first, real-time ones each as often as sent, in their order; the others once. */
static void in_order(void)
{
	sigset_t all, old, pending;
	struct timespec zero = { 0, 0 };
	siginfo_t info;
	pid_t me = getpid();

	sigfillset(&all);
	ok(sigprocmask(SIG_SETMASK, &all, &old));
	reaped(forked(barrage, &me), 92);
	ok(sigpending(&pending));
	check(sigismember(&pending, SIGRTMIN + 3) && sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGTERM));
	sigset_t wanted = only(SIGUSR1);
	sigaddset(&wanted, SIGUSR2);
	for (int sig = SIGRTMIN; sig <= SIGRTMIN + 3; sig++)
		sigaddset(&wanted, sig);
	equal(sigtimedwait(&wanted, &info, &zero), SIGUSR1);
	equal(sigtimedwait(&wanted, &info, &zero), SIGUSR2);
	for (int sig = SIGRTMIN; sig <= SIGRTMIN + 3; sig++)
		for (int i = 0; i < 5; i++) {
			equal(sigtimedwait(&wanted, &info, &zero), sig);
			equal(info.si_int, i);
		}
	refused(sigtimedwait(&wanted, &info, &zero), EAGAIN);
	reaped(forked(barrage, &me), 92);
	for (int sig = SIGRTMIN; sig <= SIGRTMIN + 3; sig++)
		handle(sig, 0);
	handle(SIGUSR1, 0);
	handle(SIGUSR2, 0);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	for (int sig = SIGRTMIN; sig <= SIGRTMIN + 3; sig++) {
		equal(count[sig], 5);
		equal(infos[sig].si_int, 4);
		signal(sig, SIG_DFL);
	}
	equal(count[SIGUSR1], 1);
	equal(count[SIGUSR2], 1);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	refused(sigtimedwait(&wanted, NULL, (void *)8), EFAULT);
	refused(syscall(SYS_rt_sigtimedwait, &wanted, NULL, &zero, 4), EINVAL);
}

static volatile sig_atomic_t blocked_inside, mask_changed;

static void looks_at_mask(int sig UNUSED)
{
	sigset_t now, more = only(SIGHUP);

	sigprocmask(SIG_BLOCK, &more, &now);
	blocked_inside = sigismember(&now, SIGUSR1) | sigismember(&now, SIGUSR2) << 1 | sigismember(&now, SIGTERM) << 2;
	mask_changed++;
}

static void masks_in_handlers(void)
{
	struct sigaction sa = { .sa_handler = looks_at_mask }, back;
	sigset_t now;

	sigaddset(&sa.sa_mask, SIGUSR2);
	ok(sigaction(SIGUSR1, &sa, NULL));
	ok(raise(SIGUSR1));
	equal(blocked_inside, 3);
	ok(sigprocmask(SIG_BLOCK, NULL, &now));
	check(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2) && !sigismember(&now, SIGHUP));
	sa.sa_flags = SA_NODEFER;
	ok(sigaction(SIGUSR1, &sa, &back));
	check(back.sa_handler == looks_at_mask && sigismember(&back.sa_mask, SIGUSR2) && !(back.sa_flags & SA_NODEFER));
	ok(raise(SIGUSR1));
	equal(blocked_inside, 2);
	refused(sigaction(SIGKILL, &sa, NULL), EINVAL);
	refused(sigaction(SIGSTOP, &sa, NULL), EINVAL);
	refused(syscall(SYS_rt_sigaction, SIGUSR1, (void *)8, NULL, 8), EFAULT);
	refused(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
	refused(syscall(SYS_rt_sigprocmask, 99, &now, NULL, 8), EINVAL);
	refused(syscall(SYS_rt_sigprocmask, SIG_BLOCK, (void *)8, NULL, 8), EFAULT);
	ok(sigaction(SIGKILL, NULL, &back));
	signal(SIGUSR1, SIG_DFL);
}

static int knocks(void *arg)
{
	/* Again and again, since the first may come before the call. */
	for (int i = 0; i < 4000; i++) {
		rest_ms(2);
		if (kill(*(pid_t *)arg, SIGUSR1) < 0)
			return 1;
	}
	return 2;
}

static int sysv_sem, sysv_queue, pair[2], locked_file, epoll_fd;

static int blocking_call(int which)
{
	struct timespec far = { 1000, 0 };
	struct sembuf take = { 0, -1, 0 };
	struct { long type; char text[8]; } message;
	struct pollfd p = { pair[0], POLLIN, 0 };
	struct iovec v = { message.text, 8 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct epoll_event e;
	sigset_t set = only(SIGHUP);
	fd_set r;

	FD_ZERO(&r);
	FD_SET(pair[0], &r);
	switch (which) {
	case 0: return read(pair[0], message.text, 8);
	case 1: return recvmsg(pair[0], &m, 0);
	case 2: return nanosleep(&far, NULL);
	case 3: return poll(&p, 1, -1);
	case 4: return select(pair[0] + 1, &r, NULL, NULL, NULL);
	case 5: return epoll_wait(epoll_fd, &e, 1, -1);
	case 6: return semop(sysv_sem, &take, 1);
	case 7: return msgrcv(sysv_queue, &message, 8, 0, 0);
	case 8: return flock(locked_file, LOCK_EX);
	case 9: return pause();
	case 10: return sigwaitinfo(&set, NULL);
	case 11: errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &far, NULL); return errno ? -1 : 0;
	case 12: return (int)syscall(SYS_semop, sysv_sem, &take, 1);
	case 13: return wait(NULL);
	}
	return -1;
}

/* Without SA_RESTART every waiting call ends with EINTR. */
static void broken_off(void)
{
	pid_t me = getpid();

	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	sysv_sem = ok(semget(IPC_PRIVATE, 1, 0600));
	ok(syscall(SYS_semop, sysv_sem, &(struct sembuf){ 0, 1, 0 }, 1));
	equal(blocking_call(12), 0);
	sysv_queue = ok(msgget(IPC_PRIVATE, 0600));
	int holder = ok(open("locked", O_RDWR | O_CREAT, 0600));
	locked_file = ok(open("locked", O_RDWR));
	ok(flock(holder, LOCK_EX));
	epoll_fd = ok(epoll_create1(0));
	handle(SIGUSR1, 0);
	pid_t pid = forked(knocks, &me);
	for (int which = 0; which < 14; which++) {
		int before = count[SIGUSR1];
		errno = 0;
		if (blocking_call(which) != -1 || errno != EINTR)
			fail("call %d: %s, not EINTR", which, strerror(errno));
		if (count[SIGUSR1] <= before)
			fail("call %d: EINTR before its handler has run", which);
	}
	ok(kill(pid, SIGKILL));
	killed(pid, SIGKILL);
	/* With it, these go on until there is something to be had. */
	handle(SIGUSR1, SA_RESTART);
	int before = count[SIGUSR1];
	pid = forked(knocks, &me);
	pid_t giver = ok(fork());
	if (giver == 0) {
		static const long one[2] = { 1, 0 };
		int left;
		rest_ms(8);
		if (kill(me, SIGUSR1) < 0)	/* the other one may not have come to it yet */
			_exit(4);
		write_all(pair[1], "r", 1);
		do {
			rest_ms(8);
			if (ioctl(pair[0], FIONREAD, &left) < 0)
				_exit(3);
		} while (left);
		write_all(pair[1], "m", 1);
		rest_ms(8);
		if (flock(holder, LOCK_UN) < 0)
			_exit(1);
		rest_ms(8);
		_exit(msgsnd(sysv_queue, one, 0, 0) == 0 ? 93 : 2);
	}
	equal(blocking_call(0), 1);
	equal(blocking_call(1), 1);
	equal(blocking_call(8), 0);
	while (blocking_call(7) < 0)
		equal(errno, EINTR);	/* System V calls are never restarted. */
	check(count[SIGUSR1] > before);
	reaped(giver, 93);
	ok(kill(pid, SIGKILL));
	killed(pid, SIGKILL);
	signal(SIGUSR1, SIG_DFL);
	ok(semctl(sysv_sem, 0, IPC_RMID));
	ok(msgctl(sysv_queue, IPC_RMID, NULL));
	for (int i = 0; i < 2; i++)
		ok(close(pair[i]));
	ok(close(holder));
	ok(close(locked_file));
	ok(close(epoll_fd));
	ok(unlink("locked"));
}

static void children_tell(void)
{
	int p[2];
	siginfo_t info;
	sigset_t block = only(SIGCHLD), old;

	ok(sigprocmask(SIG_BLOCK, &block, &old));
	handle(SIGCHLD, 0);
	pid_t pid = waiting_child(p);
	static const int codes[] = { CLD_STOPPED, CLD_CONTINUED, CLD_KILLED }, sent[] = { SIGSTOP, SIGCONT, SIGTERM };
	for (int i = 0; i < 3; i++) {
		int before = count[SIGCHLD];
		ok(kill(pid, sent[i]));
		while (count[SIGCHLD] == before)
			sigsuspend(&old);
		check(infos[SIGCHLD].si_pid == pid && infos[SIGCHLD].si_uid == getuid());
		equal(infos[SIGCHLD].si_code, codes[i]);
		equal(infos[SIGCHLD].si_status, sent[i]);
		memset(&info, 0, sizeof(info));
		ok(waitid(P_PID, pid, &info, WEXITED | WSTOPPED | WCONTINUED | WNOWAIT));
		check(info.si_code == codes[i] && info.si_status == sent[i]);
		ok(waitid(P_PID, pid, &info, WEXITED | WSTOPPED | WCONTINUED));
		check(info.si_pid == pid && info.si_code == codes[i]);
	}
	ok(close(p[1]));
	/* SA_NOCLDSTOP: only its end is told. SA_NOCLDWAIT: nothing is left to wait for. */
	handle(SIGCHLD, SA_NOCLDSTOP);
	pid = waiting_child(p);
	ok(kill(pid, SIGSTOP));
	ok(waitid(P_PID, pid, &info, WSTOPPED));
	ok(kill(pid, SIGCONT));
	ok(waitid(P_PID, pid, &info, WCONTINUED));
	equal(count[SIGCHLD], 0);
	equal(write(p[1], "x", 1), 1);
	while (!count[SIGCHLD])
		sigsuspend(&old);
	equal(infos[SIGCHLD].si_code, CLD_EXITED);
	equal(infos[SIGCHLD].si_status, 91);
	reaped(pid, 91);
	ok(close(p[1]));
	handle(SIGCHLD, SA_NOCLDWAIT);
	pid = waiting_child(p);
	equal(write(p[1], "x", 1), 1);
	refused(waitpid(pid, NULL, 0), ECHILD);
	ok(close(p[1]));
	signal(SIGCHLD, SIG_DFL);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static int breaks_pipe(void *arg UNUSED)
{
	int p[2];

	if (pipe(p) < 0 || close(p[0]) < 0)
		return 1;
	return write(p[1], "x", 1) + 1;
}

static void broken_pipes(void)
{
	int p[2], s[2];

	killed(forked(breaks_pipe, NULL), SIGPIPE);
	handle(SIGPIPE, 0);
	ok(pipe(p));
	ok(close(p[0]));
	refused(write(p[1], "x", 1), EPIPE);
	equal(count[SIGPIPE], 1);
	equal(infos[SIGPIPE].si_pid, getpid());
	ok(close(p[1]));
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	ok(close(s[0]));
	refused(send(s[1], "x", 1, MSG_NOSIGNAL), EPIPE);
	equal(count[SIGPIPE], 1);
	refused(send(s[1], "x", 1, 0), EPIPE);
	equal(count[SIGPIPE], 2);
	ok(close(s[1]));
	signal(SIGPIPE, SIG_DFL);
}

static int reads_nothing(void *arg)
{
	close(((int *)arg)[1]);
	rest_ms(30);
	return 0;
}

/* The reader ends while a writer waits that ignores SIGPIPE: what was taken counts. */
static void reader_gone(void)
{
	int p[2];
	static char big[300000];
	pid_t pid;

	signal(SIGPIPE, SIG_IGN);
	ok(pipe(p));
	pid = forked(reads_nothing, p);
	ok(close(p[0]));
	equal(write(p[1], big, sizeof(big)), 65536);
	refused(write(p[1], big, sizeof(big)), EPIPE);
	ok(close(p[1]));
	reaped(pid, 0);
	signal(SIGPIPE, SIG_DFL);
}

/* Each change tells what was before: the one before it, however often it is made on the way between nodes. */
static void old_actions(void)
{
	for (int i = 1; i <= 400; i++) {
		struct sigaction act = { .sa_flags = i & 1 ? SA_RESTART : SA_NODEFER }, old;

		act.sa_handler = i % 3 == 0 ? SIG_DFL : i % 3 == 1 ? SIG_IGN : looks_at_mask;
		sigemptyset(&act.sa_mask);
		sigaddset(&act.sa_mask, 1 + i % 8);
		ok(sigaction(SIGRTMIN, &act, &old));
		if (i > 1) {
			int j = i - 1;

			check(old.sa_handler == (j % 3 == 0 ? SIG_DFL : j % 3 == 1 ? SIG_IGN : looks_at_mask));
			equal(old.sa_flags & (SA_RESTART | SA_NODEFER), j & 1 ? SA_RESTART : SA_NODEFER);
			equal(sigismember(&old.sa_mask, 1 + j % 8), 1);
		}
		if (i % 8 == 0)
			rest_ms(1);
	}
	ok(signal(SIGRTMIN, SIG_DFL) == SIG_ERR ? -1 : 0);
}

static void asks(int sig)
{
	count[sig] += getppid() != 0;
}

/* Handlers that make calls, in a program that makes none: each must unblock the next. */
static void while_computing(void)
{
	struct sigaction sa = { .sa_handler = asks };
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
	volatile uint64_t steps = 0;

	count[SIGALRM] = 0;
	ok(sigaction(SIGALRM, &sa, NULL));
	ok(setitimer(ITIMER_REAL, &every, NULL));
	while (count[SIGALRM] < 10)
		steps++;
	ok(setitimer(ITIMER_REAL, &never, NULL));
	signal(SIGALRM, SIG_DFL);
}

static sigjmp_buf away_from_here;

static void jumps(int sig UNUSED)
{
	siglongjmp(away_from_here, 7);
}

static void jumped_out(void)
{
	struct itimerval soon = { { 0, 3000 }, { 0, 3000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = jumps };
	int p[2];
	char c;

	ok(pipe(p));
	for (int i = 0; i < 5; i++) {
		if (sigsetjmp(away_from_here, 1) == 0) {
			ok(sigaction(SIGALRM, &sa, NULL));
			ok(setitimer(ITIMER_REAL, &soon, NULL));
			ok(read(p[0], &c, 1));
			fail("the read ended");
		}
		ok(setitimer(ITIMER_REAL, &never, NULL));
		sigset_t now;
		ok(sigprocmask(SIG_BLOCK, NULL, &now));
		check(!sigismember(&now, SIGALRM));
	}
	signal(SIGALRM, SIG_DFL);
	ok(close(p[0]));
	ok(close(p[1]));
}

static int on_terminal(void *arg)
{
	const char *name = arg;
	int status;
	char c;

	if (setsid() < 0)
		return 1;
	int tty = open(name, O_RDWR);
	if (tty < 0 || tcgetpgrp(tty) != getpid())
		return 2;
	/* In the background: reading stops it, so does changing the terminal; writing does with TOSTOP only. */
	for (int how = 0; how < 3; how++) {
		int want = how == 0 ? SIGTTIN : SIGTTOU;
		pid_t pid = fork();
		if (pid == 0) {
			struct termios t;
			setpgid(0, 0);
			if (how == 0)
				_exit(read(tty, &c, 1) == 1 && c == '\n' ? 94 : 1);
			if (how == 1)
				_exit(tcsetpgrp(tty, getpgrp()) == 0 ? 94 : 1);
			if (tcgetattr(tty, &t) < 0)
				_exit(2);
			_exit(tcsetattr(tty, TCSANOW, &t) == 0 ? 94 : 3);
		}
		setpgid(pid, pid);
		if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != want)
			return 10 + how;
		sigset_t block = only(SIGTTOU), old;
		sigprocmask(SIG_BLOCK, &block, &old);
		if (tcsetpgrp(tty, pid) < 0)
			return 20 + how;
		if (how == 0 && write(tty, "", 0) < 0)
			return 21;
		kill(-pid, SIGCONT);
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 94)
			return 30 + how;
		if (tcsetpgrp(tty, getpid()) < 0)
			return 40 + how;
		sigprocmask(SIG_SETMASK, &old, NULL);
	}
	if (geteuid() == 0) {
		signal(SIGHUP, SIG_IGN);
		if (vhangup() < 0 || read(tty, &c, 1) != 0 || write(tty, "x", 1) != -1 || errno != EIO)
			return 50;
	}
	return 95;
}

static void on_the_terminal(void)
{
	int master = ok(posix_openpt(O_RDWR | O_NOCTTY));

	ok(grantpt(master));
	ok(unlockpt(master));
	pid_t pid = forked(on_terminal, ptsname(master));
	equal(write(master, "\n", 1), 1);
	reaped(pid, 95);
	ok(close(master));
}

static volatile sig_atomic_t flips, flipping;

static void flipped(int sig UNUSED)
{
	flips++;
}

static void *raises(void *counted)
{
	while (flipping) {
		ok(raise(SIGUSR2));
		++*(volatile long *)counted;
	}
	return NULL;
}

/* What one thread does at a signal changes while it is on its way to another: a handler runs, or nothing happens. */
static void actions_of_others(void)
{
	struct sigaction handled = { .sa_handler = flipped }, ignored = { .sa_handler = SIG_IGN }, before;
	pthread_t thread;
	volatile long counted = 0;

	flipping = 1;
	flips = 0;
	ok(sigaction(SIGUSR2, &handled, &before));
	equal(pthread_create(&thread, NULL, raises, (void *)&counted), 0);
	while (counted < 200)
		for (int i = 0; i < 500; i++) {
			ok(sigaction(SIGUSR2, &handled, NULL));
			ok(sigaction(SIGUSR2, &ignored, NULL));
		}
	flipping = 0;
	equal(pthread_join(thread, NULL), 0);
	check(flips <= counted);
	ok(sigaction(SIGUSR2, &before, NULL));
}

PROGRAM(PART(defaults), PART(senders), PART(in_order), PART(masks_in_handlers), PART(broken_off), PART(children_tell), PART(broken_pipes), PART(reader_gone), PART(old_actions),
	PART(while_computing), PART(jumped_out), PART(on_the_terminal), PART(actions_of_others))
