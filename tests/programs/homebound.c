/* What a program may do under --stay-home only: keys of the kernel, mounts that nobody else sees, namespaces. */
#include "mos.h"
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/utsname.h>

#define NR_open_tree 428
#define NR_fsopen 430
#define NR_fsconfig 431
#define NR_fsmount 432
#define FSCONFIG_CREATE 6

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

static long keyctl(int what, long a, long b, long c, long d)
{
	return syscall(SYS_keyctl, what, a, b, c, d);
}

static int with_keys(void *unused UNUSED)
{
	char text[64] = "";
	long ring = keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"mos", 0, 0, 0), key;

	if (ring < 0)
		return errno == ENOSYS || errno == EPERM ? 8 : 1;
	key = ok(syscall(SYS_add_key, "user", "mos:secret", "treasure", 8, KEY_SPEC_SESSION_KEYRING));
	for (int i = 0; i < 3; i++) {
		elsewhere();
		equal(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0), ring);
		equal(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, (long)"user", (long)"mos:secret", 0), key);
		equal(keyctl(KEYCTL_READ, key, (long)text, sizeof(text), 0), 8);
		same(text, "treasure", 8);
		equal(syscall(SYS_request_key, "user", "mos:secret", NULL, 0), key);
	}
	ok(keyctl(KEYCTL_UPDATE, key, (long)"other", 5, 0));
	elsewhere();
	equal(keyctl(KEYCTL_READ, key, (long)text, sizeof(text), 0), 5);
	ok(keyctl(KEYCTL_REVOKE, key, 0, 0, 0));
	refused(keyctl(KEYCTL_READ, key, (long)text, sizeof(text), 0), EKEYREVOKED);
	return 8;
}

static void keys(void)
{
	reaped(forked(with_keys, NULL), 8);
}

/* What is mounted, but nowhere: files in it are reached by its descriptor only. */
static void mounts_of_ones_own(void)
{
	int tree = ok(syscall(NR_open_tree, AT_FDCWD, ".", O_CLOEXEC)), fs = syscall(NR_fsopen, "tmpfs", 1), root, file;
	char buf[8] = "";

	ok(close(ok(openat(tree, "in_tree", O_CREAT | O_RDWR, 0600))));
	elsewhere();
	ok(faccessat(tree, "in_tree", F_OK, 0));
	ok(unlinkat(tree, "in_tree", 0));
	ok(close(tree));
	if (fs < 0) {
		equal(errno, EPERM);
		return;
	}
	ok(syscall(NR_fsconfig, fs, FSCONFIG_CREATE, NULL, NULL, 0));
	elsewhere();
	root = ok(syscall(NR_fsmount, fs, 1, 0));
	file = ok(openat(root, "inside", O_CREAT | O_RDWR, 0600));
	write_all(file, "within", 6);
	elsewhere();
	equal(pread(file, buf, 6, 0), 6);
	same(buf, "within", 6);
	refused(openat(root, "another", O_RDONLY), ENOENT);
	ok(close(file));
	ok(close(root));
	ok(close(fs));
}

static int in_a_namespace(void *outer)
{
	char text[256] = "";
	int fd;

	if (unshare(CLONE_NEWUSER))
		return errno == EPERM || errno == ENOSPC ? 5 : 1;
	equal(getuid(), 65534);
	fd = ok(open("/proc/self/setgroups", O_WRONLY));
	write_all(fd, "deny", 4);
	ok(close(fd));
	fd = ok(open("/proc/self/uid_map", O_RDWR));
	if (dprintf(fd, "1234 %d 1\n", *(uid_t *)outer) < 0)
		return errno == EPERM ? 5 : 2;
	for (int i = 0; i < 3; i++) {
		elsewhere();
		equal(getuid(), 1234);
		equal(pread(fd, text, sizeof(text) - 1, 0) > 0, 1);
		equal(strtol(text, NULL, 10), 1234);
	}
	ok(close(fd));
	pid_t pid = ok(fork());
	if (!pid)
		_exit(getuid() == 1234 ? 4 : 6);
	reaped(pid, 4);
	return 5;
}

static void user_namespace(void)
{
	uid_t outer = geteuid();

	reaped(forked(in_a_namespace, &outer), 5);
}

/* A name, queues and a network that nobody else sees; and back again to those of all, by a descriptor. */
static int in_other_spaces(void *unused UNUSED)
{
	struct utsname all, now;
	struct ifreq request = { .ifr_name = "lo" };
	key_t key = 0x4d4f5321;

	ok(uname(&all));
	int uts = ok(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
	if (unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET))
		return errno == EPERM || errno == ENOSPC || errno == EINVAL ? 5 : 1;
	ok(sethostname("elsewhere", 9));
	ok(setdomainname("nowhere", 7));
	int queue = ok(msgget(key, IPC_CREAT | IPC_EXCL | 0600));
	int unconnected = ok(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	for (int i = 0; i < 3; i++) {
		elsewhere();
		ok(uname(&now));
		equal(strcmp(now.nodename, "elsewhere"), 0);
		equal(strcmp(now.domainname, "nowhere"), 0);
		equal(msgget(key, 0), queue);
		ok(ioctl(unconnected, SIOCGIFFLAGS, &request));
		equal(request.ifr_flags & IFF_UP, 0);
	}
	pid_t pid = ok(fork());
	if (!pid)
		_exit(uname(&now) == 0 && strcmp(now.nodename, "elsewhere") == 0 && msgget(key, 0) == queue ? 4 : 6);
	reaped(pid, 4);
	ok(setns(uts, CLONE_NEWUTS));
	elsewhere();
	ok(uname(&now));
	equal(strcmp(now.nodename, all.nodename), 0);
	ok(msgctl(queue, IPC_RMID, NULL));
	ok(close(unconnected));
	ok(close(uts));
	return 5;
}

static void other_spaces(void)
{
	reaped(forked(in_other_spaces, NULL), 5);
	refused(msgget(0x4d4f5321, 0), ENOENT);
}

PROGRAM(PART(keys), PART(mounts_of_ones_own), PART(user_namespace), PART(other_spaces))
