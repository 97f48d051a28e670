"""cffi build of ``mosfs._native``: declarations from cdef.h, code from the files in `SOURCES`, and the vDSO image as bytes.

``setup.py`` names the ``ffi`` below. The vDSO is compiled first (`vdso_build.build`), because it becomes an array in the module.
Beside it stands ``launch``, the program that our commands' first lines name.
"""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
#: In the order in which they use each other.
SOURCES = (
    "memory.c", "mos.c", "inject.c", "cpu.c", "private.c", "home.c", "stream.c", "hand.c", "embark.c", "direct.c", "kernel.c",
)


def _vdso() -> bytes:
    """The image made by vdso_build.py, loaded by path: the package cannot be imported before this module is built."""
    spec = importlib.util.spec_from_file_location("vdso_build", HERE / "vdso_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image: bytes = module.build()
    return image


def _array(name: str, data: bytes) -> str:
    return f"static const unsigned char {name}[{len(data)}] = {{{','.join(map(str, data))}}};\n"


def launcher() -> None:
    """Compile launch.c; without libc's archive it is linked to the shared one, and starts some 0.3 ms later."""
    new, command = HERE / "launch.new", ["gcc", "-O2", "-Wall", "-Wextra", "-D_GNU_SOURCE", str(HERE / "launch.c"), "-o"]
    if subprocess.run([*command, str(new), "-static"], stderr=subprocess.DEVNULL, check=False).returncode:
        subprocess.run([*command, str(new)], check=True)
    os.replace(new, HERE / "launch")


def make() -> FFI:
    declarations = (HERE / "cdef.h").read_text()
    builder = FFI()
    builder.cdef(declarations)
    shared = declarations[: declarations.index("int mos_setup_signals")]
    shared = re.sub(r"#define (MOS_\w+) (-?\d+)", r"#define \1 \2", shared)
    builder.set_source(
        "mosfs._native",
        _array("vdso_image", _vdso()) + shared + "".join((HERE / name).read_text() for name in SOURCES),
        py_limited_api=True,
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-function"],
        define_macros=[("_GNU_SOURCE", "1")],
    )
    return builder


launcher()
ffi = make()
