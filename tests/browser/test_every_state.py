"""Every page, wide and narrow, in light and dark: with data, fresh, with its database away, and with none at all.

What a machine can see of it is in order: names, words, contrast, nothing cut off, nothing to press that cannot be
stored. What only eyes can judge, ``looks.py`` takes pictures of.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from state.engine.database import opened
from tests.browser.accessible import faint, nameless, silent_charts, wordless_badges
from tests.browser.layout import enabled, misfits
from tests.browser.seeded import FILE, database_away, seeded_console
from tests.browser.settled import rest
from tests.browser.steps import expect_title, open_page
from tests.browser.views import PAGES, TITLES
from tests.support import seed_console

pytestmark = pytest.mark.slow

WIDE: ViewportSize = {"width": 1440, "height": 1000}
PHONE: ViewportSize = {"width": 390, "height": 844}
AT_ONCE = """
document.addEventListener('DOMContentLoaded', () => document.head.insertAdjacentHTML('beforeend',
  '<style>*, *::before, *::after { transition: none !important; animation: none !important; }</style>'))
"""
"""What fades in is, while it does, neither the one nor the other."""

IS_DARK = """
() => getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor.match(/\\d+/g).slice(0, 3)
  .reduce((sum, one) => sum + Number(one), 0) < 3 * 64
"""
"""Whether the page has followed the wish for dark."""

FRESH = {
    "overview": "Everything is running",
    "breakers": "No breaker has opened in the last day.",
    "metrics": "Nothing has been measured in the last hour",
    "alerts": "No alert fires.",
    "orders": "No order has been placed yet.",
    "order": "No order ORD-1002 exists.",
    "events": "Every event that came in was handled.",
    "stock": "The Inventory Service has not reported on any product yet.",
    "reviews": "Nothing waits for a person.",
    "case": "No case REV-2 exists.",
    "releases": "Nothing waits to be released.",
    "conservation": "Nothing has been compared yet",
    "handover": "Nothing changed.",
    "audit": "Nobody has done anything by hand yet.",
    "sandbox": "No drill has been run yet.",
}
"""What each page says of a service that has just been started."""

READS = re.compile(
    "Find|CSV|Close|Close .*|Help for .*|Open case|Affected orders|Only these|Outage|Item list"
    "|Select all shown|Next|Previous|Newest|Copy to clipboard|Increment|Decrement|Back|Compare"
    r"|(Availability unverified|Confirmation failed|No confirmation|Payment unknown|Release failed|Waiting).* \d+"
    r"|(SKU-[A-Z]+|[0-9a-f]{8}…) \d+"
)
"""Buttons that store nothing and stay enabled without a database."""

PATIENCE_SECONDS = 20
Check = Callable[[Page, str], list[str]]
"""Returns what is wrong on the page of that name at this moment."""


def walk(page: Page, address: str, check: Check) -> list[str]:
    """Go through every page, wide in light and narrow in dark; return what is wrong, and where."""
    page.add_init_script(AT_ONCE)
    found: list[str] = []
    for name, path in PAGES.items():
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(WIDE)
        turn_to(page, address, name, path)
        problems = remaining(page, lambda name=name: check(page, name) + defects(page, is_dark=False))
        found += [f"{name}, wide, light: {problem}" for problem in problems]
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size(PHONE)
        page.wait_for_function(IS_DARK)
        problems = remaining(page, lambda: defects(page, is_dark=True))
        found += [f"{name}, narrow, dark: {problem}" for problem in problems]
    return found


def turn_to(page: Page, address: str, name: str, path: str) -> None:
    """By the sidebar, which costs no new page, or by the address."""
    link = page.get_by_test_id("stSidebarNavLink").filter(has_text=re.compile(f"{TITLES.get(name)}$"))
    # What stands beside an open drawer cannot be clicked.
    if link.count() and not page.get_by_role("dialog").count():
        link.click()
        expect_title(page, TITLES[name])
        rest(page)
    else:
        open_page(page, f"{address}/{path}")


def remaining(page: Page, look: Callable[[], list[str]]) -> list[str]:
    """What is still wrong after some time: a page that is being drawn shows parts of the one before it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := look()) and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    return found


def defects(page: Page, *, is_dark: bool) -> list[str]:
    """What does not fit, is too faint or has no name; charts take a moment to appear and to follow a new width."""
    return misfits(page) + faint(page, is_dark=is_dark) + ["a chart without a name"] * silent_charts(page)


def test_with_data_and_then_without_the_database(page: Page, tmp_path: Path) -> None:
    with seeded_console(tmp_path) as address:
        found = walk(page, address, with_data)
        page.set_viewport_size(WIDE)
        turn_to(page, address, "reviews", PAGES["reviews"])
        expect(page.get_by_role("button", name="Next unclaimed")).to_be_enabled()
        with database_away(tmp_path):
            # It stands outside of what refreshes itself with the rest of the page.
            expect(page.get_by_role("button", name="Next unclaimed")).to_be_disabled()
            found += walk(page, address, broken)
    assert not found, "\n".join(found)


def with_data(page: Page, name: str) -> list[str]:
    expect(page.get_by_text("As of", exact=False).first).to_be_visible()
    if name in ("overview", "breakers", "metrics"):
        expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    found = [f"no name: {control}" for control in nameless(page)]
    return found + [f"no word: {badge}" for badge in wordless_badges(page)]


def broken(page: Page, name: str) -> list[str]:
    expect(page.get_by_text("The database is away")).to_be_visible()
    expect(page.get_by_text("Old data: as of").first).to_be_visible()
    return [f"can be pressed: {button}" for button in enabled(page) if not READS.fullmatch(button)]


def test_when_nothing_has_happened_yet(page: Page, tmp_path: Path) -> None:
    with seeded_console(tmp_path, "fresh") as address:
        found = walk(page, address, fresh)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("state", ["open", "half_open", "forced_open"])
def test_what_a_breaker_makes_of_a_retry_fits_a_phone(page: Page, tmp_path: Path, state: str) -> None:
    with seeded_console(tmp_path) as address:
        now = datetime.now(UTC)
        # An open one is past its time: "any moment" is longer than the seconds that are left before.
        wait = {"open": 0, "half_open": None, "forced_open": 86_340_000}[state]
        guards = [seed_console.breaker(name, state, now, retryInMs=wait) for name in seed_console.BREAKERS]
        with opened(f"sqlite:///{tmp_path / FILE}") as database:
            database.write_now(lambda connection: seed_console.heartbeat(connection, now, guards))
        page.set_viewport_size(PHONE)
        for review_id, action in (("REV-1", "Retry reservation"), ("REV-2", "Confirm again")):
            page.goto(f"{address}/reviews?case={review_id}")
            case = page.get_by_role("dialog")
            expect(case.get_by_role("button", name=f"{action}: queue (")).to_be_visible()
            assert not remaining(page, lambda: misfits(page))
        page.goto(f"{address}/releases")
        expect(page.get_by_role("button", name="Queue until it closes").first).to_be_visible()
        assert not remaining(page, lambda: misfits(page))


def fresh(page: Page, name: str) -> list[str]:
    """No box in red or amber, and the sentence that explains the empty page."""
    expect(page.get_by_text(FRESH[name]).first).to_be_visible()
    boxes = page.get_by_test_id("stAlert").all_inner_texts()
    return [f"not quiet: {box}" for box in boxes]


def test_when_there_has_never_been_a_database(page: Page, tmp_path: Path) -> None:
    with seeded_console(tmp_path, "none") as address:
        found = walk(page, address, gone)
    assert not found, "\n".join(found)


def gone(page: Page, name: str) -> list[str]:
    expect(page.get_by_text("The database is away")).to_be_visible()
    expect(page.get_by_text("The database does not exist yet").first).to_be_visible()
    return [f"can be pressed: {button}" for button in enabled(page) if not READS.fullmatch(button)]


def test_what_sticks_out_is_cut_off_or_broken_is_noticed(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.set_content(
        "<!doctype html><h1>Title</h1>"
        "<div style='width: 80px; overflow: hidden; white-space: nowrap'>cut off at its end</div>"
        "<div style='width: 80px; overflow: auto; white-space: nowrap'>what scrolls can be read</div>"
        "<div style='width: 12px; word-break: break-all; line-height: 20px'>broken</div>"
        "<div style='width: 12px; line-height: 20px'>one a line</div>"
    )
    assert misfits(page) == ['cut off: "cut off at its end"', 'broken within a word: "broken"']
    page.set_content("<!doctype html><div style='width: 500px'>wide</div>")
    assert misfits(page) == ["HTML is 118 px too wide", "0 titles"]
