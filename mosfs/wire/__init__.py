"""What crosses a process boundary: frames, the message tables, links, and the keys that protect them.

Three conversations (`docs/design/protocols.md`)::

    tracer, host, launcher <--- control socket (Unix, SEQPACKET) ---> mosd      messages.py: Control
    mosd                   <--- peer link (TCP 253, TLS 1.3)     ---> mosd      messages.py: Peer
    tracer                 <--- data channel (TCP 253, AES-GCM)  ---> host      frames.py, channel.py
"""
