"""What a machine can see of a page's layout: what sticks out, is cut off or broken in a word, and what is missing."""

from __future__ import annotations

from playwright.sync_api import Page

LAYOUT = """
async () => {
  // A browser with much to do may draw no frame at all for a while; where things stand can be asked without one.
  const frame = () => Promise.race([new Promise(requestAnimationFrame), new Promise(done => setTimeout(done, 500))]);
  for (let frames = 0; frames < 3; frames++) await frame();
  const found = [];
  const words = (text) => `"${text.trim().slice(0, 50)}"`;
  const root = document.scrollingElement;
  const main = document.querySelector('[data-testid=stMain]');
  for (const one of [root, main, document.querySelector('[role=dialog]')])
    if (one && one.scrollWidth > one.clientWidth + 1)
      found.push(`${one.dataset.testid ?? one.tagName} is ${one.scrollWidth - one.clientWidth} px too wide`);
  const title = [...document.querySelectorAll('h1')].filter(one => one.checkVisibility());
  if (title.length !== 1) found.push(`${title.length} titles`);
  if (document.querySelector('[data-testid=stException]')) found.push('an exception');
  if (document.body.innerText.includes('Traceback')) found.push('a trace');
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'TITLE'].includes(element.tagName)) continue;
    if (element.closest('svg, [data-testid=stIconMaterial], [data-testid=stSidebar], [data-testid=stHeader]')) continue;
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(element);
    const line = parseFloat(style.lineHeight) || 1.2 * parseFloat(style.fontSize);
    const lines = Math.round(box.height / line);
    if (lines > text.split(/[\\s\\u200b,.:/-]+/).length) found.push(`broken within a word: ${words(text)}`);
    for (let one = element; one && one !== document.body; one = one.parentElement) {
      const style = getComputedStyle(one);
      const frame = one.getBoundingClientRect();
      if (style.position === 'absolute' && frame.width < 2) break;
      // What scrolls can be read.
      if (['auto', 'scroll'].includes(style.overflowX)) break;
      const isOut = box.right > frame.right + 1.5 || box.left < frame.left - 1.5;
      if (['hidden', 'clip'].includes(style.overflowX) && isOut) {
        found.push(`cut off: ${words(text)}`);
        break;
      }
    }
  }
  return [...new Set(found)];
}
"""

ENABLED = """
() => [...document.querySelectorAll('[data-testid=stMain] button, [role=dialog] button')]
  .filter(one => !one.disabled && one.checkVisibility()
    && !one.closest('[role=radiogroup], [role=tablist], [data-testid=stElementToolbar]')
    && !one.matches('[aria-pressed], [aria-haspopup]'))
  .map(one => {
    const said = one.cloneNode(true);
    said.querySelectorAll('[data-testid=stIconMaterial], kbd').forEach(icon => icon.remove());
    return one.getAttribute('aria-label') || said.textContent.trim();
  })
"""


def misfits(page: Page) -> list[str]:
    """What is wrong with the layout of a page: each a sentence; a table may be wider than a phone, as it scrolls."""
    return list(page.evaluate(LAYOUT))


def enabled(page: Page) -> list[str]:
    """The names of the buttons on the page that can be pressed."""
    return list(page.evaluate(ENABLED))
