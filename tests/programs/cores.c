/* Core files: they hold the memory of the program that died, and are there when natively they are. */
#include "mos.h"
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static char *secret;

static void by_abort(void)
{
	abort();
}

static void by_fault(void)
{
	*(volatile char *)16 = 1;
}

static void by_trap(void)
{
	__asm__ volatile("int3");
}

static void by_illegal(void)
{
	__asm__ volatile("ud2");
}

static void computing(void)
{
	for (;;)
		;
}

static void waiting(void)
{
	pause();
}

static void sleeping(void)
{
	sleep(100);
}

static void blocking_it(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGSEGV, SIG_IGN);
	by_fault();
}

/* How many core files there are here, and how many of them hold what the child knew; they are removed. */
static void count_files(int *files, int *told)
{
	static char buffer[1 << 20];
	DIR *here = opendir(".");
	struct dirent *entry;

	check(here != NULL);
	*files = *told = 0;
	while ((entry = readdir(here))) {
		if (strncmp(entry->d_name, "core", 4))
			continue;
		int fd = ok(open(entry->d_name, O_RDONLY));
		bool found = false;
		size_t have = 0;
		for (ssize_t got; (got = ok(read(fd, buffer + have, sizeof(buffer) - have))) > 0;) {
			size_t kept = have + got < 64 ? have + got : 64;
			found |= memmem(buffer, have + got, secret, strlen(secret)) != NULL;
			memmove(buffer, buffer + have + got - kept, kept);
			have = kept;
		}
		ok(close(fd));
		ok(unlink(entry->d_name));
		++*files;
		*told += found;
	}
	closedir(here);
}

static void dies(const char *name, void (*how)(void), int sig, rlim_t limit, bool dumpable)
{
	int status, files, told, p[2];
	char c;

	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		struct rlimit most = { limit, RLIM_INFINITY };
		char *copy = malloc(100000);

		for (size_t i = 0; i <= strlen(secret); i++)
			copy[i] = secret[i];
		setrlimit(RLIMIT_CORE, &most);
		prctl(PR_SET_DUMPABLE, dumpable);
		if (write(p[1], "x", 1) == 1)
			how();
		_exit(1);
	}
	equal(read(p[0], &c, 1), 1);
	if (how == computing || how == waiting || how == sleeping) {
		rest_ms(20);
		ok(kill(pid, sig));
	}
	ok(close(p[0]));
	ok(close(p[1]));
	status = mos_wait(pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != sig)
		fail("%s: wait status %#x instead of signal %d", name, status, sig);
	count_files(&files, &told);
	announce("%s: core %d, files %d, told %d\n", name, !!WCOREDUMP(status), files, told);
	equal(files, told);
}

static void all_kinds(void)
{
	/* the program's own text must not tell it */
	secret = malloc(64);
	snprintf(secret, 64, "mark %d of %s", 4711 * 3, "a core");
	dies("abort", by_abort, SIGABRT, RLIM_INFINITY, true);
	dies("fault", by_fault, SIGSEGV, RLIM_INFINITY, true);
	dies("trap", by_trap, SIGTRAP, RLIM_INFINITY, true);
	dies("illegal", by_illegal, SIGILL, RLIM_INFINITY, true);
	dies("fault, ignored and blocked", blocking_it, SIGSEGV, RLIM_INFINITY, true);
	dies("computing", computing, SIGQUIT, RLIM_INFINITY, true);
	dies("waiting", waiting, SIGXFSZ, RLIM_INFINITY, true);
	dies("sleeping", sleeping, SIGABRT, RLIM_INFINITY, true);
	dies("limit 0", by_fault, SIGSEGV, 0, true);
	dies("not dumpable", by_fault, SIGSEGV, RLIM_INFINITY, false);
	dies("not dumpable, killed", computing, SIGABRT, RLIM_INFINITY, false);
	free(secret);
}

PROGRAM(PART(all_kinds))
