"""mosconf(1): leads through the configuration of a node or of a root image, and writes what mosd accepts (manual, 4.1-4.6)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress

from mosfs.cluster.address import Resolver, system_resolver
from mosfs.cluster.check import CHECKS
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import read_text
from mosfs.cluster.local import local_addresses
from mosfs.cluster.partners import valid_name
from mosfs.cluster.paths import NodePaths
from mosfs.tools import mos_autoconf
from mosfs.tools.mosconf_files import apply, refused
from mosfs.tools.mosconf_menus import MENUS, main_menu
from mosfs.tools.mosconf_person import Answers, Terminal, hold
from mosfs.tools.mosconf_talk import MAP, PARTNERS, SECRET, Automatic, Draft, Question, yes
from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError, UserError
from mosfs.tools.orders import SAME_MAP, configure
from mosfs.tools.tree import Tree

SYNOPSIS = f"mosconf [--root dir] [--answers file] [{' | '.join(MENUS)}]"
MOSCONF = Command("mosconf", SYNOPSIS, "configure a node", (
    Option("--root", "root", "configure this root image, of other nodes, instead of this node", TEXT, metavar="dir"),
    Option("--answers", "answers", "take the answers from this file, one a line, instead of the terminal", TEXT, metavar="file"),
), permute=True)

WHICH = "Press Enter to configure this node, or type the path of a root image: "
REFUSED = "nothing was written, because mosd would refuse this:"
NOT_YET = "mosd does not start before this is right, too:"
UNWRITABLE = "{folder}: cannot be written; only the Super-User may"
READ_ONLY = "{folder}: cannot be written: it is on a read-only file system"
LATER = "mosd is not running: it will find this when it starts"
GOES_ON = "it is written, but mosd, which runs, goes on with what it had until it is started again: {reason}"
ONLY_HERE = "nothing was written: the nodes of an image are found from one of them, by mos_autoconf"
WRITE_FIRST = "nothing was written: have what you changed written first, then begin anew with a"
EVERYWHERE = "run mossetpe on the nodes of this image when they have it"

def read(paths: NodePaths, resolver: Resolver) -> Draft:
    """The files as they are. UserError when one cannot be read."""
    names = [name for name in CHECKS if os.path.lexists(f"{paths.etc}/{name}")]
    with suppress(FileNotFoundError, NotADirectoryError):
        names += [f"{PARTNERS}/{name}" for name in sorted(filter(valid_name, os.listdir(paths.partners)))
                  if os.path.isfile(f"{paths.partners}/{name}")]
    files = {}
    for name in names:
        try:
            files[name] = read_text(f"{paths.etc}/{name}")
        except ConfigError as error:
            raise UserError(str(error)) from None
    return Draft(files, os.path.lexists(paths.secret), resolver)


def shown(name: str, text: str | None) -> str:
    """What a file is to become, as it is shown before it is written; never the key."""
    if text is None:
        return f"--- {name}: no such file any more"
    return f"--- {name}:\n{'(a new key, not shown)' if name == SECRET else text.rstrip()}"


def tell(paths: NodePaths, changes: Mapping[str, str | None], image: bool) -> None:
    """Let the running mosd read the files; those of an image are others' to read."""
    if image:
        if changes.keys() & {MAP, "mosip"}:
            print(EVERYWHERE)
        return
    tree = Tree(paths)
    try:
        tree.fact("pid")
    except (UserError, OSError):
        print(LATER)
        return
    try:
        configure(tree, SAME_MAP, wait=False)
    except UserError as error:
        raise UserError(GOES_ON.format(reason=error.text)) from None


def finish(paths: NodePaths, draft: Draft, image: bool, person: Answers | Terminal) -> int | None:
    """Show, check and write the changes: the exit status, or None when mosd would refuse them, which has been told."""
    changes = draft.changes()
    if not changes:
        print("Nothing changes.")
        return 0
    for name, text in changes.items():
        print(shown(name, text))
    try:
        new, old = refused(paths, changes, draft.resolver, None if image else local_addresses)
    except OSError as error:
        raise UserError(f"{paths.etc}: {error.strerror}") from error
    if new:
        print("\n".join([f"mosconf: {REFUSED}", *new]), file=sys.stderr)
        return None
    if not hold(yes("Write this", True), person):
        raise UserError("nothing was written")
    apply(paths, changes)
    if old:
        print("\n".join([NOT_YET, *old]))
    tell(paths, changes, image)
    return 0


def automatic(paths: NodePaths, draft: Draft, image: bool, person: Answers | Terminal) -> int:
    """mos_autoconf(1) goes on; it writes by itself."""
    if image:
        raise UserError(ONLY_HERE)
    if draft.changes():
        raise UserError(WRITE_FIRST)
    return mos_autoconf.lead(paths, mos_autoconf.MOS_AUTOCONF.parse([]), person)


def chosen(options: Parsed, person: Answers | Terminal) -> str:
    """The root image; "" for this node."""
    root = options.get("root")
    if "root" not in options and not options.rest:
        root = person.ask(Question(WHICH)).strip()
    if root and not os.path.isdir(root):
        raise UserError(f"{root}: not a directory")
    return root


def body(options: Parsed) -> int:
    wrong = [word for word in options.rest if word not in MENUS] or options.rest[1:]
    if wrong:
        raise UsageError(f"{wrong[0]}: one of {' '.join(MENUS)} may follow")
    person = Answers(options.get("answers")) if "answers" in options else Terminal()
    root = chosen(options, person)
    paths = NodePaths(root) if root else NodePaths.from_env()
    folder = paths.etc if os.path.isdir(paths.etc) else paths.root
    if not os.access(folder, os.W_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        raise UserError((READ_ONLY if read_only else UNWRITABLE).format(folder=paths.etc))
    draft = read(paths, system_resolver)
    menu = MENUS[options.rest[0]][1] if options.rest else main_menu
    while True:
        try:
            hold(menu(draft), person)
        except Automatic:
            return automatic(paths, draft, bool(root), person)
        status = finish(paths, draft, bool(root), person)
        if status is not None:
            return status
        if options.rest or isinstance(person, Answers):
            return 1


def main(argv: list[str] | None = None) -> int:
    return MOSCONF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
