"""What a recording of frames holds (MOSIX_RECORD, `mosfs.wire.record`): one JSON object a line, one line a frame.

    python -m mosfs.tools.image [--bytes] FILE

An image is its head (IMAGE, with registers by name and mappings), its PAGES and IMAGE_END. Contents of memory and of files are
counted only; ``--bytes`` shows them in hexadecimal.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from mosfs.calls import request, show
from mosfs.migrate import filecopy, image, pages
from mosfs.migrate.image import BadImage
from mosfs.tools.options import NOBODY_READS, drop
from mosfs.wire import frames, record
from mosfs.wire.fields import MALFORMED
from mosfs.wire.frames import Kind

#: user_regs_struct (sys/user.h).
REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs",
    "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
#: Bytes that are shown in any case.
FEW = 40
_MALFORMED = (BadImage, request.BadRequest, struct.error, *MALFORMED, OverflowError, IndexError)


class Decoder:
    """``contents``: show the contents of memory and files."""

    def __init__(self, contents: bool) -> None:
        self._contents = contents
        self._kinds: dict[int, Callable[[bytes], Any]] = {
            Kind.IMAGE: self._image, Kind.PAGES: self._pages, Kind.RUNS: self._runs, Kind.FILE: self._file,
            Kind.CALL: self._call, Kind.REPLY: self._reply,
        }

    def lines(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """An object for each frame; the last one has ``error`` when the file ends in the middle of a frame."""
        try:
            for at, direction, kind, flags, pair, payload in record.read(file):
                yield {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 10**9)) + f".{at % 10**9:09}Z",
                    "direction": "sent" if direction == record.SENT else "received",
                    "kind": frames.kind_name(kind), "flags": flags, "pair": pair, "bytes": len(payload),
                    **self.content(kind, payload),
                }
        except record.BadRecording as error:
            yield {"error": str(error)}

    def content(self, kind: int, payload: bytes) -> dict[str, Any]:
        """What the payload says, or an ``error``."""
        shape = frames.SHAPES.get(kind)
        decode = self._kinds.get(kind) or (shape.content if shape is not None else None)
        if not payload:
            return {}
        try:
            return {"content": self._plain(decode(payload) if decode is not None else payload)}
        except _MALFORMED as error:
            return {"error": str(error), "content": self._plain(payload)}

    def _plain(self, value: Any) -> Any:
        """``value`` as JSON can have it."""
        if isinstance(value, msgspec.Struct):
            return {name: self._plain(getattr(value, name)) for name in value.__struct_fields__}
        if isinstance(value, dict):
            return {str(name): self._plain(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(part) for part in value]
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).hex() if self._contents or len(value) <= FEW else f"{len(value)} bytes"
        return value

    def _image(self, payload: bytes) -> dict[str, Any]:
        meta = image.decode(payload)
        shown: dict[str, Any] = self._plain(meta)
        values = struct.unpack(f"<{len(REGISTERS)}Q", meta.regs)
        shown["regs"] = {name: hex(value) for name, value in zip(REGISTERS, values, strict=True)}
        for vma in shown["vmas"]:
            vma["start"], vma["end"] = hex(vma["start"]), hex(vma["end"])
        return shown

    def _pages(self, payload: bytes) -> dict[str, Any]:
        return _run(*pages.unpack(payload))

    def _runs(self, payload: bytes) -> list[dict[str, Any]]:
        return [_run(*run) for run in pages.unpack_runs(payload)]

    def _file(self, payload: bytes) -> dict[str, Any]:
        if filecopy.is_offer(payload):
            return filecopy.read_offer(payload)._asdict()
        number, size, offset, data = filecopy.read_frame(payload)
        return {"number": number, "size": size, "offset": offset, "data": data}

    def _call(self, payload: bytes) -> dict[str, Any]:
        asked = request.unpack(payload)
        blobs = [{"address": hex(blob.addr), "size": blob.size, "data": blob.data} for blob in asked.blobs]
        return {"call": show.call(asked.nr, asked.args, asked.memory if self._contents else lambda _: None), "blobs": blobs}

    def _reply(self, payload: bytes) -> dict[str, Any]:
        result, flags, outs = request.unpack_reply(payload)
        return {"result": result, "flags": flags, "outs": [{"address": hex(at), "data": data} for at, data in outs]}


def _run(address: int, size: int, raw: bytes | memoryview | None) -> dict[str, Any]:
    return {"address": hex(address), "size": size, "empty": raw is None, **({} if raw is None else {"data": raw})}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="image", description="show a recording of frames as JSON, a line a frame")
    parser.add_argument("--bytes", action="store_true", help="contents of memory and files, in hexadecimal")
    parser.add_argument("file")
    options = parser.parse_args(argv)
    failed = False
    try:
        with open(options.file, "rb") as file:
            for line in Decoder(options.bytes).lines(file):
                failed |= "error" in line
                print(json.dumps(line))
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output has seen enough
        drop(sys.stdout)
        return NOBODY_READS
    except OSError as error:
        print(f"image: {error}", file=sys.stderr)
        return 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
