"""The life of an order, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import streamlit as st

from pages.parts.widgets import clock
from pages.parts.widgets import expander
from pages.parts.widgets import payloads
from pages.parts.facts import details, payload
from pages.parts.labels import TIMELINE, plain, said, text, word
from services.console.cache import Reading
from services.console.facade import console
from services.domain.orders.lifecycle import TimelineEntry

BAD = ("failed", "no answer", "rejected", "timeout", "refused", "unavailable", "declined", "throttled")


def draw(entries: Sequence[TimelineEntry], reading: Reading[Any]) -> None:
    """Oldest first: icon and word of the kind, when, what happened and its facts."""
    now = console().now()
    at_once: Counter[int] = Counter()
    for entry in entries:
        instant = int(entry.at.timestamp() * 1_000_000)
        at_once[instant] += 1
        name = f"step-{instant}-{at_once[instant]}"
        with st.container(horizontal=True, vertical_alignment="top", gap="small"):
            at = f":small[:gray[{clock.at(entry.at, now)}]]"
            st.markdown(f"{_kind(entry, grey=bool(reading.problem))}  \n{at}", width=110)
            with st.container(width="stretch", gap="xxsmall"):
                st.markdown(_text(entry, now))
                if parts := payload(entry.details):
                    expander.part("Payload", name, partial(payloads.parts, parts, name))


def _kind(entry: TimelineEntry, *, grey: bool) -> str:
    kind = word(TIMELINE, entry.kind)
    hurt = any(sign in entry.title.lower() for sign in BAD)
    color = "gray" if grey else "red" if hurt else kind.color
    return f":{color}-badge[:material/{'error' if hurt else kind.icon}: {text(TIMELINE, entry.kind)}]"


def _text(entry: TimelineEntry, now: datetime) -> str:
    who = f" · {plain(entry.actor)}" if entry.actor else ""
    facts = details(entry.details, now)
    return f"{plain(said(entry.title))}{who}" + (f"  \n:small[:gray[{facts}]]" if facts else "")
