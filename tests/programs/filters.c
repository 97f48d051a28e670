/* Seccomp filters of its own, strict mode, and tracing after giving up root. For mosrun --stay-home. */
#include "mos.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what)
#define IF(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

static const int calls[] = {SYS_openat, SYS_getpid, SYS_getrusage, SYS_clone, SYS_mmap, SYS_prctl, SYS_shmat, SYS_exit_group};

/* The action for one call; all others are allowed. */
static int filter(unsigned flags, int nr, unsigned action)
{
	struct sock_filter code[] = {LOAD(0), IF(nr, 0, 1), RETURN(action), RETURN(SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {COUNT(code), code};

	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

/* Nothing but read, write and exit; the action for all others. */
static void only_reading(unsigned action)
{
	struct sock_filter code[] = {
		LOAD(0), IF(SYS_read, 4, 0), IF(SYS_write, 3, 0), IF(SYS_exit, 2, 0), IF(SYS_exit_group, 1, 0),
		RETURN(action), RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {COUNT(code), code};

	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static int calls_in_strict_mode(void *nr)
{
	ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
	syscall(*(const int *)nr, 0, 0, 0, 0, 0, 0);
	syscall(SYS_exit, 5);
	return 5;
}

static void strict_calls(void)
{
	for (unsigned i = 0; i < COUNT(calls); i++)
		killed(forked(calls_in_strict_mode, (void *)&calls[i]), SIGKILL);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig UNUSED) { alarms++; }

static int works_in_strict_mode(void *end)
{
	char c = 0;

	signal(SIGALRM, on_alarm);
	ualarm(20000, 0);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, 0) != -1 || syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, 0))
		return 1;
	while (!alarms) /* and rt_sigreturn */
		;
	if (read(*(int *)end, &c, 1) != 1)
		c = 2;
	syscall(SYS_exit, c);
	return 3;
}

static void strict_work(void)
{
	int ends[2];

	ok(pipe(ends));
	pid_t pid = forked(works_in_strict_mode, &ends[0]);
	ok(write(ends[1], "A", 1));
	reaped(pid, 'A');
	close(ends[0]);
	close(ends[1]);
}

static int refuses(void *nr)
{
	ok(filter(0, *(int *)nr, SECCOMP_RET_ERRNO | 55));
	long result = syscall(*(int *)nr, 0x123, 0, 0, 0, 0, 0);
	syscall(SYS_exit, result == -1 && errno == 55 ? 4 : 1);
	return 1;
}

static void errors(void)
{
	for (unsigned i = 0; i < COUNT(calls); i++)
		reaped(forked(refuses, (void *)&calls[i]), 4);
}

static volatile sig_atomic_t trapped, trapped_call;

static void on_sys(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	trapped = info->si_code;
	trapped_call = info->si_syscall;
}

static int is_trapped(void *nr)
{
	struct sigaction action = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};

	ok(sigaction(SIGSYS, &action, NULL));
	ok(filter(0, *(int *)nr, SECCOMP_RET_TRAP));
	syscall(*(int *)nr, -1, 0, 0, 0, 0, 0);
	return trapped == 1 && trapped_call == *(int *)nr ? 0 : 1;
}

/* Nobody traces it. */
static int is_traced(void *nr)
{
	ok(filter(0, *(int *)nr, SECCOMP_RET_TRACE | 7));
	long result = syscall(*(int *)nr, -1, 0, 0, 0, 0, 0);
	return result == -1 && errno == ENOSYS ? 0 : 1;
}

static void traps(void)
{
	static const int some[] = {SYS_getppid, SYS_open};

	for (unsigned i = 0; i < COUNT(some); i++) {
		reaped(forked(is_trapped, (void *)&some[i]), 0);
		reaped(forked(is_traced, (void *)&some[i]), 0);
	}
}

static int opens(void *action)
{
	only_reading(*(unsigned *)action);
	syscall(SYS_open, "/dev/null", O_RDONLY);
	return errno;
}

static int forks(void *action)
{
	only_reading(*(unsigned *)action);
	syscall(SYS_fork);
	return errno;
}

static void only_listed(void)
{
	unsigned process = SECCOMP_RET_KILL_PROCESS, thread = SECCOMP_RET_KILL_THREAD, error = SECCOMP_RET_ERRNO | 33, trace = SECCOMP_RET_TRACE;

	killed(forked(opens, &process), SIGSYS);
	killed(forked(forks, &thread), SIGSYS);
	reaped(forked(forks, &error), 33);
	reaped(forked(opens, &trace), ENOSYS);
	reaped(forked(forks, &trace), ENOSYS);
}

static int asks_its_parent(void *arg UNUSED) { return getppid() == -77 || errno == 77 ? 9 : 1; }

static int inherits(void *arg UNUSED)
{
	check(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_STRICT);
	ok(filter(0, SYS_getppid, SECCOMP_RET_ERRNO | 77));
	equal(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), SECCOMP_MODE_FILTER);
	reaped(forked(asks_its_parent, NULL), 9);
	refused(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0), EINVAL);
	refused(prctl(PR_SET_SECCOMP, 7, 0, 0, 0), EINVAL);
	refused(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0), EFAULT);
	execl("/bin/sh", "sh", "-c", "cat /dev/null; (exit 4); test $? = 4 && grep -q 'Seccomp:.2' /proc/self/status && exit 6", (char *)NULL);
	return 1;
}

static void inherited(void) { reaped(forked(inherits, NULL), 6); }

static int told_another_parent(void *arg UNUSED) { return getppid() == 4242 ? 21 : 22; }

static int listens(void *arg UNUSED)
{
	struct seccomp_notif asked = {0};
	struct seccomp_notif_resp answer = {.val = 4242};
	int listener = ok(filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, SYS_getppid, SECCOMP_RET_USER_NOTIF));
	pid_t pid = forked(told_another_parent, NULL);

	ok(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked));
	equal(asked.data.nr, SYS_getppid);
	equal(asked.pid, pid);
	answer.id = asked.id;
	ok(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer));
	reaped(pid, 21);
	return 0;
}

static void listener(void) { reaped(forked(listens, NULL), 0); }

static int wants_to_be_traced(void *arg UNUSED)
{
	ok(ptrace(PTRACE_TRACEME, 0, 0, 0));
	raise(SIGUSR1);
	return 3;
}

static int traces_as_a_user(void *arg UNUSED)
{
	int status;

	if (getuid() == 0) {
		ok(setgid(58467));
		ok(setuid(18943));
	}
	pid_t pid = forked(wants_to_be_traced, NULL);
	equal(ok(wait(&status)), pid);
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1);
	ok(ptrace(PTRACE_CONT, pid, 0, 0));
	reaped(pid, 3);
	return 0;
}

static void traced_without_root(void) { reaped(forked(traces_as_a_user, NULL), 0); }

PROGRAM(PART(strict_calls), PART(strict_work), PART(errors), PART(traps), PART(only_listed), PART(inherited), PART(listener),
	PART(traced_without_root))
