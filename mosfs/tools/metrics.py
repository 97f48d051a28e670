"""mosctl metrics (mosctl(1)): node/metrics printed, or served over HTTP/1.1 to Prometheus, by a process without any right.

Nobody who connects is believed: a request has so many bytes and so many seconds, and so many are served side by side.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
import time
from typing import Any

from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree

FACT = "metrics"  #: its name among the files of ``node/``
TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST = 8192  #: bytes that a request may have; Prometheus sends some 300
SECONDS = 10.0  #: from connecting to the last byte of the answer
MOMENT = 0.001  #: seconds; no timeout is 0
AT_ONCE = 16  #: connections; one more is closed unanswered
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d{1,5})")
REQUEST_LINE = re.compile(rb"(GET|HEAD) (\S+) HTTP/1\.[01]\r?\n")
END = re.compile(rb"\r?\n\r?\n")


def address_of(text: str) -> tuple[str, int]:
    """The host and the port of "127.0.0.1:9253", "[::1]:9253" or "name:9253". UserError for anything else."""
    form = ADDRESS.fullmatch(text)
    if form is None or not 0 < int(form[2]) < 65536:
        raise UserError(f"metrics: {text}: not address:port", 2)
    return form[1].strip("[]"), int(form[2])


def answer_to(request: bytes, read: str | None) -> bytes:
    """What goes back for the head of a request; ``read``: the metrics, None while mosd does not answer."""
    line = REQUEST_LINE.match(request)
    if line is None:
        status, text = "400 Bad Request", "not GET or HEAD\n"
    elif line[2].partition(b"?")[0] != b"/metrics":
        status, text = "404 Not Found", "see /metrics\n"
    elif read is None:
        status, text = "503 Service Unavailable", "MOSIX is not running\n"
    else:
        status, text = "200 OK", read
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    return head if line is not None and line[1] == b"HEAD" else head + body


class Listener(socketserver.ThreadingTCPServer):
    """Serves ``tree``'s metrics to at most `AT_ONCE` connections side by side. OSError if that address cannot be had."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, tree: Tree, host: str, port: int) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        super().__init__(address, socketserver.BaseRequestHandler)  # type: ignore[arg-type]
        self.tree = tree
        self.places = threading.BoundedSemaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self.places.release()
            self.shutdown_request(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """One connection: one request, one answer."""
        try:
            with contextlib.suppress(OSError):
                self.serve(request, time.monotonic() + SECONDS)
        finally:
            self.places.release()

    def serve(self, connection: socket.socket, deadline: float) -> None:
        request = b""
        while END.search(request) is None:
            connection.settimeout(max(deadline - time.monotonic(), MOMENT))
            more = connection.recv(REQUEST)
            request += more
            if not more or len(request) > REQUEST or time.monotonic() > deadline:
                return
        answer = answer_to(request, self.read())
        connection.settimeout(max(deadline - time.monotonic(), MOMENT))
        connection.sendall(answer)

    def read(self) -> str | None:
        try:
            return self.tree.fact(FACT) + "\n"
        except UserError:
            return None


def metrics(tree: Tree, address: str) -> int:
    """Print the metrics, or serve them at ``address`` ("host:port") until the process is ended."""
    if not address:
        print(tree.fact(FACT))
        return 0
    host, port = address_of(address)
    try:
        listener = Listener(tree, host, port)
    except (OSError, UnicodeError) as error:  # the latter: a name that IDNA cannot encode
        raise UserError(f"metrics: {address}: {getattr(error, 'strerror', 'not a host name')}") from None
    print(f"mosctl: metrics: listening on {address}", file=sys.stderr, flush=True)
    listener.serve_forever()
    return 0
