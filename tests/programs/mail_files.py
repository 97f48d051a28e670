"""mail_files.py DIRECTORY ROUNDS: parent and child send each other what lies in their private files, and keep what comes there.

Prints how many letters each has got, and whether its file holds all of them in order.
"""

import os
import sys
import time

directory, rounds = sys.argv[1], int(sys.argv[2])


def letter(who, number):
    return f"{who} {number} ".encode() * (1 + number * 37 % 3000)


def sender(pid):
    return os.open(f"/proc/mosix/mbox/0.0.0.0/{pid}", os.O_WRONLY)


def talk(who, other, box):
    out = os.open(f"{directory}/out", os.O_RDWR | os.O_CREAT, 0o600)
    kept = os.open(f"{directory}/kept", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    them = sender(other)
    for number in range(rounds):
        mine = letter(who, number)
        os.ftruncate(out, 0)
        os.pwrite(out, mine, 0)
        while True:
            try:
                assert os.write(them, os.pread(out, 1 << 20, 0)) == len(mine)
                break
            except PermissionError:  # it has no mailbox yet
                time.sleep(0.01)
        os.write(kept, os.read(box, 1 << 20))
    expected = b"".join(letter(other, number) for number in range(rounds))
    with open(f"{directory}/kept", "rb") as file:
        return file.read() == expected


parent = os.getpid()
child = os.fork()
box = os.open("/proc/mosix/mybox", os.O_CREAT, 0)
whole = talk(os.getpid(), child or parent, box)
if not child:
    os._exit(0 if whole else 1)
print(rounds, whole, os.waitpid(child, 0)[1])
