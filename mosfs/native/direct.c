/* Calls of a program away on its regular files that its tracer makes itself (home/process/direct.py says which and why). */
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "mos.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

/* File systems for which it does not matter who reads what is open, and that do nothing when a descriptor is closed. */
static int indifferent(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs))
        return 0;
    switch ((unsigned)fs.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case F2FS_SUPER_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:
        return 1;
    }
    return 0;
}

/*
 * read, pread64, lseek or fstat on `fd` of the process; `buf` has room for the answer. MOS_NOT_DIRECT: somebody else must make it. `known`:
 * that descriptor was found to be such a file, and has been no other since.
 */
long mos_directly(int pidfd, int fd, long nr, void *buf, long a2, long a3, int known)
{
    struct stat st;
    long r = MOS_NOT_DIRECT;
    int own = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    if (own < 0)
        return r;
    if (known || (!fstat(own, &st) && S_ISREG(st.st_mode) && !(fcntl(own, F_GETFL) & (O_DIRECT | O_PATH)) && indifferent(own))) {
        switch (nr) {
        case SYS_fstat:
            r = fstat(own, buf);
            break;
        case SYS_lseek:
            r = lseek(own, a2, a3);
            break;
        case SYS_read:
            r = read(own, buf, a2);
            break;
        case SYS_pread64:
            r = pread(own, buf, a2, a3);
            break;
        }
        if (r == -1)
            r = -errno;
    }
    close(own);
    return r;
}

long mos_direct(int pidfd, int fd, long nr, void *buf, long a2, long a3) { return mos_directly(pidfd, fd, nr, buf, a2, a3, 0); }
