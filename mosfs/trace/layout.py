"""The low region of every program from exec on: stub, clock, vDSO, scratch. Its addresses belong to the image format.

It ends at 1 MB, because there are programs that map at fixed addresses above (valgrind has its client at 0x108000).

::

    0x10000  stub       syscall; mov %rax,%rdi; mov $MAGIC,%eax; syscall         r-x
    0x11000  data page  of the vDSO: home time as a function of the TSC          r-x (the tracer writes it)
    0x12000  vDSO       our own image                                            r-x
    0x18000  scratch    arguments and results of injected calls                  rw-

The seccomp filter allows a trapped call whose instruction pointer is `STUB_AFTER` or `ROW_AFTER` (only at home: a guest's filter
has no such rule), and traps the number `MAGIC`, which no system call has, always: that stop is the end
of an injected call.
"""

STUB = 0x10000
STUB_AFTER = STUB + 2
MAGIC = 0x1FF
CLOCK_PAGE = 0x11000
VDSO = 0x12000
VDSO_END = 0x18000
SCRATCH = 0x18000
SCRATCH_SIZE = 0xE8000
END = SCRATCH + SCRATCH_SIZE
#: The end of the scratch, where `calls.partial` lays out what remains of 1024 messages, and of a vector: 1024 entries and a header.
CARRY_SIZE = 0x15000
PAGE = 4096

_WAIT = b"\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf7"
#: Behind the stub a loop of pause(2): a deputy whose tracer has died waits there for its end.
STUB_CODE = (
    b"\x0f\x05" + b"\x48\x89\xc7" + b"\xb8" + MAGIC.to_bytes(4, "little") + b"\x0f\x05"
    + _WAIT
)  # fmt: skip

#: Behind that, and ended by the same, a loop that makes the calls of a list (`trace.inject.Calls.many`): rbx points to an entry,
#: rbp is their number.
ROW = STUB + 0x40
ROW_ENTRY = 56  # rax rdi rsi rdx r10 r8 r9; the result takes the place of rax
_ROW_CODE = (
    b"\x48\x8b\x03" + b"\x48\x8b\x7b\x08" + b"\x48\x8b\x73\x10" + b"\x48\x8b\x53\x18"
    + b"\x4c\x8b\x53\x20" + b"\x4c\x8b\x43\x28" + b"\x4c\x8b\x4b\x30" + b"\x0f\x05"
    + b"\x48\x89\x03" + b"\x48\x83\xc3\x38" + b"\x48\xff\xcd" + b"\x75\xd7"
    + b"\xb8" + MAGIC.to_bytes(4, "little") + b"\x0f\x05" + _WAIT
)  # fmt: skip
ROW_AFTER = ROW + _ROW_CODE.index(b"\x0f\x05") + 2
STUB_CODE = STUB_CODE.ljust(ROW - STUB, b"\xcc") + _ROW_CODE

#: Where user space ends on x86_64 with four-level page tables; the gate (vsyscall) lies above.
USER_END = 0x7FFFFFFFF000
