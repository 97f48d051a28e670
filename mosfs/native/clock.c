/*
 * Home's time on a data channel to another kernel, and whether a program there has been shown it (docs/design/migration.md, Time).
 */
#include "mos.h"

#define NSEC 1000000000L
#define STEP_NS 1000000L        /* trace/clock.py */
#define LARGEST ((1L << 62) - 1) /* wire/orders.py */
#define SHIFT 48
#define CLOSE_NS 1000L          /* so far apart are two readings of clocks at most that count as one moment */
#define TRIES 8

enum { REALTIME, MONOTONIC, LINES = 4 };

struct line { uint64_t base; int64_t slew; uint64_t slew_ticks; };

struct page {                   /* vdso.c */
    uint32_t seq, mode;
    uint64_t tsc, rate;
    uint32_t coarse, served;
    struct line line[LINES];
    int64_t wall;
};

/* trace/altered.py, LAYOUT: by what this node's clocks differ from the kernel's; NULL: by nothing. */
static const struct { int64_t since, drift, ahead, wall; } *altered;

void mos_alter(const void *layout) { altered = layout; }

static int64_t reading(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * NSEC + t.tv_nsec;
}

/* This node's CLOCK_MONOTONIC, by what the kernel's shows. */
static int64_t own(int64_t kernel)
{
    return altered ? kernel + (int64_t)((__int128)(kernel - altered->since) * altered->drift / NSEC) + altered->ahead : kernel;
}

/* This node's time. */
void mos_time(struct mos_time *t)
{
    int64_t before, after;
    int tries = 0;
    do { /* again, if somebody else had the processor meanwhile */
        before = reading(CLOCK_MONOTONIC);
        t->wall = reading(CLOCK_REALTIME) - before;
        after = reading(CLOCK_MONOTONIC);
    } while (after - before > CLOSE_NS && ++tries < TRIES);
    t->monotonic = own(after);
    if (altered)
        t->wall += altered->wall - altered->ahead;
}

/* Payload of TIME that has come over the channel: 1, and the latest is kept; 0: no clock shows that. */
int mos_told(struct mos_channel *c, const unsigned char *payload)
{
    struct mos_time t;
    memcpy(&t, payload, sizeof t);
    if (t.monotonic <= 0 || t.monotonic > LARGEST || t.wall < -t.monotonic || t.wall > LARGEST - t.monotonic)
        return 0;
    if (t.monotonic >= c->told.monotonic) {
        c->told = t;
        c->told_tsc = mos_rdtsc();
        c->told_at = own(reading(CLOCK_MONOTONIC));
    }
    return 1;
}

static int64_t shown(const struct page *p, int line, uint64_t ticks)
{
    const struct line *l = &p->line[line];
    uint64_t slewed = ticks < l->slew_ticks ? ticks : l->slew_ticks;
    return l->base + (int64_t)(((__int128)ticks * p->rate + (__int128)slewed * l->slew) >> SHIFT);
}

/*
 * Did the program with that page of the vDSO read no less than what home has told last, when it was told? If nothing was it did; and
 * home itself tells the time to one that asks for each reading.
 */
int mos_shows(const unsigned char *page, const struct mos_channel *c)
{
    const struct mos_time *t = &c->told;
    struct page p;
    uint64_t ticks;
    memcpy(&p, page, sizeof p);
    if (!p.mode || !t->monotonic)
        return 1;
    ticks = c->told_tsc > p.tsc ? c->told_tsc - p.tsc : 0;
    return t->wall - p.wall <= STEP_NS && p.wall - t->wall <= STEP_NS && shown(&p, MONOTONIC, ticks) >= t->monotonic &&
           shown(&p, REALTIME, ticks) >= t->monotonic + t->wall - CLOSE_NS;
}
