"""Bulk operations on a page: how far they are, their ledger, and what a person may do about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts import actions, address, clock, empty, labels, live, orders, paging, write_access
from services.console.bulk import STEERABLE, Item, Ledger, Operation, OperationState, stage_name
from services.console.cache import SourceUnavailable
from services.console.facade import console, same_sight_key

OPENED = "operation"
PAGE = "ledger_page"
MOVE_ICONS = {"pause": "pause", "resume": "play_arrow", "cancel": "cancel"}


def unended(verbs: Sequence[str]) -> None:
    """Operations that have not come to their end, with their ledgers; nothing without any."""
    reading = console().bulk.shown(verbs)
    for operation in reading.value.unended if reading.value else ():
        _card(operation, grey=bool(reading.problem))


def past(verbs: Sequence[str]) -> None:
    """The latest operations that have ended."""
    reading = console().bulk.shown(verbs)
    if reading.value and reading.value.past:
        st.subheader("Past bulk operations", anchor=False)
        for operation in reading.value.past:
            _card(operation, grey=bool(reading.problem))


def line(operation: Operation, *, grey: bool = False) -> str:
    """An operation in one line of Markdown."""
    return f"{badge(operation, grey=grey)} {name(operation)}, {_progress(operation)} · {labels.plain(operation.actor)}"


def name(operation: Operation) -> str:
    """What is done to each item, in words."""
    what = labels.ACTIONS.get(operation.action or "") or labels.kind(operation.verb)
    return f"{what}: {operation.total:,} {'item' if operation.total == 1 else 'items'}"


def badge(operation: Operation, *, grey: bool = False) -> str:
    """The state; "done" is said only when all that was sent is confirmed."""
    is_done = operation.state == OperationState.DONE
    state = "UNCONFIRMED" if is_done and _unconfirmed(operation.tally) else operation.state
    return labels.badge(labels.OPERATION, state, grey=grey)


def _unconfirmed(tally: Mapping[str, int]) -> int:
    return tally.get("FAILED", 0) + tally.get("UNANSWERED", 0)


def _progress(operation: Operation) -> str:
    tally = operation.tally
    confirmed = tally.get("CONFIRMED", 0) + tally.get("RECORDED", 0)
    return f"{confirmed:,} of {operation.total:,} confirmed"


def figures(operation: Operation) -> list[tuple[str, int]]:
    """The ledger: how many came how far. Sent, accepted and confirmed are three words."""
    tally = operation.tally
    unsent = sum(tally.get(state, 0) for state in ("ASKED", "SKIPPED", "NOT_SENT"))
    ended = tally.get("CONFIRMED", 0), tally.get("RECORDED", 0)
    found = [
        ("asked", operation.total),
        ("sent", operation.total - unsent),
        ("accepted", tally.get("ACCEPTED", 0) + sum(ended)),
        ("confirmed", ended[0]),
        ("recorded here", ended[1]),
        ("failed again", tally.get("FAILED", 0)),
        ("never answered", tally.get("UNANSWERED", 0)),
        ("skipped, changed", tally.get("SKIPPED", 0)),
        ("never sent", tally.get("NOT_SENT", 0)),
    ]
    optional = ("recorded here", "never sent")
    return [(what, number) for what, number in found if number or what not in optional]


def _card(operation: Operation, *, grey: bool) -> None:
    with st.container(border=True, gap="xsmall", key=f"operation_{operation.operation_id}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", gap="small"):
            st.markdown(f"{badge(operation, grey=grey)} **{name(operation)}**", width="content")
            _buttons(operation)
        said = [operation.filter, operation.reason, operation.actor]
        began = clock.both(operation.created_at, console().now())
        st.caption(" · ".join([*(labels.plain(part) for part in said if part), began]))
        if operation.ended_at is None:
            under_way = ("ASKED", "SENT", "ACCEPTED")
            ended = sum(number for state, number in operation.tally.items() if state not in under_way)
            st.progress(ended / max(operation.total, 1))
        st.markdown(_ledger_line(operation))
        for remark in _remarks(operation):
            st.caption(remark)
        if address.get(OPENED) == operation.operation_id:
            _ledger(operation.operation_id)


def _ledger_line(operation: Operation) -> str:
    parts = [f"**{number:,}** {what}" for what, number in figures(operation)]
    return " :gray[·] ".join(parts)


def _remarks(operation: Operation) -> list[str]:
    remarks = []
    if operation.waits_until is not None and operation.state == OperationState.RUNNING:
        left = operation.waits_until - console().now()
        soon = f"half-open in {clock.span(left)}" if left.total_seconds() > 0 else "half-open any moment"
        remarks.append(f":material/schedule: Queued until the breaker closes ({soon}).")
    elif operation.state == OperationState.RUNNING:
        remarks.append(f":material/stairs: At {stage_name(operation.stage)}.")
    elif operation.note:
        remarks.append(f":material/info: {labels.plain(operation.note)}")
    if operation.new_failures:
        failures = "failure" if operation.new_failures == 1 else "failures"
        remarks.append(f":material/trending_up: {operation.new_failures:,} new {failures} of the same cause since.")
    if operation.unseen:
        new = "1 new one matched" if operation.unseen == 1 else f"{operation.unseen:,} new ones matched"
        remarks.append(f":material/visibility_off: Not included: {new} at the commit.")
    return remarks


def _buttons(operation: Operation) -> None:
    block = write_access.write_block()
    is_open = address.get(OPENED) == operation.operation_id
    with st.container(horizontal=True, width="content", gap="xsmall"):
        for move in STEERABLE.get(operation.state, ()):
            st.button(
                labels.MOVES[move],
                key=f"{move}_{operation.operation_id}",
                icon=f":material/{MOVE_ICONS[move]}:",
                type="tertiary" if move == "cancel" else "secondary",
                disabled=block is not None,
                help=block or write_access.write_note(),
                on_click=_steer,
                args=(operation, str(move)),
            )
        st.button(
            "Hide ledger" if is_open else "Ledger",
            key=f"ledger_{operation.operation_id}",
            icon=":material/receipt_long:",
            type="tertiary",
            on_click=_open,
            args=(None if is_open else operation.operation_id,),
        )


def _steer(operation: Operation, move: str) -> None:
    sight = f"{operation.operation_id}/{operation.state}"
    key = same_sight_key(move, sight, operation.batch, None)
    actions.ask(lambda actor: console().bulk.steer(operation.operation_id, move, actor=actor, command_id=key))


def _open(operation_id: str | None) -> None:
    paging.reset(PAGE)
    if operation_id is None:
        address.drop(OPENED)
    else:
        address.put(OPENED, operation_id)


def _ledger(operation_id: str) -> None:
    reading = console().bulk.ledger(operation_id, page=paging.number(PAGE))
    if reading.value is None:
        empty.no_source(reading)
        return
    live.as_of(reading)
    st.dataframe(
        [_item_row(item) for item in reading.value.items],
        hide_index=True,
        height="content",
        alt="The items of the operation with how each stands",
    )
    _ways_out(reading.value)
    paging.stepped(PAGE, has_more=reading.value.has_more)


def _item_row(item: Item) -> dict[str, str]:
    now = console().now()
    times = {"Sent": item.sent_at, "Accepted": item.accepted_at, "Ended": item.settled_at}
    cells = {"Id": item.item_id}
    if item.order_id != item.item_id:
        cells["Order"] = item.order_id
    cells |= {"State": labels.word(labels.ITEM, item.state).text, "Seen at version": str(item.version)}
    cells |= {what: clock.at(at, now) if at else "" for what, at in times.items()}
    return cells | {"What was said": item.detail or ""}


def _ways_out(ledger: Ledger) -> None:
    """The file, and a link to each order that needs another look."""
    operation_id = ledger.operation.operation_id
    unwell = [item for item in ledger.items if item.state in ("FAILED", "UNANSWERED")][:5]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for order_id in dict.fromkeys(item.order_id for item in unwell if item.order_id):
            orders.link(order_id)
        with st.container(horizontal=True, horizontal_alignment="right"):
            try:
                content = console().bulk.csv(operation_id)
            except SourceUnavailable as error:
                st.caption(str(error))
                return
            st.download_button(
                "Whole ledger as CSV",
                content,
                file_name=f"operation-{operation_id[:8]}.csv",
                mime="text/csv",
                key=f"csv_{operation_id}",
                icon=":material/download:",
                on_click="ignore",
            )
