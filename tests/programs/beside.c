/* What calls do beside their result: what they tell although they fail, memory that the kernel goes on using, locks that know threads
 * by their IDs, leases that nobody may break, and which of two mistakes is told. */
#include "mos.h"
#include <arpa/inet.h>
#include <grp.h>
#include <linux/errqueue.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define NR_statmount 457
#define NR_listmount 458
#define PR_TIMER_CREATE_RESTORE_IDS_ 77
#define FUTEX_LOCK_PI2_ 13
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

/* Memory of a page that ends before one that cannot be reached. */
static char *last_page(void)
{
	char *m = ok(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	ok(mprotect(m + 4096, 4096, PROT_NONE));
	return m;
}

static int groups_of_a_peer(void *unused UNUSED)
{
	static const gid_t given[] = { 5, 6, 7 };
	gid_t mine[64], told[64] = { 0 };
	int pair[2], n;
	socklen_t size;

	if (geteuid() == 0)
		ok(setgroups(COUNT(given), given));
	n = ok(getgroups(COUNT(mine), mine));
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	for (int room = 0; room < n; room++) {
		size = room * sizeof(gid_t);
		refused(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, told, &size), ERANGE);
		equal(size, n * sizeof(gid_t));
	}
	elsewhere();
	ok(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, told, &size));
	equal(size, n * sizeof(gid_t));
	same(told, mine, size);
	return 3;
}

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t least, most;
};

static void told_although_it_fails(void)
{
	struct attr *now = (struct attr *)last_page(), *before = (struct attr *)((char *)now + 4096 - sizeof(*now));
	char memory[sizeof(struct fiemap) + sizeof(struct fiemap_extent)];
	struct { uint32_t size, spare; uint64_t id, param; } mount = { 0 };
	struct fiemap *map = (void *)memory;
	uint64_t ids[4];

	reaped(forked(groups_of_a_peer, NULL), 3);
	/* the kernel tells how long it knows that to be; no length is its first; what is only read may be read-only */
	ok(syscall(SYS_sched_getattr, 0, before, sizeof(*before), 0));
	*now = *before;
	for (unsigned int size = 1; size < 48; size += 23) {
		now->size = size;
		refused(syscall(SYS_sched_setattr, 0, now, 0), E2BIG);
		check(now->size >= 48 && now->size <= sizeof(*now));
	}
	now->size = 0;
	ok(syscall(SYS_sched_setattr, 0, now, 0));
	equal(now->size, 0);
	ok(mprotect(now, 4096, PROT_READ));
	ok(syscall(SYS_sched_setattr, 0, before, 0));
	ok(munmap(now, 8192));
	/* flags that are not known */
	int fd = ok(open("extents", O_RDWR | O_CREAT | O_TRUNC, 0600));
	memset(memory, 0, sizeof(memory));
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_flags = FIEMAP_FLAG_SYNC | 0x8000;
	map->fm_extent_count = 1;
	check(ioctl(fd, FS_IOC_FIEMAP, map) == -1);
	announce("fiemap %s %#x\n", strerrorname_np(errno), map->fm_flags);
	ok(close(fd));
	ok(unlink("extents"));
	/* a structure that begins with its length, which is none */
	check(syscall(NR_statmount, &mount, memory, sizeof(memory), 0) == -1 && (errno == EINVAL || errno == ENOSYS));
	check(syscall(NR_listmount, &mount, ids, COUNT(ids), 0) == -1 && (errno == EINVAL || errno == ENOSYS));
}

/* What the kernel may write, and need not, may lie in memory that is only read. */
static void need_not_be_written(void)
{
	struct { struct timespec time, none; struct timeval left; } *m = (void *)last_page();
	int p[2];

	ok(pipe(p));
	m->time = (struct timespec){ 0, 1000 };
	m->left = (struct timeval){ 0, 1000 };
	ok(mprotect(m, 4096, PROT_READ));
	equal(syscall(SYS_nanosleep, &m->none, &m->none), 0);
	equal(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &m->none, &m->none), 0);
	equal(syscall(SYS_select, 0, NULL, NULL, NULL, &m->left), 0);
	equal(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &m->time, NULL), 0);
	equal(syscall(SYS_ppoll, NULL, 0, &m->time, NULL, 8), 0);
	refused(syscall(SYS_getrlimit, RLIMIT_CORE, m), EFAULT);
	refused(syscall(SYS_getsockopt, p[0], 1, 1, m, m), ENOTSOCK);
	ok(close(p[0]));
	ok(close(p[1]));
	ok(munmap(m, 8192));
}

/* What a wait writes at its end lies among initialised data: in a file that is mapped. */
static void waits_in_initialised_memory(void)
{
	static struct pollfd none = { -1, POLLIN, 7 };
	static struct timespec left = { 5, 5 };
	struct timespec time = { 0, seconds < 0.5 ? 1000 : 300000000 };

	equal(poll(&none, 1, time.tv_nsec / 1000000), 0);
	equal(none.fd, -1);
	equal(none.events, POLLIN);
	equal(none.revents, 0);
	none.revents = 7;
	ok(nanosleep(&time, &left));
}

/* A timer of the number that is asked for. */
static void numbered_timers(void)
{
	struct sigevent none = { .sigev_notify = SIGEV_NONE };
	int id = 4711, again = 4711;

	if (prctl(PR_TIMER_CREATE_RESTORE_IDS_, 1, 0, 0, 0) < 0) {
		equal(errno, EINVAL); /* before Linux 6.15 */
		return;
	}
	ok(syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &id));
	equal(id, 4711);
	refused(syscall(SYS_timer_create, CLOCK_MONOTONIC, &none, &again), EBUSY);
	ok(syscall(SYS_timer_delete, id));
	ok(prctl(PR_TIMER_CREATE_RESTORE_IDS_, 0, 0, 0, 0));
}

/* Requests whose number says nothing of the memory that they fill. */
static void requests_that_tell_nothing(void)
{
	char *page = last_page();
	uid_t owner[3], *last = (uid_t *)(page + 4096 - sizeof(uid_t));
	int fd = ok(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));

	memset(owner, 0x55, sizeof(owner));
	equal(ioctl(fd, NS_GET_NSTYPE), CLONE_NEWUSER);
	ok(ioctl(fd, NS_GET_OWNER_UID, &owner[1]));
	announce("owner %u\n", owner[1]);
	equal(owner[0], 0x55555555);
	equal(owner[2], 0x55555555);
	ok(ioctl(fd, NS_GET_OWNER_UID, last));
	equal(*last, owner[1]);
	refused(ioctl(fd, NS_GET_OWNER_UID, page + 4096), EFAULT);
	refused(ioctl(fd, NS_GET_OWNER_UID, 8), EFAULT);
	memset(page, 0x55, 4096);
	ok(mprotect(page, 4096, PROT_READ));
	refused(ioctl(fd, NS_GET_OWNER_UID, page), EFAULT);
	ok(close(fd));
	ok(munmap(page, 8192));
}

static long futex(uint32_t *word, int operation, long value, const void *time, uint32_t *other, long expected)
{
	return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, time, other, expected);
}

static int waits_to_be_killed(void *unused UNUSED)
{
	pause();
	return 1;
}

/* Locks with priority inheritance (futex(2)): the word is the ID of the thread, which the kernel looks at and stores. */
static void locks_by_id(void)
{
	static const int ways[] = { FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI, FUTEX_LOCK_PI2_ };
	struct timespec past = { 1, 0 };
	uint32_t word = 0, other = 0, me = gettid();
	pid_t gone = ok(fork());

	if (gone == 0)
		_exit(0);
	reaped(gone, 0);
	for (unsigned i = 0; i < COUNT(ways); i++) {
		if (futex(&word, ways[i], 0, NULL, NULL, 0) < 0) {
			equal(errno, ENOSYS);
			continue;
		}
		equal(word, me);
		elsewhere();
		refused(futex(&word, ways[i], 0, NULL, NULL, 0), EDEADLK);
		equal(word, me);
		ok(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
		equal(word, 0);
		refused(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
	}
	word = gone;
	refused(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
	refused(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
	refused(futex((uint32_t *)8, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
	refused(futex((uint32_t *)((char *)&word + 2), FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL);
	/* somebody else has it */
	pid_t owner = forked(waits_to_be_killed, NULL);
	word = owner;
	check(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0) == -1);
	announce("tried: %s\n", strerrorname_np(errno));
	equal(word & FUTEX_TID_MASK, owner);
	word = owner;
	check(futex(&word, FUTEX_LOCK_PI, 0, &past, NULL, 0) == -1);
	announce("waited: %s\n", strerrorname_np(errno));
	equal(word & FUTEX_TID_MASK, owner);
	ok(kill(owner, SIGTERM));
	killed(owner, SIGTERM);
	word = 5;
	equal(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &other, 5), 0);
	refused(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &other, 6), EAGAIN);
	equal(word, 5);
	equal(other, 0);
}

/* Oneself, by one's PID; and what a call leaves in the registers of its arguments. */
static void by_pid(void)
{
	void *head = NULL, *again = NULL;
	size_t size = 0, same_size = 0;
	struct rlimit old;
	long result, pid = getpid();

	ok(syscall(SYS_get_robust_list, 0, &head, &size));
	ok(syscall(SYS_get_robust_list, getpid(), &again, &same_size));
	check(head == again && size == same_size);
	refused(syscall(SYS_get_robust_list, -1, &head, &size), ESRCH);
	refused(syscall(SYS_get_robust_list, getpid(), 8L, &size), EFAULT);
	ok(prlimit(pid, RLIMIT_STACK, NULL, &old));
	register struct rlimit *fourth __asm__("r10") = NULL;
	__asm__ volatile("syscall" : "=a"(result), "+D"(pid) : "0"(SYS_prlimit64), "S"(RLIMIT_STACK), "d"(&old), "r"(fourth) : "rcx", "r11", "memory");
	equal(result, 0);
	equal(pid, getpid());
}

/* Memory of a process, by its PID: one's own. */
static void own_memory(void)
{
	char from[100], to[100], *page = last_page();
	struct iovec local[] = { { to, 10 }, { to + 10, 90 } }, remote[] = { { from, 50 }, { from + 50, 50 } };
	struct iovec beyond[] = { { from, 10 }, { page + 4096, 10 } }, bad = { page + 4096, 10 };
	pid_t gone = ok(fork());

	if (gone == 0)
		_exit(0);
	reaped(gone, 0);
	for (int way = 0; way < 2; way++) {
		datagen(from, sizeof(from), way);
		memset(to, 0, sizeof(to));
		if (way)
			equal(process_vm_writev(getpid(), remote, 2, local, 2, 0), sizeof(to));
		else
			equal(process_vm_readv(getpid(), local, 2, remote, 2, 0), sizeof(to));
		same(to, from, sizeof(to));
		elsewhere();
	}
	equal(process_vm_readv(getpid(), local, 2, beyond, 2, 0), 10);
	refused(process_vm_readv(getpid(), local, 2, &bad, 1, 0), EFAULT);
	refused(process_vm_writev(getpid(), local, 2, &bad, 1, 0), EFAULT);
	refused(process_vm_readv(getpid(), local, 2, remote, 2, 1), EINVAL);
	equal(process_vm_readv(getpid(), local, 0, remote, 2, 0), 0);
	refused(process_vm_readv(gone, local, 2, remote, 2, 0), ESRCH);
	ok(munmap(page, 8192));
}

/* Which mistake is told of several; and types of mappings that are none, or say that all flags must be known. */
static void kinds_of_mappings(void)
{
	int fd = ok(open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600));

	write_all(fd, "0123456789", 10);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, 0, fd, 0L), EINVAL);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, 7, fd, 0L), EINVAL);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, 0xf, fd, 0L), EINVAL);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0L), EOPNOTSUPP);
	refused(syscall(SYS_mmap, 0L, 4096L, PROT_READ, MAP_SHARED_VALIDATE | 1 << 21, fd, 0L), EOPNOTSUPP);
	refused(syscall(SYS_mmap, 0L, 0L, PROT_READ, MAP_PRIVATE, -1L, 0L), EBADF);
	refused(syscall(SYS_mmap, 0L, 0L, PROT_READ, MAP_PRIVATE, fd, 0L), EINVAL);
	refused(syscall(SYS_mmap, 0L, 1L << 62, PROT_READ, MAP_PRIVATE, -1L, 0L), EBADF);
	refused(syscall(SYS_mmap, 0L, 0L, PROT_READ, MAP_PRIVATE, -1L, 1L), EINVAL);
	char *p = ok(mmap(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
	elsewhere();
	same(p, "0123456789", 10);
	ok(munmap(p, 4096));
	ok(close(fd));
	ok(unlink("mapped"));
}

/* What is sent from memory that the kernel reads later (MSG_ZEROCOPY) arrives as it was. */
static void sent_later(void)
{
	enum { SENDS = 12, SIZE = 16384 };
	static char out[SENDS][SIZE], in[SIZE];
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(at);
	int on = 1, small = 4096, much = 1 << 20, told = 0;
	int s = ok(socket(AF_INET, SOCK_STREAM, 0)), from = ok(socket(AF_INET, SOCK_STREAM, 0));

	ok(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)));
	ok(bind(s, (void *)&at, sizeof(at)));
	ok(listen(s, 1));
	ok(getsockname(s, (void *)&at, &length));
	ok(setsockopt(from, SOL_SOCKET, SO_SNDBUF, &much, sizeof(much)));
	ok(setsockopt(from, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)));
	ok(connect(from, (void *)&at, sizeof(at)));
	int to = ok(accept(s, NULL, NULL));
	for (int i = 0; i < SENDS; i++) {
		struct iovec pieces[] = { { out[i], 100 }, { out[i] + 100, SIZE - 100 } };
		struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };

		datagen(out[i], SIZE, i);
		equal(i & 1 ? sendmsg(from, &message, MSG_ZEROCOPY) : send(from, out[i], SIZE, MSG_ZEROCOPY), SIZE);
	}
	elsewhere();
	for (int i = 0; i < SENDS; i++) {
		equal(read_all(to, in, SIZE), SIZE);
		same(in, out[i], SIZE);
	}
	while (told < SENDS) {
		char control[256];
		struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };

		if (recvmsg(from, &message, MSG_ERRQUEUE) < 0) {
			equal(errno, EAGAIN);
			rest_ms(2);
			continue;
		}
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		check(c != NULL && c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR);
		struct sock_extended_err *e = (void *)CMSG_DATA(c);
		equal(e->ee_origin, SO_EE_ORIGIN_ZEROCOPY);
		told += e->ee_data - e->ee_info + 1;
	}
	equal(told, SENDS);
	ok(close(from));
	ok(close(to));
	ok(close(s));
}

/* Memory that is given to a pipe (vmsplice(2)), and read out of one. */
static void given_to_a_pipe(void)
{
	enum { SIZE = 12288 };
	static char in[SIZE], out[SIZE];
	char *page = last_page();
	int p[2], to[2];

	ok(pipe(p));
	ok(pipe(to));
	for (int round = 0; round < 4; round++) {
		char more[] = "of other calls";
		struct iovec pieces[] = { { in, 4096 }, { in + 4096, SIZE - 4096 } }, back = { out, SIZE };

		datagen(in, SIZE, round);
		equal(vmsplice(p[1], pieces, 2, round & 1 ? SPLICE_F_NONBLOCK : 0), SIZE);
		equal(write(p[1], more, sizeof(more)), sizeof(more)); /* not where the pipe's pages are */
		elsewhere();
		if (round & 2)
			equal(read_all(p[0], out, SIZE), SIZE);
		else
			equal(vmsplice(p[0], &back, 1, 0), SIZE);
		same(out, in, SIZE);
		equal(read_all(p[0], out, sizeof(more)), sizeof(more));
		same(out, more, sizeof(more));
	}
	/* what cannot be written can be given nevertheless */
	strcpy(page, "read only");
	ok(mprotect(page, 4096, PROT_READ));
	struct iovec only = { page, 10 }, bad = { page + 4096, 10 };
	equal(vmsplice(p[1], &only, 1, 0), 10);
	equal(tee(p[0], to[1], 100, 0), 10);
	equal(read_all(p[0], out, 10), 10);
	same(out, "read only", 10);
	equal(read_all(to[0], out, 10), 10);
	same(out, "read only", 10);
	refused(vmsplice(p[1], &bad, 1, 0), EFAULT);
	refused(vmsplice(p[0], &only, 1, SPLICE_F_NONBLOCK), EAGAIN);
	refused(vmsplice(p[1], &only, 1, 1 << 20), EINVAL);
	refused(vmsplice(-1, &only, 1, 0), EBADF);
	equal(vmsplice(p[1], &only, 0, 0), 0);
	ok(munmap(page, 8192));
	for (int i = 0; i < 2; i++)
		close(p[i]), close(to[i]);
}

static volatile sig_atomic_t broken;

static void on_break(int sig UNUSED)
{
	broken = 1;
}

/* A file that nobody else may open without our leave, and that is mapped. */
static void leased(void)
{
	int fd = ok(open("leased", O_RDWR | O_CREAT | O_TRUNC, 0600));
	char expected[8192];

	broken = 0;
	check(signal(SIGIO, on_break) != SIG_ERR);
	datagen(expected, sizeof(expected), 7);
	write_all(fd, expected, sizeof(expected));
	ok(fcntl(fd, F_SETLEASE, F_WRLCK));
	char *p = ok(mmap(NULL, sizeof(expected), PROT_READ, MAP_PRIVATE, fd, 0));
	for (int i = 0; i < 3; i++) {
		elsewhere();
		same(p, expected, sizeof(expected));
		equal(fcntl(fd, F_GETLEASE), F_WRLCK);
		equal(broken, 0);
	}
	ok(fcntl(fd, F_SETLEASE, F_UNLCK));
	ok(munmap(p, sizeof(expected)));
	ok(close(fd));
	ok(unlink("leased"));
	check(signal(SIGIO, SIG_DFL) != SIG_ERR);
}

/* unshare(2) of what has nothing to do with name spaces. */
static void things_of_its_own(void)
{
	int set = ok(semget(IPC_PRIVATE, 1, 0600));
	struct sembuf up = { 0, 1, SEM_UNDO };

	ok(unshare(0));
	ok(unshare(CLONE_FS));
	ok(unshare(CLONE_FILES));
	ok(unshare(CLONE_FILES | CLONE_FS));
	ok(unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD));
	refused(unshare(CLONE_PTRACE), EINVAL);
	ok(semop(set, &up, 1));
	equal(semctl(set, 0, GETVAL), 1);
	elsewhere();
	ok(unshare(CLONE_SYSVSEM));
	equal(semctl(set, 0, GETVAL), 0);
	ok(semctl(set, 0, IPC_RMID));
}

PROGRAM(PART(told_although_it_fails), PART(need_not_be_written), PART(waits_in_initialised_memory),
	PART(numbered_timers), PART(requests_that_tell_nothing), PART(locks_by_id), PART(by_pid), PART(own_memory),
	PART(kinds_of_mappings), PART(sent_later), PART(given_to_a_pipe), PART(leased), PART(things_of_its_own))
