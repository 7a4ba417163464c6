"""The work area of one release job: reconciliation, retry, marking as released, and past actions."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import access, actions, comparison, dialogs, frame, labels, overlay, past_resolutions, retries
from pages.parts.widgets import clock, history, orders
from pages.parts.work_area import WorkArea
from services.console.cache import Reading
from services.console.facade import console, new_key, same_sight_key
from services.console.releases import JobView, ReleaseRow
from services.console.reviews import LookupView
from services.domain.commands import CommandKind
from services.domain.conservation import StockState
from services.domain.orders.model import ReleaseState
from services.domain.reconciliation import evidence, what_a_retry_does, why_not_mark, why_not_retry
from state.commands import Command
from state.releases import Release

AREA = WorkArea("release", "Release of", ":material/lock_reset:")


def open_button(row: ReleaseRow) -> None:
    order_id = row.release.order_id
    if st.button(
        "Compare",
        key=f"open_{order_id}",
        icon=":material/compare_arrows:",
        type="tertiary",
        help="Asks for the inventory status of this order, and shows past resolutions.",
    ):
        AREA.open(order_id)


def mark_released(row: ReleaseRow) -> None:
    """Open the dialog that marks one failed job as released, with the actor's proof."""
    st.session_state.pop(comparison.LOOKED_UP, None)
    order_id, icon, key = row.release.order_id, ":material/verified:", new_key()
    overlay.show("Mark released with proof", overlay.refreshing, _marking, order_id, key, icon=icon, width="medium")


def work_area(order_id: str) -> None:
    """Draw the content of the work area."""
    actions.flash()
    AREA.back(order_id)
    reading = console().releases.job(order_id)
    if reading.value is None:
        _missing(order_id, reading)
        return
    access.refusal()
    view, row, job = reading.value, reading.value.row, reading.value.row.release
    frame.as_of(reading, f"version {job.version}")
    _head(row, grey=bool(reading.problem))
    _compare(view, grey=bool(reading.problem))
    if job.state != ReleaseState.DONE:
        _retry(row)
    if job.state == ReleaseState.FAILED:
        st.divider()
        _mark(row, same_sight_key(CommandKind.MARK_RELEASED, order_id, job.version, row.command))
    with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
        past_resolutions.of_releases(view.past_actions, job.cause)
    with st.expander("Timeline", expanded=True, icon=":material/timeline:"):
        history.timeline(view.timeline, reading)


def _marking(order_id: str, key: str) -> None:
    """Draw the dialog that marks a job as released: the reconciliation, and the form for the proof."""
    reading = console().releases.job(order_id)
    if reading.value is None:
        _missing(order_id, reading)
        return
    job = reading.value.row.release
    st.markdown(f"**{labels.plain(job.order_id)}** · {labels.sentence(job.last_error or job.reason)}")
    _compare(reading.value, grey=bool(reading.problem))
    _mark(reading.value.row, key)


def _missing(order_id: str, reading: Reading[JobView]) -> None:
    frame.missing(reading, f"No release job of {labels.plain(order_id)} exists.", is_alone=True)


def _head(row: ReleaseRow, *, grey: bool) -> None:
    job = row.release
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        touched = clock.ago(job.updated_at, console().now())
        st.markdown(
            f"{labels.badge(labels.RELEASE, job.state, grey=grey)} {attempts(job)} · touched {touched}", width="content"
        )
        orders.link(job.order_id)
    error = f"{labels.sentence(job.last_error)}  \n" if job.last_error else ""
    st.markdown(f"{error}:small[:gray[{labels.plain(job.reason)} · {orders.items(row.order)}]]")
    actions.draw(row.command)


def attempts(job: Release) -> str:
    """The number of attempts and, of a pending job, the time of the next one."""
    number = f"{labels.count(job.attempts, 'attempt')}"
    if job.state != ReleaseState.PENDING or job.next_attempt_at is None:
        return number
    left = job.next_attempt_at - console().now()
    return f"{number}, next in {clock.span(left)}" if left.total_seconds() > 0 else f"{number}, next is due"


def _compare(view: JobView, *, grey: bool) -> None:
    comparison.draw(view.row.order, LookupView(view.row.answer, view.asking, None), grey=grey)


# -- acting --------------------------------------------------------------------------------------


def why_not(command: Command | None) -> str | None:
    """Why no action on a job is possible while its last command is under way; None if an action is possible."""
    return actions.if_waiting(command, "A command on this job is under way.")


def retry_button(
    job: Release,
    command: Command | None,
    stock: StockState | None,
    key: str,
    label: str,
    *,
    refused: str | None = None,
    after: Callable[[], None] | None = None,
    shortcut: str | None = None,
    is_primary: bool = False,
) -> None:
    """Draw the button for one more attempt, without a dialog. ``command`` is the last one on the job."""
    access.button(
        label,
        key,
        icon="replay",
        refused=refused or why_not(command) or why_not_retry(stock),
        hint=what_a_retry_does(stock) or access.write_note() or "One attempt now.",
        on_click=_store_retry,
        args=(job.order_id, same_sight_key(CommandKind.RETRY_RELEASE, job.order_id, job.version, command), after),
        shortcut=shortcut,
        type="primary" if is_primary else "secondary",
    )


def _store_retry(order_id: str, key: str, after: Callable[[], None] | None) -> None:
    actions.store(actions.command(CommandKind.RETRY_RELEASE, order_id, key))
    if after:
        after()


def _retry(row: ReleaseRow) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        key = f"retry_open_{row.release.order_id}"
        retry_button(row.release, row.command, row.stock, key, retries.label("Retry now"))
        if effect := what_a_retry_does(row.stock):
            icon = "block" if why_not_retry(row.stock) else "info"
            st.caption(f":material/{icon}: {effect}", width="stretch")


def _mark(row: ReleaseRow, key: str) -> None:
    """Draw the form for the proof. Its button is disabled, with the reason, while stock is reserved or deducted."""
    st.markdown(
        "Marking closes the job without a release, because you have verified that nothing is reserved any more. The "
        "Inventory Service is asked once more then: the action is refused for stock that is still reserved or has been "
        "deducted. This cannot be undone."
    )
    refused = why_not_mark(row.stock)
    if row.release.state != ReleaseState.FAILED:
        refused = refused or "The job is not failed any more."
    if supports := evidence(row.stock):
        st.success(supports, icon=":material/verified:")
    dialogs.Form(
        key,
        "Mark released",
        lambda proof: actions.command(
            CommandKind.MARK_RELEASED, row.release.order_id, key, {"proof": proof, "version": row.release.version}
        ),
        note=dialogs.PROOF,
        refused=refused or (None if access.write_block() else why_not(row.command)),
    ).draw()
