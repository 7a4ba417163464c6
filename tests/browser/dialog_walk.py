"""A walk over one page: each dialog is opened and dismissed, then each other button of the page is pressed.

Streamlit drops the whole page when a part of a dismissed dialog goes on refreshing; see pages/parts/overlay.py. The
walk finds the dialogs and the buttons of a page by itself: each button that opens a dialog is paired with each other
button. The pages are spread over several files, so that two processes share them.
"""

from __future__ import annotations

import itertools
import os
import re
from contextlib import suppress

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.settled import settle, wait_until_quiet
from tests.browser.steps import Way, dismiss
from tests.browser.views import PAGES

WALKS_ALL = os.environ.get("WALK") == "all"

MARKS = [pytest.mark.slow, pytest.mark.timeout(3600 if WALKS_ALL else 600)]

VARIES = re.compile(r"[0-9a-f]{8}…|[A-Z]{2,4}-[\w-]*\d+|\d[\d,.:]*")
"""Ids, counts and times in the name of a button: buttons that differ in these only are of one kind."""

GROUPS = {
    "monitoring": ("overview", "breakers", "metrics", "alerts", "stock", "sandbox"),
    "orders": ("orders", "order", "events", "conservation", "handover", "audit"),
    "work": ("reviews", "releases"),
}
"""The pages of each test file, whose walks take about the same time."""

WAYS: tuple[Way, ...] = ("Escape", "cross")

REFRESH_MS = 2_500
"""Longer than the parts of a page wait between two refreshes."""

MOST_PAIRS = 30
"""Of one page. WALK=all walks every pair in both ways, in a quarter of an hour on three workers (-n 3 --dist load)."""

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


class Walk:
    """One page of the console, and every error that the browser has reported on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._record(message.type, message.text))
        self.load()

    def _record(self, kind: str, text: str) -> None:
        if kind == "error" and not MISSING.search(text):
            self.errors.append(text)

    def load(self) -> None:
        self.page.goto(self.url)
        self.page.get_by_text("Updated").first.wait_for()
        self.rest()

    def rest(self) -> None:
        """Wait until the page has settled; a page that the browser has dropped never does."""
        wait_until_quiet(self.page)
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
            dismiss(self.page)
            self.rest()
        return opened

    def is_alive(self) -> bool:
        """Whether the page still has its title and the browser has reported no error."""
        with suppress(AssertionError):
            expect(self.page.get_by_role("heading", level=1)).to_have_count(1)
            return not self.errors
        return False


def try_every_pair(page: Page, address: str, name: str) -> None:
    """Open each dialog of a page, dismiss it and press each other button; the page has to stay alive."""
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
            # A button pressed before has disabled it.
            continue
        walked.add(opener)
        dismiss(page, way)
        walk.press(outside)
        if walk.dialog.count():
            dismiss(page, way)
        assert walk.is_alive(), f"{opener!r}, {way}, {outside!r}: {walk.errors}"
    page.wait_for_timeout(REFRESH_MS)
    assert walk.is_alive(), walk.errors
    assert walked or not openers
