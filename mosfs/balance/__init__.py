"""Deciding where programs run: pure functions on frozen data, fed by one probe of this node's own load.

    probe.py   load and memory of this node, from /proc
    best.py    the best node for one more program
"""
