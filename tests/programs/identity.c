/* Who am I: what identifies a program and its machine is always the home-node's. */
#include "mos.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <grp.h>

static struct utsname first_name;
static pid_t first_parent;

static void ids(void)
{
	char link[64] = "", want[32];
	uid_t r, e, s;
	gid_t groups[256];

	if (!first_parent)
		first_parent = getppid();
	equal(getppid(), first_parent);
	equal(getpid(), mos_pid);
	equal(syscall(SYS_gettid), mos_pid);
	equal(getpgid(0), getpgrp());
	check(getsid(0) > 0);
	check(readlink("/proc/self", link, sizeof(link) - 1) > 0);
	snprintf(want, sizeof(want), "%d", getpid());
	equal(strcmp(link, want), 0);
	ok(getresuid(&r, &e, &s));
	equal(r, getuid());
	equal(e, geteuid());
	ok(getresgid(&r, &e, &s));
	equal(r, getgid());
	check(getgroups(256, groups) >= 0);
	ok(setuid(getuid()));
	ok(setgid(getgid()));
	ok(setreuid(-1, -1));
	for (int i = 0; i < 1000; i++)
		equal(getppid(), first_parent);
}

static int dropped(void *arg UNUSED)
{
	gid_t none[1] = { 0 };

	if (setgroups(0, none) < 0 || setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		return 1;
	if (getuid() != 65534 || geteuid() != 65534 || getegid() != 65534 || getgroups(1, none) != 0)
		return 2;
	return setuid(0) == -1 && errno == EPERM && kill(1, SIGTERM) == -1 && errno == EPERM ? 44 : 3;
}

static void privileges_dropped(void)
{
	if (geteuid() == 0)
		reaped(forked(dropped, NULL), 44);
}

static void machine(void)
{
	struct utsname u;
	struct sysinfo s;
	char name[256];

	ok(uname(&u));
	if (!first_name.sysname[0])
		first_name = u;
	equal(memcmp(&u, &first_name, sizeof(u)), 0);
	ok(gethostname(name, sizeof(name)));
	equal(strcmp(name, u.nodename), 0);
	ok(sysinfo(&s));
	check(s.totalram > 0 && s.procs > 0 && s.uptime > 0);
	check(sysconf(_SC_NPROCESSORS_ONLN) > 0);
	equal(sysconf(_SC_PAGESIZE), 4096);
}

static void limits(void)
{
	struct rlimit l, back;
	static const int which[] = { RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_AS };

	for (size_t i = 0; i < COUNT(which); i++) {
		ok(getrlimit(which[i], &l));
		check(l.rlim_cur <= l.rlim_max);
		ok(setrlimit(which[i], &l));
	}
	pid_t pid = ok(fork());
	if (pid == 0) {
		l = (struct rlimit){ 5000, 6000 };
		ok(setrlimit(RLIMIT_FSIZE, &l));
		ok(getrlimit(RLIMIT_FSIZE, &back));
		check(back.rlim_cur == 5000 && back.rlim_max == 6000);
		signal(SIGXFSZ, SIG_IGN);
		int fd = ok(open("limited", O_RDWR | O_CREAT, 0600));
		static char data[8000];
		equal(write(fd, data, 8000), 5000);
		refused(write(fd, data, 1), EFBIG);
		_exit(8);
	}
	reaped(pid, 8);
	ok(unlink("limited"));
}

static void scheduling(void)
{
	cpu_set_t cpus;

	errno = 0;
	int nice_now = getpriority(PRIO_PROCESS, 0);
	equal(errno, 0);
	pid_t pid = ok(fork());
	if (pid == 0) {
		ok(setpriority(PRIO_PROCESS, 0, nice_now + 3 > 19 ? 19 : nice_now + 3));
		equal(getpriority(PRIO_PROCESS, 0), nice_now + 3 > 19 ? 19 : nice_now + 3);
		_exit(6);
	}
	reaped(pid, 6);
	ok(sched_getaffinity(0, sizeof(cpus), &cpus));
	check(CPU_COUNT(&cpus) > 0);
	ok(sched_yield());
	equal(sched_getscheduler(0), SCHED_OTHER);
}

static int64_t last_use;

static void usage(void)
{
	struct rusage u, children;
	struct tms t;

	for (volatile int i = 0; i < 200000; i++)
		;
	ok(getrusage(RUSAGE_SELF, &u));
	int64_t now = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
	if (now < last_use)
		fail("CPU usage went back %lld us", (long long)(last_use - now));
	last_use = now;
	check(u.ru_maxrss > 0);
	pid_t pid = ok(fork());
	if (pid == 0) {
		int64_t end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 3000000;
		while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
			;
		_exit(0);
	}
	reaped(pid, 0);
	ok(getrusage(RUSAGE_CHILDREN, &children));
	check(children.ru_utime.tv_usec + children.ru_stime.tv_usec + children.ru_utime.tv_sec > 0);
	check(times(&t) != (clock_t)-1);
	check(t.tms_utime >= 0 && t.tms_cutime >= 0);
}

static void randomness(void)
{
	unsigned char a[64] = "", b[64] = "";

	equal(syscall(SYS_getrandom, a, sizeof(a), 0), sizeof(a));
	equal(syscall(SYS_getrandom, b, sizeof(b), 0), sizeof(b));
	check(memcmp(a, b, sizeof(a)) != 0);
	int fd = ok(open("/dev/urandom", O_RDONLY));
	equal(read(fd, a, sizeof(a)), sizeof(a));
	ok(close(fd));
	fd = ok(open("/dev/null", O_RDWR));
	equal(write(fd, a, sizeof(a)), sizeof(a));
	equal(read(fd, a, sizeof(a)), 0);
	ok(close(fd));
	fd = ok(open("/dev/zero", O_RDONLY));
	equal(read(fd, a, sizeof(a)), sizeof(a));
	equal(a[63], 0);
	ok(close(fd));
}

PROGRAM(PART(ids), PART(privileges_dropped), PART(machine), PART(limits), PART(scheduling), PART(usage), PART(randomness))
