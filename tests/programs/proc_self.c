/* /proc about oneself, by self and by number: what a program is there must be what it is. */
#include "mos.h"
#include <dirent.h>
#include <link.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static char text[1 << 20];

static size_t whole(const char *path)
{
	int fd = ok(open(path, O_RDONLY | O_CLOEXEC));
	size_t n = read_all(fd, text, sizeof(text) - 1);

	check(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY && write(fd, text, 1) < 0 && errno == EBADF);
	text[n] = 0;
	ok(close(fd));
	return n;
}

static const char *mine(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)getpid(), name);
	return path;
}

static void linked(void)
{
	char exe[PATH_MAX] = "", cwd[PATH_MAX] = "", root[PATH_MAX] = "", here[PATH_MAX], again[PATH_MAX] = "";

	check(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
	check(strcmp(strrchr(exe, '/'), "/proc_self") == 0);
	check(readlink(mine("exe"), again, sizeof(again) - 1) > 0);
	equal(strcmp(exe, again), 0);
	check(readlink("/proc/self/cwd", cwd, sizeof(cwd) - 1) > 0);
	check(getcwd(here, sizeof(here)) != NULL);
	equal(strcmp(cwd, here), 0);
	check(readlink("/proc/self/root", root, sizeof(root) - 1) == 1 && root[0] == '/');
	int fd = ok(open("file", O_RDWR | O_CREAT, 0600));
	char name[64], target[PATH_MAX] = "";
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	check(readlink(name, target, sizeof(target) - 1) > 0);
	check(strncmp(target, here, strlen(here)) == 0 && strcmp(target + strlen(here), "/file") == 0);
	equal(write(fd, "0123456789", 10), 10);
	int other = ok(open(name, O_RDONLY));
	equal(lseek(other, 0, SEEK_END), 10);
	ok(close(other));
	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	whole(name);
	check(strncmp(text, "pos:\t10\n", 8) == 0);
	ok(close(fd));
	ok(unlink("file"));
	refused(readlink(name, target, sizeof(target)), ENOENT);
	int seen = 0;
	DIR *dir = opendir("/proc/self/fd");
	check(dir != NULL);
	for (struct dirent *e; (e = readdir(dir));)
		seen += e->d_name[0] != '.';
	ok(closedir(dir));
	check(seen >= 4);
}

static void described(void)
{
	long long pid = 0, parent = 0;

	size_t n = whole("/proc/self/cmdline");
	check(n > strlen("proc_self") && strstr(text, "/proc_self") != NULL);
	whole(mine("comm"));
	equal(strcmp(text, "proc_self\n"), 0);
	n = whole("/proc/self/environ");
	bool found = false;
	for (size_t at = 0; at < n; at += strlen(text + at) + 1)
		found |= strncmp(text + at, "PATH=", 5) == 0;
	check(found);
	whole("/proc/self/stat");
	check(strchr(text, '(') && strncmp(strchr(text, '('), "(proc_self) R ", 14) == 0);
	pid = atoll(text);
	equal(pid, getpid());
	whole("/proc/self/status");
	check(strncmp(text, "Name:\tproc_self\n", 16) == 0);
	check(strstr(text, "\nPPid:\t") && (parent = atoll(strstr(text, "\nPPid:\t") + 7)) == getppid());
	check(strstr(text, "\nThreads:\t1\n") != NULL);
	whole("/proc/self/limits");
	check(strstr(text, "Max open files") != NULL);
	equal(whole("/proc/self/auxv") % 16, 0);
	check(whole("/proc/self/mountinfo") > 0);
	check(whole("/proc/self/cgroup") > 0);
	check(whole("/proc/self/oom_score_adj") > 0);
	whole("/proc/thread-self/comm");
	equal(strcmp(text, "proc_self\n"), 0);
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)getpid());
	whole(path);
	equal(strcmp(text, "proc_self\n"), 0);
}

static char data[] = "data";

struct line {
	unsigned long start, end, offset, inode;
	unsigned major, minor;
	char perms[8], name[256];
};

/* The mapping of an address, from maps or smaps. */
static struct line mapping(const char *path, const void *address)
{
	struct line l;
	unsigned long last = 0;
	bool found = false;
	struct line want = { 0 };

	whole(path);
	for (char *at = text; *at; at = strchr(at, '\n') + 1) {
		l.name[0] = 0;
		l.inode = 0;
		if (sscanf(at, "%lx-%lx %4s %lx %x:%x %lu %255[^\n]", &l.start, &l.end, l.perms, &l.offset, &l.major, &l.minor, &l.inode, l.name) < 4)
			continue;
		check(l.start >= last && l.end > l.start);
		last = l.end;
		if (l.start <= (unsigned long)address && (unsigned long)address < l.end) {
			want = l;
			found = true;
		}
	}
	if (!found)
		fail("%p is not in %s", address, path);
	return want;
}

static void mapped(void)
{
	char *anonymous = mmap(NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = calloc(1, 100), here[PATH_MAX + 16];
	int local = 0;

	check(anonymous != MAP_FAILED && heap);
	ok(mprotect(anonymous + 4096, 4096, PROT_READ));
	ok(mprotect(anonymous + 2 * 4096, 4096, PROT_NONE));
	for (int round = 0; round < 3; round++) {
		const char *path = round == 0 ? "/proc/self/maps" : round == 1 ? mine("maps") : "/proc/self/smaps";
		struct line l = mapping(path, anonymous + 4096);
		check(l.start == (unsigned long)anonymous + 4096 && l.end == l.start + 4096 && strcmp(l.perms, "r--p") == 0);
		l = mapping(path, anonymous + 2 * 4096);
		check(strcmp(l.perms, "---p") == 0);
		l = mapping(path, (void *)mapped);
		check(strcmp(l.perms, "r-xp") == 0);
		check(strstr(l.name, "/proc_self") != NULL && l.inode != 0);
		l = mapping(path, data);
		check(strcmp(l.perms, "rw-p") == 0);
		l = mapping(path, (void *)strtol);
		check(strcmp(l.perms, "r-xp") == 0 && strstr(l.name, "/libc") != NULL);
		l = mapping(path, heap);
		check(strcmp(l.name, "[heap]") == 0);
		l = mapping(path, &local);
		check(strcmp(l.name, "[stack]") == 0 && strcmp(l.perms, "rw-p") == 0);
	}
	ok(munmap(anonymous, 5 * 4096));
	free(heap);
	int fd = ok(open("mapped", O_RDWR | O_CREAT, 0600));
	write_all(fd, text, 3 * 4096);
	check(getcwd(here, PATH_MAX) != NULL);
	strcat(here, "/mapped");
	char *file = mmap(NULL, 2 * 4096, PROT_READ, MAP_PRIVATE, fd, 4096);
	check(file != MAP_FAILED);
	struct line l = mapping("/proc/self/maps", file + 5000);
	check(l.start == (unsigned long)file && l.offset == 4096);
	equal(strcmp(l.name, here), 0);
	check(l.inode != 0 && (l.major || l.minor)); /* not always those of stat(2): overlayfs */
	struct line other = mapping("/proc/self/smaps", file + 5000);
	check(other.inode == l.inode && other.major == l.major && other.minor == l.minor);
	ok(munmap(file, 2 * 4096));
	ok(close(fd));
	ok(unlink("mapped"));
	refused(open("/proc/self/maps", O_RDONLY | O_DIRECTORY), ENOTDIR);
}

/* How much memory: it grows by what is touched. (A move between open and read shows the part at home: then once more.) */
static void measured(void)
{
	long size = 0, resident, more_size = 0, more_resident = 0;
	size_t n = 8 << 20;

	for (int i = 0; i < 20 && size * 4096 < 1 << 20; i++) {
		whole("/proc/self/statm");
		equal(sscanf(text, "%ld %ld", &size, &resident), 2);
	}
	char *big = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(big != MAP_FAILED);
	memset(big, 1, n);
	for (int i = 0; i < 20 && more_size < size; i++) {
		whole("/proc/self/statm");
		equal(sscanf(text, "%ld %ld", &more_size, &more_resident), 2);
	}
	/* Some pages of the kernel's own belong to one node only. */
	check(more_size - size >= (long)n / 4096 - 64 && more_resident >= (long)n / 4096);
	for (int i = 0; i < 20 && (i == 0 || atol(strstr(text, "\nVmSize:") + 8) < (long)n / 1024); i++) {
		whole("/proc/self/status");
		check(strstr(text, "\nVmSize:") != NULL);
	}
	check(strstr(text, "\nVmRSS:") && atol(strstr(text, "\nVmRSS:") + 7) >= (long)n / 1024);
	check(atol(strstr(text, "\nVmSize:") + 8) >= (long)n / 1024);
	unsigned long vsize = 0;
	for (int i = 0; i < 20 && vsize < n; i++) {
		whole("/proc/self/stat");
		char *at = strrchr(text, ')') + 2;
		for (int field = 3; field < 23; field++)
			at = strchr(at, ' ') + 1;
		vsize = strtoul(at, NULL, 10);
	}
	check(vsize >= n);
	ok(munmap(big, n));
}

/* What libc finds there: the main thread's stack (and run-times that look for it). */
static void stack_found(void)
{
	pthread_attr_t attr;
	void *low;
	size_t size;
	char local;

	equal(pthread_getattr_np(pthread_self(), &attr), 0);
	equal(pthread_attr_getstack(&attr, &low, &size), 0);
	check((char *)low < &local && &local < (char *)low + size);
	equal(pthread_attr_destroy(&attr), 0);
}

static void of_others(void)
{
	char path[64], buf[256] = "";
	int p[2];

	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		char c;
		ok(chdir("/"));
		ok(close(p[1]));
		_exit((int)read(p[0], &c, 1));
	}
	ok(close(p[0]));
	for (int i = 0; i < 5000; i++) {
		snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
		memset(buf, 0, sizeof(buf));
		check(readlink(path, buf, sizeof(buf) - 1) > 0);
		if (strcmp(buf, "/") == 0)
			break;
		rest_ms(1);
	}
	equal(strcmp(buf, "/"), 0);
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	whole(path);
	equal(strcmp(text, "proc_self\n"), 0);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	whole(path);
	check(strstr(text, "\nPPid:\t") && atoll(strstr(text, "\nPPid:\t") + 7) == getpid());
	ok(close(p[1]));
	reaped(pid, 0);
	refused(open(path, O_RDONLY), ENOENT);
	check(whole("/proc/version") > 0 && whole("/proc/meminfo") > 0 && whole("/proc/sys/kernel/osrelease") > 0);
}

/* Wait until the file about a child reads as expected. */
static void becomes(pid_t pid, const char *name, const char *expected)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	for (int i = 0; i < 5000; i++) {
		whole(path);
		if (strstr(text, expected))
			return;
		rest_ms(1);
	}
	fail("no \"%s\" in %s: %.200s", expected, path, text);
}

static void stopped(void)
{
	int status;

	if (getenv("MOS_TRACED")) /* by somebody else: then it shows that */
		return;
	pid_t pid = ok(fork());
	if (pid == 0)
		for (;;)
			pause();
	ok(kill(pid, SIGSTOP));
	equal(waitpid(pid, &status, WUNTRACED), pid);
	check(WIFSTOPPED(status));
	becomes(pid, "stat", ") T ");
	becomes(pid, "status", "\nState:\tT (stopped)\n");
	ok(kill(pid, SIGCONT));
	becomes(pid, "stat", ") S ");
	becomes(pid, "status", "\nState:\tS (sleeping)\n");
	ok(kill(pid, SIGKILL));
	killed(pid, SIGKILL);
}

/* Arguments and environment are told while memory is on its way, and of children that are born meanwhile. */
static void titled(void)
{
	char path[64];
	size_t size = whole("/proc/self/cmdline"), environ_size = whole("/proc/self/environ");

	for (int i = 0; i < 20; i++) {
		equal(whole("/proc/self/cmdline"), size);
		check(strstr(text, "/proc_self") != NULL);
		equal(whole("/proc/self/environ"), environ_size);
		equal(strlen(text) > 0, environ_size > 0);
		int p[2];
		ok(pipe(p));
		pid_t pid = ok(fork());
		if (pid == 0) {
			char c;
			ok(close(p[1]));
			_exit((int)read(p[0], &c, 1));
		}
		ok(close(p[0]));
		snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
		equal(whole(path), size);
		check(strstr(text, "/proc_self") != NULL);
		ok(close(p[1]));
		reaped(pid, 0);
	}
}

static unsigned long long signals_in(const char *line)
{
	char *at;

	whole("/proc/self/status");
	check((at = strstr(text, line)) != NULL);
	return strtoull(at + strlen(line), NULL, 16);
}

static void caught(int sig UNUSED)
{
}

/* Which signals are blocked, ignored, caught and pending. */
static void signalled(void)
{
	unsigned long long usr1 = 1ULL << (SIGUSR1 - 1), usr2 = 1ULL << (SIGUSR2 - 1), blocked;
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	ok(sigprocmask(SIG_SETMASK, &set, &old));
	check(signal(SIGUSR1, caught) != SIG_ERR && signal(SIGURG, SIG_IGN) != SIG_ERR);
	equal(signals_in("\nSigBlk:\t"), usr1 | usr2);
	equal(signals_in("\nSigPnd:\t") | signals_in("\nShdPnd:\t"), 0);
	ok(kill(getpid(), SIGUSR1));
	equal(signals_in("\nShdPnd:\t"), usr1);
	check(signals_in("\nSigCgt:\t") & usr1 && signals_in("\nSigIgn:\t") & 1ULL << (SIGURG - 1));
	whole("/proc/self/stat");
	char *at = strrchr(text, ')') + 2;
	for (int field = 3; field < 32; field++)
		at = strchr(at, ' ') + 1;
	blocked = strtoull(at, NULL, 10);
	equal(blocked, usr1 | usr2);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	equal(signals_in("\nSigPnd:\t") | signals_in("\nShdPnd:\t"), 0);
	check((signals_in("\nSigBlk:\t") & (usr1 | usr2)) == 0);
	check(signal(SIGUSR1, SIG_DFL) != SIG_ERR && signal(SIGURG, SIG_DFL) != SIG_ERR);
}

/* A program calls itself something else: in the kernel's name of it, and by writing over its arguments. */
static void renamed(void)
{
	int p[2];
	char c;

	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		char *arguments = NULL;
		size_t size = 0;
		FILE *f = fopen("/proc/self/cmdline", "r");
		check(f && getdelim(&arguments, &size, 0, f) > 0 && fclose(f) == 0);
		ok(close(p[1]));
		ok(prctl(PR_SET_NAME, "another name"));
		memset(program_invocation_name, 'X', strlen(arguments));
		equal(read(p[0], &c, 1), 0);
		_exit(0);
	}
	ok(close(p[0]));
	becomes(pid, "comm", "another name\n");
	becomes(pid, "status", "Name:\tanother name\n");
	becomes(pid, "cmdline", "XXXXXXXX");
	ok(close(p[1]));
	reaped(pid, 0);
}

/* Nobody traces or filters a program that sees itself in /proc. */
static void nobody_else(void)
{
	char line[256];

	for (int i = 0; i < 2; i++) {
		FILE *status = fopen(i ? "/proc/thread-self/status" : "/proc/self/status", "r");
		check(status != NULL);
		while (fgets(line, sizeof(line), status))
			if (strncmp(line, "TracerPid:", 10) == 0 || strncmp(line, "Seccomp", 7) == 0 || strncmp(line, "SigBlk:", 7) == 0)
				announce("%s", line);
		fclose(status);
	}
}

static long field(const char *label)
{
	char *at = strstr(text, label);

	check(at != NULL);
	return strtol(at + strlen(label), NULL, 10);
}

/* What is shown of a child's memory is the child's, wherever the two are. */
static void of_a_childs_memory(void)
{
	static char *const size = "VmSize:\t";
	long bytes = 3 << 20, pages;
	char path[64];
	int p[2], ready[2];
	char c;

	ok(pipe(p));
	ok(pipe(ready));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(close(p[1]));
		char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		check(at != MAP_FAILED);
		memset(at, 7, bytes);
		write_all(ready[1], &at, sizeof(at));
		equal(read(p[0], &c, 1), 0);
		_exit(0);
	}
	unsigned long at;
	read_all(ready[0], &at, sizeof(at));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), i ? "/proc/%d/maps" : "/proc/%d/smaps", pid);
		whole(path);
		check(strstr(text, "/proc_self") && strstr(text, "[stack]") && strstr(text, "[vdso]"));
		bool within = false;
		for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
			unsigned long start, end;
			char perms[5];
			if (sscanf(line, "%lx-%lx %4s", &start, &end, perms) == 3 && start <= at && at + bytes <= end)
				within = strcmp(perms, "rw-p") == 0;
		}
		check(within);
	}
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	whole(path);
	check(strstr(text, "[rollup]") && field("Rss:") >= bytes / 1024);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	whole(path);
	check(field("VmRSS:\t") >= bytes / 1024);
	check(getenv("MOS_TRACED") || (field("TracerPid:\t") == 0 && field("Seccomp:\t") == 0));
	long all = field(size);
	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	whole(path);
	check(sscanf(text, "%ld", &pages) == 1);
	check(labs(pages * 4 - all) <= 64); /* what is our own in it may be moved in between */
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	whole(path);
	unsigned long vsize;
	char state;
	check(sscanf(strrchr(text, ')') + 2, "%c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lu", &state, &vsize) == 2);
	check(labs((long)vsize / 1024 - all) <= 64);
	for (int i = 0; i < 2; i++) {
		ok(close(p[i]));
		ok(close(ready[i]));
	}
	reaped(pid, 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	refused(open(path, O_RDONLY), ENOENT);
}

static long us_used(int who)
{
	struct rusage u;

	ok(getrusage(who, &u));
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/* The same as stat tells: of a process, or of its children that have ended. Each of up to four numbers is cut to a tick of 10 ms. */
static long us_told(pid_t pid, bool children)
{
	char path[64];
	long t[4];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	whole(path);
	check(sscanf(strrchr(text, ')') + 2, "%*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld %ld %ld %ld", &t[0], &t[1], &t[2], &t[3]) == 4);
	return ((children ? t[2] + t[3] : t[0] + t[1]) + 4) * 10000;
}

static void compute(long us)
{
	for (long begun = us_used(RUSAGE_SELF); us_used(RUSAGE_SELF) < begun + us;)
		for (volatile int i = 0; i < 100000; i++)
			;
}

static void times(void)
{
	int told[2], end[2];
	char c;

	compute(60000);
	long used = us_used(RUSAGE_SELF);
	check(us_told(getpid(), false) >= used);
	ok(pipe(told));
	ok(pipe(end));
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(close(end[1]));
		compute(60000);
		used = us_used(RUSAGE_SELF);
		write_all(told[1], &used, sizeof(used));
		equal(read(end[0], &c, 1), 0);
		_exit(0);
	}
	read_all(told[0], &used, sizeof(used));
	check(us_told(pid, false) >= used);
	for (int i = 0; i < 2; i++) {
		ok(close(told[i]));
		ok(close(end[i]));
	}
	reaped(pid, 0);
	used = us_used(RUSAGE_CHILDREN);
	check(us_told(getpid(), true) >= used);
}

/* What a file of memory has at this address: of one's own always, of another's if the kernel lets one open it at all. */
static bool shows(pid_t pid, const volatile char *at, char c)
{
	char path[64], found = 0;
	unsigned long long page = 0;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		equal(errno, EACCES);
		check(pid != getpid());
		return false;
	}
	equal(pread(fd, &found, 1, (off_t)at), 1);
	equal(found, c);
	ok(close(fd));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = ok(open(path, O_RDONLY | O_CLOEXEC));
	equal(pread(fd, &page, 8, (off_t)((unsigned long)at / 4096 * 8)), 8);
	check(page >> 62); /* present, or swapped out */
	ok(close(fd));
	return true;
}

static volatile char seen_by_others;

static int shows_another(void *pid)
{
	return shows(*(pid_t *)pid, &seen_by_others, 'o') ? 1 : 2;
}

/* A child sees its parent's memory, and its sibling's; a parent its child's: as it is, or not at all. */
static int others_memory(void *unused UNUSED)
{
	int gate[2], status;
	pid_t own = getpid(), waiting;

	seen_by_others = 'o';
	for (int i = 0; i < 2; i++) {
		ok(pipe(gate));
		waiting = ok(fork());
		if (!waiting) {
			ok(close(gate[1]));
			_exit(read(gate[0], &status, 1) ? 1 : 5);
		}
		ok(close(gate[0]));
		rest_ms(seconds < 0.5 ? 1 : 150);
		shows_another(&waiting);
		pid_t first = forked(shows_another, &own), second = forked(shows_another, &waiting);
		equal(waitpid(first, &status, 0), first);
		check(WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2));
		equal(waitpid(second, &status, 0), second);
		check(WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2));
		ok(close(gate[1]));
		reaped(waiting, 5);
	}
	return 4;
}

static void memory_of_others(void)
{
	reaped(forked(others_memory, NULL), 4);
}

/* What is written through a file of memory is in memory. */
static int own_memory(void *unused UNUSED)
{
	static volatile char here;
	int fd;

	here = 'h';
	rest_ms(seconds < 0.5 ? 1 : 100);
	check(shows(getpid(), &here, 'h'));
	fd = ok(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
	for (int i = 0; i < 4; i++) {
		char c = 'm' + i;
		equal(pwrite(fd, &c, 1, (off_t)&here), 1);
		equal(here, c);
		rest_ms(seconds < 0.5 ? 1 : 30);
		here = 'n' + i;
		equal(pread(fd, &c, 1, (off_t)&here), 1);
		equal(c, 'n' + i);
	}
	refused(pread(fd, &fd, 1, 4096), EIO);
	ok(close(fd));
	return 3;
}

static void memory_of_ones_own(void)
{
	reaped(forked(own_memory, NULL), 3); /* it stays at home from then on */
}

/* The auxiliary vector is the same as that on the stack, and tells where the vDSO is that maps tells of; of a child, too. */
static void auxiliary(void)
{
	unsigned long pair[2], vdso = getauxval(AT_SYSINFO_EHDR);
	char line[32], path[64];
	pid_t pid = ok(fork());

	if (!pid) {
		rest_ms(seconds * 1000 + 5000);
		_exit(0);
	}
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/proc/%d/auxv", (int)(i & 1 ? pid : getpid()));
		int fd = ok(open(path, O_RDONLY)), n = 0;
		while (read(fd, pair, sizeof(pair)) == sizeof(pair) && pair[0]) {
			if (pair[0] != AT_HWCAP && pair[0] != AT_HWCAP2) /* which libc has changed */
				equal(getauxval(pair[0]), pair[1]);
			n += pair[0] == AT_SYSINFO_EHDR;
		}
		equal(n, 1);
		ok(close(fd));
		rest_ms(seconds < 0.5 ? 1 : 30);
	}
	whole("/proc/self/maps");
	snprintf(line, sizeof(line), "%08lx-", vdso);
	char *found = strstr(text, line);
	check(found != NULL);
	check(strstr(found, "[vdso]") && strstr(found, "[vdso]") < strchr(found, '\n'));
	equal(memcmp((void *)vdso, "\177ELF", 4), 0);
	ok(kill(pid, SIGKILL));
	killed(pid, SIGKILL);
}

/* Where a program may compute is its own business, however busy it keeps those who serve it. */
static void processors(void)
{
	static const char field[] = "\nCpus_allowed:\t";
	char before[256];
	cpu_set_t set;

	CPU_ZERO(&set);
	ok(sched_getaffinity(0, sizeof(set), &set));
	whole("/proc/self/status");
	char *at = strstr(text, field);
	check(at != NULL);
	snprintf(before, sizeof(before), "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
	for (int i = 0; i < 20; i++) {
		for (int n = 0; n < 50; n++)
			refused(open("/nowhere/at all", O_RDONLY), ENOENT);
		whole("/proc/self/status");
		at = strstr(text, field);
		check(at != NULL);
		at[1 + strcspn(at + 1, "\n")] = 0;
		check(!strcmp(at + 1, before));
		cpu_set_t now;
		CPU_ZERO(&now);
		ok(sched_getaffinity(0, sizeof(now), &now));
		check(CPU_EQUAL(&set, &now));
	}
}

PROGRAM(PART(linked), PART(described), PART(mapped), PART(measured), PART(stack_found), PART(of_others), PART(stopped), PART(signalled), PART(titled), PART(renamed), PART(nobody_else), PART(of_a_childs_memory), PART(times), PART(auxiliary), PART(memory_of_others), PART(memory_of_ones_own), PART(processors))
