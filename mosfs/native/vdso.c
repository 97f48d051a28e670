/*
 * The vDSO of programs under mosrun: time calls that cost what they cost natively, and show the home-node's time wherever the
 * program runs (docs: vdso(7), "ABI" of Linux's vdso: five symbols of version LINUX_2.6).
 *
 * The page directly before the image holds the whole state; its tracer writes it (mosfs/trace/clock.py is the other side of
 * this layout). Nothing here refers to the machine: a program may be stopped at any instruction below, be carried to a machine
 * with another time stamp counter, get another page, and go on: the sequence number has changed, so the reading is repeated.
 *
 * Freestanding: no libc, no relocations, no data of its own, no calls out of the image.
 */

typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;
typedef unsigned __int128 u128;
typedef __int128 i128;

struct timespec { i64 sec, nsec; };
struct timeval { i64 sec, usec; };

#define SHIFT 48                /* rates are nanoseconds a tick, times 2^48; products have 128 bits and cannot overflow */
#define NSEC 1000000000UL

enum { REALTIME, MONOTONIC, BOOTTIME, TAI, LINES };

/*
 * A clock shows  base + (delta * rate + min(delta, slew_ticks) * slew) / 2^48  nanoseconds, delta = ticks since `tsc`.
 * The slew ends by itself, so a page that nobody refreshes goes on at the true rate.
 */
struct line {
    u64 base;                   /* ns; in mode 0: never show less than this */
    i64 slew;                   /* correction of the rate */
    u64 slew_ticks;             /* how long it lasts, less than 2^63 */
};

struct page {
    u32 seq;                    /* odd: being written */
    u32 mode;                   /* 0: ask the kernel, 1: compute */
    u64 tsc;                    /* ticks at the bases; an earlier reading (another CPU, a few ticks behind) counts as this one */
    u64 rate;
    u32 coarse;                 /* ns that the COARSE clocks and time() lag behind, and their resolution */
    u32 served;                 /* bit n: line n is valid; otherwise that clock is the kernel's */
    struct line line[LINES];
    i64 wall;                   /* the writer's own: realtime - monotonic at the home-node, ns */
};

#define COARSE 8
#define NONE 255

static const unsigned char clocks[] = {
    REALTIME, MONOTONIC, NONE, NONE, NONE, REALTIME | COARSE, MONOTONIC | COARSE, BOOTTIME, NONE, NONE, NONE, TAI,
};

#define EXPORT __attribute__((visibility("default")))

enum { NR_sched_yield = 24, NR_gettimeofday = 96, NR_clock_gettime = 228, NR_clock_getres = 229, NR_getcpu = 309 };

static inline i64 kernel(i64 nr, i64 a, i64 b, i64 c)
{
    i64 result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static inline u64 ticks(void)
{
    u32 low, high;
    /* Without the fence the counter may be read before the sequence number is. */
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (u64)high << 32 | low;
}

/* The linker's name for the start of the image; in assembler, because the page lies outside of any object that C knows. */
static inline const volatile struct page *data(void)
{
    const volatile struct page *p;
    __asm__(".hidden __ehdr_start\n\tlea __ehdr_start-4096(%%rip), %0" : "=r"(p));
    return p;
}

/* How `clock` is computed: its line, perhaps with COARSE; NONE if only the kernel knows it. */
static inline u32 find(u32 clock)
{
    return clock < sizeof clocks ? clocks[clock] : NONE;
}

static inline u32 is_served(const volatile struct page *p, u32 which)
{
    return p->served >> (which & 3) & 1;
}

/*
 * The page is being written: some microseconds. After milliseconds the writer may be waiting for this very CPU. Not earlier, for
 * programs that have a seccomp filter of their own do not expect another system call here than the one they made.
 */
static __attribute__((noinline, cold)) void wait_for_writer(const volatile struct page *p)
{
    for (u32 spins = 1; p->seq & 1; spins++)
        if (spins % 65536)
            __builtin_ia32_pause();
        else
            kernel(NR_sched_yield, 0, 0, 0);
}

/* The kernel's answer, but not less than the line's base: programs have seen that already. */
static __attribute__((noinline, cold)) i64 ask_kernel(u32 clock, u64 floor, u64 *ns)
{
    struct timespec now;
    i64 error = kernel(NR_clock_gettime, clock, (i64)&now, 0);
    if (error)
        return error;
    *ns = (u64)now.sec * NSEC + (u64)now.nsec;
    if (*ns < floor)
        *ns = floor;
    return 0;
}

static inline i64 show(u32 which, u32 clock, u64 *ns)
{
    const volatile struct page *p = data();
    const volatile struct line *line = &p->line[which & 3];
    u32 seq;
    i64 error;

    do {
        error = 0;
        while ((seq = __atomic_load_n(&p->seq, __ATOMIC_ACQUIRE)) & 1)
            wait_for_writer(p);
        u64 lag = which & COARSE ? p->coarse : 0;
        u32 served = is_served(p, which);
        if (__builtin_expect(p->mode == 0 || !served, 0)) {
            u64 base = served ? line->base : 0;
            error = ask_kernel(clock, base > lag ? base - lag : 0, ns);
        } else {
            u64 now = ticks(), start = p->tsc, slew_ticks = line->slew_ticks;
            u64 delta = now > start ? now - start : 0;
            i64 slewing = (i64)(delta < slew_ticks ? delta : slew_ticks);
            *ns = line->base + (u64)(((u128)delta * p->rate + (u128)((i128)slewing * line->slew)) >> SHIFT) - lag;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    } while (__builtin_expect(p->seq != seq, 0));
    return error;
}

EXPORT int __vdso_clock_gettime(int clock, struct timespec *ts)
{
    u64 ns;
    u32 which = find((u32)clock);
    if (__builtin_expect(which == NONE, 0))
        return (int)kernel(NR_clock_gettime, clock, (i64)ts, 0);
    i64 error = show(which, (u32)clock, &ns);
    if (__builtin_expect(error != 0, 0))
        return (int)error;
    ts->sec = (i64)(ns / NSEC);
    ts->nsec = (i64)(ns % NSEC);
    return 0;
}

EXPORT int __vdso_gettimeofday(struct timeval *tv, void *zone)
{
    struct timespec now;
    if (zone) {                 /* Obsolete and rare: not worth a place in the page. */
        i64 error = kernel(NR_gettimeofday, 0, (i64)zone, 0);
        if (error)
            return (int)error;
    }
    if (!tv)
        return 0;
    int error = __vdso_clock_gettime(0, &now);
    if (error)
        return error;
    tv->sec = now.sec;
    tv->usec = (u32)now.nsec / 1000;
    return 0;
}

/* As in the kernel time() is a coarse clock: never later than the time stamp of a file that is written after it. */
EXPORT i64 __vdso_time(i64 *where)
{
    struct timespec now;
    int error = __vdso_clock_gettime(5, &now);
    if (error)
        return error;
    if (where)
        *where = now.sec;
    return now.sec;
}

EXPORT int __vdso_clock_getres(int clock, struct timespec *res)
{
    u32 which = find((u32)clock), coarse = data()->coarse;
    if (which == NONE || !is_served(data(), which) || (which & COARSE && !coarse))
        return (int)kernel(NR_clock_getres, clock, (i64)res, 0);
    if (res) {
        res->sec = 0;
        res->nsec = which & COARSE ? coarse : 1;
    }
    return 0;
}

EXPORT i64 __vdso_getcpu(u32 *cpu, u32 *node, void *unused)
{
    return kernel(NR_getcpu, (i64)cpu, (i64)node, (i64)unused);
}
