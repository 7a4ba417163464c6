"""A real Prometheus from Debian's package, on a free port of its own, which ends with the process that started it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import httpx

from services.base.addresses import free_port
from tests.support.children import MORTAL, end

PATIENCE_SECONDS = 60.0


class PrometheusMissing(RuntimeError):
    """The tests need Prometheus: ``apt-get install prometheus``."""


class PrometheusServer:
    """Prometheus over blocks made from an OpenMetrics text, or scraping a target."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._binaries = {name: shutil.which(name) for name in ("prometheus", "promtool")}
        if not all(self._binaries.values()):
            raise PrometheusMissing("Prometheus is not installed: apt-get install prometheus")
        self._port = free_port(directory / "prometheus.port")
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, openmetrics: str) -> None:
        """Fill the database with samples of the past; before start()."""
        source = self._directory / "history.om"
        source.write_text(openmetrics)
        command = [self._binaries["promtool"], "tsdb", "create-blocks-from", "openmetrics", source, self._data()]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self, *, scrape: str | None = None) -> None:
        """``scrape`` is a target as ``host:port``, scraped every second."""
        config = self._directory / "prometheus.yml"
        jobs = f'  - job_name: holdfast\n    static_configs: [{{targets: ["{scrape}"]}}]\n' if scrape else "  []\n"
        config.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n{jobs}")
        command = [
            *MORTAL,
            str(self._binaries["prometheus"]),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._data()}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--storage.tsdb.retention.time=10y",
        ]
        log = self._directory / "prometheus.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)

    def ask(self, query: str, at: float | None = None) -> dict[str, float]:
        """The value per label set (the first label's value, or nothing) of an instant query."""
        parameters = {"query": query} | ({"time": str(at)} if at is not None else {})
        results = httpx.get(f"{self.url}/api/v1/query", params=parameters).json()["data"]["result"]
        return {next(iter(result["metric"].values()), ""): float(result["value"][1]) for result in results}

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _data(self) -> Path:
        return self._directory / "prometheus"
