"""Direct communication (direct_communication(7)) from Python: a child on another node answers questions, by mailboxes.

    mosrun python3 examples/mailbox.py 2
"""

import os
import sys

from mosfs import api

MYBOX = "/proc/mosix/mybox"


def send_to(pid: int) -> int:
    return os.open(f"/proc/mosix/mbox/0.0.0.0/{pid}", os.O_WRONLY)


def answer(node: int) -> None:
    """The child: each message is a word, its answer is that word in capitals and where it was made. b"" is the end."""
    inbox, parent = os.open(MYBOX, os.O_RDWR | os.O_CREAT, 0), send_to(os.getppid())
    os.write(parent, b"ready")
    api.migrate(node)
    while word := os.read(inbox, 4096):
        os.write(parent, word.upper() + b" on node " + str(api.where()).encode())


def main() -> int:
    try:
        inbox = os.open(MYBOX, os.O_RDWR | os.O_CREAT, 0)
    except FileNotFoundError:
        sys.exit("mailboxes are for programs under mosrun: mosrun python3 examples/mailbox.py 2")
    child = os.fork()
    if not child:
        answer(int(sys.argv[1]))
        os._exit(0)
    assert os.read(inbox, 100) == b"ready"
    them = send_to(child)
    for word in (b"hello", b"world"):
        os.write(them, word)
        print(os.read(inbox, 4096).decode())
    os.write(them, b"")
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    sys.exit(main())
