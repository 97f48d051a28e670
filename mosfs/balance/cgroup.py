"""A node that is a control group (cgroups(7), versions 1 and 2): quota, processes and memory limit of our own one.

A quota of half a processor is one processor of half the speed; one of 1.5 is two of three quarters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from mosfs.balance.source import Memory, Proc, running

MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class GroupFolder:
    """A control group as a folder, and the root of its hierarchy. ``version`` is 1 or 2."""

    folder: str
    root: str
    version: int

    def upwards(self) -> Iterator[str]:
        """The folder and those above it, the root not."""
        folder = self.folder
        while len(folder) > len(self.root):
            yield folder
            folder = os.path.dirname(folder)


def folder_of(controller: str, cgroup: str, mounts: str) -> GroupFolder | None:
    """Where the group with ``controller`` is, by the texts of /proc/self/cgroup and /proc/self/mounts; None if nowhere.

    A controller is either in a hierarchy of version 1 or in that of version 2.
    """
    paths = {}
    for line in cgroup.splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(",") if names else [""], path))
    found = {}
    for line in mounts.splitlines():
        _, point, kind, options = line.split(" ")[:4]
        if kind == "cgroup" and controller in options.split(","):
            found[1] = point
        elif kind == "cgroup2":
            found[2] = point
    for version, name in ((1, controller), (2, "")):
        if version in found and name in paths:
            root = found[version]
            return GroupFolder(os.path.normpath(root + paths[name]), root, version)
    return None


def quota(group: GroupFolder) -> float | None:
    """Processors that the group may use (cpu.max; cpu.cfs_quota_us), the least of it and those above; None: no limit."""
    limits = [limit for folder in group.upwards() if (limit := _quota(folder, group.version)) is not None]
    return min(limits, default=None)


def _quota(folder: str, version: int) -> float | None:
    if version == 2:
        words = _text(folder, "cpu.max").split()
        return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None
    micros, period = _text(folder, "cpu.cfs_quota_us"), _text(folder, "cpu.cfs_period_us")
    return int(micros) / int(period) if micros and period and int(micros) > 0 else None


#: Version to names: limit and use of memory, key of memory.stat that can be had back; limit and use of swap.
_MEMORY = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def limited(group: GroupFolder, machine: Memory) -> Memory:
    """``machine``, or what the group's limit leaves of it."""
    limit_file, use_file, cache = _MEMORY[group.version]
    for folder in group.upwards():
        limit = _text(folder, limit_file)
        if not limit or limit == "max" or int(limit) // MEGABYTE >= machine.total:
            continue
        spare = next((int(line.split()[1]) for line in _text(folder, "memory.stat").splitlines()
                      if line.split()[0] == cache), 0)
        free = max(0, int(limit) - int(_text(folder, use_file) or 0) + spare) // MEGABYTE
        machine = Memory(
            min(free, machine.free), int(limit) // MEGABYTE, *_swap(folder, group.version, machine)
        )
    return machine


def _swap(folder: str, version: int, machine: Memory) -> tuple[int, int]:
    """Free and total swap: version 2 limits it by itself."""
    limit, used = _text(folder, "memory.swap.max"), _text(folder, "memory.swap.current")
    if version == 1 or not limit or limit == "max":
        return machine.swap_free, machine.swap_total
    total = min(int(limit) // MEGABYTE, machine.swap_total)
    return max(0, min(total - int(used or 0) // MEGABYTE, machine.swap_free)), total


def _text(folder: str, name: str) -> str:
    """The content of a file, "" when there is none: controllers may be off."""
    try:
        return Path(folder, name).read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """Our own group. Without a quota or limit it is the machine that counts."""

    machine: Proc
    cpu: GroupFolder | None
    memory_folder: GroupFolder | None

    @classmethod
    def ours(cls, machine: Proc) -> Group:
        cgroup, mounts = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mounts").read_text()
        return cls(machine, folder_of("cpu", cgroup, mounts), folder_of("memory", cgroup, mounts))

    @property
    def _quota(self) -> float | None:
        return quota(self.cpu) if self.cpu else None

    @property
    def ncpus(self) -> int:
        limit = self._quota
        return self.machine.ncpus if limit is None else min(self.machine.ncpus, max(1, ceil(limit)))

    @property
    def speed(self) -> int:
        limit = self._quota
        if limit is None:
            return self.machine.speed
        return max(1, round(self.machine.speed * min(1.0, limit / self.ncpus)))

    def runnable(self) -> int:
        if self.cpu is None or self.cpu.folder == self.cpu.root:
            return self.machine.runnable()
        pids = map(int, _text(self.cpu.folder, "cgroup.procs").split())
        return running(pid for pid in pids if pid != os.getpid())

    def memory(self) -> Memory:
        machine = self.machine.memory()
        return limited(self.memory_folder, machine) if self.memory_folder else machine

    def pages(self) -> int:
        return self.machine.pages()
