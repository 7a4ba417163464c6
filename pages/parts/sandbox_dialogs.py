"""The dialog in which a drill is set up."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import overlay
from pages.parts.dialogs import form
from services.console.access import Command
from services.console.facade import console, new_key
from services.console.sandbox import KINDS

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
    form(
        key,
        note="Reason",
        required=True,
        button="Start the drill",
        store=lambda reason: [partial(_store, kind, reason, key)],
    )


def _store(kind: str, reason: str, key: str, actor: str) -> Command:
    level = st.session_state.get(f"level_{key}")
    return console().sandbox.start(
        kind,
        seconds=int(st.session_state[f"seconds_{key}"]),
        level=None if level is None else float(level),
        reason=reason,
        actor=actor,
        command_id=key,
    )
