"""The banner of every page while a breaker is forced: which one, by whom, why, until when, and a button to end it."""

from __future__ import annotations

import streamlit as st

from pages.parts import actions, clock, labels
from services.console import console, same_sight_key
from services.console.overrides import Loan


def banner(block: str | None) -> None:
    """One line per loan that runs; ``block`` is why nothing can be asked for right now."""
    running = console().loans.running().value or {}
    loans = sorted(
        (loan for loan in running.values() if loan.expires_at > console().now()), key=lambda one: one.breaker
    )
    if not loans:
        return
    asked = console().loans.asked(tuple(loan.breaker for loan in loans)).value or {}
    for loan in loans:
        command = asked.get(loan.breaker)
        is_ending = command is not None and command.kind == "end_override" and actions.is_waiting(command)
        with st.container(border=True, key=f"loan_{loan.breaker}", horizontal=True, vertical_alignment="center"):
            st.markdown(_sentence(loan), width="stretch")
            st.button(
                "Ending" if is_ending else "End now",
                key=f"end_loan_{loan.breaker}",
                icon=":material/undo:",
                disabled=is_ending or block is not None,
                help=block or "The breaker goes on as its own window tells it.",
                on_click=_end,
                args=(
                    loan,
                    same_sight_key("end_override", loan.breaker, int(loan.created_at.timestamp() * 1000), None),
                ),
            )


def _sentence(loan: Loan) -> str:
    now = console().now()
    name = labels.breaker(loan.breaker)
    state = labels.badge(labels.BREAKER, loan.state, grey=bool(console().live().problem))
    ends = f"ends by itself in {clock.span(loan.expires_at - now)} ({clock.at(loan.expires_at, now)})"
    return f"{state} **{name}** breaker by {labels.plain(loan.actor)}: {labels.plain(loan.reason)} · {ends}"


def _end(loan: Loan, key: str) -> None:
    actions.ask(lambda actor: console().loans.end(loan, actor=actor, command_id=key))
