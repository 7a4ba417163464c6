"""Pages stay alive after a dialog is dismissed; see dialog_walk. Here: pages of orders, events and records."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.dialog_walk import GROUPS, MARKS, try_every_pair

pytestmark = MARKS


@pytest.mark.parametrize("name", GROUPS["orders"])
def test_every_button_works_after_every_dialog(page: Page, seeded: str, name: str) -> None:
    try_every_pair(page, seeded, name)
