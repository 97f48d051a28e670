"""The whole configuration of a node as it is used: which nodes there are, what they are called, and who we are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mosfs.abi.levels import NATIVE
from mosfs.cluster.address import Resolver, lookup, system_resolver, to_int, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import FREEZE_CONF, Directory, Freezing, parse_freezing
from mosfs.cluster.job import Job, parse_job
from mosfs.cluster.lines import find, read_text
from mosfs.cluster.local import local_addresses
from mosfs.cluster.mosix_map import AliasLine, MapLine, NodeRange, Nodes, parse_map, validate_map
from mosfs.cluster.mosrun_conf import MOSRUN_CONF, Accounts, Rules, parse_rules, resolved, system_accounts
from mosfs.cluster.partners import Partner, PartnerFile, parse_partner, partner_of, valid_name, validate_partners
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.private_conf import Spaces, default_spaces, parse_private, validate_private
from mosfs.cluster.relation import STRANGER, Relation, ours
from mosfs.cluster.scalars import (
    DEFAULT_GUEST_UIDS,
    DEFAULT_SPEED,
    MaxGuests,
    parse_guest_uids,
    parse_level,
    parse_max_guests,
    parse_mosip,
    parse_retain,
    parse_speed,
)
from mosfs.cluster.secret import read_secret
from mosfs.cluster.userview import MAX_NUMBER, UserView, parse_userview, validate_userview
from mosfs.cluster.words import decimal

T = TypeVar("T")


@dataclass(frozen=True)
class ClusterMap:
    """The nodes of the cluster and their numbers. Addresses are texts ``a.b.c.d``; an alias counts as its node.

    A map may hold tens of thousands of nodes: nothing here lists them, and a look-up is a binary search of the lines.
    """

    table: Nodes
    view: UserView = field(default_factory=UserView)
    resolver: Resolver = field(default=system_resolver, compare=False, repr=False)
    partners: tuple[Partner, ...] = ()

    def __len__(self) -> int:
        """How many nodes the map has room for (holes in ranges are nodes that are down)."""
        return sum(r.count for r in self.table.ranges)

    def nodes(self) -> Iterator[str]:
        """The address of every node of our own cluster, lowest first."""
        for r in self.table.ranges:
            yield from map(to_ip, range(r.first, r.first + r.count))

    def partner_nodes(self) -> Iterator[str]:
        """The address of every node of the partner-clusters, by the clusters' names."""
        for partner in self.partners:
            for r in partner.ranges:
                yield from map(to_ip, range(r.first, r.first + r.count))

    def canonical(self, ip: str) -> str:
        """The address under which the map knows ``ip``: what an alias line says, else ``ip`` itself."""
        address = to_int(ip)
        target = None if address is None else self.table.aliases.get(address)
        return ip if target is None else to_ip(target)

    def relation(self, ip: str) -> Relation:
        """What the node ``ip`` is to us; `STRANGER` for what is not an IP at all."""
        address = to_int(self.canonical(ip))
        if address is None:
            return STRANGER
        if (found := find(self.table.ranges, address)) is not None:
            return ours(near=found.near)
        if (of := partner_of(self.partners, address)) is not None:
            partner, span = of
            return Relation(True, partner.name, partner.priority, partner.cango, partner.cantake, span.near)
        return STRANGER

    def contains(self, ip: str) -> bool:
        """Is ``ip`` a node of our own cluster? False for what is not an IP at all."""
        address = to_int(self.canonical(ip))
        return address is not None and find(self.table.ranges, address) is not None

    def number_of(self, ip: str) -> int | None:
        """The node number that users see; None if userview.map has none."""
        number = self.view.number_of(ip)
        return self.view.number_of(self.canonical(ip)) if number is None else number

    def ip_of(self, number: int) -> str | None:
        """The address of a node number, perhaps of a partner-cluster; None if userview.map does not have it."""
        ip = self.view.ip_of(number)
        return None if ip is None else self.canonical(ip)

    def numbers(self) -> Iterator[tuple[str, int]]:
        """Every (IP, node number) of userview.map, in the order of numbers; other clusters' nodes too."""
        return self.view.numbers()

    def resolve(self, text: str) -> str | None:
        """The node that a user means by a node number, an IP or a host name; None: "not in map" (manual, section 10.5).

        A host name may wait for a name server.
        """
        number = decimal(text, 1, MAX_NUMBER)
        if number is not None:
            ip = self.ip_of(number)
        else:
            address = lookup(text, self.resolver)
            ip = None if address is None else self.canonical(to_ip(address))
        return ip if ip is not None and self.relation(ip).known else None


@dataclass(frozen=True)
class Cluster:
    """What the files of ``/etc/mosix`` say. ``userview`` is also ``map.view``; ``my_ip`` is one of the map's nodes.

    ``max_guests``: of other clusters at the same time, None for any number; ``retain``: seconds after the programs of one priority
    have left before worse ones may come (retainpri)."""

    map: ClusterMap
    userview: UserView
    secret: bytes = field(repr=False)
    speed: int
    my_ip: str
    private: Spaces = field(default_factory=dict)
    guest_uids: range = DEFAULT_GUEST_UIDS
    level: str = NATIVE
    max_guests: int | None = None
    retain: int = 0
    freezing: Freezing = field(default_factory=Freezing)
    rules: Rules = field(default_factory=Rules)


def load(
    paths: NodePaths,
    resolver: Resolver = system_resolver,
    local: Callable[[], Sequence[str]] = local_addresses,
    mosix_map: str = "",
    accounts: Accounts = system_accounts,
) -> Cluster:
    """Read, check and join the files below ``paths``: mosix.map and secret, and, if there, userview.map, speed, mosip,
    private.conf, guestuids, cpu, maxguests, retainpri, partners/, freeze.conf and mosrun.conf.

    ``local`` lists the machine's addresses, asked only when there is no mosip. ``mosix_map``: as in `load_map`. ``accounts``
    says which users the names in mosrun.conf are. ConfigError at the first thing wrong.
    """
    nodes = load_map(paths, mosix_map, resolver)
    try:
        secret = read_secret(paths.secret)
    except OSError as error:
        raise _unreadable(paths.secret, error) from None
    my_ip = own_address(nodes.table, _read_optional(paths.mosip), local, paths.mosip)
    return Cluster(
        nodes, nodes.view, secret, _said(paths.speed, parse_speed, DEFAULT_SPEED), my_ip, load_private(paths),
        _said(paths.guest_uids, parse_guest_uids, DEFAULT_GUEST_UIDS), _said(paths.level, parse_level, NATIVE),
        load_max_guests(paths).most, _said(paths.retain, parse_retain, 0), load_freezing(paths),
        load_rules(paths, accounts),
    )


def load_rules(paths: NodePaths, accounts: Accounts) -> Rules:
    """mosrun.conf; without it nothing is preset, forced or limited."""
    file = os.path.join(paths.etc, MOSRUN_CONF)
    text = _read_optional(file) or ""
    return resolved(parse_rules(text, file), text, file, accounts)


def load_max_guests(paths: NodePaths) -> MaxGuests:
    """The file maxguests; without it any number of guests may come from other clusters."""
    return _said(paths.max_guests, parse_max_guests, MaxGuests())


def read_partners(paths: NodePaths) -> dict[str, PartnerFile]:
    """The files of partners/ by name, as written. ConfigError."""
    try:
        names = sorted(filter(valid_name, os.listdir(paths.partners)))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(paths.partners, error) from None
    return {name: parse_partner(read_text(file), file) for name in names if not os.path.isdir(file := f"{paths.partners}/{name}")}


def load_private(paths: NodePaths) -> Spaces:
    """private.conf; without it the default directory, if that exists."""
    text = _read_optional(paths.private_conf)
    if text is None:
        return default_spaces(paths.private, os.path.isdir)
    return validate_private(parse_private(text, paths.private_conf), paths.private_conf)


def load_freezing(paths: NodePaths) -> Freezing:
    """freeze.conf, with the directory that counts when there are none in it (the manual's /freeze)."""
    file = os.path.join(paths.etc, FREEZE_CONF)
    found = parse_freezing(_read_optional(file) or "", file)
    return found if found.directories else replace(found, directories=(Directory(os.path.join(paths.root, "freeze")),))


def load_map(paths: NodePaths, mosix_map: str = "", resolver: Resolver = system_resolver) -> ClusterMap:
    """Read and check userview.map, mosix.map and partners/. ConfigError.

    ``mosix_map``: another file in the place of mosix.map. Without it a job's cluster (`cluster.job`) goes before mosix.map, of
    which the aliases still hold, and before partners/.
    """
    file = mosix_map or paths.mosix_map
    job = None if mosix_map else load_job(paths)
    if job is None:
        lines: tuple[MapLine, ...] = parse_map(read_text(file), file)
        written = read_partners(paths)
    else:
        written = job.partners
        lines = (*job.lines, *_aliases_in(job.world, _read_optional(file) or "", resolver, file))
    own = validate_map(lines, resolver, file, partner=lambda address: True)
    partners = validate_partners(written, own, resolver, paths.partners)
    table = validate_map(lines, resolver, file, lambda address: partner_of(partners, address) is not None)
    view_text = _read_optional(paths.userview_map) or ""
    view = validate_userview(parse_userview(view_text, paths.userview_map), resolver, paths.userview_map)
    isolated = os.path.lexists(paths.isolated)  # mosctl(1): for us there are no others then
    return ClusterMap(table, view, resolver, () if isolated else partners)


def load_job(paths: NodePaths) -> Job | None:
    """The job that this node is in, or serves; None when mosix.map and partners/ hold. ConfigError."""
    text = _read_optional(paths.job)
    return None if text is None else parse_job(text, paths.job)


def _aliases_in(world: tuple[NodeRange, ...], text: str, resolver: Resolver, file: str) -> Iterator[AliasLine]:
    """The aliases of a map that are other names of nodes of the world."""
    for line in parse_map(text, file):
        if isinstance(line, AliasLine):
            alias, target = to_int(line.alias), lookup(line.host, resolver)
            if target is not None and find(world, target) and (alias is None or not find(world, alias)):
                yield line


def own_address(table: Nodes, mosip_text: str | None, local: Callable[[], Sequence[str]], file: str = "mosip") -> str:
    """Our MOSIX address: what mosip says, else the only one of the machine's addresses in the data lines (mosix(7)).

    ConfigError when that is none or several, or when mosip names an address that is not in the map.
    """
    if mosip_text is not None:
        ip = parse_mosip(mosip_text, file)
        if not _in_ranges(table, ip):
            raise ConfigError(file, "not in mosix.map", line=1, value=ip)
        return ip
    mine = sorted({ip for ip in local() if _in_ranges(table, ip)})
    match mine:
        case [ip]:
            return ip
        case []:
            raise ConfigError(file, "missing, and mosix.map has none of this machine's addresses")
        case _:
            several = " ".join(mine)
            raise ConfigError(file, "missing, and mosix.map has several of this machine's addresses", value=several)


def _in_ranges(table: Nodes, ip: str) -> bool:
    address = to_int(ip)
    return address is not None and find(table.ranges, address) is not None


def _read_optional(file: str) -> str | None:
    """None when there is no such file; a file that is there but cannot be read is an error."""
    return read_text(file) if os.path.lexists(file) else None


def _said(file: str, parse: Callable[[str, str], T], otherwise: T) -> T:
    """What the file says, or ``otherwise`` when there is no such file."""
    text = _read_optional(file)
    return otherwise if text is None else parse(text, file)


def _unreadable(file: str, error: OSError) -> ConfigError:
    return ConfigError(file, error.strerror or str(error))
