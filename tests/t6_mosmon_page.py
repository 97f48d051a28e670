"""mosmon --html in a real browser, at 3 and at 300 nodes, light and dark: it is drawn, fits the window, and runs nothing."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mosfs.tools.mosmon_page import page
from mosfs.tools.mosmon_picture import Picture, Shown, Visit
from mosfs.tools.mosmon_view import Node
from tests import cluster
from tests.cluster import wait_until

CHROMIUM = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), "")
pytestmark = [
    pytest.mark.long, pytest.mark.timeout(600), pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
]
WIDTH, HEIGHT = 1280, 900
Colour = tuple[int, int, int]
#: The colour of the page behind all else, in each scheme.
PAPER: dict[str, Colour] = {"light": (0xF6, 0xF7, 0xF9), "dark": (0x0E, 0x13, 0x19)}
EVIL = "<script>document.body.replaceChildren()</script>"


@dataclass(frozen=True)
class Pixels:
    """``rows`` of three bytes a pixel."""

    width: int
    rows: list[bytes]

    def at(self, x: int, y: int) -> Colour:
        red, green, blue = self.rows[y][3 * x : 3 * x + 3]
        return red, green, blue

    def column(self, x: int) -> Iterator[Colour]:
        return (self.at(x, y) for y in range(len(self.rows)))

    def colours(self) -> Counter[bytes]:
        return Counter(row[at : at + 3] for row in self.rows[::4] for at in range(0, 3 * self.width, 12))


def decoded(data: bytes) -> Pixels:
    """A PNG of 8 bits a channel, with or without alpha, as browsers write it."""
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", body)
            assert depth == 8 and colours in (2, 6)
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    step = 3 if colours == 2 else 4
    plain, before, rows = zlib.decompress(packed), bytes(width * step), []
    for y in range(height):
        start = y * (1 + width * step)
        before = _unfiltered(plain[start], plain[start + 1 : start + 1 + width * step], before, step)
        rows.append(before if step == 3 else b"".join(before[x : x + 3] for x in range(0, len(before), 4)))
    return Pixels(width, rows)


def _unfiltered(kind: int, row: bytes, above: bytes, step: int) -> bytes:
    """One row, by the filters of the PNG specification (9.2)."""
    found = bytearray(step) + row  # what is left of the first pixel is 0
    above = bytes(step) + above
    for x in range(step, len(found)) if kind else ():
        left, up = found[x - step], above[x]
        if kind == 4:
            corner = above[x - step]
            guess = left + up - corner
            near = min((left, up, corner), key=lambda each, guess=guess: abs(guess - each))  # type: ignore[misc]
            found[x] = found[x] + near & 0xFF
        else:
            found[x] = found[x] + (left, up, (left + up) // 2)[kind - 1] & 0xFF
    return bytes(found[step:])


def picture(count: int) -> Picture:
    nodes = [Node(n, f"10.0.{n // 250}.{n % 250 + 1}", "alive", n * 7 % 300, 10000, 8, 4000, 16000) for n in range(1, count + 1)]
    loads = {node.ip: [(node.load + 11 * at) % 400 for at in range(120)] for node in nodes}
    path = [Visit(600.0, nodes[1].ip, "less load there"), Visit(60.0, "", ""), Visit(5.0, nodes[2].ip, EVIL)]
    one = Shown(7, "ann", EVIL, EVIL * 3, where=nodes[2].ip, why=EVIL, cpu=1.0, size_mb=5, moves=3, path=path)
    return Picture(nodes[0].ip, "today", "1.0", nodes, {}, loads, 30.0, [one] * 9, decisions=[EVIL, "one"])


def shot(folder: Path, file: Path, scheme: str) -> Pixels:
    png = folder / f"{file.stem}-{scheme}.png"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", f"--window-size={WIDTH},{HEIGHT}",
        f"--screenshot={png}", file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert png.exists(), done.stderr
    return decoded(png.read_bytes())


def is_good(seen: Pixels, scheme: str) -> None:
    """Paper at both edges from top to bottom, so that nothing is wider than the window; and enough is drawn between them."""
    assert seen.width == WIDTH
    for x in (0, 3, WIDTH - 4, WIDTH - 1):
        assert set(seen.column(x)) == {PAPER[scheme]}, x
    colours = seen.colours()
    assert len(colours) > 50 and colours.most_common(1)[0][1] < 0.9 * sum(colours.values())


@pytest.mark.parametrize("scheme", PAPER)
@pytest.mark.parametrize("count", [3, 300])
def test_it_is_drawn_and_fits(tmp_path: Path, count: int, scheme: str) -> None:
    file = tmp_path / f"{count}.html"
    file.write_text(page(picture(count)))
    is_good(shot(tmp_path, file, scheme), scheme)


@pytest.mark.root
def test_of_a_live_cluster(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 3) as nodes:
        program = nodes.start(1, "mosrun", "-L", "-2", "sleep", "1000")
        wait_until(lambda: nodes.process(program.pid).where)
        file = tmp_path / "page.html"
        done = nodes.run(1, "mosmon", "--html", str(file))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "sleep" in file.read_text()
        is_good(shot(tmp_path, file, "light"), "light")
