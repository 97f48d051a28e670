"""Debian's prometheus and node exporter over a lab, as docs/metrics.md says it: metrics are scraped, and an alert fires."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import cluster
from tests.cluster import Lab, kill_node, wait_until
from tests.progs import REPO

TOOLS = ("prometheus", "promtool", "prometheus-node-exporter")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.long, pytest.mark.root, pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}"),
]
#: What docs/metrics.md has in crontab(5), and where that writes.
CRON = re.compile(r"^    \* \* \* \* \* root (.*)$", re.MULTILINE)
FOLDER = "/var/lib/prometheus/node-exporter"
SECONDS = 120.0


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Prometheus:
    """A server of its own that scrapes an exporter of its own, both below ``folder``, each second."""

    def __init__(self, folder: Path, nodes: Lab) -> None:
        self.nodes, self.texts = nodes, folder / "texts"
        self.texts.mkdir()
        exporter, self.port = free_port(), free_port()
        rules = (REPO / "etc/prometheus/mosfs.yml").read_text()
        assert "for: 5m" in rules
        (folder / "rules.yml").write_text(re.sub("for: .*", "for: 1s", rules))
        (folder / "prometheus.yml").write_text(json.dumps({  # JSON is YAML
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(folder / "rules.yml")],
            "scrape_configs": [{"job_name": "mosfs", "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}]}],
        }))
        collect = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={self.texts}"]
        store = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self.running = []
        for words, port in ((["prometheus-node-exporter", *collect], exporter), (["prometheus", *store], self.port)):
            with (folder / f"{words[0]}.log").open("wb") as log:
                self.running.append(subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log))

    def end(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()

    def ask(self, path: str) -> Any:
        """The data of an answer; None while nobody listens yet, or it is not ready."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=30) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, ConnectionError):
            return None

    def collect(self) -> None:
        """What cron does each minute, on node 1."""
        (line,) = CRON.findall((REPO / "docs/metrics.md").read_text())
        line = line.replace(FOLDER, str(self.texts)).replace("/run/mosix", self.nodes.node(1).paths.mount)
        assert subprocess.run(["sh", "-c", line], check=False, capture_output=True).returncode == 0

    def values(self, question: str) -> list[float]:
        self.collect()
        found = self.ask(f"query?{urllib.parse.urlencode({'query': question})}")
        return [float(row["value"][1]) for row in found["result"]] if found else []

    def firing(self) -> dict[str, str]:
        """Alerts that fire, with what they say."""
        self.collect()
        found = self.ask("alerts")
        return {each["labels"]["alertname"]: each["annotations"]["summary"]
                for each in (found["alerts"] if found else ()) if each["state"] == "firing"}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("prometheus"), 3) as running:
        yield running


@pytest.fixture
def prometheus(nodes: Lab, tmp_path: Path) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path, nodes)
    try:
        yield made
    finally:
        made.end()


def test_promtool_finds_nothing_wrong_on_any_node(nodes: Lab) -> None:
    for number in (1, 2, 3):
        told = nodes.tree(number).fact("metrics") + "\n"
        said = subprocess.run(["promtool", "check", "metrics"], input=told, text=True, capture_output=True, check=False)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_metrics_are_scraped_and_an_alert_fires(nodes: Lab, prometheus: Prometheus) -> None:
    up = 'mosfs_nodes{condition="alive"}'
    wait_until(lambda: prometheus.values(up) == [3.0], SECONDS)
    assert prometheus.values("mosfs_programs_away") == [0.0]
    wait_until(lambda: prometheus.firing() == {}, SECONDS)
    program = nodes.start(1, "mosrun", "-L", "-2", "sleep", "1000", stdin=subprocess.DEVNULL)
    wait_until(lambda: prometheus.values("mosfs_programs_away") == [1.0], SECONDS)
    assert prometheus.values('sum(mosfs_moves_total{result="ok"})') == [1.0]
    program.kill()
    program.wait()
    wait_until(lambda: prometheus.values("mosfs_programs_away") == [0.0], SECONDS)

    kill_node(nodes, 3)
    said = wait_until(prometheus.firing, SECONDS)
    assert {name: re.sub(r"^\S+", "it", text) for name, text in said.items()} == {
        "MosixNodeIsDown": "it has not heard of 1 nodes for five minutes"}
    nodes.start_mosd(3)
    wait_until(lambda: prometheus.firing() == {} and prometheus.values(up) == [3.0], SECONDS)
