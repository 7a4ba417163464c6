"""Bulk jobs on a page: progress, items and controls."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import access, actions, address, frame, labels, names
from pages.parts.widgets import clock, empty, list_filters, orders, paging
from services.console.bulk import ItemPage
from services.console.facade import console, same_sight_key
from services.domain.bulk import (
    CONTROLS,
    ENDED,
    SUCCEEDED,
    UNCONFIRMED,
    BulkItemState,
    BulkJobState,
    ControlAction,
    count,
    stage_name,
)
from services.domain.commands import CommandKind
from state.bulk_jobs import BulkItem, BulkJob

OPENED = "operation"
PAGE = "ledger_page"
CONTROL_ICONS = {ControlAction.PAUSE: "pause", ControlAction.RESUME: "play_arrow", ControlAction.CANCEL: "cancel"}


def unended(bulk_actions: Sequence[str]) -> None:
    """Draw the jobs that have not ended, with their items. Draws nothing without such jobs."""
    reading = console().bulk.shown(bulk_actions)
    for job in reading.value.unended if reading.value else ():
        _card(job, grey=bool(reading.problem))


def past(bulk_actions: Sequence[str]) -> None:
    """Draw the latest ended jobs."""
    reading = console().bulk.shown(bulk_actions)
    if reading.value and reading.value.past:
        st.subheader("Past bulk jobs", anchor=False)
        for job in reading.value.past:
            _card(job, grey=bool(reading.problem))


def line(job: BulkJob, *, grey: bool = False) -> str:
    """A job in one line of Markdown."""
    progress = f"{count(job.tally, SUCCEEDED):,} of {job.total:,} confirmed"
    return f"{badge(job, grey=grey)} {name(job)}, {progress} · {labels.plain(job.actor)}"


def name(job: BulkJob) -> str:
    """The action and the number of items."""
    return f"{labels.bulk_action(job.bulk_action, job.action)}: {labels.count(job.total, 'item')}"


def badge(job: BulkJob, *, grey: bool = False) -> str:
    """The state; "done" is shown only when every sent item is confirmed."""
    is_done = job.state == BulkJobState.DONE
    state = "UNCONFIRMED" if is_done and count(job.tally, UNCONFIRMED) else job.state
    return labels.badge(labels.BULK_JOB, state, grey=grey)


def figures(job: BulkJob) -> list[tuple[str, int]]:
    """Labels and numbers of items by progress. Sent, accepted and confirmed items are counted separately."""
    number = {state: job.tally.get(state, 0) for state in BulkItemState}
    unsent = number[BulkItemState.ASKED] + number[BulkItemState.SKIPPED] + number[BulkItemState.NOT_SENT]
    found = [
        ("asked", job.total),
        ("sent", job.total - unsent),
        ("accepted", number[BulkItemState.ACCEPTED] + count(job.tally, SUCCEEDED)),
        ("confirmed", number[BulkItemState.CONFIRMED]),
        ("recorded here", number[BulkItemState.RECORDED]),
        ("failed again", number[BulkItemState.FAILED]),
        ("never answered", number[BulkItemState.UNANSWERED]),
        ("skipped, changed", number[BulkItemState.SKIPPED]),
        ("never sent", number[BulkItemState.NOT_SENT]),
    ]
    optional = ("recorded here", "never sent")
    return [(what, many) for what, many in found if many or what not in optional]


def _card(job: BulkJob, *, grey: bool) -> None:
    with st.container(border=True, gap="xsmall", key=f"operation_{job.job_id}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", gap="small"):
            st.markdown(f"{badge(job, grey=grey)} **{name(job)}**", width="content")
            _buttons(job)
        facts = [labels.plain(fact) for fact in (job.filter, job.reason, job.actor) if fact]
        st.caption(" · ".join([*facts, clock.both(job.created_at, console().now())]))
        if job.ended_at is None:
            st.progress(count(job.tally, ENDED) / max(job.total, 1))
        st.markdown(" :gray[·] ".join(f"**{number:,}** {what}" for what, number in figures(job)))
        for remark in _remarks(job):
            st.caption(remark)
        if address.get(OPENED) == job.job_id:
            _items(job.job_id)


def _remarks(job: BulkJob) -> list[str]:
    remarks = []
    if job.waits_until is not None and job.state == BulkJobState.RUNNING:
        left = job.waits_until - console().now()
        soon = f"half-open in {clock.span(left)}" if left.total_seconds() > 0 else "half-open any moment"
        remarks.append(f":material/schedule: Queued until the breaker closes ({soon}).")
    elif job.state == BulkJobState.RUNNING:
        remarks.append(f":material/stairs: At {stage_name(job.stage)}.")
    elif job.note:
        remarks.append(f":material/info: {labels.plain(job.note)}")
    if job.new_failures:
        failures = "failure" if job.new_failures == 1 else "failures"
        remarks.append(f":material/trending_up: {job.new_failures:,} new {failures} of the same cause since.")
    if job.unseen:
        new = "1 new one matched" if job.unseen == 1 else f"{job.unseen:,} new ones matched"
        remarks.append(f":material/visibility_off: Not included: {new} at the commit.")
    return remarks


def _buttons(job: BulkJob) -> None:
    is_open = address.get(OPENED) == job.job_id
    with st.container(horizontal=True, width="content", gap="xsmall"):
        for control in CONTROLS.get(job.state, ()):
            access.button(
                names.CONTROLS[control],
                f"{control}_{job.job_id}",
                icon=CONTROL_ICONS[control],
                type="tertiary" if control == ControlAction.CANCEL else "secondary",
                hint=access.write_note(),
                on_click=_control,
                args=(job, str(control)),
            )
        st.button(
            "Hide item list" if is_open else "Item list",
            key=f"items_{job.job_id}",
            icon=":material/receipt_long:",
            type="tertiary",
            on_click=_open,
            args=("" if is_open else job.job_id,),
        )


def _control(job: BulkJob, control: str) -> None:
    sight = f"{job.job_id}/{job.state}"
    key = same_sight_key(control, sight, job.batch, None)
    actions.store(actions.command(CommandKind.CONTROL_BULK_JOB, job.job_id, key, {"move": control}))


def _open(job_id: str) -> None:
    address.drop(PAGE)
    address.put(OPENED, job_id)


def _items(job_id: str) -> None:
    reading = console().bulk.items(job_id, page=paging.number(PAGE))
    if (found := empty.value_of(reading)) is None:
        return
    frame.as_of(reading)
    st.dataframe(
        [_item_row(item) for item in found.items],
        hide_index=True,
        height="content",
        alt="The items of the bulk job with their states",
    )
    _file_and_links(found)
    paging.stepped(PAGE, has_more=found.has_more)


def _item_row(item: BulkItem) -> dict[str, str]:
    now = console().now()
    times = {"Sent": item.sent_at, "Accepted": item.accepted_at, "Ended": item.settled_at}
    cells = {"Id": item.item_id}
    if item.order_id != item.item_id:
        cells["Order"] = item.order_id
    cells |= {"State": labels.word(labels.BULK_ITEM, item.state).text, "Seen at version": str(item.version)}
    cells |= {what: clock.at(at, now) if at else "" for what, at in times.items()}
    return cells | {"Detail": item.detail or ""}


def _file_and_links(page: ItemPage) -> None:
    """The CSV file, and a link to each order of an unsuccessful item."""
    job_id = page.job.job_id
    unsuccessful = [item for item in page.items if item.state in UNCONFIRMED][:5]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for order_id in dict.fromkeys(item.order_id for item in unsuccessful if item.order_id):
            orders.link(order_id)
        with st.container(horizontal=True, horizontal_alignment="right"):
            list_filters.csv(
                f"bulk-job-{job_id[:8]}",
                lambda: console().bulk.csv(job_id),
                key=f"csv_{job_id}",
                what="The items of the bulk job",
                label="All items as CSV",
            )
