"""An engineer starts a short outage drill, leaves the page, comes back and reads the report."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import Holdfast, running

pytestmark = pytest.mark.slow

SETTINGS = {
    "SANDBOX_TRAFFIC": "8",
    "RETRY_BASE_DELAY": "20",
    "BREAKER_RESET_TIMEOUT": "1000",
    "RESERVATION_RETRY_BASE_DELAY": "500",
}


@pytest.fixture(scope="module")
def busy_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """A product with enough traffic for a breaker to open within seconds."""
    with running(tmp_path_factory.mktemp("drill"), SETTINGS) as product:
        yield product


def test_an_outage_drill_runs_without_its_tab_and_ends_with_a_report(busy_shop: Holdfast, page: Page) -> None:
    page.goto(f"{busy_shop.console}/sandbox")
    page.locator(".st-key-drill_outage button").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Length in seconds").fill("8")
    dialog.get_by_label("Length in seconds").press("Tab")
    dialog.get_by_label("Reason").fill("before the sale")
    dialog.get_by_role("button", name="Start the drill").click()
    expect(dialog).to_be_hidden()
    expect(page.locator(".st-key-active_drill")).to_be_visible()
    expect(page.locator(".st-key-drill_latency button").first).to_be_disabled()

    page.goto("about:blank")
    page.goto(f"{busy_shop.console}/sandbox")
    past = page.locator("[class*='st-key-past_']").first
    expect(past).to_be_visible(timeout=150_000)
    past.get_by_role("button", name="Outage").click()
    expect(page.get_by_text("Time to detect")).to_be_visible()
    # The report is in the address before the page is loaded again.
    expect(page).to_have_url(re.compile("drill="))
    expect(page.get_by_text("before the sale")).to_be_visible()
    expect(page.get_by_text(re.compile(r"a breaker opened after \d"))).to_be_visible()
    expect(page.get_by_text("Every order is settled or waits for a person; all adds up.")).to_be_visible()

    page.reload()
    expect(page.get_by_text("Time to recover")).to_be_visible()
    page.goto(f"{busy_shop.console}/audit?did=START_DRILL")
    expect(page.get_by_text("Started a drill").first).to_be_visible()
