"""Deciding where programs run: pure functions on frozen data, fed by one probe of this node's own load.

    probe.py     load and memory of this node: samples, smoothed
    source.py    where they come from: what a source is, /proc, fixed values; cgroup.py, own.py: other sources
    gossip.py    what nodes tell each other: window, merge, deaths
    exchange.py  the same as datagrams: questions, answers, proofs
    ages.py      how old what nodes know is, by closed forms
    cost.py      what computing on a node costs, and getting there
    history.py   what a program did lately, fading; account.py: measuring it
    choose.py    who leaves this node, for where, and why the others stay; usher.py: the same when memory runs out
    best.py      the best node for one more program
"""
