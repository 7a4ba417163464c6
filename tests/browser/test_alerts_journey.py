"""A breaker is open: the console says so by itself; a person takes it, silences it with a preview, ends the silence."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import QUICK_SETTINGS, Holdfast, eventually, running

pytestmark = pytest.mark.slow

NAME = "InventoryCircuitBreakerOpen"
PATIENCE = 30_000
"""Milliseconds: alerts are evaluated every five seconds, commands and pages follow a little later."""


@pytest.fixture(scope="module")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """A product of its own: nothing has ever fired there, or been silenced."""
    with running(tmp_path_factory.mktemp("holdfast"), QUICK_SETTINGS) as product:
        yield product


def standing(holdfast: Holdfast) -> list[dict[str, object]]:
    items = httpx.get(f"{holdfast.api}/api/v1/alerts?state=firing").json()["data"]["items"]
    return [item for item in items if item["name"] == NAME]


def silences(holdfast: Holdfast, state: str) -> list[dict[str, object]]:
    return list(httpx.get(f"{holdfast.api}/api/v1/silences?state={state}").json()["data"]["items"])


def test_an_alert_is_seen_taken_silenced_and_heard_again(holdfast: Holdfast, page: Page) -> None:
    page.goto(f"{holdfast.console}/alerts")
    expect(page.get_by_text("No alert fires.")).to_be_visible(timeout=PATIENCE)
    # Forced, so that it stays open for as long as the test takes.
    override = f"{holdfast.api}/api/v1/breakers/inventoryServiceReleaser/override"
    given = {"state": "forced_open", "reason": "test", "expiresIn": 120_000}
    httpx.put(override, json=given).raise_for_status()
    try:
        expect(page.get_by_text(re.compile("firing since")).first).to_be_visible(timeout=PATIENCE)
        alert_id = str(standing(holdfast)[0]["alertId"])

        card = page.locator(f".st-key-alert_{alert_id}").first
        card.get_by_role("button", name="Acknowledge").first.click()
        page.get_by_role("dialog").get_by_label(re.compile("Note")).fill("on it")
        page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_text(re.compile("ago: on it")).first).to_be_visible(timeout=PATIENCE)

        card.get_by_role("button", name="Silence").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text(re.compile("Silences now"))).to_be_visible(timeout=PATIENCE)
        dialog.get_by_label(re.compile("Reason")).fill("planned work")
        looked = page.get_by_text(re.compile("^Updated")).inner_text()
        expect(page.get_by_text(looked)).to_be_hidden(timeout=PATIENCE)
        # The page has refreshed beneath; the dialog and what was typed in it are still there.
        expect(dialog.get_by_label(re.compile("Reason"))).to_have_value("planned work")
        dialog.get_by_role("button", name="Silence").click()
        expect(page.get_by_text(re.compile("planned work")).first).to_be_visible(timeout=PATIENCE)

        page.get_by_role("tab", name="Silences").click()
        page.get_by_test_id("stTabs").get_by_role("button", name="End now").click()
        eventually(lambda: [silence["reason"] for silence in silences(holdfast, "ended")] == ["planned work"])
        expect(page.get_by_text("Nothing is silenced.")).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_role("tab", name="Silences")).to_have_attribute("aria-selected", "true")
    finally:
        httpx.delete(override).raise_for_status()
    assert silences(holdfast, "running") == []
    kinds = {e["kind"] for e in httpx.get(f"{holdfast.api}/api/v1/alerts/history").json()["data"]["items"]}
    assert kinds >= {"FIRING", "ACKNOWLEDGED", "SILENCED", "SILENCE_ENDED"}
