"""One image of a stopped program; it goes to a socket, later also to a freeze or checkpoint file.

::

    stopped task --capture--> ImageMeta + pages --channel--> rebuild --> an empty task becomes the program

`image` is the format, `capture` reads it off a task, `pages` streams memory, `rebuild` makes a task from it. None of
them decides whether to move or what follows: that is `home` (the coordinator) and `guest`.
"""
