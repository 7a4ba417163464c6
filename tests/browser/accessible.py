"""What a page says to a screen reader and to weak eyes, measured in the browser.

Names are those that Chromium computes for assistive technology. Contrast is that of WCAG 2.2, 1.4.3 and 1.4.11: text
and icons against what lies behind them, with every transparency on the way. Not measured: frames, and charts (a
canvas; their colours are, in ``tests/ui/test_console_settings.py``).

Two exceptions, in the dark theme alone (``CHOSEN_IN_DARK``): the words of a chosen segment and of a chosen tab. They
are drawn in the theme's one primary colour, a segment's on a tenth of that colour, and on the same colour Streamlit
writes the white words of primary buttons. White at 4.5 to 1 leaves the chosen segment 4.4 to 1 even on a black page,
and on ours what is asked for here. A frame (segments) and a bar (tabs) of 4 to 1 say the choice as well.
"""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page

CONTROLS = {
    "button", "checkbox", "combobox", "link", "listbox", "menuitem", "radio", "searchbox", "slider", "spinbutton",
    "switch", "tab", "textbox",
}  # fmt: skip
ICON_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
"""What a nameless icon button is called: the ligature of its icon."""

CHOSEN_IN_DARK = {"radio": 3.7, "tab": 4.0}
"""The least contrast of what is chosen, by its role."""

CONTRAST = """
(chosen) => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = {};
  const parse = (text) => known[text] ??= (() => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  })();
  const over = (top, bottom) => [0, 1, 2].map(i => top[i] * top[3] + bottom[i] * (1 - top[3])).concat(1);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      layers.push([parse(style.backgroundColor), Number(style.opacity)]);
    }
    return layers.reverse().reduce((below, [c, o]) => over([c[0], c[1], c[2], c[3] * o], below), [255, 255, 255, 1]);
  };
  const opacity = (element) => {
    let product = 1;
    for (let one = element; one; one = one.parentElement) product *= Number(getComputedStyle(one).opacity);
    return product;
  };
  const found = [];
  const needed = (element, style) => {
    if (element.closest('[data-testid=stIconMaterial], [role=img]')) return 3;
    const one = element.closest('[role=radio][aria-checked=true], [role=tab][aria-selected=true], [aria-pressed=true]');
    const exception = one && chosen[one.getAttribute('role') ?? 'radio'];
    if (exception) return exception;
    const size = parseFloat(style.fontSize);
    return size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
  };
  const judge = (element, text, color) => {
    const style = getComputedStyle(element);
    const back = behind(element);
    const c = parse(color);
    const front = over([c[0], c[1], c[2], c[3] * opacity(element)], back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const rgb = (one) => one.slice(0, 3).map(Math.round).join(',');
    if (ratio < needed(element, style))
      found.push(`${ratio.toFixed(2)} "${text.slice(0, 40)}" (${rgb(front)}) on (${rgb(back)})`);
  };
  let count = 0;
  const isOut = (element) => element.closest('[disabled], [aria-disabled=true], canvas, svg')
    || !element.checkVisibility({opacityProperty: true, visibilityProperty: true});
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const text = node.textContent.trim();
    if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName) || isOut(element)) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    // What a disabled control is called is as faint as the control.
    if (element.closest('label')?.querySelector('[disabled], [aria-disabled=true]')) continue;
    count += 1;
    judge(element, text, getComputedStyle(element).color);
  }
  for (const field of document.querySelectorAll('input[placeholder], textarea[placeholder]')) {
    if (!field.placeholder || field.value || isOut(field)) continue;
    count += 1;
    judge(field, field.placeholder, getComputedStyle(field, '::placeholder').color);
  }
  return {count, found: [...new Set(found)]};
}
"""

WORDLESS_BADGES = """
() => [...document.querySelectorAll('.stMarkdownBadge')].filter(badge => {
  const words = badge.cloneNode(true);
  words.querySelectorAll('[data-testid=stIconMaterial], [role=img]').forEach(icon => icon.remove());
  return !words.textContent.trim();
}).map(badge => badge.outerHTML.slice(0, 200))
"""

SILENT_CHARTS = """
() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]
  .filter(one => !one.closest('[aria-label]') && !one.querySelector('[aria-label], [alt]')).length
"""

FOCUSED = """
() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const box = one.getBoundingClientRect();
  const main = document.querySelector('[data-testid=stMain]');
  const words = (one.closest('label') ?? one).cloneNode(true);
  words.querySelectorAll('[data-testid=stIconMaterial]').forEach(icon => icon.remove());
  return {
    name: one.getAttribute('aria-label') || words.textContent.trim(),
    top: box.top + (main ? main.scrollTop : 0),
    in_sidebar: Boolean(one.closest('[data-testid=stSidebar]')),
    in_dialog: Boolean(one.closest('[role=dialog]')),
    in_main: Boolean(one.closest('[data-testid=stMain]')),
  };
}
"""


def nameless(page: Page) -> list[str]:
    """The controls that have no name of their own, as role and what they were called instead."""
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    controls = [node for node in nodes if not node.get("ignored") and _value(node, "role") in CONTROLS]
    assert controls, "the page has no controls at all"
    named = [(_value(node, "role"), _value(node, "name")) for node in controls]
    return [f"{role} {name!r}" for role, name in named if not name or ICON_NAME.fullmatch(name)]


def _value(node: dict[str, Any], field: str) -> str:
    return str((node.get(field) or {}).get("value") or "").strip()


def faint(page: Page, *, is_dark: bool = False) -> list[str]:
    """Visible text below the contrast it needs: 4.5 to 1, and 3 to 1 for large text and icons.

    Disabled controls are exempt; with ``is_dark`` what is chosen needs what CHOSEN_IN_DARK says.
    """
    result: dict[str, Any] = page.evaluate(CONTRAST, CHOSEN_IN_DARK if is_dark else {})
    assert result["count"] > 20, "hardly any text was measured"
    return list(result["found"])


def wordless_badges(page: Page) -> list[str]:
    """States that are told by colour and icon alone."""
    return list(page.evaluate(WORDLESS_BADGES))


def silent_charts(page: Page) -> int:
    """How many charts do not say what they show."""
    return int(page.evaluate(SILENT_CHARTS))


def focused(page: Page) -> dict[str, Any] | None:
    """The element that has the focus: its name, where it stands; None when it is none of the page's."""
    found: dict[str, Any] | None = page.evaluate(FOCUSED)
    return found


def tabbed(page: Page, most: int) -> list[dict[str, Any]]:
    """What the Tab key comes to, in its order, from where the focus is now."""
    stops: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stop = focused(page)
        if stop is None:
            break
        stops.append(stop)
    return stops
