"""Lists of events: outgoing, incoming, and those that cannot be published."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from pages.parts import access, actions, labels, listing, overlay
from pages.parts.dialogs import Form
from pages.parts.widgets import clock, empty, orders, paging, payloads
from services.console.events import Undeliverable
from services.console.facade import console, new_key
from services.console.paging import Paged
from services.domain.commands import CommandKind
from state.deduplication import Received
from state.outbox import Outgoing, UndeliverableEvent

OUTGOING, INCOMING = "outgoing", "incoming"


def outgoing(subject: str | None, outcome: str | None, order_id: str | None, clear: Callable[[], None]) -> None:
    """Outgoing events, newest first, each with its payload."""
    filters = (subject, order_id, outcome)
    listing.draw(
        OUTGOING,
        console().events.outgoing(subject=subject, order_id=order_id, outcome=outcome, place=paging.place(OUTGOING)),
        filters,
        lambda row: str(row.id),
        _sent,
        summary=lambda _: "published events are kept for two weeks",
        nothing=lambda: (
            empty.nothing_wrong("Every event is published.")
            if outcome in ("pending", "failing")
            else listing.nothing("event", "No event has been stored yet.", clear, is_filtered=any(filters))
        ),
        rows_of=lambda rows: rows,
    )


def incoming(event_type: str | None, outcome: str | None, order_id: str | None, clear: Callable[[], None]) -> None:
    """Incoming events, newest first, with their outcome."""
    filters = (event_type, order_id, outcome)
    listing.draw(
        INCOMING,
        console().events.incoming(
            event_type=event_type, order_id=order_id, outcome=outcome, place=paging.place(INCOMING)
        ),
        filters,
        lambda row: row.event_id,
        _received,
        summary=lambda _: "events that came in are kept for a month; those not handled are dead letters",
        nothing=lambda: listing.nothing("event", "No event has come in yet.", clear, is_filtered=any(filters)),
        rows_of=lambda rows: rows,
    )


def _sent(row: Outgoing, page: Paged[Outgoing], *, gone: bool, grey: bool) -> None:
    now = console().now()
    with st.container(key=f"out_{row.id}", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{labels.plain(row.subject)}**", width=230)
            st.markdown(labels.badge(labels.OUTGOING, row.outcome, grey=grey), width=180)
            orders.link(row.order_id, marks=paging.link_parameters(OUTGOING, page))
            st.caption(clock.both(row.created_at, now), width="stretch", text_alignment="right")
        facts = [f"event {labels.plain(row.event_id)}"]
        if row.attempts:
            facts.append(f"{row.attempts} failed {'attempt' if row.attempts == 1 else 'attempts'}")
        if row.last_error:
            facts.append(labels.plain(row.last_error))
        if row.published_at is not None:
            delay = row.published_at - row.created_at
            short = f"{delay.total_seconds() * 1000:,.0f} ms"
            facts.append(f"published after {short if delay.total_seconds() < 1 else clock.span(delay)}")
        st.caption(f"{' · '.join(facts)}{labels.GONE if gone else ''}")
        payloads.expander(
            "Payload", f"out-{row.id}", partial(payload_of, row),
            touched=partial(paging.pause, OUTGOING, page.top),
        )  # fmt: skip


def payload_of(row: Outgoing | UndeliverableEvent) -> None:
    """Draw the payload of an outgoing event. Of a large payload, draw the beginning and a button for the file."""
    read = partial(console().events.outgoing_payload, row.id)
    payloads.draw(row.payload, row.size, read, file_name=f"event-{row.id}.bin", key=f"payload_out_{row.id}")


def _received(row: Received, page: Paged[Received], *, gone: bool, grey: bool) -> None:
    with st.container(key=f"in_{row.event_id}", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{labels.plain(row.type)}**", width=230)
            known = labels.badge(labels.INCOMING, row.outcome, grey=grey) if row.outcome else None
            st.markdown(known or ":gray[not recorded]", width=180)
            if row.order_id:
                orders.link(row.order_id, marks=paging.link_parameters(INCOMING, page))
            st.caption(clock.both(row.received_at, console().now()), width="stretch", text_alignment="right")
        again = f" · came again {row.repeats}x" if row.repeats else ""
        st.caption(f"event {labels.plain(row.event_id)}{again}{labels.GONE if gone else ''}")


def undeliverable() -> None:
    """Draw the list of events that cannot be published, the oldest first. Draws nothing when there are none."""
    reading = console().events.undeliverable()
    if reading.value is None or not reading.value.total:
        return
    found, grey = reading.value, bool(reading.problem)
    st.markdown(f"**Cannot be published: {labels.count(found.total, 'event')}**")
    st.caption(
        "The broker takes none of them however often it is sent. Raise max_payload of the broker or max_msg_size of "
        "the stream, then publish it again; or tell the Inventory Service by other means what it says, and give it up."
    )
    with st.container(border=True, gap="small"):
        for row in found.rows:
            _event(row, grey=grey)
    if found.total > len(found.rows):
        st.caption(f"{found.total - len(found.rows):,} more come up as these are settled.")


def _event(row: Undeliverable, *, grey: bool) -> None:
    event, now = row.event, console().now()
    with st.container(gap="xxsmall", key=f"undeliverable_{event.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.OUTGOING, "undeliverable", grey=grey), width="content")
            st.markdown(f"**{labels.plain(event.subject)}**", width="content")
            orders.link(event.order_id)
            st.caption(f"since {clock.both(event.undeliverable_at, now)}", width="stretch")
            _buttons(row)
        tries = labels.count(event.attempts, "attempt")
        st.caption(f"{labels.plain(event.reason)} · {event.size:,} bytes · {tries}")
        actions.draw(row.command)
        payloads.expander("Payload", f"undeliverable-{event.id}", partial(payload_of, event))


def _buttons(row: Undeliverable) -> None:
    event, note = row.event, access.write_note()
    waiting = actions.if_waiting(row.command, "A command on this event is under way.")
    access.button(
        "Publish again",
        f"publish_{event.id}",
        icon="send",
        refused=waiting,
        hint=note or "If the broker still cannot take it, it comes back to this list.",
        on_click=actions.store_once,
        args=(CommandKind.RETRY_OUTGOING_EVENT, str(event.id), event.attempts, row.command),
    )
    if access.button("Give up", f"give_up_{event.id}", icon="delete", refused=waiting, hint=note):
        overlay.show("Give event up", _give_up, event, new_key(), icon=":material/delete:")


def _give_up(event: UndeliverableEvent, key: str) -> None:
    st.markdown(
        f"**{labels.plain(event.subject)}** of order {labels.plain(event.order_id)} · This event "
        "is deleted, and no service receives it. The order's timeline keeps your reason. This cannot be undone."
    )
    Form(
        key,
        "Give the event up",
        lambda note: actions.command(CommandKind.DISCARD_OUTGOING_EVENT, str(event.id), key, {"note": note}),
    ).refreshing()
