"""Events: dead letters by cause, outgoing and incoming events, and consumer lag."""

from __future__ import annotations

import streamlit as st

from pages.parts import dead_letters, events, frame, labels, listing, tiles
from pages.parts.widgets import clock, list_filters, paging
from services.console.events import Delivery
from services.console.facade import console

VIEWS = ("Dead letters", "Outgoing", "Incoming")
FILTER_KEYS = ("view", "letters", "out_type", "out_state", "in_type", "in_state", "event_order")
LISTS = ("letters", "outgoing", "incoming")


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        listing.segments("Show", "view", {view: view for view in VIEWS}, _newest)
        view = st.session_state.get("view") or VIEWS[0]
        if view == "Dead letters":
            states = console().events.DEAD_LETTER_STATES
            words = {state: labels.word(labels.DEAD_LETTER, state).text for state in states}
            listing.segments("State", "letters", words, _newest)
        elif view == "Outgoing":
            _choice("Type", "out_type", console().events.OUTGOING_TYPES, None)
            _choice("State", "out_state", console().events.OUTGOING_OUTCOMES, labels.OUTGOING)
        else:
            _choice("Type", "in_type", console().events.INCOMING_TYPES, None)
            _choice("Outcome", "in_state", console().events.INCOMING_OUTCOMES, labels.INCOMING)
        listing.search("Order", "event_order", "Order id", _newest, width=220)
        list_filters.search_button("event_order", "Order id", _clear)


def _choice(label: str, key: str, options: tuple[str, ...], table: dict[str, labels.Word] | None) -> None:
    def name(option: str) -> str:
        return labels.word(table, option).text if table else option

    listing.choice(label, key, options, f"Every {label.lower()}", _newest, name=name)


def _newest() -> None:
    paging.reset(*LISTS)


def _clear() -> None:
    st.session_state.update({"out_type": None, "out_state": None, "in_type": None, "in_state": None})
    st.session_state.update({"event_order": "", "letters": "OPEN"})
    dead_letters.every_cause()
    _newest()


def flow() -> None:
    """Outbox, consumers and relay as tiles, each with its time."""
    reading = console().events.delivery()
    if reading.value is None:
        return
    now, delivery, grey = console().now(), reading.value, bool(reading.problem)
    frame.as_of(reading)
    age = (now - delivery.outbox_oldest_at).total_seconds() if delivery.outbox_oldest_at else 0.0
    with st.grid(4, min_column_width=150):
        oldest = f"oldest waits {age:,.0f} s" if age else "everything is published"
        tiles.plain("Outbox", f"{delivery.outbox_waiting:,}", oldest, grey=grey)
        tiles.plain("Relay", *_relay(delivery), grey=grey)
        for lag in delivery.consumers:
            note = f"{lag.ack_pending:,} in hand, {lag.redelivered:,} again · as of {clock.at(lag.as_of, now)}"
            tiles.plain(f"Behind on {labels.plain(lag.stream)}", f"{lag.pending:,}", note, grey=grey)
        if not delivery.consumers:
            tiles.plain("Consumers", "n/a", "no worker has asked NATS yet", grey=grey)
        tiles.plain("Dead letters", f"{delivery.open_dead_letters:,}", "open", grey=grey)


def _relay(delivery: Delivery) -> tuple[str, str]:
    """The state of the outbox relay, and what explains it."""
    if not delivery.connected:
        return "n/a", "no worker is running"
    if not all(delivery.connected.values()):
        return "Disconnected", "no connection to NATS: events wait in the outbox"
    if delivery.relay_problems:
        problem = next(iter(delivery.relay_problems.values()))
        return "Refused" if delivery.is_refused else "Failing", labels.plain(problem)
    return "Publishing", f"connected: {len(delivery.connected)} of {len(delivery.connected)}"


def everything() -> None:
    flow()
    events.undeliverable()
    view = st.session_state.get("view") or VIEWS[0]
    order_id = labels.typed(st.session_state.get("event_order")) or None
    if view == "Dead letters":
        dead_letters.draw(st.session_state.get("letters") or "OPEN", order_id, _clear)
    elif view == "Outgoing":
        events.outgoing(st.session_state.get("out_type"), st.session_state.get("out_state"), order_id, _clear)
    else:
        events.incoming(st.session_state.get("in_type"), st.session_state.get("in_state"), order_id, _clear)


frame.page("Events", everything, fixed=filters, filter_keys=FILTER_KEYS)
