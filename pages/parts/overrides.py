"""Overrides of breakers: the banner on every page, and the dialog that starts one."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from pages.parts import access, actions, labels, overlay
from pages.parts.dialogs import Form
from pages.parts.widgets import clock
from services.breakers.overrides import FORCED
from services.console.facade import console, new_key
from services.domain.commands import CommandKind
from state.breakers import BreakerOverride


def banner() -> None:
    """One line per active override, with a button that ends it."""
    now = console().now()
    running = (console().status.overrides().value or {}).values()
    overrides = sorted((one for one in running if one.expires_at > now), key=lambda one: one.breaker)
    if not overrides:
        return
    asked = console().status.breaker_commands(tuple(override.breaker for override in overrides)).value or {}
    for override in overrides:
        command = asked.get(override.breaker)
        is_ending = command is not None and command.kind == "end_override" and actions.is_waiting(command)
        hint = "The breaker returns to its automatic state."
        with st.container(
            border=True, key=f"override_banner_{override.breaker}", horizontal=True, vertical_alignment="center"
        ):
            st.markdown(_sentence(override), width="stretch")
            access.button(
                "Ending" if is_ending else "End now",
                f"end_override_{override.breaker}",
                icon="undo",
                refused=hint if is_ending else None,
                hint=hint,
                on_click=actions.store_once,
                args=(CommandKind.END_OVERRIDE, override.breaker, int(override.created_at.timestamp() * 1000), None),
            )


def _sentence(override: BreakerOverride) -> str:
    now = console().now()
    name = labels.breaker(override.breaker)
    state = labels.badge(labels.BREAKER, override.state, grey=bool(console().status.live().problem))
    ends = f"ends by itself in {clock.span(override.expires_at - now)} ({clock.at(override.expires_at, now)})"
    return f"{state} **{name}** breaker by {labels.plain(override.actor)}: {labels.plain(override.reason)} · {ends}"


LENGTHS = {
    "5 min": timedelta(minutes=5),
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "4 h": timedelta(hours=4),
    "24 h": timedelta(hours=24),
}
NO_STATE = "Choose a state: forced open spares the Inventory Service, forced closed sends every call."
MEANS = {
    "forced_open": "No call is sent: standard orders are refused, important ones and reservations wait.",
    "forced_closed": "Every call is sent, however many fail: the Inventory Service is not spared.",
}


def open_dialog(name: str) -> None:
    overlay.show("Override breaker", _dialog, name, new_key(), icon=":material/front_hand:")


def _arguments(reason: str, key: str) -> dict[str, object]:
    milliseconds = LENGTHS[st.session_state[f"length_{key}"]] // timedelta(milliseconds=1)
    return {"state": st.session_state[f"state_{key}"], "reason": reason, "expiresIn": milliseconds}


def _dialog(name: str, key: str) -> None:
    st.markdown(f"**{labels.breaker(name)}** on every replica. The override ends by itself.")
    Form(
        key,
        "Start override",
        lambda reason: actions.command(CommandKind.START_OVERRIDE, name, key, _arguments(reason, key)),
        inputs=lambda: _inputs(key),
        missing=lambda: None if st.session_state.get(f"state_{key}") else NO_STATE,
        why_note="every page shows it while the override is active",
    ).refreshing()


def _inputs(key: str) -> None:
    st.radio(
        "State",
        FORCED,
        index=None,
        key=f"state_{key}",
        format_func=lambda state: labels.word(labels.BREAKER, state).text,
        captions=[MEANS[state] for state in FORCED],
    )
    st.segmented_control("For", list(LENGTHS), key=f"length_{key}", default="15 min", required=True)
