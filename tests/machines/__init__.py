"""A second computer for the tests: another kernel, another processor, another clock, by qemu without help of the hardware.

`image` builds what it boots, once; `vm` runs it; `guest` is what runs in it; `t6_machines.py` are the tests.
"""
