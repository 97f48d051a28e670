/* A debugger and what it debugs, ptrace(2). For mosrun --stay-home. */
#include "mos.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

static volatile long secret = 42;

static int wanted_child(void *arg UNUSED)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	execl("/bin/sh", "sh", "-c", "cat /dev/null; test -r /etc/passwd && exit 6", (char *)NULL);
	return 1;
}

static int stopped(pid_t pid)
{
	int status;

	equal(ok(waitpid(pid, &status, __WALL)), pid);
	return status;
}

/* Every call of a shell and its child is seen twice, and nothing but calls, signals and the events that were asked for. */
static void every_call(void)
{
	pid_t pid = forked(wanted_child, NULL), second = 0;
	long stops = 0, children = 0, opens = 0;

	equal(stopped(pid), SIGTRAP << 8 | 0x7f);
	ok(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC));
	ok(ptrace(PTRACE_SYSCALL, pid, 0, 0));
	for (;;) {
		int status, sig = 0;
		pid_t who = ok(waitpid(-1, &status, __WALL));

		if (who != pid && !second)
			second = who;
		check(who == pid || who == second);
		if (WIFEXITED(status)) {
			equal(WEXITSTATUS(status), who == pid ? 6 : 0);
			if (who == pid)
				break;
			continue;
		}
		check(WIFSTOPPED(status));
		if (status >> 8 == (SIGTRAP | 0x80)) {
			struct user_regs_struct regs;
			ok(ptrace(PTRACE_GETREGS, who, 0, &regs));
			stops++;
			if (regs.orig_rax == SYS_openat && (long)regs.rax != -ENOSYS) {
				check((long)regs.rax > 0 || (long)regs.rax == -ENOENT);
				opens++;
			}
		} else if (status >> 16 == PTRACE_EVENT_FORK || status >> 16 == PTRACE_EVENT_VFORK)
			children++;
		else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP) {
			equal(WSTOPSIG(status), SIGCHLD);
			sig = SIGCHLD;
		} else if (status >> 16 != 0)
			equal(status >> 16, PTRACE_EVENT_EXEC);
		ok(ptrace(PTRACE_SYSCALL, who, 0, sig));
	}
	equal(children, 1);
	check(stops > 40 && opens > 3);
}

static int counts(void *arg)
{
	int *pipe_end = arg;

	write_all(pipe_end[1], "x", 1);
	while (secret == 42) {
		int fd = ok(open("/dev/null", O_RDONLY));
		close(fd);
		usleep(1000);
	}
	return (int)secret;
}

static void attached(bool seize)
{
	int pipe_ends[2], status;
	char byte;
	pid_t pid;

	ok(pipe(pipe_ends));
	pid = forked(counts, pipe_ends);
	equal(read(pipe_ends[0], &byte, 1), 1);
	if (seize) {
		ok(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
		ok(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
		status = stopped(pid);
		equal(status >> 16, PTRACE_EVENT_STOP);
	} else {
		ok(ptrace(PTRACE_ATTACH, pid, 0, 0));
		equal(stopped(pid), SIGSTOP << 8 | 0x7f);
	}
	errno = 0;
	equal(ptrace(PTRACE_PEEKDATA, pid, &secret, 0), 42);
	ok(ptrace(PTRACE_CONT, pid, 0, 0));
	usleep(5000);
	ok(kill(pid, SIGSTOP));
	status = stopped(pid);
	equal(WSTOPSIG(status), SIGSTOP);
	ok(ptrace(PTRACE_POKEDATA, pid, &secret, 77));
	ok(ptrace(PTRACE_DETACH, pid, 0, 0));
	if (seize)
		ok(kill(pid, SIGCONT));
	reaped(pid, 77);
	ok(close(pipe_ends[0]));
	ok(close(pipe_ends[1]));
}

static void attach(void) { attached(false); }
static void seize(void) { attached(true); }

static int stops_itself(void *arg UNUSED)
{
	raise(SIGSTOP);
	return close(open("/dev/null", O_RDONLY)) ? 1 : 4;
}

/* As strace starts a program: it is stopped when it is seized. */
static void seize_a_stopped_one(void)
{
	pid_t pid = forked(stops_itself, NULL);
	int status;

	equal(ok(waitpid(pid, &status, WUNTRACED)), pid);
	check(WIFSTOPPED(status));
	ok(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
	ok(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
	equal(stopped(pid) >> 16, PTRACE_EVENT_STOP);
	ok(ptrace(PTRACE_CONT, pid, 0, 0));
	ok(kill(pid, SIGCONT));
	status = stopped(pid);
	while (WIFSTOPPED(status)) {
		int sig = status >> 16 ? 0 : WSTOPSIG(status);
		check(sig == 0 || sig == SIGCONT);
		ok(ptrace(PTRACE_CONT, pid, 0, sig));
		status = stopped(pid);
	}
	check(WIFEXITED(status));
	equal(WEXITSTATUS(status), 4);
}

static void refusals(void)
{
	pid_t pid = forked(stops_itself, NULL);
	int status;

	equal(ok(waitpid(pid, &status, WUNTRACED)), pid);
	refused(ptrace(PTRACE_CONT, pid, 0, 0), ESRCH);
	ok(ptrace(PTRACE_SEIZE, pid, 0, 0));
	refused(ptrace(PTRACE_SEIZE, pid, 0, 0), EPERM);
	refused(ptrace(PTRACE_ATTACH, getpid(), 0, 0), EPERM);
	refused(ptrace(PTRACE_ATTACH, 0x3fffff, 0, 0), ESRCH);
	ok(kill(pid, SIGKILL));
	for (status = stopped(pid); WIFSTOPPED(status); status = stopped(pid))
		;
	check(WIFSIGNALED(status));
	equal(WTERMSIG(status), SIGKILL);
}

static int traced_by_its_parent(void *arg UNUSED)
{
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
		return 1;
	raise(SIGUSR1);
	return 3;
}

static int tracing_parent(void *arg UNUSED)
{
	if (geteuid() == 0) {
		ok(setgid(65534));
		ok(setuid(65534));
		ok(prctl(PR_SET_DUMPABLE, 1));
	}
	pid_t pid = forked(traced_by_its_parent, NULL);
	equal(stopped(pid), SIGUSR1 << 8 | 0x7f);
	ok(ptrace(PTRACE_CONT, pid, 0, 0));
	reaped(pid, 3);
	return 9;
}

/* Who has given up root may still be traced. */
static void without_rights(void)
{
	reaped(forked(tracing_parent, NULL), 9);
}

/* A filter of one's own that forbids a call which only others would have us make. */
static int filtered(void *arg UNUSED)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { COUNT(code), code };
	int status;

	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ok(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	refused(syscall(SYS_getppid), 77);
	ok(close(ok(open("/proc/self/maps", O_RDONLY))));
	ok(close(ok(open("/proc/self/status", O_RDONLY))));
	pid_t pid = ok(fork());
	if (pid == 0)
		execl("/bin/sh", "sh", "-c", "read line < /proc/self/maps && read line < /proc/self/status && exit 8", (char *)NULL);
	status = mos_wait(pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void own_filter(void)
{
	reaped(forked(filtered, NULL), 8);
}

PROGRAM(PART(every_call), PART(attach), PART(seize), PART(seize_a_stopped_one), PART(refusals), PART(without_rights), PART(own_filter))
