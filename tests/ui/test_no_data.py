"""Where nothing is known the pages say so: no tick, no 0 and no "never" stand for numbers that nobody has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from services.base.settings import Settings
from services.console import facade
from services.console.facade import Console
from state.engine.database import Database
from tests.support import seed_console
from tests.support.openmetrics_history import half_hour
from tests.support.pages import NOON, text_of
from tests.support.prometheus_server import PrometheusServer

Show = Callable[..., AppTest]

GOOD_NEWS = (
    "No order failed",
    "No call was denied",
    "No call was made",
    "Nothing waited",
    "none due to inventory",
    "all closed throughout",
    "never",
    "Nothing in the last day",
    ":material/check",
)
CALLS = "inventory_requests"


@contextmanager
def prometheus(folder: Path, database: Database, openmetrics: str) -> Iterator[None]:
    """The console asks a Prometheus that has this and nothing else."""
    server = PrometheusServer(folder)
    if openmetrics:
        server.load(openmetrics)
    server.start()
    try:
        url = database.url.render_as_string(hide_password=False)
        settings = Settings.load(database_url=url, prometheus_url=server.url)
        # Real seconds: each question to Prometheus has a limit.
        facade.install(Console(settings, lambda: NOON, time.monotonic, patience_seconds=60))
        yield
    finally:
        facade.install(None)
        server.stop()


def only(metric: str, openmetrics: str) -> str:
    """Of a history the series of one metric."""
    kept = [line for line in openmetrics.splitlines() if line.removeprefix("# TYPE ").startswith(metric)]
    return "\n".join([*(line for line in kept if not line.startswith("# HELP")), "# EOF"]) + "\n"


def good_news(test: AppTest) -> list[str]:
    text = text_of(test)
    return [news for news in GOOD_NEWS if news in text]


def test_metrics_without_samples_show_no_good_news(database: Database, show: Show) -> None:
    database.write_now(lambda connection: seed_console.heartbeat(connection, NOON))
    test = show("metrics.py")
    assert "Nothing has been measured in the last hour" in text_of(test)
    assert good_news(test) == []


def test_a_prometheus_without_samples_shows_no_good_news(tmp_path: Path, database: Database, show: Show) -> None:
    with prometheus(tmp_path, database, ""):
        test = show("metrics.py")
        assert "source: Prometheus" in text_of(test)
        assert good_news(test) == []


def test_where_only_calls_are_known_everything_else_is_no_data(tmp_path: Path, database: Database, show: Show) -> None:
    start = NOON - timedelta(minutes=35)
    with prometheus(tmp_path, database, only(CALLS, half_hour(start)[0])):
        test = show("metrics.py")
    tiles = {metric.label: metric.value for metric in test.metric}
    assert "source: Prometheus" in text_of(test)
    assert tiles["Failed orders"] == tiles["Breakers not closed"] == tiles["Availability p95"] == "n/a"
    assert tiles["Reservation success"].endswith(" %")
    assert "No data: nothing is known of this time." in text_of(test)
    assert good_news(test) == []


def test_overview_without_a_database_shows_no_good_news(nowhere: Path, show: Show) -> None:
    assert good_news(show()) == []
