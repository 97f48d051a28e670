"""Whose programs may come to this node and who must leave: clusters, priorities, numbers (manual, section 4.3;
docs/design/clusters.md).

What runs here has one priority at a time. Its own programs and its cluster's have 0, a partner's what the administrator says. As
soon as something better runs or is let in, everything worse leaves.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from mosfs.cluster.partners import OWN_PRIORITY
from mosfs.cluster.relation import Relation
from mosfs.node.multi import NOTHING
from mosfs.node.nodes import Bit
from mosfs.node.programs import FROZEN, Guest, away
from mosfs.node.world import World
from mosfs.wire.messages import PeerStatus
from mosfs.wire.place import Place


def running(world: World) -> int:
    """The best priority of what runs here, `NOTHING` if nothing does. One that is just being started may begin elsewhere."""
    if any(program.state.state == Place.HOME and not program.state.where for program in world.programs.values()):
        return OWN_PRIORITY
    return min((priority_of(world, guest) for guest in world.guests.values()), default=NOTHING)


def priority_of(world: World, guest: Guest) -> int:
    return world.map.relation(guest.state.home).priority


def level(world: World) -> int:
    """The worst priority that may come here now."""
    return world.multi.retained.level(running(world), world.clock(), world.multi.retain)


def lent(world: World, priority: int, coming: Iterable[str]) -> int:
    """How many guests of other clusters are here, or on their way here from the homes ``coming``, whose priority is not worse
    than ``priority``."""
    homes = *(guest.state.home for guest in world.guests.values()), *coming
    return sum(not relation.own and relation.priority <= priority for relation in map(world.map.relation, homes))


def full(world: World, relation: Relation, coming: Iterable[str] = ()) -> bool:
    """Have as many guests of other clusters come as may, of those that one of this cluster would not drive out?"""
    most = world.multi.max_guests
    return not relation.own and most is not None and lent(world, relation.priority, coming) >= most


def unwanted(world: World, relation: Relation, coming: Iterable[str] = ()) -> str:
    """Why a program from a node with this ``relation`` may not come now, for the log; "" if it may. ``coming``: the homes of
    those that have been let in and are not here yet."""
    reasons = {
        "its node is not in our map": not relation.known,
        f"the cluster {relation.partner} may not send programs here": not relation.cantake,
        f"programs of priority {world.multi.retained.priority} have precedence over {relation.priority}":
            relation.priority > level(world),
        f"at most {world.multi.max_guests} guests of other clusters may be here": full(world, relation, coming),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def outranked(world: World, coming: int = NOTHING) -> list[Guest]:
    """The guests that have to leave: those worse than what runs here, or than ``coming``, a priority of which one has been let
    in; and of other clusters' those that are too many, the worst and the latest first."""
    best = min(running(world), coming)
    worse = [guest for guest in world.guests.values() if priority_of(world, guest) > best]
    most = world.multi.max_guests
    if most is None:
        return worse
    others = [guest for guest in world.guests.values() if not world.map.relation(guest.state.home).own]
    others.sort(key=lambda guest: (priority_of(world, guest), guest.state.since))
    surplus = [guest for guest in others[most:] if guest not in worse]
    return worse + surplus


def privileged_mb(world: World, priority: int) -> int:
    """Megabytes of guests that would leave if a program of ``priority`` came."""
    return sum(size(guest) for guest in world.guests.values() if priority_of(world, guest) > priority)


def size(guest: Guest) -> int:
    usage = guest.balanced.usage
    return usage.size_mb if usage is not None else 0


def standing(relation: Relation) -> int:
    """What programs from a node with this ``relation`` are here: their priority, -1 when they may not come at all."""
    return relation.priority if relation.cantake else -1


def names(guests: Iterable[Guest]) -> str:
    """How the log calls these guests."""
    return ", ".join(f"{guest.state.comm} (PID {guest.state.origpid} of {guest.state.home})" for guest in guests)


def counted(world: World, status: PeerStatus) -> PeerStatus:
    """``status`` with what a world knows better than any probe: the switches, and how many programs are here."""
    here = sum(not away(program.state) for program in world.programs.values())
    on = world.switches
    bits = Bit.STAY * on.stay | Bit.LSTAY * on.lstay | Bit.BLOCK * on.blocked
    return replace(
        status, guests=len(world.guests), blocked=on.blocked, bits=int(bits), processes=here + len(world.guests),
        frozen=sum(program.state.frozen in FROZEN for program in world.programs.values()), level=level(world),
    )
