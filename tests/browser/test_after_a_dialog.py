"""After a dialog or work area is dismissed, every button of its page still works, and the browser reports no error.

Streamlit drops the whole page when a part of a dismissed dialog goes on refreshing; see pages/parts/overlay.py. The
walk finds the dialogs and the buttons of a page by itself: whatever opens a dialog is paired with every other button.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.seeded import seeded_console
from tests.browser.settled import settle
from tests.browser.views import PAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if os.environ.get("WALK") == "all" else 300)]

VARIES = re.compile(r"[0-9a-f]{8}…|[A-Z]{2,4}-[\w-]*\d+|\d[\d,.:]*")
"""Ids, counts and times in the name of a button: buttons that differ in these only are of one kind."""

WAYS = ("Escape", "cross")
"""To dismiss a dialog."""

TRIES, TRY_MS = 5, 3_000

REFRESH_MS = 2_500
"""Longer than the parts of a page wait between two refreshes."""

QUIET = """
quiet => new Promise(answer => {
  let since = performance.now();
  const look = () => {
    const app = document.querySelector('[data-testid=stApp]');
    if (app && app.dataset.testScriptState !== 'notRunning') since = performance.now();
    performance.now() - since > quiet ? answer(true) : requestAnimationFrame(look);
  };
  look();
})
"""
"""A click that opens a dialog runs the page twice: nothing has run for a while once both are over."""

QUIET_MS = 600

MOST_PAIRS = 30
"""Of one page. WALK=all walks every pair in both ways, in a quarter of an hour on three workers (-n 3 --dist load)."""

WALKS_ALL = os.environ.get("WALK") == "all"

BUTTONS = """
[...document.querySelectorAll('[data-testid=stMain] button:enabled')]
  .filter(one => one.closest('[data-testid=stButton], [data-testid=stFormSubmitButton]'))
  .filter(one => one.offsetParent && !one.closest('[role=dialog]'))
"""
NAMES = f"() => {BUTTONS.strip()}.map(one => one.innerText)"
CLICK = f"""
name => {{
  const found = {BUTTONS.strip()}.find(one => one.innerText === name);
  found?.click();
  return Boolean(found);
}}
"""

MISSING = re.compile("Failed to load resource")
"""Streamlit asks for its own files below the address of a page first."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with seeded_console(tmp_path_factory.mktemp("console")) as url:
        yield url


class Walk:
    """One page of the console, and every error that the browser has reported on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._hear(message.type, message.text))
        self.load()

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error" and not MISSING.search(text):
            self.errors.append(text)

    def load(self) -> None:
        self.page.goto(self.url)
        self.page.get_by_text("Updated").first.wait_for()
        self.rest()

    def rest(self) -> None:
        """Wait until the page has drawn itself; a page that the browser has dropped has nothing to wait for."""
        self.page.evaluate(QUIET, QUIET_MS)
        if not self.errors:
            settle(self.page)

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def kinds(self) -> list[str]:
        """The kinds of buttons that can be pressed outside dialogs."""
        return list(dict.fromkeys(VARIES.sub("#", name) for name in self.page.evaluate(NAMES)))

    def press(self, kind: str) -> bool:
        """Press a button of the kind; False when there is none any more, not even on the page loaded anew."""
        if not self._click(kind):
            self.load()
            if not self._click(kind):
                return False
        self.rest()
        return True

    def _click(self, kind: str) -> bool:
        # In one step: between looking and clicking the page may draw its buttons anew.
        names = [name for name in self.page.evaluate(NAMES) if VARIES.sub("#", name) == kind]
        return any(self.page.evaluate(CLICK, name) for name in names[:1])

    def opens(self, kind: str) -> bool:
        """Whether a button of the kind opens a dialog; it is dismissed again."""
        opened = self.press(kind) and self.dialog.count() > 0
        if opened:
            self.dismiss("Escape")
            self.rest()
        return opened

    def dismiss(self, way: str) -> None:
        """Dismiss the dialog; a key that comes while the dialog draws itself anew is pressed once more."""
        for _ in range(TRIES):
            if way == "Escape":
                # Streamlit hears it where the focus is.
                self.dialog.press("Escape")
            else:
                # A toast may cover it; the cross is what is tried here.
                self.dialog.get_by_role("button", name="Close", exact=True).dispatch_event("click")
            with suppress(AssertionError):
                expect(self.dialog).to_have_count(0, timeout=TRY_MS)
                return
        expect(self.dialog).to_have_count(0)

    def is_alive(self) -> bool:
        return not self.errors and self.page.get_by_role("heading", level=1).count() == 1


# The work area of a case is the dialog that the page of the queue opens.
@pytest.mark.parametrize("name", [name for name in PAGES if name != "case"])
def test_every_button_works_after_every_dialog(page: Page, address: str, name: str) -> None:
    walk = Walk(page, f"{address}/{PAGES[name]}")
    kinds = walk.kinds()
    openers = [kind for kind in kinds if walk.opens(kind)]
    # The openers and the ways take turns, so that each is tried however many pairs there are.
    pairs = [(opener, outside) for outside in kinds for opener in openers]
    turns = list(zip(pairs, itertools.cycle(WAYS), strict=False))
    if WALKS_ALL:
        turns += zip(pairs, itertools.cycle(reversed(WAYS)), strict=False)
    else:
        turns = turns[:MOST_PAIRS]
    walked: set[str] = set()
    for (opener, outside), way in turns:
        if not walk.press(opener) or not walk.dialog.count():
            # What was pressed meanwhile has switched it off.
            continue
        walked.add(opener)
        walk.dismiss(way)
        walk.press(outside)
        if walk.dialog.count():
            walk.dismiss(way)
        assert walk.is_alive(), f"{opener!r}, {way}, {outside!r}: {walk.errors}"
    page.wait_for_timeout(REFRESH_MS)
    assert walk.is_alive(), walk.errors
    assert walked or not openers


def test_the_walk_knows_the_dialogs_of_a_page(page: Page, address: str) -> None:
    walk = Walk(page, f"{address}/alerts")
    openers = " ".join(kind for kind in walk.kinds() if walk.opens(kind))
    assert all(name in openers for name in ("Find", "Silence", "Acknowledge"))
    assert "End now" not in openers


AT_ONCE = """
([name, gap]) => new Promise(answer => {
  document.querySelector('[role=dialog] [aria-label=Close]').click();
  setTimeout(() => {
    const outside = [...document.querySelectorAll('[data-testid=stMain] button:enabled')]
      .filter(one => !one.closest('[role=dialog]')).find(one => one.innerText.includes(name));
    outside?.click();
    answer(Boolean(outside));
  }, gap);
})
"""
"""Clicks before the browser has heard that the dialog is no longer in the address."""


@pytest.mark.parametrize(
    ("path", "opener", "outside"),
    [
        ("reviews", "side_navigation\n\nOpen case", "Availability unverified"),
        ("releases", "compare_arrows\n\nBoth sides", "Only these"),
    ],
)
def test_a_work_area_stays_closed_whatever_is_clicked_at_once(
    page: Page, address: str, path: str, opener: str, outside: str
) -> None:
    walk = Walk(page, f"{address}/{path}")
    for gap in (0, 20, 60, 120, 200):
        assert walk.press(opener)
        expect(walk.dialog).to_be_visible()
        assert page.evaluate(AT_ONCE, [outside, gap])
        walk.rest()
        expect(walk.dialog).to_have_count(0)
        assert walk.is_alive(), walk.errors
        walk.load()
