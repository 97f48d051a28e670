"""What a program was told by mosrun and by its control files, as pure functions on `Settings`."""

from __future__ import annotations

from mosfs.procfs.table import BY_NAME, ControlFile
from mosfs.wire.messages import Settings


def inherit(parent: Settings, child: Settings) -> Settings:
    """Recursive mosrun: what is not given explicitly comes from the parent (mosrun(1), RECURSIVE MOSRUN)."""
    return Settings(
        *(c if c != -1 else p for c, p in zip(_values(child), _values(parent)))
    )


def _values(s: Settings) -> tuple[int, ...]:
    return (s.unsupported, s.lock, s.freezable, s.needmem, s.cpujob, s.decay)


def get(settings: Settings, row: ControlFile) -> int:
    value: int = getattr(settings, row.setting)
    return row.default if value == -1 else value


def put(settings: Settings, name: str, value: int) -> Settings:
    """``settings`` with the control file ``name`` set."""
    fields = {f: getattr(settings, f) for f in settings.__struct_fields__}
    fields[BY_NAME[name].setting] = value
    return Settings(**fields)
