"""In whose name a node may send messages (docs/design/security.md): its own programs', and its guests', as their home-node says."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.daemon.room import LAST_PAUSE
from mosfs.mbox.model import Sender
from mosfs.node.world import World
from mosfs.trace.proc import TaskGone, words_of
from mosfs.wire.messages import PostSpeaks

log = logging.getLogger(__name__)

#: Looks, `LAST_PAUSE` apart, until a program must be known to be where its node says: five seconds.
LOOKS = 250
#: Seconds that a home-node's word holds, and how many words are kept.
HOLDS, MOST_HELD = 5.0, 4096


def may_be(pid: int, uid: int, gid: int) -> bool:
    """Can a descriptor of process ``pid`` bear this user and group?

    It bears those that its opener had. Without a way to more rights these are among its own; in a tree of root's they may be any.
    """
    try:
        barred, users, groups = words_of(pid, "NoNewPrivs", "Uid", "Gid")
    except TaskGone:
        return False
    return barred == ["0"] or (str(uid) in users and str(gid) in groups)


def lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


@dataclass(slots=True)
class Senders:
    """``ask`` puts a question to a home-node: its errno value, or OSError when it cannot be reached."""

    world: World
    ask: Callable[[str, PostSpeaks], Awaitable[int]]
    _held: dict[Sender, float] = field(default_factory=dict)

    async def refused(self, sender: Sender) -> int:
        """0 if the node that ``sender.location`` names may send in this name; else an errno value."""
        home, node = to_ip(sender.home), to_ip(sender.location)
        if sender.home == sender.location or self._held.get(sender, 0.0) > trio.current_time():
            return 0
        question = PostSpeaks(sender.pid, node, sender.uid, sender.gid)
        if sender.home == as_unsigned(self.world.ip):
            return await self.vouch(question)
        if not self.world.map.relation(home).known:
            return errno.EACCES
        try:
            result = await self.ask(home, question)
        except OSError as error:
            return error.errno or errno.EIO
        if not result:
            self._hold(sender)
        return result

    def _hold(self, sender: Sender) -> None:
        self._held.pop(sender, None)
        while len(self._held) >= MOST_HELD:
            del self._held[next(iter(self._held))]
        self._held[sender] = trio.current_time() + HOLDS

    async def vouch(self, question: PostSpeaks) -> int:
        """As the home-node: 0 if our program is at that node and may be who it says it is, else EACCES."""
        there = await self.is_there(question.pid, question.node)
        if there and may_be(question.pid, question.uid, question.gid):
            return 0
        log.warning("%s may not send as user %d for PID %d", question.node, question.uid, question.pid)
        return errno.EACCES

    async def is_there(self, pid: int, node: str) -> bool:
        """Is our program ``pid`` at ``node``? Its tracer may be about to tell, and after a start of mosd it is not known yet."""
        for _ in range(LOOKS):
            program = self.world.programs.get(pid)
            if program is not None and program.state.where == node:
                return True
            if program is None and not lives(pid):
                return False
            await trio.sleep(LAST_PAUSE)
        return False
