"""What another node is to us: one answer for everybody who asks (manual, section 4.3; docs/design/clusters.md)."""

from __future__ import annotations

from dataclasses import dataclass

from mosfs.cluster.partners import MAX_PRIORITY, OWN_PRIORITY


@dataclass(frozen=True, slots=True)
class Relation:
    """``known``: a node of our cluster or of a partner's; ``partner``: that cluster's name, "" for our own.

    ``priority``: of its programs here, 0-65535, the lower the better; ``cango``: our programs may go there; ``cantake``: its
    programs may come here; ``near``: images are not compressed.
    """

    known: bool
    partner: str = ""
    priority: int = MAX_PRIORITY
    cango: bool = False
    cantake: bool = False
    near: bool = False

    @property
    def own(self) -> bool:
        """Is it a node of our own cluster?"""
        return self.known and not self.partner


STRANGER = Relation(False)


def ours(*, near: bool) -> Relation:
    """What a node of our own cluster is to us."""
    return Relation(True, "", OWN_PRIORITY, True, True, near)
