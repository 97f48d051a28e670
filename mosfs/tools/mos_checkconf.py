"""mos_checkconf(1): what is wrong in the configuration of a node, before mosd finds it (readings, row 29)."""

from __future__ import annotations

import json
import os
import sys

from mosfs.cluster.address import system_resolver
from mosfs.cluster.check import CHECKS, SECRET, faults, file_faults, kind
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.local import local_addresses
from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError

SYNOPSIS = """
mos_checkconf [--root dir] [--json]
mos_checkconf [--json] file...
"""
WHAT_IS_IT = "{file}: not a file of the configuration: {names} or partners/NAME"

MOS_CHECKCONF = Command("mos_checkconf", SYNOPSIS, "check the configuration of a node", (
    Option("--root", "root", "check this root image, of other nodes, instead of this node", TEXT, metavar="dir"),
    Option("--json", "json", "a JSON list of objects: file, line, value and text"),
), permute=True)


def wrong(options: Parsed) -> list[ConfigError]:
    """What is wrong in the files given, each for itself, or in all files of the node or image."""
    if not options.rest:
        paths = NodePaths(options.get("root")) if "root" in options else NodePaths.from_env()
        return faults(paths, system_resolver, None if "root" in options else local_addresses)
    if "root" in options:
        raise UsageError("--root checks all files: give it or files")
    for file in options.rest:
        if not kind(file):
            raise UsageError(WHAT_IS_IT.format(file=file, names=", ".join([*CHECKS, SECRET])))
    return [fault for file in options.rest for fault in file_faults(file)]


def body(options: Parsed) -> int:
    if "root" in options and not os.path.isdir(options.get("root")):
        raise UsageError(f"--root: {options.get('root')}: not a directory")
    found = wrong(options)
    if "json" in options:
        print(json.dumps([{"file": e.file, "line": e.line, "value": e.value, "text": e.text} for e in found], indent=1))
    else:
        for fault in found:
            print(fault)
    return 1 if found else 0


def main(argv: list[str] | None = None) -> int:
    return MOS_CHECKCONF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
