"""mosrun and mosnative as processes, against a stand-in for mosd that answers as it is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.tools import install_launchers
from mosfs.tools.mosrun import MAX_FILES

#: A program that shows what may differ from a native start: arguments, open files, signals.
SHOW = """
import os, sys
print(sys.argv[1:], os.listdir("/proc/self/fd"),
      [line for line in open("/proc/self/status") if line.startswith(("SigP", "SigB", "SigI", "SigC"))])
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the installed launchers."""
    directory = tmp_path_factory.mktemp("bin")
    install_launchers.install(str(directory))
    return directory


@contextmanager
def mosd(root: Path, answer: bytes) -> Iterator[list[bytes]]:
    """A control socket below ``root`` that gives ``answer`` to everybody; the requests it got."""
    path = root / "run/mosd/sock"
    path.parent.mkdir(parents=True, exist_ok=True)
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                requests.append(request)
                if request == b"end":
                    return
                if answer:
                    connection.send(answer)
                connection.recv(1)  # until the exec closes it

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        folder = os.open(path.parent, os.O_PATH)  # the name may be longer than a socket's may be
        try:
            listener.bind(f"/proc/self/fd/{folder}/sock")
            listener.listen()
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield requests
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as last:
                    last.connect(f"/proc/self/fd/{folder}/sock")
                    last.send(b"end")
                thread.join()
                requests.remove(b"end")
        finally:
            os.close(folder)


def run(scripts: Path, root: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "MOSIX_ROOT": str(root), **environ}
    return subprocess.run([str(scripts / argv[0]), *argv[1:]], env=env, capture_output=True, text=True, check=False)


def test_the_program_gets_arguments_status_and_nothing_else(scripts: Path, tmp_path: Path) -> None:
    with mosd(tmp_path, b"OK") as requests:
        done = run(scripts, tmp_path, "mosrun", "-3", sys.executable, "-Sc", SHOW, "-b", "x y")
        plain = subprocess.run([sys.executable, "-Sc", SHOW, "-b", "x y"], capture_output=True, text=True, check=True)
        assert run(scripts, tmp_path, "mosrun", "sh", "-c", "exit 7").returncode == 7
        assert run(scripts, tmp_path, "mosrun", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    assert done.stdout == plain.stdout
    assert requests == [b"RUN\0node=3", b"RUN", b"RUN"]


def test_the_environment_is_the_callers(scripts: Path, tmp_path: Path) -> None:
    with mosd(tmp_path, b"OK"):
        done = run(scripts, tmp_path, "mosenv", "env", A="1", LD_LIBRARY_PATH="/nowhere")
    assert sorted(done.stdout.split()) == sorted(
        [f"PATH={os.environ['PATH']}", f"MOSIX_ROOT={tmp_path}", "A=1", "LD_LIBRARY_PATH=/nowhere"])


def test_in_place(scripts: Path, tmp_path: Path) -> None:
    command = [str(scripts / "mosrun"), "sh", "-c", "echo $$"]
    environ = {**os.environ, "MOSIX_ROOT": str(tmp_path)}
    with mosd(tmp_path, b"OK"), subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    assert int(out) == process.pid


def test_a_long_root(scripts: Path, tmp_path: Path) -> None:
    root = tmp_path / ("long" * 30)
    with mosd(root, b"OK") as requests:
        assert run(scripts, root, "mosrun", "echo", "hello").stdout == "hello\n"
    assert requests == [b"RUN"]


@pytest.mark.parametrize(("answer", "line"), [
    (b"ERR\0failed migrating to 3: not in map", "mosrun: failed migrating to 3: not in map\n"),
    (b"ERR\0" + "ü".encode(), "mosrun: ü\n"),
])
def test_refusals_are_mosds_words(scripts: Path, tmp_path: Path, answer: bytes, line: str) -> None:
    with mosd(tmp_path, answer):
        done = run(scripts, tmp_path, "mosrun", "true")
    assert (done.returncode, done.stdout, done.stderr) == (125, "", line)


def test_mosd_is_not_running(scripts: Path, tmp_path: Path) -> None:
    done = run(scripts, tmp_path, "mosrun", "true")
    assert done.returncode == 125
    socket_name = f"{tmp_path}/run/mosd/sock"
    assert done.stderr == f"mosrun: MOSIX is not running on this computer (no mosd answers at {socket_name}): run mosd(8)\n"


@pytest.mark.parametrize(("program", "status", "text"), [
    ("no-such-program", 127, "No such file or directory"),
    ("/no/such/program", 127, "No such file or directory"),
    ("/etc/passwd", 126, "Permission denied"),
    ("/", 126, "Permission denied"),
    ("/etc/passwd/x", 127, "Not a directory"),
])
@pytest.mark.parametrize("command", ["mosrun", "mosnative"])
def test_programs_that_cannot_be_run(
    scripts: Path, tmp_path: Path, command: str, program: str, status: int, text: str
) -> None:
    with mosd(tmp_path, b"OK") as requests:
        done = run(scripts, tmp_path, command, program)
    assert (done.returncode, done.stderr) == (status, f"{command}: {program}: {text}\n")
    assert requests == []


def test_a_text_file_without_interpreter_is_the_shells(scripts: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo shell $1\n")
    script.chmod(0o755)
    with mosd(tmp_path, b"OK"):
        assert run(scripts, tmp_path, "mosrun", str(script), "arg").stdout == "shell arg\n"


def test_argument_zero(scripts: Path, tmp_path: Path) -> None:
    with mosd(tmp_path, b"OK"):
        done = run(scripts, tmp_path, "mosrun", "-z", "sh", "myself", "-c", "echo $0")
    assert done.stdout == "myself\n"


def test_too_high_a_descriptor(scripts: Path, tmp_path: Path) -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    high = os.dup2(descriptor, MAX_FILES + 5)
    os.close(descriptor)
    try:
        with mosd(tmp_path, b"OK") as requests:
            environ = {**os.environ, "MOSIX_ROOT": str(tmp_path)}
            done = subprocess.run([str(scripts / "mosrun"), "true"], env=environ, pass_fds=[high],
                                  capture_output=True, text=True, check=False)
    finally:
        os.close(high)
    assert done.returncode == 125 and requests == []
    assert done.stderr == "mosrun: File-descriptor #1029 is open (only 1024 files supported under MOSIX)\n"


def test_a_32_bit_program_runs_natively(scripts: Path, tmp_path: Path) -> None:
    program = tmp_path / "old"
    program.write_bytes(b"\x7fELF\x01" + bytes(60))  # the kernel refuses it, after mosrun has said its line
    program.chmod(0o755)
    done = run(scripts, tmp_path, "mosrun", str(program))
    assert done.stderr.startswith(f"mosrun: {program} is a 32-bit program - will run in native Linux mode\n")
    assert "MOSIX is not running" not in done.stderr


def test_native_outside_of_mosix_needs_no_mosd(scripts: Path, tmp_path: Path) -> None:
    assert run(scripts, tmp_path, "mosnative", "echo", "hello").stdout == "hello\n"


def test_installing_refuses_a_path_with_blanks() -> None:
    with pytest.raises(ValueError, match="blanks"):
        install_launchers.script("mosrun", "/a b/python", "/x")
    with pytest.raises(ValueError, match="too long"):
        install_launchers.script("mosrun", "/usr/bin/python3", "/x", "/long" * 60)


def test_too_low_a_limit_is_one_line(scripts: Path, tmp_path: Path) -> None:
    """As `ulimit -v`: where Python does not start, that is said; where it does, nothing is."""
    def limited(kilobytes: int) -> subprocess.CompletedProcess[str]:
        command = f'ulimit -v {kilobytes} && exec "$0" echo hello'
        return subprocess.run(["sh", "-c", command, str(scripts / "mosnative")], capture_output=True, text=True, check=False)

    low, enough = limited(4000), limited(60000)
    assert (low.returncode, low.stdout) == (125, "")
    assert low.stderr == "mosnative: cannot start within the limit of address space: it is 4000 KB (ulimit -v)\n"
    assert (enough.returncode, enough.stdout, enough.stderr) == (0, "hello\n", "")


def test_a_folder_that_others_may_not_enter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    (mine / "bin").mkdir(parents=True)
    mine.chmod(0o700)
    assert install_launchers.closed("/usr/bin") == ""
    assert (mine / "bin").is_relative_to(install_launchers.closed(str(mine / "bin")))
    monkeypatch.setattr(sys, "argv", ["install_launchers", str(mine / "bin")])
    assert install_launchers.main() == 0
    assert capsys.readouterr().out.startswith("setup: other users may not enter /")


#: A tracer for a launcher that was killed before it could be seized: process and connection are gone.
GONE = """
import os, socket, sys
from mosfs.home import start
from mosfs.wire.asked import Settings, Start
from mosfs.wire.messages import SpawnTracer
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.close()
dead = os.fork()
if dead == 0:
    os._exit(0)
os.waitpid(dead, 0)
sys.exit(start.main(SpawnTracer(dead, os.getuid(), os.getgid(), Settings(), Start(), "/nowhere", 1), theirs))
"""


def test_a_launcher_that_is_gone_hears_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_ctrl_c_while_a_command_starts_ends_it_without_a_word(tmp_path: Path) -> None:
    """The signal comes while the module of the command is imported, before there is any code of ours that could catch it."""
    tools = tmp_path / "mosfs/tools"
    tools.mkdir(parents=True)
    (tools / "mosps.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nmain = print\n")
    command = tmp_path / "mosps"
    command.write_text(install_launchers.script("mosps", os.path.realpath(sys.executable), str(tmp_path)))
    command.chmod(0o755)
    done = subprocess.run([str(command)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_users_list_of_directories_is_not_cut(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / ".freeze_dirs").write_text("".join(f"/{'x' * 500}{number}\n" for number in range(10)))
    done = run(scripts, tmp_path, "mosrun", "true", HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (125, f"mosrun: {tmp_path}/.freeze_dirs: longer than 4096 bytes\n")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_warning_that_nobody_gets_keeps_no_program_from_running(scripts: Path, tmp_path: Path, where: str) -> None:
    command = ["bash", "-c", f'"$0" -C /none/x echo done {where}', str(scripts / "mosrun")]
    with mosd(tmp_path, b"OK"):
        environ = {"PATH": os.environ["PATH"], "MOSIX_ROOT": str(tmp_path)}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_calls_are_not_told_to_mosd_where_standard_error_is_closed(scripts: Path, tmp_path: Path) -> None:
    command = ["bash", "-c", '"$0" --trace true 2>&-', str(scripts / "mosrun")]
    with mosd(tmp_path, b"OK") as requests:
        environ = {"PATH": os.environ["PATH"], "MOSIX_ROOT": str(tmp_path)}
        done = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert (done.returncode, requests) == (125, [])
