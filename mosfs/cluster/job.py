"""The temporary cluster of an external job, as mos_in_job(1) makes it (manual, chapter 8; docs/slurm.md).

A world file says which nodes there are:

    HOST [COUNT [p]]      COUNT nodes (1 if that is not said) from HOST (IP or host name); p: images are not compressed

What is in force is a file of the run-time directory, whose first line comes before those of a world file, with IPs only:

    cluster IP[,IP...]    the nodes of the job: our cluster; to the others ours may go, and theirs may not come
    alone IP              we are a cluster of our own: theirs may come, and ours may not go
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mosfs.cluster.address import Resolver, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import Position, data_lines, find, sorted_apart
from mosfs.cluster.mosix_map import MAX_COUNT, NodeRange, RangeLine
from mosfs.cluster.partners import DEFAULT_PRIORITY, PartnerFile, PartnerRange

#: The name of the cluster that all others form.
WORLD = "world"
CLUSTER, ALONE = "cluster", "alone"


@dataclass(frozen=True, slots=True)
class Job:
    """``own``: the addresses of our cluster, sorted, at least one; ``world``: all nodes, sorted and apart; ``alone``: no job is
    here, so we serve those of others."""

    own: tuple[int, ...]
    world: tuple[NodeRange, ...]
    alone: bool

    @property
    def lines(self) -> tuple[RangeLine, ...]:
        """Our cluster, as lines of mosix.map: a node each."""
        return tuple(RangeLine(to_ip(address), 1, self._near(address)) for address in self.own)

    @property
    def partners(self) -> dict[str, PartnerFile]:
        """The rest of the world, as files of partners/: one, or none if there is no rest."""
        rest = tuple(PartnerRange(to_ip(r.first), r.count, r.near) for r in without(self.world, self.own))
        what = "nodes that jobs elsewhere have" if self.alone else "nodes outside of the job"
        return {WORLD: PartnerFile(what, DEFAULT_PRIORITY, not self.alone, self.alone, rest)} if rest else {}

    def _near(self, address: int) -> bool:
        found = find(self.world, address)
        return found is not None and found.near


def parse_world(text: str, resolver: Resolver, file: str = "world-file") -> tuple[NodeRange, ...]:
    """The nodes of a world file, sorted and apart. ConfigError at the first wrong line, and when there is none."""
    spans = [_parse_range(position, line, resolver) for position, line in data_lines(file, text)]
    if not spans:
        raise ConfigError(file, "no nodes")
    return sorted_apart(spans)


def parse_own(text: str, resolver: Resolver, file: str = "own-cluster") -> tuple[int, ...]:
    """The addresses of a list of IPs and host names, which commas separate: sorted, each once. ConfigError."""
    position = Position(file, 0)
    words = text.split(",")
    if not all(word.strip() for word in words):
        raise position.error(text, "a list of nodes is HOST[,HOST...]")
    return tuple(sorted({position.address(word.strip(), resolver) for word in words}))


def parse_job(text: str, file: str) -> Job:
    """What `print_job` wrote. ConfigError for anything else."""
    head, _, rest = text.partition("\n")
    match head.split(" "):
        case [mode, own] if mode in (CLUSTER, ALONE):
            return Job(parse_own(own, _no_names, file), parse_world(f"\n{rest}", _no_names, file), mode == ALONE)
        case _:
            raise Position(file, 1).error(head, "line 1 is: cluster or alone, and the nodes of our cluster")


def print_job(job: Job) -> str:
    """The text of which `parse_job` makes ``job``."""
    ranges = (RangeLine(to_ip(r.first), r.count, r.near) for r in job.world)
    head = f"{ALONE if job.alone else CLUSTER} {','.join(map(to_ip, job.own))}"
    return "".join(f"{line}\n" for line in (head, *ranges))


def without(ranges: Iterable[NodeRange], holes: Iterable[int]) -> list[NodeRange]:
    """The ranges less the addresses ``holes``, which are sorted."""
    left = []
    holes = list(holes)
    for span in ranges:
        first, end = span.first, span.first + span.count
        for hole in (hole for hole in holes if span.first <= hole < end):
            if first < hole:
                left.append(NodeRange(first, hole - first, span.near))
            first = hole + 1
        if first < end:
            left.append(NodeRange(first, end - first, span.near))
    return left


def _parse_range(position: Position, text: str, resolver: Resolver) -> tuple[NodeRange, Position, str]:
    match text.split():
        case [host]:
            count, near = 1, False
        case [host, number]:
            count, near = position.number(number, 1, MAX_COUNT), False
        case [host, number, "p"]:
            count, near = position.number(number, 1, MAX_COUNT), True
        case _:
            raise position.error(text, "a line is: IP or host-name, and perhaps number of nodes, and perhaps p")
    return NodeRange(position.address(host, resolver, count), count, near), position, text


def _no_names(name: str) -> None:
    """The resolver where only an IP may stand."""
