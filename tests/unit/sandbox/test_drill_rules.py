"""A drill ends by itself, puts back what it changed, and notices who noticed it; whatever is seen on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.errors import ValidationFailed
from services.sandbox.drills.catalogue import KINDS, checked_seconds, kind_of
from services.sandbox.drills.state_machine import (
    CHECK_LIMIT,
    PATIENCE,
    RECOVERY_LIMIT,
    Action,
    Observation,
    Phase,
    advance,
    same,
)
from services.sandbox.inventory_service.faults import FaultSettings
from state.sandbox import Drill

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALM = {"outage": False, "latencyMs": 0, "errorRate": 0.0, "silentConfirmations": False, "soldOut": False}
OUT = CALM | {"outage": True}
NEW = Drill("d-1", "outage", {"outage": True}, 30, "ada", "rehearsal", Phase.WAITING, START)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def stepped(drill: Drill, observed: Observation, now: datetime) -> tuple[Drill, Action]:
    """The drill after one step, as it would be stored."""
    step = advance(drill, observed, now)
    values = {name: value for name, value in step.values.items() if name in Drill.__dataclass_fields__}
    return replace(drill, **values), step.action


def running(noticed: dict[str, str] | None = None) -> Drill:
    before = {"faults": CALM, "waiting": 1, "releases": 0, "level": 1}
    return replace(NEW, phase=Phase.RUNNING, began_at=START, before=before, noticed=noticed or {})


def test_the_previous_faults_are_stored_before_any_change() -> None:
    step = advance(NEW, Observation(CALM | {"latencyMs": 20}, waiting=3, releases=2, level=1), after(1))
    assert step.action is Action.APPLY
    assert step.values == {
        "phase": Phase.APPLYING,
        "before": {"faults": CALM | {"latencyMs": 20}, "waiting": 3, "releases": 2, "level": 1},
    }


def test_a_drill_begins_when_the_faults_are_observed() -> None:
    applying = replace(running(), phase=Phase.APPLYING, began_at=None)
    assert stepped(applying, Observation(CALM), after(1)) == (applying, Action.APPLY)
    begun, action = stepped(applying, Observation(OUT), after(2))
    assert (begun.phase, begun.began_at, action) == (Phase.RUNNING, after(2), Action.NOTHING)


def test_the_faults_are_renewed_until_their_time_is_over() -> None:
    assert stepped(running(), Observation(OUT), after(29)) == (running(), Action.APPLY)
    over, action = stepped(running(), Observation(OUT), after(30))
    assert (over.phase, action) == (Phase.RESTORING, Action.RESTORE)


def test_a_restart_of_the_inventory_service_brings_the_faults_back() -> None:
    assert stepped(running(), Observation(CALM), after(10))[1] is Action.APPLY


def test_the_first_detection_is_kept_and_earlier_problems_do_not_count() -> None:
    drill, _ = stepped(running(), Observation(OUT, level=1), after(3))
    assert drill.noticed == {}
    drill, _ = stepped(drill, Observation(OUT, breakers_closed=False, level=1), after(4))
    drill, _ = stepped(drill, Observation(OUT, breakers_closed=False, level=2), after(6))
    drill, _ = stepped(drill, Observation(OUT, breakers_closed=False, level=2), after(7))
    assert drill.noticed == {"breaker": after(4).isoformat(), "health": after(6).isoformat()}


def test_recovery_ends_when_breakers_are_closed_and_queues_are_back() -> None:
    recovering = replace(running(), phase=Phase.RECOVERING, ended_at=after(30))
    calm = Observation(CALM, waiting=1)
    not_yet = [
        replace(calm, breakers_closed=False),
        replace(calm, waiting=2),
        replace(calm, releases=1),
        replace(calm, unsettled=1),
        replace(calm, outbox_age_seconds=9),
    ]
    assert [stepped(recovering, observed, after(40))[0].phase for observed in not_yet] == [Phase.RECOVERING] * 5
    recovered, action = stepped(recovering, calm, after(41))
    assert (recovered.phase, recovered.recovered_at, action) == (Phase.CHECKING, after(41), Action.COMPARE)


def test_a_drill_without_recovery_is_checked_and_reported() -> None:
    recovering = replace(running(), phase=Phase.RECOVERING, ended_at=START)
    observed = Observation(None, breakers_closed=False)
    checking, action = stepped(recovering, observed, START + RECOVERY_LIMIT)
    assert (checking.phase, checking.recovered_at, action) == (Phase.CHECKING, None, Action.COMPARE)
    assert stepped(checking, observed, START + RECOVERY_LIMIT + CHECK_LIMIT)[1] is Action.REPORT


def test_differences_have_a_minute_to_settle_before_they_count() -> None:
    checking = replace(running(), phase=Phase.CHECKING, ended_at=after(30), recovered_at=after(40))
    assert stepped(checking, Observation(CALM, differences=None), after(41)) == (checking, Action.COMPARE)
    assert stepped(checking, Observation(CALM, differences=2), after(60)) == (checking, Action.COMPARE)
    assert stepped(checking, Observation(CALM, differences=0), after(60))[1] is Action.REPORT
    assert stepped(checking, Observation(CALM, differences=2), after(101))[1] is Action.REPORT


def test_a_drill_is_abandoned_unchanged_if_the_service_never_answers() -> None:
    assert stepped(NEW, Observation(None), after(59)) == (NEW, Action.NOTHING)
    over, action = stepped(NEW, Observation(None), START + PATIENCE)
    assert (over.phase, over.before, action) == (Phase.DONE, None, Action.REPORT)


SEEN = st.builds(
    Observation,
    faults=st.sampled_from([None, CALM, OUT]),
    breakers_closed=st.booleans(),
    level=st.integers(0, 2),
    waiting=st.integers(0, 3),
    releases=st.integers(0, 2),
    unsettled=st.integers(0, 2),
    outbox_age_seconds=st.sampled_from([0.0, 60.0]),
    differences=st.sampled_from([None, 0, 3]),
)


@given(st.lists(st.tuples(SEEN, st.integers(1, 40), st.booleans()), max_size=60))
def test_every_drill_ends_and_restores_the_previous_faults(story: list[tuple[Observation, int, bool]]) -> None:
    drill, now, faults, changed = NEW, START, dict(CALM), False
    for chance, seconds, is_stopped in story:
        now += timedelta(seconds=seconds)
        # The service shows what was last set, or does not answer.
        observed = replace(chance, faults=None if chance.faults is None else faults)
        if is_stopped and drill.phase in (Phase.WAITING, Phase.APPLYING, Phase.RUNNING):
            drill = replace(drill, stopped_by="ada")
        drill, action = stepped(drill, observed, now)
        assert not (action is Action.APPLY and drill.before is None)
        if action is Action.APPLY and observed.faults is not None:
            faults, changed = dict(OUT), True
        if action is Action.RESTORE and observed.faults is not None:
            assert drill.before is not None
            faults = dict(drill.before["faults"])
    for _ in range(12):
        now += timedelta(minutes=31)
        drill, action = stepped(drill, Observation(faults, differences=0), now)
        if action is Action.APPLY:
            faults, changed = dict(OUT), True
        if action is Action.RESTORE:
            faults = dict((drill.before or {})["faults"])
    assert drill.phase is Phase.DONE
    assert same(faults, CALM)
    assert (drill.ended_at is not None) or not changed


def test_the_lease_is_not_compared() -> None:
    assert same(OUT | {"leaseMs": 900}, {"outage": True})
    assert not same(CALM, {"outage": True})
    assert not same(CALM | {"latencyMs": 10}, {})


def test_a_kind_takes_its_level_within_bounds_only() -> None:
    assert kind_of("outage").faults(None) == {"outage": True}
    assert kind_of("latency").faults(700.0) == {"latencyMs": 700}
    assert kind_of("error_rate").faults(None) == {"errorRate": 0.5}
    with pytest.raises(ValidationFailed, match=r"level: 1\.5 is not valid; allowed: 0\.05 to 1 of calls"):
        kind_of("error_rate").faults(1.5)
    with pytest.raises(ValidationFailed, match="kind: 'fire' is not valid; allowed: outage"):
        kind_of("fire")
    with pytest.raises(ValidationFailed, match="seconds: 4 is not valid; allowed: 5 to 1800"):
        checked_seconds(4)
    assert kind_of("too_many_requests").faults(20.0) == {"requestsPerSecond": 20}
    assert kind_of("credentials_expired").faults(None) == {"credentialsExpired": True}
    assert kind_of("other_form").faults(None) == {"otherForm": True}
    assert len(KINDS) == 8


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_a_fault_of_the_inventory_service(name: str) -> None:
    settings = FaultSettings.model_validate(kind_of(name).faults(None))
    assert settings != FaultSettings()
