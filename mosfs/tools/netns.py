"""Network namespaces for a lab: one a node, one with the bridge between them.

A namespace lives as long as a mount of it: unmounting its file ends it when its last process is gone, and its wires.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from mosfs.tools.options import UserError


def make(bridge: str, nodes: Mapping[str, str]) -> None:
    """Make the namespaces ``bridge`` and ``nodes`` (file to IP), and the wires. UserError with what ip(8) said."""
    for file in (bridge, *nodes):
        with open(file, "wb"):
            pass
        _system(["unshare", f"--net={file}", "true"])
    wires = []
    for number, file in enumerate(nodes):
        wires.append(f"link add v{number} type veth peer name eth0 netns {file}")
        wires.append(f"link set v{number} master br0 up")
    _ip(bridge, ["link add br0 type bridge", "link set br0 up", *wires])
    for file, ip in nodes.items():
        _ip(file, ["link set lo up", f"addr add {ip}/24 dev eth0", "link set eth0 up"])


def _ip(namespace: str, lines: list[str]) -> None:
    _system(["nsenter", f"--net={namespace}", "ip", "-batch", "-"], "\n".join(lines) + "\n")


def _system(command: list[str], text: str = "") -> None:
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed: --netns needs it") from None
    if done.returncode:
        raise UserError(f"--netns: {(done.stderr or command[0]).strip().splitlines()[-1]}")


def enter(namespace: str) -> None:
    """Put the calling process into the network namespace of that file."""
    import ctypes

    with open(namespace, "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):  # CLONE_NEWNET
            raise UserError(f"{namespace}: {os.strerror(ctypes.get_errno())}")
