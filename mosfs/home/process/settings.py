"""What a program was told by mosrun and by its control files, as pure functions on `Settings`."""

from __future__ import annotations

from msgspec.structs import replace

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import parse_directories
from mosfs.procfs.table import ControlFile, name_of_checkpoints
from mosfs.ptf import directories
from mosfs.wire.asked import Settings

#: mosrun(1), RECURSIVE MOSRUN: only these are inherited.
_INHERITED = ("unsupported", "lock", "freezable", "needmem", "cpujob", "decay", "outlive", "threads", "share_memory", "compress")
_NOT_GIVEN = Settings()


def inherit(parent: Settings, child: Settings) -> Settings:
    """Recursive mosrun: what is not given explicitly comes from the parent (mosrun(1), RECURSIVE MOSRUN)."""
    given = {name: getattr(child, name) for name in _INHERITED}
    return replace(child, **{name: getattr(parent, name) for name, value in given.items() if value == -1})


def of_child(parent: Settings) -> Settings:
    """After fork: -C, -N, -A and --incremental are not inherited (mosrun(1), CHECKPOINTS)."""
    return replace(
        parent, checkpoint_file=_NOT_GIVEN.checkpoint_file, checkpoint_limit=_NOT_GIVEN.checkpoint_limit,
        checkpoint_interval=_NOT_GIVEN.checkpoint_interval, incremental=_NOT_GIVEN.incremental,
    )  # fmt: skip


def refused(settings: Settings) -> str:
    """Why nobody can have given these, "" if somebody can. They may come from a file that anybody has written."""
    if settings.private and (reason := directories.refusal(settings.private.split(directories.SEPARATOR))):
        return reason
    try:
        parse_directories(settings.freeze_dirs, "freeze_dirs")
        if settings.checkpoint_file and name_of_checkpoints(settings.checkpoint_file) != settings.checkpoint_file:
            return "checkpointfile: not a file name"
    except (ConfigError, ValueError) as error:
        return str(error)
    return ""


def get(settings: Settings, row: ControlFile) -> int:
    """The number that the control file ``row`` shows."""
    value: int = getattr(settings, row.setting)
    return row.default if value == -1 else value


def put(settings: Settings, row: ControlFile, value: int | str) -> Settings:
    """``settings`` with the control file ``row`` set; text for `Kind.NAME`, else a number."""
    return replace(settings, **{row.setting: value})
