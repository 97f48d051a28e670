/* Memory that points to more memory, and lengths that do not count bytes: socket filters, network devices, extents of files, semaphores. */
#include "mos.h"
#include <linux/ethtool.h>
#include <linux/fiemap.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>

static void filters(void)
{
	struct sock_filter given[3] = { { 0x28, 0, 0, 12 }, { 0x15, 0, 0, 0x800 }, { 6, 0, 0, 0xffff } }, got[8], drop[] = { { 6, 0, 0, 0 } };
	struct sock_fprog p = { 3, given }, none = { 1, drop };
	int s = ok(socket(AF_INET, SOCK_DGRAM, 0)), pair[2];
	socklen_t n = 0;
	char buf[8];

	ok(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)));
	ok(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, NULL, &n));
	equal(n, 3);
	for (int room = 3; room <= 8; room += 5) {
		memset(got, 0x55, sizeof(got));
		n = room;
		ok(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &n));
		equal(n, 3);
		same(got, given, sizeof(given));
		equal(got[3].k, 0x55555555);
	}
	n = 2;
	refused(getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &n), EINVAL);
	refused(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p) - 1), EINVAL);
	p.filter = (void *)16;
	refused(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)), EFAULT);
	close(s);
	ok(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair));
	ok(setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, &none, sizeof(none)));
	send(pair[1], "lost", 4, MSG_NOSIGNAL);
	refused(recv(pair[0], buf, sizeof(buf), 0), EAGAIN);
	close(pair[0]), close(pair[1]);
	/* which socket of a group gets a datagram */
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1;
	p = none;
	s = ok(socket(AF_INET, SOCK_DGRAM, 0));
	ok(setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
	ok(bind(s, (void *)&at, sizeof(at)));
	ok(setsockopt(s, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &p, sizeof(p)));
	close(s);
}

static void devices(void)
{
	int s = ok(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq ifr[8], one = { .ifr_name = "lo" };
	struct ifconf conf = { .ifc_len = sizeof(ifr), .ifc_req = ifr };
	struct ethtool_value link = { .cmd = ETHTOOL_GLINK, .data = 77 };
	struct ethtool_drvinfo driver = { .cmd = ETHTOOL_GDRVINFO };

	ok(ioctl(s, SIOCGIFCONF, &conf));
	check(conf.ifc_req == ifr);
	check(conf.ifc_len % sizeof(ifr[0]) == 0 && conf.ifc_len <= (int)sizeof(ifr));
	conf.ifc_req = NULL;
	ok(ioctl(s, SIOCGIFCONF, &conf));
	one.ifr_data = (void *)&link;
	ok(ioctl(s, SIOCETHTOOL, &one));
	check(one.ifr_data == (void *)&link && !strcmp(one.ifr_name, "lo"));
	check(link.cmd == ETHTOOL_GLINK && link.data <= 1);
	one.ifr_data = (void *)&driver;
	if (ioctl(s, SIOCETHTOOL, &one) == 0)
		announce("driver %s\n", driver.driver);
	else
		announce("driver: %s\n", strerrorname_np(errno));
	one.ifr_data = (void *)16;
	refused(ioctl(s, SIOCETHTOOL, &one), EFAULT);
	close(s);
}

static void extents(void)
{
	enum { MOST = 64 };
	char memory[sizeof(struct fiemap) + MOST * sizeof(struct fiemap_extent)], buf[4096];
	struct fiemap *map = (void *)memory;
	struct { struct file_dedupe_range head; struct file_dedupe_range_info to[2]; } same_range;
	int a = ok(open("a", O_RDWR | O_CREAT | O_TRUNC, 0600)), b = ok(open("b", O_RDWR | O_CREAT | O_TRUNC, 0600));

	memset(buf, 'x', sizeof(buf));
	for (int i = 0; i < 8; i++) {
		equal(pwrite(a, buf, sizeof(buf), i * 65536), sizeof(buf));
		equal(pwrite(b, buf, sizeof(buf), i * 65536), sizeof(buf));
	}
	memset(memory, 0x55, sizeof(memory));
	memset(map, 0, sizeof(*map));
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_flags = FIEMAP_FLAG_SYNC;
	map->fm_extent_count = 2;
	int r = ioctl(a, FS_IOC_FIEMAP, map);
	announce("fiemap %s\n", r < 0 ? strerrorname_np(errno) : "works");
	if (r == 0) {
		equal(map->fm_mapped_extents, 2);
		equal(map->fm_extents[0].fe_logical, 0);
		equal(map->fm_extents[2].fe_logical, 0x5555555555555555);
		map->fm_extent_count = 0;
		ok(ioctl(a, FS_IOC_FIEMAP, map));
		unsigned int all = map->fm_mapped_extents;
		map->fm_extent_count = MOST;
		ok(ioctl(a, FS_IOC_FIEMAP, map));
		equal(map->fm_mapped_extents, all);
		for (unsigned int i = 1; i < all; i++)
			check(map->fm_extents[i].fe_logical > map->fm_extents[i - 1].fe_logical);
		equal(map->fm_extents[all].fe_logical, 0x5555555555555555);
	}
	memset(&same_range, 0, sizeof(same_range));
	same_range.head.src_length = sizeof(buf);
	same_range.head.dest_count = 2;
	same_range.to[0].dest_fd = b;
	same_range.to[1].dest_fd = -1;
	r = ioctl(a, FIDEDUPERANGE, &same_range);
	announce("dedupe %s", r < 0 ? strerrorname_np(errno) : "tried");
	announce(": %d, %d\n", same_range.to[0].status, same_range.to[1].status);
	close(a), close(b);
	unlink("a"), unlink("b");
}

static void semaphores(void)
{
	enum { MANY = 5000 };
	unsigned short values[MANY + 8];
	int set = ok(semget(IPC_PRIVATE, MANY, 0600));

	for (int i = 0; i < MANY; i++)
		values[i] = i % 1000;
	ok(semctl(set, 0, SETALL, values));
	memset(values, 0x55, sizeof(values));
	ok(semctl(set, 0, GETALL, values));
	for (int i = 0; i < MANY; i++)
		equal(values[i], i % 1000);
	equal(values[MANY], 0x5555);
	ok(semctl(set, 0, IPC_RMID));
}

/* A name that ends where its memory ends. */
static void names(void)
{
	char *m = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), name[16], kept[16];

	check(m != MAP_FAILED);
	ok(munmap(m + 4096, 4096));
	ok(prctl(PR_GET_NAME, kept));
	strcpy(m + 4096 - 5, "edge");
	ok(prctl(PR_SET_NAME, m + 4096 - 5));
	ok(prctl(PR_GET_NAME, name));
	check(!strcmp(name, "edge"));
	ok(prctl(PR_SET_NAME, kept));
	munmap(m, 4096);
}

PROGRAM(PART(filters), PART(devices), PART(extents), PART(semaphores), PART(names))
