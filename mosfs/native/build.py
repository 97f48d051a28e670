"""cffi build of ``mosfs._native``: declarations from cdef.h, the units in `SOURCES`, and the vDSO image as bytes.

``setup.py`` names the ``ffi`` below. The vDSO is compiled first (`vdso_build.build`), because it becomes an array in the module.
Beside it stand two programs: ``launch``, which our commands' first lines name, and ``runner``, of mosrun -S.
"""

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType

from cffi import FFI

HERE = Path(__file__).parent
#: Each a unit of its own; what they share is in mos.h.
SOURCES = (
    "clock.c", "cpu.c", "cpuid.c", "direct.c", "embark.c", "forward.c", "handover.c", "home.c", "inject.c", "kernel.c",
    "lane.c", "made.c", "memory.c", "private.c", "ptrace.c", "pump.c", "seal.c", "spawn.c", "standing.c", "stream.c",
)
#: Each a program of its own.
PROGRAMS = ("launch", "runner")
#: Beside those, in the module itself. The stamp says which sources it was built from (stamp.py).
OWN = """
#include "mos.h"
{vdso}
const unsigned char *mos_vdso(int *len)
{{
    *len = sizeof vdso_image;
    return vdso_image;
}}
unsigned int mos_stamp(void) {{ return {stamp}U; }}
"""


def _beside(name: str) -> ModuleType:
    """A module of this folder, loaded by path: the package cannot be imported before this module is built."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _array(name: str, data: bytes) -> str:
    return f"static const unsigned char {name}[{len(data)}] = {{{','.join(map(str, data))}}};\n"


def programs() -> None:
    """Compile what is executed by itself; without libc's archive it is linked to the shared one, and starts some 0.3 ms later."""
    for name in PROGRAMS:
        new, command = HERE / f"{name}.new", ["gcc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", str(HERE / f"{name}.c"), "-o"]
        if subprocess.run([*command, str(new), "-static"], stderr=subprocess.DEVNULL, check=False).returncode:
            subprocess.run([*command, str(new)], check=True)
        os.replace(new, HERE / name)


def make() -> FFI:
    builder = FFI()
    builder.cdef((HERE / "cdef.h").read_text())
    folder = os.path.relpath(HERE)  # setuptools wants paths below the folder of setup.py
    builder.set_source(
        "mosfs._native",
        OWN.format(vdso=_array("vdso_image", _beside("vdso_build").build()), stamp=_beside("stamp").stamp()),
        sources=[f"{folder}/{name}" for name in SOURCES],
        depends=[f"{folder}/{name}" for name in ("mos.h", "cdef.h")],
        include_dirs=[folder],
        libraries=["dl"],  # a part of libc since glibc 2.34
        py_limited_api=True,
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-fvisibility=hidden"],
        define_macros=[("_GNU_SOURCE", "1")],
    )
    return builder


programs()
ffi = make()
