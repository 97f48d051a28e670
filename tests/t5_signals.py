"""Signals that only a lab can show: the one that a program asked for at each of its moves (mosix(7), sigmig)."""

from __future__ import annotations

import sys

import pytest

from tests.cluster import lab
from tests.progs import Place, execute, scratch

TOLD = """
import os, signal, time
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
def request(name, value):
    return os.open("/proc/self/" + name, os.O_WRONLY | os.O_CREAT, value)
def moved(node, expected):
    request("migrate", node)
    for _ in range(2000):
        if len(heard) >= expected:
            break
        time.sleep(0.005)
    with open(os.environ["MOUNT"] + "/self/whereami") as where:
        print(where.read().strip(), len(heard))
moved(2, 0)
request("sigmig", signal.SIGUSR1)
moved(3, 1)
moved(0, 2)
moved(2, 3)
request("sigmig", 0)
moved(0, 3)
print(set(heard) == {signal.SIGUSR1})
"""


def test_a_program_is_told_of_its_moves(tmp_path_factory: pytest.TempPathFactory) -> None:
    with lab(tmp_path_factory.mktemp("lab"), 3) as nodes, pytest.MonkeyPatch.context() as patch, scratch() as cwd:
        patch.setenv("PATH", nodes.environ["PATH"])
        outcome = execute(Place.HOME, [sys.executable, "-S", "-c", TOLD], cwd=cwd, root=nodes.plan.root)
    assert (outcome.stdout, outcome.stderr) == ("2 0\n3 1\n0 2\n2 3\n0 3\nTrue\n", "")
