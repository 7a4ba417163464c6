"""The sources of the Metrics page say the same of the same life; a dead Prometheus costs its timeout once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_plus

import httpx
import pytest

from services.base.settings import Settings
from services.console.metric_history import LocalSource, Metrics
from services.console.metric_span import COLUMNS, SourceFailed, Wanted, span_of
from services.console.prometheus_history import PAUSE_SECONDS, PromSource
from services.metrics.objective import WINDOWS
from state import samples
from state.engine.database import Database
from state.engine.source import Source
from tests.support.openmetrics_history import LENGTH, OUTAGE, half_hour
from tests.support.prometheus_server import PrometheusServer

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
END = START + LENGTH


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Prometheus over a half hour three hours ago."""
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.load(half_hour(START)[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def local(database: Database) -> Iterator[LocalSource]:
    """The same half hour as the worker's own samples."""
    rows = half_hour(START)[1]

    def store(connection: object) -> None:
        for at, sample in rows:
            samples.add(connection, at, "worker-1", sample)  # type: ignore[arg-type]

    database.write_now(store)
    source = Source(database.url.render_as_string(hide_password=False))
    yield LocalSource(source)
    source.close()


def the_half_hour(now: datetime = END + timedelta(hours=1)):
    return span_of(Wanted("custom", START, END), now)


def values(frame, metric: str) -> dict[str, float]:
    rows = frame[frame["metric"] == metric]
    return dict(zip(rows["series"], rows["value"], strict=True))


def test_both_sources_give_frames_of_one_shape(prometheus: PrometheusServer, local: LocalSource) -> None:
    theirs = PromSource(prometheus.url, time.monotonic).read(the_half_hour())
    ours = local.read(the_half_hour())
    for frame in (theirs.time_series, theirs.totals, ours.time_series, ours.totals):
        assert tuple(frame.columns) == COLUMNS
        assert str(frame["at"].dtype) == "datetime64[us, UTC]"
        assert not frame["value"].isna().any()
    assert set(theirs.time_series["metric"]) == set(ours.time_series["metric"])


@pytest.mark.parametrize("metric", ["calls", "denied", "failures", "orders", "success_rate", "latency_p95", "queues"])
def test_both_sources_say_the_same_of_the_whole_half_hour(
    prometheus: PrometheusServer, local: LocalSource, metric: str
) -> None:
    theirs = values(PromSource(prometheus.url, time.monotonic).read(the_half_hour()).totals, metric)
    ours = values(local.read(the_half_hour()).totals, metric)
    assert any(ours.values())
    for series, value in ours.items():
        assert theirs[series] == pytest.approx(value, rel=0.03, abs=0.01), series


def test_both_sources_show_the_outage_at_the_same_time(prometheus: PrometheusServer, local: LocalSource) -> None:
    source = PromSource(prometheus.url, time.monotonic)
    for measured in (source.read(the_half_hour()), local.read(the_half_hour())):
        rows = measured.time_series
        shut = rows[(rows["metric"] == "breaker_open") & (rows["value"] == 1)]
        assert abs(shut["at"].min() - (START + OUTAGE[0])) <= timedelta(minutes=1)
        assert abs(shut["at"].max() - (START + OUTAGE[1])) <= timedelta(minutes=1)


def test_both_sources_count_the_same_reservations(prometheus: PrometheusServer, local: LocalSource) -> None:
    # Prometheus extrapolates to the edges of a window; five minutes of scrapes are a little more than that.
    theirs = PromSource(prometheus.url, time.monotonic).reservations(WINDOWS, END)
    ours = local.reservations(WINDOWS, END)
    for window in WINDOWS:
        assert theirs[window].total == pytest.approx(ours[window].total, rel=0.08), window
        assert theirs[window].good == pytest.approx(ours[window].good, rel=0.08), window


def test_a_time_without_data_is_an_empty_frame_and_no_error(prometheus: PrometheusServer, local: LocalSource) -> None:
    span = span_of(Wanted("custom", START - timedelta(days=2), START - timedelta(days=1)), END)
    for source in (PromSource(prometheus.url, time.monotonic), local):
        measured = source.read(span)
        assert measured.time_series.empty
        assert tuple(measured.time_series.columns) == COLUMNS
        assert measured.totals.empty
        assert measured.newest_at is None


def test_a_month_asks_for_few_points(prometheus: PrometheusServer) -> None:
    span = span_of(Wanted("30d"), END)
    rows = PromSource(prometheus.url, time.monotonic).read(span).time_series
    assert span.points <= 181
    assert values(rows, "orders")


# ------------------------------------------------------------------------------- a dead Prometheus


@contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """Takes every connection and never answers; yields its address and the connections."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def take() -> None:
            while True:
                try:
                    connections.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", connections
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in connections:
                connection.close()


def test_a_prometheus_that_never_answers_is_asked_once_and_again_after_a_pause() -> None:
    clock = [0.0]
    with silent_server() as (url, connections):
        source = PromSource(url, lambda: clock[0], timeout_seconds=0.2)
        for _ in range(5):
            with pytest.raises(SourceFailed, match="takes too long"):
                source.read(the_half_hour())
        assert len(connections) == 1
        clock[0] += PAUSE_SECONDS
        with pytest.raises(SourceFailed):
            source.read(the_half_hour())
        assert len(connections) == 2


def test_everybody_who_looks_at_a_dead_prometheus_gets_the_local_history_which_reports_it(
    local: LocalSource, database: Database
) -> None:
    with silent_server() as (url, connections):
        settings = Settings.load(database_url=database.url.render_as_string(hide_password=False), prometheus_url=url)
        source = Source(settings.database)
        console = Metrics(settings, source, lambda: END, time.monotonic, patience_seconds=30, away=lambda: None)
        for wanted in (Wanted("1h"), Wanted("6h"), Wanted("24h")):
            history = console.history(wanted).value
            assert history is not None
            assert history.source == "local history"
            assert history.why_not_prometheus == "Prometheus takes too long to answer."
            assert not history.is_empty
        assert len(connections) == 1
        console.close()
        source.close()


def test_what_is_read_rarely_is_old_as_soon_as_the_database_is_away(local: LocalSource, database: Database) -> None:
    settings = Settings.load(database_url=database.url.render_as_string(hide_password=False))
    source, problem = Source(settings.database), [None, "The database is away.", None]
    console = Metrics(settings, source, lambda: END, lambda: 0.0, patience_seconds=30, away=lambda: problem[0])
    seen = []
    for _ in range(3):
        history, budget = console.history(Wanted("1h")), console.budget()
        assert history.value is not None
        assert budget.value is not None
        seen.append((history.problem, budget.problem))
        problem.pop(0)
        problem.append(None)
    console.close()
    source.close()
    assert seen == [(None, None), ("The database is away.",) * 2, (None, None)]


def test_a_prometheus_that_comes_back_is_used_again(tmp_path: Path, local: LocalSource, database: Database) -> None:
    server = PrometheusServer(tmp_path)
    server.load(half_hour(START)[0])
    clock = [0.0]
    settings = Settings.load(database_url=database.url.render_as_string(hide_password=False), prometheus_url=server.url)
    source = Source(settings.database)
    console = Metrics(settings, source, lambda: END, lambda: clock[0], patience_seconds=30, away=lambda: None)
    found = []
    for step in ("dead", "alive"):
        if step == "alive":
            server.start()
            clock[0] += PAUSE_SECONDS + 60
        history = console.history(Wanted("1h")).value
        assert history is not None
        found.append(history.source)
    server.stop()
    console.close()
    source.close()
    assert found == ["local history", "Prometheus"]


def test_an_answer_that_is_no_answer_is_a_failure_of_the_source() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>somebody else's page</html>")

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        source = PromSource(f"http://127.0.0.1:{server.server_port}", time.monotonic)
        with pytest.raises(SourceFailed, match="does not answer as it should"):
            source.read(the_half_hour())
        server.shutdown()
        thread.join()


# ------------------------------------------------------------- scraped rarely, answered slowly


def test_windows_follow_a_scrape_interval_of_a_minute(tmp_path: Path) -> None:
    """Within a window as long as the interval lies one scrape, of which there is no rate."""
    server = PrometheusServer(tmp_path)
    server.load(scraped_every(60, half_hour(START)[0]))
    server.start()
    try:
        time_series = PromSource(server.url, time.monotonic).read(the_half_hour()).time_series
    finally:
        server.stop()
    for metric in ("calls", "failures", "success_rate", "latency_p95"):
        rows = time_series[time_series["metric"] == metric]
        assert (rows["value"] > 0).any(), metric
    steps = time_series[(time_series["metric"] == "calls") & (time_series["series"] == "reserve")]
    assert len(steps) > 0.8 * the_half_hour().points


def scraped_every(seconds: int, openmetrics: str) -> str:
    """The same history as a Prometheus with that scrape interval has it."""

    def is_kept(line: str) -> bool:
        return line.startswith("#") or round(float(line.rpartition(" ")[2]) - START.timestamp()) % seconds == 0

    return "\n".join(line for line in openmetrics.splitlines() if is_kept(line)) + "\n"


@contextmanager
def slow_way(url: str, delay_seconds: float, patient_with: str = "") -> Iterator[str]:
    """A proxy before a Prometheus that takes its time; for questions with this text it never answers in time."""

    client = httpx.Client(trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_lost = bool(patient_with) and patient_with in unquote_plus(self.path)
            time.sleep(5.0 if is_lost else delay_seconds)
            answer = client.get(url + self.path)
            with suppress(OSError):
                self.send_response(answer.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        client.close()


def test_the_time_limit_is_that_of_one_question_and_not_of_all(prometheus: PrometheusServer) -> None:
    with slow_way(prometheus.url, 0.15) as url:
        measured = PromSource(url, time.monotonic, timeout_seconds=3.0).read(the_half_hour())
    assert not measured.missing
    assert not measured.time_series.empty


def test_what_is_not_answered_in_time_is_missing_and_the_rest_is_shown(prometheus: PrometheusServer) -> None:
    with slow_way(prometheus.url, 0.0, patient_with="inventory_order_failures_total") as url:
        measured = PromSource(url, time.monotonic, timeout_seconds=3.0).read(the_half_hour())
    assert measured.missing == ("failures",)
    assert "failures" not in set(measured.time_series["metric"])
    assert values(measured.totals, "calls")
