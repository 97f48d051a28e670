"""System calls as text, by the table: what ``mosrun --trace`` and MOSIX_TRACE=1 print."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Sequence

from mosfs.abi.args import Arg, Kind
from mosfs.abi.flags import AT_FDCWD
from mosfs.abi.syscalls import BY_NR
from mosfs.calls import flag_names

#: So much of a string or of memory that goes to the kernel is shown.
SHOWN = 48

#: The bytes that argument N points to, as far as they are known.
Memory = Callable[[int], bytes | None]


def call(nr: int, registers: Sequence[int], memory: Memory) -> str:
    """``name(arguments)`` of a call."""
    row = BY_NR.get(nr)
    if row is None:
        return f"#{nr}({', '.join(f'{register:#x}' for register in registers)})"
    values = row.values(tuple(registers))
    return f"{row.name}({', '.join(_argument(row.name, arg, i, values[i], memory) for i, arg in enumerate(row.args))})"


def program(nr: int, path: bytes | None, argv: Sequence[bytes] | None) -> str:
    """A call of the exec family."""
    words = ", ".join(_quoted(word) for word in argv or ())
    return f"{BY_NR[nr].name}({_quoted(path or b'')}, [{words}])"


def result(nr: int, value: int) -> str:
    """What a call returned, errors by their names."""
    if -4096 < value < 0:
        return f"-1 {errno.errorcode.get(-value, -value)}"
    row = BY_NR.get(nr)
    address = row is not None and row.name in flag_names.ADDRESSES
    return f"{value & 0xFFFFFFFFFFFFFFFF:#x}" if address and value else str(value)


def _argument(name: str, arg: Arg, index: int, value: int, memory: Memory) -> str:
    if (row := flag_names.ARGUMENTS.get((name, index))) is not None:
        return row.text(value)
    if arg.kind in (Kind.STR, Kind.MEMORY) and value and (data := memory(index)) is not None:
        return _quoted(data.partition(b"\0")[0] if arg.kind is Kind.STR else data)
    if arg.kind is Kind.FD:
        return "AT_FDCWD" if value == AT_FDCWD else str(value)
    if arg.kind is Kind.MODE:
        return f"0{value:o}" if value else "0"
    if arg.kind is Kind.SIG and 0 < value < signal.NSIG:
        return next((one.name for one in signal.Signals if one.value == value), str(value))
    if arg.kind is Kind.OFF and value >= 1 << 63:
        return str(value - (1 << 64))
    if arg.is_scalar and arg.kind not in (Kind.FLAGS, Kind.PTR):
        return str(value)
    return f"{value:#x}" if value else "0"


def _quoted(data: bytes) -> str:
    """As C writes strings; "..." behind what is cut."""
    text = repr(data[:SHOWN])[1:]
    inner = text[1:-1].replace('"', r"\"") if text[0] == "'" else text[1:-1]
    return f'"{inner}"' + "..." * (len(data) > SHOWN)
