"""Control groups for the nodes of a lab (cgroups(7), versions 1 and 2): so that nodes on one machine differ as real ones do.

A lab has one group in each hierarchy that it needs, with a group for each node in it. In version 1 it is made below our own
group; in version 2, where a group with processes may have no children, at the top.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from mosfs.balance.cgroup import folder_of
from mosfs.tools.options import UserError

#: Microseconds in which a quota is used up: so few that a node with a small one is slow, instead of standing still at times;
#: and the least quota.
PERIOD, LEAST_QUOTA = 20_000, 1_000
MEGABYTE = 1 << 20
PATIENCE = 5.0

#: Controller and version to the files of a limit, with what is written there for the number that was given.
_LIMITS: dict[tuple[str, int], dict[str, Callable[[float], object]]] = {
    ("cpu", 1): {"cpu.cfs_period_us": lambda cpus: period(cpus), "cpu.cfs_quota_us": lambda cpus: round(cpus * period(cpus))},
    ("cpu", 2): {"cpu.max": lambda cpus: f"{round(cpus * period(cpus))} {period(cpus)}"},
    ("memory", 1): {"memory.limit_in_bytes": lambda mb: round(mb * MEGABYTE)},
    ("memory", 2): {"memory.max": lambda mb: round(mb * MEGABYTE)},
}

#: A lab gets what its quotas allow even when others want the processors: as one group it would have one program's share.
_WEIGHTS = {("cpu", 1): ("cpu.shares", 1 << 18), ("cpu", 2): ("cpu.weight", 10_000)}


def period(cpus: float) -> int:
    return max(PERIOD, round(LEAST_QUOTA / cpus))


def lab_group(controller: str, name: str) -> str:
    """The folder of the lab called ``name`` in the hierarchy of ``controller``. UserError when there is none."""
    with open("/proc/self/cgroup", encoding="utf-8") as cgroup, open("/proc/self/mounts", encoding="utf-8") as mounts:
        found = folder_of(controller, cgroup.read(), mounts.read())
    if found is None or (found.version == 2 and controller not in _read(f"{found.root}/cgroup.controllers").split()):
        raise UserError(f"this machine has no control groups for {controller}")
    return f"{found.folder if found.version == 1 else found.root}/{name}"


def version_of(folder: str) -> int:
    return 2 if os.path.exists(f"{os.path.dirname(folder)}/cgroup.controllers") else 1


def make(groups: Mapping[str, str], limits: Mapping[str, Mapping[str, float]]) -> None:
    """Make the lab's ``groups`` (controller to folder), and in each the groups of its nodes.

    ``limits``: node to controller to processors or megabytes. UserError when the kernel says no.
    """
    try:
        for controller, folder in groups.items():
            version = version_of(folder)
            os.makedirs(folder, exist_ok=True)
            if version == 2:
                for parent in (os.path.dirname(folder), folder):
                    _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            if weight := _WEIGHTS.get((controller, version)):
                _write(f"{folder}/{weight[0]}", str(weight[1]))
            for node, given in limits.items():
                os.makedirs(f"{folder}/{node}", exist_ok=True)
                if controller in given:
                    for file, value in _LIMITS[controller, version].items():
                        _write(f"{folder}/{node}/{file}", str(value(given[controller])))
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


def entrances(groups: Mapping[str, str], node: str) -> list[str]:
    """The files to which a process writes 0 to be in all groups of the node."""
    return sorted({f"{folder}/{node}/cgroup.procs" for folder in groups.values()})


def enter(groups: Mapping[str, str], node: str) -> None:
    """This process belongs to the node from now on. UserError when it may not."""
    for file in entrances(groups, node):
        try:
            _write(file, "0")
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}") from None


def entering(groups: Mapping[str, str], node: str) -> list[str]:
    """Words to put before a command that shall belong to the node from its start."""
    files = entrances(groups, node)
    return ["/bin/sh", "-c", f'for f in {" ".join(files)}; do echo 0 > "$f" || exit; done; exec "$@"', "sh"] if files else []


def remove(folders: Iterable[str]) -> None:
    """Remove the groups of labs, in which nothing runs any more. UserError when one stays busy."""
    end = time.monotonic() + PATIENCE
    for folder in sorted(set(folders)):
        if not os.path.isdir(folder):
            continue
        inner = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
        for path in [*inner, folder]:
            while True:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    pass
                except OSError as error:  # what has just ended still counts for a moment
                    if time.monotonic() < end:
                        time.sleep(0.02)
                        continue
                    raise UserError(f"{path}: {error.strerror}") from None
                break


def _read(file: str) -> str:
    with suppress(OSError), open(file, encoding="utf-8") as stream:
        return stream.read()
    return ""


def _write(file: str, text: str) -> None:
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(text)
