"""Compiles `vdso.c` into the bytes of the image that replaces the kernel's vDSO in programs under ``mosrun``.

Runs while the package is built (`build.py` loads this file by its path), so it imports nothing of ours and needs only
the system's ``gcc`` and binutils. The same sources and tools give the same bytes.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

PAGE_SIZE = 4096

#: One loadable segment, readable and executable, that contains the ELF header; as in the kernel's own vDSO the dynamic
#: section is read-only, which tells libc not to relocate it in place.
LINKER_SCRIPT = """
PHDRS {
    text PT_LOAD FILEHDR PHDRS FLAGS(5);
    dynamic PT_DYNAMIC FLAGS(4);
    eh_frame_hdr PT_GNU_EH_FRAME FLAGS(4);
    stack PT_GNU_STACK FLAGS(6);
}
SECTIONS {
    . = SIZEOF_HEADERS;
    .hash : { *(.hash) } :text
    .gnu.hash : { *(.gnu.hash) } :text
    .dynsym : { *(.dynsym) } :text
    .dynstr : { *(.dynstr) } :text
    .gnu.version : { *(.gnu.version) } :text
    .gnu.version_d : { *(.gnu.version_d) } :text
    .dynamic : { *(.dynamic) } :text :dynamic
    .rodata : { *(.rodata .rodata.*) } :text
    .eh_frame_hdr : { *(.eh_frame_hdr) } :text :eh_frame_hdr
    .eh_frame : { KEEP(*(.eh_frame)) } :text
    .text : { *(.text .text.*) } :text
    .data : { *(.data .data.* .bss .got .got.plt .rela.*) } :text
    ASSERT(SIZEOF(.data) == 0, "the vDSO must have no data and no relocations")
    /DISCARD/ : { *(.comment) *(.note .note.*) }
}
VERSION {
    LINUX_2.6 {
        global: __vdso_clock_gettime; __vdso_gettimeofday; __vdso_time; __vdso_clock_getres; __vdso_getcpu;
        local: *;
    };
}
"""

FLAGS = [
    *("-std=gnu11", "-O2", "-g0", "-Wall", "-Wextra"),
    *("-fPIC", "-ffreestanding", "-fno-builtin", "-fno-lto", "-fno-stack-protector", "-mgeneral-regs-only"),
    *("-fno-jump-tables", "-fno-tree-vectorize"),
    "-fcf-protection=none",  # a mark for CET would need the loader's consent
    "-fasynchronous-unwind-tables",  # signal handlers, debuggers and profilers unwind through the image
    *("-shared", "-nostdlib", "-Wl,-soname,linux-vdso.so.1", "-Wl,--hash-style=both", "-Wl,-Bsymbolic", "-Wl,-s"),
    *("-Wl,--build-id=none", "-Wl,--eh-frame-hdr", "-Wl,-z,noexecstack", "-Wl,-z,max-page-size=4096"),
    "-Wl,--no-undefined",
]


def build(compiler: str = "gcc") -> bytes:
    """The image: a shared object, zero-filled to whole pages of 4096 bytes, to be mapped read and execute at any page
    whose predecessor is the data page (`struct page` in vdso.c, `mosfs.trace.clock.Page`).

    Raises `RuntimeError` with the compiler's message if it does not compile.
    """
    source = Path(__file__).with_name("vdso.c")
    with tempfile.TemporaryDirectory(prefix="mosfs-vdso-") as name:
        folder = Path(name)
        script, output = folder / "vdso.lds", folder / "vdso.so"
        script.write_text(LINKER_SCRIPT)
        done = subprocess.run(
            [compiler, *FLAGS, f"-Wl,-T,{script}", "-o", str(output), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{source.name} does not compile: {done.stderr.strip()}")
        image = output.read_bytes()
    return image + bytes(-len(image) % PAGE_SIZE)
