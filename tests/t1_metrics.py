"""mosctl metrics: node/metrics over HTTP, to clients of every kind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mosfs.cluster.paths import NodePaths
from mosfs.tools.metrics import AT_ONCE, REQUEST, Listener, address_of, answer_to, metrics
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree

TEXT = "# TYPE mosfs_load_ratio gauge\nmosfs_load_ratio 0.5\n# EOF\n"


@pytest.mark.parametrize(("text", "address"), [
    ("127.0.0.1:9253", ("127.0.0.1", 9253)), ("[::1]:1", ("::1", 1)), ("node-3.example.org:65535", ("node-3.example.org", 65535)),
])
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["9253", "::1:9253", "[::1]", "a:0", "a:65536", "a:99999999999", "a:-1", ":9253", "a:b", "a:1 "])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UserError, match="not address:port"):
        address_of(text)


@pytest.mark.parametrize("host", ["a..b", "\udcff", "x" * 70])
def test_what_is_no_host_is_one_line(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match=r"^metrics: .*:9253: ."):
        metrics(Tree(NodePaths(str(tmp_path))), f"{host}:9253")


@pytest.mark.parametrize(("line", "status", "has_body"), [
    (b"GET /metrics HTTP/1.1", 200, True), (b"GET /metrics?a=b HTTP/1.0", 200, True), (b"HEAD /metrics HTTP/1.1", 200, False),
    (b"GET / HTTP/1.1", 404, True), (b"GET /metrics/../../etc/passwd HTTP/1.1", 404, True), (b"POST /metrics HTTP/1.1", 400, True),
    (b"GET /metrics", 400, True), (b"\xff\x00", 400, True), (b"", 400, True),
])
def test_what_is_answered(line: bytes, status: int, has_body: bool) -> None:
    head, _, body = answer_to(line + b"\r\nHost: x\r\n\r\n", TEXT).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert bool(body) == has_body
    assert status != 200 or f"Content-Length: {len(TEXT)}".encode() in head
    assert status == 200 or TEXT.encode() not in body


class Server:
    """`mosctl metrics` of its own, over a tree that is a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = Path(NodePaths(str(root)).mount) / "node/metrics"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(TEXT)
        with closing(socket.socket()) as sock:
            sock.bind(("127.0.0.1", 0))
            self.address = sock.getsockname()
        words = [sys.executable, "-m", "mosfs.tools.mosctl", "metrics", "{}:{}".format(*self.address)]
        self.process = subprocess.Popen(words, env={**os.environ, "MOSIX_ROOT": str(root)}, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        assert "listening on" in self.process.stderr.readline()

    def get(self, path: str = "/metrics") -> tuple[int, str]:
        try:
            with urllib.request.urlopen("http://{}:{}{}".format(*self.address, path), timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.communicate()


def test_it_prints_what_the_file_says(server: Server) -> None:
    words = [sys.executable, "-m", "mosfs.tools.mosctl", "metrics"]
    done = subprocess.run(words, env={**os.environ, "MOSIX_ROOT": str(server.root)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")


def test_it_serves_what_the_file_says_now(server: Server) -> None:
    assert server.get() == (200, TEXT)
    server.file.write_text(TEXT.replace("0.5", "0.7"))
    assert server.get() == (200, TEXT.replace("0.5", "0.7"))
    server.file.unlink()
    assert server.get() == (503, "MOSIX is not running\n")
    assert server.get("/") == (404, "see /metrics\n")


def test_clients_that_send_too_much_or_nothing_end_nobody_else(server: Server) -> None:
    with closing(socket.create_connection(server.address, timeout=30)) as endless, pytest.raises(ConnectionError):
        for _ in range(10_000):
            endless.sendall(b"x" * REQUEST)
    for rubbish in (b"\0" * 100 + b"\r\n\r\n", b"GET " + b"/" * 2000 + b" HTTP/1.1\r\n\r\n"):
        with closing(socket.create_connection(server.address, timeout=30)) as client:
            client.sendall(rubbish)
            assert client.recv(12) in {b"HTTP/1.1 400", b"HTTP/1.1 404"}
    assert server.get() == (200, TEXT)


def test_so_many_at_once(server: Server) -> None:
    with ExitStack() as clients:
        silent = [clients.enter_context(closing(socket.create_connection(server.address, timeout=30))) for _ in range(AT_ONCE)]
        one_more = clients.enter_context(closing(socket.create_connection(server.address, timeout=30)))
        try:
            assert one_more.recv(1) == b""
        except ConnectionResetError:
            pass
        for client in silent:
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert {client.recv(15) for client in silent} == {b"HTTP/1.1 200 OK"}


def test_no_place_is_lost_where_no_thread_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Listener(Tree(NodePaths(str(tmp_path))), "127.0.0.1", 0) as listener:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(2 * AT_ONCE):
            ours, theirs = socket.socketpair()
            with ours:
                listener.process_request(theirs, ("127.0.0.1", 1))
                assert ours.recv(1) == b""
        assert listener.places.acquire(blocking=False)
