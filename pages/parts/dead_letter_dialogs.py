"""The dialog that gives up one dead letter; those of a group are bulk operations."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import labels, overlay
from pages.parts.dialogs import form
from services.console.access import Command
from services.console.events import DeadLetter
from services.console.facade import console, new_key


def discard(dead_letter: DeadLetter) -> None:
    overlay.show("Discard event", _discard, dead_letter, new_key(), icon=":material/delete:")


def _discard(dead_letter: DeadLetter, key: str) -> None:
    st.markdown(
        f"**{labels.plain(dead_letter.subject)}** will never take effect. This cannot be undone; the letter stays "
        "readable for 90 days."
    )
    form(
        key,
        note="Reason",
        required=True,
        button="Discard",
        store=lambda note: [partial(_store_discard, dead_letter, note, key)],
    )


def _store_discard(dead_letter: DeadLetter, note: str, key: str, actor: str) -> Command:
    return console().events.discard(dead_letter, note, actor=actor, command_id=key)
