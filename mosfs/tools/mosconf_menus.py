"""The other menus of mosconf(1), and the table of all: freezing, speed, numbers, other policies and partners."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import TypeVar

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import FREEZE_CONF, USUAL, Directory, Freezing, Policy, parse_freezing, print_freezing, written
from mosfs.cluster.mosix_map import RangeLine, parse_map
from mosfs.cluster.mosrun_conf import (
    CONFINED,
    DEFAULT,
    FORCED,
    MODES,
    MOSRUN_CONF,
    PROGRAMS,
    REFUSED,
    STARTS,
    USERS,
    Rules,
    parse_rules,
    print_rules,
)
from mosfs.cluster.partners import DEFAULT_PRIORITY, MAX_NAME, OWN_PRIORITY, PartnerFile, parse_partner, print_partner, valid_name
from mosfs.cluster.private_conf import parse_private, validate_private
from mosfs.cluster.scalars import (
    DEFAULT_SPEED,
    parse_guest_uids,
    parse_level,
    parse_max_guests,
    parse_mosip,
    parse_retain,
    parse_speed,
)
from mosfs.cluster.userview import parse_userview, validate_userview
from mosfs.tools.mosconf_talk import MAP, PARTNERS, VIEW, Draft, Question, Talk, Wrong, distant, edit, key, nodes, value, yes

T = TypeVar("T")

#: What stands for a file that is not there, and the answer that takes it away.
NONE, REMOVE = "none", "-"


def numbers(draft: Draft) -> Talk[None]:
    """The numbers by which users call nodes: userview.map (mosix(7))."""
    all_of_them = "Number all nodes of this cluster from 1 on, in the order of the map"
    if MAP in draft.files and (yield from yes(all_of_them, VIEW not in draft.files)):
        try:
            draft.set(VIEW, in_order(draft.files[MAP]))
        except ConfigError as error:
            yield str(error)
        else:
            return

    def build(answer: str) -> Talk[str]:
        host = (yield Question("First address (or name): ")).strip()
        count = yield from value("How many nodes", "1", lambda word: parse_userview(f"{answer} {host} {word}\n"))
        return f"{answer} {host} {count}"

    def check(changed: str) -> None:
        validate_userview(parse_userview(changed), draft.resolver)

    draft.set(VIEW, (yield from edit(draft.files.get(VIEW, ""), "Numbers of nodes", "First number of a range", build, check)))


def in_order(text: str) -> str:
    """A userview.map for the nodes of a mosix.map. ConfigError, also when there are more nodes than numbers."""
    lines, number = [], 1
    for line in parse_map(text, MAP):
        if isinstance(line, RangeLine):
            lines.append(f"{number} {line.host} {line.count}\n")
            number += line.count
    parse_userview("".join(lines), VIEW)
    return "".join(lines)


def one_value(draft: Draft, name: str, text: str, usual: str, check: Callable[[str], object]) -> Talk[None]:
    """A file of one value: Enter keeps it, `REMOVE` takes it away."""
    current = " ".join(draft.files.get(name, usual).split())
    answer = yield from value(text, current, lambda word: None if word in (REMOVE, usual) else check(word))
    if answer != current:
        draft.set(name, "" if answer in (REMOVE, usual) else f"{answer}\n")


def speed(draft: Draft) -> Talk[None]:
    """Manual, 4.4."""
    yield "Your most typical processor has 10000; faster ones proportionally more."
    yield from one_value(draft, "speed", "Speed of the processor", str(DEFAULT_SPEED), parse_speed)


def one_of(text: str, current: str, allowed: Iterable[str]) -> Talk[str]:
    """One of some words; "" is asked for, and answered, as `NONE`."""
    words = (NONE, *allowed)

    def check(word: str) -> None:
        if word not in words:
            raise ConfigError(MOSRUN_CONF, f"one of {' '.join(words)}")

    answer = yield from value(f"{text} ({', '.join(words)})", current or NONE, check)
    return "" if answer == NONE else answer


def present(parse: Callable[[], T], new: T) -> Talk[T]:
    """What a file says now; ``new`` where that cannot be read, and who configures is told so."""
    try:
        return parse()
    except ConfigError as error:
        yield f"{error}: it begins anew"
        return new


def mosrun(draft: Draft) -> Talk[None]:
    """Parameters of mosrun (manual, 4.6 and 6.5): what is preset, forced and limited, and for which processor."""
    now = yield from present(lambda: parse_rules(draft.files.get(MOSRUN_CONF, "")), Rules())
    best = yield from one_of("Start on the best node (-b): by default, or forced on ordinary users", now.best, (DEFAULT, FORCED))
    unsupported = yield from one_of("Unsupported system-calls when mosrun does not say", now.unsupported, MODES)
    refused = yield from yes("Refuse threads, as MOSIX does, when mosrun does not say", bool(now.threads))
    memory = yield from yes("Must ordinary users tell the memory of their programs, mosrun -m", now.memory)
    programs = yield from _limit("Most programs that a user has started and that run", PROGRAMS, now.programs)
    starts = yield from _limit("Most programs that a user starts in a day", STARTS, now.starts)
    users = yield from _users("Users and @groups who may use mosrun, all others may not", USERS, now.users or ())
    confined = yield from _users("Users and @groups whose programs stay in this cluster", CONFINED, now.confined)
    then = Rules(best, unsupported, REFUSED if refused else "", memory, programs, starts, users or None, confined)
    if then != now:
        draft.set(MOSRUN_CONF, print_rules(then))
    yield "Programs use no more of their processor than common, x86-64-v2, x86-64-v3, x86-64-v4, or native: all of it."
    yield from one_value(draft, "cpu", "Processor that programs are started for", "native", parse_level)


def _limit(text: str, word: str, now: int | None) -> Talk[int | None]:
    """A number, or None for no limit."""
    answer = yield from value(f"{text} ({NONE}: no limit)", NONE if now is None else str(now),
                              lambda said: said == NONE or parse_rules(f"{word} {said}\n"))
    return None if answer == NONE else int(answer)


def _users(text: str, word: str, now: tuple[str, ...]) -> Talk[tuple[str, ...]]:
    answer = yield from value(f"{text} ({NONE}: no such rule)", " ".join(now) or NONE,
                              lambda said: said == NONE or parse_rules(f"{word} {said}\n"))
    return () if answer == NONE else tuple(dict.fromkeys(answer.split()))


#: File, what is asked, what counts without it, and its parser.
POLICIES: tuple[tuple[str, str, str, Callable[[str], object]], ...] = (
    ("mosip", "MOSIX address of this node (none: the one that is in the map)", NONE, parse_mosip),
    ("retainpri", "Seconds that worse clusters wait when better programs have gone", "0", parse_retain),
    ("maxguests", "Most guests of other clusters at the same time (none: no limit)", NONE, parse_max_guests),
    ("guestuids", "Users that guests run as: first, and how many", "1879048192 65536", parse_guest_uids),
)
PRIVATE = "private.conf"


def misc(draft: Draft) -> Talk[None]:
    """Miscellaneous policies (manual, 4.2.3, 4.3.5, 4.3.6 and 5.4)."""
    yield f"Enter keeps what is in brackets, {REMOVE} goes back to the default."
    for row in POLICIES:
        yield from one_value(draft, *row)

    def build(answer: str) -> Talk[str]:
        yield from ()
        return answer

    def check(changed: str) -> None:
        validate_private(parse_private(changed))

    prompt = "Letters of O (own), C (cluster), G (guests of others), directory, megabytes"
    draft.set(PRIVATE, (yield from edit(draft.files.get(PRIVATE, ""), "Private temporary files", prompt, build, check)))


MARKS = {
    "standard": "1: marks are in units of the standard load, 0: in processes",
    "red": "Red-Mark: above it processes are frozen (-1: never)",
    "blue": "Blue-Mark: below it they go on",
    "home": "Home-Mark: from it on processes that come home are frozen (-1: never)",
    "cluster": "Cluster-Mark: from it on processes that come to this cluster are frozen (-1: never)",
    "keep": "Processes to keep running at any time",
    "most": "Most processes that run (-1: unlimited)",
    "slice": "Minutes that a process runs before another one does",
    "killing": "Megabytes from which on a process is killed when it cannot be frozen (0: always)",
}


def freezing(draft: Draft) -> Talk[None]:
    """Freezing policies, their directories and the owner of the files (manual, 4.5)."""
    now = yield from present(lambda: parse_freezing(draft.files.get(FREEZE_CONF, "")), Freezing())
    policy = None
    if (yield from yes("Freeze processes automatically", now.policy is not None)):
        policy = yield from marks(now.policy or USUAL)

    def build(answer: str) -> Talk[str]:
        weight = yield from value("Probability", "1", lambda word: parse_freezing(f"/x {word}\n"))
        return str(Directory(answer, float(weight)))

    def check(changed: str) -> None:
        if parse_freezing(changed).policy is not None:
            raise ConfigError(FREEZE_CONF, "a directory begins with '/'")

    text = print_freezing(Freezing(directories=now.directories))
    text = yield from edit(text, "Directories for frozen processes (none: /freeze)", "A directory", build, check)
    user = NONE if now.uid is None else str(now.uid)
    user = yield from value("User-ID that owns the files (none: root)", user,
                            lambda word: word == NONE or parse_freezing(f"U {word}\n"))
    then = Freezing(policy, parse_freezing(text).directories, None if user == NONE else int(user))
    if then != now:
        draft.set(FREEZE_CONF, print_freezing(then))


def marks(now: Policy) -> Talk[Policy]:
    """The fields of a policy, one by one; all again when they do not fit each other."""
    while True:
        words = ["1"]
        for each in fields(Policy):
            held = getattr(now, each.name)
            now_is = f"{held:d}" if isinstance(held, int) else written(held).removesuffix(".0")
            words.append((yield from value(MARKS[each.name], now_is, _field(words))))
        try:
            policy = parse_freezing(" ".join(words) + "\n").policy
        except ConfigError as error:
            yield Wrong(error.text)
            continue
        assert policy is not None
        return policy


def _field(words: list[str]) -> Callable[[str], object]:
    """Checks the next field of a policy by itself, among others that are right."""
    at, right = len(words), ["1", "1", "2e9", "0", "0", "0", "0", "0", "20", "0"]
    right[2:4] = ["1000000000", "0"]

    def check(word: str) -> None:
        given = [*right[:at], word, *right[at + 1:]]
        if at == 3:
            given[2] = "-1"  # the blue mark alone: not against a red one
        parse_freezing(" ".join(given) + "\n")

    return check


def partners(draft: Draft) -> Talk[None]:
    """Partner-clusters: which there are (manual, 4.3)."""
    while True:
        names = sorted(name.partition("/")[2] for name in draft.files if name.startswith(f"{PARTNERS}/"))
        yield f"Partner-clusters: {' '.join(names) or NONE}"
        name = (yield Question("Name of a partner-cluster, new or to change, -NAME to delete it, Enter when done: ")).strip()
        if not name:
            return
        if name.startswith("-"):
            if name[1:] not in names:
                yield Wrong("there is no such partner-cluster")
                continue
            draft.set(f"{PARTNERS}/{name[1:]}", "")
        elif not valid_name(name) or len(name.split()) != 1 or not name.isprintable():
            yield Wrong(f"a name is a word of at most {MAX_NAME} characters, without '/', '.' before and '~' behind it")
        else:
            yield from partner(draft, f"{PARTNERS}/{name}")


def partner(draft: Draft, file: str) -> Talk[None]:
    """One of them: its description, relation, priority and nodes."""
    new = PartnerFile(os.path.basename(file))
    now = yield from present(lambda: parse_partner(draft.files[file], file) if file in draft.files else new, new)
    description = yield from value("Description", now.description, printable)
    cango = yield from yes("May processes of this cluster go there", now.cango)
    cantake = yield from yes("May processes of that cluster come here", now.cantake)
    priority = yield from value(f"Priority, the lower the better (0, not recommended, is our own; usual: {DEFAULT_PRIORITY})",
                                str(now.priority), lambda word: parse_partner(f"x\n{word} 1 1\n", file))

    if int(priority) == OWN_PRIORITY:
        yield "With priority 0 its processes are as good as our own: they make way for nobody."

    def build(answer: str) -> Talk[str]:
        count = yield from value("How many nodes", "1", lambda word: parse_partner(f"x\n1 1 1\n{answer} {word} 1 1 0\n", file))
        far = yield from distant(answer, count, True)
        return f"{answer} {count} 1 1 {int(not far)}"

    text = print_partner(PartnerFile(description, int(priority), cango, cantake, now.ranges))
    text = (yield from edit(text, f"Nodes of {os.path.basename(file)}", "First address (or name) of a range of nodes",
                                     build, lambda changed: parse_partner(changed, file), head_lines=2))
    if file not in draft.files or parse_partner(text, file) != now:
        draft.set(file, text)


def printable(word: str) -> None:
    if not word.isprintable():
        raise ConfigError(PARTNERS, "only characters that can be printed")


Menu = Callable[[Draft], Talk[None]]


def authentication(draft: Draft) -> Talk[None]:
    yield from key(draft, os.urandom)


#: Sub-command, its line in the menu, its dialogue; in the order of the menu.
MENUS: dict[str, tuple[str, Menu]] = {
    "nodes": ("Which nodes are in this cluster", nodes),
    "key": ("Authentication", authentication),
    "numbers": ("Logical node numbers", numbers),
    "speed": ("Processor speed", speed),
    "freezing": ("Freezing policies", freezing),
    "mosrun": ("Parameters of 'mosrun'", mosrun),
    "misc": ("Miscellaneous policies", misc),
    "partners": ("Partner-clusters", partners),
}


def main_menu(draft: Draft) -> Talk[None]:
    rows = list(MENUS.values())
    while True:
        yield "\n".join(["", *(f"{at:4}  {text}" for at, (text, _) in enumerate(rows, 1))])
        answer = (yield Question(f"What to configure (1-{len(rows)}), Enter when done: ")).strip()
        if not answer:
            return
        chosen = int(answer) if len(answer) == 1 and answer in "123456789" else 0
        if 0 < chosen <= len(rows):
            yield from rows[chosen - 1][1](draft)
        else:
            yield Wrong(f"a number of 1-{len(rows)}")
