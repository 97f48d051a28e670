"""A program that writes its memory page after page, and before that looks whether each page is as it was left: a checkpoint that is
not of one moment is seen in its first round. It also looks for children that it has not made. It ends when there is a file "stop".

    lockstep.py [apart]      "apart": its memory is none that a child inherits (madvise(2), MADV_DONTFORK)
"""

from __future__ import annotations

import mmap
import os
import struct
import sys

SIZE, PAGE, WALL = 8 << 20, 4096, 0x40000000
word = struct.Struct("<Q")
memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if sys.argv[1:] == ["apart"]:
    memory.madvise(mmap.MADV_DONTFORK)
out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
turn = 0
while not os.path.exists("stop"):
    for at in range(0, SIZE, PAGE):
        assert word.unpack_from(memory, at)[0] == turn, f"page {at // PAGE} in turn {turn}"
        word.pack_into(memory, at, turn + 1)
    turn += 1
    try:
        raise AssertionError(f"a child: {os.waitpid(-1, os.WNOHANG | WALL)}")
    except ChildProcessError:
        pass
    os.write(out, b"%d\n" % turn)
print("all is well")
