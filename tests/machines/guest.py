"""What runs in the second computer: it does what it is asked over TCP, one request a connection.

A request is one line of JSON, {"argv": [...], "env": {...}, "cwd": "..."} or {"files": {path: [text, mode]}};
the answer is another, {"status": N, "stdout": "...", "stderr": "..."}. A command whose asker has closed the connection is ended.
Needs nothing but Python's own library: it starts before the project can be used.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socketserver
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PORT = 4711


def put(files: dict[str, tuple[str, int]]) -> None:
    for path, (text, mode) in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)


def run(request: dict[str, Any], gone: Callable[[], bool]) -> dict[str, Any]:
    """Run a command to its end, or until its asker is ``gone``."""
    with subprocess.Popen(
        request["argv"], env={**os.environ, **request.get("env", {})}, cwd=request.get("cwd", "/"), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
    ) as child:
        while True:
            try:
                out, err = child.communicate(timeout=0.5)
                return {"status": child.returncode, "stdout": out, "stderr": err}
            except subprocess.TimeoutExpired:
                if gone():
                    os.killpg(child.pid, signal.SIGTERM)
                    child.communicate()
                    return {}


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if not line.strip():
            return
        request = json.loads(line)
        put(request.get("files", {}))
        answer = run(request, self.gone) if "argv" in request else {"status": 0, "stdout": "", "stderr": ""}
        with suppress(ConnectionError):
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def gone(self) -> bool:
        return bool(select.select([self.connection], [], [], 0)[0])


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server((sys.argv[1], PORT), Handler) as server:
        print("guest: ready", flush=True)
        server.serve_forever()
