"""What becomes of a call over our pages below 1 MB (`abi.low`): for the program nothing is there, and nothing can be put there.

Pure decisions. `carry_out` makes what remains of a call on other memory of the program.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mosfs.abi.flags import MREMAP_FIXED
from mosfs.abi.low import may_touch
from mosfs.abi.numbers import SYS_MADVISE, SYS_MMAP, SYS_MPROTECT, SYS_MREMAP, SYS_MUNMAP, SYS_PKEY_MPROTECT, SYS_SHMAT
from mosfs.trace import layout

#: A user's address has fewer bits, whatever the processor.
_BITS = 57


@dataclass(frozen=True, slots=True)
class Guarded:
    """The call is made on each of ``ranges`` instead. The result is its first failure; ``result`` if there is none."""

    result: int
    ranges: tuple[tuple[int, int], ...] = ()


def guarded(nr: int, args: Sequence[int]) -> Guarded | None:
    """What becomes of the call ``nr`` with these argument registers; None: it does not touch our pages."""
    if not may_touch(nr, tuple(args)):
        return None
    if nr == SYS_SHMAT:
        return Guarded(-errno.EINVAL)
    if nr == SYS_MREMAP:
        return _mremap(args)
    start, length = args[0], args[1]
    if not _touches(start, length):
        return None
    if start % layout.PAGE or start >> _BITS or length >> _BITS:
        return Guarded(-errno.EINVAL)
    end = start + -(-length // layout.PAGE) * layout.PAGE
    others = ((start, layout.STUB),) if start < layout.STUB else ()
    if nr == SYS_MUNMAP:
        return Guarded(0, (*others, (layout.END, end)) if end > layout.END else others)
    if nr == SYS_MADVISE:  # a range without length too, so that the kernel looks at the advice
        return Guarded(-errno.ENOMEM, (*others, (layout.END, max(end, layout.END))))
    if nr in (SYS_MPROTECT, SYS_PKEY_MPROTECT):
        return Guarded(-errno.ENOMEM)
    return Guarded(-errno.EPERM if nr == SYS_MMAP else -errno.EINVAL)


def _mremap(args: Sequence[int]) -> Guarded | None:
    old, old_size, new_size, flags, new = args[:5]
    if _touches(old, max(old_size, 1)):
        return Guarded(-errno.EINVAL if old % layout.PAGE or old >> _BITS else -errno.EFAULT)
    if flags & MREMAP_FIXED and _touches(new, new_size):
        return Guarded(-errno.EINVAL if new % layout.PAGE or new >> _BITS else -errno.EPERM)
    return None


def _touches(start: int, length: int) -> bool:
    """An address with higher bits may mean the same without them."""
    start &= (1 << _BITS) - 1
    return start < layout.END and start + length > layout.STUB and length > 0


def carry_out(found: Guarded, nr: int, args: Sequence[int], call: Callable[..., int]) -> int:
    """Make the parts of a guarded call; ``call`` makes one. The result."""
    for start, end in found.ranges:
        result = call(nr, start, end - start, *args[2:])
        if result < 0 and result != found.result:
            return result
    return found.result
