"""Waiting in trio for what another task or process will do."""

from __future__ import annotations

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object]) -> None:
    """Return when ``condition`` holds; trio.TooSlowError when it has not after 20 seconds."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - some conditions are about other processes
            await trio.sleep(0.01)
