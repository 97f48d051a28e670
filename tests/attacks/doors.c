/*
 * Disk-space of private files by doors that no filter shuts. "doors WAY FILE [SOCKET]": makes the private FILE, on the disk, then
 *
 *   int80   writes to it by 32-bit calls
 *   ahead   asks for blocks behind its end by ioctl(2)
 *   give    hands its descriptor to who listens at SOCKET ("doors take - SOCKET"), who writes to it, now and when we have ended
 *
 * and is there for a while. `take` says how many megabytes it has each time that it reads a line; it writes some before the first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MB (1 << 20)
#define MUCH 300

struct space_resv {             /* ioctl_xfs_space(2); the kernel's include/linux/falloc.h, for all file systems */
    short l_type, l_whence;
    long l_start, l_len;
    int l_sysid;
    unsigned l_pid;
    int l_pad[4];
};
#define FS_IOC_RESVSP64 _IOW('X', 42, struct space_resv)

static char *block;

static int write_32(int fd, const void *from, int size)
{
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(4), "b"(fd), "c"((int)(long)from), "d"(size) : "memory", "r8", "r9", "r10", "r11");
    return r;
}

static void fill(int fd, int megabytes)
{
    while (megabytes--)
        if (write(fd, block, MB) != MB)
            perror("write"), exit(1);
}

static int talk(const char *path, int listens)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(a.sun_path, path, sizeof a.sun_path - 1);
    if (listens) {
        if (bind(s, (void *)&a, sizeof a) || listen(s, 1))
            perror(path), exit(1);
        puts("listens"), fflush(stdout);
        return accept(s, NULL, NULL);
    }
    if (connect(s, (void *)&a, sizeof a))
        perror(path), exit(1);
    return s;
}

static int passed(int s, int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec io = {&byte, 1};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (fd < 0) {
        if (recvmsg(s, &m, 0) != 1 || !(c = CMSG_FIRSTHDR(&m)))
            perror("recvmsg"), exit(1);
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
        return fd;
    }
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (sendmsg(s, &m, 0) != 1)
        perror("sendmsg"), exit(1);
    return fd;
}

static int take(const char *path)
{
    struct stat st;
    int fd = passed(talk(path, 1), -1);
    fill(fd, 20);
    while (getchar() != EOF) {
        fstat(fd, &st);
        printf("%ld\n", (long)st.st_blocks * 512 / MB), fflush(stdout);
        lseek(fd, 0, SEEK_SET);
        fill(fd, 20);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int fd, i;
    block = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memset(block, 'x', MB);
    if (!strcmp(argv[1], "take"))
        return take(argv[3]);
    fd = open(argv[2], O_RDWR | O_CREAT, 0600);
    fill(fd, 11); /* ten are in memory */
    if (!strcmp(argv[1], "int80"))
        for (i = 0; i < MUCH; i++)
            if (write_32(fd, block, MB) != MB)
                return 2;
    if (!strcmp(argv[1], "ahead")) {
        struct space_resv ahead = {.l_whence = SEEK_SET, .l_start = 0, .l_len = (long)MUCH * MB};
        if (ioctl(fd, FS_IOC_RESVSP64, &ahead))
            return perror("ioctl"), 2;
    }
    if (!strcmp(argv[1], "give")) {
        passed(talk(argv[3], 0), fd);
        puts("given"), fflush(stdout);
        return argc > 4 ? pause() : !getchar();
    }
    sleep(20);
    return 0;
}
