"""The home side: a tracer owns one mosrun tree; each program that is away leaves its deputy here.

::

    mosd --Command--> tracer.Tracer ---- program.Program (one a process: at home, leaving, away, returning)
                          |                   |
                          |                   +-- deputy.Deputy: the original task, executes forwarded calls
                          +-- channel to each host: CALL, FORK, EXEC ... / REPLY, SIGNAL ...

The tracer coordinates every move (`docs/design/migration.md`). It is one process with one event loop; it never waits for another
node except while an image passes.
"""
