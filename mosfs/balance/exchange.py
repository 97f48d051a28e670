"""Gossip between real nodes: which datagrams a step sends and what each one that comes changes. No clock, no socket.

A step sends one question: our message (push), or the wish for the other's (pull). The answer has the other's own entry,
or its message, and shows that it lives; no answer after a few tries means that it is dead. Whoever is asked by a sender
whose epoch it does not know, answers with a question of its own, and puts what it heard aside until that is answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Protocol

from mosfs.balance.gossip import DEAD, Entry, Gossip
from mosfs.wire.datagram import (
    NOBODY,
    BadDatagram,
    Datagram,
    Fault,
    Flag,
    Item,
    Seen,
    Welcome,
    pack_welcome,
    parts,
    seal,
    unpack_welcome,
    unseal,
)

#: Milliseconds to the next try of a question, and tries before the node is dead.
ANSWER_TIME = 1000
TRIES = 3
#: Milliseconds that a datagram of an unknown epoch waits for its proof; senders and datagrams that may wait.
HELD_FOR = 2000
MAX_HELD, MAX_HELD_EACH = 256, 16
#: Nodes that are asked in a step while no other is known.
LONELY = 16
#: Milliseconds for which nobody of another cluster is believed about a node of ours, since what our own have told of it was true.
OWN_WORD = 5000
#: Who is told by a node that ends.
FAREWELLS = 4

Outgoing = tuple[int, bytes]
"""Address and datagram."""


class Members(Protocol):
    """The nodes of the map. Addresses are numbers; places count the nodes from 0."""

    def __len__(self) -> int: ...
    def place(self, address: int, /) -> int:
        """-1 for what is not in the map."""
    def address(self, place: int, /) -> int: ...
    def places(self, addresses: Iterable[int], /) -> list[int]:
        """As `place`, of many addresses at once."""
    def addresses(self, places: Iterable[int], /) -> list[int]: ...


@dataclass(slots=True)
class Question:
    """What a node was asked, and when (ms) last."""

    number: int
    asked: int
    flags: Flag
    tries: int = 1


@dataclass(slots=True)
class Held:
    """Datagrams of an unproved epoch, and the question that proves it."""

    question: int
    since: int
    datagrams: list[Datagram] = field(default_factory=list)


@dataclass(slots=True)
class Exchange:
    """One node's side of all exchanges. Nodes are addresses here, and places of ``members`` in the gossip.

    ``welcome``: what we say to a node of its programs here, None for nothing; ``told`` gets what a node says of ours. ``news``
    gets what was new, with addresses and our clock's births. ``counters``: sent, received, bytes of both, and for each `Fault`
    how often it came. ``own``: is a node of our own cluster? None while there is no other.
    """

    me: int
    gossip: Gossip
    members: Members
    key: bytes
    news: Callable[[Sequence[Entry]], None]
    secrets: Random = field(default_factory=SystemRandom)
    counters: Counter[str] = field(default_factory=Counter)
    epoch: int = 0
    welcome: Callable[[int], Welcome | None] = lambda node: None
    told: Callable[[int, Welcome], None] = lambda node, welcome: None
    own: Callable[[int], bool] | None = None
    _own_word: dict[int, int] = field(default_factory=dict)  # places of our own: birth of what one of ours told last
    _counter: int = 0
    _asked: dict[int, Question] = field(default_factory=dict)
    _seen: dict[int, Seen] = field(default_factory=dict)
    _held: dict[int, Held] = field(default_factory=dict)
    _last_step: int = 0
    _looked: int = 0

    def __post_init__(self) -> None:
        self.epoch = self.epoch or self._number()

    def tell_apart(self, own: Callable[[int], bool] | None) -> None:
        """Which nodes are of our own cluster, from now on, and with the places of now."""
        self.own = own
        self._own_word.clear()

    # ------------------------------------------------------------------- sending

    def refresh(self, now: int, facts: bytes) -> None:
        """What is true of us now. To be called before anything else."""
        if dead := self.gossip.refresh(now, facts):
            self._tell([(self.gossip.births[node], node, DEAD) for node in dead])

    def step(self, now: int) -> list[Outgoing]:
        """Once a step, after `refresh`: questions again that were not answered, and one new one."""
        gossip = self.gossip
        out: list[Outgoing] = []
        self._again(now, out)
        for node in [node for node, held in self._held.items() if now - held.since > HELD_FOR]:
            del self._held[node]
        if gossip.alive:
            if contact := gossip.contact():
                node = self.members.address(contact.node)
                if node not in self._asked:
                    self._ask(now, node, Flag.WANTS_WINDOW if contact.pull else Flag.NONE, out)
            self._looked = 0
        else:
            strangers = set(self._strangers()) - {gossip.me}
            for node in set(self.members.addresses(strangers)) - self._asked.keys():
                self._ask(now, node, Flag.WANTS_WINDOW, out)
        self._last_step = now
        return out

    def _strangers(self) -> Iterator[int]:
        """Whom to ask while nobody is known: nodes of the map that are ever farther from us, and as many at random."""
        for _ in range(LONELY // 2):
            self._looked += 1
            distance = (self._looked + 1) // 2
            yield (self.gossip.me + (distance if self._looked % 2 else -distance)) % len(self.members)
            yield self.gossip.anyone()

    def farewell(self, now: int) -> list[Outgoing]:
        """Our own death, for a few nodes that will pass it on."""
        gossip = self.gossip
        items = [(self.me, 0, 2 * FAREWELLS, DEAD)]
        nodes = gossip.random.sample(gossip.alive.nodes, min(FAREWELLS, len(gossip.alive)))
        return [self._outgoing(node, items) for node in self.members.addresses(nodes)]

    def _again(self, now: int, out: list[Outgoing]) -> None:
        """Unanswered questions: asked again, or the node is dead. After a pause of our own nobody else is to blame."""
        paused = now - self._last_step > 2 * ANSWER_TIME
        for node, question in list(self._asked.items()):
            if paused:
                question.asked = now
            elif now - question.asked >= ANSWER_TIME:
                place = self.members.place(node)
                if place not in self.gossip.alive:
                    del self._asked[node]
                elif question.tries < TRIES:
                    question.asked, question.tries = now, question.tries + 1
                    out.append(self._outgoing(node, self._own(now), question=question.number, flags=question.flags))
                else:
                    del self._asked[node]
                    self.counters["lost"] += 1
                    self._tell(self.gossip.lost(place, now))

    def _ask(self, now: int, node: int, flags: Flag, out: list[Outgoing]) -> None:
        question = self._asked[node] = Question(self._number(), now, flags)
        items = self._with_welcome(node, self._own(now) if flags else self._message(now))
        for at, part in enumerate(parts(items)):
            out.append(self._outgoing(node, part, question=0 if at else question.number, flags=flags))

    def _outgoing(
        self, node: int, items: Sequence[Item], *, question: int = 0, echo: int = 0, flags: Flag = Flag.NONE
    ) -> Outgoing:
        self._counter += 1
        data = seal(Datagram(self.me, self.epoch, self._counter, question, echo, flags, items), self.key)
        self.counters["sent"] += 1
        self.counters["bytes_sent"] += len(data)
        return node, data

    def _with_welcome(self, node: int, items: list[Item]) -> list[Item]:
        welcome = self.welcome(node)
        return items if welcome is None else [pack_welcome(welcome), *items]

    def _own(self, now: int) -> list[Item]:
        birth, _, facts = self.gossip.own
        return [(self.me, now - birth, 0, facts)]

    def _message(self, now: int) -> list[Item]:
        (_, *others), urgent = self.gossip.message()
        addresses = self.members.addresses([place for _, place, _ in others])
        return self._own(now) + [
            (address, now - birth, urgent.get(place, 0), facts)
            for address, (birth, place, facts) in zip(addresses, others, strict=True)
        ]

    def _tell(self, entries: Sequence[Entry]) -> None:
        addresses = self.members.addresses([place for _, place, _ in entries])
        self.news([(birth, address, facts) for address, (birth, _, facts) in zip(addresses, entries, strict=True)])

    def _number(self) -> int:
        return self.secrets.getrandbits(64) or 1

    # ------------------------------------------------------------------- receiving

    def receive(self, now: int, source: int, data: bytes) -> list[Outgoing]:
        """One datagram from the address ``source``, an alias turned into its node; returns the answer.

        `BadDatagram` for one that changes nothing; it is counted already.
        """
        self.counters["received"] += 1
        self.counters["bytes_received"] += len(data)
        try:
            datagram = unseal(data, self.key)
            sender = datagram.sender
            if sender != source or sender == self.me or self.members.place(sender) < 0:
                raise BadDatagram(Fault.STRANGER)
            proven = self._proven(sender, datagram)
            if not proven and not self._hold(now, datagram):
                raise BadDatagram(Fault.UNPROVEN)
        except BadDatagram as error:
            self.counters[error.fault.value] += 1
            raise
        if proven:
            for late in self._released(sender, datagram.epoch):
                self._learn(now, late)
            self._learn(now, datagram)
        return list(self._answer(now, datagram, proven))

    def _proven(self, sender: int, datagram: Datagram) -> bool:
        """Is it certainly new? False: we do not know its epoch. `BadDatagram` when it came before."""
        asked, held, seen = self._asked.get(sender), self._held.get(sender), self._seen.get(sender)
        if datagram.echo and (
            (asked and asked.number == datagram.echo) or (held and held.question == datagram.echo)
        ):
            if asked and asked.number == datagram.echo:
                del self._asked[sender]
            if seen is None or seen.epoch != datagram.epoch:
                self._seen[sender] = Seen(datagram.epoch, datagram.counter)
                return True
        if seen is None or seen.epoch != datagram.epoch:
            return False
        if not seen.take(datagram.counter):
            raise BadDatagram(Fault.REPLAYED)
        return True

    def _hold(self, now: int, datagram: Datagram) -> bool:
        """Put it aside until its epoch is proved; False when there is no room."""
        held = self._held.get(datagram.sender)
        if held is None:
            if len(self._held) >= MAX_HELD or not datagram.question:
                return False
            held = self._held[datagram.sender] = Held(self._number(), now)
        if len(held.datagrams) >= MAX_HELD_EACH:
            return False
        held.datagrams.append(datagram)
        return True

    def _released(self, sender: int, epoch: int) -> Iterator[Datagram]:
        """What was put aside of an epoch that is proved now."""
        held = self._held.pop(sender, None)
        for datagram in held.datagrams if held else ():
            if datagram.epoch == epoch and self._seen[sender].take(datagram.counter):
                yield datagram

    def _learn(self, now: int, datagram: Datagram) -> None:
        entries, urgent = [], {}
        for item in datagram.items:
            if item[0] == NOBODY:
                self.told(datagram.sender, unpack_welcome(item))
        places = self.members.places([item[0] for item in datagram.items])
        for place, (_, age, priority, facts) in zip(places, datagram.items, strict=True):
            if age < 0:
                self.counters[Fault.FUTURE.value] += 1
            elif place >= 0 and (self.own is None or self._believed(now, datagram.sender, place, age)):
                entries.append((now - age, place, facts))
                if priority:
                    urgent[place] = priority
        if fresh := self.gossip.merge(entries, urgent):
            self._tell(fresh)

    def _believed(self, now: int, sender: int, place: int, age: int) -> bool:
        """Our own nodes are, about everybody; others not about ours while one of ours has told of it lately."""
        assert self.own is not None
        if not self.own(sender):
            return now - self._own_word.get(place, -OWN_WORD) >= OWN_WORD
        if self.own(self.members.address(place)):
            self._own_word[place] = max(self._own_word.get(place, now - age), now - age)
        return True

    def _answer(self, now: int, datagram: Datagram, proven: bool) -> Iterator[Outgoing]:
        """To a question: our entry or our message; to one that is not proved, a question as well."""
        if not datagram.question:
            return
        held = None if proven else self._held[datagram.sender]
        items = self._message(now) if Flag.WANTS_WINDOW in datagram.flags else self._own(now)
        items = self._with_welcome(datagram.sender, items)
        for at, part in enumerate(parts(items)):
            question = held.question if held and not at else 0
            yield self._outgoing(datagram.sender, part, question=question, echo=datagram.question)
