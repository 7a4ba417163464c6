"""``make pictures``: the pictures of docs/pictures, taken of the running product with traffic, after a drill.

Usage: python -m tests.browser.pictures FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.product import BROWSER_ARGUMENTS, CHROMIUM, Holdfast, running

SETTINGS = {
    "SANDBOX_TRAFFIC": "4",
    "BREAKER_RESET_TIMEOUT": "5000",
    "RETRY_BASE_DELAY": "50",
    # Long, so that some of what the second outage hurts still waits when the first pictures are taken.
    "RESERVATION_RETRY_BASE_DELAY": "30000",
    "RELEASE_RETRY_BASE_DELAY": "60000",
}
CALM_SECONDS, DRILL_SECONDS, OUTAGE_SECONDS, RECOVERY_SECONDS = 40, 20, 12, 12
DRILL_TIMEOUT = 300_000
IN_THE_OUTAGE = ("releases",)
"""What waits to be released is released as soon as it can be."""
PAGES = (
    *IN_THE_OUTAGE, "case", "reviews", "order", "overview", "handover", "breakers", "metrics", "alerts", "orders",
    "events", "stock", "conservation", "audit", "sandbox",
)  # fmt: skip
ON_A_PHONE = ("overview", "order", "reviews")
WIDE, PHONE = (1440, 1000), (390, 844)
NEUTRAL = "import socket\nsocket.gethostname = lambda: 'holdfast'\n"
"""Of the product in the pictures: they do not show on which machine they were taken, in the names of replicas."""
COLORS = 256
"""Enough for a console, and a third of the size."""


def live_through_a_drill(product: Holdfast, page: Page) -> dict[str, str]:
    """Traffic, a drill with its report, and an outage that still hurts; returns the addresses that need an id."""
    time.sleep(CALM_SECONDS)
    page.goto(f"{product.console}/sandbox")
    page.locator(".st-key-drill_outage button").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Length in seconds").fill(str(DRILL_SECONDS))
    dialog.get_by_label("Length in seconds").press("Tab")
    dialog.get_by_label("Reason").fill("before the sale")
    dialog.get_by_role("button", name="Start the drill").click()
    page.get_by_text("Faults are on").first.wait_for(timeout=DRILL_TIMEOUT)
    page.locator("[class*='st-key-past_']").first.wait_for(timeout=DRILL_TIMEOUT)
    # What is confirmed before it is cancelled needs no release.
    product.set_faults(silentConfirmations=True)
    bought = [product.place_order().json()["data"]["orderId"] for _ in range(4)]
    product.set_faults(outage=True)
    placed = [product.place_order(customerPriority="high").json()["data"]["orderId"] for _ in range(3)]
    for order_id in bought:
        httpx.post(f"{product.api}/api/v1/orders/{order_id}/cancel", json={"reason": "customer called"}, timeout=30)
    time.sleep(OUTAGE_SECONDS)
    case = product.order(placed[0])["reviews"][0]["reviewId"]
    return {"overview": "", "order": f"order?order={placed[0]}", "case": f"reviews?case={case}"}


def take(browser: Browser, address: str, file: Path, theme: str, size: tuple[int, int]) -> None:
    """One picture, once the page has drawn itself."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(address)
    page.get_by_text("Updated").first.wait_for()
    page.wait_for_timeout(2500)
    page.screenshot(path=file)
    context.close()
    with Image.open(file) as picture:
        reduced(picture.convert("RGB")).save(file, optimize=True)


def reduced(picture: Image.Image) -> Image.Image:
    """The picture with its most frequent colours, those of surfaces, as they are; the rest is spread."""
    counted = picture.getcolors(picture.width * picture.height) or []
    exact = [value for _, color in sorted(counted, reverse=True)[: COLORS // 4] for value in color]
    spread = picture.quantize(COLORS - COLORS // 4, Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + spread)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def nameless(folder: Path) -> dict[str, str]:
    """The environment in which no process knows the name of its machine."""
    place = folder / "nameless"
    place.mkdir()
    (place / "sitecustomize.py").write_text(NEUTRAL)
    return {"PYTHONPATH": str(place)}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(name, theme, "", WIDE) for name in PAGES for theme in ("light", "dark")]
    wanted += [(name, theme, "-phone", PHONE) for name in ON_A_PHONE for theme in ("light", "dark")]
    with (
        tempfile.TemporaryDirectory() as data_dir,
        running(Path(data_dir), SETTINGS | nameless(Path(data_dir))) as product,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(BROWSER_ARGUMENTS))
        addresses = live_through_a_drill(product, browser.new_page())
        is_out = True
        for name, theme, suffix, size in wanted:
            if is_out and name not in IN_THE_OUTAGE:
                product.set_faults()
                time.sleep(RECOVERY_SECONDS)
                is_out = False
            address = f"{product.console}/{addresses.get(name, name)}"
            take(browser, address, folder / f"{name}-{theme}{suffix}.png", theme, size)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
