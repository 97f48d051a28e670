"""Mailboxes (direct_communication(7)): what one is, what its filters mean, and how a program's calls become requests.

    filters.py   struct interested and its kin, byte for byte; which messages match
    model.py     the mailbox: a pure model, queue and rules, without clock and I/O
    body.py      the bytes of a message: inline, or in a memory file that is handed from process to process
    calls.py     a program's read, write, ioctl and close as requests; its descriptors
    customer.py  a program that stands in such a call: what a desk asks of it
    requests.py  requests to the post office, and its answers
    waiting.py   who waits for a message, or for room
    stream.py    small reads and writes of streams, together
    borrowed.py  a mailbox that is lent to a desk, because its senders and its reader are there
    handover.py  messages from such a sender to such a reader, without waking Python
    desk.py      the counter at which tracers and hosts hand in requests to their mosd, and wait

The office itself is in `daemon/office.py`, the way between nodes in `daemon/post.py` (docs/design/mailboxes.md).
"""
