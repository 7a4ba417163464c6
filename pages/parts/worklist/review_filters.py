"""The filters of the Manual review page: their widgets, and the cases that they select."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, address, labels, listing, names
from pages.parts.widgets import list_filters
from services.domain.orders.model import ReviewReason
from services.domain.reviews import ReviewState
from state.review_queue import SORTS, CaseFilter

FILTER_KEYS = ("review_state", "q", "reason", "owner", "priority", "product", "sort")
STATES: dict[str, str] = {ReviewState.OPEN: "Open", ReviewState.RESOLVED: "Resolved"}
OWNERS = {"anybody": "Anybody", "mine": "Mine", "unclaimed": "Unclaimed"}
ORDERS = {
    "urgent": "Most urgent",
    "oldest": "Longest waiting",
    "newest": "Newest",
    "units": "Most units",
}
# The parameter of the address that limits a cause to one code.
CODE = "code"
ANY_CODE = "none"
"""The value in the URL for a cause without a code."""
WHOLE_PAGE = "reviews_whole_page"


def draw() -> None:
    """The filter widgets; each change goes back to the first page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.search("Search", "q", "Case, order or user id", _first_page)
        listing.choice("Cause", "reason", list(ReviewReason), "Every cause", _other_cause, name=_reason)
        listing.choice(
            "Priority", "priority", list(names.PRIORITY), "Every priority", _first_page, name=names.PRIORITY.__getitem__
        )
        listing.search("Product", "product", "Whole product id", _first_page)
        listing.choice("Sort", "sort", SORTS, None, _first_page, name=ORDERS.__getitem__)
        list_filters.search_button("q", "Case, order or user id", clear)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.segments("State", "review_state", STATES, _first_page)
        listing.segments("Owner", "owner", OWNERS, _first_page)
    if code := _code():
        listing.tag(f"Only {_code_text(code)}", "filter_alt", _other_cause, "Every code", "drop_code")


def _reason(reason: str) -> str:
    return labels.word(labels.REVIEW, reason).text


def _code() -> str:
    return address.get(CODE)[:40]


def _first_page() -> None:
    address.drop("review_page")


def _other_cause() -> None:
    address.drop("review_page", CODE)


def redraw_page() -> None:
    """Callback inside the live part: run the whole page again, because the filters are outside the live part."""
    st.session_state[WHOLE_PAGE] = True


def clear() -> None:
    """Callback: show every case of the state."""
    redraw_page()
    st.session_state.update({"q": "", "reason": None, "owner": "anybody", "priority": None, "product": ""})
    _other_cause()


def wanted() -> CaseFilter:
    """The filter that the widgets and the address describe."""
    state = st.session_state
    owner = state.get("owner") or "anybody"
    code = _code()
    return CaseFilter(
        state=state.get("review_state") or ReviewState.OPEN,
        reason=state.get("reason"),
        cause={"": None, ANY_CODE: ""}.get(code, code),
        owner=access.actor() if owner == "mine" else None,
        unclaimed=owner == "unclaimed",
        priority=state.get("priority"),
        product=labels.typed(state.get("product")) or None,
        text=labels.typed(state.get("q")),
        sort=state.get("sort") or SORTS[0],
    )


def only_cause(reason: str, code: str) -> None:
    """Callback: keep only the cases with this reason and code."""
    redraw_page()
    st.session_state["reason"] = reason
    _first_page()
    address.put(CODE, code or ANY_CODE)


def only_product(product: str) -> None:
    """Callback: keep only the cases with this product."""
    redraw_page()
    st.session_state["product"] = product
    _first_page()


def in_words(chosen: CaseFilter) -> str:
    """The filter as text."""
    parts = [
        labels.word(labels.REVIEW, chosen.reason).text if chosen.reason else None,
        _code_text(chosen.cause or ANY_CODE) if chosen.cause is not None else None,
        names.PRIORITY.get(chosen.priority or ""),
        f"product {chosen.product}" if chosen.product else None,
        f"owner {chosen.owner}" if chosen.owner else None,
        "unclaimed" if chosen.unclaimed else None,
        f"id {chosen.text}" if chosen.text else None,
    ]
    return "; ".join(part for part in parts if part)


def _code_text(code: str) -> str:
    """The code of a cause as text."""
    return "without a code" if code == ANY_CODE else code
