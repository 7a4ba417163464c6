"""Audit: every row says who, what, when, why, before, after and how it ended; filters stand in the address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from services.console import facade
from state import audit, tables
from state.audit import AuditEntry, AuditFilter
from state.engine.database import Database
from tests.support.pages import NOON, press, text_of

Show = Callable[..., AppTest]


def rows(test: AppTest) -> list[int]:
    """The numbers of the rows on the page, from the top."""

    def below(block: Any) -> Iterator[int]:
        row = re.search(r"-audit_(\d+)$", getattr(block.proto, "id", ""))
        if row:
            yield int(row.group(1))
        for child in getattr(block, "children", {}).values():
            yield from below(child)

    return list(below(test.main))


def test_a_row_has_person_action_reason_change_result_and_a_link(busy: Database, show: Show) -> None:
    test = show("audit.py")
    text = text_of(test)
    assert "32 actions" in text
    assert "Cancelled the order** · olga@example.com" in text
    assert "customer called · status: Placed to Cancelled · under cmd-0" in text
    assert "Refused] :small[INVALID_STATE]" in text
    assert "Order ORD-1007" in text


def test_the_changes_of_an_action_are_shown_by_labels(busy: Database, show: Show) -> None:
    before = {"drill": "none", "faults": {"outage": False, "latencyMs": 0}, "seenUpTo": None, "left": []}
    after = {"drill": "latency", "faults": {"outage": True, "latencyMs": 1500}, "seenUpTo": "2026-11-22T11:30:00.000Z"}
    entry = AuditEntry(
        NOON, "ada", "MARK_AS_SEEN", "handover:ada", None, None, before, after | {"left": ["PLACED", "x"]}, "done", None
    )
    busy.write_now(lambda c: audit.add(c, entry))
    text = text_of(show("audit.py", did="MARK_AS_SEEN")).replace("\\", "")
    assert "Took note of the hand-over** · ada" in text
    assert "faults: outage no, latency 0 ms to outage yes, latency 1,500 ms · " in text
    assert "seen up to: nothing to 11:30:00 · left: nothing to Placed, x" in text
    assert "{" not in text


def test_filters_come_from_the_address_and_combine(busy: Database, show: Show) -> None:
    assert "15 actions match" in text_of(show("audit.py", who="ben"))
    assert "8 actions match" in text_of(show("audit.py", did="DISCARD_EVENT"))
    assert "0 actions match" in text_of(show("audit.py", who="ben", did="DISCARD_EVENT"))
    assert "1 action matches" in text_of(show("audit.py", target="cmd-4"))
    assert "9 actions match" in text_of(show("audit.py", target="ORD-1007"))
    assert "8 actions match" in text_of(show("audit.py", target="dead-letter:DL-211"))
    assert "8 actions match" in text_of(show("audit.py", target="DL-211"))


def test_no_match_and_an_empty_log_have_different_texts(busy: Database, show: Show) -> None:
    test = show("audit.py", target="nobody")
    assert "No action matches." in text_of(test)
    press(test, "clear_filters")
    assert "32 actions" in text_of(test)


def test_nobody_has_done_anything(database: Database, show: Show) -> None:
    assert "Nobody has done anything by hand yet." in text_of(show("audit.py"))


def test_pages_follow_each_other_without_loss(busy: Database, show: Show) -> None:
    test = show("audit.py")
    newest = rows(test)
    oldest = rows(press(test, "audit_before_step"))
    stored = busy.read_now(lambda c: c.scalars(select(tables.audit_log.c.id)).all())
    assert len(newest) == 20
    assert sorted(newest + oldest) == sorted(stored)
    assert len(stored) == 32
    assert test.button(key="audit_before_step").disabled
    assert rows(press(test, "audit_after_step")) == newest


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
