"""A cluster map that is only a list of addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class FakeMap:
    """``numbers``: what userview.map would say. Every node but ``far`` ones is near."""

    def __init__(self, *ips: str, numbers: Mapping[str, int] | None = None, far: Sequence[str] = ()) -> None:
        self.ips = ips
        self.numbered = dict(numbers or {})
        self.far = far

    def contains(self, ip: str) -> bool:
        return ip in self.ips

    def near(self, ip: str) -> bool:
        return ip not in self.far

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
