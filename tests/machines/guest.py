"""What runs in the second computer: it does what it is asked over TCP, one request a connection.

A request is one line of JSON, {"argv": [...], "env": {...}, "stdin": "...", "cwd": "...", "timeout": SECONDS}, or
{"files": {path: [text, mode]}};
the answer is another, {"status": N, "stdout": "...", "stderr": "..."}. Needs nothing but Python's own library: it starts before
the project can be used.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
from typing import Any

PORT = 4711


def run(request: dict[str, Any]) -> dict[str, Any]:
    for path, (text, mode) in request.get("files", {}).items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
    if "argv" not in request:
        return {"status": 0, "stdout": "", "stderr": ""}
    try:
        done = subprocess.run(
            request["argv"], env={**os.environ, **request.get("env", {})}, input=request.get("stdin", ""),
            cwd=request.get("cwd", "/"),
            timeout=request.get("timeout", 60), capture_output=True, text=True, errors="replace", check=False,
        )
    except subprocess.TimeoutExpired as late:
        return {"status": 124, "stdout": (late.stdout or b"").decode(errors="replace"), "stderr": "still running"}
    return {"status": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if not line.strip():
            return
        request = json.loads(line)
        if request.get("end"):
            self.server.shutdown()
        self.wfile.write(json.dumps(run(request)).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server((sys.argv[1], PORT), Handler) as server:
        print("guest: ready", flush=True)
        server.serve_forever()
