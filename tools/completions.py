"""Print the completion of all commands for a shell, made from their tables.

    python -m tools.completions bash > etc/completions/mosfs.bash
    python -m tools.completions zsh > etc/completions/_mosfs
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from shlex import quote

from mosfs.tools import mosmigrate, mosps
from mosfs.tools.mos_autoconf import MOS_AUTOCONF
from mosfs.tools.mos_checkconf import MOS_CHECKCONF
from mosfs.tools.mos_in_job import MOS_IN_JOB
from mosfs.tools.mosacct import MOSACCT
from mosfs.tools.mosbestnode import MOSBESTNODE
from mosfs.tools.mosconf import MOSCONF
from mosfs.tools.mosconf_menus import MENUS
from mosfs.tools.mosctl import MOSCTL
from mosfs.tools.mosctl import VERBS as FUNCTIONS
from mosfs.tools.mosd import MOSD
from mosfs.tools.moskillall import MOSKILLALL
from mosfs.tools.moslab import MOSLAB, VERBS
from mosfs.tools.mosmon import MOSMON
from mosfs.tools.mosnative import MOSNATIVE
from mosfs.tools.mospipe import MOSPIPE
from mosfs.tools.mosrun import MOSENV, MOSRUN
from mosfs.tools.mossetpe import MOSSETPE
from mosfs.tools.mostestload import MOSTESTLOAD
from mosfs.tools.mostimeof import MOSTIMEOF
from mosfs.tools.options import COUNT, FLAG, GLUED, LIST, MAYBE, NODE, WORD, Command, Option

MADE = "# Made by tools.completions from the commands' own tables: change those.\n"
PIDS = "$(ls ${MOSIX_ROOT%/}/run/mosix/proc 2>/dev/null)"
NUMBERS = "$(sed -n 's/^\\([1-9][0-9]*\\)[ \\t].*/\\1/p' ${MOSIX_ROOT%/}/etc/mosix/userview.map 2>/dev/null)"
MENU_NAMES = " ".join(MENUS)
FUNCTION_NAMES = " ".join(verb.name for verb in FUNCTIONS)

#: What stands behind a command's own options: a program with its arguments (the shell completes those as without us), programs
#: only, files, nothing, or words that depend on their place.
PROGRAM, COMMANDS, FILES, NOTHING = "program", "commands", "files", "nothing"
#: Command, what is behind its options, and behind the first of these.
ROWS: tuple[tuple[Command, str, str], ...] = (
    (MOSRUN, PROGRAM, PROGRAM), (MOSENV, PROGRAM, PROGRAM), (MOSNATIVE, PROGRAM, PROGRAM), (MOSPIPE, COMMANDS, COMMANDS),
    (MOSD, NOTHING, NOTHING), (mosps.MOSPS, PIDS, PIDS), (mosmigrate.MOSMIGRATE, PIDS, f"home {NUMBERS}"),
    (MOSBESTNODE, NOTHING, NOTHING), (MOSCTL, FUNCTION_NAMES, NUMBERS), (MOSKILLALL, NOTHING, NOTHING), (MOSMON, NOTHING, NOTHING),
    (MOSSETPE, FILES, FILES), (MOS_IN_JOB, FILES, FILES), (MOS_CHECKCONF, FILES, FILES), (MOS_AUTOCONF, NOTHING, NOTHING),
    (MOSCONF, MENU_NAMES, MENU_NAMES), (MOSTESTLOAD, NOTHING, NOTHING), (MOSTIMEOF, PIDS, PIDS),
    (MOSACCT, NOTHING, NOTHING),
)
#: moslab's commands that have words behind their options: how many of them are no program, and whether one follows.
LAB_WORDS = {"run": (1, True), "shell": (1, False), "storm": (0, True)}

BASH = r"""
# Each function has in "at" the place of the first word that it does not know yet.

# Goes behind the options. $1: letters that take a value, with a colon before them; $2: longer options that do.
_mosfs_skip() {
    local word start
    while ((at < COMP_CWORD)); do
        word=${COMP_WORDS[at]}
        start=${word%%[0123456789"$1"]*}
        if [[ $word == -- ]]; then
            ((at += 1))
            return
        elif [[ $word != -?* ]]; then
            return
        elif [[ ${COMP_WORDS[at + 1]} == = ]]; then
            ((at += 3))
        elif [[ " $2 " == *" $word "* ]] || [[ $word != --* && $word == "$start"["$1"] ]]; then
            ((at += 2))
        else
            ((at += 1))
        fi
    done
}

# Completes an option, or the value of one; false where neither stands. $3: all options; $4: "anywhere" if they may follow
# other words.
_mosfs_own() {
    local word=${COMP_WORDS[COMP_CWORD]}
    _mosfs_skip "$1" "$2"
    if ((at > COMP_CWORD)); then
        _mosfs_files
    elif [[ $word == -* && ${COMP_WORDS[at - 1]} != -- ]] && { ((at == COMP_CWORD)) || [[ $4 ]]; }; then
        _mosfs_words "$3"
    else
        return 1
    fi
}

_mosfs_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

_mosfs_files() {
    local word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == = ]] && word=
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
}

# Programs by name, without the shell's own words, which mosrun cannot run.
_mosfs_commands() {
    local word=${COMP_WORDS[COMP_CWORD]} IFS=: folder file
    [[ $word == */* ]] && { _mosfs_files; return; }
    mapfile -t COMPREPLY < <(
        for folder in $PATH; do
            for file in "$folder/$word"*; do
                [[ -f $file && -x $file ]] && printf '%s\n' "${file##*/}"
            done
        done | sort -u
    )
}

# A program, and its arguments as without us: bash-completion knows how, or there is a function for it.
_mosfs_program() {
    local name function spec
    if ((at >= COMP_CWORD)); then
        _mosfs_commands
    elif declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$at"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$at"
    else
        name=${COMP_WORDS[at]##*/}
        spec=$(complete -p "$name" 2>/dev/null)
        function=${spec##* -F }
        if [[ $function == "$spec" ]]; then
            _mosfs_files
            return
        fi
        COMP_WORDS=("${COMP_WORDS[@]:at}")
        ((COMP_CWORD -= at))
        COMP_LINE=${COMP_WORDS[*]}
        COMP_POINT=${#COMP_LINE}
        "${function%% *}" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    fi
}
"""

ZSH = r"""
_mosfs_pids() { compadd -- ${MOSIX_ROOT%/}/run/mosix/proc/<->(N:t) }
_mosfs_nodes() { compadd -- "$@" NUMBERS }
""".replace("NUMBERS", NUMBERS)


def takes_value(row: Option) -> bool:
    """Is the next word its value, if none is glued to it?"""
    return row.kind not in (FLAG, COUNT, WORD, MAYBE, GLUED)


def bash_own(command: Command) -> str:
    """The call of _mosfs_own for a command."""
    valued = [name for row in command.table if takes_value(row) for name in row.names]
    letters = ":" + "".join(name[1] for name in valued if len(name) == 2)
    words = " ".join(name for name in valued if len(name) > 2)
    names = " ".join(name for row in command.table for name in row.names if len(name) > 1)
    anywhere = " anywhere" if command.permute else ""
    return f"_mosfs_own {quote(letters)} {quote(words)} {quote(names)}{anywhere}"


def bash_rest(kind: str) -> str:
    """What completes a word of this kind."""
    if kind in (PROGRAM, COMMANDS, FILES):
        return f"_mosfs_{kind}"
    return "COMPREPLY=()" if kind == NOTHING else f'_mosfs_words "{kind}"'


def bash_lab() -> str:
    """moslab: each of its commands has options of its own."""
    cases = []
    for name, (command, _) in VERBS.items():
        skipped, program = LAB_WORDS.get(name, (0, False))
        then = f"\n        (((at += {skipped}) <= COMP_CWORD)) && _mosfs_program" if program else ""
        cases.append(f"    {name})\n        {bash_own(command)} && return{then} ;;\n")
    return (
        f"_moslab() {{\n    local at=1 verb\n    {bash_own(MOSLAB)} && return\n"
        f"    if ((at == COMP_CWORD)); then\n        _mosfs_words {quote(' '.join(VERBS))}\n        return\n    fi\n"
        f"    verb=${{COMP_WORDS[at]}}\n    ((at += 1))\n    case $verb in\n{''.join(cases)}    esac\n}}\n"
        "complete -o default -F _moslab moslab\n"
    )


def bash() -> str:
    parts = [MADE + BASH]
    for command, first, others in ROWS:
        rest = bash_rest(first) if first == others else (
            f"if ((at == COMP_CWORD)); then\n        {bash_rest(first)}\n    else\n        {bash_rest(others)}\n    fi")
        parts.append(
            f"_{command.name}() {{\n    local at=1\n    {bash_own(command)} && return\n    {rest}\n}}\n"
            f"complete {'' if first == NOTHING else '-o default '}-F _{command.name} {command.name}\n"
        )
    return "\n".join([*parts, bash_lab()])


def zsh_options(command: Command) -> Iterator[str]:
    """The specifications for _arguments of zshcompsys(1)."""
    for row in command.table:
        text = "".join("\\" + letter if letter in "\\[]:" else letter for letter in row.text)
        value = row.metavar or row.key
        action = "_files" if value.strip("/") in ("file", "dir", "directory", "mapfile") else " "
        for name in row.names:
            if row.kind == NODE:
                yield from (f"!-{digit}-:node: " for digit in range(1, 10))
            elif len(name) == 1:
                continue
            elif row.kind in (MAYBE, GLUED):
                yield f"{name}=-[{text}]::{value}:{action}"
            elif takes_value(row):
                yield f"{'*' if row.kind == LIST else ''}{name}{'=' if name.startswith('--') else '+'}[{text}]:{value}:{action}"
            else:
                yield f"{'*' if row.kind == COUNT else ''}{name}[{text}]"


def zsh_rest(first: str, others: str) -> Iterator[str]:
    """The specifications of what is behind the options."""
    actions = {PIDS: "_mosfs_pids", NUMBERS: "_mosfs_nodes", f"home {NUMBERS}": "_mosfs_nodes home", FILES: "_files",
               COMMANDS: "_command_names -e", MENU_NAMES: f"({MENU_NAMES})",
               FUNCTION_NAMES: f"({FUNCTION_NAMES})"}
    if first == PROGRAM:
        yield from ("(-)1:command: _command_names -e", "*::arguments: _normal")
    elif first != NOTHING:
        yield from (f"1:word:{actions[first]}", f"*:word:{actions[others]}")


def zsh_arguments(command: Command, rest: Iterator[str], *, flags: str = "") -> str:
    """One call of _arguments. Letters in one word only where no option of several letters has a single dash."""
    stacked = all(len(name) < 3 or name.startswith("--") for row in command.table for name in row.names)
    ended = "" if command.permute else " -A '-*'"
    specs = [quote(spec) for spec in (*zsh_options(command), *rest)]
    return f"_arguments{' -s' if stacked else ''} -S{ended}{flags} : \\\n        " + " \\\n        ".join(specs)


def zsh_lab() -> str:
    cases = []
    for name, (command, _) in VERBS.items():
        skipped, program = LAB_WORDS.get(name, (0, False))
        rest = ["(-)1:node: "][:skipped] + ["*:::command: _normal"] * program
        cases.append(f"    {name}) {zsh_arguments(command, iter(rest))} ;;\n")
    verbs = iter([f"1:command:({' '.join(VERBS)})", "*::argument:->verb"])
    return (
        "moslab)\n    local curcontext=$curcontext state line\n"
        f"    {zsh_arguments(MOSLAB, verbs, flags=' -C')} && return\n"
        f"    [[ $state == verb ]] || return 1\n    case $words[1] in\n{''.join(cases)}    esac ;;\n"
    )


def zsh() -> str:
    names = " ".join([*(command.name for command, _, _ in ROWS), MOSLAB.name])
    cases = [f"{command.name}) {zsh_arguments(command, zsh_rest(first, others))} ;;\n" for command, first, others in ROWS]
    return f"#compdef {names}\n{MADE}{ZSH}\ncase $service in\n{''.join([*cases, zsh_lab()])}esac\n"


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in SHELLS:
        sys.stderr.write("usage: python -m tools.completions bash | zsh\n")
        return 2
    sys.stdout.write(SHELLS[sys.argv[1]]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
