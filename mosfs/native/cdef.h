
struct mos_regs {               /* struct user_regs_struct of x86_64 */
    unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
        fs_base, gs_base, ds, es, fs, gs;
};

struct mos_work {               /* of a task so far (proc(5), stat): clock ticks in user mode; in the kernel, and page faults */
    char state;
    unsigned long user, kernel;
};

struct mos_waiting {            /* for a task that has not stopped: seconds that count, and those in which it got nowhere */
    int ticks, idle;
    unsigned long begun;        /* its clock ticks in user mode then */
    struct mos_work last;
};

struct mos_event {
    int kind;                   /* MOS_EV_* */
    int pid;                    /* TASK: who; FD: index into fds */
    int status;                 /* TASK: wait status; FD: revents */
};

#define MOS_EV_TIMEOUT 0
#define MOS_EV_TASK 1
#define MOS_EV_FD 2

#define MOS_NOTES 256
#define MOS_FORKED 1            /* PTRACE_EVENT_FORK and _VFORK: pid has the child `other` */
#define MOS_VFORKED 2
#define MOS_THREAD 3            /* PTRACE_EVENT_CLONE: pid has made a thread of its process, `other` */
#define MOS_FIRST_THREAD 4      /* the process of pid has several threads from now on, or has had */
#define MOS_SAID 5              /* pid has mapped memory, and said something of it (migrate/properties.py) */
#define MOS_ENDED 0             /* pid has ended with the wait status `other` */

#define MOS_PLAIN 1             /* what mos_plain is told: see home.c */
#define MOS_UNTRAVELLED 2
#define MOS_WHOLE 4
#define MOS_SEVERAL 8
#define MOS_OURS 0x4D4F         /* what filters of ours tell a tracer (SECCOMP_RET_DATA) */
#define MOS_STRICT 0x4D50       /* and the one in the place of strict mode */

#define MOS_HAS_RSEQ_TOLD 1     /* features of kernels, see kernel.py */
#define MOS_HAS_WAIT_KILLABLE 2
#define MOS_HAS_MEMFD_EXEC 4
#define MOS_HAS_PEER_PIDFD 8
#define MOS_HAS_WP_ASYNC 16
#define MOS_HAS_PAGEMAP_SCAN 32
#define MOS_HAS_THREAD_PIDFD 64
#define MOS_HAS_PROCMAP_QUERY 128
#define MOS_HAS_DROPPABLE 256
#define MOS_HAS_SLICES 512
#define MOS_HAS_GUARDS 1024
#define MOS_HAS_GUARDS_TOLD 2048
#define MOS_HAS_COLLAPSE 4096

#define MOS_EARLIES 64
#define MOS_STANDS 1            /* what came early stands at its first stop, or has ended since */
#define MOS_CAME_AND_WENT 2
#define MOS_HALTS 3             /* its first stop is a group stop, which it must be made to tell of anew */

struct mos_early {              /* a task whose first stop has come, and its parent's event has not */
    int pid;
    int turns;                  /* so often mos_unclaimed has seen it */
};

struct mos_note {
    int what;
    int pid;
    int other;
};

struct mos_grant {              /* what a program with private files may do without waking Python */
    int pid;
    int none;                   /* 1: it has no private file open */
    unsigned long bytes;        /* so much it may write before its files are counted again */
};

struct mos_window {             /* over a stream of a guest: what it may read or write without waking Python */
    int pid;                    /* the body; 0 for none */
    int fd;                     /* its descriptor */
    long nr;                    /* read or write */
    int file;                   /* the memory file ... */
    const char *data;           /* ... or, if not NULL, the bytes */
    unsigned long at;           /* where the next byte is */
    unsigned long left;         /* how many may follow */
};

struct mos_private {            /* over an open private file of a guest: what it may do without waking Python */
    int pid;                    /* the body */
    int fd;                     /* its descriptor */
    int file;                   /* ours of the file */
    int readable, writable, appends;
    uint64_t position;          /* of the next byte */
    unsigned long left;         /* bytes that it may write before its files are counted again */
    int used;                   /* something was done here */
};

struct mos_reader {             /* of a mailbox that its desk may fill (mbox/borrowed.py), in which nothing is but what is here */
    int pid;                    /* 0: nothing may be done here now */
    int fd;                     /* its descriptor of the mailbox */
    int waits;                  /* it stands in the read of `regs`, ... */
    int anew;                   /* ... since the last look of Python */
    int heard;                  /* it has read a message since the last look of Python, the last one of: */
    unsigned int home;          /* its sender, */
    int sender;
    unsigned long length;       /* and its length */
    struct mos_regs regs;
    int at, end;                /* messages that wait in `queue`: each a mos_head, and the bytes */
    char queue[16384];
};

struct mos_head {
    unsigned int home;          /* of the sender, */
    int sender;                 /* its PID there, */
    unsigned int length;        /* and bytes that follow */
};

struct mos_writer {             /* a descriptor whose messages are for `readers[reader]` */
    int pid;                    /* 0 for none */
    int fd;
    int reader;
    unsigned int home;          /* who its program is for the reader */
    int sender;
    int waits;                  /* it stands in the write of `regs`, until somebody reads or Python looks */
    struct mos_regs regs;
};

#define MOS_HEAD 16             /* bytes of a frame before its payload, and of the tag behind it (wire/frames.py) */
#define MOS_TAG 16

struct mos_time {               /* payload of TIME: home's CLOCK_MONOTONIC, and by how much realtime was ahead of it, ns */
    int64_t monotonic, wall;
};

struct mos_channel {            /* a data channel: what Python (wire/channel.py) and C both read and write */
    int fd;
    unsigned int direction;     /* 0: of the side that has connected */
    void *out, *in;             /* ciphers; NULL: Python speaks alone */
    uint64_t sent, received;    /* frames */
    char *buffer;               /* what has come and is not dealt with: bytes start to end, of size */
    unsigned long size, start, end;
    char *unsent;               /* of a frame that C could not send as a whole: the rest */
    unsigned long unsent_left;
    int broken;                 /* an errno: C could not send a frame, so nothing may be sent any more */
    int tells;                  /* home: TIME goes before what a program may learn of */
    struct mos_time told;       /* host: the last TIME, zero without */
    uint64_t told_tsc;          /* when it was read: the counter, and then this node's CLOCK_MONOTONIC (ns) */
    int64_t told_at;
};

#define MOS_LANE_MOST 0x22000    /* bytes of a frame's payload that lanes take: a transfer of 128 KB, and what describes it */
#define MOS_LANES 64
#define MOS_SPANS 6

#define MOS_IN 1                /* mos_span.way */
#define MOS_OUT 2
#define MOS_TEXT 4

struct mos_span {               /* memory that an argument of a call points to, of value(arg) * factor * value(times) + plus bytes */
    unsigned char way;          /* MOS_IN, MOS_OUT, both, MOS_TEXT: ends with NUL; 0: none */
    signed char arg, times;     /* -1: 1 */
    unsigned char comes;        /* calls/request.py, Comes */
    unsigned short factor;
    unsigned short comes_factor;
    unsigned int plus, comes_plus;
};

struct mos_plan {               /* of one system call */
    unsigned char forwarded;    /* 1: a body's host sends it home by `spans` */
    unsigned char made;         /* 1: its deputy makes it, and nobody need know */
    unsigned char renames;      /* 1: what a descriptor is may change by it */
    unsigned char ints;         /* bit n: argument n is a C int */
    struct mos_span spans[6];
};

#define MOS_LANE_OFF 0          /* mos_lane.state: nothing may be done here now */
#define MOS_LANE_RUNS 1         /* a body that runs, */
#define MOS_LANE_WAITS 2        /* or waits in a call that has been forwarded */
#define MOS_LANE_READY 3        /* a deputy: home/process/deputy.py */
#define MOS_LANE_PARKED 4
#define MOS_LANE_BUSY 5

struct mos_lane {               /* ordinary calls of a body, as its host or its home can serve them without waking Python */
    int pid;                    /* of body or deputy */
    int state;
    uint64_t pair;              /* the program's PID at home: of its frames */
    struct mos_channel *channel;
    int news;                   /* Python has to write down what was done */
    int interrupting;           /* deputy: it was asked to stop, and has not yet */
    struct mos_regs regs;       /* body: behind the call in which it waits */
    struct mos_regs *base;      /* deputy: see Deputy.base */
    long nr;                    /* of the call in which it is, or was last; its number on the wire */
    unsigned int seq;
    unsigned int signals;       /* SIGNAL frames: heard by the host, sent by home */
    uint64_t mask;              /* of signals: that home was told of, that the deputy has */
    int knows_mask;             /* body: `mask` is as it is now */
    uint64_t calls, sent, received; /* of calls since the last look of Python: how many, bytes to home, and to the body */
    uint64_t ready_since;       /* deputy: ns */
    const unsigned char *page;  /* body: of its clocks, which have to show what home tells; NULL: they are home's */
    uint64_t scratch, room;     /* deputy: address and size of its memory for calls */
    int several;                /* deputy: of a thread: another one may end it while it stands, or have its ID by an exec */
    int maps;                   /* body: /proc/PID/maps, -1 as long as it is not open */
    int pidfd;                  /* deputy, likewise */
    int watcher;                /* deputy: nothing is answered as long as this descriptor can be read; -1: none */
    int plain[8];               /* deputy: descriptors that were found to be of regular files, -1: none */
    int next_plain;
    char *call;                 /* deputy: payload of the CALL that it is BUSY with */
    unsigned long call_length, call_room;
    uint64_t places[6];         /* deputy: where the memory of that is */
};

struct mos_row {                /* of calls that a task makes (layout.py, ROW) */
    int pid;
    struct mos_regs *base;      /* which it has meanwhile, but for what a row needs */
    unsigned long at;           /* where the entries lie in its memory: */
    const long *asked;          /* seven words each */
    unsigned long count;
    unsigned long next;         /* of those that a filter sends to us, where to look for the next one */
    long *told;                 /* out: the entries behind it, results in the place of numbers */
    int outcome;                /* out: as of mos_row_wait; 2: still under way */
    int status;
};

struct mos_standing {           /* a thread that was asked to stop (standing.c) */
    int pid;
    int outcome;
    int status;
    struct mos_regs regs;
};

#define MOS_LONGEST 33554432    /* bytes of a message (mbox/filters.py, MAX_MESSAGE) */
#define MOS_PINNED 32

struct mos_pinned {             /* a task that is kept on our CPU */
    int pid;
    unsigned long since;        /* its last stop (ns) */
    unsigned long allowed[16];  /* its own CPU set, to be put back */
};

struct mos_pump {
    int nfds;                   /* what mos_next looks at: mos_attend; 0 to begin anew */
    int room;
    void *watched;              /* struct pollfd[room] */
    int turn;
    int follow;                 /* 1: stay on the tracee's CPU */
    int stops;
    int cpu;
    int fair;
    int hot;                    /* the task that stops, how often it has, since when (ns), and how often others did since */
    int hot_count;
    unsigned long hot_since;
    int strangers;
    int npinned;                /* a task that stops often and its youngest children are kept on our CPU */
    struct mos_pinned pinned[32]; /* MOS_PINNED */
    int pass_opens;             /* 1 (a tracer only): calls that concern only ordinary paths go on without waking Python */
    int settles;                /* 1 (a tracer only): stops of programs at home that need no decision do not wake Python */
    int nnotes;                 /* what Python has to write down before anything else */
    struct mos_note notes[256];
    unsigned long note_since;   /* the oldest (ns) */
    int nearly;
    struct mos_early earlies[64];
    unsigned char transfers[512]; /* calls whose positive result may be less than asked for */
    unsigned char paths[512];   /* of each call: bit n set = argument n is a path; 0 = no such call */
    int ndirs;                  /* private directories of this tree: what lies below is not ordinary */
    char dirs[32][64];          /* their first 63 bytes */
    struct mos_grant grants[64]; /* of process p: grants[p % 64], if it is its */
    int nwindows;               /* those that may be in use */
    struct mos_window windows[64];
    int nprivates;              /* those in use */
    struct mos_private privates[16];
    int linger_us;              /* so long a reader stands still without Python; 0: for ever */
    int nreaders, nwriters;     /* those that may be in use */
    unsigned long look_at;      /* when Python shall look at them (ns), 0 when nothing has happened */
    struct mos_reader readers[16];
    struct mos_writer writers[64];
    int nlanes;                 /* of this process, tracer or host */
    int lane_pids[64];
    uint64_t lane_pairs[64];
    struct mos_lane *lanes[64];
    int nchannels;              /* on which lanes may hear */
    struct mos_channel *channels[64];
    int lane_news;              /* some lane has any; 2: before anything else, even waiting */
    unsigned long lane_look_at; /* Python wants to look at news then (ns); 0: when it wakes up */
    unsigned long awake_until;  /* ns: until then what may come soon is looked for all the time */
    int in_vain;                /* so often in a row nothing came */
    int slept;                  /* so often it was not looked for, for that reason */
    const struct mos_plan *plans; /* of each call */
};

struct mos_setup {              /* of a program at exec */
    const void *pages;          /* contents of the low region from its start */
    unsigned long length;       /* bytes of them */
    unsigned long code, whole;  /* bytes of what is not writable, from the region's start on, and of the region */
    unsigned long vdso;         /* where in the region our vDSO is */
    unsigned long instruction;  /* where in the kernel's vDSO a syscall instruction is */
    unsigned long before, kernel; /* the kernel's pages, which are unmapped: bytes before its vDSO, and in all */
    const void *filter;         /* with filter_length instructions; 0: the program has it already */
    int filter_length;
    int no_new_privs;           /* 1: needed for the filter */
    int single;                 /* 1: by single steps; it must not ignore SIGTRAP */
    int stopped, trapped;       /* out: a SIGSTOP, a SIGTRAP was put off */
    int step;                   /* out: MOS_STEP_*, which failed */
    long result;                /* out: with what */
    int status;                 /* out: the wait status */
};

#define MOS_ELSEWHERE 1         /* the program has ended, or is not where it should be: status */
#define MOS_NOT_64 2
#define MOS_NO_VDSO 3
#define MOS_FAILED 4            /* a step, with result */
#define MOS_STEP_MAP 0
#define MOS_STEP_PRIVS 1
#define MOS_STEP_FILTER 2
#define MOS_STEP_PROTECT 3

#define MOS_NOT_DIRECT -1000000

int mos_setup_signals(void);
int mos_prompt(int nice, unsigned long slice_ns);
void mos_quiet(int quiet);
int mos_renice(int pid, int nice, int uid);
void mos_keep_heap(unsigned long largest);
void mos_plain(int pid, int plain);
void mos_filtered(int pid, int filtered);
void mos_unknown(int pid);
int mos_early(int pid);
int mos_unclaimed(struct mos_pump *p, int turns, int *pids);
int mos_attend(struct mos_pump *p, int fd, int out);
int mos_next(struct mos_pump *p, struct mos_event *ev, int timeout_us);
void mos_reap(void);
int mos_is_told(int pid);
int mos_make_call(struct mos_pump *p, int pid, struct mos_regs *base, long nr, long a0, long a1, long a2, long a3, long a4, long a5, long *result);
void mos_keep_usage(void);
int mos_usage(int pid, unsigned long *us);
int mos_follow(struct mos_pump *p, int pid);
int mos_hold(struct mos_pump *p, int pid);
int mos_pin(struct mos_pump *p, int pid);
void mos_unpin(struct mos_pump *p);
void mos_like(struct mos_pump *p, int parent, int child);
int mos_unfollow(struct mos_pump *p);

long mos_ptrace(int request, int pid, unsigned long addr, unsigned long data);
int mos_getregs(int pid, struct mos_regs *regs);
int mos_setregs(int pid, struct mos_regs *regs);
int mos_getregset(int pid, int type, void *buf, int len);
int mos_setregset(int pid, int type, void *buf, int len);
int mos_getsigmask(int pid, unsigned long *mask);
int mos_setsigmask(int pid, unsigned long mask);
int mos_getsiginfo(int pid, void *info);
int mos_peeksiginfo(int pid, unsigned long off, int shared, int count, void *infos);
int mos_rseq(int pid, unsigned long *ptr, unsigned int *size, unsigned int *sig);
int mos_patience(int seconds);
int mos_too_long(struct mos_waiting *w, const struct mos_work *now, int seconds);
int mos_waitpid(int pid, int *status, int options);
int mos_wait_beside(int pid, int *status, int fd, int ms);
int mos_may_seal(void);
int mos_channel_key(struct mos_channel *c, const unsigned char *key);
void mos_sent(struct mos_channel *c);
void mos_channel_end(struct mos_channel *c);
int mos_seal(struct mos_channel *c, unsigned char *frame, unsigned int length);
int mos_open(struct mos_channel *c, const unsigned char *frame, unsigned int length, unsigned char *to);
void mos_alter(const void *layout);
void mos_time(struct mos_time *t);
int mos_told(struct mos_channel *c, const unsigned char *payload);
int mos_shows(const unsigned char *page, const struct mos_channel *c);
int mos_send_frame(struct mos_channel *c, unsigned char *frame, unsigned int length, unsigned int kind, unsigned int flags, uint64_t pair);
int mos_send_timed(struct mos_channel *c, unsigned char *frame, unsigned int length, unsigned int kind, unsigned int flags, uint64_t pair);
struct mos_lane *mos_lane(struct mos_pump *p, int pid, uint64_t pair);
void mos_lane_end(struct mos_pump *p, struct mos_lane *l);
int mos_gone_on(struct mos_lane *l);
void mos_lanes_rest(struct mos_pump *p);
int mos_hear(struct mos_pump *p, struct mos_channel *c);
unsigned int mos_pack_call(struct mos_lane *l, const struct mos_plan *plan, const struct mos_regs *r, unsigned char *payload);
int mos_is_kept(long nr, uint64_t flags);
int mos_plain_call(const unsigned char *payload, unsigned long length);
int mos_forward(struct mos_pump *p, int pid, int status);
int mos_answered(struct mos_pump *p, struct mos_lane *l, const unsigned char *payload, unsigned long length, unsigned int flags);
int mos_called(struct mos_pump *p, struct mos_lane *l, const unsigned char *payload, unsigned long length, unsigned int flags);
long mos_direct(int pidfd, int fd, long nr, void *buf, long a2, long a3);
int mos_same_file(int pid, int fd1, int fd2);
int mos_apart(int pid, int tid);
long mos_store(int pid, unsigned long addr, int fd, unsigned long off, unsigned long len);
long mos_fetch(int pid, unsigned long addr, int fd, unsigned long off, unsigned long len);

long mos_read(int pid, unsigned long addr, void *buf, unsigned long len);
long mos_write(int pid, unsigned long addr, void *buf, unsigned long len);
long mos_runs(int pid, unsigned long *runs, long count, void *buf, unsigned long len, int write);
long mos_reach(int pid, unsigned long addr, unsigned long len);
long mos_read_string(int pid, unsigned long addr, char *buf, unsigned long max);

int mos_inject(int pid, struct mos_regs *base, int guest, long nr, long a0, long a1, long a2, long a3, long a4, long a5,
               long *result, int *status);
int mos_row_begin(int pid, struct mos_regs *base, unsigned long row, unsigned long entries, unsigned long count);
void mos_standing(struct mos_standing *all, int count, int ms);
void mos_rows(struct mos_row *rows, unsigned long count, unsigned long code, unsigned long after);
int mos_row_wait(int pid, unsigned long after, const long *asked, unsigned long count, unsigned long *at, int *status);
int mos_embark(int pid, struct mos_setup *s);
int mos_stand(int pid, struct mos_regs *regs, int *status);
int mos_run_call(int pid, struct mos_regs *base, long nr, long a0, long a1, long a2, long a3, long a4, long a5);

int mos_spawn_body(int memfd, unsigned int uid, void *filter, int filter_len, int memory_limit_mb, int namespaces);
int mos_make_maker(int memfd, unsigned int uid, void *filter, int filter_len, int *ends);
int mos_chosen_body(const int *ends, int number);
int mos_zero_runs(void *buf, unsigned long len, unsigned char *zero);
long mos_present(int pid, unsigned long start, unsigned long end, int own, unsigned long *runs, long max, unsigned long *next);
int mos_collapse(int pidfd, int pagemap, unsigned long start, unsigned long end);
int mos_watcher(void);
int mos_watch(int watcher, int fd);
int mos_unwatch(int watcher, int watch);
long mos_read_now(int fd, void *buf, unsigned long len);
int mos_process_of(int tid);
int mos_take_fd(int pid, int fd);
long mos_write_once(int fd, void *buf, unsigned long len);
int mos_in_page(int fd, unsigned long at, void *buf, unsigned long len, int write);
int mos_become(const unsigned int *users, const unsigned int *own, const unsigned int *others, long count);
void mos_hide(unsigned int features);
int mos_probe(int feature);
int mos_uffd_begin(int fd);
int mos_uffd_register(int fd, unsigned long start, unsigned long end);
long mos_scan(int pagemap, unsigned long start, unsigned long end, unsigned long flags, unsigned long inverted, unsigned long mask,
              unsigned long anyof, unsigned long told, unsigned long *runs, long max, unsigned long *next);
unsigned int mos_stamp(void);
unsigned long mos_rdtsc(void);
unsigned long mos_xcr0(void);
void mos_cpuid(unsigned int leaf, unsigned int subleaf, unsigned int *out);
const unsigned char *mos_vdso(int *len);
