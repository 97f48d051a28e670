/* Every signal, from every kind of source, under every disposition: what it does, and what is seen of it. The native run is the reference. */
#include "mos.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

enum disposition { DEFAULT, IGNORED, HANDLED, ONCE, BLOCKED, BLOCKED_IGNORED, BLOCKED_HANDLED, DISPOSITIONS };
static const char *const named[] = { "default", "ignored", "handled", "once", "blocked", "blocked+ignored", "blocked+handled" };

/* A source makes the signal come to the calling process; `burns`: it does so when CPU time has been used. */
struct source {
	const char *name;
	void (*make)(int sig);
	bool burns;
};

static volatile sig_atomic_t heard, code;
static volatile bool returns;

static void on_signal(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	heard++;
	code = info->si_code;
	if (!returns) { /* a fault would come again */
		dprintf(3, "handled, code %d\n", info->si_code);
		_exit(7);
	}
}

static void dispose(int sig, enum disposition how)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t set;

	if (how == IGNORED || how == BLOCKED_IGNORED)
		sa.sa_handler = SIG_IGN;
	if (how == HANDLED || how == ONCE || how == BLOCKED_HANDLED) {
		sa.sa_sigaction = on_signal;
		sa.sa_flags = SA_SIGINFO | SA_RESTART | (how == ONCE ? SA_RESETHAND : 0);
	}
	sigaction(sig, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(how >= BLOCKED ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Use CPU time until the signal has come, or long enough to know that nothing is seen of it. */
static void burn(int sig, enum disposition how)
{
	int64_t end = now_ns(CLOCK_MONOTONIC) + 60000000000LL;
	sigset_t pending;

	while (!heard && now_ns(CLOCK_MONOTONIC) < end) {
		for (volatile int i = 0; i < 1000000; i++)
			;
		ok(sigpending(&pending));
		if (sigismember(&pending, sig) || (how == IGNORED && now_ns(CLOCK_PROCESS_CPUTIME_ID) > 40000000))
			break;
	}
}

/* What the child has seen goes to descriptor 3, one line. */
static void child(int sig, enum disposition how, const struct source *from)
{
	struct sigaction after;
	struct timespec zero = { 0, 0 };
	sigset_t set;
	siginfo_t info;

	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	dispose(sig, how);
	from->make(sig);
	if (from->burns)
		burn(sig, how);
	sigaction(sig, NULL, &after);
	sigpending(&set);
	dprintf(3, "heard %d code %d", (int)heard, (int)code);
	if (how == ONCE)
		dprintf(3, " then %s", after.sa_handler == SIG_DFL ? "default" : "handled");
	if (sigismember(&set, sig)) {
		sigemptyset(&set);
		sigaddset(&set, sig);
		int taken = sigtimedwait(&set, &info, &zero);
		dprintf(3, " pending, taken %d code %d", taken == sig, taken == sig ? info.si_code : 0);
	}
	dprintf(3, "\n");
	_exit(6);
}

static void one(int sig, enum disposition how, const struct source *from)
{
	char seen[200] = "";
	int p[2], status;
	size_t length;

	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		close(p[0]);
		dup2(p[1], 3);
		child(sig, how, from);
	}
	ok(close(p[1]));
	while (waitpid(pid, &status, WUNTRACED) != pid)
		;
	bool stopped = WIFSTOPPED(status);
	if (stopped) {
		equal(WSTOPSIG(status), sig);
		ok(kill(pid, SIGCONT));
		status = mos_wait(pid);
	}
	length = read_all(p[0], seen, sizeof(seen) - 1);
	if (length && seen[length - 1] == '\n')
		seen[length - 1] = 0;
	ok(close(p[0]));
	if (mos_first)
		dprintf(1, "%s %s by %s:%s %s %d: %s\n", sig >= SIGRTMIN ? "real-time" : strsignal(sig), named[how], from->name,
			stopped ? " stopped, then" : "", WIFEXITED(status) ? "exited" : "killed",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), seen);
}

static void every(const int *signals, size_t count, const struct source *from)
{
	for (size_t i = 0; i < count; i++)
		for (enum disposition how = DEFAULT; how < DISPOSITIONS; how++)
			one(signals[i], how, from);
}

/* ------------------------------------------------------------------ sent by programs */

static void by_kill(int sig)
{
	returns = true;
	kill(getpid(), sig);
}

static int send_to_parent(void *sig)
{
	return kill(getppid(), *(int *)sig) < 0;
}

static void by_another(int sig)
{
	sigset_t chld, old;

	returns = true;
	/* the death of the sender is no signal that is asked about */
	sigemptyset(&chld);
	if (sig != SIGCHLD)
		sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &old);
	pid_t pid = forked(send_to_parent, &sig);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void by_queue(int sig)
{
	returns = true;
	sigqueue(getpid(), sig, (union sigval){ .sival_int = sig });
}

static const int all[] = {
	SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT,
	SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS, 34, 50, 64,
};
static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU };

static void sent(void)
{
	every(all, COUNT(all), &(struct source){ "kill", by_kill, false });
}

static void sent_by_another(void)
{
	static const int some[] = { SIGTERM, SIGABRT, SIGXCPU, SIGPROF, SIGVTALRM, SIGSEGV, SIGURG, 40 };

	every(some, COUNT(some), &(struct source){ "another", by_another, false });
}

static void queued(void)
{
	static const int some[] = { SIGTRAP, SIGUSR1, SIGXCPU, SIGPROF, SIGSYS, SIGCHLD, 40 };

	every(some, COUNT(some), &(struct source){ "sigqueue", by_queue, false });
}

static void stop_keys(void)
{
	for (size_t i = 0; i < COUNT(stops); i++)
		for (enum disposition how = IGNORED; how < DISPOSITIONS; how++)
			one(stops[i], how, &(struct source){ "kill", by_kill, false });
}

/* ------------------------------------------------------------------ faults */

static void by_fault(int sig)
{
	volatile int zero = 0;

	returns = sig == SIGTRAP;
	switch (sig) {
	case SIGSEGV:
		*(volatile char *)16 = 1;
		break;
	case SIGFPE:
		zero = 1 / zero;
		break;
	case SIGILL:
		__asm__ volatile("ud2");
		break;
	case SIGTRAP:
		__asm__ volatile("int3");
	}
}

static void overflow(int depth)
{
	volatile char page[4096];

	page[0] = 1;
	if (depth)
		overflow(depth - 1);
	page[1] = page[0];
}

static void by_a_small_stack(int sig)
{
	stack_t st = { .ss_sp = malloc(65536), .ss_size = 65536 };
	struct sigaction sa;

	sigaltstack(&st, NULL);
	sigaction(sig, NULL, &sa);
	sa.sa_flags |= SA_ONSTACK;
	sigaction(sig, &sa, NULL);
	setrlimit(RLIMIT_STACK, &(struct rlimit){ 256 * 1024, RLIM_INFINITY });
	overflow(1000);
}

static void faults(void)
{
	static const int some[] = { SIGSEGV, SIGFPE, SIGILL, SIGTRAP }, stack[] = { SIGSEGV };

	every(some, COUNT(some), &(struct source){ "a fault", by_fault, false });
	every(stack, 1, &(struct source){ "a stack overflow", by_a_small_stack, false });
}

/* ------------------------------------------------------------------ timers */

static void by_posix_timer(int sig, clockid_t clock, long ns)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = sig };
	struct itimerspec once = { { 0, 0 }, { 0, ns } };
	timer_t timer;

	returns = true;
	ok(timer_create(clock, &event, &timer));
	ok(timer_settime(timer, 0, &once, NULL));
}

static void by_clock(int sig)
{
	by_posix_timer(sig, CLOCK_MONOTONIC, 1000000);
	for (int64_t end = now_ns(CLOCK_MONOTONIC) + 5000000; now_ns(CLOCK_MONOTONIC) < end;)
		usleep(1000);
}

static void by_process_time(int sig)
{
	by_posix_timer(sig, CLOCK_PROCESS_CPUTIME_ID, 5000000);
}

static void by_thread_time(int sig)
{
	by_posix_timer(sig, CLOCK_THREAD_CPUTIME_ID, 5000000);
}

static void by_itimer(int sig)
{
	struct itimerval once = { { 0, 0 }, { 0, 5000 } };

	returns = true;
	ok(setitimer(sig == SIGPROF ? ITIMER_PROF : sig == SIGVTALRM ? ITIMER_VIRTUAL : ITIMER_REAL, &once, NULL));
}

static void timers(void)
{
	static const int some[] = { SIGALRM, SIGPROF, SIGXCPU, SIGURG, SIGABRT, 45 }, of_cpu[] = { SIGUSR1, SIGPROF, SIGABRT, 45 }, own[] = { SIGALRM, SIGPROF, SIGVTALRM };

	every(some, COUNT(some), &(struct source){ "a timer", by_clock, false });
	every(of_cpu, COUNT(of_cpu), &(struct source){ "a timer of CPU time", by_process_time, true });
	every(of_cpu, 1, &(struct source){ "a timer of its thread", by_thread_time, true });
	every(own, COUNT(own), &(struct source){ "setitimer", by_itimer, true });
}

/* ------------------------------------------------------------------ the kernel */

static void by_limit(int sig)
{
	int fd = open("limited", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	returns = true;
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, RLIM_INFINITY });
	if (sig == SIGXFSZ && pwrite(fd, "x", 1, 4096) != -1)
		_exit(1);
	close(fd);
}

static void by_pipe(int sig UNUSED)
{
	int p[2];

	returns = true;
	ok(pipe(p));
	close(p[0]);
	if (write(p[1], "x", 1) != -1)
		_exit(1);
}

static int nothing(void *arg UNUSED)
{
	return 3;
}

static void by_death(int sig UNUSED)
{
	siginfo_t info;

	returns = true;
	pid_t pid = forked(nothing, NULL);
	while (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
		;
}

static void by_socket(int sig)
{
	int s[2];

	returns = true;
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	ok(fcntl(s[0], F_SETOWN, getpid()));
	ok(fcntl(s[0], F_SETFL, O_ASYNC));
	ok(fcntl(s[0], F_SETSIG, sig == SIGIO ? 0 : sig));
	equal(write(s[1], "x", 1), 1);
}

static void kernel(void)
{
	static const int limit[] = { SIGXFSZ }, pipes[] = { SIGPIPE }, death[] = { SIGCHLD }, sockets[] = { SIGIO, 41 };

	every(limit, 1, &(struct source){ "RLIMIT_FSIZE", by_limit, false });
	every(pipes, 1, &(struct source){ "a broken pipe", by_pipe, false });
	every(death, 1, &(struct source){ "a child's end", by_death, false });
	every(sockets, 2, &(struct source){ "a socket", by_socket, false });
}

PROGRAM(PART(sent), PART(sent_by_another), PART(queued), PART(stop_keys), PART(faults), PART(timers), PART(kernel))
