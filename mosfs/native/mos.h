/* What the units of mosfs._native share. `cdef.h` is what Python sees of them; errors are negative errno values everywhere. */
#ifndef MOS_H
#define MOS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "cdef.h"

#ifndef PTRACE_EVENT_SECCOMP
#define PTRACE_EVENT_SECCOMP 7
#endif
#define MOS_STUB 0x10000UL
#define MOS_MAGIC 0x1ff         /* a number no system call has: "the injected call is done" */
#define CS_64 0x33
#define ABOVE ((1UL << 57) - (1UL << 20)) /* bits of an address that is not near our pages (abi/low.py) */
#define NOTES_NS 20000000UL     /* what is noted for Python may wait so long */
#define COLD_US 3000            /* a pinned task that has not stopped for so long is let go */

/* Marks of tasks, by their ids (home.c). */
#define KNOWN 1                 /* Python, or a note, knows it */
#define PLAIN 2
#define BORN 4                  /* its first stop has not come yet; it goes on from there at once */
#define EARLY 8                 /* its first stop has come, its parent's event has not; with BORN: it has ended since */
#define HALTED 256              /* with EARLY: in a group stop, which other threads of its process have begun */
#define SEVERAL 512             /* Python, or a note, knows that its process has, or has had, several threads */
#define FILTERED 128            /* it has seccomp filters of its own, or strict mode: they may send it to us, too */
#define ASKED 16                /* to stop: whatever stop comes first takes the place of that one, which must be asked for again */
#define UNTRAVELLED 32          /* it has used no CPU time away, nor has a child that has ended: the kernel's figures are right */
#define WHOLE 64                /* its memory was never moved or followed: the kernel knows what is one mapping (mremap(2)) */

extern unsigned short mos_marks[1 << 22]; /* PID_MAX_LIMIT of 64-bit kernels (proc(5)) */

/* memory.c: may this feature MOS_HAS_* of the kernel be used? */
int mos_may(unsigned int feature);

struct procmap_query { uint64_t size, flags, addr, start, end, found[4]; uint32_t numbers[4]; uint64_t name, id; };
#define MOS_PROCMAP_QUERY 0xc0686611UL
#define MOS_PROCMAP_WRITABLE 2

/* struct sched_attr of sched_setattr(2), version 0, which glibc 2.36 does not declare. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* pump.c */
extern sigset_t mos_unblocked;
unsigned long mos_now_ns(void);
int mos_take(int pid, int *status);
int mos_wait(int pid, int *status, int options);
int mos_wait_soon(struct mos_pump *p, int pid, int *status, unsigned long ns);
int mos_put_back(int pid, int status);

/* cpu.c */
void mos_heat(struct mos_pump *p, int pid, int status);
int mos_warm(struct mos_pump *p);

/* Stops that need no decision: 1 if this one has been dealt with. */
int mos_settle_at_home(struct mos_pump *p, int pid, int status); /* home.c */
int mos_serve_mailbox(struct mos_pump *p, int pid, int status); /* handover.c */
int mos_serve_stream(struct mos_pump *p, int pid, int status); /* stream.c */
int mos_serve_private(struct mos_pump *p, int pid, int status); /* private.c */
int mos_ordinary_call(struct mos_pump *p, int pid); /* private.c */

/* home.c */
void mos_interrupting(int pid);
int mos_plain_and(int pid, int mark);
int mos_maps(struct mos_pump *p, int pid, const struct user_regs_struct *r);
int mos_filtered_by_us(int pid);

#define MOS_CALLS 512

/* lane.c */
struct mos_lane *mos_lane_of(struct mos_pump *p, int pid);
void mos_lane_news(struct mos_pump *p, struct mos_lane *l);
void mos_expect(struct mos_pump *p);
int mos_awake(struct mos_pump *p, unsigned long now);
void mos_came(struct mos_pump *p);
unsigned long mos_park(struct mos_pump *p, unsigned long now);
int mos_land(struct mos_pump *p, int pid, int status); /* made.c */

/* seal.c */
#define MOS_TIMED (MOS_HEAD + sizeof(struct mos_time) + MOS_TAG) /* bytes of TIME */
#define KIND_TIME 33            /* wire/frames.py, Kind */

/* direct.c */
#define MOS_STAT 144            /* sizeof(struct stat) */
long mos_directly(int pidfd, int fd, long nr, void *buf, long a2, long a3, int known);

/* memory.c */
long mos_reach_by(int pid, unsigned long addr, unsigned long len, int *maps);

/* inject.c */
int mos_set_call(int pid, struct mos_regs *base, unsigned long at, long nr, long a0, long a1, long a2, long a3, long a4, long a5);

#endif
