"""vfork children that are away and make a call that only home can make: they come home with a copy of their parent's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab
from tests.progs import CFLAGS, compile_c

pytestmark = pytest.mark.root

#: As a debugger starts a program. Both children ask to be traced, which is done at home; one ends, the other executes a program.
SOURCE = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static char *memory;
static int executes;

static int child(void)
{
	memory[5000] = 'c';
	if (ptrace(PTRACE_TRACEME, 0, 0, 0))
		_exit(errno);
	if (memory[5000] != 'c' || memory[9000] != 'p')
		_exit(100);
	if (executes)
		execl("/bin/sh", "sh", "-c", "exit 8", NULL);
	_exit(7);
}

int main(void)
{
	int status;
	pid_t pid;

	memory = calloc(1, 10000);
	memory[9000] = 'p';
	for (executes = 0; executes < 2; executes++) {
		pid = vfork();
		if (!pid)
			child();
		if (waitpid(pid, &status, 0) != pid)
			return 1;
		if (WIFSTOPPED(status)) {
			printf("stopped by %d\n", WSTOPSIG(status));
			if (ptrace(PTRACE_CONT, pid, 0, 0) || waitpid(pid, &status, 0) != pid)
				return 2;
		}
		printf("%d %d\n", WEXITSTATUS(status), WTERMSIG(status));
		printf("%c%c\n", memory[5000], memory[9000]);
	}
	return 0;
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


def test_a_vfork_child_comes_home_for_a_call(nodes: Lab, tmp_path: Path) -> None:
    (tmp_path / "debugs.c").write_text(SOURCE)
    binary = tmp_path / "debugs"
    compile_c(tmp_path / "debugs.c", binary, CFLAGS)
    done = nodes.run(1, "mosrun", "-2", "--stay-home", str(binary))
    assert (done.stdout, done.returncode) == ("7 0\ncp\nstopped by 5\n8 0\ncp\n", 0), done.stderr
