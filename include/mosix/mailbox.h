/* Direct communication between MOSIX processes: direct_communication(7). Values and layouts are the manual's. */
#ifndef MOSIX_MAILBOX_H
#define MOSIX_MAILBOX_H

/* Flags of open("/proc/mosix/mybox", O_CREAT, flags). */
#define MYBOX_GROUP 1         /* let other users of the same group send */
#define MYBOX_OTHERS 2        /* let all users send */
#define MYBOX_OTHER_HOMES 4   /* let processes of other home-nodes send */
#define MYBOX_NO_DELAY 8      /* EAGAIN instead of waiting */
#define MYBOX_SIGIO 16        /* SIGIO when a message arrives */
#define MYBOX_NO_TRUNCATION 32 /* read the first message that fits */
#define MYBOX_EOF 64          /* a message of length zero is an end of file */
#define MYBOX_STREAM 128      /* not in the manual: what does not fit stays for the next read */

struct interested {
	unsigned char conditions;  /* bitmap of conditions */
	unsigned char testlen;     /* length of test-pattern (1-8 bytes) */
	int pid;                   /* process-ID of sender */
	unsigned int home;         /* home-node of sender (0 = same home), in host order */
	int minlen;                /* minimum message length */
	int maxlen;                /* maximum message length */
	int testoffset;            /* offset of test-pattern within message */
	unsigned char testdata[8]; /* expected test-pattern */
	int msgno;                 /* pick a specific message (starting from 1) */
	int msgoffset;             /* start reading from given offset */
};

/* conditions: */
#define INTERESTED_IN_PID 1
#define INTERESTED_IN_HOME 2
#define INTERESTED_IN_MINLEN 4
#define INTERESTED_IN_MAXLEN 8
#define INTERESTED_IN_PATTERN 16
#define INTERESTED_IN_MESSAGENO 32
#define INTERESTED_IN_OFFSET 64
#define PREVENT_REMOVAL 128

/* The manual's other spellings. */
#define INTERESTED_IN_MESSAGE_NO INTERESTED_IN_MESSAGENO
#define INTERESTED_IN_MESSAGE INTERESTED_IN_MESSAGENO

struct interests {
	long number;                /* number of filters */
	struct interested *filters; /* filters to store */
};

/* ioctl(my_mbox, ...). SIOCINTERESTED returns the address of the previous filter, all bits of which only syscall(2) shows. */
#define SIOCINTERESTED 0x8985
#define SIOCSTOREINTERESTS 0x8986
#define SIOCKSTOREINTERESTS SIOCSTOREINTERESTS
#define SIOCWHICH 0x8987

#endif
