"""The parts of the Sandbox page: drills with their reports, and the stock of the reference Inventory Service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import streamlit as st

from pages.parts import actions, labels, overlay, tiles
from pages.parts.dialogs import Form
from pages.parts.widgets import clock, empty, orders
from services.console.facade import console, new_key
from services.console.sandbox import KINDS, SandboxStock, shown_kind
from services.domain.commands import CommandKind
from services.domain.external import time_or_none
from state.sandbox import Drill

BY = {"breaker": "a breaker opened", "health": "the health verdict", "alert": "an alert"}


def verdict(drill: Drill) -> str:
    """The result of a drill as a badge: not run, losses, not recovered, or nothing lost."""
    report = _report(drill)
    if not report.get("completed"):
        return ":gray-badge[:material/block: Not run]"
    if lost := report["lost"]["count"]:
        return f":red-badge[:material/error: {lost:,} to look at]"
    if report["recovery"]["seconds"] is None:
        return ":orange-badge[:material/timer_off: Not recovered]"
    return ":green-badge[:material/check_circle: Nothing lost]"


def _by(name: str) -> str:
    """The signal that detected the faults."""
    return BY.get(name, labels.plain(name))


def _report(drill: Drill) -> Mapping[str, Any]:
    """The stored report; a report in an unknown form is replaced by a message."""
    report = drill.report or {}
    if not report.get("completed"):
        return {"why": str(report["why"])} if "why" in report else {}
    try:
        _ = f"{report['orders']['hurt']:,} {report['lost']['count']:,} {report['recovery']['seconds'] or 0:g}"
        _ = [f"{one['seconds']:g} {one['by']}" for one in report["detection"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"why": "The report is in a form that cannot be read."}
    return report


def summary(drill: Drill) -> str:
    """One line: time to detect, affected orders, time to recover."""
    report = _report(drill)
    if not report.get("completed"):
        return labels.plain(report.get("why", ""))
    return f"detected {_detected(report)} · {report['orders']['hurt']:,} orders hurt · recovered {_recovered(report)}"


def _detected(report: Mapping[str, Any]) -> str:
    found = report["detection"]
    return f"after {found[0]['seconds']:g} s" if found else "by nothing"


def _recovered(report: Mapping[str, Any]) -> str:
    seconds = report["recovery"]["seconds"]
    return "not within 30 minutes" if seconds is None else f"after {seconds:g} s"


def noticed(drill: Drill) -> None:
    """The signals that have detected the faults so far, while a drill runs."""
    if drill.began_at is None:
        return
    said = [
        f"{_by(name)} after {(moment - drill.began_at).total_seconds():.0f} s"
        for name, at in drill.noticed.items()
        if (moment := time_or_none(at))
    ]
    st.caption(f"Noticed by: {', '.join(said)}." if said else "Nothing has noticed it yet.")


def draw(drill: Drill) -> None:
    """The whole report."""
    now, kind, report = console().now(), shown_kind(drill.kind), _report(drill)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"### {labels.plain(kind.title)}", width="content")
        st.markdown(verdict(drill) if drill.finished_at else labels.badge(labels.DRILL, drill.phase), width="content")
    st.caption(
        f"{kind.what} For {drill.seconds} s, by {labels.plain(drill.actor)}, {clock.both(drill.created_at, now)}. "
        f"Reason: {labels.plain(drill.reason)}"
        + (f" · ended early by {labels.plain(drill.stopped_by)}" if drill.stopped_by else "")
    )
    if not report.get("completed"):
        st.info(
            labels.plain(report.get("why", "The drill is under way; its report comes at the end.")),
            icon=":material/hourglass_top:",
        )
        return
    _tiles(report)
    left, right = st.columns(2)
    with left:
        _detection(report)
        _lost(report)
    with right:
        _orders(drill, report)
    with st.container(border=True):
        st.markdown("**What should have happened**")
        st.caption(kind.expected)


def _tiles(report: Mapping[str, Any]) -> None:
    orders, lost = report["orders"], report["lost"]
    with st.grid(4, min_column_width=150):
        found = report["detection"]
        first = _by(found[0]["by"]) if found else "no breaker, no verdict"
        tiles.plain("Time to detect", f"{found[0]['seconds']:g} s" if found else "not detected", first)
        tiles.plain("Orders hurt", f"{orders['hurt']:,}", f"of {orders['placed']:,} placed meanwhile")
        seconds = report["recovery"]["seconds"]
        tiles.plain(
            "Time to recover",
            "not recovered" if seconds is None else f"{seconds:g} s",
            "from the end of the faults until breakers were closed and queues drained",
        )
        tiles.plain("Lost", f"{lost['count']:,}", f"{lost['compared']:,} orders compared with stock and money")


def _detection(report: Mapping[str, Any]) -> None:
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Detection**")
        for one in report["detection"]:
            st.markdown(f"{_by(one['by'])} after {one['seconds']:g} s")
        for breaker, times in report["breakersOpened"].items():
            often = "once" if times == 1 else f"{times} times"
            st.caption(f"The {labels.sentence(breaker)} breaker opened {often} in that time")
        if not report["detection"]:
            st.caption("Nothing detected it. Either there was too little traffic, or the fault affects no order.")


def _orders(drill: Drill, report: Mapping[str, Any]) -> None:
    orders = report["orders"]
    counts = [
        ("Placed while the faults lasted", orders["placed"]),
        ("Refused", orders["refused"]),
        ("Flagged for a person", orders["flagged"]),
        *((f"Ended with {labels.plain(code)}", n) for code, n in sorted(orders["refusals"].items())),
        *((f"Now {labels.text(labels.ORDER, state).lower()}", n) for state, n in sorted(orders["statuses"].items())),
    ]
    rows = [{"Orders": label, "Count": f"{n:,}"} for label, n in counts]
    with st.container(border=True):
        st.markdown("**Orders**")
        st.table(rows, border="horizontal", hide_index=True, hide_header=True, alt="What became of the orders")
        if drill.began_at:
            end = drill.ended_at or drill.began_at + timedelta(seconds=drill.seconds)
            st.page_link(
                "orders.py", label="Show exactly these orders", icon=":material/arrow_forward:",
                query_params={"from": drill.began_at.isoformat(), "to": end.isoformat()},
            )  # fmt: skip


def _lost(report: Mapping[str, Any]) -> None:
    lost = report["lost"]
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Lost**")
        if not lost["count"]:
            st.markdown(":green[:material/check_circle:] Every order is settled or waits for a person; all adds up.")
        for difference in lost["differences"]:
            st.markdown(f":red[:material/balance:] {labels.plain(difference)}")
        for order_id in lost["unsettled"]:
            st.markdown(f":orange[:material/hourglass_top:] {labels.plain(order_id)} is not settled")


SECONDS = 60


def start(kind: str) -> None:
    overlay.show("Start a drill", _start, kind, new_key(), icon=":material/science:")


def _start(kind: str, key: str) -> None:
    offered = KINDS[kind]
    st.markdown(f"**{offered.title}**. {offered.what}")
    st.caption(f"What should happen: {offered.expected}")
    sandbox = console().sandbox
    st.number_input(
        "Length in seconds", min_value=sandbox.MIN_SECONDS, max_value=sandbox.MAX_SECONDS, value=SECONDS, step=5,
        key=f"seconds_{key}",
    )  # fmt: skip
    if level := offered.level:
        st.number_input(
            f"{level.label} ({level.unit})", min_value=level.low, max_value=level.high, value=level.usual,
            key=f"level_{key}",
        )  # fmt: skip
    st.caption(
        "It runs in the service: closing this page or a restart does not stop it, and what it changes is always put "
        "back. It can be stopped at any time and ends with a report."
    )
    Form(
        key,
        "Start the drill",
        lambda reason: actions.command(CommandKind.START_DRILL, kind, key, _arguments(reason, key)),
    ).refreshing()


def _arguments(reason: str, key: str) -> dict[str, object]:
    level = st.session_state.get(f"level_{key}")
    seconds = int(st.session_state[f"seconds_{key}"])
    return {"seconds": seconds, "level": None if level is None else float(level), "reason": reason}


MOVEMENTS = 15


def draw_stock(shown: SandboxStock | None, *, grey: bool) -> None:
    if shown is None:
        empty.no_data_yet("The Inventory Service has not answered yet; the worker reads it every few seconds.")
        return
    st.markdown("**Reference Inventory Service**")
    st.caption(f"As read by the worker {clock.both(shown.as_of, console().now())} · {_faults(shown.faults)}")
    names = {(item["productId"], item["variantId"]): str(item["name"]) for item in shown.items}
    left, right = st.columns(2)
    with left.container(border=True):
        st.markdown("**Stock**")
        rows = [
            {
                "Product": labels.plain(item["name"]),
                "On hand": f"{item['onHand']:,}",
                "Reserved": f"{item['reserved']:,}",
                "Available": f"{item['available']:,}",
                "Level": _level(item, grey=grey),
            }
            for item in shown.items
        ]
        st.table(rows, border="horizontal", hide_index=True, alt="Stock of the reference Inventory Service")
    with right.container(border=True, gap="xsmall"):
        st.markdown("**Ledger, newest first**")
        for number, entry in enumerate(shown.ledger[:MOVEMENTS]):
            _movement(entry, names, number)


def _level(item: Mapping[str, Any], *, grey: bool) -> str:
    level = {"OK": "in_stock", "IN_STOCK": "in_stock", "LOW": "low", "OUT": "out"}.get(str(item["level"]).upper())
    return labels.badge(labels.STOCK, level, grey=grey) if level else labels.plain(item["level"])


def _faults(faults: Mapping[str, Any]) -> str:
    on = [f"{labels.plain(name)} {value}" for name, value in faults.items() if value and name != "leaseMs"]
    return f"faults: {', '.join(on)}" if on else "no faults"


def _movement(entry: Mapping[str, Any], names: Mapping[tuple[str, str], str], number: int) -> None:
    name = names.get((str(entry["productId"]), str(entry["variantId"])), str(entry["productId"]))
    at = labels.plain(clock.said(entry["at"], console().now()))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"ledger_{number}"):
        st.markdown(f":small[{at}]", width="content")
        moved = _moved(entry)
        why = f" · {labels.plain(orders.shortened(str(entry['reason'])))}" if entry.get("reason") else ""
        kind = labels.plain(str(entry["kind"]).lower().replace("_", " "))
        st.caption(f"{kind} · {labels.plain(name)} · {moved}{why}", width="stretch")
        if entry.get("orderId"):
            orders.link(str(entry["orderId"]), is_short=True)


def _moved(entry: Mapping[str, Any]) -> str:
    parts = [
        f"{entry[field]:+,} {label}"
        for field, label in (("onHandDelta", "on hand"), ("reservedDelta", "reserved"))
        if entry[field]
    ]
    return ", ".join(parts)
