"""mossetpe(1): let this node's mosd read its map again, list the nodes that it knows, or end MOSIX here."""

from __future__ import annotations

import json
import os
import sys

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import load_map
from mosfs.cluster.paths import NodePaths
from mosfs.tools.mosctl import shut_down
from mosfs.tools.multi import remove
from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError, UserError, is_ip
from mosfs.tools.orders import configure
from mosfs.tools.tree import Tree

SYNOPSIS = """
mossetpe [-m mapfile] [-p our.ip.x.y] [-A]
mossetpe -[r|R] [--json]
mossetpe -off [-A]
"""

NOT_IN_FILE = "{file}: {ip}, this node, is not in it"
OTHER_ADDRESS = "our address is {ip}: another one takes effect when mosd is started again"

MOSSETPE = Command("mossetpe", SYNOPSIS, "configure the local cluster", (
    Option("-m", "map", "this map instead of mosix.map", TEXT, metavar="mapfile"),
    Option("-p", "ip", "our own IP address", TEXT, metavar="our.ip.x.y"),
    Option("-A", "asynchronous", "do not wait until processes have left where they must not be"),
    Option("-r", "cluster", "list the nodes of this cluster"),
    Option("-R", "all", "list the nodes of all clusters"),
    Option("-off", "off", "end MOSIX on this node"),
    Option("--json", "json", "with -r and -R: a JSON list of objects, ip and number"),
), permute=True)


def list_nodes(tree: Tree, options: Parsed) -> int:
    """One IP a line: of this cluster, and with -R of the partner-clusters too."""
    ips = tree.fact("map").splitlines()
    if "all" in options:
        ips += [ip for partner in json.loads(tree.fact("partners")) for ip in partner["nodes"]]
    if "json" in options:
        numbers = {row[1]: row[0] for row in json.loads(tree.fact("cluster"))["nodes"]}
        print(json.dumps([{"ip": ip, "number": numbers.get(ip)} for ip in ips], indent=1))
    else:
        print("\n".join(ips))
    return 0


def check(tree: Tree, mapfile: str, ip: str) -> None:
    """UserError when the files are wrong, or mean what a running mosd cannot become."""
    ours = tree.fact("ip")
    if ip and not is_ip(ip):
        raise UsageError(f"-p: {ip} is not an IP address")
    if ip and ip != ours:
        raise UserError(OTHER_ADDRESS.format(ip=ours))
    try:
        nodes = load_map(tree.paths, mapfile or tree.paths.mosix_map)
    except ConfigError as error:
        raise UserError(str(error)) from None
    if not nodes.contains(ours):
        raise UserError(NOT_IN_FILE.format(file=mapfile or tree.paths.mosix_map, ip=ours))


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    tree = Tree(NodePaths.from_env())
    wait = "asynchronous" not in options
    if "cluster" in options or "all" in options:
        return list_nodes(tree, options)
    if "off" in options:
        shut_down(tree, "-off", wait=wait)
        return 0
    mapfile = os.path.abspath(options.get("map")) if "map" in options else ""
    check(tree, mapfile, options.get("ip"))
    remove("the configuration", tree.paths.job)
    configure(tree, mapfile, wait=wait)
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOSSETPE.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
