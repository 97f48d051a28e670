/* System V semaphores and message queues (shared memory is not for migrating programs). */
#include "mos.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

struct text {
	long type;
	char words[2000];
};

static void semaphores(void)
{
	union {
		int val;
		unsigned short *array;
	} arg;
	unsigned short values[3];
	int id = ok(semget(IPC_PRIVATE, 3, 0600)), order[2];
	char c;

	ok(pipe(order));
	arg.array = (unsigned short[]){ 0, 5, 0 };
	ok(semctl(id, 0, SETALL, arg));
	equal(semctl(id, 1, GETVAL), 5);
	refused(semop(id, &(struct sembuf){ 0, -1, IPC_NOWAIT }, 1), EAGAIN);
	pid_t pid = ok(fork());
	if (pid == 0) {
		struct sembuf take[2] = { { 0, -2, 0 }, { 1, -5, 0 } };
		ok(semop(id, take, 2));
		write_all(order[1], "c", 1);
		ok(semop(id, &(struct sembuf){ 2, 1, 0 }, 1));
		_exit(17);
	}
	rest_ms(3);
	write_all(order[1], "p", 1);
	ok(semop(id, &(struct sembuf){ 0, 2, 0 }, 1));
	ok(semop(id, &(struct sembuf){ 2, -1, 0 }, 1));
	reaped(pid, 17);
	arg.array = values;
	ok(semctl(id, 0, GETALL, arg));
	check(values[0] == 0 && values[1] == 0 && values[2] == 0);
	equal(read(order[0], &c, 1), 1);
	equal(c, 'p');
	equal(semctl(id, 1, GETPID), pid);
	ok(semctl(id, 0, IPC_RMID));
	refused(semop(id, &(struct sembuf){ 0, 1, 0 }, 1), EINVAL);
	ok(close(order[0]));
	ok(close(order[1]));
}

static void queues(void)
{
	struct text m = { 3, "" };
	struct msqid_ds info;
	int id = ok(msgget(IPC_PRIVATE, 0600));

	refused(msgrcv(id, &m, sizeof(m.words), 0, IPC_NOWAIT), ENOMSG);
	for (int i = 1; i <= 5; i++) {
		m.type = i;
		datagen(m.words, 100 * i, i);
		ok(msgsnd(id, &m, 100 * i, 0));
	}
	ok(msgctl(id, IPC_STAT, &info));
	equal(info.msg_qnum, 5);
	refused(msgrcv(id, &m, 10, 4, 0), E2BIG);
	equal(msgrcv(id, &m, sizeof(m.words), 4, 0), 400);
	equal(m.type, 4);
	struct text want;
	datagen(want.words, 400, 4);
	same(m.words, want.words, 400);
	equal(msgrcv(id, &m, sizeof(m.words), -3, 0), 100);
	equal(msgrcv(id, &m, 10, 0, MSG_NOERROR), 10);
	pid_t pid = ok(fork());
	if (pid == 0) {
		rest_ms(3);
		m.type = 99;
		ok(msgsnd(id, &m, 7, 0));
		_exit(18);
	}
	equal(msgrcv(id, &m, sizeof(m.words), 99, 0), 7);
	reaped(pid, 18);
	ok(msgctl(id, IPC_RMID, NULL));
}

PROGRAM(PART(semaphores), PART(queues))
