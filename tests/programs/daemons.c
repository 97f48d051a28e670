/* Processes and where they come from: daemons, orphans, process groups, scripts, set-uid programs, very many forks. */
#include "mos.h"
#include <dirent.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static char self[PATH_MAX];

static int double_fork(void *arg)
{
	int *p = arg;
	pid_t me;

	close(p[3]);
	if (setsid() != getpid())
		return 1;
	if (ok(fork()) > 0)
		return 71;
	me = getpid();
	umask(027);
	if (getsid(0) == me || getpgrp() == me || chdir("/") < 0)
		_exit(1);
	/* Its parent is gone soon. */
	struct { pid_t pid, sid, parent; } told = { me, getsid(0), 0 };
	for (int i = 0; i < 5000 && getppid() == told.sid; i++)
		rest_ms(1);
	told.parent = getppid();
	write_all(p[1], &told, sizeof(told));
	char c;
	ok(read(p[2], &c, 1));
	_exit(0);
}

static void daemon_made(void)
{
	struct { pid_t pid, sid, parent; } told;
	char path[64], cwd[PATH_MAX] = "";
	int p[4];

	ok(pipe(p));
	ok(pipe(p + 2));
	pid_t pid = forked(double_fork, p);
	reaped(pid, 71);
	equal(read_all(p[0], &told, sizeof(told)), sizeof(told));
	check(told.sid == pid && told.pid != pid && told.parent != pid && told.parent != getpid());
	equal(getsid(told.pid), pid);
	ok(kill(told.pid, 0));
	snprintf(path, sizeof(path), "/proc/%d/cwd", told.pid);
	ok(readlink(path, cwd, sizeof(cwd) - 1));
	equal(strcmp(cwd, "/"), 0);
	refused(waitpid(told.pid, NULL, 0), ECHILD);
	ok(close(p[1]));
	ok(close(p[3]));
	/* Both ends are closed when it is gone. */
	char c;
	equal(read(p[0], &c, 1), 0);
	ok(close(p[0]));
	ok(close(p[2]));
}

static volatile sig_atomic_t hups, conts;

static void on_hup(int sig)
{
	(sig == SIGHUP ? hups++ : conts++);
}

/* A stopped process whose group becomes an orphan is told so: SIGHUP, and SIGCONT. */
static int leaves_stopped(void *arg)
{
	int *p = arg, status;

	setpgid(0, 0);
	pid_t pid = ok(fork());
	if (pid == 0) {
		sigset_t both, old;
		sigemptyset(&both);
		sigaddset(&both, SIGHUP);
		sigaddset(&both, SIGCONT);
		sigprocmask(SIG_BLOCK, &both, &old);
		signal(SIGHUP, on_hup);
		signal(SIGCONT, on_hup);
		raise(SIGSTOP);
		while (!hups || !conts)
			sigsuspend(&old);
		_exit(write(p[1], "told", 4) == 4 ? 0 : 1);
	}
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		return 1;
	return 72;
}

static void orphaned_group(void)
{
	char buf[8];
	int p[2];

	ok(pipe(p));
	pid_t pid = forked(leaves_stopped, p);
	ok(close(p[1]));
	reaped(pid, 72);
	equal(read_all(p[0], buf, sizeof(buf)), 4);
	same(buf, "told", 4);
	ok(close(p[0]));
}

static int leave_at_once(void *arg)
{
	return (int)(intptr_t)arg;
}

static void many(void)
{
	/* As many as there is time for, and at least a hundred; some at the same time. */
	pid_t pids[20];

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 20; i++)
			pids[i] = forked(leave_at_once, (void *)(intptr_t)(i + round));
		for (int i = 19; i >= 0; i--)
			reaped(pids[i], i + round);
	}
	refused(wait(NULL), ECHILD);
}

static void script(const char *name, const char *text, mode_t mode)
{
	int fd = ok(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0700));

	write_all(fd, text, strlen(text));
	ok(fchmod(fd, mode));
	ok(close(fd));
}

static pid_t ran(const char *path, const char *one)
{
	pid_t pid = ok(fork());

	if (pid == 0) {
		execl(path, "zero", one, NULL);
		_exit(errno);
	}
	return pid;
}

static void scripts(void)
{
	script("plain", "#!/bin/sh\n[ \"$0\" = ./plain ] && [ \"$1\" = arg ] && exit 73\n", 0700);
	script("option", "#!/bin/sh -e\ntest \"$1\" = arg\nfalse\nexit 9\n", 0700);
	script("outer", "#!./plain2\n", 0700);
	script("plain2", "#!/bin/sh\n[ \"$1\" = ./outer ] && [ \"$2\" = arg ] && exit 74\n", 0700);
	script("lost", "#!/no/such/interpreter\n", 0700);
	script("nothing", "exit 75\n", 0700);
	script("closed", "#!/bin/sh\nexit 1\n", 0600);
	reaped(ran("./plain", "arg"), 73);
	reaped(ran("./option", "arg"), 1);
	reaped(ran("./outer", "arg"), 74);
	reaped(ran("./lost", "arg"), ENOENT);
	reaped(ran("./nothing", "arg"), ENOEXEC);
	reaped(ran("./closed", "arg"), EACCES);
	reaped(ran(".", "arg"), EACCES);
	reaped(ran("./plain/x", "arg"), ENOTDIR);
	for (const char *const *n = (const char *const[]){ "plain", "option", "outer", "plain2", "lost", "nothing", "closed", NULL }; *n; n++)
		ok(unlink(*n));
}

/* A program with another user's rights: its effective user is the file's owner. Root only, and where set-uid files count. */
static int as_nobody(void *arg)
{
	const char *path = arg;

	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		return 1;
	execl(path, "id", "-u", NULL);
	return 2;
}

static void set_uid(void)
{
	char buf[16] = "";
	int p[2];

	if (geteuid() != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return;
	int in = open("/usr/bin/id", O_RDONLY), out = ok(open("id", O_WRONLY | O_CREAT | O_TRUNC, 0700));
	if (in < 0)
		return;
	static char data[1 << 20];
	size_t n = read_all(in, data, sizeof(data));
	write_all(out, data, n);
	ok(close(in));
	ok(fchmod(out, 04755));
	ok(close(out));
	ok(chmod(".", 0755));
	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(dup2(p[1], 1));
		_exit(as_nobody("./id"));
	}
	ok(close(p[1]));
	check(read_all(p[0], buf, sizeof(buf) - 1) >= 2);
	reaped(pid, 0);
	announce("an id of root's, run by nobody, says %s", buf);
	ok(close(p[0]));
	ok(unlink("id"));
}

static int in_memory(void *arg)
{
	char *argv[] = { "sh", "-c", arg, NULL }, *envp[] = { "A=b", NULL };
	int fd = memfd_create("program", 0), in = open("/bin/sh", O_RDONLY);
	char buf[65536];
	ssize_t n;

	if (fd < 0 || in < 0)
		return 1;
	while ((n = read(in, buf, sizeof(buf))) > 0)
		write_all(fd, buf, n);
	fexecve(fd, argv, envp);
	return 2;
}

static void memory_files(void)
{
	char back[8] = "";
	int fd = ok(memfd_create("mine", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	equal(write(fd, "sealed", 6), 6);
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK));
	equal(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK);
	refused(write(fd, "x", 1), EPERM);
	refused(ftruncate(fd, 0), EPERM);
	equal(pread(fd, back, 6, 0), 6);
	same(back, "sealed", 6);
	refused(memfd_create((void *)8, 0), EFAULT);
	refused(memfd_create("x", 1 << 30), EINVAL);
	ok(close(fd));
	reaped(forked(in_memory, "exit 76"), 76);
}

/* Siblings that talk, each of which may be somewhere else. */
static int worker(void *arg)
{
	int s = *(int *)arg, n, sum = 0;

	while (read_all(s, &n, sizeof(n)) == sizeof(n)) {
		sum += n;
		write_all(s, &sum, sizeof(sum));
	}
	return sum & 255;
}

static void family(void)
{
	int s[4][2], n, sum;
	pid_t pids[4];

	for (int i = 0; i < 4; i++) {
		ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s[i]));
		pids[i] = ok(fork());
		if (pids[i] == 0) {
			for (int j = 0; j <= i; j++)
				close(s[j][0]);
			_exit(worker(&s[i][1]));
		}
		ok(close(s[i][1]));
	}
	for (int round = 1; round <= 10; round++)
		for (int i = 0; i < 4; i++) {
			n = round * (i + 1);
			write_all(s[i][0], &n, sizeof(n));
			equal(read_all(s[i][0], &sum, sizeof(sum)), sizeof(sum));
			equal(sum, (i + 1) * round * (round + 1) / 2);
		}
	for (int i = 0; i < 4; i++) {
		ok(close(s[i][0]));
		reaped(pids[i], (i + 1) * 55);
	}
	ok(readlink("/proc/self/exe", self, sizeof(self) - 1));
}

PROGRAM(PART(daemon_made), PART(orphaned_group), PART(many), PART(scripts), PART(set_uid), PART(memory_files), PART(family))
