"""Audit: every row says who, what, when, why, before, after and how it ended; filters stand in the address."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from streamlit.testing.v1 import AppTest

from services import console as facade
from services.console.audit import AuditFilter
from state import audit
from state.audit import AuditEntry
from state.database import Database
from tests.ui.conftest import NOON, press, said

Show = Callable[..., AppTest]


def test_a_row_has_person_action_reason_change_result_and_a_link(busy: Database, show: Show) -> None:
    test = show("audit.py")
    text = said(test)
    assert "32 actions" in text
    assert "Cancelled the order** · olga@example.com" in text
    assert "customer called · status: Placed to Cancelled · under cmd-0" in text
    assert "Refused] :small[INVALID_STATE]" in text
    assert "Order ORD-1007" in text


def test_filters_come_from_the_address_and_combine(busy: Database, show: Show) -> None:
    assert "15 actions match" in said(show("audit.py", who="ben"))
    assert "8 actions match" in said(show("audit.py", did="DISCARD_EVENT"))
    assert "0 actions match" in said(show("audit.py", who="ben", did="DISCARD_EVENT"))
    assert "1 action matches" in said(show("audit.py", target="cmd-4"))
    assert "9 actions match" in said(show("audit.py", target="ORD-1007"))
    assert "8 actions match" in said(show("audit.py", target="dead-letter:DL-211"))
    assert "8 actions match" in said(show("audit.py", target="DL-211"))


def test_nothing_matches_is_told_from_nothing_was_ever_done(busy: Database, database: Database, show: Show) -> None:
    test = show("audit.py", target="nobody")
    assert "No action matches." in said(test)
    press(test, "clear_filters")
    assert "32 actions" in said(test)


def test_nobody_has_done_anything(database: Database, show: Show) -> None:
    assert "Nobody has done anything by hand yet." in said(show("audit.py"))


def test_pages_follow_each_other_without_loss(busy: Database, show: Show) -> None:
    test = show("audit.py")
    assert "under cmd-25" not in said(test)
    press(test, "audit_before_step")
    assert "under cmd-25" in said(test)
    press(test, "audit_after_step")
    assert "under cmd-0" in said(test)


def test_the_file_has_the_filtered_rows_and_no_formulas(busy: Database) -> None:
    entry = AuditEntry(
        NOON + timedelta(seconds=1), "=cmd()", "APPROVE", "review:1", None, "@x", {"a": 1}, None, "done", None
    )
    busy.write_now(lambda connection: audit.add(connection, entry))
    lines = facade.console().audit.csv(AuditFilter(action="APPROVE")).splitlines()
    assert lines == [
        "at,actor,action,target,orderId,reason,before,after,result,correlationId",
        '2026-11-22T12:00:01.000Z,\'=cmd(),APPROVE,review:1,,\'@x,"{""a"":1}",,done,',
    ]
    assert len(facade.console().audit.csv(AuditFilter()).splitlines()) == 1 + 33
