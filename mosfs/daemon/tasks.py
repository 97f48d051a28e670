"""Tasks whose failure must not end mosd."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

import trio

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")


async def guarded(work: Callable[[*Arguments], Awaitable[None]], *arguments: *Arguments) -> None:
    """``work(*arguments)``; a lost connection ends it quietly, any other failure is a traceback in the log."""
    try:
        await work(*arguments)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        log.debug("a conversation ended: %s", error)
    except Exception:
        log.exception("a conversation failed")
