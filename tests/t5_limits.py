"""mosrun(1), LIMITATIONS and -e -w -u, sentence by sentence, at home and away; and what is served beyond the manual."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mosfs.abi.flags import ARCH_SHSTK_ENABLE, CLONE_THREAD, CLONE_VM, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from mosfs.abi.ioctls import REFUSED as REFUSED_IOCTLS
from mosfs.abi.syscalls import BY_NAME, BY_NR, Home
from mosfs.abi.texts import SHARED_ADVICE, THREADS_ADVICE, Text, text
from mosfs.calls.policy import advice
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab
from tests.probe import Probe
from tests.progs import BY_NAME as PROGRAMS
from tests.progs import built

pytestmark = pytest.mark.root

PLACES = {"home": ("-h",), "away": ("-2",)}
#: Nobody has this number.
NO_CALL = 999

Call = tuple[int, ...]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return PLACES[request.param]


def number(name: str) -> int:
    return BY_NAME[name].nr


def line(which: Text, **fields: str | int) -> str:
    return f"mosrun: {text(which, **fields)}\n"


def unsupported(name: str) -> str:
    return line(Text.SYSCALL, name=name)


def shared(prot: int, flags: int = MAP_ANONYMOUS, fd: int = -1) -> Call:
    return number("mmap"), 0, 4096, prot, MAP_SHARED | flags, fd, 0


#: One call for each text that an unsupported feature can give, under --no-threads.
ONE_OF_EACH: dict[str, tuple[Call, str]] = {
    "call": ((number("ptrace"), 0, 0, 0, 0), unsupported("ptrace")),
    "threads": ((number("clone"), CLONE_VM | CLONE_THREAD | 0xE00, 0, 0, 0, 0), unsupported("clone")),
    "shared": (shared(PROT_READ | PROT_WRITE), line(Text.MAP_SHARED)),
    "shared, read": (shared(PROT_READ), line(Text.MAP_SHARED)),
    "shmat": ((number("shmat"), 0, 0, 0), line(Text.SHMAT)),
    "prctl": ((number("prctl"), 22, 1, 0, 0, 0), line(Text.PRCTL, number=22)),
    "ioctl": ((number("ioctl"), 0, 0x8914, 0), line(Text.IOCTL, number=0x8914)),
    "number": ((NO_CALL, 0, 0, 0), line(Text.ILLEGAL_CALL, number=NO_CALL)),
}


def all_refused() -> list[tuple[Call, str]]:
    """Every refused call of the table, and every refused request of the calls that are refused in part."""
    calls: list[tuple[Call, str]] = [
        ((row.nr, *[0] * 6), unsupported(row.name))
        for row in BY_NR.values() if row.home is Home.REFUSE and row.name != "shmat"
    ]  # fmt: skip
    calls += [((number("ioctl"), 0, request, 0), line(Text.IOCTL, number=request)) for request in REFUSED_IOCTLS]
    calls += [((number("prctl"), option, 0, 0, 0, 0), line(Text.PRCTL, number=option)) for option in (22, 26, 31, 32, 35, 59)]
    calls += [((number("arch_prctl"), ARCH_SHSTK_ENABLE, 0), unsupported("arch_prctl"))]
    calls += [((number("seccomp"), operation, 0, 0), unsupported("seccomp")) for operation in (0, 1)]
    return [*calls, *(one for name, one in ONE_OF_EACH.items() if name != "shared, read")]


def make(probe: Probe, call: Sequence[int]) -> int:
    return probe.number(f"call{tuple(call)}")


# --------------------------------------------------------------------------- killed, -e, -w, -u


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_program_that_meets_an_unsupported_feature_terminates(nodes: Lab, place: tuple[str, ...], name: str) -> None:
    call, said = ONE_OF_EACH[name]
    with Probe(nodes, *place, "--no-threads") as probe:
        if call[0] == NO_CALL and place == PLACES["home"]:  # the kernel may know what our table does not
            assert make(probe, call) == -errno.ENOSYS
            return
        probe.send(f"call{call}")
        row = BY_NR.get(call[0])
        hint = advice(row, call[1:]) if row is not None else ""
        assert probe.end() == (-signal.SIGKILL, said + (f"mosrun: {hint}\n" if hint else ""))


def test_e_returns_enosys_silently(nodes: Lab, place: tuple[str, ...]) -> None:
    with Probe(nodes, *place, "--no-threads", "-e") as probe:
        for call, _ in all_refused():
            assert make(probe, call) == -errno.ENOSYS, BY_NR.get(call[0])
        assert probe.end() == (0, "")


def test_w_prints_a_message_each_time(nodes: Lab, place: tuple[str, ...]) -> None:
    calls = [one for one in all_refused() if one[0][0] != NO_CALL or place == PLACES["away"]]
    calls += [ONE_OF_EACH["call"], ONE_OF_EACH["threads"]]
    with Probe(nodes, *place, "--no-threads", "-w") as probe:
        for call, _ in calls:
            assert make(probe, call) == -errno.ENOSYS, BY_NR.get(call[0])
        status, said = probe.end()
    hints = [f"mosrun: {hint}\n" for hint in (THREADS_ADVICE, SHARED_ADVICE)]
    heard = said.splitlines(keepends=True)
    assert (status, [one for one in heard if one not in hints]) == (0, [one for _, one in calls])
    assert [heard.count(hint) for hint in hints] == [1, 1], "advice is given once"


@pytest.mark.parametrize("option", ["-e", "-w"])
def test_u_reverses(nodes: Lab, place: tuple[str, ...], option: str) -> None:
    with Probe(nodes, *place, option, "-u") as probe:
        probe.send(f"call{ONE_OF_EACH['call'][0]}")
        assert probe.end() == (-signal.SIGKILL, unsupported("ptrace"))
    with Probe(nodes, *place, option, after=("mosrun", "-u")) as probe:  # a shell script's son
        probe.send(f"call{ONE_OF_EACH['call'][0]}")
        assert probe.end() == (-signal.SIGKILL, unsupported("ptrace"))


def test_unsupportok(nodes: Lab, place: tuple[str, ...]) -> None:
    """mosix(7): 0 kill, 1 ENOSYS, 2 also the message; it may change at any time."""
    call, said = ONE_OF_EACH["call"]
    with Probe(nodes, *place) as probe:
        for mode in (1, 2, 1):
            probe.ask(f"call(2, '/proc/self/unsupportok', 1, {mode})")
            assert make(probe, call) == -errno.ENOSYS
        probe.ask("call(2, '/proc/self/unsupportok', 1, 0)")
        probe.send(f"call{call}")
        assert probe.end() == (-signal.SIGKILL, said * 2)


def test_unsupportok_3_stays_at_home(nodes: Lab, place: tuple[str, ...]) -> None:
    """Beyond the manual: the call is made, at home, and the program cannot leave any more."""
    with Probe(nodes, *place) as probe:
        probe.ask("call(2, '/proc/self/unsupportok', 1, 3)")
        assert make(probe, shared(PROT_READ | PROT_WRITE)) > 0
        assert make(probe, (2, 0)) != 0
        assert probe.ask("call(2, '/proc/self/whereami', 0)") == "0"
        assert probe.number("call(2, '/proc/self/migrate', 1, 2)") == -errno.EAGAIN
        assert probe.end() == (0, "")


# --------------------------------------------------------------------------- shared memory that is not written


@pytest.mark.parametrize("option", [(), ("-e",), ("-w",)])
def test_files_mapped_shared_stay_shared(nodes: Lab, place: tuple[str, ...], option: tuple[str, ...], tmp_path: Path) -> None:
    """The manual replaces MAP_SHARED without PROT_WRITE by MAP_PRIVATE; here a file is what it is, and what is written reaches it:
    the program comes home to make it writable, and leaves when it is not any more."""
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 4096)
    tmp_path.chmod(0o755)
    with Probe(nodes, *place, *option) as probe:
        fd = probe.number(f"os.open({str(file)!r}, os.O_RDWR)")
        at = make(probe, shared(PROT_READ, 0, fd))
        assert at > 0
        assert probe.ask(f"ctypes.string_at({at}, 6)") == "b'abcabc'"
        assert make(probe, (number("mprotect"), at, 4096, PROT_READ | PROT_WRITE)) == 0
        assert probe.ask("call(2, '/proc/self/whereami', 0)") == "0"
        probe.ask(f"ctypes.memmove({at}, b'xyz', 3)")
        assert file.read_bytes()[:6] == b"xyzabc"
        assert probe.number("call(2, '/proc/self/migrate', 1, 2)") == -errno.EAGAIN
        assert make(probe, (number("mprotect"), at, 4096, PROT_READ)) == 0
        assert probe.number("call(2, '/proc/self/migrate', 1, 2)") == 0
        assert probe.ask(f"ctypes.string_at({at}, 6)") == "b'xyzabc'"
        assert probe.end() == (0, "")


@pytest.mark.parametrize("option", ["-e", "-w"])
def test_memory_mapped_shared_becomes_private_under_e(nodes: Lab, place: tuple[str, ...], option: str) -> None:
    with Probe(nodes, *place, option) as probe:
        at = make(probe, shared(PROT_READ))
        assert at > 0
        assert make(probe, (number("mprotect"), at, 4096, PROT_READ | PROT_WRITE)) == 0
        assert probe.ask(f"[ctypes.memset({at}, 7, 9), ctypes.string_at({at}, 2)][1]") == r"b'\x07\x07'"
        assert probe.number("call(2, '/proc/self/migrate', 1, 2)") == 0
        assert probe.end() == (0, "")


def test_maps_of_mappings(nodes: Lab, place: tuple[str, ...], tmp_path: Path) -> None:
    """Memory that was made private is called so; a file is called what it is."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 4096)
    tmp_path.chmod(0o755)
    with Probe(nodes, *place, "-e") as probe:
        fd = probe.number(f"os.open({str(file)!r}, os.O_RDWR)")
        assert make(probe, shared(PROT_READ, 0, fd)) > 0
        assert probe.ask(f"[l.split()[1] for l in open('/proc/self/maps') if {str(file)!r} in l]") == "['r--s']"
        at = make(probe, shared(PROT_READ))
        assert probe.ask(f"[l.split()[1] for l in open('/proc/self/maps') if l.startswith('%x-' % {at})]") == "['r--p']"


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_mapping_a_device(nodes: Lab, place: tuple[str, ...], device: str) -> None:
    """mmap: mapping of special-character devices is not permitted."""
    with Probe(nodes, *place, "-w") as probe:
        fd = probe.number(f"os.open({device!r}, os.O_RDWR)")
        assert make(probe, shared(PROT_READ | PROT_WRITE, 0, fd)) == -errno.ENOSYS
        private = (number("mmap"), 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0)
        assert make(probe, private) == -errno.ENODEV, "the kernel has the first word"
        zero = probe.number("os.open('/dev/zero', os.O_RDWR)")
        assert make(probe, (number("mmap"), 0, 4096, PROT_READ, MAP_PRIVATE, zero, 0)) > 0, "zeros are anywhere the same"
        assert probe.end()[1].startswith(line(Text.MAP_DEVICE))


# --------------------------------------------------------------------------- served although the manual refuses it


def test_clone_as_fork_and_vfork_do(nodes: Lab, place: tuple[str, ...]) -> None:
    """Permitted: CLONE_CHILD_SETTID, CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, SIGCLD; here also vfork with a stack."""
    done = nodes.run(1, "mosrun", *place, "bash", "-c", "(exit 3); echo $?; echo $(echo sub)")
    assert (done.stdout, done.stderr) == ("3\nsub\n", "")
    with Probe(nodes, *place) as probe:
        assert probe.ask("os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn('/bin/false', ['false'], {}), 0)[1])") == "1"
        assert probe.ask("os.system('exit 4') >> 8") == "4"


def test_priorities_of_others(nodes: Lab, place: tuple[str, ...]) -> None:
    """getpriority and setpriority may refer to any process, as natively."""
    with Probe(nodes, *place) as probe:
        assert probe.ask(f"os.getpriority(os.PRIO_PROCESS, {os.getpid()})") == str(os.getpriority(os.PRIO_PROCESS, os.getpid()))
        assert probe.ask("[os.setpriority(os.PRIO_PROCESS, 0, 5), os.getpriority(os.PRIO_PROCESS, 0)][1]") == "5"


def group_of(pid: int) -> str:
    """sched(7), autogroups; "" without them."""
    try:
        return Path(f"/proc/{pid}/autogroup").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("nice", [0, 7])
def test_a_body_is_as_nice_as_its_program(nodes: Lab, nice: int) -> None:
    """Also when that changes; and none gets what mosd's own processes have."""
    cluster.wait_until(lambda: not nodes.tree(2).pids("guests"))  # those of tests before
    expected, later = os.nice(0) + nice, os.nice(0) + 9  # `nice make test` is allowed
    program = nodes.start(1, "nice", "-n", str(nice), "mosrun", "-2", "sleep", "60")
    try:
        [body] = cluster.wait_until(lambda: nodes.tree(2).pids("guests"))
        assert os.getpriority(os.PRIO_PROCESS, program.pid) == expected
        cluster.wait_until(lambda: os.getpriority(os.PRIO_PROCESS, body) == expected)  # home tells it just behind the body's start
        os.setpriority(os.PRIO_PROCESS, program.pid, later)
        cluster.wait_until(lambda: os.getpriority(os.PRIO_PROCESS, body) == later)
        if group_of(body):  # it is alone in its session, where its own value means nothing
            cluster.wait_until(lambda: group_of(body).endswith(f" nice {later}\n"))
    finally:
        program.kill()
        program.wait()
    cluster.wait_until(lambda: not nodes.tree(2).pids("guests"))


def test_limit_of_open_files(nodes: Lab, place: tuple[str, ...]) -> None:
    """setrlimit: the manual's fixed 1024 is not needed; the limit is the kernel's."""
    with Probe(nodes, *place) as probe:
        probe.ask("globals().update(r=__import__('resource'))")
        assert probe.ask("[r.setrlimit(r.RLIMIT_NOFILE, (99, 99)), r.getrlimit(r.RLIMIT_NOFILE)][1]") == "(99, 99)"
        assert probe.end() == (0, "")


def test_sigstop(nodes: Lab, place: tuple[str, ...]) -> None:
    """SIGSTOP stops a program wherever it is, and its parent sees it."""
    with Probe(nodes, *place) as probe:
        os.kill(probe.pid, signal.SIGSTOP)
        assert os.WSTOPSIG(os.waitpid(probe.pid, os.WUNTRACED)[1]) == signal.SIGSTOP
        os.kill(probe.pid, signal.SIGCONT)
        assert probe.ask("6 * 7") == "42"


def test_cpus(nodes: Lab, place: tuple[str, ...]) -> None:
    """sched_setaffinity holds at home; sched_getaffinity tells what was set, and counts the home-node's CPUs before."""
    with Probe(nodes, *place) as probe:
        mine = os.sched_getaffinity(0)
        assert probe.ask("os.sched_getaffinity(0)") == repr(mine)
        one = {min(mine)}
        assert probe.ask(f"[os.sched_setaffinity(0, {one}), os.sched_getaffinity(0)][1]") == repr(one)
        for where in (2, 0):
            assert probe.number(f"call(2, '/proc/self/migrate', 1, {where})") == 0
            assert probe.ask("os.sched_getaffinity(0)") == repr(one)
        assert os.sched_getaffinity(probe.pid) == one
    said = nodes.run(1, "mosrun", *place, "sh", "-c", "taskset -p $$; sleep 0.2; grep Cpus_allowed: /proc/$$/status").stdout
    masks = [int(line.split()[-1].replace(",", ""), 16) for line in said.splitlines()]
    assert masks == [sum(1 << one for one in mine)] * 2, "it is held near its tracer, and does not see it"
    done = nodes.run(1, "mosrun", *place, "taskset", "-c", str(min(mine)), "nproc")
    assert (done.stdout, done.stderr) == ("1\n", "")
    done = nodes.run(1, "mosrun", *place, "chrt", "-b", "0", "sh", "-c", "chrt -p $$")
    assert "SCHED_BATCH" in done.stdout and done.stderr == ""


# --------------------------------------------------------------------------- not enough memory for what we need


def test_a_program_without_room_for_us_runs_natively(nodes: Lab) -> None:
    """"failed allocating memory": the reason is in its why file."""
    program = built(PROGRAMS["counter-static"])
    script = f"ulimit -v 2200; exec {program} 30"
    process = nodes.start(1, "mosrun", "-h", "sh", "-c", script)

    folder = Path(nodes.node(1).paths.mount, "proc", str(process.pid))

    def why() -> str:
        return (folder / "why").read_text().rstrip("\n") if folder.exists() else ""

    assert text(Text.NO_MEMORY) in cluster.wait_until(why)
    process.kill()


# --------------------------------------------------------------------------- home is lost


def test_a_home_that_is_lost(nodes: Lab) -> None:
    """Its guests end, and the log of their node says why."""
    with Probe(nodes, "-2") as probe:
        tracer = tracer_of(int(probe.ask("__import__('os').getpid()")))
        os.kill(tracer, signal.SIGKILL)
        assert probe.process.wait() == -signal.SIGKILL
    said = text(Text.SEEMS_DEAD, computer=nodes.node(1).ip)
    cluster.wait_until(lambda: said in Path(nodes.node(2).paths.log).read_text())
