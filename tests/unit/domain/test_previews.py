"""The preview of a bulk job: agreement of its items with the inventory status, and the freeze."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.bulk import BulkAction
from services.domain.conservation import StockState
from services.domain.reconciliation import (
    NO_ANSWER,
    PATIENCE,
    Agreement,
    ComparedItem,
    FrozenSelection,
    LookupResult,
    compare,
    freeze,
    preview_summary,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOTHING = timedelta(0)
REFUSED = ComparedItem(Agreement.REFUSED, LookupResult(StockState.RESERVED), "still held")
AGREES = ComparedItem(Agreement.AGREES, LookupResult(StockState.FREE))
standings = st.sampled_from([REFUSED, AGREES, ComparedItem(Agreement.UNANSWERED), ComparedItem(Agreement.LATER)])
previews = st.dictionaries(st.text(min_size=1, max_size=4), standings, max_size=30)


@pytest.mark.parametrize(
    ("theirs", "agreement"),
    [
        (None, Agreement.UNANSWERED),
        (LookupResult(None, problem=NO_ANSWER), Agreement.UNANSWERED),
        (LookupResult(StockState.FREE), Agreement.AGREES),
        (LookupResult(StockState.RESERVED), Agreement.REFUSED),
        (LookupResult(StockState.DEDUCTED), Agreement.REFUSED),
    ],
)
def test_an_item_agrees_is_refused_or_was_not_answered(theirs: LookupResult | None, agreement: Agreement) -> None:
    one = compare(BulkAction.MARK_RELEASED, None, "X", "CANCELLED", theirs)
    assert one.agreement == agreement
    assert (one.why is not None) == (agreement == Agreement.REFUSED)


def test_nothing_is_frozen_while_answers_are_still_to_come_and_patience_ends() -> None:
    items = {"a": AGREES}
    assert freeze(items, NOON, is_asking=True, waited=PATIENCE - timedelta(seconds=1)) is None
    assert freeze(items, NOON, is_asking=True, waited=PATIENCE) == FrozenSelection(NOON, {})
    assert freeze(items, NOON, is_asking=False, waited=NOTHING) == FrozenSelection(NOON, {})


@given(previews)
def test_exactly_what_is_refused_is_left_out_with_its_reason(items: dict[str, ComparedItem]) -> None:
    frozen = freeze(items, NOON, is_asking=False, waited=NOTHING)
    assert frozen is not None
    assert dict(frozen.left_out) == {item_id: "still held" for item_id, one in items.items() if one is REFUSED}


@given(st.lists(st.sampled_from(list(Agreement)), max_size=60))
def test_the_summary_counts_every_item_once(found: list[Agreement]) -> None:
    numbers = [int(word.strip(";,")) for word in preview_summary(found).split() if word.strip(";,").isdigit()]
    # The limit itself is named only beside what lies beyond it.
    counted = numbers[:4]
    assert sum(counted) == len(found)
    assert ("beyond" in preview_summary(found)) == (Agreement.LATER in found)


def test_the_summary_reads_as_a_sentence() -> None:
    found = [Agreement.AGREES] * 27 + [Agreement.REFUSED] * 2 + [Agreement.UNANSWERED] + [Agreement.LATER] * 3
    assert preview_summary(found) == (
        "agreed: 27; would be refused: 2; not answered: 1; 3 beyond the first 50 are compared when their turn comes"
    )
