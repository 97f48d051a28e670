"""A cluster map that is only a list of addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mosfs.cluster.partners import Partner
from mosfs.cluster.relation import STRANGER, Relation, ours


class FakeMap:
    """``numbers``: what userview.map would say. Every node but ``far`` ones is near. ``others``: nodes of other clusters."""

    def __init__(
        self, *ips: str, numbers: Mapping[str, int] | None = None, far: Sequence[str] = (),
        others: Mapping[str, Relation] | None = None,
    ) -> None:
        self.ips = ips
        self.others = dict(others or {})
        self.numbered = dict(numbers or {})
        self.far = far

    def contains(self, ip: str) -> bool:
        return ip in self.ips

    def relation(self, ip: str) -> Relation:
        return ours(near=ip not in self.far) if ip in self.ips else self.others.get(ip, STRANGER)

    def partner_nodes(self) -> Sequence[str]:
        return list(self.others)

    @property
    def partners(self) -> Sequence[Partner]:
        return [
            Partner(relation.partner, "", relation.priority, relation.cango, relation.cantake, ())
            for relation in self.others.values()
        ]

    def canonical(self, ip: str) -> str:
        return ip

    def nodes(self) -> Sequence[str]:
        return self.ips

    def number_of(self, ip: str) -> int | None:
        return self.numbered.get(ip)

    def numbers(self) -> Sequence[tuple[str, int]]:
        return list(self.numbered.items())

    def ip_of(self, number: int) -> str | None:
        return next((ip for ip, known in self.numbered.items() if known == number), None)
