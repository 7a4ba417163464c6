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
"""Two frames after the call: a change of style has started its animations by then."""

QUIET = """
([quiet, most]) => new Promise(answer => {
  const begun = performance.now();
  let since = begun;
  const look = () => {
    const app = document.querySelector('[data-testid=stApp]');
    if (app && app.dataset.testScriptState !== 'notRunning') since = performance.now();
    const now = performance.now();
    now - since > quiet || now - begun > most ? answer(true) : requestAnimationFrame(look);
  };
  look();
})
"""

QUIET_MS = 600
"""Longer than the server takes to start the run of a click, and than the pause between the two runs of a dialog."""

MOST_MS = 15_000
"""On a busy machine the runs of the refresh may follow each other without a pause."""


def settle(page: Page) -> None:
    """Wait until the page has settled; a page that has not done so in time fails the test."""
    page.wait_for_function(SETTLED)


def wait_until_quiet(page: Page) -> None:
    """Wait until no script has run for QUIET_MS."""
    page.evaluate(QUIET, [QUIET_MS, MOST_MS])


def rest(page: Page) -> None:
    """Wait until the runs of the last click are over and the page has settled.

    Right after a click the script is not running yet, so ``settle`` alone returns too early.
    """
    wait_until_quiet(page)
    settle(page)
