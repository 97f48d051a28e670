"""The option grammar: whatever may be written is read back as it was meant; all else is one line and status 2."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.paths import NodePaths
from mosfs.tools import (
    mos_autoconf,
    mos_checkconf,
    mos_in_job,
    mosacct,
    mosbestnode,
    mosconf,
    mosctl,
    moskillall,
    mosmigrate,
    mosmon,
    mosps,
    mossetpe,
    mostestload,
    mostimeof,
)
from mosfs.tools.moslab import VERBS
from mosfs.tools.mosrun import MOSENV, MOSRUN, SOCKET, TABLE, request
from mosfs.tools.options import (
    FLAG,
    GLUED,
    INT,
    LIST,
    NODE,
    REAL,
    TEXT,
    Command,
    Option,
    UsageError,
    UserError,
    is_ip,
)

COMMANDS = [
    MOSRUN, MOSENV, mosps.MOSPS, mosmigrate.MOSMIGRATE, mosbestnode.MOSBESTNODE, mosctl.MOSCTL, moskillall.MOSKILLALL,
    mosmon.MOSMON, mossetpe.MOSSETPE, mos_in_job.MOS_IN_JOB, mos_checkconf.MOS_CHECKCONF, mosconf.MOSCONF,
    mos_autoconf.MOS_AUTOCONF, mostestload.MOSTESTLOAD,
    mostimeof.MOSTIMEOF, mosacct.MOSACCT,
    *(command for command, _ in VERBS.values()),
]

texts = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=8)
ips = st.tuples(*[st.integers(0, 255)] * 4).map(lambda parts: ".".join(map(str, parts)))


def values(row: Option) -> st.SearchStrategy[str]:
    """Any value that fits ``row``, in canonical form."""
    if row.kind == INT:
        return st.integers(int(row.low), int(row.high)).map(str)
    if row.kind == REAL:
        return st.floats(row.low, row.high).map(repr)
    if row.kind == NODE:
        return st.integers(1, 65535).map(str) | ips
    return st.just(row.value) if row.kind == FLAG else texts


Written = tuple[Option, str, list[str]]


@st.composite
def written(draw: st.DrawFn, table: tuple[Option, ...]) -> Written:
    """A row, a value for it, and one of the ways to write it."""
    row = draw(st.sampled_from(table))
    value = draw(values(row))
    name = draw(st.sampled_from(row.names))
    if row.kind == FLAG:
        return row, value, [name]
    if row.kind == NODE:
        return row, value, [f"-{value}"]
    if row.kind == GLUED and draw(st.booleans()):
        return row, "", [name]
    if row.kind != GLUED and draw(st.booleans()):
        return row, value, [name, value]
    return row, value, [f"{name}={value}" if name.startswith("--") else name + value]


def meaning(given: list[Written]) -> tuple[dict[str, str], dict[str, list[str]]]:
    single = {row.key: value for row, value, _ in given if row.kind != LIST}
    lists: dict[str, list[str]] = {}
    for row, value, _ in given:
        if row.kind == LIST:
            lists.setdefault(row.key, []).append(value)
    return single, lists


programs = st.lists(texts, max_size=4).map(lambda rest: ["prog", *rest])


@given(st.lists(written(TABLE), max_size=6), programs)
def test_every_way_of_writing_is_read_back(options: list[Written], program: list[str]) -> None:
    parsed = MOSRUN.parse([word for _, _, words in options for word in words] + program)
    assert (parsed.values, parsed.lists) == meaning(options)
    assert parsed.rest == program


SINGLE = tuple(row for row in TABLE if row.kind == FLAG and len(row.names[0]) == 2)
VALUED = tuple(row for row in TABLE if row.kind in (TEXT, INT, NODE) and not row.names[0].startswith("--"))


@given(st.lists(st.sampled_from(SINGLE), min_size=1, max_size=4), st.sampled_from(VALUED).flatmap(
    lambda row: st.tuples(st.just(row), values(row))), st.booleans(), programs)
def test_letters_in_one_word(flags: list[Option], last: tuple[Option, str], glued: bool, program: list[str]) -> None:
    row, value = last
    word = "-" + "".join(flag.names[0][1] for flag in flags) + ("" if row.kind == NODE else row.names[0][1])
    argv = [word + value] if glued or row.kind == NODE else [word, value]
    parsed = MOSRUN.parse(argv + program)
    expected = {flag.key: flag.value for flag in flags}
    assert parsed.values == {**expected, row.key: value}
    assert parsed.rest == program


@given(st.lists(texts, max_size=6), st.sampled_from(COMMANDS))
def test_nonsense_is_a_usage_error_or_parsed(argv: list[str], command: Command) -> None:
    try:
        parsed = command.parse(argv)
    except UsageError as error:
        assert error.status == 2 and error.text
    else:
        assert len(parsed.rest) <= len(argv)


@given(texts)
def test_a_program_keeps_its_own_options(word: str) -> None:
    assert MOSRUN.parse(["-3", "prog", "-m400", "--help", word]).rest == ["prog", "-m400", "--help", word]
    assert MOSRUN.parse(["--", "-prog", word]).rest == ["-prog", word]


@pytest.mark.parametrize(("argv", "message"), [
    (["-b"], b"RUN\0node=best"),
    (["-3"], b"RUN\0node=3"),
    (["-10.1.2.3"], b"RUN\0node=10.1.2.3"),
    (["-r", "alpha"], b"RUN\0node=alpha"),
    (["-ralpha", "-F"], b"RUN\0node=alpha\0force=1"),
    (["-bm400"], b"RUN\0needmem=400\0node=best"),
    (["-m", "0400", "-h"], b"RUN\0needmem=400\0node=home"),
    (["-Leg", "-d9976", "-c"], b"RUN\0unsupported=1\0lock=1\0freezable=0\0cpujob=1\0decay=9976"),
    (["-lwG", "-n"], b"RUN\0unsupported=2\0lock=0\0freezable=1\0cpujob=0"),
    (["-e", "-u"], b"RUN\0unsupported=0"),
    (["--stay-home"], b"RUN\0unsupported=3"),
    (["-ptTz"], b"RUN"),
    (["-e3"], b"RUN\0unsupported=1\0node=3"),
    (["-Csave.4", "-N3", "-A5"], b"RUN\0checkpoint_file=save.4\0checkpoint_limit=3\0checkpoint_interval=5"),
])
def test_the_launchers_request(argv: list[str], message: bytes) -> None:
    assert request(MOSRUN.parse([*argv, "prog"])) == message


@pytest.mark.parametrize("argv", [
    ["-q"], ["-m"], ["-mx"], ["-m", "-1"], ["-m262144"], ["-d10001"], ["-0"], ["-65536"], ["-1.2.3"], ["-1.2.3.256"],
    ["-3x"], ["-r"], ["--nonsense"], ["--stay-home=1"], ["-S0"], ["-S30001"], ["-²"], ["-m²"], ["-" + "9" * 5000],
    ["-m" + "9" * 5000],
])
def test_refused(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        MOSRUN.parse([*argv, "prog"] if len(argv[0]) > 2 else argv)


def test_unknown_option_is_a_line_and_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert MOSRUN.run(lambda parsed: 0, ["-q", "prog"]) == 2
    usage, *_, last = capsys.readouterr().err.splitlines()
    assert last == "mosrun: unknown option -q"
    assert usage.startswith("usage: mosrun ")


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.ECONNABORTED])
def test_a_daemon_that_goes_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: object) -> int:
        raise OSError(number, os.strerror(number), "nodes/10.0.0.1/stat")

    assert mosps.MOSPS.run(body, []) == 1
    told = capsys.readouterr().err
    assert told.startswith("mosps: MOSIX is not running on this computer") and told.count("\n") == 1


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def body(_: object) -> int:
        raise UserError("it cannot be", 7)

    assert MOSRUN.run(body, ["prog"]) == 7
    assert capsys.readouterr().err == "mosrun: it cannot be\n"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.synopsis.split("[")[0].strip())
def test_help_names_every_option(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(lambda parsed: 1, ["--help"]) == 0
    text = capsys.readouterr().out
    for row in command.table:
        assert row.text in text
        assert all(name in text for name in row.names)


def test_no_option_is_in_a_table_twice() -> None:
    for command in COMMANDS:
        names = [name for row in command.table for name in row.names]
        assert len(names) == len(set(names))


def test_version_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    import mosfs

    assert MOSRUN.run(lambda parsed: 1, ["--version"]) == 0
    assert capsys.readouterr().out == f"mosrun (mosfs) {mosfs.__version__}\n"


@given(ips)
def test_ips(ip: str) -> None:
    assert is_ip(ip)
    assert not is_ip(ip + ".1") and not is_ip(ip.rpartition(".")[0]) and not is_ip(ip + "6789")


def test_ps_letters_need_no_dash() -> None:
    parsed = mosps.MOSPS.parse(["aux", "-n", "p", "12,13", "14"])
    assert {"everybody", "detached", "users", "nmigs"} <= parsed.values.keys()
    assert parsed.lists == {"pid": ["12,13"]} and parsed.rest == ["14"]


def test_the_launcher_knows_where_the_socket_is() -> None:
    assert NodePaths("/some/root").socket == f"/some/root/{SOCKET}"


#: What mosrun and mosnative may load: the interpreter's own modules, and these.
LAUNCHER_MODULES = {"mosfs", "mosfs.tools", "mosfs.tools.mosrun", "mosfs.tools.mosnative", "mosfs.tools.options"}


def test_the_launcher_imports_nothing_but_built_in_modules() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]);"
        "import mosfs.tools.mosnative, _socket, _signal;"
        "print(*sorted(set(sys.modules) - before - set(sys.builtin_module_names)))"
    )
    import mosfs

    source = mosfs.__file__.rsplit("/", 2)[0]
    command = [sys.executable, "-I", "-S", "-c", code, source]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) == LAUNCHER_MODULES


#: Where the output of a command goes, and what comes of it: the exit status and the line on standard error.
LOST_OUTPUT = {
    ">&-": (1, "mosps: standard output: Bad file descriptor\n"),
    ">/dev/full": (1, "mosps: standard output: No space left on device\n"),
    "2>&- >/dev/full": (1, ""),
    "": (141, ""),
}


@pytest.mark.parametrize("where", LOST_OUTPUT)
def test_output_that_cannot_be_written_is_one_line_and_a_status(where: str) -> None:
    code = "import sys; from mosfs.tools import mosps; sys.exit(mosps.MOSPS.run(lambda parsed: print('line') or 0, []))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = ["bash", "-c", f'"$0" -c "$1" {where}', sys.executable, code]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == LOST_OUTPUT[where]


def test_a_current_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    code = "import sys; from mosfs.tools.mossetpe import main; sys.exit(main(['-m', 'map']))"
    command = ["bash", "-c", 'mkdir "$2" && cd "$2" && rmdir "$2" && MOSIX_ROOT=root "$0" -c "$1"', sys.executable, code]
    command.append(str(tmp_path / "gone"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "mossetpe: the current directory: No such file or directory\n")


def test_what_the_locale_has_no_letters_for_is_written_all_the_same() -> None:
    code = "import sys; from mosfs.tools import mosps; sys.exit(mosps.MOSPS.run(lambda parsed: print('\\u2192 \\udcff') or 0, []))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONIOENCODING": "latin-1"}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u2192 \\udcff\n", "")


def test_ctrl_c_ends_a_command_by_its_signal() -> None:
    """So does a shell's loop around it. What was printed before is there."""
    code = (
        "import os, signal, sys; from mosfs.tools import mosps;"
        "sys.exit(mosps.MOSPS.run(lambda parsed: print('line') or os.kill(os.getpid(), signal.SIGINT), []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "line\n", "")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_message_that_nobody_gets_changes_no_status(where: str) -> None:
    code = "import sys; from mosfs.tools.mosrun import MOSRUN; sys.exit(MOSRUN.run(lambda parsed: 1, ['--nonsense']))"
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" {where}', sys.executable, code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("target", ["", "0x3", "127.3", "\u0663"])
def test_what_is_no_name_is_no_target(target: str) -> None:
    with pytest.raises(UserError, match="not in map"):
        mosmigrate.resolve(target)


def test_other_files_need_a_checkpoint_to_go_on_from() -> None:
    """In a process of its own: mosrun changes what becomes of signals."""
    run = "from mosfs.tools.mosrun import MOSRUN, launch; raise SystemExit(MOSRUN.run(launch, ['-O3=file', 'true']))"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("mosrun: -O needs -R: which checkpoint file?\n")


@pytest.mark.parametrize("word", ["-TERM", "-SIGTERM", "-sigterm", "-term", "-15"])
def test_a_signal_may_be_written_in_every_way(word: str) -> None:
    parsed = moskillall.MOSKILLALL.parse([moskillall.plain_name(word)])
    assert moskillall.signal_of(parsed.get("signal", "")) == signal.SIGTERM


@pytest.mark.parametrize("word", ["-SIG", "-x", "TERM", "--help", "-", ""])
def test_what_is_no_signal_stays_as_it_was_written(word: str) -> None:
    assert moskillall.plain_name(word) == word


@pytest.mark.parametrize(("command", "lines"), [(mosctl.MOSCTL, 1), (moskillall.MOSKILLALL, 2)])
def test_a_long_synopsis_does_not_hide_the_error(command: Command, lines: int) -> None:
    assert command.usage().count("\n") == lines


def test_a_number_out_of_range_is_named_as_it_was_written() -> None:
    with pytest.raises(UsageError, match=r"^-99 is not a number from 1 to 64$"):
        moskillall.MOSKILLALL.parse(["-99"])
