/* Ways of libc to start programs: posix_spawn, system, popen. They use clone with CLONE_VM, CLONE_VFORK and a stack of their own. */
#include "mos.h"
#include <spawn.h>

extern char **environ;

static void spawned(void)
{
	char *argv[] = { "sh", "-c", "exit 12", NULL }, *none[] = { "x", NULL };
	pid_t pid;

	equal(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
	reaped(pid, 12);
	equal(posix_spawnp(&pid, "sh", NULL, NULL, argv, environ), 0);
	reaped(pid, 12);
	equal(posix_spawn(&pid, "/no/such/program", NULL, NULL, none, environ), ENOENT);
	equal(posix_spawnp(&pid, "surely-no-such-command", NULL, NULL, none, environ), ENOENT);
}

static void with_actions(void)
{
	char *argv[] = { "sh", "-c", "read line; echo \"got $line\"; cat nosuch >&2; exit 3", NULL };
	char buf[256];
	int in[2], out[2];
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t pid;

	ok(pipe2(in, O_CLOEXEC));
	ok(pipe2(out, O_CLOEXEC));
	equal(posix_spawn_file_actions_init(&actions), 0);
	equal(posix_spawn_file_actions_adddup2(&actions, in[0], 0), 0);
	equal(posix_spawn_file_actions_adddup2(&actions, out[1], 1), 0);
	equal(posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0), 0);
	equal(posix_spawnattr_init(&attr), 0);
	sigemptyset(&set);
	equal(posix_spawnattr_setsigmask(&attr, &set), 0);
	equal(posix_spawnattr_setpgroup(&attr, 0), 0);
	equal(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP), 0);
	equal(posix_spawn(&pid, "/bin/sh", &actions, &attr, argv, environ), 0);
	write_all(in[1], "words\n", 6);
	ok(close(in[1]));
	ok(close(out[1]));
	equal(read_all(out[0], buf, sizeof(buf)), 10);
	same(buf, "got words\n", 10);
	reaped(pid, 3);
	ok(close(in[0]));
	ok(close(out[0]));
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
}

static void systems(void)
{
	check(system(NULL) != 0);
	equal(WEXITSTATUS(ok(system("exit 5"))), 5);
	equal(WEXITSTATUS(ok(system("echo out > made; test -s made"))), 0);
	ok(unlink("made"));
	int status = ok(system("kill -TERM $$"));
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	equal(WEXITSTATUS(ok(system("surely-no-such-command 2> /dev/null"))), 127);
}

static void popened(void)
{
	char line[64];
	FILE *f = popen("seq 1 500 | tail -1; exit 6", "r");

	check(f && fgets(line, sizeof(line), f) && strcmp(line, "500\n") == 0);
	equal(WEXITSTATUS(pclose(f)), 6);
	f = popen("cat > written", "w");
	check(f != NULL);
	for (int i = 0; i < 3000; i++)
		check(fprintf(f, "%d\n", i) > 0);
	equal(pclose(f), 0);
	f = fopen("written", "r");
	check(f != NULL);
	for (int i = 0; i < 3000; i++) {
		int got;
		equal(fscanf(f, "%d", &got), 1);
		equal(got, i);
	}
	equal(fclose(f), 0);
	ok(unlink("written"));
}

PROGRAM(PART(spawned), PART(with_actions), PART(systems), PART(popened))
