"""Tasks, and steps of tasks, whose failure must not end mosd."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVarTuple

import trio

from mosfs.wire.links import LinkError

log = logging.getLogger(__name__)

#: Seconds until work that failed begins anew.
AGAIN = 1.0

Arguments = TypeVarTuple("Arguments")


@contextmanager
def survived(what: str) -> Iterator[None]:
    """A step of a task that goes on: a failure is a traceback in the log and ends this step only."""
    try:
        yield
    except Exception:
        log.exception("%s failed", what)


async def guarded(work: Callable[[*Arguments], Awaitable[None]], *arguments: *Arguments) -> None:
    """``work(*arguments)``; a lost or bad connection ends it quietly, any other failure is a traceback in the log."""
    try:
        await work(*arguments)
    except LinkError as error:
        log.info("a conversation ended: %s", error.reason)
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
        log.debug("a conversation ended: %s", error)
    except Exception:
        log.exception("a conversation failed")


async def restarted(work: Callable[[*Arguments], Awaitable[None]], *arguments: *Arguments) -> None:
    """``work(*arguments)``, begun anew after a failure that it does not survive itself; until it ends or is cancelled."""
    while True:
        try:
            await work(*arguments)
        except Exception:
            log.exception("%s failed and begins anew", getattr(work, "__qualname__", work))
            await trio.sleep(AGAIN)
        else:
            return
