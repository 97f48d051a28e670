/* Messages handed over from who writes to who waits for them, without waking Python (mbox/handover.py). */
#include "mos.h"

static char chunk[1 << 18];

/* Copy what one task writes to where another reads. */
static int copy_between(int from, unsigned long source, int to, unsigned long target, unsigned long length)
{
    unsigned long done, n;
    for (done = 0; done < length; done += n) {
        n = length - done < sizeof chunk ? length - done : sizeof chunk;
        if (mos_read(from, source + done, chunk, n) != (long)n || mos_write(to, target + done, chunk, n) != (long)n)
            return 0;
    }
    return 1;
}

/* End the call in which a task stands. */
static int finish_call(int pid, struct mos_regs r, unsigned long result)
{
    r.rax = result;
    r.orig_rax = -1UL;
    return !ptrace(PTRACE_SETREGS, pid, 0, &r) && !ptrace(PTRACE_CONT, pid, 0, 0);
}

#define PATIENCE_NS 500000UL    /* how long a writer waits at its stop when its message does not fit into the queue */

static void look_within(struct mos_pump *p, unsigned long ns)
{
    unsigned long at = mos_now_ns() + ns;
    if (!p->look_at || at < p->look_at)
        p->look_at = at;
}

static void note_delivery(struct mos_pump *p, struct mos_reader *reader, const struct mos_head *head)
{
    reader->heard = 1;
    reader->home = head->home;
    reader->sender = head->sender;
    reader->length = head->length;
    look_within(p, NOTES_NS);
}

/* The writer that waits at the stop of a write to this reader: one at most. */
static struct mos_writer *writer_that_waits(struct mos_pump *p, const struct mos_reader *reader)
{
    int i;
    for (i = 0; i < p->nwriters; i++)
        if (p->writers[i].waits && &p->readers[p->writers[i].reader] == reader)
            return &p->writers[i];
    return NULL;
}

/* Copy a message from memory to memory; then writer and reader go on. */
static int deliver_now(struct mos_pump *p, const struct mos_writer *writer, const struct mos_regs *w, struct mos_reader *reader,
                const struct mos_regs *r)
{
    struct mos_head head = {writer->home, writer->sender, w->rdx};
    if (w->rdx > r->rdx || !copy_between(writer->pid, w->rsi, reader->pid, r->rsi, w->rdx) || !finish_call(reader->pid, *r, w->rdx))
        return 0;
    note_delivery(p, reader, &head);
    finish_call(writer->pid, *w, w->rdx);
    return 1;
}

/* A read gets the first message of the queue, or waits at its stop until somebody writes or Python looks. */
static int serve_read(struct mos_pump *p, struct mos_reader *reader, const struct mos_regs *r)
{
    struct mos_writer *writer;
    struct mos_head head;
    if (!r->rdx || r->rdx >> 31)
        return 0;
    if (reader->at < reader->end) {
        memcpy(&head, reader->queue + reader->at, sizeof head);
        if (head.length > r->rdx ||
            mos_write(reader->pid, r->rsi, reader->queue + reader->at + sizeof head, head.length) != (long)head.length)
            return 0;
        reader->at += sizeof head + head.length;
        if (reader->at == reader->end)
            reader->at = reader->end = 0;
        note_delivery(p, reader, &head);
        finish_call(reader->pid, *r, head.length);
        return 1;
    }
    if ((writer = writer_that_waits(p, reader))) {
        if (mos_marks[writer->pid] & ASKED || !deliver_now(p, writer, &writer->regs, reader, r))
            return 0;
        writer->waits = 0;
        return 1;
    }
    reader->regs = *r;
    reader->waits = reader->anew = 1;
    look_within(p, p->linger_us ? p->linger_us * 1000UL : NOTES_NS);
    return 1;
}

/* A write goes to the reader that waits, or into the queue, or waits at its stop for a moment. Python deals with what fails here. */
static int serve_write(struct mos_pump *p, struct mos_writer *writer, const struct mos_regs *r)
{
    struct mos_reader *reader = &p->readers[writer->reader];
    struct mos_head head = {writer->home, writer->sender, r->rdx};
    char *end = reader->queue + reader->end;
    if (!reader->pid || !r->rdx || r->rdx > MOS_LONGEST || writer_that_waits(p, reader))
        return 0;
    if (reader->waits) {
        if (mos_marks[reader->pid] & ASKED || !deliver_now(p, writer, r, reader, &reader->regs))
            return 0;
        reader->waits = reader->anew = 0;
    } else if (sizeof head + r->rdx <= sizeof reader->queue - reader->end) {
        if (mos_read(writer->pid, r->rsi, end + sizeof head, r->rdx) != (long)r->rdx)
            return 0;
        memcpy(end, &head, sizeof head);
        reader->end += sizeof head + r->rdx;
        finish_call(writer->pid, *r, r->rdx);
    } else {
        writer->regs = *r;
        writer->waits = 1;
        look_within(p, PATIENCE_NS);
    }
    return 1;
}

/* Whether the stop of a task that reads or writes a mailbox has been dealt with here. */
int mos_serve_mailbox(struct mos_pump *p, int pid, int status)
{
    struct mos_regs r;
    int i, concerned = 0;
    if (status >> 16 != PTRACE_EVENT_SECCOMP || mos_marks[pid] & ASKED)
        return 0;
    for (i = 0; i < p->nreaders && !concerned; i++)
        concerned = p->readers[i].pid == pid;
    for (i = 0; i < p->nwriters && !concerned; i++)
        concerned = p->writers[i].pid == pid;
    if (!concerned || !mos_filtered_by_us(pid) || ptrace(PTRACE_GETREGS, pid, 0, &r))
        return 0;
    if (r.orig_rax == SYS_read)
        for (i = 0; i < p->nreaders; i++)
            if (p->readers[i].pid == pid && p->readers[i].fd == (int)r.rdi)
                return serve_read(p, &p->readers[i], &r);
    if (r.orig_rax == SYS_write)
        for (i = 0; i < p->nwriters; i++)
            if (p->writers[i].pid == pid && p->writers[i].fd == (int)r.rdi)
                return serve_write(p, &p->writers[i], &r);
    return 0;
}
