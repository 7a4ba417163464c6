"""Claims on review cases: the owner, and the buttons to claim, take over and hand back a case."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, labels
from pages.parts.widgets import clock
from services.console.facade import console, same_sight_key
from services.console.reviews import ReviewCase


def owner(case: ReviewCase) -> str | None:
    """The actor whose claim on the case is active; None without one."""
    return case.review.owner_at(console().now())


def said(case: ReviewCase) -> str:
    """The owner and the end of the claim as text; empty when the case is not claimed."""
    name = owner(case)
    if name is None or case.review.claimed_until is None:
        return ""
    who = "you" if name == access.actor() else labels.plain(name)
    return f":material/person_pin: {who} until {clock.at(case.review.claimed_until, console().now())}"


def why_not_resolve(case: ReviewCase) -> str | None:
    """Why the claim of another actor blocks actions on the case; None if it does not."""
    name = owner(case)
    if name in (None, access.actor()) or access.is_admin():
        return None
    now = console().now()
    return f"{name} works on this case until {clock.at(case.review.claimed_until or now, now)}."


def buttons(case: ReviewCase) -> None:
    """Draw the button to claim or to hand back the case. Only admins can take over the claim of another actor."""
    waiting = "A claim is under way." if actions.is_waiting(case.claim) else None
    reason = access.write_block() or waiting
    review_id = case.review.review_id
    name = owner(case)
    if name == access.actor():
        st.button(
            "Hand back",
            key=f"release_claim_{review_id}",
            icon=":material/person_remove:",
            disabled=reason is not None,
            help=reason or "Others may take the case then. A claim also ends by itself.",
            on_click=_hand_back,
            args=(review_id, key("release_claim", case)),
        )
        return
    taken = None if name is None or access.is_admin() else why_not_resolve(case)
    why_not = reason or taken
    st.button(
        "Claim" if name is None else "Take over",
        key=f"claim_{review_id}",
        icon=":material/person_pin:",
        disabled=why_not is not None,
        help=why_not or "The case is yours for 15 minutes, and for longer while you act on it. Key: M",
        shortcut="M" if name is None else None,
        on_click=claim,
        args=(review_id, key("claim_review", case), name is not None),
    )


def claim(review_id: str, command_id: str, take_over: bool = False) -> None:
    """Callback: store the command to claim a case."""
    actions.store(
        lambda actor: console().reviews.claim(review_id, actor=actor, command_id=command_id, take_over=take_over)
    )


def _hand_back(review_id: str, command_id: str) -> None:
    actions.store(lambda actor: console().reviews.release_claim(review_id, actor=actor, command_id=command_id))


def key(kind: str, case: ReviewCase) -> str:
    """The idempotency key of a command on a claim, derived from the state of the case that the actor sees."""
    # The key contains the owner, so that the same button can store a new claim after a claim has ended.
    sight = f"{case.review.review_id}/{access.actor()}/{owner(case)}/{case.review.claimed_until}"
    return same_sight_key(kind, sight, case.review.version, case.claim)
