"""mos_in_job(1): this node joins the cluster of an external job, or stands alone at the service of others (manual, chapter 8)."""

from __future__ import annotations

import sys

from mosfs.cluster.address import as_unsigned, system_resolver
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.job import Job, parse_own, parse_world, print_job
from mosfs.cluster.lines import MAX_SIZE, find
from mosfs.cluster.paths import NodePaths
from mosfs.tools.multi import put
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError
from mosfs.tools.orders import USUAL_MAP, configure
from mosfs.tools.tree import Tree

SYNOPSIS = """
mos_in_job [-A] {world-file} [own-cluster]
"""

NOT_IN = "{where}: {ip}, this node, is not in it"

MOS_IN_JOB = Command("mos_in_job", SYNOPSIS, "configure MOSIX at the start or end of an external job", (
    Option("-A", "asynchronous", "do not wait until processes have left where they must not be"),
))


def read_job(world_file: str, own: str, ip: str) -> Job:
    """What the words mean for the node ``ip``; ``own`` may be "". UserError, with the line that is wrong."""
    me = as_unsigned(ip)
    try:
        with open(world_file, encoding="utf-8-sig") as file:
            text = file.read(MAX_SIZE + 1)
        if len(text) > MAX_SIZE:
            raise ConfigError(world_file, f"longer than {MAX_SIZE} characters")
        world = parse_world(text, system_resolver, world_file)
        nodes = parse_own(own, system_resolver) if own else (me,)
    except ConfigError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{world_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{world_file}: not a text file (UTF-8)") from None
    if find(world, me) is None:
        raise UserError(NOT_IN.format(where=world_file, ip=ip))
    if me not in nodes:
        raise UserError(NOT_IN.format(where=f"own-cluster {own}", ip=ip))
    return Job(nodes, world, alone=not own)


def body(options: Parsed) -> int:
    if not options.rest:
        raise UsageError("which world-file?")
    if len(options.rest) > 2:
        raise UsageError(f"{options.rest[2]}: too much")
    world_file, own = [*options.rest, ""][:2]
    if own == "" and len(options.rest) == 2:
        raise UsageError("own-cluster: empty")
    tree = Tree(NodePaths.from_env())
    job = read_job(world_file, own, tree.fact("ip"))
    put("mos_in_job", tree.paths.job, print_job(job))
    configure(tree, USUAL_MAP, wait="asynchronous" not in options, verb="mos_in_job")
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOS_IN_JOB.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
