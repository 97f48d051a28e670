/* Signals: who sends, what arrives, masks, waiting, stacks, restarts, faults. */
#include "mos.h"
#include <poll.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile sig_atomic_t count[65], last, depth, deepest;
static volatile siginfo_t infos[65];

static void catcher(int sig, siginfo_t *info, void *context UNUSED)
{
	count[sig]++;
	last = sig;
	infos[sig] = *info;
}

static void install(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	count[sig] = 0;
	ok(sigaction(sig, &sa, NULL));
}

static sigset_t only(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return set;
}

static void siginfo_data(void)
{
	install(SIGUSR1, catcher, 0);
	install(SIGRTMIN, catcher, 0);
	ok(kill(getpid(), SIGUSR1));
	equal(count[SIGUSR1], 1);
	equal(infos[SIGUSR1].si_signo, SIGUSR1);
	equal(infos[SIGUSR1].si_code, SI_USER);
	equal(infos[SIGUSR1].si_pid, getpid());
	equal(infos[SIGUSR1].si_uid, getuid());
	ok(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_ptr = (void *)0x123456789aL }));
	equal(count[SIGRTMIN], 1);
	equal(infos[SIGRTMIN].si_code, SI_QUEUE);
	check(infos[SIGRTMIN].si_ptr == (void *)0x123456789aL);
	raise(SIGUSR1);
	equal(infos[SIGUSR1].si_code, SI_TKILL);
	pid_t me = getpid(), pid = ok(fork());
	if (pid == 0)
		_exit(kill(me, SIGUSR1) == 0 && sigqueue(me, SIGRTMIN, (union sigval){ .sival_int = 77 }) == 0 ? 0 : 1);
	reaped(pid, 0);
	equal(count[SIGUSR1], 3);
	equal(infos[SIGUSR1].si_pid, pid);
	equal(count[SIGRTMIN], 2);
	equal(infos[SIGRTMIN].si_int, 77);
	equal(infos[SIGRTMIN].si_pid, pid);
	refused(kill(getpid(), 65), EINVAL);
	ok(kill(getpid(), 0));
}

static void masks(void)
{
	sigset_t block, old, set;
	struct timespec at_once = { 0, 0 };
	siginfo_t info;

	install(SIGUSR1, catcher, 0);
	install(SIGUSR2, catcher, 0);
	sigfillset(&block);
	ok(sigprocmask(SIG_SETMASK, &block, &old));
	for (int i = 0; i < 5; i++)
		raise(SIGUSR1);
	for (int i = 0; i < 5; i++)
		ok(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = i }));
	ok(sigpending(&set));
	check(sigismember(&set, SIGUSR1) && !sigismember(&set, SIGUSR2) && sigismember(&set, SIGRTMIN + 3));
	equal(count[SIGUSR1], 0);
	block = only(SIGRTMIN + 3);
	for (int i = 0; i < 5; i++) {
		equal(sigwaitinfo(&block, &info), SIGRTMIN + 3);
		equal(info.si_int, i);
	}
	refused(sigtimedwait(&block, &info, &at_once), EAGAIN);
	at_once.tv_nsec = 2000000;
	refused(sigtimedwait(&block, &info, &at_once), EAGAIN);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	equal(count[SIGUSR1], 1);
	ok(sigprocmask(SIG_BLOCK, NULL, &set));
	check(!sigismember(&set, SIGUSR1));
	block = only(SIGKILL);
	ok(sigprocmask(SIG_BLOCK, &block, NULL));
	ok(sigprocmask(SIG_BLOCK, NULL, &set));
	check(!sigismember(&set, SIGKILL));
}

static void suspend(void)
{
	sigset_t block = only(SIGUSR1), old, none;

	sigemptyset(&none);
	install(SIGUSR1, catcher, 0);
	install(SIGALRM, catcher, 0);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	raise(SIGUSR1);
	refused(sigsuspend(&none), EINTR);
	equal(count[SIGUSR1], 1);
	pid_t me = getpid(), pid = ok(fork());
	if (pid == 0) {
		rest_ms(5);
		_exit(kill(me, SIGUSR1));
	}
	refused(sigsuspend(&none), EINTR);
	equal(count[SIGUSR1], 2);
	reaped(pid, 0);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void pauses(void)
{
	struct itimerval soon = { { 0, 0 }, { 0, 4000 } }, left;

	install(SIGALRM, catcher, 0);
	for (int i = 1; i <= 3; i++) {
		sigset_t block = only(SIGALRM), old;
		ok(sigprocmask(SIG_BLOCK, &block, &old));
		ok(setitimer(ITIMER_REAL, &soon, NULL));
		refused(sigsuspend(&old), EINTR);
		ok(sigprocmask(SIG_SETMASK, &old, NULL));
		equal(count[SIGALRM], i);
	}
	equal(alarm(100), 0);
	ok(getitimer(ITIMER_REAL, &left));
	check(left.it_value.tv_sec > 50);
	check(alarm(0) >= 90);
	pid_t me = getpid(), pid = ok(fork());
	if (pid == 0) {
		for (int i = 0; i < 2000; i++) {
			rest_ms(3);
			if (kill(me, SIGALRM) < 0 || getppid() != me)
				break;
		}
		_exit(0);
	}
	refused(pause(), EINTR);
	ok(kill(pid, SIGKILL));
	killed(pid, SIGKILL);
}

static void nested(int sig, siginfo_t *info UNUSED, void *context UNUSED)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	if (sig == SIGUSR1) {
		raise(SIGUSR2);
		raise(SIGUSR1);
		count[SIGUSR2] += 100;
	}
	count[sig]++;
	depth--;
}

static void nesting(void)
{
	deepest = 0;
	install(SIGUSR1, nested, 0);
	install(SIGUSR2, nested, 0);
	pid_t pid = ok(fork());
	if (pid == 0) {
		install(SIGUSR1, nested, SA_RESETHAND);
		raise(SIGUSR1);
		_exit(0);
	}
	killed(pid, SIGUSR1);
	struct sigaction sa = { .sa_sigaction = nested, .sa_flags = SA_SIGINFO };
	sigaddset(&sa.sa_mask, SIGUSR2);
	ok(sigaction(SIGUSR2, &sa, NULL));
	count[SIGUSR1] = -1;
	raise(SIGUSR2);
	equal(count[SIGUSR2], 1);
	equal(deepest, 1);
	install(SIGUSR1, catcher, SA_NODEFER | SA_RESETHAND);
	raise(SIGUSR1);
	ok(sigaction(SIGUSR1, NULL, &sa));
	check(sa.sa_handler == SIG_DFL);
}

static char *volatile stack_low, *volatile stack_high, *volatile seen_at;

static void on_stack(int sig, siginfo_t *info UNUSED, void *context UNUSED)
{
	char here[512];

	memset(here, sig, sizeof(here));
	seen_at = here + sig % 8;
	count[sig]++;
}

static void alternate_stack(void)
{
	stack_t st = { .ss_sp = malloc(65536), .ss_size = 65536 }, old;

	stack_low = st.ss_sp;
	stack_high = stack_low + 65536;
	ok(sigaltstack(&st, &old));
	install(SIGUSR1, on_stack, SA_ONSTACK);
	install(SIGUSR2, on_stack, 0);
	raise(SIGUSR1);
	check(seen_at >= stack_low && seen_at < stack_high);
	raise(SIGUSR2);
	check(seen_at < stack_low || seen_at >= stack_high);
	ok(sigaltstack(NULL, &old));
	check(old.ss_sp == st.ss_sp && old.ss_size == 65536);
	pid_t pid = ok(fork());
	if (pid == 0) {
		raise(SIGUSR1);
		_exit(seen_at >= stack_low && seen_at < stack_high ? 0 : 1);
	}
	reaped(pid, 0);
	st.ss_flags = SS_DISABLE;
	ok(sigaltstack(&st, NULL));
	free(st.ss_sp);
}

static void interrupted_reads(void)
{
	char c;
	pid_t me = getpid();

	for (int restart = 0; restart < 2; restart++) {
		int p[2];
		ok(pipe(p));
		install(SIGUSR1, catcher, restart ? SA_RESTART : 0);
		pid_t pid = ok(fork());
		if (pid == 0) {
			close(p[0]);
			do {
				rest_ms(4);
				kill(me, SIGUSR1);
			} while (!restart && write(p[1], "", 0) == 0 && getppid() == me);
			rest_ms(4);
			_exit(write(p[1], "x", 1) == 1 ? 0 : 1);
		}
		if (restart) {
			equal(read(p[0], &c, 1), 1);
			equal(count[SIGUSR1], 1);
			reaped(pid, 0);
		} else {
			refused(read(p[0], &c, 1), EINTR);
			check(count[SIGUSR1] >= 1);
			ok(kill(pid, SIGKILL));
			killed(pid, SIGKILL);
		}
		ok(close(p[0]));
		ok(close(p[1]));
	}
}

static void child_signal(void)
{
	sigset_t block = only(SIGCHLD), old;

	install(SIGCHLD, catcher, 0);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	pid_t pid = ok(fork());
	if (pid == 0)
		_exit(19);
	while (!count[SIGCHLD])
		sigsuspend(&old);
	equal(infos[SIGCHLD].si_pid, pid);
	equal(infos[SIGCHLD].si_code, CLD_EXITED);
	equal(infos[SIGCHLD].si_status, 19);
	reaped(pid, 19);
	install(SIGCHLD, catcher, 0);
	pid = ok(fork());
	if (pid == 0) {
		raise(SIGKILL);
		_exit(1);
	}
	while (!count[SIGCHLD])
		sigsuspend(&old);
	equal(infos[SIGCHLD].si_code, CLD_KILLED);
	equal(infos[SIGCHLD].si_status, SIGKILL);
	killed(pid, SIGKILL);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGCHLD, SIG_IGN);
	pid = ok(fork());
	if (pid == 0)
		_exit(0);
	refused(waitpid(pid, NULL, 0), ECHILD);
	signal(SIGCHLD, SIG_DFL);
}

static void ignored(void)
{
	signal(SIGTERM, SIG_IGN);
	raise(SIGTERM);
	ok(kill(getpid(), SIGTERM));
	signal(SIGTERM, SIG_DFL);
	raise(SIGURG);
	raise(SIGWINCH);
	raise(SIGCONT);
	struct sigaction sa;
	refused(sigaction(SIGKILL, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL), EINVAL);
	ok(sigaction(SIGKILL, NULL, &sa));
}

static char *volatile guarded;
static sigjmp_buf back;

static void on_fault(int sig, siginfo_t *info, void *context UNUSED)
{
	count[sig]++;
	infos[sig] = *info;
	if (sig != SIGSEGV || mprotect((void *)((uintptr_t)info->si_addr & ~4095UL), 4096, PROT_READ | PROT_WRITE) < 0)
		siglongjmp(back, sig);
}

static void faults(void)
{
	install(SIGSEGV, on_fault, SA_NODEFER);
	install(SIGFPE, on_fault, 0);
	guarded = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(guarded != MAP_FAILED);
	for (int i = 0; i < 16; i++) {
		((volatile char *)guarded)[i * 4096 + i] = i + 1;
		equal(count[SIGSEGV], i + 1);
		check(infos[SIGSEGV].si_addr == guarded + i * 4096 + i);
		equal(infos[SIGSEGV].si_code, SEGV_ACCERR);
	}
	for (int i = 0; i < 16; i++)
		equal(guarded[i * 4096 + i], i + 1);
	ok(munmap(guarded, 16 * 4096));
	if (sigsetjmp(back, 1) == 0) {
		*(volatile char *)guarded = 1;
		fail("a write to unmapped memory went through");
	}
	equal(infos[SIGSEGV].si_code, SEGV_MAPERR);
	volatile int zero = 0;
	if (sigsetjmp(back, 1) == 0) {
		volatile int quotient = 5 / zero;
		fail("a division by zero gave %d", quotient);
	}
	equal(count[SIGFPE], 1);
	equal(infos[SIGFPE].si_code, FPE_INTDIV);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
}

static void skip_two(int sig, siginfo_t *info UNUSED, void *context)
{
	ucontext_t *uc = context;

	count[sig]++;
	if (sig == SIGILL)
		uc->uc_mcontext.gregs[REG_RIP] += 2;
	uc->uc_mcontext.gregs[REG_RAX] = 4242;
}

static void changed_context(void)
{
	long rax = 0;

	install(SIGILL, skip_two, 0);
	install(SIGTRAP, skip_two, 0);
	__asm__ volatile("ud2" : "+a"(rax));
	equal(rax, 4242);
	equal(count[SIGILL], 1);
	rax = 0;
	__asm__ volatile("int3" : "+a"(rax));
	equal(rax, 4242);
	equal(count[SIGTRAP], 1);
	signal(SIGILL, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
}

static void flood(void)
{
	sigset_t block, old;
	pid_t me = getpid();

	install(SIGRTMIN + 2, catcher, SA_RESTART);
	pid_t pid = ok(fork());
	if (pid == 0) {
		for (int i = 0; i < 300; i++)
			if (sigqueue(me, SIGRTMIN + 2, (union sigval){ .sival_int = i }) < 0)
				_exit(1);
		_exit(0);
	}
	reaped(pid, 0);
	block = only(SIGRTMIN + 2);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	equal(count[SIGRTMIN + 2], 300);
	equal(infos[SIGRTMIN + 2].si_int, 299);
}

static volatile sig_atomic_t met;

static void meets(int sig UNUSED)
{
	struct timespec soon = { 5, 0 };
	sigset_t usr2 = only(SIGUSR2);

	met = sigtimedwait(&usr2, NULL, &soon);
}

/* Two come at once: the handler of the first blocks the second, and finds it waiting. */
static void blocked_by_a_handler(void)
{
	struct sigaction first = { .sa_handler = meets, .sa_mask = only(SIGUSR2) };
	sigset_t both = only(SIGUSR1), old;

	sigaddset(&both, SIGUSR2);
	ok(sigaction(SIGUSR1, &first, NULL));
	install(SIGUSR2, catcher, 0);
	ok(sigprocmask(SIG_BLOCK, &both, &old));
	ok(raise(SIGUSR2));
	ok(raise(SIGUSR1));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	equal(met, SIGUSR2);
	equal(count[SIGUSR2], 0);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
}

static volatile sig_atomic_t in_order;

static void calling(int sig, siginfo_t *info, void *context UNUSED)
{
	struct pollfd none = { .fd = -1 };
	struct timespec now = { 0, 0 };

	in_order &= info->si_int == count[sig]++;
	in_order &= syscall(SYS_getpid) == getpid() && poll(&none, 1, 0) == 0;
	in_order &= ppoll(&none, 1, &now, NULL) == 0;
}

/* Real-time signals keep their order, also when the next comes while the handler of one, which blocks them, makes calls. */
static void queued_in_handlers(void)
{
	install(SIGRTMIN + 3, calling, SA_RESTART);
	in_order = 1;
	pid_t me = getpid(), pid = ok(fork());
	if (pid == 0) {
		for (int i = 0; i < 60; i++)
			if (sigqueue(me, SIGRTMIN + 3, (union sigval){ .sival_int = i }) < 0)
				_exit(1);
		_exit(0);
	}
	reaped(pid, 0);
	for (int i = 0; i < 200 && count[SIGRTMIN + 3] < 60; i++)
		usleep(10000);
	equal(count[SIGRTMIN + 3], 60);
	check(in_order);
	signal(SIGRTMIN + 3, SIG_DFL);
}

/* The kernel's own struct, of which libc hides a part. */
struct action {
	void (*handler)(int);
	unsigned long flags;
	void *restorer;
	unsigned long mask;
};

static long act(int sig, const void *new, void *old)
{
	return syscall(SYS_rt_sigaction, sig, new, old, 8UL);
}

static void alike(const struct action *a, const struct action *b)
{
	check(a->handler == b->handler);
	equal(a->flags, b->flags);
	check(a->restorer == b->restorer);
	equal(a->mask, b->mask);
}

/* What is asked for is what was set, flags and masks too where nothing is caught, in children as well. */
static void told_back(void)
{
	const int sigs[] = { SIGUSR1, SIGCHLD, SIGTSTP, SIGURG, SIGRTMIN + 3 };
	struct action was, now, old;

	for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++) {
		ok(act(sigs[i], NULL, &was));
		struct action kinds[] = {
			{ SIG_DFL, SA_RESTART | SA_NODEFER, NULL, 1 << (SIGINT - 1) },
			{ SIG_IGN, SA_ONSTACK, NULL, 1 << (SIGQUIT - 1) },
			{ SIG_DFL, 0, NULL, 0 },
			{ SIG_DFL, SA_RESTART, (void *)0x4711, 1 << (SIGHUP - 1) },
		};
		struct action before = was;
		for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
			ok(act(sigs[i], &kinds[k], &old));
			alike(&old, &before);
			before = kinds[k];
			ok(act(sigs[i], NULL, &now));
			alike(&now, &before);
		}
		pid_t pid = ok(fork());
		if (pid == 0) {
			ok(act(sigs[i], NULL, &now));
			alike(&now, &before);
			_exit(0);
		}
		reaped(pid, 0);
		ok(act(sigs[i], &was, NULL));
	}
	refused(act(0, NULL, &old), EINVAL);
	refused(act(65, &was, NULL), EINVAL);
	refused(act(SIGKILL, &was, NULL), EINVAL);
	ok(act(SIGKILL, NULL, &old));
	refused(act(SIGUSR1, (void *)8, NULL), EFAULT);
	refused(act(SIGUSR1, NULL, (void *)8), EFAULT);
	refused(syscall(SYS_rt_sigaction, SIGUSR1, &was, NULL, 4UL), EINVAL);
}

/* Whoever hears of a change finds it made; and more of them than anybody keeps count of. */
static void changes(void)
{
	int ends[2];
	char c = 0;
	pid_t me = getpid();

	for (int i = 0; i < 200; i++) {
		install(SIGUSR2, catcher, 0);
		signal(SIGUSR2, SIG_IGN);
	}
	ok(pipe(ends));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(close(ends[1]));
		while (read(ends[0], &c, 1) == 1)
			if (kill(me, SIGUSR2))
				_exit(1);
		_exit(0);
	}
	ok(close(ends[0]));
	install(SIGUSR2, catcher, SA_RESTART);
	equal(write(ends[1], &c, 1), 1);
	while (!count[SIGUSR2])
		usleep(1000);
	equal(count[SIGUSR2], 1);
	signal(SIGUSR2, SIG_IGN);
	equal(write(ends[1], &c, 1), 1);
	ok(close(ends[1]));
	reaped(pid, 0);
	equal(count[SIGUSR2], 1);
	signal(SIGUSR2, SIG_DFL);
}

/* A signal that waits is lost when it is ignored, even if it was ignored before. */
static void forgotten(void)
{
	sigset_t block = only(SIGURG), old, waiting;

	signal(SIGURG, SIG_DFL);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	for (int i = 0; i < 2; i++) {
		ok(kill(getpid(), SIGURG));
		ok(sigpending(&waiting));
		equal(sigismember(&waiting, SIGURG), 1);
		signal(SIGURG, i ? SIG_IGN : SIG_DFL);
		ok(sigpending(&waiting));
		equal(sigismember(&waiting, SIGURG), 0);
	}
	ok(kill(getpid(), SIGURG));
	signal(SIGURG, SIG_IGN);
	ok(sigpending(&waiting));
	equal(sigismember(&waiting, SIGURG), 0);
	signal(SIGURG, SIG_DFL);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

/* Its handler is called once, and nothing else of what was set is lost. */
static void once(void)
{
	struct action now, old;

	install(SIGUSR1, catcher, SA_RESETHAND | SA_RESTART);
	ok(act(SIGUSR1, NULL, &old));
	ok(kill(getpid(), SIGUSR1));
	equal(count[SIGUSR1], 1);
	ok(act(SIGUSR1, NULL, &now));
	old.handler = SIG_DFL;
	alike(&now, &old);
	signal(SIGUSR1, SIG_IGN);
	ok(kill(getpid(), SIGUSR1));
	equal(count[SIGUSR1], 1);
	signal(SIGUSR1, SIG_DFL);
}

/* A child that sends SIGUSR1 for each byte written to p[1]. */
static pid_t answering(int p[2])
{
	char byte;

	ok(pipe(p));
	pid_t parent = getpid(), pid = ok(fork());
	if (!pid) {
		ok(close(p[1]));
		while (read(p[0], &byte, 1) == 1)
			ok(kill(parent, SIGUSR1));
		_exit(0);
	}
	ok(close(p[0]));
	return pid;
}

/* One that comes just when it is blocked is either handled before, or waits: for sigsuspend, sigtimedwait, ppoll, or a signalfd. */
static void blocked_meanwhile(void)
{
	int p[2], rounds = seconds > 1 ? 24 : 12;
	sigset_t usr = only(SIGUSR1), old, none;

	sigemptyset(&none);
	install(SIGUSR1, catcher, 0);
	pid_t pid = answering(p);
	int fd = ok(signalfd(-1, &usr, SFD_CLOEXEC));
	for (int i = 0, heard = 0; i < rounds; i++) {
		struct timespec soon = { 20, 0 };
		struct signalfd_siginfo found;
		siginfo_t info;

		count[SIGUSR1] = 0;
		ok(write(p[1], "x", 1));
		for (long until = now_ns(CLOCK_MONOTONIC) + i * 25000; now_ns(CLOCK_MONOTONIC) < until;)
			;
		ok(sigprocmask(SIG_BLOCK, &usr, &old));
		heard = count[SIGUSR1];
		alarm(20); /* nobody handles that */
		if (!heard && i % 4 == 0)
			refused(sigsuspend(&none), EINTR);
		else if (!heard && i % 4 == 1)
			equal(ok(sigtimedwait(&usr, &info, &soon)), SIGUSR1);
		else if (!heard && i % 4 == 2)
			refused(ppoll(NULL, 0, &soon, &none), EINTR);
		else if (!heard) {
			equal(read(fd, &found, sizeof(found)), sizeof(found));
			equal(found.ssi_signo, SIGUSR1);
			equal(found.ssi_pid, pid);
		}
		alarm(0);
		ok(sigprocmask(SIG_SETMASK, &old, NULL));
		equal(count[SIGUSR1], heard || i % 2 == 0);
	}
	ok(close(p[1]));
	reaped(pid, 0);
	ok(close(fd));
	signal(SIGUSR1, SIG_DFL);
}

/* One that comes in the last moment before it is blocked, or just after, is found by a poll of a signalfd that follows at once. */
static void polled_at_once(void)
{
	int p[2], rounds = seconds > 1 ? 60 : 20;
	sigset_t usr = only(SIGUSR1), old;
	struct signalfd_siginfo found;

	install(SIGUSR1, catcher, 0);
	pid_t pid = answering(p);
	int fd = ok(signalfd(-1, &usr, SFD_CLOEXEC));
	for (int i = 0; i < rounds; i++) {
		struct pollfd look = { .fd = fd, .events = POLLIN };
		bool heard;

		count[SIGUSR1] = 0;
		ok(write(p[1], "x", 1));
		for (long until = now_ns(CLOCK_MONOTONIC) + i * 4000; now_ns(CLOCK_MONOTONIC) < until;)
			;
		ok(sigprocmask(SIG_BLOCK, &usr, &old));
		heard = count[SIGUSR1];
		if (!heard) {
			equal(poll(&look, 1, 20000), 1);
			equal(read(fd, &found, sizeof(found)), sizeof(found));
		}
		ok(sigprocmask(SIG_SETMASK, &old, NULL));
		equal(count[SIGUSR1], heard);
	}
	ok(close(p[1]));
	reaped(pid, 0);
	ok(close(fd));
	signal(SIGUSR1, SIG_DFL);
}

PROGRAM(PART(blocked_meanwhile), PART(polled_at_once), PART(told_back), PART(changes), PART(forgotten), PART(once), PART(siginfo_data), PART(masks), PART(suspend), PART(pauses), PART(nesting), PART(alternate_stack), PART(interrupted_reads),
	PART(child_signal), PART(ignored), PART(faults), PART(changed_context), PART(flood), PART(queued_in_handlers), PART(blocked_by_a_handler))
