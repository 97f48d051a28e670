/* At home: a call of a body is made by its deputy, or on the deputy's files by us, and answered (home/away/requests.py, deputies.py). */
#include "mos.h"

#define HEAD 72                 /* calls/request.py: CALL_HEAD, BLOB, REPLY_HEAD, OUT */
#define BLOB 24
#define REPLY_HEAD 16
#define OUT 12
#define KIND_REPLY 17
#define PAGE 4096
#define BLOCK 512               /* memory from this size on keeps its place within a page */
#define STOP_NS 30000UL         /* a deputy that is parked has stopped by then */

enum comes { NOTHING, SUCCESS, RETURNED, ALWAYS, LAST = ALWAYS };

struct blob { uint64_t addr; uint32_t size, sent, plus; unsigned char arg, comes; uint16_t factor; };

struct request {
    int nr, blobs;
    uint32_t seen;
    uint64_t args[6], mask;
    struct blob of[MOS_SPANS];
    const unsigned char *data;
};

static unsigned char room[MOS_TIMED + MOS_HEAD + MOS_LANE_MOST + MOS_TAG], *const frame = room + MOS_TIMED;

/* What a CALL says; 0 if it is Python's: of another shape (vectors, edges), malformed, or with more to bring back than lanes are for. */
static int parse(const unsigned char *payload, unsigned long length, struct request *q)
{
    unsigned long at = HEAD, sum, back = REPLY_HEAD;
    uint16_t counts[3];
    int i;
    if (length < HEAD)
        return 0;
    memcpy(&q->nr, payload, 4);
    memcpy(counts, payload + 4, 6);
    memcpy(&q->seen, payload + 12, 4);
    memcpy(q->args, payload + 16, 48);
    memcpy(&q->mask, payload + 64, 8);
    q->blobs = counts[0];
    if (counts[0] > MOS_SPANS || counts[1] || counts[2] || length < HEAD + BLOB * (unsigned long)counts[0])
        return 0;
    sum = HEAD + BLOB * (unsigned long)counts[0];
    for (i = 0; i < q->blobs; i++, at += BLOB) {
        struct blob *b = &q->of[i];
        memcpy(&b->addr, payload + at, 8);
        memcpy(&b->size, payload + at + 8, 4);
        memcpy(&b->sent, payload + at + 12, 4);
        b->arg = payload[at + 16];
        b->comes = payload[at + 17];
        memcpy(&b->factor, payload + at + 18, 2);
        memcpy(&b->plus, payload + at + 20, 4);
        sum += b->sent;
        if (b->sent > b->size || b->size > MOS_LANE_MOST || b->arg >= MOS_SPANS || b->comes > LAST)
            return 0;
        back += b->comes == NOTHING ? 0 : OUT + (unsigned long)b->size;
    }
    q->data = payload + at;
    return sum == length && back <= MOS_LANE_MOST;
}

/* Would lanes take this CALL? For those who want to know what they believe. */
int mos_plain_call(const unsigned char *payload, unsigned long length)
{
    struct request q;
    return parse(payload, length, &q);
}

/* Does the kernel go on reading the memory of this send when the call is over? Then no other call's may be laid out there. */
int mos_is_kept(long nr, uint64_t flags)
{
    return nr == SYS_sendto && flags & MSG_ZEROCOPY;
}

/* How much of the memory comes back with this result. */
static uint32_t returned(const struct blob *b, long result)
{
    if (b->comes == ALWAYS)
        return b->size;
    if (b->comes == NOTHING || result < 0)
        return 0;
    if (b->comes == RETURNED && (unsigned __int128)result * b->factor + b->plus < b->size)
        return (uint32_t)result * b->factor + b->plus;
    return b->size;
}

/* The outcome of the call goes to the body. `frame` has what comes back, behind the heads of so many outs. */
static void answer(struct mos_pump *p, struct mos_lane *l, long result, unsigned int outs, unsigned int length)
{
    uint16_t counts[4] = {outs, 0, 0, 0};
    memcpy(frame + MOS_HEAD, &result, 8);
    memcpy(frame + MOS_HEAD + 8, counts, 8);
    mos_send_timed(l->channel, frame, length, KIND_REPLY, l->seq << 1, l->pair);
    l->received += length;
    l->ready_since = mos_now_ns();
    mos_lane_news(p, l);
    mos_expect(p);
}

static void put_out(unsigned int number, uint64_t addr, uint32_t size)
{
    unsigned char *out = frame + MOS_HEAD + REPLY_HEAD + OUT * number;
    memcpy(out, &addr, 8);
    memcpy(out + 8, &size, 4);
}

/* Has a file changed that the program maps? Its host hears of that before anything else. */
static int changed(const struct mos_lane *l)
{
    struct pollfd watched = {.fd = l->watcher, .events = POLLIN};
    return l->watcher >= 0 && poll(&watched, 1, 0) != 0;
}

/* ---------------------------------------------------------------- without the deputy */

/* Reading what is open, in a regular file (home/process/direct.py): 1 if that was it. */
static int directly(struct mos_pump *p, struct mos_lane *l, const struct request *q)
{
    const struct blob *b = q->of;
    int where = q->nr == SYS_lseek ? 0 : 1, fd = (int)q->args[0], i, known = 0;
    unsigned int length = REPLY_HEAD;
    long r;
    if ((q->nr != SYS_read && q->nr != SYS_pread64 && q->nr != SYS_fstat && q->nr != SYS_lseek) || l->pidfd < 0 ||
        q->mask != l->mask || q->blobs != where || (where && (b->arg != 1 || b->comes == NOTHING || (q->nr != SYS_fstat && b->size != q->args[2]) ||
                                        (q->nr == SYS_fstat && b->size != MOS_STAT))))
        return 0;
    if (changed(l))
        return 0;
    for (i = 0; i < 8 && !l->several; i++) /* another thread may have put something else there, by a lane of its own */
        known |= l->plain[i] == fd;
    r = mos_directly(l->pidfd, fd, q->nr, frame + MOS_HEAD + REPLY_HEAD + OUT, q->nr == SYS_lseek ? q->args[1] : q->args[2],
                     q->nr == SYS_lseek ? q->args[2] : q->args[3], known);
    if (r == MOS_NOT_DIRECT)
        return 0;
    if (!known && !l->several)
        l->plain[l->next_plain++ % 8] = fd;
    known = where && r >= 0 ? q->nr == SYS_fstat ? MOS_STAT : r : 0;
    if (known) {
        put_out(0, b->addr, known);
        length += OUT + known;
    }
    answer(p, l, r, known != 0, length);
    return 1;
}

/* ---------------------------------------------------------------- by the deputy */

/* Stop a deputy that is parked: 1 if it is READY. Whatever else comes of it mos_next tells. */
static int wake(struct mos_pump *p, struct mos_lane *l)
{
    int status, got;
    if (ptrace(PTRACE_INTERRUPT, l->pid, 0, 0))
        return 0;
    l->interrupting = 1;
    mos_lane_news(p, l);
    got = mos_wait_soon(p, l->pid, &status, STOP_NS);
    if (got <= 0)
        return 0;
    if (!WIFSTOPPED(status) || status >> 16 != 128 || (status >> 8 & 0xff) != SIGTRAP) {
        mos_put_back(l->pid, status);
        return 0;
    }
    l->interrupting = 0;
    l->state = MOS_LANE_READY;
    l->ready_since = mos_now_ns();
    return 1;
}

/* Lay the memory of the call out in the deputy's scratch, as request.arrange does: 1 if it is there, and the arguments point to it. */
static int place(struct mos_lane *l, struct request *q)
{
    struct iovec here = {(void *)q->data, 0}, there[MOS_SPANS];
    unsigned long total = 0;
    int i, n = 0;
    for (i = 0; i < q->blobs; i++) {
        const struct blob *b = &q->of[i];
        unsigned long start = total + (b->addr - total) % (b->size >= BLOCK ? PAGE : 16);
        total = start + b->size + 16;
        if (total > l->room)
            return 0;
        l->places[i] = q->args[b->arg] = l->scratch + start;
        if (b->sent)
            there[n++] = (struct iovec){(void *)(l->scratch + start), b->sent};
        here.iov_len += b->sent;
    }
    return !n || process_vm_writev(l->pid, &here, 1, there, n, 0) == (ssize_t)here.iov_len;
}

/* Python, or the end of the call, needs its payload later. */
static int keep(struct mos_lane *l, const unsigned char *payload, unsigned long length)
{
    if (l->call_room < length || l->call_room > 16 * PAGE) {
        char *room = realloc(l->call, length > PAGE ? length : PAGE);
        if (!room)
            return 0;
        l->call = room;
        l->call_room = length > PAGE ? length : PAGE;
    }
    memcpy(l->call, payload, length);
    l->call_length = length;
    return 1;
}

/* A CALL: 1 if it is being made, or has been. What is out of the ordinary is Python's. */
int mos_called(struct mos_pump *p, struct mos_lane *l, const unsigned char *payload, unsigned long length, unsigned int flags)
{
    struct request q;
    if (flags & 1 || flags > 0xffff || !parse(payload, length, &q) || q.nr < 0 || q.nr >= MOS_CALLS || !p->plans[q.nr].made ||
        mos_is_kept(q.nr, q.args[3]) || q.seen != l->signals)
        return 0;
    l->seq = flags >> 1;
    if (p->plans[q.nr].renames)
        memset(l->plain, -1, sizeof l->plain);
    if (!directly(p, l, &q)) {
        if (l->state == MOS_LANE_PARKED ? !wake(p, l) : mos_gone_on(l))
            return 0;
        if (!keep(l, payload, length))
            return 0;
        if (q.mask != l->mask && mos_setsigmask(l->pid, q.mask))
            return 0;
        l->mask = q.mask;
        mos_lane_news(p, l);
        if (!place(l, &q) || mos_run_call(l->pid, l->base, q.nr, q.args[0], q.args[1], q.args[2], q.args[3], q.args[4], q.args[5]))
            return 0;
        l->state = MOS_LANE_BUSY;
        mos_expect(p);
    }
    l->nr = q.nr;
    l->calls++;
    l->sent += length;
    return 1;
}

/* A stop of a deputy: 1 if it is the end of the call that it makes here, and that is answered. */
int mos_land(struct mos_pump *p, int pid, int status)
{
    struct mos_lane *l = mos_lane_of(p, pid);
    struct iovec here, there[MOS_SPANS];
    struct mos_regs r;
    struct request q;
    unsigned int outs = 0, length;
    unsigned char *data;
    int i, n = 0;
    if (!l || l->state != MOS_LANE_BUSY || status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8) || l->channel->broken ||
        l->channel->unsent_left || mos_getregs(pid, &r) || r.orig_rax != MOS_MAGIC || (r.rip & ~0xfffUL) != MOS_STUB ||
        !parse((unsigned char *)l->call, l->call_length, &q) || changed(l))
        return 0;
    if ((long)r.rdi <= -512 && (long)r.rdi >= -516)
        return 0;
    for (i = 0; i < q.blobs; i++)
        n += returned(&q.of[i], r.rdi) != 0;
    data = frame + MOS_HEAD + REPLY_HEAD + OUT * n;
    here = (struct iovec){data, 0};
    for (i = 0; i < q.blobs; i++) {
        uint32_t size = returned(&q.of[i], r.rdi);
        if (!size)
            continue;
        put_out(outs, q.of[i].addr, size);
        there[outs++] = (struct iovec){(void *)l->places[i], size};
        here.iov_len += size;
    }
    if (outs && process_vm_readv(pid, &here, 1, there, outs, 0) != (ssize_t)here.iov_len)
        return 0;
    length = REPLY_HEAD + OUT * outs + here.iov_len;
    l->state = MOS_LANE_READY;
    answer(p, l, r.rdi, outs, length);
    return 1;
}
