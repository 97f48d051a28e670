/*
 * What a program may ask of MOSIX: mosix(7), INTERFACE FOR PROGRAMS. Nothing to link with; installed as
 * PREFIX/include/mosix.h.
 *
 *     #include <mosix.h>
 *
 *     if (mosix_write("migrate", 3) == 0)
 *         printf("now on node %u\n", mosix_where());
 *
 * Each request is an open() that opens nothing: the number it returns is the answer. Without MOSIX all fail with
 * ENOENT. Other errors: EPERM (the file has not this direction), ERANGE (value), EINVAL (nonsense), and those that
 * mosix(7) names at its file.
 */
#ifndef MOSIX_H
#define MOSIX_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The requests themselves go by syscall(2): the open() of the C library takes the third argument for an int, which cuts
 * addresses in half, and passes it only with O_CREAT.
 */
static inline long mosix_open(const char *special, int flags, unsigned long value)
{
    char path[64];

    if (snprintf(path, sizeof path, "/proc/self/%s", special) >= (int)sizeof path) {
        errno = ENOENT;
        return -1;
    }
    return syscall(SYS_open, path, flags | O_CREAT, value);
}

/* The value of a control file; -1 and errno if there is none. */
static inline int mosix_read(const char *special)
{
    return (int)mosix_open(special, O_RDONLY, 0);
}

/* Set it: 0, or -1 and errno. */
static inline int mosix_write(const char *special, int value)
{
    return (int)mosix_open(special, O_WRONLY, (unsigned int)value);
}

/* Set it and return what it was; -1 and errno. */
static inline int mosix_swap(const char *special, int value)
{
    return (int)mosix_open(special, O_RDWR, (unsigned int)value);
}

/* Set the base name of this program's checkpoint files: 0, or -1 and errno. */
static inline int mosix_checkpoint_file(const char *name)
{
    return (int)mosix_open("checkpointfile", O_WRONLY, (unsigned long)name);
}

/*
 * A value that may be an IP address, in host order: whereami, sender_home, sender_location. The C library takes the
 * addresses 255.255.240.1 to 255.255.254.255 for errors; real ones are below 256. 0xFFFFFFFF (255.255.255.255): an error.
 */
static inline unsigned int mosix_address(const char *special)
{
    int value = mosix_read(special);

    return value == -1 && errno > 255 ? (unsigned int)-errno : (unsigned int)value;
}

/* Where the program runs: 0 at home, else the node's number (below 65536) or IP address. */
static inline unsigned int mosix_where(void)
{
    return mosix_address("whereami");
}

/* Is a node (its number or IP address) one of this cluster? 1, 0, or -1 and errno. */
static inline int mosix_in_cluster(unsigned int node)
{
    return (int)mosix_open("in_cluster", O_RDONLY, node);
}

/* The manual's own, for a whole path: direct_communication(7). */
static inline unsigned int GET_IP(const char *file_name)
{
    int ip = open(file_name, 0);

    return (unsigned int)((ip == -1 && errno > 255) ? -errno : ip);
}

#endif
