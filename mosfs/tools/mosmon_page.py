"""The page of mosmon(1), --html: one file of HTML with its style and drawings, without scripts and without anything from elsewhere.

A pure function of a `Picture`: what programs, users and partners are called is text, whatever is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise

from mosfs.tools.mosmon_draw import LINES, STEPS, Curve, Dot, Way, colour, hour, ring, spark, text
from mosfs.tools.mosmon_picture import Picture, Shown, Visit
from mosfs.tools.mosmon_style import STYLE
from mosfs.tools.mosmon_view import Node

#: More nodes than these get a tile each, in place of a card.
MOST_CARDS = 24
#: Stops of a program's way that are shown, the last ones, and decisions.
MOST_VISITS, MOST_DECISIONS = 8, 30
#: Seconds of which the page shows the loads.
HOUR = 3600
#: A load of 100 is one program for each standard processor of this speed.
LOAD, SPEED = 100, 10000
#: Letters of a command that are shown.
MOST_COMMAND = 300


def page(picture: Picture) -> str:
    """The whole file."""
    curves = curves_of(picture)
    notes = round(HOUR / picture.period) + 1
    title = f"MOSIX cluster of {len(picture.nodes)} node{_s(len(picture.nodes))}"
    return "".join([
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>",
        f'<header><h1>{title}</h1><p>as node {text(picture.name(""))} ({text(picture.ip)}) saw it on {text(picture.taken)}'
        f" · mosfs {text(picture.version)}</p></header>",
        _totals(picture), _pictures(picture, curves, notes), *_nodes(picture, curves, notes), _programs(picture), _guests(picture),
        _decisions(picture), "</main></body></html>\n",
    ])


def _s(count: int) -> str:
    return "s" * (count != 1)


def curves_of(picture: Picture) -> Mapping[str, Curve]:
    """The loads of each node by IP over the last hour and now; None where they were not known."""
    notes = round(HOUR / picture.period)
    curves = {}
    for node in picture.nodes:
        noted = [*picture.loads.get(node.ip, ())][-notes:]
        now = node.load if node.up else None
        whole = [*[None] * (notes - len(noted)), *noted, now]
        curves[node.ip] = [None if load is None else load / LOAD for load in whole]
    return curves


# --------------------------------------------------------------------------- totals


def _totals(picture: Picture) -> str:
    up = [node for node in picture.nodes if node.up]
    cpus = sum(node.ncpus for node in up)
    total, free = sum(node.mem_total for node in up), sum(node.mem_free for node in up)
    away = sum(bool(each.where) for each in picture.programs)
    mean = sum(node.load for node in up) / LOAD / max(1, len(up))
    beside = f"; {picture.hidden} more not shown" if picture.hidden else ""
    rows = [
        ("Nodes up", f"{len(up)}", f"of {len(picture.nodes)}"),
        ("Processors", f"{cpus}", f"as {round(sum(node.ncpus * node.speed for node in up) / SPEED)} standard ones"),
        ("Mean load", f"{mean:.2f}", "1 = one program a standard CPU"),
        ("Memory used", f"{100 * (total - free) / max(1, total):.0f} %", f"of {size(total)}"),
        ("Programs", f"{len(picture.programs)}", f"of this node, {away} away{beside}"),
        ("Guests", f"{len(picture.guests)}", "on this node"),
    ]
    tiles = "".join(f"<div><dt>{name}</dt><dd>{value}</dd><dd>{more}</dd></div>" for name, value, more in rows)
    return f'<dl class="totals">{tiles}</dl>'


def size(megabytes: float) -> str:
    """In the largest unit that leaves a number of 1 at least."""
    for unit in ("MB", "GB", "TB"):
        if megabytes < 1024 or unit == "TB":
            break
        megabytes /= 1024
    return f"{megabytes:.0f} {unit}" if megabytes >= 100 or unit == "MB" else f"{megabytes:.1f} {unit}"


# --------------------------------------------------------------------------- ring and hour


def _pictures(picture: Picture, curves: Mapping[str, Curve], notes: int) -> str:
    dots = [
        Dot(picture.name(node.ip), node.load / LOAD if node.up else None, _told(picture, node), node.ip == picture.ip)
        for node in picture.nodes
    ]
    steps = [0.0, *STEPS]
    keys = "".join(f'<li><i class="q{at}"></i>{step:g}{"+" if at + 1 == len(steps) else ""}</li>' for at, step in enumerate(steps))
    legend = (f'<ul class="legend"><li>load from</li>{keys}<li><i class="down"></i>not up</li>'
              '<li><i class="way"></i>programs are there</li><li><i class="way old"></i>were there</li></ul>')
    few = len(picture.nodes) <= len(LINES)
    lines = {picture.name(ip): curve for ip, curve in curves.items()}
    what = "A line for each node." if few else "Median of all nodes; most of them (80 %) are in the dark band, all in the pale one."
    return ('<div class="pictures"><section><h2>Nodes, and where programs are</h2>'
            f"{ring(dots, ways(picture))}{legend}</section>"
            f'<section><h2>Load over the last hour</h2>{hour(lines, notes)}<p class="note">{what} '
            "Nodes are compared by what their processors have to do: 1 is one program for each processor of standard speed.</p>"
            f"{_busiest(picture)}</section></div>")


def _busiest(picture: Picture) -> str:
    """The busiest nodes, where there are too many to see that at once."""
    up = sorted((node for node in picture.nodes if node.up), key=lambda node: -node.load)
    if len(up) <= len(LINES):
        return ""
    rows = "".join(
        f'<li><b>{text(picture.name(node.ip))}</b><i class="{colour(node.load / LOAD)}" style="width:'
        f'{60 * node.load / max(1, up[0].load):.0f}%"></i>{node.load / LOAD:.2f}</li>' for node in up[:8]
    )
    return f'<h3>The busiest</h3><ol class="busy">{rows}</ol>'


def ways(picture: Picture) -> list[Way]:
    """Between home-nodes and where their programs are; and what else programs have moved along."""
    place = {node.ip: at for at, node in enumerate(picture.nodes)}
    now = Counter((picture.ip, each.where) for each in picture.programs if each.where)
    now.update((each.home, picture.ip) for each in picture.guests)
    steps = Counter(
        step for each in picture.programs
        for step in pairwise([picture.ip, *(visit.where or picture.ip for visit in each.path)])
    )
    found = []
    for counts, is_now in ((steps, False), (now, True)):
        for (start, end), count in counts.items():
            if start == end or start not in place or end not in place or (not is_now and (start, end) in now):
                continue
            names = picture.name(start), picture.name(end)
            said = (f"{count} program{_s(count)} of node {names[0]} on node {names[1]}" if is_now
                    else f"{count} move{_s(count)} from node {names[0]} to node {names[1]}")
            found.append(Way(place[start], place[end], count, is_now, said))
    return found


def _told(picture: Picture, node: Node) -> str:
    """A node in one line, for whoever points at it."""
    name = f"node {node.number} ({node.ip})" if node.number else node.ip
    if not node.up:
        return f"{name}: {node.status}"
    used = f"{size(node.mem_total - node.mem_free)} of {size(node.mem_total)} used"
    blocked = "; lets no guests in" if node.status == "blocked" else ""
    return (f"{name}: load {node.load / LOAD:.2f}, {node.ncpus} processor{_s(node.ncpus)} of speed {node.speed}, {used}, "
            f"{node.guests} guest{_s(node.guests)}, {node.frozen} frozen{blocked}")


# --------------------------------------------------------------------------- nodes


def _nodes(picture: Picture, curves: Mapping[str, Curve], notes: int) -> Iterator[str]:
    """A section for our cluster, and one for each partner-cluster."""
    most = max((value for curve in curves.values() for value in curve if value is not None), default=0.0)
    top = max(1.0, most)
    clusters = sorted({picture.clusters.get(node.ip, "") for node in picture.nodes})
    cards = len(picture.nodes) <= MOST_CARDS
    for cluster in clusters:
        nodes = [node for node in picture.nodes if picture.clusters.get(node.ip, "") == cluster]
        make = _card if cards else _tile
        shown = "".join(make(picture, node, spark(curves[node.ip], notes, top)) for node in nodes)
        name = f"Partner-cluster {text(cluster)}" if cluster else "Nodes"
        note = f'<p class="note">Loads over the last hour, all drawn up to {top:.3g}{"; the line is 1" if top > 1 else ""}.</p>'
        look = "cards" if cards else "tiles"
        yield f'<section><h2>{name} <span>{len(nodes)}</span></h2>{note}<div class="{look}">{shown}</div></section>'


def _look(node: Node) -> str:
    return colour(node.load / LOAD) if node.up else "down"


def _card(picture: Picture, node: Node, drawn: str) -> str:
    here = '<em class="pill">this node</em>' if node.ip == picture.ip else ""
    state = "" if node.status == "alive" else f'<em class="pill {"warn" if node.up else "bad"}">{text(node.status)}</em>'
    head = f"<h3>{text(picture.name(node.ip))}<small>{text(node.ip) if node.number else ''}</small>{here}{state}</h3>"
    if not node.up:
        return f'<article class="off">{head}{drawn}<p class="note">nothing is heard from it</p></article>'
    used = node.mem_total - node.mem_free
    share = 100 * used / max(1, node.mem_total)
    facts = (
        ("processors", f"{node.ncpus} \u00d7 {node.speed / SPEED:.3g}"), ("guests", f"{node.guests}"),
        *((("frozen", f"{node.frozen}"),) if node.frozen else ()),
        *((("paging", f"{node.paging}/s"),) if node.paging else ()),
    )
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (f'<article>{head}<p class="load"><i class="{_look(node)}"></i>{node.load / LOAD:.2f}</p>{drawn}'
            f'<div class="meter" title="memory"><i style="width:{share:.0f}%"></i></div>'
            f'<p class="note">{size(used)} of {size(node.mem_total)}</p><dl>{rows}</dl></article>')


def _tile(picture: Picture, node: Node, drawn: str) -> str:
    value = f"{node.load / LOAD:.2f}" if node.up else text(node.status)
    here = " here" if node.ip == picture.ip else ""
    blocked = " blocked" if node.status == "blocked" else ""
    return (f'<article class="{_look(node)}{here}{blocked}" title="{text(_told(picture, node))}">'
            f"<b>{text(picture.name(node.ip))}</b><span>{value}</span>{drawn}</article>")


# --------------------------------------------------------------------------- programs


def _programs(picture: Picture) -> str:
    if not picture.programs and not picture.hidden:
        return '<section><h2>Programs <span>0</span></h2><p class="note">No program of this node runs under mosrun.</p></section>'
    rows = "".join(_program(picture, each) for each in picture.programs)
    hidden = (f'<p class="note">{picture.hidden} more program{_s(picture.hidden)} and guests are not shown: they belong to other '
              "users, or are too many.</p>" if picture.hidden else "")
    return (f'<section><h2>Programs of this node <span>{len(picture.programs)}</span></h2>{hidden}<div class="table"><table>'
            "<thead><tr><th>Program<th>Now on<th>Its way<th>CPU<th>Memory<th>Why it is there</tr></thead>"
            f"<tbody>{rows}</tbody></table></div></section>")


def _who(each: Shown) -> str:
    command = each.command[:MOST_COMMAND] + "…" * (len(each.command) > MOST_COMMAND)
    return f'<td><b title="{text(command)}"><bdi>{text(each.name)}</bdi></b><small>{each.pid} · {text(each.user)}</small></td>'


def _used(each: Shown) -> str:
    cpu = "" if each.cpu is None else seconds(each.cpu)
    memory = "" if each.size_mb is None else size(each.size_mb)
    return f'<td class="n">{cpu}</td><td class="n">{memory}</td>'


def _program(picture: Picture, each: Shown) -> str:
    where = f'<em class="chip far">{text(picture.name(each.where))}</em>' if each.where else '<em class="chip">home</em>'
    if each.frozen in ("A", "P", "M"):
        where += '<em class="pill warn">frozen</em>'
    elif each.state in ("starting", "leaving", "returning"):
        where += f'<em class="pill">{text(each.state)}</em>'
    wished = "somebody sent it there" if each.where else ""
    return (f"<tr>{_who(each)}<td>{where}</td><td>{_way_of(picture, each)}</td>{_used(each)}"
            f'<td class="why">{text(each.why or wished)}</td></tr>')


def _way_of(picture: Picture, each: Shown) -> str:
    """The visits of a program, the last one where it is."""
    visits, moves = [*each.path][-MOST_VISITS:], max(each.moves, len(each.path))
    if not visits:
        return f'<span class="note">{f"{moves} move{_s(moves)}, not known" if moves else "has not moved"}</span>'
    left_out = moves - len(visits)
    first = f'<span class="note">{left_out} earlier …</span>' if left_out > 0 else '<em class="chip">home</em>'
    chips = "".join(_chip(picture, visit) for visit in visits)
    return f'<span class="path">{first}{chips}</span><small>{moves} move{_s(moves)}, the last {seconds(visits[-1].ago)} ago</small>'


def _chip(picture: Picture, visit: Visit) -> str:
    when = f"{seconds(visit.ago)} ago{': ' if visit.why else ''}{text(visit.why)}"
    name, look = (text(picture.name(visit.where)), " far") if visit.where else ("home", "")
    return f'<i>→</i><em class="chip{look}" title="{when}">{name}</em>'


def seconds(number: float) -> str:
    """12 s, 5 min, 3.2 h, 4.0 d."""
    for limit, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if number < limit:
            exact = name == "h" or number < 10
            return f"{number / unit:.1f} {name}" if exact else f"{number / unit:.0f} {name}"
    return f"{number / 86400:.1f} d"


def _guests(picture: Picture) -> str:
    if not picture.guests:
        return ""
    rows = "".join(
        f'<tr>{_who(each)}<td><em class="chip far">{text(picture.name(each.home))}</em></td>{_used(each)}'
        f'<td class="why">{text(each.why)}</td></tr>' for each in picture.guests
    )
    return (f'<section><h2>Guests on this node <span>{len(picture.guests)}</span></h2><div class="table"><table>'
            "<thead><tr><th>Program<th>From<th>CPU<th>Memory<th>Why it stays</tr></thead>"
            f"<tbody>{rows}</tbody></table></div></section>")


def _decisions(picture: Picture) -> str:
    if not picture.decisions:
        return ""
    rows = "".join(f"<li>{text(line)}</li>" for line in reversed(picture.decisions[-MOST_DECISIONS:]))
    return f'<section><h2>Last decisions of this node</h2><ol class="log">{rows}</ol></section>'
