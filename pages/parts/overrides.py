"""Overrides of breakers: the banner on every page, and the dialog that starts one."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from pages.parts import access, actions, labels, overlay
from pages.parts.widgets import clock
from services.breakers.overrides import FORCED
from services.console.facade import console, new_key, same_sight_key
from state.breakers import BreakerOverride


def banner(block: str | None) -> None:
    """One line per active override; ``block`` is the reason why commands cannot be stored now."""
    running = console().overrides.running().value or {}
    overrides = sorted(
        (override for override in running.values() if override.expires_at > console().now()),
        key=lambda one: one.breaker,
    )
    if not overrides:
        return
    asked = console().overrides.asked(tuple(override.breaker for override in overrides)).value or {}
    for override in overrides:
        command = asked.get(override.breaker)
        is_ending = command is not None and command.kind == "end_override" and actions.is_waiting(command)
        with st.container(
            border=True, key=f"override_banner_{override.breaker}", horizontal=True, vertical_alignment="center"
        ):
            st.markdown(_sentence(override), width="stretch")
            st.button(
                "Ending" if is_ending else "End now",
                key=f"end_override_{override.breaker}",
                icon=":material/undo:",
                disabled=is_ending or block is not None,
                help=block or "The breaker returns to its automatic state.",
                on_click=_end,
                args=(
                    override,
                    same_sight_key("end_override", override.breaker, int(override.created_at.timestamp() * 1000), None),
                ),
            )


def _sentence(override: BreakerOverride) -> str:
    now = console().now()
    name = labels.breaker(override.breaker)
    state = labels.badge(labels.BREAKER, override.state, grey=bool(console().status.live().problem))
    ends = f"ends by itself in {clock.span(override.expires_at - now)} ({clock.at(override.expires_at, now)})"
    return f"{state} **{name}** breaker by {labels.plain(override.actor)}: {labels.plain(override.reason)} · {ends}"


def _end(override: BreakerOverride, key: str) -> None:
    actions.store(lambda actor: console().overrides.end(override, actor=actor, command_id=key))


MAX_REASON = 500
LENGTHS = {
    "5 min": timedelta(minutes=5),
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "4 h": timedelta(hours=4),
    "24 h": timedelta(hours=24),
}
MEANS = {
    "forced_open": "No call is sent: standard orders are refused, important ones and reservations wait.",
    "forced_closed": "Every call is sent, however many fail: the Inventory Service is not spared.",
}


def open_dialog(name: str) -> None:
    overlay.show("Override breaker", _dialog, name, new_key(), icon=":material/front_hand:")


def _dialog(name: str, key: str) -> None:
    called = labels.breaker(name)
    st.markdown(f"**{called}** on every replica. The override ends by itself.")
    overlay.refreshing(_form, name, key)


def _form(name: str, key: str) -> None:
    block = access.write_block()
    with st.form(f"form_{key}", border=False):
        st.radio(
            "State",
            FORCED,
            index=None,
            key=f"state_{key}",
            format_func=lambda state: labels.word(labels.BREAKER, state).text,
            captions=[MEANS[state] for state in FORCED],
        )
        st.segmented_control("For", list(LENGTHS), key=f"length_{key}", default="15 min", required=True)
        st.text_area("Reason", key=f"note_{key}", max_chars=MAX_REASON, required=True)
        clicked = st.form_submit_button(
            "Start override",
            type="primary",
            key=f"do_{key}",
            disabled=block is not None,
            on_click=_submit,
            args=(name, key),
        )
    if complaint := st.session_state.get(f"complaint_{key}") or block:
        st.error(complaint, icon=":material/error:")
    elif clicked:
        overlay.close()
        st.rerun()
    elif remark := access.write_note():
        st.caption(f":material/info: {remark}")


def _submit(name: str, key: str) -> None:
    reason = str(st.session_state.get(f"note_{key}") or "").strip()
    state = st.session_state.get(f"state_{key}")
    length = LENGTHS[str(st.session_state.get(f"length_{key}") or "15 min")]
    complaint = None
    if state is None:
        complaint = "Choose a state: forced open spares the Inventory Service, forced closed sends every call."
    elif not reason:
        complaint = "A reason is needed; every page shows it while the override is active."
    elif not actions.store(
        lambda actor: console().overrides.start(name, state, reason[:MAX_REASON], length, actor=actor, command_id=key)
    ):
        complaint = "The database is away; nothing was stored."
    st.session_state[f"complaint_{key}"] = complaint
