"""Transfers that a move cut short: the rest is transferred before the program hears of it.

A blocking write(2) or sendto(2) to a pipe or socket that our interruption stopped half-way returns a partial count,
which no program would see natively without a signal. Its registers are set to the remaining bytes, the call is made
again, and the sum is returned. Regular files are not concerned (their transfers are not interrupted), reads neither:
they return what there is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mosfs.trace.task import copy_regs

#: Calls with the buffer in rsi and its length in rdx that transfer everything unless a signal comes.
WHOLE = frozenset({1, 44})


class Carry(NamedTuple):
    """``done`` bytes are transferred; rsi and rdx are what the program passed."""

    done: int
    rsi: int
    rdx: int


def cut_short(nr: int, regs: Any, result: int) -> bool:
    """``result`` of the call in ``regs`` is less than the program asked for."""
    return nr in WHOLE and 0 < result < regs.rdx


def remainder(before: Any, result: int, carry: Carry | None) -> tuple[Any, Carry]:
    """Registers before the call for the rest, and what to remember. ``before`` are those that led to ``result``."""
    r = copy_regs(before)
    first = carry or Carry(0, r.rsi, r.rdx)
    r.rsi += result
    r.rdx -= result
    return r, Carry(first.done + result, first.rsi, first.rdx)


def concerns(carry: Carry, nr: int, regs: Any) -> bool:
    """The call in ``regs`` is the one that was cut short (and not one that a signal handler makes meanwhile)."""
    return nr in WHOLE and bool(regs.rsi == carry.rsi + carry.done)


def total(result: int, carry: Carry) -> int:
    """What the program hears: an error of the rest is forgotten, its next call will meet it."""
    return carry.done + max(result, 0)


def put_back(regs: Any, carry: Carry) -> None:
    """The arguments as the program passed them."""
    regs.rsi, regs.rdx = carry.rsi, carry.rdx
