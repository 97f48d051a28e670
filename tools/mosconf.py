"""mosconf(1): leads through the configuration of a node or of a root image, and writes what mosd accepts (manual, 4.1-4.6)."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from mosfs.cluster.address import Resolver, system_resolver
from mosfs.cluster.check import CHECKS, faults
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.lines import read_text
from mosfs.cluster.local import local_addresses
from mosfs.cluster.partners import valid_name
from mosfs.cluster.paths import NodePaths
from mosfs.tools.mosconf_menus import MENUS, main_menu
from mosfs.tools.mosconf_talk import MAP, PARTNERS, SECRET, Draft, Question, Talk, Wrong, yes
from mosfs.tools.multi import put, remove
from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError, UserError
from mosfs.tools.orders import SAME_MAP, configure
from mosfs.tools.tree import Tree

SYNOPSIS = f"mosconf [--root dir] [--answers file] [{' | '.join(MENUS)}]"
MOSCONF = Command("mosconf", SYNOPSIS, "configure a node", (
    Option("--root", "root", "configure this root image, of other nodes, instead of this node", TEXT, metavar="dir"),
    Option("--answers", "answers", "take the answers from this file, one a line, instead of the terminal", TEXT, metavar="file"),
), permute=True)

WHICH = "Press Enter to configure this node, or type the path of a root image: "
NO_ANSWER = "no more answers, at: {question}"
BAD_ANSWER = "{file}, line {line}: {text}"
ENDED = "ended: nothing was written"
REFUSED = "nothing was written, because mosd would refuse this:"
NOT_YET = "mosd does not start before this is right, too:"
UNWRITABLE = "{folder}: cannot be written; only the Super-User may"
LATER = "mosd is not running: it will find this when it starts"
GOES_ON = "it is written, but mosd, which runs, goes on with what it had until it is started again: {reason}"
EVERYWHERE = "run mossetpe on the nodes of this image when they have it"

#: Gives the answer to a question. UserError when there is none.
Ask = Callable[[Question], str]


class Answers:
    """The answers of a file, in their order."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.given = 0
        try:
            with open(file, encoding="utf-8") as stream:
                self.lines = stream.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'not a text file (UTF-8)'}") from error

    def ask(self, question: Question) -> str:
        if self.given == len(self.lines):
            raise UserError(NO_ANSWER.format(question=question.text.strip()))
        self.given += 1
        return self.lines[self.given - 1]

    def wrong(self, text: str) -> None:
        """The answers that follow were meant for other questions."""
        raise UserError(BAD_ANSWER.format(file=self.file, line=self.given, text=text))


class Terminal:
    """Whoever sits there: may try again."""

    @staticmethod
    def ask(question: Question) -> str:
        try:
            return getpass.getpass(question.text) if question.hidden else Terminal._line(question.text)
        except EOFError:
            print()
            raise UserError(ENDED) from None
        except UnicodeDecodeError:
            return "\0"

    @staticmethod
    def _line(prompt: str) -> str:
        """Ctrl-C ends us at once: Python's own handler takes a note only, which nobody reads once input() is in read(2)."""
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return input(prompt)
        finally:
            signal.signal(signal.SIGINT, before)

    @staticmethod
    def wrong(text: str) -> None:
        print(f"** {text}")


def hold(talk: Talk[object], person: Answers | Terminal) -> object:
    """Lead a dialogue to its end; what it returns."""
    answer = ""
    said: Question | Wrong | str = next(talk)
    try:
        while True:
            if isinstance(said, Question):
                answer = person.ask(said)
            elif isinstance(said, Wrong):
                person.wrong(said.text)
            else:
                print(said)
            said = talk.send(answer)
    except StopIteration as end:
        return end.value


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


def chosen(options: Parsed, person: Answers | Terminal) -> str:
    """The root image; "" for this node."""
    root = options.get("root")
    if "root" not in options and not options.rest:
        root = person.ask(Question(WHICH)).strip()
    if root and not os.path.isdir(root):
        raise UserError(f"{root}: not a directory")
    return root


def body(options: Parsed) -> int:
    if len(options.rest) > 1 or not {*options.rest} <= MENUS.keys():
        raise UsageError(f"{options.rest[-1]}: one of {' '.join(MENUS)} may follow")
    person = Answers(options.get("answers")) if "answers" in options else Terminal()
    root = chosen(options, person)
    paths = NodePaths(root) if root else NodePaths.from_env()
    if not os.access(paths.etc if os.path.isdir(paths.etc) else paths.root, os.W_OK):
        raise UserError(UNWRITABLE.format(folder=paths.etc))
    draft = read(paths, system_resolver)
    menu = MENUS[options.rest[0]][1] if options.rest else main_menu
    while True:
        hold(menu(draft), person)
        status = finish(paths, draft, bool(root), person)
        if status is not None:
            return status
        if options.rest or isinstance(person, Answers):
            return 1


def main(argv: list[str] | None = None) -> int:
    return MOSCONF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
