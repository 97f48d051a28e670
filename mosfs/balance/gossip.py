"""What nodes tell each other about nodes: each knows a little of everybody, and the newest of a few very well.

Every step a node refreshes its own entry and exchanges one message with one node: its own entry and its *window*, the
newest entries it knows. A message costs the same in a cluster of ten nodes and of ten thousand. Sources: the algorithms
of MOSIX's infod and Amar, Barak, Drezner, Okun, "Randomized gossip algorithms ..." (CCPE 21, 2009).

* Each step addresses the live node of which we know the oldest, which makes that entry new: odd steps push, even ones
  pull. That halves the largest age. Who is oldest differs from node to node, so all are addressed about equally often.
* With probability 1/max(5, live) a step tries any node: about one message a step in the whole cluster finds nodes that
  came (back).
* A node that does not answer is dead: urgent news. They go before the window; every sending lowers their priority by
  one and who hears them inherits it, so they spread like an epidemic and then stop.
* Whatever is newer wins. So a newer entry of a dead node revives it, and the order of messages does not matter.

A node is a number here, its place in the map: what is known of it stands in arrays. In a step some thirty places of them
are looked at, scattered over the map, and in a daemon that wakes up twice a second each look misses the caches; a dict of
10,000 nodes missed them three times more often, which was an eighth of the step (targets G2).

No clock and no I/O: ``now`` and births are integers of the caller's clock (the daemon's: milliseconds). Ages travel, not
times (`mosfs.wire.datagram`), so no two clocks need to agree. ``facts`` are opaque bytes; b"" means dead. Python only
touches what is news, so a step costs about 0.2 us for each entry of the window.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from operator import itemgetter
from random import Random

#: (birth, node, facts): what was true of ``node`` at ``birth``. Facts b"": it was found dead then.
Entry = tuple[int, int, bytes]

DEAD = b""
NEVER = -(1 << 62)  #: the birth of what is not known
_ALWAYS_NEWER = 1 << 62

#: Entries and the priorities of those among them that are urgent.
Message = tuple[list[Entry], Mapping[int, int]]
NOTHING_URGENT: Mapping[int, int] = {}
_birth = itemgetter(0)

#: The oldest eighth of what is known is sorted at a time, below a limit that a sample of this many entries shows.
_SAMPLE, _SHARE = 32, 8
#: Most entries that become too old in one step; more of them are a sign of our own absence.
_MAX_EXPIRED = 64


class Alive:
    """A set of nodes from which one can be drawn at random, all in constant time. ``places``: where each stands in ``nodes``."""

    __slots__ = ("nodes", "places")

    def __init__(self, nodes: Iterable[int] = ()) -> None:
        self.nodes = list(nodes)
        self.places = {node: at for at, node in enumerate(self.nodes)}

    def __len__(self) -> int:
        return len(self.nodes)

    def __contains__(self, node: int) -> bool:
        return node in self.places

    def add(self, node: int) -> None:
        if node not in self.places:
            self.places[node] = len(self.nodes)
            self.nodes.append(node)

    def discard(self, node: int) -> None:
        at = self.places.pop(node, None)
        if at is not None:
            last = self.nodes.pop()
            if last != node:
                self.nodes[at] = last
                self.places[last] = at


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to address in a step: ``pull`` asks for its message, else it gets ours."""

    node: int
    pull: bool


def priority_of_death(live: int) -> int:
    """How often the news of a death are passed on along one path: floor(2 ln n)."""
    return int(2 * log(max(live, 2)))


class Gossip:
    """What one node knows.

    ``me``: our place among ``size``. ``width``: entries in a message, the own one among them. ``max_age``: an entry older
    than this counts as dead. ``births``: of the newest entry of each node, int64.
    """

    def __init__(
        self, me: int, width: int, max_age: int, size: int, random: Random,
        births: array[int] | None = None, alive: Alive | None = None,
    ) -> None:
        self.me = me
        self.width = width
        self.max_age = max_age
        self.random = random
        self.births = array("q", (NEVER,)) * size if births is None else births
        self.alive = Alive() if alive is None else alive
        self.births[me] = _ALWAYS_NEWER
        self.own: Entry = (0, me, DEAD)
        self._window: list[Entry] = []
        self._news: list[Entry] = []  # since the window was made
        self._expires = NEVER  # nothing is too old before
        self.urgent: dict[int, int] = {}
        self._gone: set[int] = set()  # known, but not alive: so few that a look-up here is cheaper than one in ``alive``
        self._eldest = array("q")  # birth << `_shift` | node, youngest first; what is outdated is skipped
        self._shift = size.bit_length()
        self._odd = False
        self._now = NEVER

    @property
    def window(self) -> list[Entry]:
        """The newest entries, newest first, without our own. Made when it is wanted: that is once a step, news come twice."""
        if self._news:
            entries = self._window + self._news
            entries.sort(key=_birth, reverse=True)
            newest: dict[int, Entry] = {}
            for entry in entries:
                if entry[1] not in newest:
                    newest[entry[1]] = entry
                    if len(newest) >= self.width - 1:
                        break
            self._window, self._news = list(newest.values()), []
        return self._window

    # ------------------------------------------------------------------- a step

    def refresh(self, now: int, facts: bytes) -> list[int]:
        """Make our own entry; returns nodes that are dead from now on because what we know of them is too old.

        If the clock went back, everything is forgotten.
        """
        if now < self._now:
            self._forget()
        self._now = now
        self.own = (now, self.me, facts)
        return self._expire(now)

    def anyone(self) -> int:
        """A node of the map, dead or alive; it may be ourselves."""
        return int(self.random.random() * len(self.births))

    def contact(self) -> Contact | None:
        """Whom to address in this step; None while nobody is known and the map draws ourselves."""
        self._odd = not self._odd
        explores = self.random.random() * max(5, len(self.alive)) < 1
        if not explores and (eldest := self._oldest()) is not None:
            self._eldest.pop()
            node = eldest[1]
        else:
            node = self.anyone()
        return None if node == self.me else Contact(node, pull=not self._odd)

    def message(self) -> Message:
        """Our entry, urgent news, and the newest that we know. Every call counts as a sending."""
        if not self.urgent:
            return [self.own, *self.window], NOTHING_URGENT
        told = sorted(self.urgent.items(), key=lambda item: -item[1])[: self.width - 1]
        news = dict(told)
        entries = [(self.births[node], node, DEAD) for node in news]
        rest = [entry for entry in self.window if entry[1] not in news]
        for node, priority in told:
            if priority > 1:
                self.urgent[node] = priority - 1
            else:
                del self.urgent[node]
        return [self.own, *entries, *rest[: self.width - 1 - len(entries)]], news

    # ------------------------------------------------------------------- news

    def merge(self, entries: Sequence[Entry], urgent: Mapping[int, int] = NOTHING_URGENT) -> list[Entry]:
        """Learn from a message, in which no node stands twice; returns what was new. Nothing may be born after now."""
        births, gone = self.births, self._gone
        fresh = [entry for entry in entries if entry[0] > births[entry[1]]]
        if not fresh:
            return fresh
        for birth, node, facts in fresh:
            if births[node] == NEVER or node in gone or not facts:
                self._changed(node, facts)
            births[node] = birth
        if urgent:
            for _, node, _ in fresh:
                if urgent.get(node, 0) > 1:
                    self.urgent[node] = urgent[node] - 1
        self._news += fresh
        return fresh

    def _changed(self, node: int, facts: bytes) -> None:
        if facts:
            self.alive.add(node)
            self._gone.discard(node)
        else:
            self.alive.discard(node)
            self._gone.add(node)
        self.urgent.pop(node, None)

    def lost(self, node: int, now: int) -> list[Entry]:
        """``node`` does not answer: it is dead for us, which is urgent news if we believed it alive."""
        if node not in self.alive:
            return []
        priority = priority_of_death(len(self.alive) + 1)
        news = self.merge([(now, node, DEAD)])
        self.urgent[node] = priority
        return news

    def renumber(self, me: int, size: int, place: Callable[[int], int]) -> None:
        """The map changed: ``place`` tells where a node of the old one is now, negative for one that left it."""
        now_at = {node: place(node) for node in (*self.alive.nodes, *self._gone)}
        stays = {node: at for node, at in now_at.items() if at >= 0 and at != me}
        births = array("q", (NEVER,)) * size
        for node, at in stays.items():
            births[at] = self.births[node]
        births[me] = _ALWAYS_NEWER
        self._window = [(birth, stays[node], facts) for birth, node, facts in self.window if node in stays]
        self.urgent = {stays[node]: priority for node, priority in self.urgent.items() if node in stays}
        self.alive = Alive(stays[node] for node in self.alive.nodes if node in stays)
        self._gone = {stays[node] for node in self._gone if node in stays}
        self.me, self.births, self.own = me, births, (self.own[0], me, self.own[2])
        self._eldest, self._shift = array("q"), size.bit_length()

    # ------------------------------------------------------------------- inside

    def _oldest(self) -> tuple[int, int] | None:
        """Birth and node of the oldest entry of a live node, at the end of ``_eldest``; None when nobody is alive.

        What is left of the sorted oldest ones *is* the oldest: all others were younger and can only get younger.
        """
        births, gone, shift = self.births, self._gone, self._shift
        which = (1 << shift) - 1
        for attempt in range(2):
            eldest = self._eldest
            while eldest:
                birth, node = eldest[-1] >> shift, eldest[-1] & which
                if births[node] == birth and node not in gone:
                    return birth, node
                eldest.pop()
            if not attempt:
                self._sort_eldest()
        return None

    def _sort_eldest(self) -> None:
        births, nodes, shift = self.births, self.alive.nodes, self._shift
        if len(nodes) > _SAMPLE * 2:
            random, live = self.random.random, len(nodes)
            sample = sorted(births[nodes[int(random() * live)]] for _ in range(_SAMPLE))
            limit = sample[_SAMPLE // _SHARE]
        else:
            limit = _ALWAYS_NEWER - 1
        eldest = [birth << shift | node for node in nodes if (birth := births[node]) <= limit]
        eldest.sort(reverse=True)
        self._eldest = array("q", eldest)

    def _expire(self, now: int) -> list[int]:
        expired: list[int] = []
        if now <= self._expires:
            return expired
        while len(expired) < _MAX_EXPIRED and (oldest := self._oldest()):
            self._expires = oldest[0] + self.max_age
            if now <= self._expires:
                break
            self._eldest.pop()
            self.alive.discard(oldest[1])
            self._gone.add(oldest[1])
            expired.append(oldest[1])
        return expired

    def _forget(self) -> None:
        self.renumber(self.me, len(self.births), lambda node: -1)
        self._expires = NEVER
