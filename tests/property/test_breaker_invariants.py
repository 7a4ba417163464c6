"""What holds for a breaker whatever calls, late results, overrides and pauses befall it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.clients.breaker import CLOSED, FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, AsyncBreaker
from services.clients.rolling_window import BreakerOptions
from services.domain.errors import CircuitOpen, InsufficientInventory
from tests.support.examples import examples

OPTIONS = BreakerOptions(trial_timeout_ms=6_000)
AUTOMATIC = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED), (HALF_OPEN, OPEN)}


class Call:
    """A coroutine driven by hand: it waits at one point until it is told how to end."""

    def __init__(self, breaker: AsyncBreaker) -> None:
        self.coroutine = breaker.acall(self.wait)
        self.coroutine.send(None)

    async def wait(self) -> None:
        await Suspension()

    def ends(self, error: BaseException | None = None) -> None:
        try:
            if error is None:
                self.coroutine.send(None)
            else:
                self.coroutine.throw(error)
        except (StopIteration, RuntimeError, InsufficientInventory, asyncio.CancelledError):
            return
        raise AssertionError("the call goes on")


class Suspension:
    def __await__(self):
        yield


class BreakerMachine(RuleBasedStateMachine):
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.heard = [CLOSED]
        self.began_half_open = 0
        self.breaker = AsyncBreaker(
            "b",
            OPTIONS,
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            monotonic_ns=lambda: self.now_ms * 1_000_000,
            listeners=[self.hear],
        )

    def hear(self, _: AsyncBreaker, before: str, after: str, __: datetime) -> None:
        assert before == self.heard[-1] != after
        assert (before, after) in AUTOMATIC or FORCED_OPEN in (before, after) or FORCED_CLOSED in (before, after)
        self.heard.append(after)

    @rule(ms=st.sampled_from([1, 900, 1_000, 5_999, 6_000, 10_000, 29_999, 30_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule(target=calls)
    def somebody_calls(self):
        state = self.breaker.effective_state
        denied = self.breaker.snapshot().denied
        try:
            call = Call(self.breaker)
        except CircuitOpen as denial:
            retry_after_seconds = denial.retry_after_seconds
            assert state in (OPEN, HALF_OPEN, FORCED_OPEN)
            assert retry_after_seconds > 0
            assert self.breaker.snapshot().denied == denied + 1
            return multiple()
        assert state in (CLOSED, HALF_OPEN, FORCED_CLOSED)
        if state == HALF_OPEN:
            self.nobody_else_may_try()
        return call

    def nobody_else_may_try(self) -> None:
        try:
            Call(self.breaker)
        except CircuitOpen:
            return
        raise AssertionError("two trials at once")

    @rule(call=consumes(calls), error=st.sampled_from([None, InsufficientInventory("short")]))
    def a_call_is_answered(self, call: Call, error: Exception | None) -> None:
        self.ends(call, error, {CLOSED, HALF_OPEN})

    @rule(call=consumes(calls))
    def a_call_fails(self, call: Call) -> None:
        self.ends(call, RuntimeError("down"), {CLOSED, HALF_OPEN})

    @rule(call=consumes(calls))
    def a_call_is_cancelled(self, call: Call) -> None:
        self.ends(call, asyncio.CancelledError(), set())

    def ends(self, call: Call, error: BaseException | None, movable: set[str]) -> None:
        before = self.breaker.snapshot()
        call.ends(error)
        after = self.breaker.snapshot()
        assert after.state == before.state or before.state in movable
        if before.state == OPEN:
            assert (after.retry_in_ms, after.calls) == (before.retry_in_ms, before.calls)

    @rule(state=st.sampled_from([FORCED_OPEN, FORCED_CLOSED]), ms=st.sampled_from([1_000, 40_000]))
    def an_operator_lends_a_state(self, state: str, ms: int) -> None:
        self.breaker.start_override(state, "test", ms)
        assert self.breaker.effective_state == state

    @rule()
    def an_operator_takes_the_override_back(self) -> None:
        self.breaker.end_override()
        assert self.breaker.effective_state in (CLOSED, OPEN, HALF_OPEN)

    @invariant()
    def the_snapshot_agrees_with_itself(self) -> None:
        snapshot = self.breaker.snapshot()
        assert snapshot.state in (CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, FORCED_CLOSED)
        assert snapshot.state == self.heard[-1]
        assert len(snapshot.buckets) == OPTIONS.buckets
        assert sum(calls for calls, _ in snapshot.buckets) == snapshot.calls
        assert sum(failures for _, failures in snapshot.buckets) == snapshot.failures <= snapshot.calls
        assert 0 <= snapshot.failure_rate <= 100
        assert (snapshot.retry_in_ms > 0) == (snapshot.state in (OPEN, FORCED_OPEN))

    @invariant()
    def a_circuit_does_not_stay_open_longer_than_its_period(self) -> None:
        snapshot = self.breaker.snapshot()
        assert snapshot.state != OPEN or snapshot.retry_in_ms <= OPTIONS.reset_timeout_ms


BreakerMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)
TestABreaker: Callable[..., object] = BreakerMachine.TestCase
