"""How the outcome of an order is told, of a move, a checkpoint, freezing, or reading the configuration.

Messages (`wire.messages.ProcState`) and files of the tree (``move``, ``checkpointed``, ``freezing``, ``node/reload``) have the
number of the order and `OK`, or why it was not carried out; while it is under way, messages have "", files `UNDER_WAY`.
"""

OK = "ok"
UNDER_WAY = "..."
