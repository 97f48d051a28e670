/* Processes: fork, vfork, the wait family, exit codes, orphans, groups and sessions. */
#include "mos.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int leave(void *arg)
{
	return (int)(intptr_t)arg;
}

static void exit_codes(void)
{
	for (int code = 0; code < 256; code += 17)
		reaped(forked(leave, (void *)(intptr_t)code), code);
	reaped(forked(leave, (void *)(intptr_t)-1), 255);
	refused(waitpid(-1, NULL, 0), ECHILD);
	refused(waitpid(getpid(), NULL, 0), ECHILD);
	pid_t pid = ok(fork());
	if (pid == 0)
		exit(9);
	reaped(pid, 9);
}

static int die(void *arg)
{
	int sig = *(int *)arg;

	signal(sig, SIG_DFL);
	raise(sig);
	return 77;
}

static void deaths(void)
{
	static const int sigs[] = { SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGVTALRM, SIGIO };
	struct rlimit none = { 0, 0 };
	int status;

	for (size_t i = 0; i < COUNT(sigs); i++)
		killed(forked(die, (void *)&sigs[i]), sigs[i]);
	pid_t pid = ok(fork());
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		abort();
	}
	killed(pid, SIGABRT);
	pid = ok(fork());
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		*(volatile int *)16 = 1;
		_exit(0);
	}
	status = mos_wait(pid);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && !WCOREDUMP(status));
	pid = ok(fork());
	if (pid == 0) {
		signal(SIGTERM, SIG_IGN);
		raise(SIGTERM);
		_exit(5);
	}
	reaped(pid, 5);
}

static int wait_for_byte(void *arg)
{
	int *p = arg;
	char c;

	close(p[1]);
	return read(p[0], &c, 1) == 1 ? 21 : 0;
}

static void wait_family(void)
{
	int p[2], status;
	siginfo_t info;
	struct rusage use;

	ok(pipe(p));
	pid_t pid = forked(wait_for_byte, p);
	equal(waitpid(pid, &status, WNOHANG), 0);
	memset(&info, 0, sizeof(info));
	ok(waitid(P_PID, pid, &info, WEXITED | WNOHANG));
	equal(info.si_pid, 0);
	ok(kill(pid, 0));
	write_all(p[1], "x", 1);
	ok(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	equal(info.si_pid, pid);
	equal(info.si_code, CLD_EXITED);
	equal(info.si_status, 21);
	equal(info.si_uid, getuid());
	equal(wait4(pid, &status, 0, &use), pid);
	equal(WEXITSTATUS(status), 21);
	refused(wait4(pid, &status, 0, &use), ECHILD);
	refused(kill(pid, 0), ESRCH);
	ok(close(p[0]));
	ok(close(p[1]));
	pid_t many[20];
	for (int i = 0; i < 20; i++)
		many[i] = forked(leave, (void *)(intptr_t)i);
	for (int left = 20; left; left--) {
		pid_t got = ok(wait(&status));
		int i = 0;
		while (i < 20 && many[i] != got)
			i++;
		check(i < 20 && WIFEXITED(status));
		equal(WEXITSTATUS(status), i);
		many[i] = -1;
	}
}

static void stops(void)
{
	int status;
	siginfo_t info;
	pid_t pid = ok(fork());

	if (pid == 0) {
		setpgid(0, 0);
		for (;;)
			pause();
	}
	setpgid(pid, pid);
	ok(kill(pid, SIGTSTP));
	equal(waitpid(pid, &status, WUNTRACED), pid);
	check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP);
	ok(kill(pid, SIGCONT));
	ok(waitid(P_PID, pid, &info, WCONTINUED));
	equal(info.si_code, CLD_CONTINUED);
	ok(kill(pid, SIGTTIN));
	ok(waitid(P_PGID, pid, &info, WSTOPPED));
	equal(info.si_code, CLD_STOPPED);
	equal(info.si_status, SIGTTIN);
	ok(kill(pid, SIGTERM));
	ok(kill(pid, SIGCONT));
	killed(pid, SIGTERM);
}

static void vforks(void)
{
	volatile int shared = 1;
	pid_t pid = ok(vfork());

	if (pid == 0) {
		shared = 2;
		_exit(13);
	}
	equal(shared, 2);
	reaped(pid, 13);
	pid = ok(vfork());
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "exit 14", NULL);
		_exit(1);
	}
	reaped(pid, 14);
	pid = ok(vfork());
	if (pid == 0) {
		execl("/no/such/program", "x", NULL);
		shared = errno;
		_exit(127);
	}
	equal(shared, ENOENT);
	reaped(pid, 127);
}

static void memory_is_copied(void)
{
	size_t n = 3 << 20;
	char *data = malloc(n);
	uint64_t sum = datagen(data, n, 1);
	pid_t pid = ok(fork());

	if (pid == 0) {
		if (datasum(data, n) != sum)
			_exit(1);
		memset(data, 7, n);
		_exit(0);
	}
	reaped(pid, 0);
	check(datasum(data, n) == sum);
	free(data);
	int fd = ok(open("offset", O_RDWR | O_CREAT | O_TRUNC, 0600));
	pid = ok(fork());
	if (pid == 0)
		_exit(write(fd, "child", 5) == 5 ? 0 : 1);
	reaped(pid, 0);
	equal(lseek(fd, 0, SEEK_CUR), 5);
	ok(close(fd));
	ok(unlink("offset"));
}

static int deeper(void *arg)
{
	int depth = (int)(intptr_t)arg;

	if (depth == 0)
		return 1;
	pid_t pid = fork();
	if (pid == 0)
		_exit(deeper((void *)(intptr_t)(depth - 1)));
	int status;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 99;
	return WEXITSTATUS(status) + depth;
}

static void depth(void)
{
	reaped(forked(deeper, (void *)10), 56);
}

static int orphan_maker(void *arg)
{
	int *p = arg;
	pid_t me = getpid();

	if (ok(fork()) == 0) {
		while (getppid() == me)
			rest_ms(1);
		write_all(p[1], "orphan", 6);
		_exit(0);
	}
	return 4;
}

static void orphans(void)
{
	char buf[16];
	int p[2];

	ok(pipe(p));
	pid_t pid = forked(orphan_maker, p);
	ok(close(p[1]));
	reaped(pid, 4);
	equal(read_all(p[0], buf, sizeof(buf)), 6);
	same(buf, "orphan", 6);
	ok(close(p[0]));
	refused(wait(NULL), ECHILD);
}

static int in_group(void *arg)
{
	pid_t group = *(pid_t *)arg;

	if (setpgid(0, group) < 0)
		return 1;
	for (;;)
		pause();
}

static void groups(void)
{
	pid_t first, pids[3], zero = 0;
	int status;

	equal(getpgid(0), getpgrp());
	first = pids[0] = forked(in_group, &zero);
	if (setpgid(first, first) < 0)
		check(errno == EACCES);
	for (int i = 1; i < 3; i++) {
		pids[i] = forked(in_group, &first);
		setpgid(pids[i], first);
		equal(getpgid(pids[i]), first);
	}
	refused(setpgid(first, 1), EPERM);
	equal(getsid(first), getsid(0));
	equal(waitpid(-first, &status, WNOHANG), 0);
	ok(kill(-first, SIGTERM));
	for (int i = 0; i < 3; i++) {
		check(waitpid(-first, &status, 0) > 0);
		equal(WTERMSIG(status), SIGTERM);
	}
	refused(waitpid(-first, &status, 0), ECHILD);
	refused(kill(-first, SIGTERM), ESRCH);
}

static int new_session(void *arg UNUSED)
{
	pid_t sid = setsid();

	if (sid != getpid() || getsid(0) != sid || getpgrp() != sid)
		return 1;
	if (setsid() != -1 || errno != EPERM)
		return 2;
	return open("/dev/tty", O_RDWR) == -1 && errno == ENXIO ? 42 : 3;
}

static void sessions(void)
{
	reaped(forked(new_session, NULL), 42);
}

static int dies_with_parent(void *arg)
{
	int *p = arg;

	if (ok(fork()) == 0) {
		ok(prctl(PR_SET_PDEATHSIG, SIGKILL));
		int sig = 0;
		ok(prctl(PR_GET_PDEATHSIG, &sig));
		equal(sig, SIGKILL);
		write_all(p[1], "r", 1);
		for (;;)
			pause();
	}
	char c;
	return read(p[2], &c, 1) == 1 ? 0 : 1;
}

static void parent_death(void)
{
	int p[4];
	char c;

	ok(pipe(p));
	ok(pipe(p + 2));
	pid_t pid = forked(dies_with_parent, p);
	ok(close(p[1]));
	equal(read(p[0], &c, 1), 1);
	write_all(p[3], "x", 1);
	reaped(pid, 0);
	/* The pipe closes when the grandchild is gone. */
	equal(read(p[0], &c, 1), 0);
	ok(close(p[0]));
	ok(close(p[2]));
	ok(close(p[3]));
}

static void many_forks(void)
{
	for (int i = 0; i < 40; i++)
		reaped(forked(leave, (void *)(intptr_t)i), i);
}

PROGRAM(PART(exit_codes), PART(deaths), PART(wait_family), PART(stops), PART(vforks), PART(memory_is_copied), PART(depth),
	PART(orphans), PART(groups), PART(sessions), PART(parent_death), PART(many_forks))
