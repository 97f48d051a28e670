/* What a task says of itself once and must be so for ever, wherever it has been meanwhile. */
#include "mos.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

static char other_stack[1 << 16];
static volatile sig_atomic_t handled, on_other_stack;

static void on_signal(int sig UNUSED)
{
	char here;
	stack_t now;

	on_other_stack = &here > other_stack && &here < other_stack + sizeof other_stack;
	if (sigaltstack(NULL, &now) == 0)
		handled = now.ss_flags & SS_DISABLE ? 2 : 1; /* disarmed while its handler runs */
	elsewhere();
}

static void stacks_that_disarm(void)
{
	stack_t wanted = { .ss_sp = other_stack, .ss_size = sizeof other_stack, .ss_flags = (int)SS_AUTODISARM }, now;
	stack_t none = { .ss_flags = SS_DISABLE };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	ok(sigaltstack(&wanted, NULL));
	ok(sigaction(SIGUSR1, &sa, NULL));
	elsewhere();
	handled = 0;
	ok(raise(SIGUSR1));
	equal(handled, 2);
	equal(on_other_stack, 1);
	ok(sigaltstack(NULL, &now));
	check(now.ss_sp == wanted.ss_sp && now.ss_size == wanted.ss_size);
	equal(now.ss_flags, wanted.ss_flags);
	ok(sigaltstack(&none, NULL));
	signal(SIGUSR1, SIG_DFL);
}

static int keeps_capabilities(void *arg UNUSED)
{
	ok(prctl(PR_SET_KEEPCAPS, 1));
	ok(prctl(PR_SET_TIMERSLACK, 1234567));
	ok(prctl(PR_SET_PDEATHSIG, SIGUSR2));
	ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	bool early = !prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0); /* some kernels cannot */
	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	elsewhere();
	for (int round = 0; round < 2; round++) {
		int sig = 0, reaper = 0;

		equal(prctl(PR_GET_KEEPCAPS), 1);
		equal(prctl(PR_GET_TIMERSLACK), 1234567);
		ok(prctl(PR_GET_PDEATHSIG, &sig));
		equal(sig, SIGUSR2);
		ok(prctl(PR_GET_CHILD_SUBREAPER, &reaper));
		equal(reaper, 1);
		check(!early || prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY);
		equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
		elsewhere();
	}
	return 0;
}

static void task_settings(void)
{
	reaped(forked(keeps_capabilities, NULL), 0);
	equal(prctl(PR_GET_KEEPCAPS), 0);
}

static int is_scheduled(void *arg UNUSED)
{
	struct sched_param zero = { 0 };

	ok(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &zero));
	elsewhere();
	equal(sched_getscheduler(0), SCHED_BATCH | SCHED_RESET_ON_FORK);
	pid_t child = ok(fork());
	if (child == 0)
		_exit(sched_getscheduler(0));
	reaped(child, SCHED_BATCH); /* without the flag */
	return 0;
}

static void scheduler_is_reset(void)
{
	reaped(forked(is_scheduled, NULL), 0);
}

struct robust { void *next; long offset; void *pending; };

static void robust_lists(void)
{
	struct robust head = { &head, 0, NULL }, *found = NULL, *before = NULL;
	size_t size = 0, before_size = 0;

	ok(syscall(SYS_get_robust_list, 0, &before, &before_size));
	ok(syscall(SYS_set_robust_list, &head, sizeof head));
	elsewhere();
	ok(syscall(SYS_get_robust_list, 0, &found, &size));
	check(found == &head && size == sizeof head);
	ok(syscall(SYS_set_robust_list, before, sizeof head));
}

static int has_ambient(void *arg UNUSED)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	const unsigned long chosen = CAP_NET_BIND_SERVICE;

	ok(syscall(SYS_capget, &head, data));
	if (!(data[0].permitted >> chosen & 1))
		return 0;
	data[0].inheritable |= 1u << chosen;
	ok(syscall(SYS_capset, &head, data));
	ok(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, chosen, 0, 0));
	elsewhere();
	equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, chosen, 0, 0), 1);
	refused(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 63, 0, 0), EINVAL);
	pid_t child = ok(fork());
	if (child == 0)
		_exit(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, chosen, 0, 0));
	reaped(child, 1);
	ok(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, chosen, 0, 0), 0);
	return 0;
}

static void ambient_capabilities(void)
{
	reaped(forked(has_ambient, NULL), 0);
}

PROGRAM(PART(stacks_that_disarm), PART(task_settings), PART(scheduler_is_reset), PART(robust_lists), PART(ambient_capabilities))
