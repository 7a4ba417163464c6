"""Pages stay alive after a dialog is dismissed; see dialog_walk. Here: pages of work."""

from __future__ import annotations

import itertools

import pytest
from playwright.sync_api import Page, expect

from tests.browser.dialog_walk import GROUPS, MARKS, Walk, try_every_pair
from tests.browser.views import PAGES

pytestmark = MARKS


@pytest.mark.parametrize("name", GROUPS["work"])
def test_every_button_works_after_every_dialog(page: Page, seeded: str, name: str) -> None:
    try_every_pair(page, seeded, name)


def test_the_files_cover_every_page() -> None:
    # The work area of a case is the dialog of the review queue.
    assert sorted(itertools.chain(*GROUPS.values())) == sorted(set(PAGES) - {"case"})


def test_the_walk_finds_the_dialogs_of_a_page(page: Page, seeded: str) -> None:
    walk = Walk(page, f"{seeded}/alerts")
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
"""Clicks before the browser has received the address without the dialog."""


@pytest.mark.parametrize(
    ("path", "opener", "outside"),
    [
        ("reviews", "side_navigation\n\nOpen case", "Availability unverified"),
        ("releases", "compare_arrows\n\nCompare", "Only these"),
    ],
)
def test_a_work_area_stays_closed_after_an_immediate_click(
    page: Page, seeded: str, path: str, opener: str, outside: str
) -> None:
    walk = Walk(page, f"{seeded}/{path}")
    for gap in (0, 20, 60, 120, 200):
        assert walk.press(opener)
        expect(walk.dialog).to_be_visible()
        assert page.evaluate(AT_ONCE, [outside, gap])
        walk.rest()
        expect(walk.dialog).to_have_count(0)
        walk.rest()
        assert walk.dialog.count() == 0
        assert walk.is_alive(), walk.errors
        walk.load()
