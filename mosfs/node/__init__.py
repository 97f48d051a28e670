"""The model of a node, as its daemon keeps it. Nothing here does input or output.

    programs.py   its programs and guests, and what deciding about them needs
    nodes.py      what is known of each node
    world.py      all of it, with the switches
    pending.py    what tracers were asked and have not answered yet
    letters.py    what is asked of the post office
    choice.py     which node is best for a program
"""
