"""What a system call means once it has stopped: which memory it takes along, which of our rules it meets.

`request` is the one form in which a call travels to its deputy: numbers and blobs of memory, with what comes back of
each. It is made from the table (`marshal`), so the deputy's side needs no knowledge of any call; calls that the
notation cannot describe have a function in `irregular`. `policy` holds the manual's limits.
"""
