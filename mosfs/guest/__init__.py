"""The node's side of a guest: a host owns the bodies of one program (and of the children it has here), traced and sandboxed.

::

    home tracer --IMAGE, GO, REPLY, SIGNAL--> host.Host ---- body.Body (one a guest)
                <--CALL, FORK, EXEC, MMAP----     |            task under the strict filter, anonymous memory only
                                                  +-- serve: which calls the body makes itself, which go home

A host is one process with one event loop. It ends with its last body, or when the data channel breaks: then its bodies die with it
(EXITKILL), because their home is lost. A guest's body can reach nothing but its own memory: every other call is trapped,
wherever its instruction pointer is.
"""
