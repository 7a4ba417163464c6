"""The work area of one release job: reconciliation, retry, marking as released, and past actions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts import access, actions, address, comparison, dialogs, frame, labels, overlay, past_resolutions, retries
from pages.parts.widgets import clock, empty, orders, timeline
from services.console.cache import Reading
from services.console.facade import console, new_key, same_sight_key
from services.console.releases import JobView, ReleaseRow
from services.console.reviews import LookupView
from services.domain.orders.model import ReleaseState
from services.domain.reconciliation import evidence, what_a_retry_does, why_not_mark, why_not_retry
from state.commands import Command

JOB = "release"
"""The parameter of the address that opens a job."""

PROOF = "Proof (where you saw it, a ticket, a name)"


def asked_for() -> str:
    return address.get(JOB)[:128]


def close(order_id: str) -> None:
    """Close the work area of a job. The work area of another job, opened in the meantime, stays open."""
    if asked_for() == order_id:
        address.drop(JOB)
        st.session_state.pop(comparison.ASKED, None)


def open_button(row: ReleaseRow) -> None:
    """Draw the button that opens the job. It runs the whole page again: the work area is outside the live part."""
    order_id = row.release.order_id
    if st.button(
        "Both sides",
        key=f"open_{order_id}",
        icon=":material/compare_arrows:",
        type="tertiary",
        help="Asks the Inventory Service what it holds for this order, and shows what helped before.",
    ):
        address.put(JOB, order_id)
        st.rerun()


def drawer(order_id: str) -> None:
    """Draw the work area at the side of the page. Its refreshes keep typed text."""
    title = f"Release of {labels.plain(order_id)}"
    overlay.drawer(title, _refreshing, order_id, "", icon=":material/lock_reset:", on_dismiss=partial(close, order_id))


def mark_released(row: ReleaseRow) -> None:
    """Open the dialog that marks one failed job as released, with the actor's proof."""
    st.session_state.pop(comparison.ASKED, None)
    icon = ":material/verified:"
    overlay.show("Mark released with proof", _refreshing, row.release.order_id, new_key(), icon=icon, width="medium")


def _refreshing(order_id: str, mark_key: str) -> None:
    every = overlay.REFRESH if st.session_state.get(overlay.LIVE_KEY, True) else None
    st.fragment(_marking if mark_key else _work_area, run_every=every)(order_id, mark_key)


def _work_area(order_id: str, _: str) -> None:
    actions.flash()
    dialogs.back("close_job", partial(close, order_id))
    reading = console().releases.job(order_id)
    if reading.value is None:
        _missing(order_id, reading)
        return
    access.refusal()
    view = reading.value
    _head(reading)
    _both_sides(view, grey=bool(reading.problem))
    if view.row.release.state != ReleaseState.DONE:
        _retry(view.row)
    if view.row.release.state == ReleaseState.FAILED:
        st.divider()
        _mark(view.row, same_sight_key("mark_released", order_id, view.row.release.version, view.row.command))
    with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
        past_resolutions.of_releases(view.past_actions, view.row.release.cause)
    with st.expander("Timeline", expanded=True, icon=":material/timeline:"):
        timeline.draw(view.timeline, reading)


def _marking(order_id: str, key: str) -> None:
    """Draw the dialog that marks a job as released: the reconciliation, and the form for the proof."""
    reading = console().releases.job(order_id)
    if reading.value is None:
        _missing(order_id, reading)
        return
    job = reading.value.row.release
    st.markdown(f"**{labels.plain(job.order_id)}** · {labels.sentence(job.last_error or job.reason)}")
    _both_sides(reading.value, grey=bool(reading.problem))
    _mark(reading.value.row, key)


def _missing(order_id: str, reading: Reading[JobView]) -> None:
    if reading.as_of is None:
        empty.no_source(reading)
    else:
        empty.nothing_matches(f"No release job of {labels.plain(order_id)} exists.")


def _head(reading: Reading[JobView]) -> None:
    view = reading.value
    assert view is not None  # noqa: S101 - the caller has looked
    job, now = view.row.release, console().now()
    frame.as_of(reading, f"version {job.version}")
    attempts = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
    badge = labels.badge(labels.RELEASE, job.state, grey=bool(reading.problem))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"{badge} {attempts} · touched {clock.ago(job.updated_at, now)}", width="content")
        orders.link(job.order_id)
    said = [labels.sentence(job.last_error)] if job.last_error else []
    st.markdown("  \n".join([*said, f":small[:gray[{labels.plain(job.reason)} · {orders.items(view.row.order)}]]"]))
    if view.row.command:
        st.markdown(f":small[{actions.summary(view.row.command)}]")


def _both_sides(view: JobView, *, grey: bool) -> None:
    row = view.row
    comparison.draw(row.order, LookupView(row.answer, view.asking, None), grey=grey)


# -- acting --------------------------------------------------------------------------------------


def why_not(row: ReleaseRow) -> str | None:
    """Why no action on this job is possible now; None if an action is possible."""
    waiting = "A command on this job is under way." if actions.is_waiting(row.command) else None
    return access.write_block() or waiting


def retry_button(
    row: ReleaseRow,
    key: str,
    *,
    label: str | None = None,
    shortcut: str | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Draw the button for one more attempt, without a dialog.

    Without ``label`` the text shows whether the attempt is sent now or queued until the breaker closes.
    """
    reason = why_not(row) or why_not_retry(row.stock)
    st.button(
        label or retries.label("Retry now"),
        key=key,
        icon=":material/replay:",
        type="primary" if shortcut else "secondary",
        shortcut=shortcut,
        disabled=reason is not None,
        help=reason or what_a_retry_does(row.stock) or access.write_note(),
        on_click=_store_retry,
        args=(row, same_sight_key("retry_release", row.release.order_id, row.release.version, row.command), after),
    )


def _retry(row: ReleaseRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        retry_button(row, f"retry_open_{row.release.order_id}")
        if said := what_a_retry_does(row.stock):
            icon = "block" if why_not_retry(row.stock) else "info"
            st.caption(f":material/{icon}: {said}", width="stretch")


def _store_retry(row: ReleaseRow, key: str, after: Callable[[], None] | None) -> None:
    actions.store(lambda actor: console().releases.retry(row.release.order_id, actor=actor, command_id=key))
    if after:
        after()


def _mark(row: ReleaseRow, key: str) -> None:
    """Draw the form for the proof. Its button is disabled, with the reason, while stock is reserved or deducted."""
    st.markdown(
        "Marking closes the job without a release, because you know that nothing is held any more. The Inventory "
        "Service is asked once more then: what it still holds or has sold is refused. This cannot be undone."
    )
    refused = why_not_mark(row.stock)
    if row.release.state != ReleaseState.FAILED:
        refused = refused or "The job is not failed any more."
    if supports := evidence(row.stock):
        st.success(supports, icon=":material/verified:")
    dialogs.form(
        key,
        note=PROOF,
        required=True,
        button="Mark released",
        store=lambda proof: [partial(_store_mark, row, proof, key)],
        refused=refused or (why_not(row) if not access.write_block() else None),
        refreshes=False,
    )


def _store_mark(row: ReleaseRow, proof: str, key: str, actor: str) -> Command:
    return console().releases.mark_released(row, proof, actor=actor, command_id=key)
