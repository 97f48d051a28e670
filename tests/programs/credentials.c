/* Users, groups and capabilities: real, effective, saved and file-system ids. What needs root is done by root only, in a child. */
#include "mos.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

#define NOBODY 65534
static void *const nowhere = (void *)8;

#define need(cond) \
	do { \
		if (!(cond)) { \
			dprintf(2, "line %d: %s (%s)\n", __LINE__, #cond, strerror(errno)); \
			_exit(1); \
		} \
	} while (0)

static bool uids(uid_t r, uid_t e, uid_t s)
{
	uid_t a, b, c;

	return getresuid(&a, &b, &c) == 0 && a == r && b == e && c == s && getuid() == r && geteuid() == e;
}

static bool gids(gid_t r, gid_t e, gid_t s)
{
	gid_t a, b, c;

	return getresgid(&a, &b, &c) == 0 && a == r && b == e && c == s && getgid() == r && getegid() == e;
}

static bool denied(long result)
{
	return result == -1 && errno == EPERM;
}

static void unprivileged(void)
{
	uid_t u = getuid();
	gid_t g = getgid(), list[70000 / 4];

	check(uids(u, geteuid(), geteuid()) || geteuid() != u);
	ok(setresuid(-1, -1, -1));
	ok(setresgid(-1, -1, -1));
	ok(setregid(-1, g));
	ok(setgid(g));
	equal(setfsuid(-1), geteuid());
	equal(setfsgid(-1), getegid());
	refused(syscall(SYS_getresuid, nowhere, nowhere, nowhere), EFAULT);
	int n = ok(getgroups(0, NULL));
	equal(getgroups(COUNT(list), list), n);
	if (n > 0)
		refused(getgroups(n - 1 ? n - 1 : -1, list), EINVAL);
	refused(getgroups(-1, list), EINVAL);
}

static int saved_ids(void *arg UNUSED)
{
	need(setresgid(NOBODY, NOBODY, NOBODY) == 0 && gids(NOBODY, NOBODY, NOBODY));
	need(setresuid(1, 2, 3) == 0 && uids(1, 2, 3));
	/* Not root any more: only among the three. */
	need(denied(setuid(5)) && uids(1, 2, 3));
	need(setuid(3) == 0 && uids(1, 3, 3));
	need(setreuid(-1, 1) == 0 && uids(1, 1, 3));
	need(seteuid(3) == 0 && uids(1, 3, 3));
	need(setreuid(3, 1) == 0 && uids(3, 1, 1));
	need(setresuid(1, -1, -1) == 0 && uids(1, 1, 1));
	need(denied(setresuid(0, -1, -1)) && denied(setreuid(0, 0)) && denied(setresgid(0, 0, 0)) && denied(setregid(0, -1)));
	need(denied(setgroups(0, NULL)));
	return 51;
}

static int back_and_forth(void *arg UNUSED)
{
	need(seteuid(NOBODY) == 0 && uids(0, NOBODY, 0));
	need(setegid(0) == 0);
	need(open("private", O_RDONLY) == -1 && errno == EACCES);
	need(seteuid(0) == 0 && uids(0, 0, 0));
	int fd = open("private", O_RDONLY);
	need(fd >= 0 && close(fd) == 0);
	need(setfsuid(NOBODY) == 0 && setfsuid(-1) == NOBODY);
	need(open("private", O_RDONLY) == -1 && errno == EACCES);
	need(geteuid() == 0 && setfsuid(0) == NOBODY);
	need(setfsgid(NOBODY) == 0 && setfsgid(0) == NOBODY);
	need(setgroups(3, (gid_t[]){ 10, 30, 20 }) == 0);
	gid_t list[8];
	need(getgroups(8, list) == 3 && list[0] + list[1] + list[2] == 60);
	need(setgroups(70000, list) == -1 && errno == EINVAL);
	need(setgroups(2, nowhere) == -1 && errno == EFAULT);
	return 52;
}

static int reduced(void *arg UNUSED)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2], back[2];

	need(syscall(SYS_capget, &head, data) == 0);
	need(data[0].effective >> CAP_SETUID & 1);
	data[0].effective &= ~(1u << CAP_SETUID);
	data[0].permitted &= ~(1u << CAP_SETUID);
	need(syscall(SYS_capset, &head, data) == 0);
	need(syscall(SYS_capget, &head, back) == 0 && memcmp(data, back, sizeof(data)) == 0);
	need(denied(setuid(NOBODY)));
	data[0].permitted |= 1u << CAP_SETUID;
	need(denied(syscall(SYS_capset, &head, data)));
	need(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1 && prctl(PR_CAPBSET_DROP, CAP_CHOWN) == 0 && prctl(PR_CAPBSET_READ, CAP_CHOWN) == 0);
	need(prctl(PR_SET_KEEPCAPS, 1) == 0 && prctl(PR_GET_KEEPCAPS) == 1);
	return 53;
}

static void capabilities(void)
{
	struct __user_cap_header_struct head = { 0, 0 };
	struct __user_cap_data_struct data[2];

	/* An unknown version is answered with the kernel's own. */
	refused(syscall(SYS_capget, &head, data), EINVAL);
	equal(head.version, _LINUX_CAPABILITY_VERSION_3);
	ok(syscall(SYS_capget, &head, data));
	refused(syscall(SYS_capget, &head, nowhere), EFAULT);
	head.pid = -5;
	refused(syscall(SYS_capget, &head, data), EINVAL);
	head.pid = 0;
	ok(syscall(SYS_capget, &head, data));
	ok(syscall(SYS_capset, &head, data));
}

static void as_root(void)
{
	if (geteuid() != 0)
		return;
	int fd = ok(open("private", O_RDWR | O_CREAT, 0600));
	ok(close(fd));
	ok(chmod(".", 0711));
	reaped(forked(saved_ids, NULL), 51);
	reaped(forked(back_and_forth, NULL), 52);
	reaped(forked(reduced, NULL), 53);
	ok(unlink("private"));
}

PROGRAM(PART(unprivileged), PART(capabilities), PART(as_root))
