"""The C module, if it was built from the sources that are here: an older one has functions missing, or means something else by
them, and programs would see ENOSYS."""

from mosfs._native import ffi, lib
from mosfs.native.stamp import stamp

__all__ = ["ffi", "lib"]

if (_expected := stamp()) and (not hasattr(lib, "mos_stamp") or lib.mos_stamp() != _expected):
    raise ImportError("mosfs._native was built from other C sources than those in mosfs/native: run make setup")
