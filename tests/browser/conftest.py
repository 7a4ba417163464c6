"""Fixtures: a running product and a page of Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.product import BROWSER_ARGUMENTS, CHROMIUM, QUICK_SETTINGS, Holdfast, running
from tests.browser.seeded import seeded_console

PATIENCE_MS = 60_000
"""Of every step and expectation. The first page of a console may take 20 s while other tests load the machine."""


@pytest.fixture(scope="session")
def holdfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdfast]:
    with running(tmp_path_factory.mktemp("holdfast"), QUICK_SETTINGS) as product:
        yield product


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a console over a database after a busy half hour; no worker changes it."""
    with seeded_console(tmp_path_factory.mktemp("seeded")) as address:
        yield address


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
    """A page in a browser context of its own, without cookies or storage of other tests."""
    with chromium.new_context(viewport={"width": 1440, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
