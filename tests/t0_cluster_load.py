"""The files of one value, the secret, the names of files, and all of them together."""

from __future__ import annotations

import builtins
import os
import stat
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.address import LOWEST, system_resolver, to_int, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import Cluster, load, own_address
from mosfs.cluster.local import local_addresses
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.paths import NodePaths, Ports
from mosfs.cluster.scalars import parse_mosip, parse_speed, print_mosip, print_speed
from mosfs.cluster.secret import parse_secret, print_secret, read_secret, validate_secret_file
from mosfs.daemon import reload

SECRET = "correct horse\n"


def complaint(function: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        function()
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- paths and ports


def test_names_below_the_root() -> None:
    paths = NodePaths("/srv/n1/")
    assert paths == NodePaths("/srv/n1")
    assert (paths.mosix_map, paths.userview_map) == ("/srv/n1/etc/mosix/mosix.map", "/srv/n1/etc/mosix/userview.map")
    assert (paths.etc, paths.secret) == ("/srv/n1/etc/mosix", "/srv/n1/etc/mosix/secret")
    assert (paths.speed, paths.mosip) == ("/srv/n1/etc/mosix/speed", "/srv/n1/etc/mosix/mosip")
    assert (paths.mount, paths.run) == ("/srv/n1/run/mosix", "/srv/n1/run/mosd")
    assert (paths.socket, paths.pid) == ("/srv/n1/run/mosd/sock", "/srv/n1/run/mosd/pid")
    assert (paths.log, paths.state) == ("/srv/n1/var/log/mosd.log", "/srv/n1/var/mosix")
    with pytest.raises(FrozenInstanceError):
        paths.root = "/"  # type: ignore[misc]


def test_root_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert NodePaths.from_env({}) == NodePaths.from_env({"MOSIX_ROOT": ""}) == NodePaths("/")
    assert NodePaths("/").mosix_map == "/etc/mosix/mosix.map"
    monkeypatch.chdir(tmp_path)
    assert NodePaths.from_env({"MOSIX_ROOT": "n1"}).root == str(tmp_path / "n1")
    monkeypatch.setenv("MOSIX_ROOT", "/srv/n2")
    assert NodePaths.from_env().root == "/srv/n2"


def test_ports() -> None:
    assert Ports.from_env({}) == Ports(253, 252, 249, 253)
    environ = {"MOSIX_PORT_MIGRATE": "25301", "MOSIX_PORT_GOSSIP": "65535", "MOSIX_PORT_POST": ""}
    assert Ports.from_env(environ) == Ports(migrate=25301, gossip=65535)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", " 1", "1.0", "9" * 5000])
def test_bad_ports(text: str) -> None:
    message = complaint(lambda: Ports.from_env({"MOSIX_PORT_POST": text}))
    assert message.startswith(f"MOSIX_PORT_POST: {text[:9]!r}"[:-1])
    assert message.endswith(": not a port (1-65535)")


# ------------------------------------------------------------------------------------------------- speed and mosip


@given(st.integers(1, 10_000_000))
def test_speed_round_trip(speed: int) -> None:
    assert parse_speed(print_speed(speed)) == speed


@given(st.integers(LOWEST, 0xFFFFFEFF).map(to_ip))
def test_mosip_round_trip(ip: str) -> None:
    assert parse_mosip(print_mosip(ip)) == ip
    assert to_ip(to_int(ip) or 0) == ip


@pytest.mark.parametrize("text", ["0", "10000001", "-5", "fast", "1e4", "10,000", "12.5"])
def test_bad_speed(text: str) -> None:
    assert complaint(lambda: parse_speed(f"{text}\n", "/x/speed")) == (
        f"/x/speed, line 1: '{text}': not a number of 1-10000000"
    )


@pytest.mark.parametrize("text", ["", "\n", "10000 20000", "10000\n10000\n"])
def test_one_value_only(text: str) -> None:
    value = repr(text.strip())
    assert complaint(lambda: parse_speed(text)) == f"speed, line 1: {value}: must hold one value, and nothing else"


def test_bad_mosip() -> None:
    assert complaint(lambda: parse_mosip("10.0.0\n")).startswith("mosip, line 1: '10.0.0': not an IP address")
    assert "are not allowed in MOSIX" in complaint(lambda: parse_mosip("0.0.1.1"))
    assert complaint(lambda: parse_mosip("localhost")).startswith("mosip, line 1: 'localhost': ")


# ------------------------------------------------------------------------------------------------- secret


@given(st.binary(min_size=8, max_size=100).filter(lambda b: b"\n" not in b and b.strip() and not b.endswith(b"\r")))
def test_secret_round_trip(secret: bytes) -> None:
    assert parse_secret(print_secret(secret)) == secret
    assert parse_secret(secret) == parse_secret(secret + b"\r\n") == secret


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "s: empty"),
        (b"\n", "s: empty"),
        (b"          \n", "s: empty"),
        (b"1234567\n", "s, line 1: too short: 7 characters, at least 8 are needed"),
        (b"12345678\n12345678\n", "s, line 2: must be a single line"),
        (b"12345678\n\n", "s, line 2: must be a single line"),
    ],
)
def test_bad_secret(data: bytes, message: str) -> None:
    assert complaint(lambda: parse_secret(data, "s")) == message


def test_whom_a_secret_must_belong_to() -> None:
    validate_secret_file(stat.S_IFREG | 0o600, 0, 1000)
    validate_secret_file(stat.S_IFREG | 0o600, 1000, 1000)
    assert complaint(lambda: validate_secret_file(stat.S_IFREG | 0o600, 1001, 1000, "s")) == (
        "s: 'uid 1001': must belong to root or to uid 1000"
    )
    assert complaint(lambda: validate_secret_file(stat.S_IFIFO | 0o600, 0, 0, "s")) == "s: not a regular file"


@pytest.mark.parametrize("mode", [0o400, 0o640, 0o604, 0o660, 0o644, 0o700, 0o4600, 0])
def test_modes_of_a_secret(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    assert read_secret(str(file)) == b"correct horse"
    if mode & 0o400 or os.geteuid() == 0:
        file.chmod(mode)
        message = complaint(lambda: read_secret(str(file)))
        assert message == f"{file}: 'mode {mode:04o}': mode must be 0600 (chmod 600!)"


def test_a_fifo_instead_of_a_secret_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret", 0o600)
    assert complaint(lambda: read_secret(str(tmp_path / "secret"))).endswith("secret: not a regular file")


# ------------------------------------------------------------------------------------------------- all together


def node(root: Path, **files: str) -> NodePaths:
    """A node's files; in names "_" stands for "."; "" means that the file is missing."""
    given = {"mosix_map": "10.0.0.1 3 p\n", "secret": SECRET, "mosip": "10.0.0.2\n"} | files
    etc = root / "etc/mosix"
    etc.mkdir(parents=True)
    for name, text in given.items():
        if text:
            (etc / name.replace("_", ".")).write_text(text)
            (etc / name.replace("_", ".")).chmod(0o600)
    return NodePaths(str(root))


def no_resolver(name: str) -> None:
    return None


def loaded(paths: NodePaths, *local: str) -> Cluster:
    return load(paths, no_resolver, lambda: local)


def test_load_everything(tmp_path: Path) -> None:
    cluster = loaded(node(tmp_path, speed="12000\n", userview_map="7 10.0.0.1 3\n"))
    assert (cluster.my_ip, cluster.speed, cluster.secret) == ("10.0.0.2", 12000, b"correct horse")
    assert cluster.map.resolve("9") == "10.0.0.3"
    assert cluster.map.relation("10.0.0.1").near
    assert cluster.userview is cluster.map.view
    assert "horse" not in repr(cluster)


def test_defaults(tmp_path: Path) -> None:
    cluster = loaded(node(tmp_path, mosip=""), "127.0.0.1", "10.0.0.3", "10.0.0.3")
    assert (cluster.my_ip, cluster.speed) == ("10.0.0.3", 10000)
    assert list(cluster.userview.numbers()) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mosix_map": ""}, "mosix.map: No such file or directory"),
        ({"mosix_map": "10.0.0.1\n"}, "mosix.map, line 1: '10.0.0.1': a data line is"),
        ({"secret": ""}, "secret: No such file or directory"),
        ({"secret": "short\n"}, "secret, line 1: too short: 5 characters"),
        ({"userview_map": "1 10.0.0.1\n"}, "userview.map, line 1: '1 10.0.0.1': a line is"),
        ({"speed": "fast\n"}, "speed, line 1: 'fast': not a number"),
        ({"mosip": "10.0.0.9\n"}, "mosip, line 1: '10.0.0.9': not in mosix.map"),
        ({"mosip": ""}, "mosip: missing, and mosix.map has none of this machine's addresses"),
    ],
)
def test_whatever_is_wrong_is_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    paths = node(tmp_path, **files)
    text = complaint(lambda: loaded(paths, "192.168.1.1"))
    assert text.startswith(f"{tmp_path}/etc/mosix/{message}")
    assert len(text.splitlines()) == 1
    assert "short" not in text.replace("too short", "")


def test_a_file_that_is_no_text_and_one_that_is_a_directory(tmp_path: Path) -> None:
    paths = node(tmp_path)
    Path(paths.mosix_map).write_bytes(b"\xff\xfe 3\n")
    assert complaint(lambda: loaded(paths)) == f"{paths.mosix_map}: not a text file (UTF-8)"
    Path(paths.mosix_map).write_text("10.0.0.1 2")
    Path(paths.speed).mkdir()
    assert complaint(lambda: loaded(paths)) == f"{paths.speed}: Is a directory"
    Path(paths.speed).rmdir()
    Path(paths.speed).symlink_to("nowhere")
    assert complaint(lambda: loaded(paths)) == f"{paths.speed}: No such file or directory"


def test_several_own_addresses_need_mosip() -> None:
    table = validate_map(parse_map("10.0.0.1 9\n10.5.0.1=10.0.0.1"), no_resolver)
    assert complaint(lambda: own_address(table, None, lambda: ["10.0.0.9", "10.0.0.2", "1.1.1.1"])) == (
        "mosip: '10.0.0.2 10.0.0.9': missing, and mosix.map has several of this machine's addresses"
    )
    assert complaint(lambda: own_address(table, "10.5.0.1", list)) == "mosip, line 1: '10.5.0.1': not in mosix.map"


def test_this_machine() -> None:
    assert "127.0.0.1" in local_addresses()
    assert system_resolver("127.0.1.7") == "127.0.1.7"
    assert system_resolver("x" * 70 + ".invalid") is None
    assert system_resolver("no\0name") is None


def test_mosd_looks_at_every_file_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, asked = NodePaths(str(tmp_path)), set[Path]()

    def recorded(function: Callable[..., object]) -> Callable[..., object]:
        def record(file: object, *args: object, **options: object) -> object:
            if str(file).startswith(paths.etc):
                asked.add(Path(str(file)))
            return function(file, *args, **options)

        return record

    os.makedirs(paths.etc)
    Path(paths.mosix_map).write_text("127.0.0.1 1\n")
    Path(paths.mosip).write_text("127.0.0.1\n")
    Path(paths.secret).write_text(SECRET)
    Path(paths.secret).chmod(0o600)
    with monkeypatch.context() as patched:
        patched.delenv(reload.PROBE_VARIABLE, raising=False)
        patched.setattr(builtins, "open", recorded(open))
        patched.setattr(os, "open", recorded(os.open))
        patched.setattr(os.path, "lexists", recorded(os.path.lexists))
        reload.read(paths)
    assert {Path(paths.mosix_map), Path(paths.secret), Path(paths.speed), Path(paths.private_conf)} <= asked
    for file in sorted(asked):
        before = reload.signature(paths)
        file.write_text("more than there was before\n")
        assert reload.signature(paths) != before, file
