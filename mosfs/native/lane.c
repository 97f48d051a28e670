/*
 * Ordinary calls of bodies, without waking Python: what their hosts (forward.c) and their home (made.c) have in common. Between two
 * waits of mos_next all is Python's: it says what may be done here (a lane that is not OFF), and first writes down what was.
 */
#include "mos.h"

#define KIND_CALL 48            /* wire/frames.py, Kind */
#define KIND_REPLY 17
#define PARK_NS 500000UL        /* home/process/deputy.py, PARK_AFTER */
#define AWAKE_NS 50000UL        /* a peer that is awake, and not far, answers sooner than a wake-up takes */
#define IN_VAIN 8               /* after so often it is not waited for awake, ... */
#define AGAIN 64                /* but every so often */

/* Of the task: a new one, OFF; NULL: there is no room, and Python serves it. */
struct mos_lane *mos_lane(struct mos_pump *p, int pid, uint64_t pair)
{
    struct mos_lane *l = p->nlanes < MOS_LANES ? calloc(1, sizeof *l) : NULL;
    if (!l)
        return NULL;
    l->pid = pid;
    l->pair = pair;
    l->maps = l->pidfd = l->watcher = -1;
    memset(l->plain, -1, sizeof l->plain);
    p->lane_pids[p->nlanes] = pid;
    p->lane_pairs[p->nlanes] = pair;
    p->lanes[p->nlanes++] = l;
    return l;
}

void mos_lane_end(struct mos_pump *p, struct mos_lane *l)
{
    int i;
    for (i = 0; i < p->nlanes && p->lanes[i] != l; i++)
        ;
    if (i == p->nlanes)
        return;
    p->nlanes--;
    p->lanes[i] = p->lanes[p->nlanes];
    p->lane_pids[i] = p->lane_pids[p->nlanes];
    p->lane_pairs[i] = p->lane_pairs[p->nlanes];
    if (l->maps >= 0)
        close(l->maps);
    free(l->call);
    free(l);
}

/* Of the task `pid`, or NULL. */
struct mos_lane *mos_lane_of(struct mos_pump *p, int pid)
{
    int i;
    for (i = 0; i < p->nlanes; i++)
        if (p->lane_pids[i] == pid)
            return p->lanes[i];
    return NULL;
}

void mos_lane_news(struct mos_pump *p, struct mos_lane *l)
{
    l->news = 1;
    if (!p->lane_news)
        p->lane_news = 1;
    if (l->channel->unsent_left || l->channel->broken)
        p->lane_news = 2;
}

/* Something is expected that may come before a wake-up would be over. */
void mos_expect(struct mos_pump *p)
{
    if (p->in_vain < IN_VAIN || ++p->slept >= AGAIN) {
        p->slept = 0;
        p->awake_until = mos_now_ns() + AWAKE_NS;
    }
}

/* Is it still to be looked for? Whether that pays is learned here. */
int mos_awake(struct mos_pump *p, unsigned long now)
{
    if (!p->awake_until || now < p->awake_until)
        return p->awake_until != 0;
    p->awake_until = 0;
    p->in_vain++;
    return 0;
}

void mos_came(struct mos_pump *p)
{
    if (p->awake_until)
        p->in_vain = 0;
    p->awake_until = 0;
}

/* What came over a channel lies at the beginning of its buffer, if it is in nobody's way: is there room for `whole` bytes from start on? */
static int room(struct mos_channel *c, unsigned long whole)
{
    if (c->start == c->end)
        c->start = c->end = 0;
    if (c->start + whole > c->size && whole <= c->size) {
        memmove(c->buffer, c->buffer + c->start, c->end - c->start);
        c->end -= c->start;
        c->start = 0;
    }
    return c->start + whole <= c->size;
}

static int lane_hears(struct mos_pump *p, struct mos_channel *c, const unsigned char *frame, unsigned int length)
{
    static unsigned char opened[MOS_LANE_MOST];
    struct mos_lane *l = NULL;
    uint16_t numbers[2];
    uint64_t pair;
    int i;
    memcpy(numbers, frame + 4, 4);
    memcpy(&pair, frame + 8, 8);
    if (numbers[0] == KIND_TIME) /* home has connected: to it nobody tells the time */
        return c->direction && !numbers[1] && !pair && length == sizeof c->told && !mos_open(c, frame, length, opened) &&
               mos_told(c, opened);
    for (i = 0; i < p->nlanes && !l; i++)
        if (p->lane_pairs[i] == pair)
            l = p->lanes[i];
    if (!l || l->channel != c)
        return 0;
    if (numbers[0] == KIND_REPLY ? l->state != MOS_LANE_WAITS
                                 : numbers[0] != KIND_CALL || (l->state != MOS_LANE_READY && l->state != MOS_LANE_PARKED))
        return 0;
    if (mos_open(c, frame, length, opened))
        return 0; /* Python will say so */
    return (numbers[0] == KIND_REPLY ? mos_answered : mos_called)(p, l, opened, length, numbers[1]);
}

/*
 * Read once what has come over a channel, and deal with the frames that lanes can take. 1: what is next is Python's (a frame, the end);
 * 0: nothing, or the beginning of a frame; 2: all that came was dealt with.
 */
int mos_hear(struct mos_pump *p, struct mos_channel *c)
{
    int heard = 0;
    long n;
    if (!c->in || c->unsent_left || c->broken || !room(c, MOS_HEAD) || c->end == c->size)
        return 1;
    n = recv(c->fd, c->buffer + c->end, c->size - c->end, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : 1;
    mos_came(p);
    c->end += n;
    while (c->end - c->start >= MOS_HEAD) {
        unsigned int length;
        unsigned long whole;
        memcpy(&length, c->buffer + c->start, 4);
        whole = MOS_HEAD + (unsigned long)length + MOS_TAG;
        if (length > MOS_LANE_MOST || !room(c, whole))
            return 1;
        if (c->end - c->start < whole)
            return heard;
        if (!lane_hears(p, c, (unsigned char *)c->buffer + c->start, length))
            return 1;
        c->received++;
        c->start += whole;
        heard = 2;
        if (c->unsent_left || c->broken)
            return 1;
    }
    return heard;
}

/* A deputy that is READY: does it stand there no more, because another thread of its process has executed a program, or all were killed?
 * Going on would pass over what tells that, which is told next. */
int mos_gone_on(struct mos_lane *l) { return l->several && mos_is_told(l->pid); }

/* Park deputies that have rested for long enough. When the next one has, ns, or 0. */
unsigned long mos_park(struct mos_pump *p, unsigned long now)
{
    unsigned long next = 0;
    int i;
    for (i = 0; i < p->nlanes; i++) {
        struct mos_lane *l = p->lanes[i];
        if (l->state != MOS_LANE_READY)
            continue;
        if (l->ready_since + PARK_NS > now)
            next = !next || l->ready_since + PARK_NS < next ? l->ready_since + PARK_NS : next;
        else if (mos_gone_on(l) || mos_run_call(l->pid, l->base, SYS_pause, 0, 0, 0, 0, 0, 0))
            l->state = MOS_LANE_OFF; /* its end is told soon */
        else {
            l->state = MOS_LANE_PARKED;
            mos_lane_news(p, l);
        }
    }
    return next;
}

/* No lane may do anything until Python says so again. */
void mos_lanes_rest(struct mos_pump *p)
{
    int i;
    for (i = 0; i < p->nlanes; i++) {
        p->lanes[i]->state = MOS_LANE_OFF;
        p->lanes[i]->knows_mask = 0;
        memset(p->lanes[i]->plain, -1, sizeof p->lanes[i]->plain);
    }
    p->nchannels = p->lane_news = 0;
    p->awake_until = p->lane_look_at = 0;
}
