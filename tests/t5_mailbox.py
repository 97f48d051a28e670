"""Direct communication in a lab: the test program at each place, order in motion, the model against it, failures, mospipe."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosfs.daemon.office import PATIENCE
from mosfs.mbox.body import Body
from mosfs.mbox.filters import EVERYTHING, BadFilter, Condition, Filter, unpack, unpack_stored
from mosfs.mbox.model import Flag, Mailbox, Sender
from tests import cluster
from tests.cluster import Lab, as_user, lab, wait_until
from tests.progs import REPO, SOURCES, Outcome, Place, Program, built, execute, scratch

PROGRAM = Program("mailbox")
PARTS = (
    "opening", "errors", "reading", "filters", "inheritance", "closed_by_dup", "like_a_pipe", "blocking", "rights", "room", "order",
    "near",
)  # fmt: skip
ROBOT = SOURCES / "mail_robot.py"
LETTERS, MANY_LETTERS = "250", "8334"  #: of each of 4 to each of 3: 3,000 and 100,000 messages


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C")
        patch.setenv("PYTHONPATH", str(REPO))  # for the examples
        with lab(tmp_path_factory.mktemp("lab"), 3) as running:
            patch.setenv("PATH", running.environ["PATH"])
            yield running


def run(nodes: Lab, place: Place, *arguments: str, timeout: float = 200, **environment: str) -> Outcome:
    with scratch() as cwd:
        return execute(
            place, [str(built(PROGRAM)), *arguments], cwd=cwd, root=nodes.plan.root, environment=environment, timeout=timeout
        )


@pytest.mark.parametrize("place", [Place.HOME, Place.AWAY])
def test_every_sentence(nodes: Lab, place: Place) -> None:
    outcome = run(nodes, place)
    assert (outcome.stdout.split(), outcome.stderr, outcome.status) == ([*PARTS, "PASS"], "", 0)


def test_every_sentence_in_motion(nodes: Lab) -> None:
    outcome = run(nodes, Place.MOTION, "3")
    assert (outcome.stdout.split(), outcome.status) == ([*PARTS, "PASS"], 0), outcome.stderr
    assert outcome.moves > 0


def test_order_and_count_while_all_move(nodes: Lab) -> None:
    outcome = run(nodes, Place.MOTION, "0", "order", MOS_LETTERS=LETTERS)
    assert (outcome.stdout.split(), outcome.status) == (["order", "PASS"], 0), outcome.stderr
    assert outcome.moves > 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_order_and_count_of_100_000(nodes: Lab) -> None:
    outcome = run(nodes, Place.MOTION, "0", "order", timeout=3000, MOS_LETTERS=MANY_LETTERS)
    assert (outcome.stdout.split(), outcome.status) == (["order", "PASS"], 0), outcome.stderr


# --------------------------------------------------------------------------- a program that is told what to do


class Robot:
    """tests/programs/mail_robot.py on a node."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid: int = self("pid")

    def __call__(self, verb: str, *arguments: Any) -> Any:
        self.begin(verb, *arguments)
        return self.end()

    def begin(self, verb: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, *arguments]).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@contextmanager
def robot(nodes: Lab, number: int = 1, *options: str) -> Iterator[Robot]:
    with nodes.start(
        number, "mosrun", *(options or ("-h",)), sys.executable, str(ROBOT), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Robot(process)
        finally:
            process.kill()


def plain_filters() -> st.SearchStrategy[Filter]:
    """Some that match little messages, some that are illegal."""
    return st.builds(
        Filter, st.integers(0, 255).map(Condition), testlen=st.integers(0, 3), pid=st.just(1), home=st.just(0),
        minlen=st.integers(-1, 4), maxlen=st.integers(0, 5), testoffset=st.integers(0, 2),
        testdata=st.sampled_from([b"a".ljust(8, b"\0"), b"ab".ljust(8, b"\0")]), msgno=st.integers(0, 3),
        msgoffset=st.integers(0, 4),
    )  # fmt: skip


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.text("ab", max_size=5)),
        st.tuples(st.just("read"), st.integers(-1, 6)),
        st.tuples(st.just("flags"), st.sampled_from([0, 32, 64, 96, 128])),
        st.tuples(st.just("filter"), st.none() | plain_filters()),
        st.tuples(st.just("store"), st.lists(plain_filters(), max_size=9)),
        st.tuples(st.just("which"), st.none()),
        st.tuples(st.just("migrate"), st.sampled_from([0, 2, 3])),
    ),
    max_size=25,
)  # fmt: skip


class Model:
    """The pure model behind the same verbs. The robot sends to itself, or the test does by the mount: senders never matter here."""

    def __init__(self, pid: int) -> None:
        self.box = Mailbox(1, pid, 0, 0, Flag.NO_DELAY)
        self.chosen: Filter | None = None
        self.sent = 0

    def do(self, verb: str, argument: Any) -> Any:
        match verb:
            case "send":
                self.sent += 1
                self.box.put(Sender(1, self.box.pid, 0, 0, 1), b"%d" % self.sent, Body(argument.encode()))
                return len(argument)
            case "read":
                return self._read(argument)
            case "flags":
                self.box.reopen(Flag(argument | Flag.NO_DELAY))
                return 1
            case "filter":
                self.chosen = argument
                return 0
            case "store":
                try:
                    self.box.stored = unpack_stored(b"".join(one.pack() for one in argument))
                except BadFilter:
                    return -errno.EINVAL
                return 0
            case "which":
                return [len(self.box.stored), self.box.which().ljust(128, b"\0").hex()]
        return 0

    def _read(self, count: int) -> Any:
        try:
            chosen = EVERYTHING if self.chosen is None else unpack(self.chosen.pack())
        except BadFilter:
            return [-errno.EINVAL, ""]
        taken = self.box.take(count, chosen)
        if taken.result <= 0 or count < 0 or taken.message is None:
            return [taken.result, ""]
        return [taken.result, taken.message.body.part(taken.offset, taken.result).decode()]


def told(robot: Robot, verb: str, argument: Any) -> Any:
    """What the real thing answers to one step of `OPERATIONS`."""
    match verb:
        case "send":
            return robot("send", f"0.0.0.0/{robot.pid}", argument)
        case "flags":
            return robot("open", argument | Flag.NO_DELAY)
        case "filter":
            return robot("filter", "" if argument is None else argument.pack().hex())
        case "store":
            return robot("store", b"".join(one.pack() for one in argument).hex())
        case "which":
            return robot("which")
    return robot(verb, argument)


def test_the_model_and_the_real_thing_agree(nodes: Lab) -> None:
    with robot(nodes) as real:

        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        @given(OPERATIONS)
        def agree(steps: list[tuple[str, Any]]) -> None:
            assert real("open", Flag.NO_DELAY) == 1
            model = Model(real.pid)
            try:
                for verb, argument in steps:
                    assert told(real, verb, argument) == model.do(verb, argument), (verb, argument)
            finally:
                assert real("filter", "") == 0
                assert real("close") == 0

        agree()


# --------------------------------------------------------------------------- from outside, and between homes


@cluster.others
def test_a_mailbox_is_a_file(nodes: Lab) -> None:
    folder = Path(nodes.node(1).paths.mount) / "mbox"
    with robot(nodes) as real:
        assert real("open", Flag.NO_DELAY) == 1
        file = folder / "0.0.0.0" / str(real.pid)
        assert str(real.pid) in os.listdir(folder / nodes.node(1).ip)
        done = nodes.run(1, "sh", "-c", f"echo hi > {file}")
        assert (done.returncode, done.stderr) == (0, "")
        assert file.read_text().startswith("messages 1 bytes 3 flags 8 filters 0\n")
        assert real("read", 10) == [3, "hi\n"]
        assert real("migrate", 2) == 0
        assert real("read", 10) == [-errno.EAGAIN, ""]
        file.write_text("far")
        assert real("read", 10) == [3, "far"]
        nobody = as_user(65534)
        assert nodes.run(1, *nobody, "sh", "-c", f"echo hi > {file}").returncode != 0
        assert nodes.run(1, *nobody, "cat", str(file)).returncode != 0
        assert real("open", Flag.NO_DELAY | Flag.OTHERS) == 1
        assert nodes.run(1, *nobody, "sh", "-c", f"echo hi > {file}").returncode == 0
        assert real("read", 10) == [3, "hi\n"]
        assert real("close") == 0
        with pytest.raises(PermissionError):
            file.write_text("nobody")
    with pytest.raises(ProcessLookupError):
        (folder / "0.0.0.0" / "4000000").write_text("nobody")


def test_other_homes_need_flag_4(nodes: Lab) -> None:
    with robot(nodes, 1) as here, robot(nodes, 2) as there:
        assert here("open", Flag.NO_DELAY) == 1
        to = f"{nodes.node(1).ip}/{here.pid}"
        assert there("send", to, "refused") == -errno.EACCES
        assert here("open", Flag.NO_DELAY | Flag.OTHER_HOMES) == 1
        assert there("send", to, "let in") == 6
        assert there("migrate", 3) == 0
        assert there("send", to, "from afar") == 9
        assert here("drain", 2, 20) == ["let in", "from afar"]
        assert here("control", "sender_pid") == there.pid
        home, location = (int.from_bytes(bytes(map(int, nodes.node(n).ip.split("."))), "big") for n in (2, 3))
        assert here("control", "sender_home") == home
        assert here("control", "sender_location") == location
        assert here("control", "message_length") == 9


def test_sigio_finds_a_program_that_is_away(nodes: Lab) -> None:
    with robot(nodes, 1) as real, robot(nodes, 1) as other:
        assert real("open", Flag.NO_DELAY | Flag.SIGIO) == 1
        assert real("migrate", 2) == 0
        assert real("read", 1) == [-errno.EAGAIN, ""]
        assert other("send", f"0.0.0.0/{real.pid}", "x") == 1
        wait_until(lambda: real("signals") == 1)
        assert real("read", 1) == [1, "x"]


def test_messages_wait_while_the_program_moves(nodes: Lab) -> None:
    with robot(nodes) as real, robot(nodes) as other:
        assert real("open", Flag.NO_DELAY) == 1
        texts = [f"message {n}" for n in range(60)]
        for number, text in enumerate(texts):
            assert other("send", f"0.0.0.0/{real.pid}", text) == len(text)
            if number % 20 == 10:
                assert real("migrate", (2, 3, 0)[number // 20]) == 0
                assert real("read", -1)[0] == len(texts[0])
        assert real("drain", 60, 20) == texts


def test_mosrun_is_refused_with_a_mailbox(nodes: Lab) -> None:
    script = "exec 5>/proc/mosix/mbox/0.0.0.0/$$; mosrun -h true"
    done = nodes.run(1, "mosrun", "-h", "bash", "-c", script)
    assert "Too many open files" in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("inner", ["mosrun -h true", "mosnative true"])
def test_a_receiver_can_run_neither_mosrun_nor_mosnative(nodes: Lab, inner: str) -> None:
    program = (
        "import os; os.dup2(os.open('/proc/mosix/mybox', os.O_CREAT, 0), 9); os.set_inheritable(9, True);"
        f"os.execvp('sh', ['sh', '-c', 'exec {inner}'])"
    )
    done = nodes.run(1, "mosrun", "-h", sys.executable, "-c", program)
    assert "Too many open files" in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("place", [Place.HOME, Place.AWAY, Place.MOTION])
def test_with_private_files(nodes: Lab, place: Place) -> None:
    """What comes from a mailbox goes to a private file, and back: both move with their process."""
    directory, rounds = "/private-of-nobody", "150" if place is Place.MOTION else "40"
    program = [sys.executable, str(SOURCES / "mail_files.py"), directory, rounds]
    if place is Place.MOTION:
        done = nodes.storm("mosrun", "-X", directory, *program, every=0.1, timeout=150)
    else:
        done = nodes.run(1, "mosrun", "-h" if place is Place.HOME else "-2", "-X", directory, *program)
    assert (done.stdout, done.stderr, done.returncode) == (f"{rounds} True 0\n", "", 0)


# --------------------------------------------------------------------------- failures


@pytest.mark.parametrize("place", [0, 2])
def test_the_death_of_a_receiver(nodes: Lab, place: int) -> None:
    """A sender that waits for room hears ESRCH; so does every later one."""
    with robot(nodes) as sender, robot(nodes) as receiver:
        assert receiver("open", Flag.NO_DELAY) == 1
        assert receiver("migrate", place) == 0
        to, megabyte = f"0.0.0.0/{receiver.pid}", "x" * (1 << 20)
        assert receiver("read", 1)[0] == -errno.EAGAIN
        for _ in range(32):
            assert sender("send", to, megabyte) == len(megabyte)
        sender.begin("send", to, "one too many")
        time.sleep(0.2)
        os.kill(receiver.pid, signal.SIGKILL)
        assert sender.end() == -errno.ESRCH
        assert sender("send", to, "again") == -errno.ESRCH


def test_the_death_of_a_sender_takes_nothing_with_it(nodes: Lab) -> None:
    with robot(nodes, 1, "-3") as receiver:
        assert receiver("open", Flag.NO_DELAY) == 1
        with robot(nodes, 1, "-2") as sender:
            assert sender("send", f"0.0.0.0/{receiver.pid}", "last words") == 10
            sender.begin("send", f"0.0.0.0/{receiver.pid}", "perhaps" * 100000)
            os.kill(sender.pid, signal.SIGKILL)
        texts = receiver("drain", 2, 2)
        assert texts[0] == "last words" and texts[1:] in ([], ["perhaps" * 100000])
        assert receiver("read", 10) == [-errno.EAGAIN, ""]


def test_the_death_of_a_post_office(nodes: Lab) -> None:
    """Its mailboxes are lost, which their owners hear; nobody hangs; a new one works at once."""
    with robot(nodes) as waiting, robot(nodes) as sender:
        assert waiting("open", 0) == 1
        waiting.begin("read", 10)
        wait_until(lambda: sender("send", f"0.0.0.0/{sender.pid}", "x") == -errno.EACCES)
        time.sleep(0.2)
        nodes.kill_mosd(1)
        assert waiting.end()[0] in (-errno.ENETUNREACH, -errno.ECONNRESET)
        assert sender("send", f"0.0.0.0/{waiting.pid}", "x") in (-errno.ENETUNREACH, -errno.EIO)
        nodes.start_mosd(1)
        wait_until(lambda: waiting("read", 10)[0] == -errno.ECONNRESET)
        assert waiting("open", Flag.NO_DELAY) == 1
        wait_until(lambda: sender("send", f"0.0.0.0/{waiting.pid}", "x") == 1)
        assert waiting("read", 10) == [1, "x"]


@pytest.mark.long
def test_the_death_of_a_node(nodes: Lab) -> None:
    """mosd and host of the receiver's node die: the program is killed, senders hear of it in bounded time."""
    with robot(nodes) as sender, robot(nodes, 1, "-3") as receiver:
        assert receiver("open", Flag.NO_DELAY) == 1
        assert receiver("read", -1)[0] == -errno.EAGAIN
        to = f"0.0.0.0/{receiver.pid}"
        assert sender("send", to, "x") == 1
        nodes.kill_mosd(3)
        began = time.monotonic()
        assert sender("send", to, "y") in (-errno.EIO, -errno.ETIMEDOUT, -errno.ENETUNREACH)
        assert time.monotonic() - began < 3 * PATIENCE
        nodes.start_mosd(3)
        os.kill(receiver.pid, signal.SIGKILL)
        wait_until(lambda: sender("send", to, "z") == -errno.ESRCH)


# --------------------------------------------------------------------------- mospipe and examples


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["echo hello world", "wc"], "      1       2      12\n"),
        (["ls /no-such-file", "-e", r"tr [a-z\ ] [A-Z+]"], None),
        (["ls /no-such-file", "-E", "wc -l"], "1\n"),
        (["echo hello world", "-2", "-L", "bzip2", "-2", "-L", "bzip2 -d", "tr [a-z] [A-Z]"], "HELLO WORLD\n"),
        (["-2", "-L", "echo hello world", "-{ip3}", "-l", "-g", "bzip2", "-r{ip3}", "-G", "-m5", "bzip2 -d", "-h", "cat"],
         "hello world\n"),
        ([r"echo a\ b\\c", "cat"], "a b\\c\n"),
    ],
)  # fmt: skip
def test_the_manuals_pipelines(nodes: Lab, arguments: list[str], output: str | None) -> None:
    words = [word.replace("{ip3}", nodes.node(3).ip) for word in arguments]
    done = nodes.run(1, "mospipe", *words)
    if output is None:  # the text is that of today's ls
        output = subprocess.run(
            ["bash", "-c", "LC_ALL=C ls /no-such-file |& tr '[a-z ]' '[A-Z+]'"], capture_output=True, text=True, check=False
        ).stdout
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


def test_the_best_node_of_the_manuals_example(nodes: Lab) -> None:
    script = 'b=`mosbestnode`; mospipe "echo hello world" -$b -L bzip2 -$b -L "bzip2 -d" "tr [a-z] [A-Z]"'
    done = nodes.run(1, "sh", "-c", script)
    assert (done.stdout, done.stderr, done.returncode) == ("HELLO WORLD\n", "", 0)


def test_an_unavailable_node(nodes: Lab) -> None:
    """-F: run even then; without it that program does not run. -b runs somewhere."""
    failed = nodes.run(1, "mospipe", "echo a", "-9", "cat")
    assert failed.stdout == "" and failed.returncode != 0 and "not in map" in failed.stderr
    assert nodes.run(1, "mospipe", "-b", "echo a", "-F", "-9", "cat").stdout == "a\n"


def test_unsupported_calls_fail_as_with_e(nodes: Lab) -> None:
    """It puts itself under mosrun -e: a call that MOSIX does not support fails, and the program goes on."""
    program = f"{sys.executable} -c import\\ resource,os;print(os.path.exists('/'));import\\ ctypes;" \
        "print(ctypes.CDLL(None).shmat(0,None,0))"
    done = nodes.run(1, "mospipe", program, "cat")
    assert (done.stdout, done.returncode) == ("True\n-1\n", 0)


def test_an_empty_write_ends_the_input_of_the_next(nodes: Lab) -> None:
    program = f"{sys.executable} -c import\\ os;os.write(1,b'a');os.write(1,b'');os.write(1,b'b')"
    assert nodes.run(1, "mospipe", program, "cat").stdout == "a"


def test_mospipe_under_mosrun_and_its_status(nodes: Lab) -> None:
    assert nodes.run(1, "mosrun", "-h", "mospipe", "echo a", "cat").stdout == "a\n"
    assert nodes.run(1, "mospipe", "true", r"sh -c exit\ 7").returncode == 7
    assert nodes.run(1, "mospipe", "true", "sh -c kill\\ -9\\ $$").returncode == 137
    assert nodes.run(1, "mospipe", "true", "/etc/passwd").returncode == 126
    assert nodes.run(1, "mospipe", "true").returncode == 2
    done = nodes.run(1, "mospipe", "echo a", "nosuchprogram")
    assert (done.returncode, done.stderr) == (127, "mospipe: nosuchprogram: No such file or directory\n")


@pytest.mark.parametrize("options", [[], ["-2"]])
def test_a_writer_without_reader_dies_as_of_a_pipe(nodes: Lab, options: list[str]) -> None:
    done = nodes.run(1, "mospipe", *options, "yes", "head -2")
    assert (done.stdout, done.stderr, done.returncode) == ("y\ny\n", "", 0)


@pytest.mark.parametrize("inner", ["mosrun -h true", "mosnative true"])
def test_mosrun_and_mosnative_cannot_run_under_mospipe(nodes: Lab, inner: str) -> None:
    done = nodes.run(1, "mospipe", inner, "cat")
    assert "Too many open files" in done.stderr


def test_children_of_a_receiver_cannot_read_its_input(nodes: Lab) -> None:
    done = nodes.run(1, "mospipe", "echo a", r"sh -c cat;\ :")
    assert done.stdout == "" and "Bad file descriptor" in done.stderr
    assert nodes.run(1, "mospipe", "echo a", r"sh -c exec\ cat").stdout == "a\n"


@pytest.mark.parametrize("last", [r"exit\ 3", r"kill\ -9\ $$", r"kill\ -SEGV\ $$"])
def test_what_was_written_comes_before_what_is_done_next(nodes: Lab, last: str) -> None:
    """Also if it is the end of the writer, by its own doing."""
    writer = rf"bash -c i=0;while\ ((i++<300));do\ echo\ line\ $i;done;{last}"
    done = nodes.run(1, "mospipe", "-2", writer, "-3", "cat")
    assert done.stdout == "".join(f"line {n}\n" for n in range(1, 301))


def test_a_stream_arrives_whole_while_both_ends_move(nodes: Lab) -> None:
    """Small writes and small reads: what is collected, and what is lent, goes nowhere while a program moves."""
    writer = r"awk BEGIN{for(i=0;i<20000;i++){print\ i;if(i%20==0)fflush()}}"
    reader = r"awk {if($1!=n++){print\ \"wrong\",n;exit\ 1}}END{print\ n}"
    done = nodes.storm("mospipe", "-2", writer, "-3", r"dd bs=77 status=none", reader, every=0.05, timeout=200)
    assert (done.stdout, done.returncode) == ("20000\n", 0), done.stderr


STREAM_WRITER = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
seen = 0
def on_alarm(*_):
    global seen
    seen += 1
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
number = 0
while seen < 20 or number < 3000:
    if number % 1000 == 500:
        assert libc.write(1, ctypes.c_void_p(8), ctypes.c_size_t(100)) == -1 and ctypes.get_errno() == 14
    assert os.write(1 + number % 2, b"%d\\n" % number) > 0
    number += 1
signal.setitimer(signal.ITIMER_REAL, 0)
os.write(1, b"end %d\\n" % number)
"""
STREAM_READER = """
import os, signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.007, 0.007)
data = b""
while piece := os.read(0, 100):
    data += piece
signal.setitimer(signal.ITIMER_REAL, 0)
lines = data.decode().splitlines()
print(lines[:-1] == [str(n) for n in range(len(lines) - 1)], lines[-1] == f"end {len(lines) - 1}")
"""


@pytest.mark.parametrize("move", [False, True], ids=["away", "motion"])
def test_a_stream_with_signals_faults_and_two_descriptors(nodes: Lab, tmp_path: Path, move: bool) -> None:
    """What the host does without waking Python keeps order with what it does not, and signals come through."""
    (tmp_path / "writer.py").write_text(STREAM_WRITER)
    (tmp_path / "reader.py").write_text(STREAM_READER)
    words = ["mospipe", "-2", f"{sys.executable} {tmp_path}/writer.py", "-e", "-3", f"{sys.executable} {tmp_path}/reader.py"]
    done = nodes.storm(*words, every=0.2, timeout=250) if move else nodes.run(1, *words)
    assert (done.stdout, done.stderr, done.returncode) == ("True True\n", "", 0)


def test_a_full_mailbox_moves_with_what_was_lent(nodes: Lab, tmp_path: Path) -> None:
    """The reader has begun a message and gives its rest back: then the mailbox holds more than it has room for."""
    reader = tmp_path / "reader.py"
    reader.write_text(
        "import os, time\n"
        "total = len(os.read(0, 10))\n"
        "time.sleep(1)  # the writer fills the mailbox\n"
        "assert os.open('/proc/self/migrate', os.O_WRONLY | os.O_CREAT, 2) >= 0\n"
        "while data := os.read(0, 1 << 16):\n"
        "    total += len(data)\n"
        "print(total)\n"
    )
    writer = "dd if=/dev/zero bs=1M count=50 status=none"
    done = nodes.run(1, "mospipe", "-2", writer, "-3", f"{sys.executable} {reader}")
    assert (done.stdout, done.stderr, done.returncode) == (f"{50 << 20}\n", "", 0)


def sum_through(nodes: Lab, megabytes: int) -> tuple[str, str]:
    """Output of three migrated programs in a row, and of the shell's pipe."""
    numbers = f"seq {megabytes * 150_000}"
    ours = nodes.run(1, "mospipe", "-2", numbers, "-3", "sed s/1/one/", "-2", "md5sum", timeout=1800)
    pipe = subprocess.run(["sh", "-c", f"{numbers} | sed s/1/one/ | md5sum"], capture_output=True, text=True, check=True)
    return ours.stdout + ours.stderr, pipe.stdout


def test_bytes_through_three_migrated_programs(nodes: Lab) -> None:
    ours, pipe = sum_through(nodes, 4)
    assert ours == pipe


@pytest.mark.long
@pytest.mark.timeout(2000)
def test_a_gigabyte_through_three_migrated_programs(nodes: Lab) -> None:
    ours, pipe = sum_through(nodes, 1000)
    assert ours == pipe


def test_examples(nodes: Lab, tmp_path: Path) -> None:
    program = tmp_path / "mailbox"
    source = REPO / "examples" / "mailbox.c"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", f"-I{REPO}/include", str(source), "-o", str(program)], check=True)
    done = nodes.run(1, "mosrun", str(program), "2", "3")
    assert (done.stdout, done.stderr, done.returncode) == ("500000500000\n", "", 0)
    done = nodes.run(1, "mosrun", sys.executable, str(REPO / "examples/mailbox.py"), "2")
    assert (done.stdout, done.stderr, done.returncode) == ("HELLO on node 2\nWORLD on node 2\n", "", 0)
