"""Settings of a process, made by prctl(2), that act where it computes: they travel. All others are the deputy's."""

from __future__ import annotations

from collections.abc import Sequence

from mosfs.abi.flags import PR_GET_SPECULATION_CTRL, PR_GET_THP_DISABLE, PR_SET_SPECULATION_CTRL, PR_SET_THP_DISABLE
from mosfs.abi.numbers import SYS_PRCTL
from mosfs.trace.inject import Calls

#: PR_SPEC_STORE_BYPASS, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_L1D_FLUSH.
SPECULATIONS = (0, 1, 2)
#: PR_SPEC_PRCTL: it can be set; PR_SPEC_DISABLE, PR_SPEC_FORCE_DISABLE, PR_SPEC_DISABLE_NOEXEC.
_SETTABLE, _DISABLED = 1, 4 | 8 | 16
#: PR_THP_DISABLE_EXCEPT_ADVISED (Linux 6.18).
_EXCEPT_ADVISED = 2

#: Arguments of prctl(2) that make it again.
Setting = tuple[int, int, int]


def read(call: Calls) -> list[Setting]:
    """What the task of an open session has set, and is not how a process begins."""
    found: list[Setting] = []
    huge = call(SYS_PRCTL, PR_GET_THP_DISABLE)
    if huge > 0:
        found.append((PR_SET_THP_DISABLE, 1, huge & _EXCEPT_ADVISED))
    for which in SPECULATIONS:
        state = call(SYS_PRCTL, PR_GET_SPECULATION_CTRL, which)
        if state > 0 and state & _SETTABLE and state & _DISABLED:
            found.append((PR_SET_SPECULATION_CTRL, which, state & _DISABLED))
    return found


def known(setting: Setting) -> bool:
    """Is this one of those that travel?"""
    option, value, flags = setting
    if option == PR_SET_THP_DISABLE:
        return value == 1 and flags in (0, _EXCEPT_ADVISED)
    return option == PR_SET_SPECULATION_CTRL and value in SPECULATIONS and flags in (4, 8, 16)


def give(call: Calls, settings: Sequence[Setting]) -> None:
    """Set them. What this processor or kernel does not have needs no setting."""
    for setting in settings:
        call(SYS_PRCTL, *setting)
