"""How mosconf(1) and mos_autoconf(1) change files: what mosd would refuse is told before, and all are written or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from mosfs.cluster.address import Resolver
from mosfs.cluster.check import CHECKS, faults
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.paths import NodePaths
from mosfs.tools.mosconf_talk import PARTNERS, SECRET
from mosfs.tools.multi import put, remove
from mosfs.tools.options import UserError


@contextmanager
def staged(paths: NodePaths, changes: Mapping[str, str | None]) -> Iterator[NodePaths]:
    """A root with the files as they would be: those that do not change are links."""
    os.makedirs(paths.etc, exist_ok=True)
    root = tempfile.mkdtemp(prefix=".mosconf.", dir=paths.etc)
    try:
        stage = NodePaths(root)
        os.makedirs(stage.partners)
        folder = os.listdir(paths.partners) if os.path.isdir(paths.partners) else []
        for name in {*CHECKS, SECRET, *(f"{PARTNERS}/{each}" for each in folder)} - {*changes}:
            if os.path.lexists(f"{paths.etc}/{name}"):
                os.symlink(os.path.realpath(f"{paths.etc}/{name}"), f"{stage.etc}/{name}")
        for name, text in changes.items():
            if text is not None:
                put(name, f"{stage.etc}/{name}", text, private=name == SECRET)
        yield stage
    finally:
        shutil.rmtree(root)


def refused(
    paths: NodePaths, changes: Mapping[str, str | None], resolver: Resolver, local: Callable[[], Sequence[str]] | None
) -> tuple[list[str], list[str]]:
    """What is wrong with the changes, and what was wrong already in files that do not change; a line each."""
    before = {str(error) for error in faults(paths, resolver, local)}
    new: list[str] = []
    old: list[str] = []
    with staged(paths, changes) as stage:
        for error in faults(stage, resolver, local):
            text = str(ConfigError(error.file.replace(stage.etc, paths.etc), error.text.replace(stage.etc, paths.etc),
                                   line=error.line, value=error.value))
            changed = os.path.relpath(error.file, stage.etc) in changes
            (old if text in before and not changed else new).append(text)
    return new, old


def backup(file: str) -> str:
    """Where the former file is kept; mosd reads no partner whose name ends with '~'."""
    return f"{file}~" if os.path.basename(os.path.dirname(file)) == PARTNERS else f"{file}.old"


def apply(paths: NodePaths, changes: Mapping[str, str | None]) -> None:
    """All of the changes, or, with UserError, none."""
    done: list[str] = []
    try:
        for name, text in changes.items():
            file = f"{paths.etc}/{name}"
            remove("mosconf", backup(file))
            with suppress(FileNotFoundError):
                os.link(file, backup(file))
            done.append(file)
            if text is None:
                remove("mosconf", file)
            else:
                put("mosconf", file, text, private=name == SECRET)
    except (UserError, OSError) as error:
        for file in done:
            with suppress(OSError):
                if os.path.lexists(backup(file)):
                    os.replace(backup(file), file)
                    os.unlink(backup(file))  # rename(2) does nothing where the two are one file still
                else:
                    os.unlink(file)
        raise error if isinstance(error, UserError) else UserError(f"{error.filename}: {error.strerror}") from error
