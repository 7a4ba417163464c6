"""When a page has drawn itself: its script has run, and nothing on it fades, slides or grows any more."""

from __future__ import annotations

from playwright.sync_api import Page

SETTLED = """
() => new Promise(answer => requestAnimationFrame(() => requestAnimationFrame(() => {
  const script = document.querySelector('[data-testid=stApp]')?.dataset.testScriptState;
  const moves = one => one.playState === 'running' && one.effect?.getComputedTiming().endTime !== Infinity;
  answer(script === 'notRunning' && !document.getAnimations().some(moves));
})))
"""
"""Two frames after it was asked for: what a change of style sets in motion moves by then."""


def settle(page: Page) -> None:
    """Wait until the page has settled; a page that has not done so in time fails the test."""
    page.wait_for_function(SETTLED)
