"""mosd, the daemon of a node: services around one `node.world.World`, in one trio event loop.

    service.py     starts everything, stops everything          lifecycle.py   PID file, log, going to the background
    control.py     the control socket: who connects, and the    launch.py      what mosrun and mosnative ask
                   reconnecting tracers and hosts
    peers.py       links to the other nodes, heart-beats        channels.py    opening data channels, admitting guests
    connection.py  one SEQPACKET conversation                   spawner.py     the fork server seen from mosd
    forkserver.py  the fork server itself (a process of its own, without trio)
    balancer.py    automatic moves

Rules: `World` is changed only between two awaits, so that FUSE handlers see it whole. Nothing that a tracer, a host, a
launcher or a peer says may end mosd: each conversation is a task that logs its failure and closes its socket.
"""
