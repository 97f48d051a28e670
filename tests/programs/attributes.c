/* What files have besides their contents: extended attributes, statx, flags, handles, page cache; and whole file systems. */
#include "mos.h"
#include <dirent.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/xattr.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define NR_statmount 457
#define NR_listmount 458
#define NR_listxattrat 465
#define NR_removexattrat 466
#define NR_file_getattr 468
#define NR_file_setattr 469

static void *const nowhere = (void *)8;

/* Calls that the kernel of this machine may be too old for. */
static bool lacks(long result)
{
	return result == -1 && errno == ENOSYS;
}

static void make(const char *name)
{
	ok(close(ok(open(name, O_RDWR | O_CREAT | O_EXCL, 0600))));
}

static bool lists(const char *list, ssize_t n, const char *name)
{
	for (const char *at = list; at < list + n; at += strlen(at) + 1)
		if (strcmp(at, name) == 0)
			return true;
	return false;
}

static void extended(void)
{
	char buf[256] = "", list[512];
	static char large[70000];
	make("x");
	ok(symlink("x", "l"));
	int fd = ok(open("x", O_RDWR));

	if (setxattr("x", "user.one", "value", 5, 0) == -1 && errno == EOPNOTSUPP)
		goto out;
	equal(getxattr("x", "user.one", buf, sizeof(buf)), 5);
	same(buf, "value", 6);
	equal(getxattr("x", "user.one", NULL, 0), 5);
	refused(getxattr("x", "user.one", buf, 4), ERANGE);
	refused(getxattr("x", "user.none", buf, 4), ENODATA);
	refused(getxattr("x", "user.one", nowhere, 64), EFAULT);
	refused(setxattr("x", "user.one", "v", 1, XATTR_CREATE), EEXIST);
	refused(setxattr("x", "user.two", "v", 1, XATTR_REPLACE), ENODATA);
	refused(setxattr("x", "user.two", nowhere, 4, 0), EFAULT);
	refused(setxattr("x", "user.big", large, sizeof(large), 0), E2BIG);
	refused(setxattr("x", nowhere, "v", 1, 0), EFAULT);
	ok(setxattr("x", "user.empty", NULL, 0, 0));
	equal(getxattr("x", "user.empty", buf, sizeof(buf)), 0);
	ok(fsetxattr(fd, "user.two", "\0\1\2", 3, XATTR_CREATE));
	equal(fgetxattr(fd, "user.two", buf, sizeof(buf)), 3);
	same(buf, "\0\1\2", 3);
	ssize_t n = ok(listxattr("x", list, sizeof(list)));
	check(lists(list, n, "user.one") && lists(list, n, "user.two") && lists(list, n, "user.empty"));
	equal(flistxattr(fd, NULL, 0), n);
	equal(flistxattr(fd, list, sizeof(list)), n);
	refused(listxattr("x", list, 3), ERANGE);
	/* The link's own: user attributes are for files and directories only. */
	ssize_t own = ok(llistxattr("l", list, sizeof(list)));
	check(!lists(list, own, "user.one"));
	refused(lgetxattr("l", "user.one", buf, sizeof(buf)), ENODATA);
	refused(lsetxattr("l", "user.one", "v", 1, 0), EPERM);
	ok(lsetxattr("x", "user.three", "v", 1, 0));
	equal(lgetxattr("x", "user.three", buf, sizeof(buf)), 1);
	if (geteuid() == 0) {
		ok(lsetxattr("l", "trusted.mine", "t", 1, 0));
		equal(lgetxattr("l", "trusted.mine", buf, sizeof(buf)), 1);
		ok(lremovexattr("l", "trusted.mine"));
	}
	ok(lremovexattr("x", "user.three"));
	ok(fremovexattr(fd, "user.two"));
	refused(fremovexattr(fd, "user.two"), ENODATA);
	if (!lacks(syscall(NR_listxattrat, AT_FDCWD, "x", 0, list, sizeof(list)))) {
		n = ok(syscall(NR_listxattrat, fd, "", AT_EMPTY_PATH, list, sizeof(list)));
		check(lists(list, n, "user.one") && !lists(list, n, "user.two"));
		ok(syscall(NR_removexattrat, AT_FDCWD, "x", 0, "user.empty"));
		refused(syscall(NR_removexattrat, AT_FDCWD, "x", 0, "user.empty"), ENODATA);
	}
	ok(removexattr("x", "user.one"));
	refused(getxattr("x", "user.one", buf, 4), ENODATA);
out:
	ok(close(fd));
	ok(unlink("x"));
	ok(unlink("l"));
}

static void statxs(void)
{
	struct statx a, b;
	struct stat st;

	make("s");
	int fd = ok(open("s", O_RDWR));
	equal(write(fd, "12345", 5), 5);
	memset(&a, 0x55, sizeof(a));
	ok(statx(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW, STATX_ALL, &a));
	ok(fstat(fd, &st));
	check((a.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
	check(a.stx_size == 5 && a.stx_ino == st.st_ino && a.stx_mode == st.st_mode && a.stx_uid == st.st_uid);
	check(a.stx_mtime.tv_sec == st.st_mtim.tv_sec && a.stx_mtime.tv_nsec == st.st_mtim.tv_nsec);
	ok(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &b));
	equal(b.stx_size, 5);
	refused(statx(AT_FDCWD, "none", 0, STATX_ALL, &a), ENOENT);
	refused(statx(AT_FDCWD, "s", 1 << 30, STATX_ALL, &a), EINVAL);
	refused(statx(AT_FDCWD, "s", 0, STATX_ALL, nowhere), EFAULT);
	refused(statx(AT_FDCWD, nowhere, 0, STATX_ALL, &a), EFAULT);
	ok(close(fd));
	ok(unlink("s"));
}

static void flags(void)
{
	struct fsxattr x;
	int value = -1;

	make("f");
	int fd = ok(open("f", O_RDWR));
	ok(ioctl(fd, FIGETBSZ, &value));
	check(value >= 512 && value <= 1 << 20);
	refused(ioctl(fd, FIGETBSZ, nowhere), EFAULT);
	if (ioctl(fd, FS_IOC_GETFLAGS, &value) == 0) {
		int more = value | FS_NODUMP_FL, back = 0;
		ok(ioctl(fd, FS_IOC_SETFLAGS, &more));
		ok(ioctl(fd, FS_IOC_GETFLAGS, &back));
		check(back & FS_NODUMP_FL);
		ok(ioctl(fd, FS_IOC_SETFLAGS, &value));
	} else
		check(errno == ENOTTY || errno == EOPNOTSUPP);
	if (ioctl(fd, FS_IOC_FSGETXATTR, &x) == 0)
		check(sizeof(x) == 28);
	else
		check(errno == ENOTTY || errno == EOPNOTSUPP);
	refused(ioctl(fd, 0x5401, &value), ENOTTY);
	refused(ioctl(-1, FIGETBSZ, &value), EBADF);
	struct { uint64_t xflags; uint32_t extsize, nextents, projid, cowextsize; } attr, again;
	long got = syscall(NR_file_getattr, AT_FDCWD, "f", &attr, sizeof(attr), 0);
	if (got == 0) {
		refused(syscall(NR_file_getattr, AT_FDCWD, "f", &attr, 3, 0), EINVAL);
		refused(syscall(NR_file_getattr, AT_FDCWD, "f", nowhere, sizeof(attr), 0), EFAULT);
		if (syscall(NR_file_setattr, AT_FDCWD, "f", &attr, sizeof(attr), 0) == 0) {
			ok(syscall(NR_file_getattr, AT_FDCWD, "f", &again, sizeof(again), 0));
			same(&attr, &again, sizeof(attr));
		}
	} else
		check(errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOTTY);
	ok(close(fd));
	ok(unlink("f"));
}

static void modes(void)
{
	struct stat st;

	make("m");
	ok(symlink("m", "k"));
	if (!lacks(syscall(SYS_fchmodat2, AT_FDCWD, "m", 0640, 0))) {
		ok(stat("m", &st));
		equal(st.st_mode & 07777, 0640);
		long got = syscall(SYS_fchmodat2, AT_FDCWD, "k", 0600, AT_SYMLINK_NOFOLLOW);
		check(got == -1 && errno == EOPNOTSUPP);
		refused(syscall(SYS_fchmodat2, AT_FDCWD, "m", 0600, 1 << 20), EINVAL);
	}
	ok(fchmodat(AT_FDCWD, "k", 0604, 0));
	ok(stat("m", &st));
	equal(st.st_mode & 07777, 0604);
	ok(faccessat(AT_FDCWD, "k", F_OK, AT_SYMLINK_NOFOLLOW));
	ok(unlink("k"));
	ok(unlink("m"));
}

static void handles(void)
{
	struct {
		struct file_handle h;
		unsigned char bytes[128];
	} h = { .h = { .handle_bytes = 0 } }, other;
	int mount = -1, again = -1;
	struct stat a, b;

	make("h");
	int got = name_to_handle_at(AT_FDCWD, "h", &h.h, &mount, 0);
	if (got == -1 && errno == EOPNOTSUPP)
		goto out;
	check(got == -1 && errno == EOVERFLOW);
	check(h.h.handle_bytes > 0 && h.h.handle_bytes <= 128 && mount >= 0);
	ok(name_to_handle_at(AT_FDCWD, "h", &h.h, &mount, 0));
	memset(&other, 0, sizeof(other));
	other.h.handle_bytes = 128;
	ok(name_to_handle_at(AT_FDCWD, "h", &other.h, &again, 0));
	equal(again, mount);
	equal(other.h.handle_bytes, h.h.handle_bytes);
	same(other.h.f_handle, h.h.f_handle, h.h.handle_bytes);
	refused(name_to_handle_at(AT_FDCWD, "none", &h.h, &mount, 0), ENOENT);
	refused(name_to_handle_at(AT_FDCWD, "h", nowhere, &mount, 0), EFAULT);
	int fd = open_by_handle_at(AT_FDCWD, &other.h, O_RDWR);
	if (fd >= 0) {
		ok(fstat(fd, &a));
		ok(stat("h", &b));
		equal(a.st_ino, b.st_ino);
		equal(write(fd, "by handle", 9), 9);
		ok(close(fd));
	} else
		check(errno == EPERM || errno == EOPNOTSUPP);
out:
	ok(unlink("h"));
}

static void file_system(void)
{
	uint64_t range[2] = { 0, 8192 }, counts[5] = { 0 };
	char page[8192];

	make("c");
	int fd = ok(open("c", O_RDWR));
	equal(write(fd, page, sizeof(page)), sizeof(page));
	ok(syncfs(fd));
	refused(syncfs(-1), EBADF);
	sync();
	if (!lacks(syscall(SYS_cachestat, fd, range, counts, 0))) {
		check(counts[0] + counts[3] <= 2 + 2);
		refused(syscall(SYS_cachestat, fd, nowhere, counts, 0), EFAULT);
		refused(syscall(SYS_cachestat, fd, range, nowhere, 0), EFAULT);
	}
	ok(close(fd));
	ok(unlink("c"));
	struct { uint32_t size, spare; uint64_t id, param; } request = { 24, 0, UINT64_MAX, 0 };
	uint64_t ids[512];
	long n = syscall(NR_listmount, &request, ids, COUNT(ids), 0);
	if (!lacks(n)) {
		check(n > 0);
		for (long i = 1; i < n; i++)
			check(ids[i] != ids[0]);
		static struct { uint32_t size, mnt_opts; uint64_t mask; char rest[4000]; } told;
		request.id = ids[0];
		request.param = 2;	/* STATMOUNT_MNT_BASIC */
		ok(syscall(NR_statmount, &request, &told, sizeof(told), 0));
		check(told.mask & 2);
		refused(syscall(NR_statmount, &request, nowhere, sizeof(told), 0), EFAULT);
		request.id = 1ULL << 60;
		refused(syscall(NR_statmount, &request, &told, sizeof(told), 0), ENOENT);
	}
}

struct entry {
	uint64_t ino, off;
	unsigned short length;
	unsigned char type;
	char name[];
};

static void entries(void)
{
	char buf[600], name[32];
	bool seen[60] = { false };
	int got, count = 0;

	ok(mkdir("dir", 0700));
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "dir/n%d", i);
		make(name);
	}
	int fd = ok(open("dir", O_RDONLY | O_DIRECTORY));
	refused(syscall(SYS_getdents64, fd, buf, 3), EINVAL);
	refused(syscall(SYS_getdents64, fd, nowhere, 600), EFAULT);
	while ((got = ok((int)syscall(SYS_getdents64, fd, buf, sizeof(buf)))) > 0)
		for (int at = 0; at < got; at += ((struct entry *)(buf + at))->length) {
			struct entry *e = (void *)(buf + at);
			if (e->name[0] == 'n') {
				check(!seen[atoi(e->name + 1)]);
				seen[atoi(e->name + 1)] = true;
				count++;
				check(e->type == DT_REG || e->type == DT_UNKNOWN);
			}
		}
	equal(count, 60);
	equal(lseek(fd, 0, SEEK_SET), 0);
	static char all[1 << 20];
	check(syscall(SYS_getdents64, fd, all, sizeof(all)) > 60 * 24);
	refused(syscall(SYS_getdents64, 0x7fff, buf, 600), EBADF);
	ok(close(fd));
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "dir/n%d", i);
		ok(unlink(name));
	}
	ok(rmdir("dir"));
}

PROGRAM(PART(extended), PART(statxs), PART(flags), PART(modes), PART(handles), PART(file_system), PART(entries))
