"""The tree of files that a node shows, as pure data: which files there are, who may use them, what they say.

    table.py   control files of a program: name, direction, range; the tracer's open("/proc/self/NAME") reads it too
    node.py    the switches, questions and tables of the folder node/
    tree.py    the folders and files made from a World (`mosfs.node`)

Nothing here does input or output, and nothing waits: a FUSE handler is a function call into this package.
"""
