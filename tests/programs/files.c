/* Files and directories: every ordinary call on them, by path, by descriptor and relative to a directory. */
#include "mos.h"
#include <dirent.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <utime.h>

static void put(const char *name, const char *text)
{
	int fd = ok(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644));

	write_all(fd, text, strlen(text));
	ok(close(fd));
}

static void expect(const char *name, const char *text)
{
	char buf[4096] = "";
	int fd = ok(open(name, O_RDONLY));

	equal(read_all(fd, buf, sizeof(buf) - 1), strlen(text));
	same(buf, text, strlen(text));
	ok(close(fd));
}

static void open_flags(void)
{
	char c;
	int fd = ok(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));

	refused(open("a", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
	refused(open("no/such", O_RDONLY), ENOENT);
	refused(open("a/b", O_RDONLY), ENOTDIR);
	refused(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
	refused(open(".", O_RDWR), EISDIR);
	equal(write(fd, "hello", 5), 5);
	ok(close(fd));
	refused(close(fd), EBADF);
	fd = ok(open("a", O_WRONLY | O_APPEND));
	refused(read(fd, &c, 1), EBADF);
	equal(lseek(fd, 0, SEEK_SET), 0);
	equal(write(fd, " world", 6), 6);
	equal(lseek(fd, 0, SEEK_CUR), 11);
	ok(close(fd));
	expect("a", "hello world");
	fd = ok(open("a", O_RDWR | O_TRUNC));
	equal(read(fd, &c, 1), 0);
	ok(close(fd));
	fd = ok(creat("b", 0600));
	ok(close(fd));
	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd >= 0) {
		equal(write(fd, "x", 1), 1);
		ok(close(fd));
	}
	struct open_how how = { .flags = O_RDONLY, .resolve = RESOLVE_BENEATH };
	fd = ok(syscall(SYS_openat2, AT_FDCWD, "a", &how, sizeof(how)));
	ok(close(fd));
	refused(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how)), EXDEV);
	fd = ok(open("a", O_PATH));
	refused(read(fd, &c, 1), EBADF);
	ok(close(fd));
	ok(unlink("a"));
	ok(unlink("b"));
}

static void seeking(void)
{
	char buf[16] = "";
	int fd = ok(open("s", O_RDWR | O_CREAT | O_TRUNC, 0600));

	equal(write(fd, "0123456789", 10), 10);
	equal(lseek(fd, 3, SEEK_SET), 3);
	equal(read(fd, buf, 2), 2);
	same(buf, "34", 2);
	equal(lseek(fd, -1, SEEK_END), 9);
	equal(lseek(fd, -4, SEEK_CUR), 5);
	refused(lseek(fd, -1, SEEK_SET), EINVAL);
	refused(lseek(fd, 0, 77), EINVAL);
	equal(lseek(fd, 1 << 20, SEEK_SET), 1 << 20);
	equal(write(fd, "end", 3), 3);
	equal(lseek(fd, 0, SEEK_END), (1 << 20) + 3);
	check(lseek(fd, 0, SEEK_DATA) == 0);
	check(lseek(fd, 0, SEEK_HOLE) > 0);
	equal(lseek(fd, 0, SEEK_END), (1 << 20) + 3);
	equal(pread(fd, buf, 4, 100000), 4);
	same(buf, "\0\0\0\0", 4);
	equal(pread(fd, buf, 16, 6), 16);
	same(buf, "6789", 4);
	equal(lseek(fd, 0, SEEK_CUR), (1 << 20) + 3);
	equal(pwrite(fd, "AB", 2, 1), 2);
	equal(pread(fd, buf, 4, 0), 4);
	same(buf, "0AB3", 4);
	refused(pread(fd, buf, 1, -1), EINVAL);
	refused(pread(fd, (void *)8, 4, 0), EFAULT);
	ok(close(fd));
	ok(unlink("s"));
}

static void vectors(void)
{
	char a[3], b[5], c[8];
	struct iovec out[3] = { { "abc", 3 }, { "", 0 }, { "defgh", 5 } };
	struct iovec in[3] = { { a, 3 }, { b, 5 }, { c, 8 } };
	static char big[64][1000], back[64][1000];
	struct iovec many[64], manyback[64];
	int fd = ok(open("v", O_RDWR | O_CREAT | O_TRUNC, 0600));

	equal(writev(fd, out, 3), 8);
	equal(lseek(fd, 0, SEEK_SET), 0);
	equal(readv(fd, in, 3), 8);
	same(a, "abc", 3);
	same(b, "defgh", 5);
	equal(readv(fd, in, 3), 0);
	equal(pwritev(fd, out, 3, 100), 8);
	equal(preadv(fd, in, 2, 100), 8);
	same(b, "defgh", 5);
	equal(pwritev2(fd, out, 3, 200, 0), 8);
	equal(preadv2(fd, in, 2, 200, 0), 8);
	same(a, "abc", 3);
	refused(readv(fd, in, -1), EINVAL);
	for (int i = 0; i < 64; i++) {
		datagen(big[i], 1000, i);
		many[i] = (struct iovec){ big[i], 1000 };
		manyback[i] = (struct iovec){ back[i], 1000 };
	}
	equal(pwritev(fd, many, 64, 0), 64000);
	equal(preadv(fd, manyback, 64, 0), 64000);
	same(back, big, 64000);
	ok(close(fd));
	ok(unlink("v"));
}

static void sizes(void)
{
	struct stat st;
	int fd = ok(open("t", O_RDWR | O_CREAT | O_TRUNC, 0600));

	ok(ftruncate(fd, 5000));
	ok(fstat(fd, &st));
	equal(st.st_size, 5000);
	ok(truncate("t", 10));
	ok(stat("t", &st));
	equal(st.st_size, 10);
	refused(truncate("nosuch", 1), ENOENT);
	if (fallocate(fd, 0, 0, 20000) == 0) {
		ok(fstat(fd, &st));
		equal(st.st_size, 20000);
		check(st.st_blocks * 512 >= 20000);
		ok(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 40000));
		ok(fstat(fd, &st));
		equal(st.st_size, 20000);
	} else
		check(errno == EOPNOTSUPP);
	equal(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	ok(readahead(fd, 0, 4096));
	ok(fsync(fd));
	ok(fdatasync(fd));
	ok(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	ok(close(fd));
	ok(unlink("t"));
}

static void stats(void)
{
	struct stat a, b, c;
	struct statx x;
	struct statfs fs;
	struct statvfs vfs;

	put("f", "twelve bytes");
	ok(symlink("f", "l"));
	ok(stat("l", &a));
	ok(lstat("l", &b));
	equal(a.st_size, 12);
	check(S_ISREG(a.st_mode) && S_ISLNK(b.st_mode));
	equal(b.st_size, 1);
	int fd = ok(open("l", O_RDONLY));
	ok(fstat(fd, &c));
	equal(a.st_ino, c.st_ino);
	ok(fstatat(AT_FDCWD, "l", &c, AT_SYMLINK_NOFOLLOW));
	equal(b.st_ino, c.st_ino);
	ok(fstatat(fd, "", &c, AT_EMPTY_PATH));
	equal(a.st_ino, c.st_ino);
	ok(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
	equal(x.stx_size, 12);
	equal(x.stx_ino, a.st_ino);
	equal(x.stx_uid, getuid());
	ok(statfs(".", &fs));
	check(fs.f_bsize > 0);
	ok(fstatfs(fd, &fs));
	check(fs.f_bsize > 0);
	ok(statvfs("f", &vfs));
	ok(close(fd));
	refused(stat("nosuch", &a), ENOENT);
	refused(stat("f", (void *)8), EFAULT);
	refused(fstat(fd, &a), EBADF);
	ok(unlink("l"));
	ok(unlink("f"));
}

static void names(void)
{
	char buf[PATH_MAX];
	struct stat a, b;

	put("one", "1");
	ok(link("one", "two"));
	ok(stat("one", &a));
	ok(stat("two", &b));
	equal(a.st_ino, b.st_ino);
	equal(a.st_nlink, 2);
	ok(rename("two", "three"));
	refused(rename("two", "three"), ENOENT);
	ok(unlink("one"));
	expect("three", "1");
	put("four", "4");
	refused(renameat2(AT_FDCWD, "three", AT_FDCWD, "four", RENAME_NOREPLACE), EEXIST);
	if (renameat2(AT_FDCWD, "three", AT_FDCWD, "four", RENAME_EXCHANGE) == 0) {
		expect("three", "4");
		ok(rename("four", "three"));
	} else
		ok(rename("three", "four"));
	ok(symlink("/somewhere/else", "sym"));
	equal(readlink("sym", buf, sizeof(buf)), 15);
	same(buf, "/somewhere/else", 15);
	equal(readlink("sym", buf, 4), 4);
	refused(readlink(".", buf, 4), EINVAL);
	ok(symlink("loop", "loop"));
	refused(open("loop", O_RDONLY), ELOOP);
	refused(unlink("nosuch"), ENOENT);
	ok(unlink("loop"));
	ok(unlink("sym"));
	unlink("three");
	unlink("four");
	char *deep = memset(malloc(5000), 'x', 4999);
	deep[4999] = 0;
	refused(open(deep, O_RDONLY), ENAMETOOLONG);
	free(deep);
	ok(mkfifo("fifo", 0600));
	ok(lstat("fifo", &a));
	check(S_ISFIFO(a.st_mode));
	ok(unlink("fifo"));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void directories(void)
{
	char cwd[PATH_MAX], name[32], small[512];
	struct dirent **list;
	int seen = 0, fd;

	ok(mkdir("d", 0755));
	refused(mkdir("d", 0755), EEXIST);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "d/file%02d", i);
		put(name, "");
	}
	equal(scandir("d", &list, NULL, by_name), 62);
	for (int i = 0; i < 62; i++) {
		if (i >= 2) {
			snprintf(name, sizeof(name), "file%02d", i - 2);
			equal(strcmp(list[i]->d_name, name), 0);
		}
		free(list[i]);
	}
	free(list);
	fd = ok(open("d", O_RDONLY | O_DIRECTORY));
	for (long n; (n = ok(syscall(SYS_getdents64, fd, small, sizeof(small)))) > 0;)
		for (long at = 0; at < n; seen++)
			at += *(unsigned short *)(small + at + 16);
	equal(seen, 62);
	equal(lseek(fd, 0, SEEK_SET), 0);
	check(syscall(SYS_getdents64, fd, small, sizeof(small)) > 0);
	refused(rmdir("d"), ENOTEMPTY);
	refused(unlink("d"), EISDIR);
	ok(chdir("d"));
	check(getcwd(cwd, sizeof(cwd)) != NULL);
	check(strlen(cwd) > 2 && strcmp(cwd + strlen(cwd) - 2, "/d") == 0);
	refused(syscall(SYS_getcwd, cwd, 3), ERANGE);
	check(access("file00", F_OK) == 0);
	ok(chdir(".."));
	ok(fchdir(fd));
	check(access("file59", F_OK) == 0);
	ok(chdir(mos_dir));
	refused(chdir("d/file00"), ENOTDIR);
	refused(chdir("nosuch"), ENOENT);
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "d/file%02d", i);
		ok(unlink(name));
	}
	ok(close(fd));
	DIR *dir = opendir("d");
	check(dir != NULL);
	long start = telldir(dir);
	check(readdir(dir) != NULL && readdir(dir) != NULL && readdir(dir) == NULL);
	seekdir(dir, start);
	check(readdir(dir) != NULL);
	ok(closedir(dir));
	ok(rmdir("d"));
}

static void relative(void)
{
	char buf[8];
	struct stat st;

	ok(mkdirat(AT_FDCWD, "r", 0700));
	int d = ok(open("r", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int fd = ok(openat(d, "x", O_RDWR | O_CREAT, 0600));
	equal(write(fd, "data", 4), 4);
	ok(close(fd));
	ok(linkat(d, "x", d, "y", 0));
	ok(symlinkat("y", d, "z"));
	equal(readlinkat(d, "z", buf, sizeof(buf)), 1);
	ok(renameat(d, "y", d, "w"));
	refused(openat(d, "z", O_RDONLY), ENOENT);
	ok(fstatat(d, "w", &st, 0));
	equal(st.st_nlink, 2);
	ok(faccessat(d, "x", R_OK, 0));
	refused(faccessat(d, "y", F_OK, 0), ENOENT);
	ok(syscall(SYS_faccessat2, d, "x", R_OK, AT_EACCESS));
	ok(fchmodat(d, "x", 0400, 0));
	ok(fstatat(d, "x", &st, 0));
	equal(st.st_mode & 0777, 0400);
	ok(fchownat(d, "x", getuid(), getgid(), 0));
	ok(mkdirat(d, "sub", 0700));
	ok(mknodat(d, "pipe", S_IFIFO | 0600, 0));
	refused(unlinkat(d, "sub", 0), EISDIR);
	ok(unlinkat(d, "sub", AT_REMOVEDIR));
	ok(unlinkat(d, "pipe", 0));
	ok(unlinkat(d, "x", 0));
	ok(unlinkat(d, "w", 0));
	ok(unlinkat(d, "z", 0));
	ok(close(d));
	refused(openat(d, "x", O_RDONLY), EBADF);
	ok(rmdir("r"));
}

static void rights_and_times(void)
{
	struct stat st;
	struct timespec when[2] = { { 1000000000, 123456789 }, { 1100000000, 987654321 } };
	struct timeval tv[2] = { { 5, 0 }, { 6, 0 } };
	struct utimbuf ut = { 7, 8 };

	put("m", "");
	mode_t old = umask(027);
	int fd = ok(open("u", O_CREAT | O_RDWR, 0666));
	ok(fstat(fd, &st));
	equal(st.st_mode & 0777, 0640);
	equal(umask(old), 027);
	ok(fchmod(fd, 0751));
	ok(fstat(fd, &st));
	equal(st.st_mode & 0777, 0751);
	ok(chmod("u", 0600));
	ok(fchown(fd, -1, -1));
	ok(chown("u", getuid(), getgid()));
	ok(lchown("u", -1, -1));
	ok(utimensat(AT_FDCWD, "m", when, 0));
	ok(stat("m", &st));
	equal(st.st_atim.tv_sec, when[0].tv_sec);
	equal(st.st_mtim.tv_sec, when[1].tv_sec);
	ok(futimens(fd, when));
	ok(fstat(fd, &st));
	equal(st.st_mtim.tv_nsec, when[1].tv_nsec);
	ok(utimes("m", tv));
	ok(stat("m", &st));
	equal(st.st_mtime, 6);
	ok(utime("m", &ut));
	ok(stat("m", &st));
	equal(st.st_mtime, 8);
	check(access("m", R_OK | W_OK) == 0);
	refused(access("m/x", F_OK), ENOTDIR);
	if (setxattr("m", "user.mos", "value", 5, 0) == 0) {
		char value[16];
		equal(getxattr("m", "user.mos", value, sizeof(value)), 5);
		check(listxattr("m", NULL, 0) >= 9);
		ok(removexattr("m", "user.mos"));
	} else
		check(errno == EOPNOTSUPP);
	ok(close(fd));
	ok(unlink("m"));
	ok(unlink("u"));
}

static void copying(void)
{
	static char data[300000], back[300000];
	int p[2], q[2];
	loff_t from = 1000, to = 0;
	off_t at = 0;

	datagen(data, sizeof(data), 7);
	int in = ok(open("in", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int out = ok(open("out", O_RDWR | O_CREAT | O_TRUNC, 0600));
	write_all(in, data, sizeof(data));
	for (size_t left = sizeof(data) - 1000; left;) {
		ssize_t n = ok(copy_file_range(in, &from, out, &to, left, 0));
		check(n > 0);
		left -= n;
	}
	equal(from, sizeof(data));
	equal(pread(out, back, sizeof(back), 0), sizeof(data) - 1000);
	same(back, data + 1000, sizeof(data) - 1000);
	ok(ftruncate(out, 0));
	while (at < (off_t)sizeof(data))
		check(sendfile(out, in, &at, sizeof(data) - at) > 0);
	equal(pread(out, back, sizeof(back), 0), sizeof(back));
	same(back, data, sizeof(data));
	ok(pipe(p));
	ok(pipe(q));
	at = 0;
	for (size_t left = 4000; left;)
		left -= ok(sendfile(p[1], in, &at, left));
	equal(tee(p[0], q[1], 4000, 0), 4000);
	equal(read_all(q[0], back, 4000), 4000);
	same(back, data, 4000);
	to = 0;
	equal(splice(p[0], NULL, out, &to, 4000, 0), 4000);
	equal(pread(out, back, 4000, 0), 4000);
	same(back, data, 4000);
	from = 5000;
	equal(splice(in, &from, p[1], NULL, 3000, 0), 3000);
	equal(read_all(p[0], back, 3000), 3000);
	same(back, data + 5000, 3000);
	for (int i = 0; i < 2; i++) {
		ok(close(p[i]));
		ok(close(q[i]));
	}
	ok(close(in));
	ok(close(out));
	ok(unlink("in"));
	ok(unlink("out"));
}

static void stdio_files(void)
{
	char line[64];
	FILE *f = fopen("lines", "w+");

	check(f != NULL);
	for (int i = 0; i < 2000; i++)
		fprintf(f, "line %d of two thousand\n", i);
	check(fseek(f, 0, SEEK_SET) == 0);
	for (int i = 0; i < 2000; i++) {
		int got = -1;
		check(fgets(line, sizeof(line), f) != NULL && sscanf(line, "line %d", &got) == 1);
		equal(got, i);
	}
	check(fgets(line, sizeof(line), f) == NULL && feof(f));
	equal(fclose(f), 0);
	ok(unlink("lines"));
	f = tmpfile();
	check(f != NULL && fputs("temporary", f) >= 0);
	rewind(f);
	check(fgets(line, sizeof(line), f) && strcmp(line, "temporary") == 0);
	equal(fclose(f), 0);
}

PROGRAM(PART(open_flags), PART(seeking), PART(vectors), PART(sizes), PART(stats), PART(names), PART(directories), PART(relative),
	PART(rights_and_times), PART(copying), PART(stdio_files))
