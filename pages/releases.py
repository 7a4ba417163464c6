"""The Releases page: release jobs by cause, with their latest errors and the actions on them."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import address, bulk, bulk_jobs, frame, labels, listing, retries, selection
from pages.parts import release_job as work
from pages.parts.widgets import empty, list_filters, paging
from pages.parts.worklist import release_list
from services.console.facade import console
from services.console.releases import ReleasesPage, narrows_nothing
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.orders.model import ReleaseState
from state.releases import SORTS, STATES, ReleaseFilter

NAME = "release"
DEFAULT = [ReleaseState.PENDING, ReleaseState.FAILED]
FILTER_KEYS = ("job", "release_sort", "find")
CAUSE = "cause"
SORT_NAMES = {"newest": "Latest first", "oldest": "Longest untouched first", "attempts": "Most attempts first"}
BULK_ACTIONS = (BulkAction.RETRY_RELEASE, BulkAction.MARK_RELEASED)


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "State",
            list(STATES),
            selection_mode="multi",
            default=DEFAULT,
            format_func=lambda state: labels.word(labels.RELEASE, state).text,
            key="job",
            bind="query-params",
            on_change=_first_page,
        )
        listing.search("Order", "find", "Order id", _first_page, width=280)
        listing.choice("Sort", "release_sort", SORTS, None, _first_page, name=SORT_NAMES.__getitem__, width=220)
        list_filters.search_button("find", "Order id", _clear)


def _first_page() -> None:
    address.drop("release_page")


def _clear() -> None:
    st.session_state["job"] = list(DEFAULT)
    st.session_state["find"] = ""
    address.drop(CAUSE)
    _first_page()


def _wanted() -> ReleaseFilter:
    states = tuple(state for state in STATES if state in (st.session_state.get("job") or STATES))
    return ReleaseFilter(states, address.get(CAUSE) or None, labels.typed(st.session_state.get("find")) or None)


def _in_words(wanted: ReleaseFilter) -> str:
    order = f"order {wanted.order_id}" if wanted.order_id else None
    cause = labels.cause_text(wanted.cause) if wanted.cause else None
    parts = [", ".join(labels.word(labels.RELEASE, state).text for state in wanted.states), cause, order]
    return "; ".join(part for part in parts if part)


def everything() -> None:
    """Draw running bulk jobs first, so that a second one for the same jobs is not started by mistake."""
    retries.notice()
    bulk_jobs.unended(BULK_ACTIONS)
    jobs()
    bulk_jobs.past(BULK_ACTIONS)


def jobs() -> None:
    """Draw the causes of release jobs, and one page of jobs."""
    wanted, page = _wanted(), paging.number("release_page")
    sort = st.session_state.get("release_sort") or SORTS[0]
    reading = console().releases.page(wanted, sort=sort, page=page)
    if (found := empty.value_of(reading)) is None:
        return
    release_list.causes(found, wanted.cause, _choose, grey=bool(reading.problem))
    place = f"{wanted}/{sort}/{page}"
    fresh = {row.release.order_id: row for row in found.rows}
    shown = selection.keep(NAME, place, fresh)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        frame.as_of(reading, _summary(found))
        selection.show_new(NAME, place, fresh, shown)
    if not shown.rows:
        _nothing(wanted, found)
        return
    _all_matching(found, wanted)
    release_list.selection_bar(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for order_id, row in shown.rows.items():
            release_list.draw(row, gone=order_id in shown.gone, grey=bool(reading.problem))
    paging.stepped("release_page", has_more=found.has_more, keys=True)


def _summary(page: ReleasesPage) -> str:
    return f"{page.counts.get('FAILED', 0):,} failed, {page.counts.get('PENDING', 0):,} pending"


def _nothing(wanted: ReleaseFilter, page: ReleasesPage) -> None:
    is_unfinished = wanted.cause is None and wanted.order_id is None and ReleaseState.DONE not in wanted.states
    if is_unfinished and not any(page.counts.get(state) for state in wanted.states):
        empty.nothing_wrong("Nothing waits to be released.")
    else:
        empty.nothing_matches("No job matches.", _clear)


def _choose(cause: str) -> None:
    _first_page()
    address.put(CAUSE, cause)


def _all_matching(page: ReleasesPage, wanted: ReleaseFilter) -> None:
    if not page.matching:
        return
    freeze, words = console().releases.freeze, _in_words(wanted)
    retry = f"{'Queue' if retries.is_shut() else 'Retry'} {_of(page.matching)}"
    retry_all = partial(freeze, BulkAction.RETRY_RELEASE, wanted, words)
    choices = [bulk.MatchingAction("retry_matching", retry, retry_all, type="secondary")]
    if page.failed:
        choices.append(
            bulk.MatchingAction(
                "mark_matching",
                f"Mark released {_of(page.failed)}",
                partial(freeze, BulkAction.MARK_RELEASED, wanted, words),
                help="With proof; only failed jobs.",
                icon=":material/verified:",
            )
        )
    hint = "Choose a cause, a state or an order first: everything at once is not offered."
    bulk.matching_bar(choices, narrow_first=hint if narrows_nothing(wanted) else None)


def _of(number: int) -> str:
    if number > MAX_ITEMS:
        return f"the {MAX_ITEMS:,} longest untouched of more than {MAX_ITEMS:,} matching"
    return f"{number:,} of {number:,} matching"


frame.page("Releases", everything, fixed=filters, filter_keys=FILTER_KEYS, area=work.AREA)
work.AREA.draw(work.work_area)
