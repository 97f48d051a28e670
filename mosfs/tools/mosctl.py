"""mosctl(1): the switches of this node, and what it knows of itself and others. Each verb is a row of `VERBS`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mosfs.cluster.paths import NodePaths
from mosfs.tools import multi
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError, is_ip
from mosfs.tools.orders import write
from mosfs.tools.text import NOT_IN_MAP
from mosfs.tools.tree import Tree

POLL = 0.02  #: seconds between two looks whether it is done
AGAIN = 1.0  #: seconds after which those that are still there are asked again

Facts = dict[str, object]

SWITCHES = {4: "stay", 8: "lstay", 16: "block"}
WELCOME = 32
#: The integers of rstatus, in the manual's order.
RSTATUS = (
    "status", "load", "availability", "speed", "ncpus", "frozen", "memory_available", "memory_total", "swap_free", "swap_total",
    "memory_privileged", "processes",
)


@dataclass(frozen=True)
class Verb:
    """A row of mosctl(1). ``argument`` is shown in the synopsis; ``most``: words that may be there, if any. ``act`` gets the
    first, and finds the others in ``options.rest``."""

    name: str
    text: str
    act: Callable[[Tree, str, Parsed], int]
    argument: str = ""
    most: int = 1


# --------------------------------------------------------------------------- switches


def switch(name: str, value: str) -> Callable[[Tree, str, Parsed], int]:
    def act(tree: Tree, _: str, __: Parsed) -> int:
        write(tree, name if value == "1" else f"no{name}", name, value)
        return 0

    return act


def until_none_is_left(tree: Tree, verb: str, left: Callable[[], int]) -> None:
    """Order ``verb`` (expel, bring), again each second, until ``left`` counts none."""
    while True:
        write(tree, verb, verb, "1")
        again = time.monotonic() + AGAIN
        while time.monotonic() < again:
            if not left():
                return
            time.sleep(POLL)


def expel(tree: Tree, _: str, __: Parsed) -> int:
    until_none_is_left(tree, "expel", lambda: len(tree.pids("guests")))
    return 0


def bring(tree: Tree, _: str, __: Parsed) -> int:
    until_none_is_left(tree, "bring", lambda: int(tree.fact("away")))
    return 0


def shut_down(tree: Tree, verb: str = "shutdown", *, wait: bool = True) -> None:
    """Order it and wait until this mosd's process is gone. Interrupting the wait does not stop the shutdown."""
    process = _process(int(tree.fact("pid")))
    with process if process is not None else contextlib.nullcontext():
        write(tree, verb, "shutdown", "1")
        if wait and process is not None:
            select.select([process], [], [])


def _process(pid: int) -> BinaryIO | None:
    """A pidfd, readable when the process ``pid`` ends (pidfd_open(2)); None when it is gone already."""
    try:
        return open(os.pidfd_open(pid), "rb", buffering=0)  # the file owns the descriptor
    except ProcessLookupError:
        return None


def shutdown(tree: Tree, _: str, __: Parsed) -> int:
    shut_down(tree)
    return 0


# --------------------------------------------------------------------------- information


def find(tree: Tree, name: str) -> tuple[str, str]:
    """IP and number ("" for none) of the node that ``name`` means: a number, IP or host name; "" is this one."""
    word = name
    if name and not name.isdigit() and not is_ip(name):
        import socket

        try:
            word = socket.gethostbyname(name)
        except (OSError, UnicodeError):
            raise UserError(f"{name}: {NOT_IN_MAP}") from None
    try:
        ip, number = tree.ask("whois", word).split()
    except OSError:
        raise UserError(f"{name}: {NOT_IN_MAP}") from None
    return ip, number if number.isdigit() else ""


def whois(tree: Tree, name: str, options: Parsed) -> int:
    """A number gives the IP; anything else the number, or the IP if there is none."""
    ip, number = find(tree, name)
    if "json" in options:
        print(json.dumps({"ip": ip, "number": int(number) if number else None}))
    else:
        print(ip if name.isdigit() else number or ip)
    return 0


def facts_of(tree: Tree, ip: str) -> Facts:
    """What ``nodes/IP/`` says: its stat and the bits of rstatus."""
    facts: Facts = json.loads(tree.read(f"nodes/{ip}/stat"))
    return {**facts, "bits": int(tree.read(f"nodes/{ip}/rstatus").split()[0])}


def switches(bits: object) -> str:
    return " ".join(name for bit, name in SWITCHES.items() if isinstance(bits, int) and bits & bit) or "none"


def describe(facts: Facts) -> Iterator[tuple[str, str]]:
    """Titles and values of mosctl status. ``facts`` as from `facts_of`."""
    number = facts["number"]
    yield "Node", f"{number} ({facts['ip']})" if number is not None else str(facts["ip"])
    if facts.get("cluster"):
        yield "Cluster", partner(facts)
    yield "Status", str(facts["status"])
    if "load" not in facts:
        return
    age = facts["age"]
    yield "Age", f"{age} seconds"
    yield "Load", f"{float(str(facts['load'])) / 100:.2f}"
    yield "Speed", str(facts["speed"])
    yield "CPUs", str(facts["ncpus"])
    if facts.get("cpu_level") is not None:
        lacks = facts["cpu_lacks"]
        lacking = f", lacks {' '.join(lacks)}" if isinstance(lacks, list) and lacks else ""
        yield "Processor", f"x86-64-v{facts['cpu_level']}{lacking}"
    yield "Memory", f"{facts['mem_free']} MB available of {facts['mem_total']} MB"
    yield "Swap", f"{gigabytes(facts['swap_free'])} GB free of {gigabytes(facts['swap_total'])} GB"
    yield "Frozen", str(facts["frozen"])
    yield "Processes", f"{facts['processes']} MOSIX processes, {facts['guests']} of them guests"
    bits = facts["bits"]
    yield "Switches", switches(bits)
    yield "Accepts", "processes from here" if isinstance(bits, int) and bits & WELCOME else "no processes from here"
    if facts["version"] is not None:
        yield "Version", str(facts["version"])


def partner(facts: Facts) -> str:
    """Which partner-cluster the node is in, and what may go where."""
    ways = {"cango": "ours may go there", "cantake": "theirs may come here"}
    allowed = [text for name, text in ways.items() if facts[name]] or ["no processes go either way"]
    return f"{facts['cluster']}, priority {facts['priority']} here: {', '.join(allowed)}"


def gigabytes(megabytes: object) -> str:
    return f"{int(str(megabytes)) / 1024:.1f}"


def local_facts(tree: Tree) -> Facts:
    nodes = json.loads(tree.fact("cluster"))["nodes"]
    alive = sum(row[2] in ("alive", "blocked") for row in nodes)
    return {
        "software": tree.fact("version"), "mosd_pid": int(tree.fact("pid")), "port": int(tree.fact("port")),
        "programs": int(tree.fact("programs")), "away": int(tree.fact("away")), "nodes_alive": alive,
        "nodes_numbered": len(nodes),
        "cpu_lacking_somewhere": lacking_somewhere(tree), "shutting_down": tree.fact("shutdown") == "1", "mount": tree.mount,
    }


def lacking_somewhere(tree: Tree) -> list[str]:
    """Features of this node's processor that not all nodes have which are up."""
    facts = json.loads(tree.fact("stat"))
    return sorted(set(facts.get("cpu_features") or ()) - set(facts.get("cpu_common") or ()))


def describe_local(facts: Facts) -> Iterator[tuple[str, str]]:
    """What only this node knows, below its `describe`."""
    yield "Programs", f"{facts['programs']} of this node, {facts['away']} of them away"
    yield "Cluster", f"{facts['nodes_alive']} of {facts['nodes_numbered']} numbered nodes are up"
    if lacking := facts["cpu_lacking_somewhere"]:
        yield "Some lack", " ".join(lacking) if isinstance(lacking, list) else str(lacking)
    yield "Software", f"mosfs {facts['software']}"
    yield "Daemon", f"mosd, PID {facts['mosd_pid']}, TCP port {facts['port']}" + (
        ", shutting down" if facts["shutting_down"] else "")
    yield "Mount", str(facts["mount"])


def lines(rows: Iterator[tuple[str, str]]) -> str:
    return "\n".join(f"{title + ':':11} {value}" for title, value in rows)


def status(tree: Tree, name: str, options: Parsed) -> int:
    facts = facts_of(tree, find(tree, name)[0])
    print(json.dumps(facts) if "json" in options else lines(describe(facts)))
    return 0


def localstatus(tree: Tree, _: str, options: Parsed) -> int:
    facts, local = facts_of(tree, find(tree, "")[0]), local_facts(tree)
    if "json" in options:
        print(json.dumps({**facts, **local}))
    else:
        print(lines(describe(facts)))
        print(lines(describe_local(local)))
    return 0


def rstatus(tree: Tree, name: str, options: Parsed) -> int:
    numbers = tree.read(f"nodes/{find(tree, name)[0]}/rstatus")
    print(json.dumps(dict(zip(RSTATUS, map(int, numbers.split())))) if "json" in options else numbers)
    return 0


def doctor(tree: Tree, _: str, options: Parsed) -> int:
    from mosfs.tools.doctor import doctor

    return doctor(tree, "json" in options)


def metrics(tree: Tree, address: str, _: Parsed) -> int:
    from mosfs.tools.metrics import metrics

    return metrics(tree, address)


# --------------------------------------------------------------------------- the table

NODE = "[{node-number} | IP-address | hostname]"
GUESTS = "[{maxguests}]"

VERBS = (
    Verb("stay", "keep processes from migrating away automatically", switch("stay", "1")),
    Verb("nostay", "cancel stay", switch("stay", "0")),
    Verb("lstay", "keep processes of this home-node from migrating away automatically", switch("lstay", "1")),
    Verb("nolstay", "cancel lstay", switch("lstay", "0")),
    Verb("block", "let no guests in", switch("block", "1")),
    Verb("noblock", "cancel block", switch("block", "0")),
    Verb("expel", "send all guests away, and wait until they are gone", expel),
    Verb("bring", "bring all processes of this home-node back, and wait until they are here", bring),
    Verb("shutdown", "expel, bring, and end MOSIX on this node", shutdown),
    Verb("isolate", "leave the multi-cluster, and wait until all processes have come home or left", multi.isolate),
    Verb("rejoin", "cancel isolate; so many guests of other clusters may come (0 if that is not said)", multi.rejoin, GUESTS),
    Verb("maxguests", "how many guests of other clusters may come", multi.maxguests, GUESTS),
    Verb("openmulti", "let guests of other clusters in", multi.openmulti, GUESTS),
    Verb("closemulti", "let no guests of other clusters in, and send away those that are here", multi.closemulti),
    Verb("cngpri", "change the priority of a partner-cluster", multi.cngpri, "{partner} {newpri}", most=2),
    Verb("whois", "from node-number to IP address, from IP address and host-name to node-number", whois, NODE),
    Verb("status", "about a node, in words", status, NODE),
    Verb("localstatus", "more about this node", localstatus),
    Verb("rstatus", "about a node, in integers", rstatus, NODE),
    Verb("doctor", "examine this node, and say what is wrong with it", doctor),
    Verb("metrics", "print the metrics of this node, or serve them to Prometheus", metrics, "[address:port]"),
)
BY_NAME = {verb.name: verb for verb in VERBS}

TELLING = ("whois", "status", "localstatus", "rstatus", "doctor")


def form(verb: Verb) -> str:
    """The line of the synopsis for ``verb``."""
    return " ".join(filter(None, ("mosctl", verb.name, verb.argument, "[--json]" if verb.name in TELLING else "")))


MOSCTL = Command(
    "mosctl", "\n".join(map(form, VERBS)), "control the MOSIX node",
    (Option("--json", "json", f"{', '.join(TELLING)}: a JSON object"),), permute=True,
)


def body(options: Parsed) -> int:
    if not options.rest:
        raise UsageError("what to do?")
    name, *arguments = options.rest
    verb = BY_NAME.get(name)
    if verb is None:
        raise UsageError(f"unknown function {name}")
    if len(arguments) > (verb.most if verb.argument else 0):
        raise UsageError(f"{arguments[-1]}: too much")
    return verb.act(Tree(NodePaths.from_env()), arguments[0] if arguments else "", options)


def main(argv: list[str] | None = None) -> int:
    return MOSCTL.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
