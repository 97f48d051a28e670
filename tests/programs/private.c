/* Private temporary files (mosrun -X $TMPDIR/p). Natively the same files lie in an ordinary directory. */
#include "mos.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define MB (1 << 20)

static char dir[PATH_MAX];
static bool private; /* natively nothing is refused, and children share */

static const char *name(const char *of)
{
	static char path[4][PATH_MAX + 64];
	static int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%.60s", dir, of);
	return p;
}

static void enter(void)
{
	struct stat st;

	snprintf(dir, sizeof(dir), "%.4000s/p", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	private = mkdir(dir, 0777) == -1;
	if (private)
		equal(errno, EEXIST);
	ok(stat(dir, &st));
	check(S_ISDIR(st.st_mode));
	ok(access(dir, W_OK));
}

static void leave(void)
{
	if (!private)
		ok(rmdir(dir));
}

static void names(void)
{
	struct stat st, again;
	char got[16];
	int fd;

	enter();
	umask(022);
	refused(open(name("a"), O_RDWR), ENOENT);
	refused(stat(name("a"), &st), ENOENT);
	refused(access(name("a"), F_OK), ENOENT);
	refused(unlink(name("a")), ENOENT);
	refused(truncate(name("a"), 0), ENOENT);
	fd = ok(open(name("a"), O_RDWR | O_CREAT | O_EXCL, 0666));
	refused(open(name("a"), O_RDWR | O_CREAT | O_EXCL, 0666), EEXIST);
	refused(open(name("a/"), O_RDONLY), ENOTDIR);
	refused(open(name("a"), O_RDONLY | O_DIRECTORY), ENOTDIR);
	equal(write(fd, "0123456789", 10), 10);
	ok(fstat(fd, &st));
	ok(stat(name("a"), &again));
	equal(st.st_ino, again.st_ino);
	equal(st.st_dev, again.st_dev);
	equal(st.st_size, 10);
	equal(st.st_mode, S_IFREG | 0644);
	equal(st.st_nlink, 1);
	check(st.st_mtime >= time(NULL) - 60 && st.st_mtime <= time(NULL) + 1);
	if (private) {
		equal(st.st_uid, 0);
		equal(st.st_gid, 0);
	}
	ok(chmod(name("a"), 0600));
	ok(lstat(name("a"), &st));
	equal(st.st_mode & 07777, 0600);
	ok(fchmod(fd, 0640));
	ok(stat(name("a"), &st));
	equal(st.st_mode & 07777, 0640);
	ok(truncate(name("a"), 4));
	ok(lseek(fd, 0, SEEK_SET));
	equal(read(fd, got, sizeof(got)), 4);
	same(got, "0123", 4);
	ok(ftruncate(fd, 8));
	equal(lseek(fd, 0, SEEK_END), 8);
	ok(unlink(name("a")));
	refused(open(name("a"), O_RDONLY), ENOENT);
	ok(fstat(fd, &st));
	equal(st.st_nlink, 0);
	equal(st.st_size, 8);
	equal(pread(fd, got, 8, 0), 8);
	same(got, "0123\0\0\0\0", 8);
	ok(close(fd));
	refused(close(fd), EBADF);
	ok(close(ok(creat(name("b"), 0600))));
	fd = ok(open(name("b"), O_WRONLY));
	refused(read(fd, got, 1), EBADF);
	ok(close(fd));
	fd = ok(open(name("b"), O_RDONLY));
	refused(write(fd, got, 1), EBADF);
	refused(ftruncate(fd, 0), EINVAL);
	equal(read(fd, got, 1), 0);
	ok(close(fd));
	ok(unlink(name("b")));
	leave();
}

static void descriptors(void)
{
	struct iovec v[2] = { { "abc", 3 }, { "defg", 4 } };
	char got[16];
	int fd, two, lowest;

	enter();
	lowest = ok(dup(1));
	ok(close(lowest));
	fd = ok(open(name("d"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	equal(fd, lowest);
	equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	equal(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR);
	equal(writev(fd, v, 2), 7);
	two = ok(dup(fd));
	equal(lseek(two, 0, SEEK_CUR), 7);
	equal(lseek(two, 2, SEEK_SET), 2);
	equal(read(fd, got, 3), 3);
	same(got, "cde", 3);
	equal(lseek(two, 0, SEEK_CUR), 5);
	equal(dup2(two, 40), 40);
	equal(read(40, got, 9), 2);
	same(got, "fg", 2);
	equal(dup3(fd, 41, O_CLOEXEC), 41);
	equal(fcntl(fd, F_DUPFD, 42), 42);
	ok(close(fd));
	ok(close(two));
	ok(close(41));
	ok(close(42));
	equal(lseek(40, 0, SEEK_CUR), 7);
	ok(fcntl(40, F_SETFL, O_APPEND));
	ok(lseek(40, 0, SEEK_SET));
	equal(write(40, "h", 1), 1);
	equal(pwrite(40, "i", 1, 20), 1); /* at the end, on Linux */
	equal(lseek(40, 0, SEEK_END), 9);
	equal(pread(40, got, sizeof(got), 1), 8);
	same(got, "bcdefghi", 8);
	refused(lseek(40, -1, SEEK_SET), EINVAL);
	ok(fsync(40));
	fd = ok(open(name("d"), O_RDONLY));
	equal(fd, lowest);
	v[0] = (struct iovec){ got, 2 };
	v[1] = (struct iovec){ got + 8, 3 };
	equal(readv(fd, v, 2), 5);
	same(got, "ab", 2);
	same(got + 8, "cde", 3);
	equal(write(ok(dup2(40, fd)), "j", 1), 1);
	ok(close(fd));
	ok(close(40));
	fd = ok(open(name("d"), O_RDWR | O_TRUNC));
	equal(lseek(fd, 0, SEEK_END), 0);
	ok(unlink(name("d")));
	ok(close(fd));
	leave();
}

/* Many files, kept over moves. */
static void many(void)
{
	enum { FILES = 40 };
	static unsigned char buf[60000];
	uint64_t sums[FILES];
	int fds[FILES];
	char file[32];

	enter();
	for (int i = 0; i < FILES; i++) {
		snprintf(file, sizeof(file), "many.%d", i);
		fds[i] = ok(open(name(file), O_RDWR | O_CREAT | O_EXCL, 0600));
		sums[i] = datagen(buf, i * 1500, i);
		write_all(fds[i], buf, i * 1500);
		if (i % 3 == 0)
			ok(close(fds[i]));
		else if (i % 3 == 1)
			ok(unlink(name(file)));
	}
	rest_ms(20);
	for (int i = 0; i < FILES; i++) {
		snprintf(file, sizeof(file), "many.%d", i);
		if (i % 3 == 0)
			fds[i] = ok(open(name(file), O_RDONLY));
		ok(lseek(fds[i], 0, SEEK_SET));
		equal(read_all(fds[i], buf, sizeof(buf)), i * 1500);
		equal(datasum(buf, i * 1500), sums[i]);
		ok(close(fds[i]));
		if (i % 3 != 1)
			ok(unlink(name(file)));
	}
	leave();
}

/* Past the 10 MB that are kept in memory, written in pieces of all sizes. */
static void growth(void)
{
	static unsigned char block[MB + 777];
	struct stat st;
	uint64_t sum;
	int fd, small, two;

	enter();
	small = ok(open(name("small"), O_RDWR | O_CREAT, 0600));
	equal(write(small, "small", 5), 5);
	fd = ok(open(name("big"), O_RDWR | O_CREAT, 0600));
	sum = datagen(block, sizeof(block), 5);
	two = ok(fcntl(fd, F_DUPFD_CLOEXEC, 50));
	for (int i = 0; i < 12; i++) {
		write_all(i % 2 ? two : fd, block, 700);
		write_all(fd, block + 700, sizeof(block) - 700);
	}
	equal(fcntl(two, F_GETFD), FD_CLOEXEC);
	equal(fcntl(fd, F_GETFD), 0);
	equal(lseek(two, 0, SEEK_CUR), 12LL * sizeof(block));
	ok(close(two));
	ok(fstat(fd, &st));
	equal(st.st_size, 12LL * sizeof(block));
	for (int i = 11; i >= 0; i--) {
		memset(block, 0, sizeof(block));
		ok(lseek(fd, (off_t)i * sizeof(block), SEEK_SET));
		equal(read_all(fd, block, sizeof(block)), sizeof(block));
		equal(datasum(block, sizeof(block)), sum);
	}
	/* holes cost nothing */
	equal(pwrite(fd, "end", 3, 1LL << 40), 3);
	ok(lseek(fd, (1LL << 40) - 2, SEEK_SET));
	equal(read(fd, block, 100), 5);
	same(block, "\0\0end", 5);
	ok(ftruncate(fd, 100));
	ok(lseek(small, 0, SEEK_SET));
	equal(read(small, block, 100), 5);
	same(block, "small", 5);
	ok(unlink(name("big")));
	ok(unlink(name("small")));
	ok(close(fd));
	ok(close(small));
	leave();
}

static void streams(void)
{
	FILE *f;
	int a, b;

	enter();
	check((f = fopen(name("stream"), "w+")) != NULL);
	for (int i = 0; i < 3000; i++)
		check(fprintf(f, "%d %d\n", i, i * i) > 0);
	rewind(f);
	for (int i = 0; i < 3000; i++) {
		equal(fscanf(f, "%d %d", &a, &b), 2);
		equal(a, i);
		equal(b, i * i);
	}
	equal(fclose(f), 0);
	ok(unlink(name("stream")));
	leave();
}

static int in_child(void *arg)
{
	int fd = *(int *)arg, own;
	char got[4];

	if (private) {
		refused(read(fd, got, 1), EBADF);
		refused(open(name("parent"), O_RDONLY), ENOENT);
	}
	own = ok(open(name(private ? "parent" : "child"), O_RDWR | O_CREAT | O_EXCL, 0600));
	equal(write(own, "own", 3), 3);
	rest_ms(5);
	equal(pread(own, got, 4, 0), 3);
	same(got, "own", 3);
	if (!private)
		ok(unlink(name("child")));
	return 7;
}

/* A child begins with no private files: neither names nor descriptors. */
static void forks(void)
{
	int fd;
	char got[8];

	enter();
	fd = ok(open(name("parent"), O_RDWR | O_CREAT, 0600));
	equal(write(fd, "parent", 6), 6);
	reaped(forked(in_child, &fd), 7);
	if (vfork() == 0) {
		if (private && write(fd, "x", 1) != -1)
			_exit(1);
		_exit(8);
	}
	int status;
	ok(wait(&status));
	equal(WEXITSTATUS(status), 8);
	equal(lseek(fd, 0, SEEK_CUR), 6);
	equal(pread(fd, got, 8, 0), 6);
	same(got, "parent", 6);
	ok(close(fd));
	ok(unlink(name("parent")));
	leave();
}

static int cat(void *arg)
{
	int fd = ok(open(name("input"), O_RDWR | O_CREAT, 0600)), closed;

	ok(unlink(name("input")));
	closed = ok(open(name("closed"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	ok(unlink(name("closed")));
	write_all(closed, "nothing", 7);
	write_all(fd, "from a private file\n", 20);
	ok(lseek(fd, 5, SEEK_SET));
	ok(dup2(fd, 0));
	ok(dup2(*(int *)arg, 1));
	execlp("cat", "cat", (char *)NULL);
	return 9;
}

/* Files stay with the process over exec; descriptors as usual. */
static void execs(void)
{
	char got[40];
	int fds[2];
	pid_t pid;

	enter();
	ok(pipe(fds));
	pid = forked(cat, &fds[1]);
	ok(close(fds[1]));
	equal(read_all(fds[0], got, sizeof(got)), 15);
	same(got, "a private file\n", 15);
	ok(close(fds[0]));
	reaped(pid, 0);
	leave();
}

/* The limit of descriptors is the program's own, neither higher nor lower than natively. */
static void limits(void)
{
	struct rlimit old, low;
	int first, fds[8], count = 0;

	enter();
	first = ok(dup(1));
	ok(close(first));
	ok(getrlimit(RLIMIT_NOFILE, &old));
	low = (struct rlimit){ first + 3, old.rlim_max };
	ok(prlimit(0, RLIMIT_NOFILE, &low, NULL));
	while (count < 8) {
		fds[count] = open(name("limits"), O_RDWR | O_CREAT, 0600);
		if (fds[count] == -1)
			break;
		equal(fds[count], first + count);
		count++;
	}
	equal(count, 3);
	equal(errno, EMFILE);
	ok(getrlimit(RLIMIT_NOFILE, &low));
	equal(low.rlim_cur, first + 3);
	equal(write(fds[2], "last", 4), 4);
	equal(lseek(fds[1], 0, SEEK_END), 4);
	ok(prlimit(0, RLIMIT_NOFILE, &old, NULL));
	while (count)
		ok(close(fds[--count]));
	ok(unlink(name("limits")));
	leave();
}

/* Numbers that no program means. */
static void odd(void)
{
	char byte;
	int fd;

	enter();
	fd = ok(open(name("odd"), O_RDWR | O_CREAT | O_EXCL, 0600));
	equal(write(fd, "hello", 5), 5);
	refused(syscall(SYS_lseek, fd, 0L, 77L), EINVAL);
	refused(syscall(SYS_lseek, fd, 0L, -1L), EINVAL);
	refused(lseek(fd, -1, SEEK_SET), EINVAL);
	refused(lseek(fd, LONG_MIN, SEEK_END), EINVAL);
	equal(lseek(fd, 0, SEEK_CUR), 5);
	if (lseek(fd, LONG_MAX, SEEK_SET) == LONG_MAX) {
		refused(lseek(fd, LONG_MAX, SEEK_CUR), EINVAL);
		refused(lseek(fd, 1, SEEK_CUR), EINVAL);
		refused(read(fd, &byte, 1), EINVAL);
	} else
		equal(errno, EINVAL); /* what a file system has as its largest file */
	refused(lseek(fd, LONG_MAX, SEEK_END), EINVAL);
	refused(pread(fd, &byte, 1, -1), EINVAL);
	refused(pwrite(fd, &byte, 1, LONG_MIN), EINVAL);
	refused(ftruncate(fd, -1), EINVAL);
	refused(syscall(SYS_read, fd, &byte, -1L), EFAULT);
	refused(syscall(SYS_write, fd, &byte, LONG_MIN), EFAULT);
	refused(syscall(SYS_readv, fd, 8L, 2L), EFAULT);
	refused(syscall(SYS_writev, fd, 0L, -1L), EINVAL);
	refused(syscall(SYS_fstat, fd, -1L), EFAULT);
	refused(syscall(SYS_stat, name("odd"), -8L), EFAULT);
	refused(syscall(SYS_access, name("odd"), 8L), EINVAL);
	ok(lseek(fd, 0, SEEK_SET));
	equal(read(fd, &byte, 1), 1);
	equal(byte, 'h');
	ok(close(fd));
	ok(unlink(name("odd")));
	leave();
}

static void refusals(void)
{
	struct timespec times[2] = { { 0, 0 }, { 0, 0 } };
	char got[8];
	int fd, null;

	enter();
	fd = ok(open(name("r"), O_RDWR | O_CREAT, 0600));
	if (private) {
		refused(mkdir(name("sub"), 0700), EPERM);
		refused(mknod(name("fifo"), S_IFIFO | 0600, 0), EPERM);
		refused(symlink("r", name("link")), EPERM);
		refused(link(name("r"), name("link")), EPERM);
		refused(rename(name("r"), name("s")), EXDEV);
		refused(rename(name("r"), "here"), EXDEV);
		refused(chown(name("r"), 0, 0), EPERM);
		refused(fchown(fd, 0, 0), EPERM);
		refused(utimensat(AT_FDCWD, name("r"), times, 0), EPERM);
		refused(futimens(fd, times), EPERM);
		refused(readlink(name("r"), got, 8), EINVAL);
		refused(rmdir(name("r")), ENOTDIR);
		refused(open(dir, O_RDONLY | O_DIRECTORY), EACCES);
		refused(open(dir, O_RDWR), EISDIR);
		refused(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
		refused(fallocate(fd, 0, 0, 4096), EOPNOTSUPP);
		null = ok(open("/dev/null", O_WRONLY));
		refused(sendfile(null, fd, NULL, 10), EINVAL);
		ok(close(null));
	}
	ok(close(fd));
	ok(unlink(name("r")));
	leave();
}

/* Whatever is read, written or sought through whichever of three descriptors: two share a position, the third appends. */
static void positions(void)
{
	static char model[1 << 16], data[600], found[600];
	long size = 0, at[2] = { 0, 0 };
	uint32_t x = 99;
	int fd[3];

	enter();
	memset(model, 0, sizeof(model));
	fd[0] = ok(open(name("p"), O_RDWR | O_CREAT | O_TRUNC, 0600));
	fd[1] = ok(dup(fd[0]));
	fd[2] = ok(open(name("p"), O_RDWR | O_APPEND));
	for (int i = 0; i < 1500; i++) {
		x = x * 1103515245 + 12345;
		int which = x >> 28 & 3, what = x >> 16 & 15, n = x >> 8 & 511, k = which == 2;
		long place = (x >> 4) % 40000, *here = &at[k];

		which -= which == 3;
		here = &at[which == 2];
		if (x & 0x4000) /* mostly the same one again, as programs do */
			which = 0, here = &at[0];
		datagen(data, n, x);
		if (what < 5 && size + n < (long)sizeof(model) && *here + n < (long)sizeof(model)) {
			if (which == 2 && n)
				*here = size;
			equal(write(fd[which], data, n), n);
			memcpy(model + *here, data, n);
			*here += n;
			size = n && *here > size ? *here : size;
		} else if (what < 9) {
			long expected = *here >= size ? 0 : size - *here < n ? size - *here : n;
			equal(read(fd[which], found, n), expected);
			same(found, model + *here, expected);
			*here += expected;
		} else if (what < 11) {
			long expected = place >= size ? 0 : size - place < n ? size - place : n;
			equal(pread(fd[which], found, n, place), expected);
			same(found, model + place, expected);
		} else if (what == 11 && which < 2) {
			equal(pwrite(fd[which], data, n, place), n);
			memcpy(model + place, data, n);
			size = n && place + n > size ? place + n : size;
		} else if (what == 12) {
			equal(lseek(fd[which], place, SEEK_SET), place);
			*here = place;
		} else if (what == 13) {
			*here += n;
			equal(lseek(fd[which], n, SEEK_CUR), *here);
		} else if (what == 14 && size > n) {
			*here = size - n;
			equal(lseek(fd[which], -n, SEEK_END), *here);
		} else if (what == 15) {
			refused(lseek(fd[which], -1, SEEK_SET), EINVAL);
			refused(lseek(fd[which], 0, 77), EINVAL);
			refused(pread(fd[which], found, 1, -1), EINVAL);
			refused(write(fd[which], (void *)8, 4), EFAULT);
			equal(read(fd[which], found, 0), 0);
			equal(lseek(fd[which], 0, SEEK_CUR), *here);
		}
		if (*here > 50000)
			*here = ok(lseek(fd[which], 100, SEEK_SET));
	}
	struct stat st;
	ok(fstat(fd[1], &st));
	equal(st.st_size, size);
	ok(close(fd[0]));
	equal(lseek(fd[1], 0, SEEK_CUR), at[0]);
	fd[0] = ok(open(name("p"), O_RDONLY)); /* most likely under the number that was just closed */
	equal(read(fd[0], found, 10), 10);
	same(found, model, 10);
	refused(write(fd[0], found, 1), EBADF);
	equal(lseek(fd[1], 0, SEEK_CUR), at[0]);
	for (int i = 0; i < 3; i++)
		ok(close(fd[i]));
	ok(unlink(name("p")));
	leave();
}

PROGRAM(PART(positions), PART(names), PART(descriptors), PART(many), PART(growth), PART(streams), PART(forks), PART(execs), PART(limits), PART(odd), PART(refusals))
