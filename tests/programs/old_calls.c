/* Calls that C libraries of today do not make any more, but old and static programs do: by their numbers. */
#include "mos.h"
#include <linux/types.h>
#include <poll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>

static void *const nowhere = (void *)8;

static void files_by_path(void)
{
	struct stat a, b, c;
	char text[8];
	int fd = ok((int)syscall(SYS_open, "f", O_RDWR | O_CREAT | O_EXCL, 0640));

	refused(syscall(SYS_open, "f", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
	refused(syscall(SYS_open, nowhere, O_RDONLY), EFAULT);
	equal(write(fd, "text", 4), 4);
	ok(symlink("f", "l"));
	ok(syscall(SYS_stat, "l", &a));
	ok(syscall(SYS_fstat, fd, &b));
	ok(syscall(SYS_lstat, "l", &c));
	check(a.st_ino == b.st_ino && a.st_size == 4 && b.st_size == 4 && S_ISREG(a.st_mode));
	check(S_ISLNK(c.st_mode) && c.st_size == 1 && c.st_ino != a.st_ino);
	refused(syscall(SYS_stat, "none", &a), ENOENT);
	refused(syscall(SYS_stat, "f", nowhere), EFAULT);
	refused(syscall(SYS_stat, nowhere, &a), EFAULT);
	refused(syscall(SYS_stat, "", &a), ENOENT);
	refused(syscall(SYS_fstat, -1, &a), EBADF);
	refused(syscall(SYS_lstat, "f/x", &a), ENOTDIR);
	ok(syscall(SYS_access, "f", R_OK | W_OK));
	refused(syscall(SYS_access, "f", 99), EINVAL);
	ok(syscall(SYS_faccessat, AT_FDCWD, "f", R_OK));
	refused(syscall(SYS_faccessat, -1, "f", R_OK), EBADF);
	int made = ok((int)syscall(SYS_creat, "c", 0600));
	equal(write(made, "x", 1), 1);
	refused(read(made, text, 1), EBADF);
	ok(close(made));
	ok(syscall(SYS_mknod, "fifo", S_IFIFO | 0600, 0));
	ok(syscall(SYS_stat, "fifo", &a));
	check(S_ISFIFO(a.st_mode));
	refused(syscall(SYS_mknod, "fifo", S_IFIFO | 0600, 0), EEXIST);
	ok(close(fd));
	for (const char *const *name = (const char *const[]){ "f", "l", "c", "fifo", NULL }; *name; name++)
		ok(unlink(*name));
}

static void times_of_files(void)
{
	struct timeval both[2] = { { 1000, 500 }, { 2000, 700 } }, bad[2] = { { 0, 0 }, { 0, 2000000 } };
	struct utimbuf plain = { 111, 222 };
	struct stat st;
	int fd = ok(open("t", O_RDWR | O_CREAT, 0600)), dir = ok(open(".", O_RDONLY | O_DIRECTORY));

	ok(close(fd));
	ok(syscall(SYS_utime, "t", &plain));
	ok(stat("t", &st));
	check(st.st_atime == 111 && st.st_mtime == 222);
	ok(syscall(SYS_utimes, "t", both));
	ok(stat("t", &st));
	check(st.st_atime == 1000 && st.st_atim.tv_nsec == 500000 && st.st_mtime == 2000 && st.st_mtim.tv_nsec == 700000);
	refused(syscall(SYS_utimes, "t", bad), EINVAL);
	refused(syscall(SYS_utimes, "t", nowhere), EFAULT);
	both[0].tv_sec = 3000;
	ok(syscall(SYS_futimesat, dir, "t", both));
	ok(stat("t", &st));
	equal(st.st_atime, 3000);
	ok(syscall(SYS_utime, "t", NULL));
	ok(stat("t", &st));
	check(st.st_mtime > 1000000);
	refused(syscall(SYS_utime, "none", NULL), ENOENT);
	ok(close(dir));
	ok(unlink("t"));
}

struct old_entry {
	unsigned long ino, off;
	unsigned short length;
	char name[];
};

static void listings(void)
{
	char buf[1024], names[64] = "";
	int seen = 0, fd, got;

	ok(mkdir("dir", 0700));
	for (int i = 0; i < 3; i++) {
		snprintf(names, sizeof(names), "dir/entry%d", i);
		ok(close(ok(creat(names, 0600))));
	}
	fd = ok(open("dir", O_RDONLY | O_DIRECTORY));
	refused(syscall(SYS_getdents, fd, buf, 1), EINVAL);
	refused(syscall(SYS_getdents, fd, nowhere, 1024), EFAULT);
	while ((got = ok((int)syscall(SYS_getdents, fd, buf, sizeof(buf)))) > 0)
		for (int at = 0; at < got;) {
			struct old_entry *e = (void *)(buf + at);
			if (strncmp(e->name, "entry", 5) == 0)
				seen |= 1 << (e->name[5] - '0');
			at += e->length;
		}
	equal(seen, 7);
	ok(close(fd));
	for (int i = 0; i < 3; i++) {
		snprintf(names, sizeof(names), "dir/entry%d", i);
		ok(unlink(names));
	}
	ok(rmdir("dir"));
}

static void old_pipes(void)
{
	fd_set set;
	struct timeval tv = { 100, 0 };
	struct pollfd p;
	char c;
	int fds[2];

	ok(syscall(SYS_pipe, fds));
	refused(syscall(SYS_pipe, nowhere), EFAULT);
	FD_ZERO(&set);
	FD_SET(fds[0], &set);
	tv = (struct timeval){ 0, 2000 };
	equal(syscall(SYS_select, fds[0] + 1, &set, NULL, NULL, &tv), 0);
	check(tv.tv_sec == 0 && tv.tv_usec == 0 && !FD_ISSET(fds[0], &set));
	equal(write(fds[1], "p", 1), 1);
	FD_SET(fds[0], &set);
	tv.tv_sec = 100;
	equal(syscall(SYS_select, fds[0] + 1, &set, NULL, NULL, &tv), 1);
	check(FD_ISSET(fds[0], &set) && tv.tv_sec >= 90);
	refused(syscall(SYS_select, -1, NULL, NULL, NULL, &tv), EINVAL);
	refused(syscall(SYS_select, fds[0] + 1, nowhere, NULL, NULL, &tv), EFAULT);
	tv.tv_sec = -1;
	refused(syscall(SYS_select, 0, NULL, NULL, NULL, &tv), EINVAL);
	p = (struct pollfd){ fds[0], POLLIN, 0 };
	equal(syscall(SYS_poll, &p, 1, -1), 1);
	equal(p.revents, POLLIN);
	equal(syscall(SYS_poll, NULL, 0, 1), 0);
	equal(read(fds[0], &c, 1), 1);
	ok(close(fds[0]));
	ok(close(fds[1]));
}

static void old_time(void)
{
	struct timespec t = { 0, 1500000 }, left;
	struct timeval tv;
	long zone[2] = { -1, -1 };
	time_t stored = 0;
	int64_t before = now_ns(CLOCK_MONOTONIC);

	ok(syscall(SYS_nanosleep, &t, &left));
	check(now_ns(CLOCK_MONOTONIC) - before >= 1500000);
	t.tv_nsec = 1000000000;
	refused(syscall(SYS_nanosleep, &t, &left), EINVAL);
	refused(syscall(SYS_nanosleep, nowhere, NULL), EFAULT);
	time_t early = time(NULL), raw = syscall(SYS_time, &stored);
	check(raw == stored && raw + 1 >= early && raw <= time(NULL) + 1);
	refused(syscall(SYS_time, nowhere), EFAULT);
	ok(syscall(SYS_gettimeofday, &tv, zone));
	check(tv.tv_sec + 1 >= raw && tv.tv_usec >= 0 && tv.tv_usec < 1000000 && zone[0] != -1);
	for (clockid_t clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++) {
		ok(syscall(SYS_clock_getres, clock, &t));
		check(t.tv_sec == 0 && t.tv_nsec > 0);
		ok(syscall(SYS_clock_gettime, clock, &t));
		check(t.tv_sec > 0);
	}
	ok(syscall(SYS_clock_getres, CLOCK_REALTIME, NULL));
	refused(syscall(SYS_clock_gettime, 77, &t), EINVAL);
	refused(syscall(SYS_clock_gettime, CLOCK_REALTIME, nowhere), EFAULT);
}

static void old_events(void)
{
	uint64_t value = 3;
	sigset_t set, old;
	char info[128], buf[256];
	int fd = ok((int)syscall(SYS_eventfd, 4));

	equal(write(fd, &value, 8), 8);
	equal(read(fd, &value, 8), 8);
	equal(value, 7);
	ok(close(fd));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	fd = ok((int)syscall(SYS_signalfd, -1, &set, 8));
	refused(syscall(SYS_signalfd, -1, &set, 4), EINVAL);
	ok(kill(getpid(), SIGUSR1));
	equal(read(fd, info, 128), 128);
	equal(*(int *)info, SIGUSR1);
	ok(close(fd));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	fd = ok((int)syscall(SYS_inotify_init));
	ok(mkdir("w", 0700));
	ok(syscall(SYS_inotify_add_watch, fd, "w", 0x100));
	ok(close(ok(creat("w/file", 0600))));
	check(read(fd, buf, sizeof(buf)) >= 16);
	ok(close(fd));
	ok(unlink("w/file"));
	ok(rmdir("w"));
	fd = ok((int)syscall(SYS_epoll_create, 1));
	refused(syscall(SYS_epoll_create, 0), EINVAL);
	ok(close(fd));
}

static void old_processes(void)
{
	struct rlimit l, back = { 0, 0 };
	int status, group = getpgrp();
	pid_t pid = ok((pid_t)syscall(SYS_fork));

	if (pid == 0)
		syscall(SYS_exit, getpgrp() == group ? 21 : 1);
	equal(syscall(SYS_wait4, pid, &status, 0, NULL), pid);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 21);
	refused(syscall(SYS_wait4, pid, &status, 0, NULL), ECHILD);
	pid = ok((pid_t)syscall(SYS_fork));
	if (pid == 0) {
		if (syscall(SYS_getrlimit, RLIMIT_CORE, &l) == 0) {
			l.rlim_cur = 0;
			if (syscall(SYS_setrlimit, RLIMIT_CORE, &l) == 0 && syscall(SYS_getrlimit, RLIMIT_CORE, &back) == 0)
				_exit(back.rlim_cur == 0 && back.rlim_max == l.rlim_max ? 22 : 2);
		}
		_exit(1);
	}
	reaped(pid, 22);
	refused(syscall(SYS_getrlimit, 77, &l), EINVAL);
	refused(syscall(SYS_getrlimit, RLIMIT_CORE, nowhere), EFAULT);
	equal(syscall(SYS_getpgrp), getpgid(0));
	alarm(50);
	equal(alarm(0), 50);
	/* A process of its own, which has ended by a signal while it waited in pause. */
	pid = ok((pid_t)syscall(SYS_fork));
	if (pid == 0)
		for (;;)
			syscall(SYS_pause);
	ok(kill(pid, SIGTERM));
	killed(pid, SIGTERM);
}

static void file_systems(void)
{
	char name[64] = "", big[32];
	struct stat st;
	long count = syscall(SYS_sysfs, 3);

	/* sysfs(2) is optional in kernels since 6.15. */
	if (count > 0) {
		ok(syscall(SYS_sysfs, 2, 0, name));
		check(name[0] != 0);
		equal(syscall(SYS_sysfs, 1, name), 0);
		refused(syscall(SYS_sysfs, 1, "no such type"), EINVAL);
		refused(syscall(SYS_sysfs, 1, nowhere), EFAULT);
	} else
		equal(errno, ENOSYS);
	ok(stat("/proc", &st));
	ok(syscall(SYS_ustat, (unsigned)st.st_dev, big));
	refused(syscall(SYS_ustat, makedev(4095, 4095), big), EINVAL);
	ok(mkdir("d", 0700));
	ok(syscall(SYS_rename, "d", "e"));
	refused(syscall(SYS_link, "none", "x"), ENOENT);
	refused(syscall(SYS_chown, "none", 0, 0), ENOENT);
	refused(syscall(SYS_lchown, "none", 0, 0), ENOENT);
	refused(syscall(SYS_chmod, "none", 0600), ENOENT);
	refused(syscall(SYS_readlink, "e", name, sizeof(name)), EINVAL);
	ok(syscall(SYS_rmdir, "e"));
}

/* Shared memory may be made and looked at; attached for writing it is not for programs that move. */
static void segments(void)
{
	struct shmid_ds ds;
	int id = ok(shmget(IPC_PRIVATE, 10000, 0600));

	ok(shmctl(id, IPC_STAT, &ds));
	check(ds.shm_segsz == 10000 && ds.shm_nattch == 0 && (ds.shm_perm.mode & 0777) == 0600);
	ds.shm_perm.mode = 0640;
	ok(shmctl(id, IPC_SET, &ds));
	ok(shmctl(id, IPC_STAT, &ds));
	equal(ds.shm_perm.mode & 0777, 0640);
	refused(shmdt(nowhere), EINVAL);
	refused(shmctl(id, IPC_STAT, nowhere), EFAULT);
	ok(shmctl(id, IPC_RMID, NULL));
	refused(shmctl(id, IPC_STAT, &ds), EINVAL);
}

/* pmap does this to learn the device of such memory. */
static void segments_read(void)
{
	struct shmid_ds ds;
	int id = ok(shmget(IPC_PRIVATE, 10000, 0600));
	char *at = shmat(id, NULL, SHM_RDONLY);

	check(at != (char *)-1);
	ok(shmctl(id, IPC_STAT, &ds));
	check(ds.shm_nattch == 1);
	check(at[0] == 0 && at[9999] == 0);
	refused(mprotect(at, 4096, PROT_READ | PROT_WRITE), EACCES);
	pid_t child = ok(fork());
	if (child == 0)
		_exit(at[5000] != 0 || shmdt(at) != 0);
	int status;
	equal(waitpid(child, &status, 0), child);
	equal(status, 0);
	ok(shmdt(at));
	refused(shmdt(at), EINVAL);
	ok(shmctl(id, IPC_STAT, &ds));
	check(ds.shm_nattch == 0);
	ok(shmctl(id, IPC_RMID, NULL));
	check(shmat(id, NULL, SHM_RDONLY) == (void *)-1);
	equal(errno, EINVAL);
}

static volatile sig_atomic_t ticks;

static void on_tick(int sig UNUSED)
{
	ticks++;
}

/* The page above all memory where programs of many years ago jump to tell the time (vsyscall), while signals come. */
static void the_gate(void)
{
	int (*const gate_gettimeofday)(struct timeval *, void *) = (void *)0xffffffffff600000;
	time_t (*const gate_time)(time_t *) = (void *)0xffffffffff600400;
	long (*const gate_getcpu)(unsigned *, unsigned *, void *) = (void *)0xffffffffff600800;
	struct itimerval every = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
	struct sigaction tick = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[256];
	bool there = false;

	check(maps != NULL);
	while (fgets(line, sizeof(line), maps))
		there |= strstr(line, "--xp") && strstr(line, "[vsyscall]");
	fclose(maps);
	if (!there)
		return;
	ok(sigaction(SIGALRM, &tick, NULL));
	ticks = 0;
	ok(setitimer(ITIMER_REAL, &every, NULL));
	int64_t end = now_ns(CLOCK_MONOTONIC) + (seconds < 0.5 ? 10 : 400) * 1000000LL;
	do {
		struct timeval tv = { -1, -1 };
		time_t stored = -1, told;
		unsigned cpu = -1, node = -1;
		int64_t before = now_ns(CLOCK_REALTIME) / 1000, between, after;

		equal(gate_gettimeofday(&tv, NULL), 0);
		between = tv.tv_sec * 1000000LL + tv.tv_usec;
		told = gate_time(&stored);
		after = now_ns(CLOCK_REALTIME) / 1000;
		check(before <= between && between <= after);
		equal(told, stored);
		check(told >= before / 1000000 - 1 && told <= after / 1000000);
		check(gate_time(NULL) >= told);
		equal(gate_getcpu(&cpu, &node, NULL), 0);
		check(cpu < 4096 && node < 4096);
	} while (now_ns(CLOCK_MONOTONIC) < end);
	ok(setitimer(ITIMER_REAL, &never, NULL));
	check(ticks > 0 || seconds < 0.5);
	check(signal(SIGALRM, SIG_DFL) != SIG_ERR);
}

PROGRAM(PART(files_by_path), PART(times_of_files), PART(listings), PART(old_pipes), PART(old_time), PART(old_events), PART(old_processes),
	PART(file_systems), PART(segments), PART(segments_read), PART(the_gate))
