"""What ends a queue early: --halt as GNU parallel has it, a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

NEVER, SOON, NOW = "never", "soon", "now"
KINDS = ("fail", "success", "done")


@dataclass(frozen=True, slots=True)
class Tally:
    """Lines that have ended, and how many of them failed, of ``total`` that are known."""

    done: int = 0
    failed: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Halt:
    """``when``: `NEVER`, `SOON` (nothing more is started) or `NOW` (what runs is ended, too); ``share``: ``most`` is in percent."""

    when: str = NEVER
    kind: str = "fail"
    most: float = 1
    share: bool = False

    def __str__(self) -> str:
        return f"{self.when},{self.kind}={self.most:g}{'%' * self.share}"

    def reached(self, tally: Tally) -> bool:
        """A share is one of all lines that are known."""
        if self.when == NEVER:
            return False
        count = {"fail": tally.failed, "success": tally.done - tally.failed, "done": tally.done}[self.kind]
        return count * 100 >= self.most * max(tally.total, 1) if self.share else count >= self.most


def parse_halt(text: str) -> Halt:
    """``never``, or ``now`` or ``soon`` with ``,fail=1``, ``success=3``, ``done=10%``. ValueError for others."""
    if text == NEVER:
        return Halt()
    when, _, what = text.partition(",")
    kind, _, number = what.partition("=")
    share = number.endswith("%")
    digits = number.removesuffix("%")
    if when not in (SOON, NOW) or kind not in KINDS or not (digits.isascii() and digits.isdigit()) or len(digits) > 9:
        raise ValueError(text)
    if not int(digits) or (share and int(digits) > 100):
        raise ValueError(text)
    return Halt(when, kind, int(digits), share)


#: Seconds of the letters that may follow a number (sleep(1)).
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """``90``, ``1.5`` or ``2m`` in seconds, at most a year. ValueError for others."""
    unit = UNITS.get(text[-1:], 0)
    digits = text[:-1] if unit else text
    if not digits.replace(".", "", 1).isdigit() or not digits.isascii():
        raise ValueError(text)
    value = float(digits) * (unit or 1)
    if value > 366 * 86400:
        raise ValueError(text)
    return value
