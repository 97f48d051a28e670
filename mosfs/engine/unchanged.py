"""How long things have looked the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

K = TypeVar("K")


class Unchanged(Generic[K]):
    """Counted in looks, not in seconds: who has no processor does not look, and blames nobody for that."""

    def __init__(self) -> None:
        self._seen: dict[K, tuple[object, int]] = {}

    def look(self, states: Mapping[K, object]) -> dict[K, int]:
        """How each thing looks now; how often before, in a row, it has looked so. Those that are missing are forgotten."""
        before = self._seen
        self._seen = {
            key: (state, before[key][1] + 1 if key in before and before[key][0] == state else 0) for key, state in states.items()
        }
        return {key: looks for key, (_, looks) in self._seen.items()}
