"""Buttons that act on every review case that matches the filter, at most MAX_ITEMS."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, bulk, labels, retries
from services.console.cache import SourceUnavailable
from services.console.facade import console
from services.console.reviews import CaseFilter, QueuePage, narrows_nothing
from services.domain.bulk import MAX_ITEMS
from services.domain.reviews import ReviewAction

ANY_CODE = "none"
"""The value in the URL for a cause without a code."""


def bar(page: QueuePage, wanted: CaseFilter) -> None:
    """The buttons with their counts; disabled for a filter that narrows nothing."""
    block = access.write_block()
    is_everything = block is None and narrows_nothing(wanted)
    if is_everything:
        block = "Choose a cause, a product or another filter first: everything at once is not offered."
    with st.container(horizontal=True, vertical_alignment="center", key="matching_bar"):
        for action in ReviewAction:
            number = page.allowing.get(action, 0)
            if number and st.button(
                retries.counted(labels.ACTIONS[action], _of(number, page.count), page.calls.get(action)),
                key=f"matching_{action}",
                icon=":material/playlist_play:",
                type="tertiary",
                disabled=block is not None,
                help=block,
            ):
                _freeze(action, wanted)
    if is_everything and page.allowing:
        st.caption(f":material/info: {block}")


def _of(number: int, matching: int) -> str:
    if number > MAX_ITEMS:
        return f"the {MAX_ITEMS:,} longest waiting of {matching:,} matching"
    return f"{number:,} of {matching:,} matching"


def _freeze(action: ReviewAction, wanted: CaseFilter) -> None:
    try:
        frozen = console().reviews.freeze(action, wanted, _in_words(wanted))
    except SourceUnavailable as error:
        st.toast(str(error), icon=":material/error:")
        return
    if frozen.targets:
        bulk.open_preview(frozen)


def _in_words(wanted: CaseFilter) -> str:
    parts = [
        labels.word(labels.REVIEW, wanted.reason).text if wanted.reason else None,
        code_text(wanted.cause or ANY_CODE) if wanted.cause is not None else None,
        labels.PRIORITY.get(wanted.priority or ""),
        f"product {wanted.product}" if wanted.product else None,
        f"owner {wanted.owner}" if wanted.owner else None,
        "unclaimed" if wanted.unclaimed else None,
        f"id {wanted.text}" if wanted.text else None,
    ]
    return "; ".join(part for part in parts if part)


def code_text(code: str) -> str:
    """A cause's code for people."""
    return "without a code" if code == ANY_CODE else code
