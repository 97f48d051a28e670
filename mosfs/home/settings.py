"""What a program was told by mosrun and by its control files, as pure functions on `Settings`."""

from __future__ import annotations

import msgspec

from mosfs.procfs.table import BY_NAME, ControlFile
from mosfs.wire.messages import Settings

_INHERITED = ("unsupported", "lock", "freezable", "needmem", "cpujob", "decay")


def inherit(parent: Settings, child: Settings) -> Settings:
    """Recursive mosrun: what is not given explicitly comes from the parent (mosrun(1), RECURSIVE MOSRUN)."""
    missing = {name: getattr(parent, name) for name in _INHERITED if getattr(child, name) == -1}
    return msgspec.structs.replace(child, **missing)


def get(settings: Settings, row: ControlFile) -> int:
    value: int = getattr(settings, row.setting)
    return row.default if value == -1 else value


def put(settings: Settings, name: str, value: int) -> Settings:
    """``settings`` with the control file ``name`` set."""
    fields = {f: getattr(settings, f) for f in settings.__struct_fields__}
    fields[BY_NAME[name].setting] = value
    return Settings(**fields)
