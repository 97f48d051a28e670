"""The only C of the project: ptrace steps, memory copies, the wait loop, and the vDSO image. Built by cffi in API mode.

Import ``lib`` and ``ffi`` from here. Every function is a thin step without policy; what may be decided is decided in Python.
The one exception is the wait loop (`mos_next`), which lets ``open()`` of ordinary paths pass without waking Python.
"""

from mosfs.native import kernel  # what is hidden of the kernel is hidden from whoever uses the module
from mosfs.native.checked import ffi, lib

__all__ = ["ffi", "kernel", "lib"]
