"""A breaker is open and its alert fires; a person acknowledges it, silences it with a preview and ends the silence."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.product import QUICK_SETTINGS, Holdfast, eventually, running

pytestmark = pytest.mark.slow

NAME, BREAKER = "InventoryCircuitBreakerOpen", "inventoryServiceReleaser"


@pytest.fixture(scope="module")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    """A product of its own, without any past alert or silence."""
    with running(tmp_path_factory.mktemp("holdfast"), QUICK_SETTINGS) as product:
        yield product


def firing(holdfast: Holdfast) -> list[str]:
    return [item["alertId"] for item in holdfast.data("alerts", state="firing")["items"] if item["name"] == NAME]


def reasons(holdfast: Holdfast, state: str) -> list[str]:
    return [silence["reason"] for silence in holdfast.data("silences", state=state)["items"]]


def test_an_alert_is_acknowledged_and_silenced_until_the_silence_is_ended(holdfast: Holdfast, page: Page) -> None:
    page.goto(f"{holdfast.console}/alerts")
    expect(page.get_by_text("No alert fires.")).to_be_visible()
    # Forced, so that it stays open for as long as the test takes.
    holdfast.force_open(BREAKER, 240_000)
    try:
        eventually(lambda: len(firing(holdfast)) == 1)
        card = page.locator(f".st-key-alert_{firing(holdfast)[0]}").first
        expect(card).to_contain_text("firing since")
        dialog = page.get_by_role("dialog")
        card.get_by_role("button", name="Acknowledge").first.click()
        dialog.get_by_label(re.compile("Note")).fill("on it")
        dialog.get_by_role("button", name="Acknowledge").click()
        expect(dialog).to_be_hidden()
        expect(card).to_contain_text(re.compile("ago: on it"))

        card.get_by_role("button", name="Silence").first.click()
        expect(dialog.get_by_text(re.compile("Silences now"))).to_be_visible()
        dialog.get_by_label(re.compile("Reason")).fill("planned work")
        updated = page.get_by_text(re.compile("^Updated")).inner_text()
        expect(page.get_by_text(updated)).to_be_hidden()
        # The page has refreshed below the dialog; the dialog and its text are still there.
        expect(dialog.get_by_label(re.compile("Reason"))).to_have_value("planned work")
        dialog.get_by_role("button", name="Silence").click()
        expect(dialog).to_be_hidden()
        eventually(lambda: reasons(holdfast, "running") == ["planned work"])

        page.get_by_role("tab", name="Silences").click()
        page.get_by_test_id("stTabs").get_by_role("button", name="End now").click()
        eventually(lambda: reasons(holdfast, "ended") == ["planned work"])
        expect(page.get_by_text("Nothing is silenced.")).to_be_visible()
        expect(page.get_by_role("tab", name="Silences")).to_have_attribute("aria-selected", "true")
    finally:
        holdfast.end_override(BREAKER)
    assert reasons(holdfast, "running") == []
    kinds = {event["kind"] for event in holdfast.data("alerts/history")["items"]}
    assert kinds >= {"FIRING", "ACKNOWLEDGED", "SILENCED", "SILENCE_ENDED"}
