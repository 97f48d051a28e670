/* What the kernel tells about this machine and this process, and the settings that a process may change for itself. */
#include "mos.h"
#include <linux/ioprio.h>
#include <linux/kcmp.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#define NR_lsm_get_self_attr 459
#define NR_lsm_set_self_attr 460
#define NR_lsm_list_modules 461

static void *const nowhere = (void *)8;

static bool lacks(long result)
{
	return result == -1 && (errno == ENOSYS || errno == EOPNOTSUPP);
}

static void schedulers(void)
{
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t a, b, c; uint32_t d, e; } attr;
	struct sched_param p = { 77 };
	struct timespec t = { -1, -1 };
	unsigned cpu = 9999, node = 9999;

	equal(sched_getscheduler(0), SCHED_OTHER);
	equal(sched_getscheduler(getpid()), SCHED_OTHER);
	refused(sched_getscheduler(-1), EINVAL);
	refused(sched_getscheduler(0x7ffffff0), ESRCH);
	ok(sched_getparam(0, &p));
	equal(p.sched_priority, 0);
	refused(sched_getparam(0, NULL), EINVAL);
	equal(sched_get_priority_max(SCHED_FIFO), 99);
	equal(sched_get_priority_min(SCHED_FIFO), 1);
	equal(sched_get_priority_max(SCHED_OTHER), 0);
	refused(sched_get_priority_min(99), EINVAL);
	ok(sched_rr_get_interval(0, &t));
	check(t.tv_sec >= 0 && t.tv_nsec >= 0);
	refused(sched_rr_get_interval(0, nowhere), EFAULT);
	memset(&attr, 0, sizeof(attr));
	ok(syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0));
	check(attr.size >= 48 && attr.policy == SCHED_OTHER && attr.nice == getpriority(PRIO_PROCESS, 0));
	refused(syscall(SYS_sched_getattr, 0, &attr, 4, 0), EINVAL);
	ok(syscall(SYS_set_mempolicy, 0, NULL, 0));
	ok(syscall(SYS_getcpu, &cpu, &node, NULL));
	check(cpu < 4096 && node < 1024);
	refused(syscall(SYS_getcpu, nowhere, NULL, NULL), EFAULT);
}

/* In a child: what it changes is its own. */
static int schedules_itself(void *arg UNUSED)
{
	struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t a, b, c; } attr;
	struct sched_param p = { 0 };
	cpu_set_t all, one;
	int cpu = 0;

	ok(sched_getaffinity(0, sizeof(all), &all));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ok(sched_setaffinity(0, sizeof(one), &one));
	CPU_ZERO(&all);
	ok(sched_getaffinity(getpid(), sizeof(all), &all));
	check(CPU_EQUAL(&all, &one));
	CPU_ZERO(&one);
	refused(sched_setaffinity(0, sizeof(one), &one), EINVAL);
	ok(sched_setparam(0, &p));
	p.sched_priority = 5;
	refused(sched_setparam(0, &p), EINVAL);
	p.sched_priority = 0;
	ok(sched_setscheduler(0, SCHED_BATCH, &p));
	equal(sched_getscheduler(0), SCHED_BATCH);
	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.policy = SCHED_OTHER;
	attr.nice = getpriority(PRIO_PROCESS, 0);
	ok(syscall(SYS_sched_setattr, 0, &attr, 0));
	equal(sched_getscheduler(0), SCHED_OTHER);
	return 72;
}

static void scheduling(void)
{
	reaped(forked(schedules_itself, NULL), 72);
}

static int priorities_changed(void *arg UNUSED)
{
	int now = getpriority(PRIO_PROCESS, 0);

	if (setpriority(PRIO_PROCESS, 0, now + 2) < 0 || getpriority(PRIO_PROCESS, getpid()) != now + 2)
		return 1;
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)) < 0)
		return 2;
	return syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) == IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6) ? 71 : 3;
}

static void priorities(void)
{
	reaped(forked(priorities_changed, NULL), 71);
	ok(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0));
	refused(syscall(SYS_ioprio_get, 99, 0), EINVAL);
	refused(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(7, 0)), EINVAL);
	refused(getpriority(99, 0), EINVAL);
	errno = 0;
	getpriority(PRIO_PGRP, 0);
	equal(errno, 0);
	refused(setpriority(PRIO_PROCESS, 0x7ffffff0, 0), ESRCH);
}

static void persona(void)
{
	struct utsname u;
	int before = ok(personality(0xffffffff));

	equal(personality(before | ADDR_NO_RANDOMIZE | UNAME26), before);
	equal(personality(0xffffffff), before | ADDR_NO_RANDOMIZE | UNAME26);
	ok(uname(&u));
	check(strncmp(u.release, "2.6.", 4) == 0);
	ok(personality(before));
	ok(uname(&u));
	check(strncmp(u.release, "2.6.", 4) != 0);
	refused(syscall(SYS_uname, nowhere), EFAULT);
}

static int limited(void *arg UNUSED)
{
	struct rlimit64 { uint64_t cur, max; } l, old, now;

	if (syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &l) < 0)
		return 1;
	l.cur = l.max < 8192 ? l.max : 8192;
	if (syscall(SYS_prlimit64, getpid(), RLIMIT_CORE, &l, &old) < 0 || syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, &now) < 0)
		return 2;
	if (now.cur != l.cur || now.max != old.max)
		return 3;
	l = (struct rlimit64){ 64, 64 };
	if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &l, NULL) < 0)
		return 4;
	int last = -1, fd;
	while ((fd = dup(1)) >= 0)
		last = fd;
	if (errno != EMFILE || last != 63)
		return 5;
	l = (struct rlimit64){ 2, 1 };
	return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &l, NULL) == -1 && errno == EINVAL ? 72 : 6;
}

static void limits(void)
{
	uint64_t l[2];

	reaped(forked(limited, NULL), 72);
	refused(syscall(SYS_prlimit64, 0, 99, NULL, l), EINVAL);
	refused(syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, nowhere), EFAULT);
	refused(syscall(SYS_prlimit64, 0, RLIMIT_CORE, nowhere, NULL), EFAULT);
	refused(syscall(SYS_prlimit64, 0x7ffffff0, RLIMIT_CORE, NULL, l), ESRCH);
	/* A child's, from outside. */
	int p[2];
	ok(pipe(p));
	pid_t pid = ok(fork());
	if (pid == 0) {
		char c;
		close(p[1]);
		_exit(read(p[0], &c, 1) == 0 && syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, l) == 0 && l[0] == 0 ? 73 : 1);
	}
	ok(syscall(SYS_prlimit64, pid, RLIMIT_CORE, NULL, l));
	l[0] = 0;
	ok(syscall(SYS_prlimit64, pid, RLIMIT_CORE, l, NULL));
	ok(close(p[0]));
	ok(close(p[1]));
	reaped(pid, 73);
}

static void settings(void)
{
	char name[32] = "", before[32] = "";
	int value = -1;

	ok(prctl(PR_GET_NAME, before));
	ok(prctl(PR_SET_NAME, "a name that is much too long"));
	ok(prctl(PR_GET_NAME, name));
	equal(strcmp(name, "a name that is "), 0);
	int fd = ok(open("/proc/self/comm", O_RDONLY));
	char comm[32] = "";
	equal(read(fd, comm, 31), 16);
	same(comm, "a name that is \n", 16);
	ok(close(fd));
	ok(prctl(PR_SET_NAME, before));
	refused(prctl(PR_GET_NAME, nowhere), EFAULT);
	refused(prctl(PR_SET_NAME, nowhere), EFAULT);
	int slack = ok(prctl(PR_GET_TIMERSLACK));
	ok(prctl(PR_SET_TIMERSLACK, 70000));
	equal(prctl(PR_GET_TIMERSLACK), 70000);
	ok(prctl(PR_SET_TIMERSLACK, slack));
	equal(prctl(PR_GET_DUMPABLE), 1);
	ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	ok(prctl(PR_GET_CHILD_SUBREAPER, &value));
	equal(value, 1);
	ok(prctl(PR_SET_CHILD_SUBREAPER, 0));
	ok(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	char status[8192] = "", mode[32];
	fd = ok(open("/proc/self/status", O_RDONLY));
	ok(read(fd, status, sizeof(status) - 1));
	ok(close(fd));
	snprintf(mode, sizeof(mode), "\nSeccomp:\t%d\n", ok(prctl(PR_GET_SECCOMP)));
	check(strstr(status, mode));
	refused(prctl(99999), EINVAL);
	check(prctl(PR_CAPBSET_READ, 0) >= 0);
	refused(prctl(PR_CAPBSET_READ, 999), EINVAL);
}

static void processes(void)
{
	struct sysinfo s;
	int p[2];

	ok(sysinfo(&s));
	check(s.mem_unit > 0 && s.totalram >= s.freeram && s.procs > 1);
	refused(sysinfo(nowhere), EFAULT);
	ok(pipe(p));
	int two = ok(dup(p[0]));
	long got = syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, p[0], two);
	if (!lacks(got)) {
		equal(got, 0);
		check(ok(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, p[0], p[1])) > 0);
		pid_t pid = ok(fork());
		if (pid == 0) {
			char c;
			_exit((int)read(p[0], &c, 1));
		}
		equal(syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, p[0], p[0]), 0);
		check(syscall(SYS_kcmp, getpid(), pid, KCMP_FILES, 0, 0) > 0);
		equal(write(p[1], "x", 1), 1);
		reaped(pid, 1);
		refused(syscall(SYS_kcmp, getpid(), getpid(), 99, 0, 0), EINVAL);
	}
	ok(close(two));
	ok(close(p[0]));
	ok(close(p[1]));
}

static int fenced(void *arg)
{
	struct landlock_ruleset_attr rules = { .handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE };
	struct landlock_path_beneath_attr beneath = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE };
	int set = syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);

	if (set < 0)
		return 1;
	beneath.parent_fd = open("open", O_PATH | O_DIRECTORY);
	if (syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
		return 2;
	if (syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, nowhere, 0) != -1 || errno != EFAULT)
		return 3;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_landlock_restrict_self, set, 0) < 0)
		return 4;
	if (open("shut/file", O_RDONLY) != -1 || errno != EACCES)
		return 5;
	return open("open/file", O_RDONLY) >= 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && *(int *)arg == 1 ? 74 : 6;
}

static void fences(void)
{
	int one = 1, version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (lacks(version))
		return;
	check(version >= 1);
	refused(syscall(SYS_landlock_create_ruleset, nowhere, 16, 0), EFAULT);
	for (const char *const *name = (const char *const[]){ "open", "shut", NULL }; *name; name++) {
		char file[32];
		ok(mkdir(*name, 0755));
		snprintf(file, sizeof(file), "%s/file", *name);
		ok(close(ok(creat(file, 0644))));
	}
	reaped(forked(fenced, &one), 74);
	ok(unlink("open/file"));
	ok(unlink("shut/file"));
	ok(rmdir("open"));
	ok(rmdir("shut"));
}

static void modules(void)
{
	uint64_t ids[64];
	uint32_t size = sizeof(ids), action = SECCOMP_RET_LOG;
	struct { uint16_t notif, resp, data; } sizes = { 0, 0, 0 };

	/* Filters of a program's own are refused, but what the kernel can do may be asked. */
	ok(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
	action = 0x12340000;
	refused(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action), EOPNOTSUPP);
	ok(syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
	check(sizes.notif >= 80 && sizes.resp >= 24 && sizes.data == 64);
	long n = syscall(NR_lsm_list_modules, ids, &size, 0);
	if (lacks(n))
		return;
	check(n > 0 && size == n * 8);
	size = 1;
	refused(syscall(NR_lsm_list_modules, ids, &size, 0), E2BIG);
	equal(size, n * 8);
	static char attrs[4096];
	size = sizeof(attrs);
	if (syscall(NR_lsm_get_self_attr, 100, attrs, &size, 0) < 0)
		check(errno == EOPNOTSUPP || errno == EINVAL);
	check(syscall(NR_lsm_set_self_attr, 100, attrs, 32, 0) == -1);
}

PROGRAM(PART(schedulers), PART(scheduling), PART(priorities), PART(persona), PART(limits), PART(settings), PART(processes), PART(fences), PART(modules))
