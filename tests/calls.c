/* Which system calls a command and its children make: `calls FILE COMMAND...`.
 *
 * FILE gets a line a number, sorted: "NR OUTCOME", where OUTCOME is "ok" if the call succeeded at least once (or never returned, as
 * exit and rt_sigreturn do), else "failed". The exit status is the command's. Everybody is traced by PTRACE_SYSCALL; signals, stops
 * and the end of each process stay what they would be without a tracer, but for the time they take.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOP 512
#define TASKS 65536

enum { NEVER, FAILED, OK };

static char seen[TOP];
static short inside[TASKS * 64];	/* by PID: the call it is in, plus one */

static void entered(pid_t pid)
{
	struct __ptrace_syscall_info info;
	unsigned long nr;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return;
	short *in = &inside[pid % (long)(sizeof(inside) / sizeof(inside[0]))];
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		nr = info.entry.nr;
		*in = nr < TOP ? nr + 1 : 0;
		if (nr < TOP && seen[nr] == NEVER)
			seen[nr] = nr == SYS_exit || nr == SYS_exit_group || nr == SYS_rt_sigreturn ? OK : FAILED;
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && *in) {
		if (!info.exit.is_error)
			seen[*in - 1] = OK;
		*in = 0;
	}
}

static void resume(pid_t pid, int how, int sig)
{
	ptrace(how, pid, 0, sig);
}

int main(int argc, char **argv)
{
	int status, root_status = 0;
	pid_t root, pid;

	if (argc < 3)
		return 2;
	root = fork();
	if (root == 0) {
		raise(SIGSTOP);
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	waitpid(root, &status, WUNTRACED);
	if (ptrace(PTRACE_SEIZE, root, 0,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)) {
		perror("seize");
		kill(root, SIGKILL);
		return 2;
	}
	kill(root, SIGCONT);
	while ((pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		if (pid < 0)
			continue;
		if (!WIFSTOPPED(status)) {
			if (pid == root)
				root_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		int sig = WSTOPSIG(status), event = status >> 16;
		if (sig == (SIGTRAP | 0x80)) {
			entered(pid);
			resume(pid, PTRACE_SYSCALL, 0);
		} else if (event == PTRACE_EVENT_STOP && sig != SIGTRAP)
			resume(pid, PTRACE_LISTEN, 0);
		else
			resume(pid, PTRACE_SYSCALL, event ? 0 : sig);
	}
	FILE *out = fopen(argv[1], "w");
	if (!out)
		return 2;
	for (int nr = 0; nr < TOP; nr++)
		if (seen[nr])
			fprintf(out, "%d %s\n", nr, seen[nr] == OK ? "ok" : "failed");
	return fclose(out) ? 2 : root_status;
}
