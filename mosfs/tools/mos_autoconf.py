"""mos_autoconf(1): finds the nodes of a cluster in a subnet, numbers them, and configures all (manual, 4.2.2)."""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Interface, IPv4Network

from mosfs import __version__
from mosfs.cluster.discovery import files, in_order, key_of
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.paths import NodePaths, Ports
from mosfs.cluster.secret import read_secret
from mosfs.cluster.words import printable
from mosfs.tools import autoconf_node
from mosfs.tools.autoconf import Asker, Survey, interfaces, subnet_of
from mosfs.tools.mosconf_person import Answers, Terminal, hold
from mosfs.tools.mosconf_talk import Talk, value, yes
from mosfs.tools.options import INT, TEXT, Command, Option, Parsed, UsageError, UserError

SYNOPSIS = """
mos_autoconf [--subnet a.b.c.d/n] [--number first | --no-numbers] [--yes | --answers file]
mos_autoconf --list [--subnet a.b.c.d/n] [--json]
mos_autoconf --answer [--then command]
"""
MOS_AUTOCONF = Command("mos_autoconf", SYNOPSIS, "find the nodes of a cluster, and configure all of them", (
    Option("--subnet", "subnet", "where the nodes are (default: the subnet of this node)", TEXT, metavar="a.b.c.d/n"),
    Option("--number", "number", "number the nodes in the order of their addresses, from this number on", INT, metavar="first",
           low=1, high=65535),
    Option("--no-numbers", "no_numbers", "the nodes get no numbers"),
    Option("--yes", "yes", "ask nothing: take the subnet of this node, all nodes that are found, and numbers from 1 on"),
    Option("--answers", "answers", "take the answers from this file, one a line, instead of the terminal", TEXT, metavar="file"),
    Option("--list", "list", "only list the nodes that are found"),
    Option("--json", "json", "with --list: a JSON object with the nodes, those of other versions, and addresses that two have"),
    Option("--answer", "answer", "be found: answer to mos_autoconf on other nodes"),
    Option("--then", "then", "with --answer: run this when files have come and mosd does not run", TEXT, metavar="command"),
), permute=True)

NOT_IN_SUBNET = "{subnet}: this node has no address there"
NO_KEY = "{file}: no key: run mosconf key first, and give the same one to all nodes of this cluster"
TWICE = "{ip}: two nodes answer from this address: give one of them another"
PARTLY = "only a part of the nodes has the new files"


def where(options: Parsed, person: Answers | Terminal | None) -> tuple[IPv4Interface, IPv4Network]:
    """The address of this node, and the subnet to look in."""
    mine = interfaces()
    usual = str(mine[0].network) if mine else "192.168.1.0/24"
    word = options.get("subnet")
    if not word and person is not None:
        word = str(hold(_subnet(usual), person))
    try:
        subnet = subnet_of(word or usual)
    except ValueError as error:
        raise UserError(str(error)) from None
    for own in mine:
        if own.ip in subnet:
            return own, subnet
    raise UserError(NOT_IN_SUBNET.format(subnet=subnet))


def _subnet(usual: str) -> Talk[str]:
    def check(word: str) -> None:
        try:
            subnet_of(word)
        except ValueError as error:
            raise ConfigError("", str(error)) from None

    return (yield from value("Subnet that has all nodes of this cluster, and no others", usual, check))


def told(survey: Survey, own: str) -> list[str]:
    """What was found, a line each."""
    nodes = {own: "this node", **{ip: f"{found.name or '?'}{_of(found.nodes)}" for ip, found in survey.nodes.items()}}
    lines = [f"{ip:15} {printable(nodes[ip])}" for ip in in_order([*nodes])]
    lines += [f"{ip:15} version {printable(survey.others[ip].version)} does not work with {__version__}: left out"
              for ip in in_order([*survey.others])]
    return [*lines, *(TWICE.format(ip=ip) for ip in in_order([*survey.twice]))]


def _of(nodes: str) -> str:
    return f", in a cluster of {nodes} now" if nodes else ""


def dialogue(asker: Asker, survey: Survey, options: Parsed) -> Talk[tuple[list[str], int]]:
    """Which nodes, in order, and the number of the first, 0 for none. UserError when nothing is to be configured."""
    own = str(asker.own.ip)
    while True:
        yield "\n".join(["Nodes that have our key:", *told(survey, own)])
        ips = in_order([own, *survey.nodes])
        if survey.twice:
            if not (yield from yes("Look again", False)):
                raise UserError(TWICE.format(ip=in_order([*survey.twice])[0]))
        elif (yield from yes(f"Are these {len(ips)} all nodes of this cluster (n: look again)", True)):
            break
        survey = asker.look()
    first = int(options.get("number", "0"))
    if not first and "no_numbers" not in options and (yield from yes("Number them in this order", True)):
        first = int((yield from value("Number of the first", "1", _number)))
    mosix_map, view = files(ips, first)
    yield f"--- mosix.map:\n{mosix_map.rstrip()}" + (f"\n--- userview.map:\n{view.rstrip()}" if view else "")
    if not (yield from yes("Configure all of them", True)):
        raise UserError("nothing was written")
    return ips, first


def _number(word: str) -> None:
    if not (word.isascii() and word.isdigit() and len(word) < 6 and 0 < int(word) <= 65535):
        raise ConfigError("", "not a number of 1-65535")


def configure(asker: Asker, paths: NodePaths, ips: list[str], first: int) -> int:
    """Give all the nodes their files, this one as well; the exit status."""
    own = str(asker.own.ip)
    mosix_map, view = files(ips, first)
    wrong = autoconf_node.take(paths, mosix_map, view, False)
    if wrong:
        raise UserError(f"nothing was written, because mosd would refuse this:\n{wrong}")
    others = [ip for ip in ips if ip != own]
    told_to_write, failed = asker.give(others, mosix_map, view) if others else (True, {})
    for ip in in_order([*failed]):
        print(f"mos_autoconf: {ip}: {printable(failed[ip])}", file=sys.stderr)
    if failed:
        raise UserError(PARTLY if told_to_write else "nothing was written")
    if wrong := autoconf_node.take(paths, mosix_map, view, True):
        raise UserError(f"{wrong}: this node alone was not configured")
    print(f"{len(ips)} nodes are configured.")
    return 0


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    if "number" in options and "no_numbers" in options:
        raise UsageError("--number or --no-numbers")
    paths = NodePaths.from_env()
    if "answer" in options:
        return autoconf_node.serve(paths, _port(), options.get("then"))
    return lead(paths, options, Answers(options.get("answers")) if "answers" in options else Terminal())


def _port() -> int:
    try:
        return Ports.from_env().discover
    except ConfigError as error:
        raise UserError(str(error)) from None


def lead(paths: NodePaths, options: Parsed, person: Answers | Terminal) -> int:
    """All of it but for being found: the exit status."""
    try:
        key = key_of(read_secret(paths.secret))
    except FileNotFoundError:
        raise UserError(NO_KEY.format(file=paths.secret)) from None
    except ConfigError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{paths.secret}: {error.strerror}") from None
    silent = "yes" in options or "list" in options
    own, subnet = where(options, None if silent else person)
    asker = Asker.open(key, own, subnet, _port())
    survey = asker.look()
    if "list" in options:
        return listed(survey, str(own.ip), "json" in options)
    try:
        if silent:
            if survey.twice:
                raise UserError(TWICE.format(ip=in_order([*survey.twice])[0]))
            ips, first = in_order([str(own.ip), *survey.nodes]), 0 if "no_numbers" in options else int(options.get("number", "1"))
        else:
            ips, first = hold(dialogue(asker, survey, options), person)  # type: ignore[misc]
        return configure(asker, paths, ips, first)
    except (ConfigError, ValueError) as error:
        raise UserError(str(error)) from None


def listed(survey: Survey, own: str, as_json: bool) -> int:
    if as_json:
        found: dict[str, object] = {"own": own, "twice": in_order([*survey.twice])}
        for name, nodes in (("nodes", survey.nodes), ("others", survey.others)):
            found[name] = [{"ip": ip, "name": nodes[ip].name, "version": nodes[ip].version, "nodes": nodes[ip].nodes}
                           for ip in in_order([*nodes])]
        print(json.dumps(found))
    else:
        print(*told(survey, own), sep="\n")
    return 1 if survey.twice else 0


def main(argv: list[str] | None = None) -> int:
    return MOS_AUTOCONF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
