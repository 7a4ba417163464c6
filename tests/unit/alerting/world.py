"""A rule that fires as it is told, and the times of the tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.alerting.rules import rules
from services.alerting.state_machine import AlertChanges, evaluate_rules
from services.alerting.threshold_rule import Rule
from services.base.settings import Settings
from services.metrics.sample import MetricWindow
from state.alerts import Alert

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
OUTAGE = timedelta(seconds=60)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def dead_letters(for_duration: float = 0, keep_firing_for: float = 0) -> Rule:
    """DeadLettersPresent with other times."""
    (rule,) = [rule for rule in rules(Settings()) if rule.name == "DeadLettersPresent"]
    return replace(rule, for_duration=seconds(for_duration), keep_firing_for=seconds(keep_firing_for))


class EvaluatedRule:
    """Steps of one rule, a second apart or more, and what they leave."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.known: dict[str, Alert] = {}
        self.events: list[str] = []

    def at(self, second: float, value: float) -> AlertChanges:
        view = MetricWindow(0, 1000, {}, {"dead_letters": [({}, value)]})
        now = NOON + seconds(second)
        change = evaluate_rules([self.rule], view, list(self.known.values()), now, outage=OUTAGE, link="http://here")
        self.known |= {alert.alert_id: alert for alert in change.put}
        for alert_id in change.remove:
            del self.known[alert_id]
        self.events += [event.kind for event in change.events]
        return change

    @property
    def alert(self) -> Alert | None:
        return next(iter(self.known.values()), None)

    @property
    def state(self) -> str | None:
        return self.alert.state if self.alert else None
