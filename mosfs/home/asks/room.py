"""The room `home.asks`: what programs ask by calls at home."""

from __future__ import annotations

from mosfs.home.asks.controls import Controls
from mosfs.home.asks.debugged import Debugged
from mosfs.home.asks.filters import Filters
from mosfs.home.asks.mail import Mails
from mosfs.home.asks.mail_opens import MailOpens
from mosfs.home.asks.opens import Opens
from mosfs.home.asks.policy import Policy
from mosfs.home.asks.private import Private
from mosfs.home.asks.relatives import Relatives
from mosfs.home.ports import Tree


class AsksRoom:
    """Its parts, one field each (`ports.AsksParts`). A tracer has all rooms, so that a part is asked as ``tracer.part``."""

    def __init__(self, tracer: Tree) -> None:
        self.opens = Opens(tracer)
        self.controls = Controls(tracer)
        self.policy = Policy(tracer)
        self.debugged = Debugged(tracer)
        self.filters = Filters(tracer)
        self.relatives = Relatives(tracer)
        self.mails = Mails(tracer)
        self.mail_opens = MailOpens(tracer, self.mails)
        self.private = Private(tracer)
