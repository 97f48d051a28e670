"""Where a program is."""

from enum import StrEnum


class Place(StrEnum):
    """What `ProcState.state` tells. `RETURNING` and `FROZEN` are for others: to its tracer such a program is `AWAY` or `HOME`."""

    STARTING = "starting"  # before its first exec under us
    HOME = "here"
    LEAVING = "leaving"  # its image was sent; the host has not yet said RUNNING
    AWAY = "away"
    RETURNING = "returning"  # a move home is under way
    FROZEN = "frozen"
