"""The edge between the kernel's requests and our code: whatever a request raises is its reply, and never the end of mosd."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pyfuse3

log = logging.getLogger(__name__)

#: What nobody can do in this tree, with the errno of its man page; the rest of what we do not have is ENOSYS, which the kernel
#: takes as "do not ask again".
REFUSED = {
    "create": errno.EACCES, "mknod": errno.EACCES, "mkdir": errno.EPERM, "symlink": errno.EPERM, "link": errno.EPERM,
    "unlink": errno.EPERM, "rmdir": errno.EPERM, "rename": errno.EPERM,
}  # fmt: skip

_Operations = TypeVar("_Operations", bound=type[pyfuse3.Operations])
_Handler = Callable[..., Awaitable[Any]]


def answered(operations: _Operations) -> _Operations:
    """A class decorator: every handler of ``operations`` ends with a result or with pyfuse3.FUSEError."""
    for name, inherited in inspect.getmembers(pyfuse3.Operations, inspect.iscoroutinefunction):
        handler = vars(operations).get(name)
        if handler is not None:
            setattr(operations, name, _with_reply(handler))
        elif name in REFUSED:
            setattr(operations, name, _refusing(inherited, REFUSED[name]))
    return operations


def _with_reply(handler: _Handler) -> _Handler:
    """OSError becomes the reply's errno; anything else is a fault of ours: EIO, and a traceback in the log."""

    @functools.wraps(handler)
    async def answer(*arguments: Any, **named: Any) -> Any:
        try:
            return await handler(*arguments, **named)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None
        except Exception:
            log.exception("a request for the tree failed: %s", handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return answer


def _refusing(inherited: _Handler, number: int) -> _Handler:
    @functools.wraps(inherited)
    async def refuse(*_: Any, **__: Any) -> Any:
        raise pyfuse3.FUSEError(number)

    return refuse
