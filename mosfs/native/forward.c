/* On a body's node: a call that the table describes goes home, and its answer becomes what the body goes on with (guest/forwarding.py). */
#include "mos.h"

#define HEAD 72                 /* calls/request.py: CALL_HEAD, BLOB, REPLY_HEAD, OUT */
#define BLOB 24
#define REPLY_HEAD 16
#define OUT 12
#define NUMBERS 0x7fff
#define LONGEST_TEXT 4097
#define KIND_CALL 48
#define REVENTS_SIZE sizeof(short)
#define PIECES 1024             /* of memory that one call stores (IOV_MAX) */

static unsigned char frame[MOS_HEAD + MOS_LANE_MOST + MOS_TAG];

/* The argument as the kernel understands it. */
static __int128 value(const struct mos_plan *plan, const unsigned long *args, int i)
{
    return plan->ints >> i & 1 ? (__int128)(int)args[i] : (__int128)args[i];
}

/* How many bytes an argument spans: -1 if more than lanes are for. */
static long span_size(const struct mos_plan *plan, const struct mos_span *s, const unsigned long *args)
{
    __int128 size = s->arg < 0 ? 0 : value(plan, args, s->arg);
    if (size > MOS_LANE_MOST)
        return -1;
    if (size < 0)
        size = 0;
    if (s->times >= 0) {
        __int128 times = value(plan, args, s->times);
        if (times > MOS_LANE_MOST)
            return -1;
        size *= times > 0 ? times : 0;
    }
    size = size * s->factor + s->plus;
    return size > MOS_LANE_MOST ? -1 : (long)size;
}

struct packing { unsigned char *heads, *data; unsigned long room; int blobs; };

/* One blob more: 1; 0 if Python must look at this call, whose memory cannot be reached as a whole, or is too large. */
static int pack(struct mos_lane *l, const struct mos_plan *plan, int i, const unsigned long *args, struct packing *k)
{
    const struct mos_span *s = &plan->spans[i];
    unsigned char *head = k->heads + BLOB * k->blobs;
    unsigned char how[2] = {i, s->comes};
    uint64_t addr = args[i];
    uint32_t size, sent = 0;
    long n;
    if (!addr || !s->way)
        return 1;
    if (s->way == MOS_TEXT) {
        if (k->room < LONGEST_TEXT || (n = mos_read_string(l->pid, addr, (char *)k->data, LONGEST_TEXT)) < 0)
            return 0;
        k->data[n++] = 0;
        size = sent = n;
    } else {
        n = span_size(plan, s, args);
        if (n <= 0)
            return n == 0;
        if ((unsigned long)n > k->room)
            return 0;
        size = n;
        if (s->way & MOS_IN) {
            sent = size;
            if (mos_read(l->pid, addr, k->data, size) != n)
                return 0;
        } else if (mos_reach_by(l->pid, addr, size, &l->maps) != n)
            return 0;
    }
    memcpy(head, &addr, 8);
    memcpy(head + 8, &size, 4);
    memcpy(head + 12, &sent, 4);
    memcpy(head + 16, how, 2);
    memcpy(head + 18, &s->comes_factor, 2);
    memcpy(head + 20, &s->comes_plus, 4);
    k->blobs++;
    k->data += sent;
    k->room -= sent;
    return 1;
}

/* The CALL for these registers, in `payload`, of MOS_LANE_MOST bytes: its length; 0 if it is Python's (calls/marshal.py does the same). */
unsigned int mos_pack_call(struct mos_lane *l, const struct mos_plan *plan, const struct mos_regs *r, unsigned char *payload)
{
    const unsigned long args[MOS_SPANS] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    int i, spans = 0, nr = (int)r->orig_rax;
    struct packing k = {.heads = payload + HEAD};
    uint16_t counts[4] = {0};
    for (i = 0; i < MOS_SPANS; i++)
        spans += plan->spans[i].way != 0;
    k.data = k.heads + BLOB * spans;
    k.room = MOS_LANE_MOST - HEAD - BLOB * spans;
    for (i = 0; i < MOS_SPANS; i++)
        if (!pack(l, plan, i, args, &k))
            return 0;
    if (k.blobs < spans) /* some pointers are NULL */
        memmove(k.heads + BLOB * k.blobs, k.heads + BLOB * spans, k.data - (k.heads + BLOB * spans));
    counts[0] = k.blobs;
    memcpy(payload, &nr, 4);
    memcpy(payload + 4, counts, 8);
    memcpy(payload + 12, &l->signals, 4);
    memcpy(payload + 16, args, 48);
    memcpy(payload + 64, &l->mask, 8);
    return k.data - payload - BLOB * (spans - k.blobs);
}

/* The stop of a body before a call: 1 if that is on its way home. */
int mos_forward(struct mos_pump *p, int pid, int status)
{
    struct mos_lane *l = mos_lane_of(p, pid);
    struct mos_regs r;
    unsigned long mask;
    unsigned int length;
    if (!l || l->state != MOS_LANE_RUNS || status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8) || l->channel->broken ||
        l->channel->unsent_left || mos_getregs(pid, &r) || r.cs != CS_64 || (long)r.rip < 0 || r.orig_rax >= MOS_CALLS ||
        !p->plans[r.orig_rax].forwarded || mos_is_kept(r.orig_rax, r.r10))
        return 0;
    if (!l->knows_mask) { /* Python sees all that changes it */
        if (mos_getsigmask(pid, &mask))
            return 0;
        l->mask = mask;
        l->knows_mask = 1;
    }
    length = mos_pack_call(l, &p->plans[r.orig_rax], &r, frame + MOS_HEAD);
    if (!length)
        return 0;
    l->nr = r.orig_rax;
    l->regs = r;
    l->seq = (l->seq + 1) & NUMBERS;
    l->state = MOS_LANE_WAITS;
    l->calls++;
    l->sent += length;
    mos_send_frame(l->channel, frame, length, KIND_CALL, l->seq << 1, l->pair); /* a broken channel is Python's affair */
    mos_lane_news(p, l);
    mos_expect(p);
    return 1;
}

/* Do the bytes of a REPLY come to what it says? */
static int well_formed(const unsigned char *payload, unsigned long length, unsigned int outs)
{
    unsigned long sum = REPLY_HEAD + OUT * (unsigned long)outs;
    unsigned int i;
    if (outs > MOS_SPANS || sum > length)
        return 0;
    for (i = 0; i < outs; i++) {
        uint32_t size;
        memcpy(&size, payload + REPLY_HEAD + OUT * i + 8, 4);
        sum += size;
    }
    return sum == length;
}

/* Of an array of struct pollfd only revents is stored: another thread may have changed the rest (calls/stored.py). */
static int store_revents(int pid, unsigned char *fds, unsigned long count, uint64_t addr)
{
    struct iovec here, there[PIECES];
    struct pollfd *places = (struct pollfd *)addr;
    unsigned long i, done, n;
    for (i = 0; i < count; i++) /* side by side */
        memmove(fds + REVENTS_SIZE * i, fds + sizeof *places * i + offsetof(struct pollfd, revents), REVENTS_SIZE);
    for (done = 0; done < count; done += n) {
        n = count - done < PIECES ? count - done : PIECES;
        for (i = 0; i < n; i++)
            there[i] = (struct iovec){&places[done + i].revents, REVENTS_SIZE};
        here = (struct iovec){fds + REVENTS_SIZE * done, REVENTS_SIZE * n};
        if (process_vm_writev(pid, &here, 1, there, n, 0) != (ssize_t)here.iov_len)
            return 0;
    }
    return 1;
}

/* Store what has come back: 1 if all of it could be. */
static int store(const struct mos_lane *l, unsigned char *payload, unsigned long length, unsigned int outs)
{
    unsigned long begin = REPLY_HEAD + OUT * (unsigned long)outs;
    struct iovec here = {payload + begin, length - begin}, there[MOS_SPANS];
    unsigned int i;
    if (length == begin)
        return 1;
    if (l->nr == SYS_ppoll)
        return 0; /* Python's: there is a time beside the array */
    if (l->nr == SYS_poll)
        return outs == 1 && !memcmp(payload + REPLY_HEAD, &l->regs.rdi, 8) &&
               store_revents(l->pid, payload + begin, here.iov_len / sizeof(struct pollfd), l->regs.rdi);
    for (i = 0; i < outs; i++) {
        uint64_t addr;
        uint32_t size;
        memcpy(&addr, payload + REPLY_HEAD + OUT * i, 8);
        memcpy(&size, payload + REPLY_HEAD + OUT * i + 8, 4);
        there[i] = (struct iovec){(void *)addr, size};
    }
    return process_vm_writev(l->pid, &here, 1, there, outs, 0) == (ssize_t)here.iov_len;
}

/*
 * The answer to the call in which the body waits: 1 if it goes on with that. What the kernel may want to be made again, what home has
 * sent at a time that the body has not been shown yet, and whatever is not as it should be, is Python's (guest/completion.py).
 */
int mos_answered(struct mos_pump *p, struct mos_lane *l, const unsigned char *payload, unsigned long length, unsigned int flags)
{
    uint16_t outs, asks;
    int64_t result;
    if (length < REPLY_HEAD || flags != l->seq << 1 || (l->page && !mos_shows(l->page, l->channel)))
        return 0;
    memcpy(&result, payload, 8);
    memcpy(&outs, payload + 8, 2);
    memcpy(&asks, payload + 10, 2);
    if (asks || result == -EINTR || (result <= -512 && result >= -516) || result == MOS_LONGEST ||
        !well_formed(payload, length, outs) || !store(l, (unsigned char *)payload, length, outs))
        return 0;
    l->regs.rax = result;
    l->regs.orig_rax = -1UL;
    if (mos_setregs(l->pid, &l->regs))
        return 0;
    l->received += length;
    l->state = MOS_LANE_RUNS;
    mos_lane_news(p, l);
    ptrace(PTRACE_CONT, l->pid, 0, 0); /* if it has been killed its end is told */
    mos_expect(p);
    return 1;
}
