"""Fixtures: a running product and a page of Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.product import BROWSER_ARGUMENTS, CHROMIUM, QUICK_SETTINGS, Holdfast, running


@pytest.fixture(scope="session")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with running(tmp_path_factory.mktemp("holdfast"), QUICK_SETTINGS) as product:
        yield product


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # Not for the session: playwright's own loop must not outlive the module, or asyncio tests after it fail.
    assert Path(CHROMIUM).exists(), "Chromium is missing; `make test` installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page in a context of its own: nothing that another test left in the browser is there."""
    with chromium.new_context(viewport={"width": 1440, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        # What is expected may take as long as what is done: the machine is shared with other tests.
        expect.set_options(timeout=20_000)
        yield page
