"""Mailboxes (direct_communication(7)): what one is, what its filters mean, and how a program's calls become requests.

    filters.py   struct interested and its kin, byte for byte; which messages match
    model.py     the mailbox: a pure model, queue and rules, without clock and I/O
    body.py      the bytes of a message: inline, or in a memory file that is handed from process to process
    calls.py     a program's read, write, ioctl and close as requests; its descriptors
    stream.py    small reads and writes of streams, together
    left.py      a mailbox whose senders and reader are at one desk
    desk.py      the counter at which tracers and hosts hand in requests to their mosd, and wait

The office itself is in `daemon/office.py`, the way between nodes in `daemon/post.py` (docs/design/mailboxes.md).
"""
