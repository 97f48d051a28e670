"""Where a node keeps its things and on which ports it listens (`docs/design/protocols.md`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.words import decimal


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The names below one MOSIX_ROOT, each an absolute path.

    ``root`` may be relative: it is made absolute at once, because daemons change their directory. "" means ``/``.
    """

    root: str = "/"

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.path.abspath(self.root or "/"))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> NodePaths:
        """The node that MOSIX_ROOT names; ``/`` without it."""
        return cls(environ.get("MOSIX_ROOT", ""))

    def _below(self, name: str) -> str:
        return os.path.join(self.root, name)

    @property
    def etc(self) -> str:
        """The administrator's files."""
        return self._below("etc/mosix")

    @property
    def mosix_map(self) -> str:
        return self._below("etc/mosix/mosix.map")

    @property
    def userview_map(self) -> str:
        return self._below("etc/mosix/userview.map")

    @property
    def secret(self) -> str:
        return self._below("etc/mosix/secret")

    @property
    def speed(self) -> str:
        return self._below("etc/mosix/speed")

    @property
    def probe(self) -> str:
        """How load and memory are measured, when not as usual (`mosfs.balance.probe`); for labs and tests."""
        return self._below("etc/mosix/probe")

    @property
    def mosip(self) -> str:
        return self._below("etc/mosix/mosip")

    @property
    def private_conf(self) -> str:
        return self._below("etc/mosix/private.conf")

    @property
    def guest_uids(self) -> str:
        return self._below("etc/mosix/guestuids")

    @property
    def level(self) -> str:
        """The processor that programs are started for when mosrun does not say."""
        return self._below("etc/mosix/cpu")

    @property
    def partners(self) -> str:
        """A file for each partner-cluster."""
        return self._below("etc/mosix/partners")

    @property
    def max_guests(self) -> str:
        return self._below("etc/mosix/maxguests")

    @property
    def retain(self) -> str:
        return self._below("etc/mosix/retainpri")

    @property
    def isolated(self) -> str:
        """There while the node is isolated from the multi-cluster (mosctl(1), isolate)."""
        return self._below("var/mosix/isolated")

    @property
    def job(self) -> str:
        """There while mos_in_job(1), and not mosix.map and partners/, says who is in our cluster; a reboot ends it."""
        return self._below("run/mosd/job")

    @property
    def private(self) -> str:
        """Private temporary files, where private.conf does not say otherwise."""
        return self._below("private")

    @property
    def mount(self) -> str:
        """The FUSE mount: what programs know as ``/proc/mosix``."""
        return self._below("run/mosix")

    @property
    def run(self) -> str:
        """Run-time directory of mosd."""
        return self._below("run/mosd")

    @property
    def socket(self) -> str:
        """The control socket. A Unix address has room for 107 bytes, so MOSIX_ROOT must not be much longer than 90."""
        return self._below("run/mosd/sock")

    @property
    def pid(self) -> str:
        """PID of the running mosd, which keeps the file locked."""
        return self._below("run/mosd/pid")

    @property
    def log(self) -> str:
        """Log of mosd, its fork server, the tracers and hosts."""
        return self._below("var/log/mosd.log")

    @property
    def state(self) -> str:
        """What is kept over restarts."""
        return self._below("var/mosix")


@dataclass(frozen=True, slots=True)
class Ports:
    """Manual, chapter 3 (252 and 253 TCP, 249 and 253 UDP), settable for nodes without root.

    ``migrate`` TCP: peer links and data channels; ``post`` TCP: post office; ``gossip`` and ``discover`` UDP.
    """

    migrate: int = 253
    post: int = 252
    gossip: int = 249
    discover: int = 253

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Ports:
        """MOSIX_PORT_MIGRATE, _POST, _GOSSIP and _DISCOVER; the manual's number for each one that is not set.

        ConfigError, with the variable as file, unless a value is 1-65535.
        """
        chosen = {field.name: environ.get(f"MOSIX_PORT_{field.name.upper()}", "") for field in fields(cls)}
        return cls(**{name: _port(f"MOSIX_PORT_{name.upper()}", text) for name, text in chosen.items() if text})


def _port(variable: str, text: str) -> int:
    port = decimal(text, 1, 65535)
    if port is None:
        raise ConfigError(variable, "not a port (1-65535)", value=text)
    return port
