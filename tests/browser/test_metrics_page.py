"""The Metrics page in Chromium over a real Prometheus: its numbers are those of a query, and it outlives the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from services.console.incidents import IncidentInterval
from tests.browser.product import QUICK_SETTINGS, Holdfast, eventually, running
from tests.browser.settled import rest, settle
from tests.browser.steps import expect_order_links
from tests.support.openmetrics_history import LENGTH, half_hour
from tests.support.prometheus_server import PrometheusServer

pytestmark = pytest.mark.slow

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
END = START + LENGTH
DRAGS, DRAG_MS = 4, 8_000
SECONDS = int(LENGTH.total_seconds())
SUCCESS_CHART = "[class*='st-key-time_series_Success'] .marks"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus"))
    server.load(half_hour(START)[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def watched(prometheus: PrometheusServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """The product with the Prometheus in its settings."""
    settings = QUICK_SETTINGS | {"PROMETHEUS_URL": prometheus.url, "BREAKER_RESET_TIMEOUT": "3000"}
    with running(tmp_path_factory.mktemp("watched"), settings) as product:
        yield product


@contextmanager
def away(prometheus: PrometheusServer) -> Iterator[None]:
    """Stop the server, and start it again for the next test."""
    prometheus.stop()
    try:
        yield
    finally:
        prometheus.start()


def address(product: Holdfast) -> str:
    return f"{product.console}/metrics?range=custom&from={START:%Y-%m-%dT%H:%M:%SZ}&to={END:%Y-%m-%dT%H:%M:%SZ}"


def number(page: Page, label: str) -> float:
    """The number on a tile, without its label, unit and note."""
    metric = page.get_by_test_id("stMetric").filter(has_text=re.compile(rf"^{label}"))
    value = metric.get_by_test_id("stMetricValue")
    expect(value).to_have_text(re.compile(r"\d"))
    return float(re.sub(r"[^0-9.]", "", value.inner_text()))


def test_the_numbers_of_the_page_are_those_that_prometheus_gives(
    watched: Holdfast, prometheus: PrometheusServer, page: Page
) -> None:
    page.goto(address(watched))
    expect(page.get_by_text("source: Prometheus")).to_be_visible()
    rest(page)
    at = END.timestamp()

    def asked(query: str) -> float:
        (value,) = prometheus.ask(query.replace("$r", f"{SECONDS}s"), at).values()
        return value

    buckets = 'sum by (le) (rate(inventory_request_duration_seconds_bucket{operation="check_availability"}[$r]))'
    p95 = asked(f"histogram_quantile(0.95, {buckets})") * 1000
    reserve = 'inventory_requests_total{operation="reserve"'
    success = asked(
        f'100 * sum(increase({reserve},outcome=~"success|rejected"}}[$r])) / sum(increase({reserve}}}[$r]))'
    )
    failed = asked("sum(increase(inventory_order_failures_total[$r]))")

    assert number(page, "Availability p95") == pytest.approx(p95, abs=0.5)
    assert number(page, "Reservation success") == pytest.approx(success, abs=0.05)
    assert number(page, "Failed orders") == pytest.approx(failed, abs=0.5)
    assert (round(p95), round(success), round(failed)) == (1750, 90, 138)


def brush(page: Page, start: float, end: float) -> IncidentInterval:
    """Drag across the chart of the success rate, between two shares of its width; return the interval in the address.

    A chart that is drawn anew between the measurement and the drag takes no notice of it; the drag is repeated then.
    """
    before = page.url
    for _ in range(DRAGS):
        rest(page)
        _drag(page, start, end)
        with suppress(PlaywrightTimeoutError):
            page.wait_for_url(lambda url: url != before and "incident=" in url, timeout=DRAG_MS)
            break
    interval = IncidentInterval.parse(parse_qs(urlsplit(page.url).query)["incident"][0])
    assert page.url != before
    assert interval
    return interval


def _drag(page: Page, start: float, end: float) -> None:
    chart = page.locator(SUCCESS_CHART)
    chart.wait_for()
    chart.scroll_into_view_if_needed()
    settle(page)
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * start, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * end, box["y"] + box["height"] * 0.5, steps=8)
    page.mouse.up()


def test_an_interval_brushed_on_a_chart_is_in_the_address_and_shows_exactly_its_orders(
    watched: Holdfast, prometheus: PrometheusServer, page: Page
) -> None:
    assert watched.place_order().status_code == 201
    watched.set_faults(outage=True)
    try:
        answers = [watched.place_order(customerPriority="high") for _ in range(3)]
    finally:
        watched.set_faults()
    affected = {answer.json()["data"]["orderId"] for answer in answers}
    until = datetime.now(UTC)

    def is_drawn() -> bool:
        """Whether what was measured up to now has the calls of these orders in it."""
        nonlocal until
        until = datetime.now(UTC).replace(microsecond=0)
        since = until - timedelta(minutes=16)
        page.goto(
            f"{watched.console}/metrics?range=custom&from={since:%Y-%m-%dT%H:%M:%SZ}&to={until:%Y-%m-%dT%H:%M:%SZ}"
        )
        page.get_by_text("Prometheus is away").wait_for()
        settle(page)
        return page.locator(SUCCESS_CHART).count() > 0

    with away(prometheus):
        eventually(is_drawn)
        half = until - timedelta(minutes=8)
        interval = brush(page, 0.6, 0.999)
        assert interval.end
        assert half < interval.start < interval.end <= until
        impact = page.locator(".st-key-incident_impact")
        expect_order_links(impact, affected)
        # Another interval, before the outage.
        earlier = brush(page, 0.2, 0.4)
        assert earlier.end
        assert until - timedelta(minutes=16) < earlier.start < earlier.end < half
        expect(impact.get_by_text("No order was affected in this time")).to_be_visible()


def test_without_prometheus_the_page_falls_back_to_the_local_history(
    watched: Holdfast, prometheus: PrometheusServer, page: Page
) -> None:
    with away(prometheus):
        page.goto(f"{watched.console}/metrics?range=15m")
        expect(page.get_by_text("Prometheus is away")).to_be_visible()
        expect(page.get_by_text("source: local history")).to_be_visible()


def test_an_override_has_a_banner_on_every_page_until_it_is_ended(watched: Holdfast, page: Page) -> None:
    page.goto(f"{watched.console}/breakers")
    page.locator(".st-key-override_inventoryServiceReleaser").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("A drill before the sale")
    dialog.get_by_role("button", name="Start override").click()
    expect(dialog.get_by_text("Choose a state")).to_be_visible()
    dialog.get_by_text("Forced open", exact=True).click()
    dialog.get_by_role("button", name="Start override").click()
    banner = page.locator(".st-key-override_banner_inventoryServiceReleaser")
    expect(banner).to_contain_text("A drill before the sale")
    page.goto(f"{watched.console}/reviews")
    expect(banner).to_contain_text("Forced open")
    banner.get_by_role("button", name="End now").click()
    expect(banner).to_be_hidden()
