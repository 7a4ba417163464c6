"""``make pictures``: the pictures of docs/, taken of the running product with traffic and after an outage.

Usage: python -m tests.browser.pictures FOLDER [--all]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.product import BROWSER_ARGUMENTS, CHROMIUM, Holdfast, running

SETTINGS = {"SANDBOX_TRAFFIC": "4", "BREAKER_RESET_TIMEOUT": "5000", "RETRY_BASE_DELAY": "50"}
CALM_SECONDS, OUTAGE_SECONDS, RECOVERY_SECONDS = 90, 20, 60
PAGES = ("overview", "breakers", "metrics", "orders", "order", "reviews", "releases", "conservation")
WIDTHS = {1440: 1000, 390: 844}
README = ("overview", "dark", 1440)


def live_through_an_outage(product: Holdfast) -> str:
    """Some traffic, an outage that flags orders, and the recovery; returns the id of a flagged order."""
    time.sleep(CALM_SECONDS)
    product.set_outage(True)
    flagged = [product.place_order(customerPriority="high") for _ in range(3)]
    time.sleep(OUTAGE_SECONDS)
    product.set_outage(False)
    time.sleep(RECOVERY_SECONDS)
    return str(flagged[0].json()["data"]["orderId"])


def take(browser: Browser, product: Holdfast, folder: Path, name: str, theme: str, width: int, order_id: str) -> None:
    """One picture, once the page has drawn itself."""
    address = {"overview": "", "order": f"order?order={order_id}"}.get(name, name)
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{product.console}/{address}")
    page.get_by_text("Updated").first.wait_for()
    page.wait_for_timeout(2500)
    suffix = "" if width == 1440 else "-phone"
    page.screenshot(path=folder / f"{name}-{theme}{suffix}.png")
    context.close()


def main(folder: Path, *, every: bool) -> None:
    wanted = [(name, theme, width) for name in PAGES for theme in ("light", "dark") for width in WIDTHS]
    with tempfile.TemporaryDirectory() as data_dir, running(Path(data_dir), SETTINGS) as product:
        order_id = live_through_an_outage(product)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_ARGUMENTS))
            for name, theme, width in wanted if every else [README]:
                take(browser, product, folder, name, theme, width, order_id)
            browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    main(arguments.folder, every=arguments.all)
