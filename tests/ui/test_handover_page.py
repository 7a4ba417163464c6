"""Hand-over: everything open in one place, what changed since this person last looked, and all of it as text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection, update
from streamlit.testing.v1 import AppTest

from services.domain.orders.model import OrderStatus
from state import audit, conservation, orders, reviews, tables
from state.audit import AuditEntry
from state.engine.database import Database
from tests.support import seed_alerts
from tests.support.pages import NOON, begin, press, text_of
from tests.support.seed_console import order

Show = Callable[..., AppTest]


def test_open_items_are_listed_by_section_with_their_end(busy: Database, show: Show) -> None:
    begin(busy)
    held = update(tables.reviews).where(tables.reviews.c.review_id == "REV-2")
    busy.write_now(lambda c: c.execute(held.values(owner="ben", claimed_until=NOON + timedelta(minutes=4))))
    text = text_of(show("handover.py"))
    assert "Confirmation failed of ORD-1006, claimed by ben" in text
    assert "ends in 4 min" in text
    assert "Release forced closed by ben: trial of the new version" in text
    assert "11 x inventory.confirmed: UnknownOrder" in text
    assert "Reservation leaked of ORD-" in text
    assert "latency for 60 s by ben: running" in text
    assert "Failed releases** :orange-badge[3]" in text


def test_a_claim_that_has_ended_is_not_handed_over(busy: Database, show: Show) -> None:
    held = update(tables.reviews).where(tables.reviews.c.review_id == "REV-2")
    busy.write_now(lambda c: c.execute(held.values(owner="ben", claimed_until=NOON)))
    assert "No case is claimed." in text_of(show("handover.py"))


def test_each_actor_sees_the_changes_since_their_own_last_visit(busy: Database, show: Show) -> None:
    busy.write_now(lambda c: audit.note_visit(c, "console", NOON - timedelta(minutes=12)))
    text = text_of(show("handover.py"))
    assert "Since you last looked" in text
    assert "olga@example.com** · Cancelled the order" in text
    assert "11:57:00 · done: customer called" in text
    assert text.count("Cancelled the order") == 1
    test = show("handover.py")
    test.text_input(key="display_name").set_value("ada").run()
    assert "The last eight hours" in text_of(test)


def test_marking_as_seen_removes_the_changes_for_that_actor_only(busy: Database, show: Show) -> None:
    test = press(show("handover.py"), "mark_seen")
    assert "Nothing changed." in text_of(test)
    later = AuditEntry(
        NOON + timedelta(seconds=1), "ada", "APPROVE", "review:REV-4", "ORD-1004", "checked", None, None, "done", None
    )
    busy.write_now(lambda c: audit.add(c, later))
    text = text_of(test.run())
    assert "ada** · Approved a case" in text
    assert "12:00:01 · done: checked" in text
    assert "Cancelled the order" not in text


def test_marking_as_seen_is_audited_and_not_listed_as_a_change(busy: Database, show: Show) -> None:
    press(press(show("handover.py"), "mark_seen"), "mark_seen")
    second, first = [entry for entry in busy.read_now(audit.page) if entry.action == "MARK_AS_SEEN"]
    assert first.actor == "console"
    assert first.target == "handover:console"
    assert first.before == {"seenUpTo": None}
    assert first.after == second.before == {"seenUpTo": "2026-11-22T12:00:00.000Z"}
    assert first.result == "done"
    assert "Took note" not in text_of(show("handover.py"))


def test_it_can_be_copied_as_text(busy: Database, show: Show) -> None:
    (block,) = [code.value for code in show("handover.py").code]
    assert block.startswith("# Hand-over, 22 Nov 2026 12:00 UTC\n")
    assert (
        "## Breaker overrides (1)\n- Release forced closed by ben: trial of the new version (until 12:09 UTC)" in block
    )
    quiet = block.partition("## Nothing open\n")[2]
    assert "- No drill is under way.\n" in quiet
    assert "- 11:57 olga@example.com: Cancelled the order, order:ORD-1007, done (customer called)" in block


def test_each_action_links_to_its_target(busy: Database, show: Show) -> None:
    links = {link.proto.label: link.proto for link in show("handover.py").get("page_link")}
    assert links[":blue[Order ORD-1007]"].query_string == "order=ORD-1007"


def test_each_open_item_links_to_itself(busy: Database, show: Show) -> None:
    begin(busy)
    links = {link.proto.query_string for link in show("handover.py").get("page_link")}
    assert {
        "reason=Payment+unknown", "case=REV-2", "order=ORD-3000", "operation=OP-1", "section=Silences",
        "view=Dead+letters", "drill=DRL-2",
    } <= links  # fmt: skip


def test_alerts_are_listed_with_severity_breaker_and_acknowledgement(busy: Database, show: Show) -> None:
    test = show("handover.py")
    text = text_of(test)
    first, second = text.index("Critical: InventoryReservationSuccessLow"), text.index("Warning: HostDiskFull")
    assert first < text.index("Critical: InventoryCircuitBreakerOpen (Reservation)") < second
    assert "Acknowledged by olga" in text
    dead_letters = next(line for line in text.splitlines() if "DeadLettersPresent" in line)
    assert "Silenced." in dead_letters
    links = [link.proto.query_string for link in test.get("page_link")]
    assert f"alert={seed_alerts.success_low(NOON).alert_id}" in links


def test_what_was_never_compared_is_not_shown_as_balanced(database: Database, show: Show) -> None:
    unknown = ":gray[:material/hourglass_empty:] :gray[Differences:] :small[Nothing has been compared yet.]"
    assert unknown in text_of(show("handover.py"))
    database.write_now(lambda c: conservation.advance(c, 0, 1))
    assert "Stock and money add up." in text_of(show("handover.py"))


def test_a_quiet_shift_reports_it(database: Database, show: Show) -> None:
    text = text_of(show("handover.py"))
    for line in ("No case is open.", "No release has failed.", "No event is waiting for a person.", "Nothing changed."):
        assert line in text


def test_cases_opened_since_the_last_visit_are_counted(busy: Database, show: Show) -> None:
    def fill(connection: Connection) -> None:
        audit.note_visit(connection, "console", NOON - timedelta(minutes=1))
        old, new = NOON - timedelta(hours=9), NOON - timedelta(seconds=30)
        for number in range(reviews.MAX_PAGE):
            orders.add(connection, order(f"OLD-{number}", OrderStatus.PLACED, old), "h")
            reviews.open_case(connection, f"OLD-{number}", f"OLD-{number}", "CONFIRMATION_TIMEOUT", "x", old)
        reviews.open_case(connection, "NEW", "OLD-0", "AVAILABILITY_UNVERIFIED", "x", new)

    busy.write_now(fill)
    assert "1 of the open cases came in this time" in text_of(show("handover.py"))
