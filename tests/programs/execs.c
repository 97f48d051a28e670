/* exec in all its forms. The program executes itself in roles, named by an argument that begins with "@". */
#include "mos.h"
#include <sys/socket.h>

extern char **environ;
static char self[PATH_MAX];

static void handler(int sig UNUSED)
{
}

static void caught(int sig UNUSED)
{
	_exit(39);
}

static pid_t spawn(const char *path, char *const argv[], char *const envp[])
{
	pid_t pid = ok(fork());

	if (pid == 0) {
		execve(path, argv, envp);
		_exit(100 + errno % 100);
	}
	return pid;
}

static void arguments(void)
{
	char *argv[] = { "zeroth", "@argv", "", "with space", "new\nline", NULL };
	char *envp[] = { "ONLY=this", "EMPTY=", NULL };

	reaped(spawn(self, argv, envp), 31);
}

static void many_arguments(void)
{
	static char text[100][1024];
	char *argv[104] = { self, "@sum" };
	char sum[32];
	uint64_t total = 0;

	for (int i = 0; i < 100; i++) {
		datagen(text[i], 1024, i);
		for (int j = 0; j < 1023; j++)
			text[i][j] = 'a' + (unsigned char)text[i][j] % 26;
		text[i][1023] = 0;
		total ^= datasum(text[i], 1024) + i;
		argv[i + 3] = text[i];
	}
	snprintf(sum, sizeof(sum), "%llx", (unsigned long long)total);
	argv[2] = sum;
	reaped(spawn(self, argv, environ), 32);
}

static void failing(void)
{
	char *argv[] = { "x", NULL }, *big[] = { "x", NULL, NULL };

	refused(execve("no-such-file", argv, environ), ENOENT);
	refused(execve("/", argv, environ), EACCES);
	int fd = ok(open("text", O_RDWR | O_CREAT, 0644));
	write_all(fd, "just text\n", 10);
	ok(close(fd));
	refused(execve("text", argv, environ), EACCES);
	ok(chmod("text", 0755));
	refused(execve("text", argv, environ), ENOEXEC);
	refused(execve("text/more", argv, environ), ENOTDIR);
	fd = ok(open("badscript", O_RDWR | O_CREAT, 0755));
	write_all(fd, "#!/no/such/interpreter\n", 23);
	ok(close(fd));
	refused(execve("badscript", argv, environ), ENOENT);
	big[1] = memset(malloc(200001), 'x', 200001);
	big[1][200000] = 0;
	refused(execve(self, big, environ), E2BIG);
	refused(execve("no-such-file", big, environ), ENOENT);
	refused(execve("/", big, environ), EACCES);
	free(big[1]);
	refused(execve((void *)8, argv, environ), EFAULT);
	ok(unlink("text"));
	ok(unlink("badscript"));
}

static void scripts(void)
{
	char *argv[] = { "ignored", "one", "two words", NULL };
	char line[PATH_MAX + 32];
	int fd = ok(open("script", O_RDWR | O_CREAT, 0755));

	write_all(fd, "#!/bin/sh -e\n[ \"$1\" = one ] && [ \"$2\" = 'two words' ] && exit 33\nexit 1\n", 73);
	ok(close(fd));
	reaped(spawn("./script", argv, environ), 33);
	fd = ok(open("mine", O_RDWR | O_CREAT, 0755));
	write_all(fd, line, snprintf(line, sizeof(line), "#!%s @script\n", self));
	ok(close(fd));
	reaped(spawn("./mine", argv, environ), 34);
	ok(unlink("script"));
	ok(unlink("mine"));
}

static void by_descriptor(void)
{
	char *argv[] = { self, "@argv0", NULL };
	int fd = ok(open(self, O_RDONLY | O_CLOEXEC));
	pid_t pid = ok(fork());

	if (pid == 0) {
		fexecve(fd, argv, environ);
		_exit(1);
	}
	reaped(pid, 35);
	pid = ok(fork());
	if (pid == 0) {
		syscall(SYS_execveat, AT_FDCWD, self, argv, environ, 0);
		_exit(1);
	}
	reaped(pid, 35);
	ok(close(fd));
}

static void what_survives(void)
{
	char number[16], *argv[] = { self, "@inherit", number, NULL };
	sigset_t set, old;
	int keep = ok(open("kept", O_RDWR | O_CREAT, 0600)), gone = ok(open("kept", O_RDONLY | O_CLOEXEC));

	ok(dup2(keep, 50));
	ok(dup3(gone, 51, O_CLOEXEC));
	write_all(keep, "12345", 5);
	snprintf(number, sizeof(number), "%d", getpid());
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	pid_t pid = ok(fork());
	if (pid == 0) {
		umask(0123);
		signal(SIGTERM, SIG_IGN);
		signal(SIGUSR1, handler);
		raise(SIGUSR2);
		ok(mkdir("cwd", 0700));
		ok(chdir("cwd"));
		alarm(1000);
		execve(self, argv, environ);
		_exit(1);
	}
	reaped(pid, 36);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	ok(rmdir("cwd"));
	for (int fd = 50; fd < 52; fd++)
		ok(close(fd));
	ok(close(keep));
	ok(close(gone));
	ok(unlink("kept"));
}

/* Stopped somewhere in its fork, its exec or its first instructions, and continued at once or a little later. */
static void stopped_on_the_way(void)
{
	char *argv[] = { self, "@argv", NULL };
	int status;

	for (int i = 0; i < 12; i++) {
		pid_t pid = spawn("/bin/true", argv, environ);
		for (volatile int spin = 0; spin < i * 20000; spin++)
			;
		ok(kill(pid, SIGSTOP));
		if (i % 2) {
			equal(waitpid(pid, &status, WUNTRACED), pid);
			if (WIFEXITED(status)) /* before the stop */
				continue;
			check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
		}
		ok(kill(pid, SIGCONT));
		reaped(pid, 0);
	}
}

/* A signal that comes before an exec has a handler; one that comes later ends the new program, which has none. None is lost. */
static void signalled_on_the_way(void)
{
	char number[16], byte, *argv[] = { self, "@until", number, NULL };
	int ends[2], status;

	for (int i = 0; i < 12; i++) {
		ok(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
		snprintf(number, sizeof(number), "%d", ends[1]);
		pid_t pid = ok(fork());
		if (pid == 0) {
			signal(SIGTERM, caught);
			close(ends[0]);
			write_all(ends[1], "r", 1);
			execve(self, argv, environ);
			_exit(1);
		}
		ok(close(ends[1]));
		read_all(ends[0], &byte, 1);
		for (int64_t until = now_ns(CLOCK_MONOTONIC) + i * 200000; now_ns(CLOCK_MONOTONIC) < until;)
			;
		ok(kill(pid, SIGTERM));
		ok(close(ends[0]));
		equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status))
			equal(WEXITSTATUS(status), 39);
		else
			equal(WTERMSIG(status), SIGTERM);
	}
}

static void chain(void)
{
	char pid_text[16], count[16] = "25", *argv[] = { self, "@chain", count, pid_text, NULL };
	pid_t pid = ok(fork());

	if (pid == 0) {
		snprintf(pid_text, sizeof(pid_text), "%d", getpid());
		execve(self, argv, environ);
		_exit(1);
	}
	reaped(pid, 37);
}

static void path_search(void)
{
	pid_t pid = ok(fork());

	if (pid == 0) {
		execlp("sh", "sh", "-c", "exit 38", NULL);
		_exit(1);
	}
	reaped(pid, 38);
	refused(execlp("surely-no-such-command", "x", NULL), ENOENT);
}

static int role(int argc, char **argv)
{
	struct sigaction sa;
	sigset_t set;

	mos_part = argv[1];
	if (strcmp(argv[1], "@argv") == 0) {
		check(argc == 5 && strcmp(argv[0], "zeroth") == 0 && argv[2][0] == 0 && strcmp(argv[3], "with space") == 0);
		check(strcmp(argv[4], "new\nline") == 0);
		check(strcmp(environ[0], "ONLY=this") == 0 && strcmp(environ[1], "EMPTY=") == 0 && environ[2] == NULL);
		return 31;
	}
	if (strcmp(argv[1], "@sum") == 0) {
		uint64_t total = 0;
		equal(argc, 103);
		for (int i = 0; i < 100; i++)
			total ^= datasum(argv[i + 3], 1024) + i;
		check(strtoull(argv[2], NULL, 16) == total);
		return 32;
	}
	if (strcmp(argv[1], "@script") == 0) {
		check(argc == 5 && strcmp(argv[2], "./mine") == 0 && strcmp(argv[3], "one") == 0);
		return 34;
	}
	if (strcmp(argv[1], "@argv0") == 0)
		return 35;
	if (strcmp(argv[1], "@until") == 0) { /* the other end is closed after the signal was sent */
		char byte;
		equal(read(atoi(argv[2]), &byte, 1), 0);
		return 40;
	}
	if (strcmp(argv[1], "@inherit") == 0) {
		char cwd[PATH_MAX];
		equal(getppid(), atoi(argv[2]));
		equal(lseek(50, 0, SEEK_CUR), 5);
		refused(lseek(51, 0, SEEK_CUR), EBADF);
		equal(umask(0), 0123);
		ok(sigaction(SIGTERM, NULL, &sa));
		check(sa.sa_handler == SIG_IGN);
		ok(sigaction(SIGUSR1, NULL, &sa));
		check(sa.sa_handler == SIG_DFL);
		ok(sigprocmask(SIG_BLOCK, NULL, &set));
		check(sigismember(&set, SIGUSR2));
		ok(sigpending(&set));
		check(sigismember(&set, SIGUSR2));
		check(getcwd(cwd, sizeof(cwd)) && strcmp(strrchr(cwd, '/'), "/cwd") == 0);
		check(alarm(0) > 900);
		return 36;
	}
	if (strcmp(argv[1], "@chain") == 0) {
		equal(getpid(), atoi(argv[3]));
		if (strcmp(argv[2], "0") == 0)
			return 37;
		snprintf(argv[2], strlen(argv[2]) + 1, "%d", atoi(argv[2]) - 1);
		execve("/proc/self/exe", argv, environ);
	}
	return 99;
}

int main(int argc, char **argv)
{
	static const struct part parts[] = {
		PART(arguments), PART(many_arguments), PART(failing), PART(scripts), PART(by_descriptor),
		PART(what_survives), PART(stopped_on_the_way), PART(signalled_on_the_way), PART(chain), PART(path_search),
	};

	check(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	if (argc > 1 && argv[1][0] == '@')
		return role(argc, argv);
	return mos_main(argc, argv, parts, COUNT(parts));
}
