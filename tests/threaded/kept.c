/* Eight threads, each in what only the numbers of threads keep right: held and waited-for mutexes of every kind, conditions, times,
   signals, cancellation. It says "ready", waits for the file "go", then looks whether everything is as it was, and ends.
   With "own" one of its threads, not the first, takes a checkpoint when all are ready. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PI_WAITER, OWNER, WAITER, TIMED, SHORT, SEMAPHORE, CANCELLED, ALL };
static const char *const names[ALL] = { "pi waiter", "owner", "waiter", "timed", "short", "semaphore", "cancelled" };
static pthread_t threads[ALL];
static pid_t tids[ALL], first;
static pthread_mutex_t pi, robust, recursive, checked, lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static atomic_int begun, go, handled[ALL], stacked[ALL], rounds;
static int own;
static __thread int mine = -1;
static __thread char stack[65536] __attribute__((aligned(64)));

static void check(int good, const char *what)
{
	if (good)
		return;
	printf("%s: %s (thread %d)\n", what, strerror(errno), mine);
	fflush(stdout);
	_exit(1);
}

static void make(pthread_mutex_t *mutex, int type, int protocol, int robustness)
{
	pthread_mutexattr_t how;

	pthread_mutexattr_init(&how);
	pthread_mutexattr_settype(&how, type);
	pthread_mutexattr_setprotocol(&how, protocol);
	pthread_mutexattr_setrobust(&how, robustness);
	check(!(errno = pthread_mutex_init(mutex, &how)), "pthread_mutex_init");
}

static struct timespec after(clockid_t clock, long ns)
{
	struct timespec at;

	clock_gettime(clock, &at);
	at.tv_nsec += ns;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

static void on_signal(int sig)
{
	char here;

	(void)sig;
	stacked[mine] = &here >= stack && &here < stack + sizeof stack;
	handled[mine]++;
}

/* What is this thread's own, and has to stay so. */
static void same(int which)
{
	stack_t now;
	sigset_t set;
	char name[16];

	check(mine == which, "thread-local memory");
	check(syscall(SYS_gettid) == tids[which], "gettid");
	check(!prctl(PR_GET_NAME, name) && !strcmp(name, names[which]), "the name");
	check(!sigaltstack(NULL, &now) && now.ss_sp == stack && now.ss_size == sizeof stack, "sigaltstack");
	check(!pthread_sigmask(SIG_SETMASK, NULL, &set), "pthread_sigmask");
	check(sigismember(&set, SIGUSR2) == 1 && sigismember(&set, SIGRTMIN + which) == 1 && !sigismember(&set, SIGUSR1), "the mask");
	check(!sigpending(&set) && sigismember(&set, SIGRTMIN + which) == 1, "a signal that waits");
	for (int other = 0; other < ALL; other++)
		check(other == which || !sigismember(&set, SIGRTMIN + other), "a signal that waits for another thread");
	check(getpriority(PRIO_PROCESS, 0) == which, "getpriority");
}

static void begin(int which)
{
	stack_t place = { .ss_sp = stack, .ss_size = sizeof stack };
	sigset_t set;

	mine = which;
	tids[which] = syscall(SYS_gettid);
	prctl(PR_SET_NAME, names[which]);
	check(!sigaltstack(&place, NULL), "sigaltstack");
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + which);
	check(!pthread_sigmask(SIG_BLOCK, &set, NULL), "pthread_sigmask");
	check(!pthread_kill(pthread_self(), SIGRTMIN + which), "pthread_kill");
	check(!setpriority(PRIO_PROCESS, 0, which), "setpriority");
	same(which);
	begun++;
}

static void *work(void *argument)
{
	int which = (int)(intptr_t)argument, result = 0;
	struct timespec end;

	if (which == OWNER)
		check(!(errno = pthread_mutex_lock(&robust)), "robust");
	begin(which);
	switch (which) {
	case PI_WAITER:
		check(!(errno = pthread_mutex_lock(&pi)), "the lock of the first thread");
		check(go, "it has been unlocked");
		check(!(errno = pthread_mutex_unlock(&pi)), "unlock");
		break;
	case OWNER:
	case WAITER:
		pthread_mutex_lock(&lock);
		while (!go)
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		break;
	case TIMED:
		end = after(CLOCK_REALTIME, 0);
		end.tv_sec += 1000;
		pthread_mutex_lock(&lock);
		while (!go && !result)
			result = pthread_cond_timedwait(&changed, &lock, &end);
		pthread_mutex_unlock(&lock);
		check(!(errno = result), "pthread_cond_timedwait");
		break;
	case SHORT:
		while (!go) {
			static pthread_mutex_t quiet = PTHREAD_MUTEX_INITIALIZER;
			static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

			end = after(CLOCK_REALTIME, 5000000);
			pthread_mutex_lock(&quiet);
			check((result = pthread_cond_timedwait(&never, &quiet, &end)) == ETIMEDOUT || !result, "a short wait");
			pthread_mutex_unlock(&quiet);
			rounds++;
		}
		break;
	case SEMAPHORE:
		if (own) {
			while (begun < ALL)
				sched_yield();
			int number = (int)syscall(SYS_open, "/proc/self/checkpoint", O_RDWR | O_CREAT, 1);

			printf("checkpoint %d\n", number);
			fflush(stdout);
		}
		while (sem_wait(&semaphore))
			check(errno == EINTR, "sem_wait");
		break;
	case CANCELLED:
		for (;;)
			pause();
	}
	same(which);
	return (void *)(intptr_t)(which + 100);
}

static void *last(void *argument)
{
	check(!(errno = pthread_mutex_lock(&pi)) && !(errno = pthread_mutex_unlock(&pi)), "the lock, by a new thread");
	return argument;
}

static void hold(void)
{
	for (int i = 0; i < 2; i++)
		check(!(errno = pthread_mutex_lock(&recursive)), "recursive");
	check(!(errno = pthread_mutex_lock(&checked)) && !(errno = pthread_mutex_lock(&pi)), "lock");
}

static void release(void)
{
	for (int i = 0; i < 2; i++)
		check(!(errno = pthread_mutex_lock(&recursive)) && !(errno = pthread_mutex_unlock(&recursive)), "recursive, again");
	for (int i = 0; i < 2; i++)
		check(!(errno = pthread_mutex_unlock(&recursive)), "recursive, unlock");
	check(pthread_mutex_unlock(&recursive) == EPERM, "recursive, once too often");
	check(pthread_mutex_lock(&checked) == EDEADLK && !(errno = pthread_mutex_unlock(&checked)), "checked");
	check(pthread_mutex_unlock(&checked) == EPERM, "checked, again");
	check((pi.__data.__lock & 0x3fffffff) == first && pthread_mutex_trylock(&pi) == EBUSY, "the owner of the lock");
	check(!(errno = pthread_mutex_unlock(&pi)), "the lock that one waits for");
}

static void signals(void)
{
	for (int i = 0; i < ALL; i++) {
		check(!(errno = pthread_kill(threads[i], SIGUSR1)), "pthread_kill");
		while (!handled[i])
			usleep(1000);
		check(handled[i] == 1 && stacked[i], "the handler, on its own stack");
	}
	check(!setuid(getuid()), "setuid, which all threads take part in");
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART };
	pthread_t more;
	void *result;
	int before;

	(void)argv;
	own = argc > 1;
	first = getpid();
	check(!sigaction(SIGUSR1, &action, NULL), "sigaction");
	make(&pi, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
	make(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
	make(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
	make(&checked, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
	check(!sem_init(&semaphore, 0, 0), "sem_init");
	hold();
	for (intptr_t i = 0; i < ALL; i++)
		check(!(errno = pthread_create(&threads[i], NULL, work, (void *)i)), "pthread_create");
	while (begun < ALL || !((unsigned)pi.__data.__lock >> 31) || rounds < 3)
		usleep(1000);
	puts("ready");
	fflush(stdout);
	while (access("go", F_OK))
		usleep(5000);
	check(getpid() == first && syscall(SYS_gettid) == first, "getpid");
	for (before = rounds; rounds < before + 3;)
		usleep(1000);
	signals();
	pthread_mutex_lock(&lock);
	go = 1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	release();
	check(!sem_post(&semaphore) && !(errno = pthread_cancel(threads[CANCELLED])), "sem_post");
	check(!(errno = pthread_create(&more, NULL, last, NULL)) && !(errno = pthread_join(more, &result)), "a new thread");
	for (int i = 0; i < ALL; i++) {
		check(!(errno = pthread_join(threads[i], &result)), "pthread_join");
		check(result == (i == CANCELLED ? PTHREAD_CANCELED : (void *)(intptr_t)(i + 100)), names[i]);
	}
	check(pthread_mutex_lock(&robust) == EOWNERDEAD && !pthread_mutex_consistent(&robust), "robust, whose owner has ended");
	check(!pthread_mutex_unlock(&robust), "robust");
	puts("all is well");
	return 7;
}
