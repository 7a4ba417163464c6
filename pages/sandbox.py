"""The sandbox: drills, demo traffic, and the stock of the reference Inventory Service."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, address, frame, labels, sandbox
from pages.parts.widgets import clock, empty
from services.console.facade import console, same_sight_key
from services.console.sandbox import KINDS, Phase, SandboxPage, shown_kind
from services.domain.commands import CommandKind
from state.commands import Command
from state.sandbox import Drill

STOPPABLE = (Phase.WAITING, Phase.APPLYING, Phase.RUNNING)


def everything() -> None:
    if not console().status.is_sandbox:
        st.info("A real Inventory Service is in use; drills are for the sandbox.", icon=":material/science:")
        return
    if asked := address.get("drill")[:128]:
        _one(asked)
        return
    reading = console().sandbox.page()
    if (page := empty.value_of(reading)) is None:
        return
    frame.as_of(reading)
    if page.active:
        last = next((one for one in page.commands if one.target_id == page.active.drill_id), None)
        _active(page.active, last, grey=bool(reading.problem))
    _offers(page)
    for command in page.commands[:2]:
        actions.draw(command)
    left, right = st.columns([3, 2])
    with left:
        _past(page)
    with right:
        _traffic(page)
    sandbox.draw_stock(page.stock, grey=bool(reading.problem))


def _one(drill_id: str) -> None:
    """One drill with its report."""
    st.button(
        "Every drill",
        key="every_drill",
        type="tertiary",
        icon=":material/arrow_back:",
        on_click=address.drop,
        args=("drill",),
    )
    reading = console().sandbox.drill(drill_id)
    if reading.value is None:
        frame.missing(reading, "No such drill is known; reports are kept for a year.")
    else:
        frame.as_of(reading)
        sandbox.draw(reading.value)


def _active(drill: Drill, last: Command | None, *, grey: bool) -> None:
    """The active drill; ``last`` is the last command on it."""
    now, kind = console().now(), shown_kind(drill.kind)
    with st.container(border=True, key="active_drill"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(labels.badge(labels.DRILL, drill.phase, grey=grey), width="content")
            st.markdown(
                f"**{labels.plain(kind.title)}** · {drill.seconds} s · by {labels.plain(drill.actor)}", width="content"
            )
            st.caption(_progress(drill), width="stretch")
            over = None if drill.phase in STOPPABLE else "The faults are over; the report comes when all has recovered."
            stopped = "It was stopped." if drill.stopped_by or actions.is_waiting(last) else None
            access.button(
                "End the faults now",
                "stop_drill",
                icon="stop_circle",
                refused=over or stopped,
                hint="Everything is put back as it was; the report follows.",
                on_click=actions.store_once,
                args=(CommandKind.STOP_DRILL, drill.drill_id, 0, last),
            )
        st.caption(f"{kind.what} {kind.expected}")
        if drill.began_at and drill.phase == Phase.RUNNING:
            done = (now - drill.began_at).total_seconds() / drill.seconds
            st.progress(min(max(done, 0.0), 1.0))
        sandbox.noticed(drill)


def _progress(drill: Drill) -> str:
    now = console().now()
    if drill.phase == Phase.RUNNING and drill.began_at:
        left = drill.seconds - (now - drill.began_at).total_seconds()
        return f"{max(left, 0):.0f} s left"
    if drill.ended_at:
        return f"the faults ended {clock.ago(drill.ended_at, now)}"
    return f"requested {clock.ago(drill.created_at, now)}"


def _offers(page: SandboxPage) -> None:
    refused = "A drill is under way; there is one at a time." if page.active else None
    if page.started_rate == 0:
        st.warning(
            "The demo traffic is off (SANDBOX_TRAFFIC=0): unless you place orders yourself, a drill affects no order "
            "and proves nothing.",
            icon=":material/traffic:",
        )
    with st.grid(3, min_column_width=250):
        for name, kind in KINDS.items():
            with st.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f"**{kind.title}**")
                st.caption(f"{kind.what} {kind.expected}")
                if access.button("Set up", f"drill_{name}", icon="science", refused=refused):
                    sandbox.start(name)


def _past(page: SandboxPage) -> None:
    st.markdown("**Past drills**")
    if not page.past:
        empty.no_data_yet("No drill has been run yet.")
        return
    with st.container(border=True, gap="xsmall"):
        for drill in page.past:
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"past_{drill.drill_id}"):
                st.button(
                    labels.plain(shown_kind(drill.kind).title),
                    key=f"open_{drill.drill_id}",
                    type="tertiary",
                    icon=":material/description:",
                    help="Open the report",
                    on_click=address.put,
                    args=("drill", drill.drill_id),
                )
                st.markdown(sandbox.verdict(drill), width="content")
                st.caption(sandbox.summary(drill), width="stretch")
                st.caption(clock.ago(drill.created_at, console().now()), width="content")


def _traffic(page: SandboxPage) -> None:
    st.markdown("**Demo traffic**")
    rate = page.wished_rate if page.wished_rate is not None else page.started_rate
    block = access.write_block()
    off = "The traffic process was not started (SANDBOX_TRAFFIC=0)." if page.started_rate == 0 else None
    with st.container(border=True), st.form("traffic", border=False):
        asked = st.number_input(
            "Orders a second", min_value=0.0, max_value=console().sandbox.MAX_RATE, step=0.5, key="traffic_rate",
            value=rate if rate is not None else 1.0,
        )  # fmt: skip
        st.form_submit_button(
            "Set", key="set_traffic", disabled=bool(block or off), help=block or off, on_click=_set_traffic,
            args=(page.commands[0].command_id if page.commands else "-",),
        )  # fmt: skip
        now = f"{rate:g} a second" if rate is not None else "unknown"
        st.caption(f"Asked for now: {now}. {'' if asked == rate else 'Press Set to change it.'}")


def _set_traffic(last: str) -> None:
    rate = float(st.session_state["traffic_rate"])
    key = same_sight_key("set_traffic", f"{rate:g}/{last}", 0, None)
    actions.store(actions.command(CommandKind.SET_TRAFFIC, "traffic", key, {"ordersPerSecond": rate}))


frame.page("Sandbox", everything)
