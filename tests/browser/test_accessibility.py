"""The console can be used without a mouse, and what measures names, words and contrast notices their absence."""

from __future__ import annotations

import itertools
import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.accessible import faint, nameless, tabbed, wordless_badges
from tests.browser.settled import rest, settle
from tests.browser.steps import dismiss, open_page
from tests.browser.views import TITLES

pytestmark = pytest.mark.slow

SECTIONS = ("Monitor", "Work", "Team", "Sandbox")
LINKS = tuple(TITLES.values())


def test_what_is_measured_here_is_noticed(page: Page) -> None:
    words = "".join(f"<p>word {number}</p>" for number in range(25))
    page.set_content(
        f"<body style='background: white; color: black'>{words}"
        "<button><span>chevron_left</span></button><input aria-label='Search'><input>"
        "<p style='color: rgba(0, 0, 0, 0.5)'>too faint</p><p style='opacity: 0.5'>faded</p>"
        "<p style='color: rgba(0, 0, 0, 0.6)'>just right</p><button disabled style='color: silver'>Off</button>"
        "<span class='stMarkdownBadge'><span role='img'>error</span></span>"
        "<span class='stMarkdownBadge'><span role='img'>error</span> Failed</span></body>"
    )
    assert nameless(page) == ["button 'chevron_left'", "textbox ''"]
    assert [text.split('"')[1] for text in faint(page)] == ["too faint", "faded"]
    assert len(wordless_badges(page)) == 1


@pytest.mark.parametrize("path", ["", "reviews", "releases", "orders"])
def test_tab_goes_through_the_sections_and_then_down_the_page(seeded: str, page: Page, path: str) -> None:
    open_page(page, f"{seeded}/{path}")
    for section in SECTIONS:
        expect(page.get_by_test_id("stNavSectionHeader").filter(has_text=section)).to_be_visible()
    # No refresh may move a button between two keys.
    page.get_by_text("Live", exact=True).click()
    expect(page.get_by_label("Live")).not_to_be_checked()
    rest(page)
    page.evaluate("document.activeElement.blur()")
    page.mouse.click(1, 1)
    stops = tabbed(page, 60)
    links = [stop["name"] for stop in stops if stop["in_sidebar"] and stop["name"] in LINKS]
    assert links == list(LINKS)
    tops = [stop["top"] for stop in stops if stop["in_main"]]
    assert len(tops) > 5
    back = [(before, after) for before, after in itertools.pairwise(tops) if after < before - 60]
    assert not back, f"the focus jumps upwards: {back} in {stops}"
    stuck = [one["name"] for one, two, three in zip(stops, stops[1:], stops[2:], strict=False) if one == two == three]
    assert not stuck


def focus(page: Page, button: Locator) -> None:
    """Focus a button; a page that is drawn for the first time may still replace it."""
    for _ in range(10):
        button.focus()
        settle(page)
        if button.evaluate("one => one === document.activeElement"):
            return
    expect(button).to_be_focused()


DIALOGS = {
    "breakers": "Override",
    "order?order=ORD-1002": "Cancel order",
    "reviews": "Find",
    "alerts": "Silence",
    "events": "Discard",
    "sandbox": "Set up",
}


@pytest.mark.parametrize("path", list(DIALOGS))
def test_a_dialog_keeps_the_focus_and_escape_closes_it(seeded: str, page: Page, path: str) -> None:
    open_page(page, f"{seeded}/{path}")
    opener = page.get_by_test_id("stMain").get_by_role("button", name=re.compile(DIALOGS[path])).first
    focus(page, opener)
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    rest(page)
    assert not nameless(page)
    stops = tabbed(page, 14)
    assert stops
    assert all(stop["in_dialog"] for stop in stops)
    assert any("close" in stop["name"].lower() for stop in stops), stops
    dismiss(page)
    expect(opener).to_be_focused()
