/*
 * floor FILTER COMMAND...: the least that a tracer costs which sees what ours must see. FILTER is a file of struct sock_filter: the one of
 * programs at home. At each of its stops the registers and a path's length of memory are read, as whoever judges an open(2) must; nothing
 * is decided, nothing changed, and exec prepares nothing. All share one processor, where a stop is cheapest.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS (PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | \
	PTRACE_O_EXITKILL)

static struct sock_filter program[BPF_MAXINSNS];

static void must(long good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void become(char **command, unsigned short length)
{
	struct sock_fprog filter = { length, program };

	raise(SIGSTOP);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl");
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter) == 0, "seccomp");
	execvp(*command, command);
	must(0, *command);
}

static void look(pid_t pid)
{
	struct user_regs_struct regs;
	char path[64];

	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		return;
	struct iovec ours = { path, sizeof path }, theirs = { (void *)(regs.orig_rax == SYS_openat ? regs.rsi : regs.rdi), sizeof path };
	(void)!process_vm_readv(pid, &ours, 1, &theirs, 1, 0);
}

int main(int argc, char **argv)
{
	int status, event, result = 1, cpu = sched_getcpu();
	cpu_set_t one;
	pid_t first, pid;

	must(argc > 2, "usage");
	FILE *file = fopen(argv[1], "r");
	must(file != NULL, argv[1]);
	unsigned short length = fread(program, sizeof *program, BPF_MAXINSNS, file);
	fclose(file);
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	must(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
	must((first = fork()) >= 0, "fork");
	if (!first)
		become(argv + 2, length);
	must(waitpid(first, &status, WUNTRACED) == first && WIFSTOPPED(status), "waitpid");
	must(ptrace(PTRACE_SEIZE, first, 0, OPTIONS) == 0, "ptrace");
	kill(first, SIGCONT);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid < 0)
			continue;
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		event = status >> 16;
		if (event == PTRACE_EVENT_SECCOMP)
			look(pid);
		if (event == PTRACE_EVENT_STOP && WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGCONT)
			ptrace(PTRACE_LISTEN, pid, 0, 0);
		else
			ptrace(PTRACE_CONT, pid, 0, event ? 0 : WSTOPSIG(status));
	}
	return result;
}
