"""The Manual review page: review cases with their reason, waiting time, claim and allowed actions.

Deep link of one case: ``/reviews?case=ID``.
"""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import access, bulk, bulk_jobs, frame, listing, names, retries, selection
from pages.parts import review_case as work
from pages.parts.widgets import empty, paging
from pages.parts.worklist import review_filters, review_list
from services.console.facade import console
from services.console.paging import PAGE_SIZE
from services.console.reviews import QueuePage, narrows_nothing
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.reviews import ReviewAction, ReviewState
from services.metrics.trends import RESERVE
from state.review_queue import POOL, CaseFilter

NAME = "review"


def _next_button() -> None:
    access.button(
        "Next unclaimed",
        "next_unclaimed",
        icon="skip_next",
        shortcut="N",
        hint="Claims the most urgent case that matches and opens it: the reservation that ends first, then priority.",
        on_click=_next,
        args=(review_filters.wanted(),),
    )


def _next(wanted: CaseFilter) -> None:
    # The work area is outside the live part, so the whole page runs again.
    review_filters.redraw_page()
    work.next_unclaimed(wanted)


def queue() -> None:
    """Draw one page of cases with their actions, and the causes and products of all matching cases."""
    if st.session_state.pop(review_filters.WHOLE_PAGE, False):
        st.rerun()
    wanted, page = review_filters.wanted(), paging.number("review_page")
    reading = console().reviews.queue(wanted, page=page)
    place = f"{wanted}/{page}"
    fresh = {case.review.review_id: case for case in reading.value.cases} if reading.value else {}
    shown = selection.keep(NAME, place, fresh)
    # The button is above all conditional parts, so that its key works in every state of the page.
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        frame.as_of(reading, _summary(reading.value, wanted.state) if reading.value else "")
        with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
            selection.show_new(NAME, place, fresh, shown)
            _next_button()
    bulk_jobs.unended((BulkAction.RESOLVE_REVIEW,))
    if (queued := empty.value_of(reading)) is None:
        return
    if not shown.rows:
        _nothing(wanted)
        return
    review_list.groups(queued, review_filters.only_cause, review_filters.only_product)
    if wanted.state == ReviewState.OPEN:
        if queued.calls:
            retries.notice(RESERVE)
        _all_matching(queued, wanted)
        review_list.selection_bar(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for review_id, case in shown.rows.items():
            review_list.draw(case, gone=review_id in shown.gone, grey=bool(reading.problem))
    paging.numbered("review_page", queued.count, PAGE_SIZE, keys=True)
    bulk_jobs.past((BulkAction.RESOLVE_REVIEW,))


def _all_matching(page: QueuePage, wanted: CaseFilter) -> None:
    choices = [
        bulk.MatchingAction(
            f"matching_{action}",
            retries.counted(names.ACTIONS[action], _of(number, page.count), page.calls.get(action)),
            partial(console().reviews.freeze, action, wanted, review_filters.in_words(wanted)),
        )
        for action in ReviewAction
        if (number := page.allowing.get(action, 0))
    ]
    hint = "Choose a cause, a product or another filter first: everything at once is not offered."
    bulk.matching_bar(choices, narrow_first=hint if narrows_nothing(wanted) else None)


def _of(number: int, matching: int) -> str:
    if number > MAX_ITEMS:
        return f"the {MAX_ITEMS:,} longest waiting of {matching:,} matching"
    return f"{number:,} of {matching:,} matching"


def _summary(page: QueuePage, state: str) -> str:
    count = f"{POOL:,} or more" if page.count >= POOL else f"{page.count:,}"
    return f"{count} {'waiting' if state == 'OPEN' else 'resolved'}"


def _nothing(wanted: CaseFilter) -> None:
    is_filtered = not narrows_nothing(wanted)
    if wanted.state == ReviewState.OPEN and not is_filtered:
        empty.nothing_wrong("Nothing waits for a person.")
    else:
        listing.nothing("case", "No case has been resolved yet.", review_filters.clear, is_filtered=is_filtered)


frame.page("Manual review", queue, fixed=review_filters.draw, filter_keys=review_filters.FILTER_KEYS, area=work.AREA)
work.AREA.draw(work.work_area)
