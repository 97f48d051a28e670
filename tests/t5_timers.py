"""Timers of a program whose node has other clocks than its home, and knows them badly when it comes, and then better.

Packets one way take 300 ms while it moves, so what half of a round trip tells of home's clocks is wrong by 150 ms, and no time at
all later. Whatever ends by a timer at home ends no earlier by the clocks that the program reads: timers that began when it thought
that it was later than it is, and timers that end when it thinks that it is earlier.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.trace import altered
from mosfs.trace.clock import native_counter
from tests import cluster, link
from tests.cluster import Lab
from tests.link import Line, Network
from tests.progs import CFLAGS, compile_c
from tests.t5_clocks import Clock

pytestmark = [
    pytest.mark.root,
    link.possible,
    pytest.mark.skipif(not native_counter().usable(), reason="this machine's time stamp counter is not dependable"),
]

#: Waits for one timer after the other, each in another way, until its standard input ends. Then it prints a line for each way: its
#: name, how often it waited, how often a clock showed less behind it than natively, and by how much at most, ns.
EARLY = r"""
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT 50000000LL
#define SPEC(ns) { (ns) / 1000000000, (ns) % 1000000000 }

static long long now(clockid_t clock)
{
	struct timespec t;
	if (clock_gettime(clock, &t))
		exit(2);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Each begins a timer, waits for it, and tells when it is to be over. */

static long long timer(clockid_t clock, int absolute, int waits)
{
	long long start = now(clock);
	int fd = timerfd_create(clock, TFD_CLOEXEC), ep;
	struct itimerspec at = { { 0, 0 }, SPEC(absolute ? start + WAIT : WAIT) };
	struct epoll_event event = { EPOLLIN, { .fd = fd } };
	unsigned long long times;

	if (fd < 0 || timerfd_settime(fd, absolute ? TFD_TIMER_ABSTIME : 0, &at, NULL))
		exit(3);
	if (waits == 1 && poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, -1) != 1)
		exit(4);
	if (waits == 2) {
		ep = epoll_create1(0);
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) || epoll_wait(ep, &event, 1, -1) != 1)
			exit(5);
		close(ep);
	}
	if (!waits && read(fd, &times, 8) != 8)
		exit(6);
	close(fd);
	return start + WAIT;
}

static volatile sig_atomic_t rang;
static void ring(int sig) { (void)sig; rang = 1; }

static long long alarms(void)
{
	struct itimerval in = { { 0, 0 }, { 0, WAIT / 1000 } };
	sigset_t blocked, old;
	long long start;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sigprocmask(SIG_BLOCK, &blocked, &old);
	signal(SIGALRM, ring);
	rang = 0;
	start = now(CLOCK_MONOTONIC);
	setitimer(ITIMER_REAL, &in, NULL);
	while (!rang)
		sigsuspend(&old);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return start + WAIT;
}

static long long computing(void)
{
	struct itimerval in = { { 0, 0 }, { 0, WAIT / 1000 } };
	long long start;

	signal(SIGALRM, ring);
	rang = 0;
	start = now(CLOCK_MONOTONIC);
	setitimer(ITIMER_REAL, &in, NULL);
	while (!rang)
		;
	return start + WAIT;
}

static long long queued(int absolute)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	sigset_t wanted;
	timer_t id;
	siginfo_t info;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	timer_create(CLOCK_MONOTONIC, &event, &id);
	long long start = now(CLOCK_MONOTONIC);
	struct itimerspec at = { { 0, 0 }, SPEC(absolute ? start + WAIT : WAIT) };
	timer_settime(id, absolute ? TIMER_ABSTIME : 0, &at, NULL);
	if (sigwaitinfo(&wanted, &info) != SIGRTMIN)
		exit(7);
	timer_delete(id);
	return start + WAIT;
}

/* A child sleeps, and tells by a pipe what time it is. */
static long long child(void)
{
	long long said;
	int ends[2];

	if (pipe(ends))
		exit(8);
	pid_t pid = fork();
	if (!pid) {
		nanosleep(&(struct timespec)SPEC(WAIT), NULL);
		said = now(CLOCK_MONOTONIC);
		_exit(write(ends[1], &said, 8) != 8);
	}
	if (read(ends[0], &said, 8) != 8)
		exit(9);
	close(ends[0]);
	close(ends[1]);
	waitpid(pid, NULL, 0);
	return said;
}

enum { WAYS = 11 };
static const char *names[WAYS] = {
	"read", "poll", "epoll", "read-until", "poll-until", "realtime-until", "alarm", "computing", "queued", "queued-until", "child"
};

static long long waits(int way)
{
	switch (way) {
	case 0: return timer(CLOCK_MONOTONIC, 0, 0);
	case 1: return timer(CLOCK_MONOTONIC, 0, 1);
	case 2: return timer(CLOCK_MONOTONIC, 0, 2);
	case 3: return timer(CLOCK_MONOTONIC, 1, 0);
	case 4: return timer(CLOCK_MONOTONIC, 1, 1);
	case 5: return timer(CLOCK_REALTIME, 1, 0);
	case 6: return alarms();
	case 7: return computing();
	case 8: return queued(0);
	case 9: return queued(1);
	}
	return child();
}

int main(void)
{
	long long early[WAYS] = { 0 }, most[WAYS] = { 0 }, rounds = 0;

	puts("ready");
	fflush(stdout);
	do {
		for (int way = 0; way < WAYS; way++) {
			long long end = waits(way), lacks = end - now(way == 5 ? CLOCK_REALTIME : CLOCK_MONOTONIC);
			early[way] += lacks > 0;
			most[way] = lacks > most[way] ? lacks : most[way];
		}
		rounds++;
	} while (!poll(&(struct pollfd){ 0, POLLIN, 0 }, 1, 0));
	for (int way = 0; way < WAYS; way++)
		printf("%s %lld %lld %lld\n", names[way], rounds, early[way], most[way]);
	return 0;
}
"""

#: Seconds in which clocks are measured a few times.
A_WHILE = 5.0
SLOW = Line(0.3)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Network]]:
    """Two nodes of which the second was booted long before the first, by other clocks."""
    folder = tmp_path_factory.mktemp("timers")
    made = {1: Clock(folder / "one"), 2: Clock(folder / "two", ahead=1e6, wall=-3600)}
    with cluster.lab(folder, 2, netns=True) as nodes, link.network(nodes.plan) as net:
        for number, clock in made.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(altered.VARIABLE, str(clock.path))
                nodes.kill_mosd(number)
                nodes.start_mosd(number)
        yield nodes, net


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    (folder / "early.c").write_text(EARLY)
    compile_c(folder / "early.c", folder / "early", CFLAGS)
    return folder / "early"


@pytest.mark.parametrize("way", [(2, 1), (1, 2)], ids=["home seems to be ahead", "home seems to be behind"])
def test_no_timer_is_early(way: tuple[int, int], far: tuple[Lab, Network], early: Path) -> None:
    nodes, net = far
    program = nodes.start(1, "mosrun", "-h", str(early), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert program.stdin is not None and program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        net.ways = {way: SLOW}
        assert nodes.run(1, "mosmigrate", str(program.pid), "2").returncode == 0
        net.ways = {}
        time.sleep(A_WHILE)
        program.stdin.close()
        ended = [line.split() for line in program.stdout.read().decode().splitlines()]
        assert program.wait(60) == 0
    finally:
        net.ways = {}
        program.kill()
    assert len(ended) == 11 and all(int(rounds) > 2 for _, rounds, _, _ in ended)
    assert [line for line in ended if int(line[2])] == [], "ways of waiting, how often, how often early, by how many ns"
