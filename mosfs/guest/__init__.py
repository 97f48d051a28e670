"""The node's side of a guest: a host owns the bodies of one program (and of the children it has here), traced and sandboxed.

A host is one process with one event loop. It ends with its last body, or when the data channel breaks: then its bodies die with it
(EXITKILL), because their home is lost. A guest's body can reach nothing but its own memory: every other call is trapped,
wherever its instruction pointer is.

`host.Host` is made of parts, each of which knows only those below it; the few ways back up are protocols (`ports`)::

    host        the loop, what mosd says, the end of bodies
    stops       a stop of a body        from_home   a frame of the tracer         building    an image, or what goes ahead of it
    serve       who makes a call: this table of ways is `abi.syscalls.ByHost`
                masks  mapping  processes  private_calls  mail (mailboxes)  clocks
    faults      signals that arise here                                           onward      a body leaves (sending: ahead of it)
    completion  the outcome of a call: in_body (home and body make it), signals.interrupted, or the result
    forwarding  a call goes home, if C has not sent it (lanes)
    signals     those that home sends   private   private files    alarms, usage, title   what home hears of a running body
    containment whose trouble an error is
    context     whose guests these are, the channels              body  one guest           sandbox  its process

So a read(2) goes one way: `stops`, `serve`, `forwarding`, home; and back: `from_home`, `completion`, the body.
"""
