"""The stages of bulk jobs under every order of outcomes: nothing is sent twice, too much, or after a stop."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.domain.bulk import (
    ENDED,
    IN_FLIGHT,
    MAX_IN_FLIGHT,
    MAX_ITEMS_PER_BATCH,
    RAMP,
    SUCCEEDED,
    UNCONFIRMED,
    BulkItemState,
    Gate,
    StepKind,
    count,
    next_step,
    stage_size,
    tolerated,
)

CLOSED, HALF_OPEN, OPEN = Gate(), Gate("half_open"), Gate("open", 18.0)
OUTCOMES = st.sampled_from(
    [*sorted(SUCCEEDED | UNCONFIRMED), BulkItemState.ACCEPTED, BulkItemState.SKIPPED, BulkItemState.ASKED]
)
GATES = st.sampled_from([CLOSED, CLOSED, CLOSED, HALF_OPEN, OPEN])


class Run:
    """An operation and what has become of each of its items."""

    def __init__(self, shown: int) -> None:
        self.states = [BulkItemState.ASKED] * shown
        self.batches = [-1] * shown
        self.stage = self.batch = 0
        self.sent: Counter[int] = Counter()
        self.state = "RUNNING"

    def tally(self, batch: int | None = None) -> Counter[str]:
        return Counter(s for s, b in zip(self.states, self.batches, strict=True) if batch in (None, b))

    def step(self, gate: Gate, outcomes: st.DataObject) -> None:
        whole = self.tally()
        step = next_step(self.stage, whole[BulkItemState.ASKED], count(whole, IN_FLIGHT), self.tally(self.batch), gate)
        if step.kind == StepKind.ADVANCE:
            assert not count(whole, IN_FLIGHT)
            assert count(self.tally(self.batch), UNCONFIRMED) <= tolerated(self.stage, 0)
            self.stage, self.batch = self.stage + 1, self.batch + 1
        elif step.kind == StepKind.SEND:
            self._send(step.send, gate, outcomes)
        elif step.kind in (StepKind.STOP, StepKind.END):
            self.state = "STOPPED" if step.kind == StepKind.STOP else "DONE"

    def _send(self, number: int, gate: Gate, outcomes: st.DataObject) -> None:
        assert 0 < number <= min(MAX_ITEMS_PER_BATCH, gate.budget)
        waiting = [i for i, state in enumerate(self.states) if state == BulkItemState.ASKED][:number]
        assert len(waiting) == number
        for item in waiting:
            self.sent[item] += 1
            self.batches[item] = self.batch
            self.states[item] = outcomes.draw(OUTCOMES)
            if self.states[item] == BulkItemState.ASKED:
                self.batches[item] = -1
        size = stage_size(self.stage)
        tried = count(self.tally(self.batch), IN_FLIGHT | SUCCEEDED | UNCONFIRMED)
        assert size is None or tried <= size
        assert count(self.tally(), IN_FLIGHT) <= MAX_IN_FLIGHT

    def confirm(self, outcomes: st.DataObject) -> None:
        for item, state in enumerate(self.states):
            if state == BulkItemState.ACCEPTED and outcomes.draw(st.booleans()):
                self.states[item] = outcomes.draw(st.sampled_from(sorted(SUCCEEDED | UNCONFIRMED)))


@given(shown=st.integers(0, 70), data=st.data())
def test_whatever_happens_no_more_is_sent_than_was_shown_and_every_item_has_one_place(
    shown: int, data: st.DataObject
) -> None:
    run = Run(shown)
    for _ in range(60):
        if run.state != "RUNNING":
            break
        run.step(data.draw(GATES), data)
        run.confirm(data)
        assert len(run.sent) <= shown
        assert sum(run.tally().values()) == shown
    if run.state == "DONE":
        assert all(state in ENDED for state in run.states)


@given(shown=st.integers(1, 300))
def test_when_all_is_confirmed_the_ramp_is_1_2_5_20_and_the_rest(shown: int) -> None:
    run, batches = _run_through(shown, BulkItemState.CONFIRMED)
    assert run.state == "DONE"
    left, expected = shown, []
    for size in (*RAMP, shown):
        expected.append(min(size, left))
        left -= expected[-1]
    assert [batches[number] for number in range(len(batches))] == [size for size in expected if size]
    assert set(run.sent.values()) == {1}


@given(shown=st.integers(2, 300))
def test_when_nothing_is_confirmed_one_item_is_all_that_is_sent(shown: int) -> None:
    for outcome in UNCONFIRMED:
        run, _ = _run_through(shown, outcome)
        assert (run.state, sum(run.sent.values())) == ("STOPPED", 1)


def test_skipped_items_prove_nothing_and_use_up_no_stage() -> None:
    run = Run(4)
    run.states[0] = BulkItemState.SKIPPED
    step = next_step(0, 3, 0, {}, CLOSED)
    assert (step.kind, step.send) == (StepKind.SEND, 1)


def test_one_in_ten_is_tolerated_from_the_stage_of_twenty_on() -> None:
    assert [tolerated(stage, 0) for stage in range(5)] == [0, 0, 0, 2, 2]
    assert tolerated(4, 300) == 30
    two = {BulkItemState.FAILED: 1, BulkItemState.UNANSWERED: 1, BulkItemState.CONFIRMED: 18}
    assert next_step(3, 5, 0, two, CLOSED).kind == StepKind.ADVANCE
    three = {BulkItemState.FAILED: 3, BulkItemState.CONFIRMED: 17}
    stopped = next_step(3, 5, 0, three, CLOSED)
    assert (stopped.kind, stopped.reason) == (StepKind.STOP, "3 of 20 in the stage of 20 not confirmed")


def test_the_next_stage_waits_until_the_last_item_of_this_one_is_confirmed() -> None:
    assert next_step(1, 5, 1, {BulkItemState.CONFIRMED: 1, BulkItemState.ACCEPTED: 1}, CLOSED).kind == StepKind.WAIT
    assert next_step(1, 5, 0, {BulkItemState.CONFIRMED: 2}, CLOSED).kind == StepKind.ADVANCE


def test_an_open_breaker_lets_nothing_through_and_a_half_open_one_a_single_trial() -> None:
    assert next_step(2, 30, 0, {}, OPEN).kind == StepKind.WAIT
    assert next_step(2, 30, 0, {}, HALF_OPEN).send == 1
    assert next_step(2, 30, 0, {}, CLOSED).send == 5


def _run_through(shown: int, outcome: BulkItemState) -> tuple[Run, Counter[int]]:
    class Always:
        def draw(self, _: object) -> BulkItemState:
            return outcome

    run = Run(shown)
    while run.state == "RUNNING":
        run.step(CLOSED, Always())  # type: ignore[arg-type]
    return run, Counter(batch for batch in run.batches if batch >= 0)
