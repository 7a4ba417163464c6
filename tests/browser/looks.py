"""``make looks DIR=folder``: pictures of every page in every state, to be looked at one by one.

Each view of ``views.py``, light and dark, 1440 and 390 pixels wide, as high as its content: with data, with a fresh
database, with the database gone after the page was there, and with no database from the start. Nothing of it goes
into the repository; what does is taken by ``pictures.py``.

Usage: python -m tests.browser.looks FOLDER [--only VIEW ...] [--state STATE ...]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.product import BROWSER_ARGUMENTS, CHROMIUM
from tests.browser.seeded import Content, database_away, seeded_console
from tests.browser.views import VIEWS, View

STATES: dict[str, Content] = {"data": "busy", "empty": "fresh", "gone": "none"}
"""With "data" comes "broken"."""
THEMES, WIDTHS = ("light", "dark"), {1440: 1000, 390: 844}
HIGHEST = 4000
SETTLE_MILLIS = 1200
"""Charts draw themselves after the page says that it is done."""

CONTENT_HEIGHT = "() => document.querySelector('[data-testid=stMainBlockContainer]')?.scrollHeight ?? 0"


def take(browser: Browser, address: str, folder: Path, views: Sequence[str], state: str, data_dir: Path) -> None:
    """The pictures of one console; of a busy one also what is left to see once its database is away."""
    for name, theme, width in itertools.product(views, THEMES, WIDTHS):
        file = f"{name}-{{}}-{width}-{theme}.png"
        with shown(browser, f"{address}/{VIEWS[name].path}", VIEWS[name], theme, width) as page:
            shoot(page, folder / file.format(state), width)
            if state == "data":
                with database_away(data_dir):
                    page.get_by_text("The database is away").first.wait_for()
                    shoot(page, folder / file.format("broken"), width)
        sys.stdout.write(f"{file.format(state)}\n")
        sys.stdout.flush()


@contextmanager
def shown(browser: Browser, address: str, view: View, theme: str, width: int) -> Iterator[Page]:
    """A page that has drawn itself, with the view's click done."""
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Updated").first.wait_for()
    page.wait_for_timeout(SETTLE_MILLIS)
    if view.act:
        view.act(page)
        page.wait_for_timeout(SETTLE_MILLIS)
    yield page
    context.close()


def shoot(page: Page, file: Path, width: int) -> None:
    """One picture, as high as what is on the page."""
    page.set_viewport_size({"width": width, "height": WIDTHS[width]})
    height = min(max(page.evaluate(CONTENT_HEIGHT), WIDTHS[width]), HIGHEST)
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(SETTLE_MILLIS // 2)
    page.screenshot(path=file)


def main(folder: Path, views: Sequence[str], states: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_ARGUMENTS))
        for state in states:
            with tempfile.TemporaryDirectory() as data_dir, seeded_console(Path(data_dir), STATES[state]) as address:
                take(browser, address, folder, views, state, Path(data_dir))
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(VIEWS), default=list(VIEWS), metavar="VIEW")
    parser.add_argument("--state", nargs="+", choices=list(STATES), default=list(STATES), metavar="STATE")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.only, arguments.state)
