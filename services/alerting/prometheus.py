"""The alerts as a Prometheus rule file, and as a text table.

Pure. Source: ``python -m services alerts``; contract 6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta

from services.alerting.database_alert import DATABASE_NOT_WRITABLE, RUNBOOK
from services.alerting.threshold_rule import LABELS, Rule, Severity
from state.database_watch import OUTAGE_SECONDS

GROUP = "holdfast"

DOWN = "HoldfastDown"
"""An alert of the rule file only, in addition to the contract: a stopped worker cannot report itself."""

PRESENT = "inventory_circuit_breaker_state"
"""A gauge that every replica exports from its start."""

WRITABLE = "database_writable"
"""A gauge that every replica exports: 0 while the replica cannot write the database."""


def rule_file(rules: Iterable[Rule], window: timedelta, interval: timedelta, console_url: str | None = None) -> str:
    """Return the YAML of a Prometheus rule file, with the evaluation interval of the service."""
    lines = [
        "# Made by `python -m services alerts --prometheus`: make it anew after changing a threshold.",
        "groups:",
        f"  - name: {GROUP}",
        f"    interval: {duration(interval)}",
        "    rules:",
    ]
    for rule in rules:
        lines += _rule(rule, window, console_url)
    return "\n".join([*lines, *_database_not_writable(), *_down(window), ""])


def _database_not_writable() -> list[str]:
    """The rule of the alert that each replica also sends from memory (database_alert.py)."""
    fired = _fired(DATABASE_NOT_WRITABLE, " by (instance)")
    annotations = {
        "summary": "Nothing can be stored: {{ $labels.instance }} cannot write the database.",
        "runbook": RUNBOOK,
    }
    return _entry(
        DATABASE_NOT_WRITABLE,
        f"(min by (instance) ({WRITABLE}) == 0) or {fired}",
        {"for": timedelta(seconds=OUTAGE_SECONDS)},
        "critical",
        annotations,
    )


def _down(window: timedelta) -> list[str]:
    """The rule of HoldfastDown: no replica answers the scrapes. Only Prometheus can evaluate it."""
    annotations = {
        "summary": "Prometheus hears nothing of Holdfast: no replica answers its scrapes.",
        "runbook": (
            "Orders may not be handled, and nobody judges the other alerts: those that fired go on firing here. "
            "See whether the worker runs (GET /healthz) and whether its address in scrape_configs is right. After a "
            "start everything goes on from the database; nothing is lost."
        ),
    }
    return _entry(DOWN, f"absent({PRESENT})", {"for": window / 5}, "critical", annotations)


def _rule(rule: Rule, window: timedelta, console_url: str | None) -> list[str]:
    annotations = {
        "summary": rule.summary_for({name: f"{{{{ $labels.{name} }}}}" for name in LABELS}),
        "runbook": " ".join(rule.runbook),
        "threshold": f"{rule.comparison} {rule.threshold:g}",
        "value": "{{ $value }}",
    }
    if console_url:
        annotations["page"] = f"{console_url}/{rule.page}"
    times = {"for": rule.for_duration, "keep_firing_for": rule.keep_firing_for}
    return _entry(rule.name, condition(rule, window), times, rule.severity, annotations)


def _entry(
    name: str, condition: str, times: Mapping[str, timedelta], severity: Severity, annotations: Mapping[str, str]
) -> list[str]:
    """Return the YAML lines of one alert; times of 0 are left out."""
    return [
        f"      - alert: {name}",
        f"        expr: {_quoted(condition)}",
        *(f"        {key}: {duration(length)}" for key, length in times.items() if length),
        "        labels:",
        f"          severity: {severity}",
        "        annotations:",
        *(f"          {key}: {_quoted(text)}" for key, text in annotations.items()),
    ]


def condition(rule: Rule, window: timedelta) -> str:
    """The condition of the rule in PromQL. A firing alert keeps firing while no scrape succeeds: its end is unknown."""
    by = f" by ({', '.join(rule.labels)})" if rule.labels else ""
    return f"({rule.promql(duration(window))}) or {_fired(rule.name, by)}"


def _fired(name: str, by: str) -> str:
    """PromQL: alerts of this name that fired before the scrapes failed; empty while a replica answers scrapes."""
    return f'(max{by} (ALERTS{{alertname="{name}", alertstate="firing"}}) and on () absent({PRESENT}))'


def _quoted(text: str) -> str:
    """A YAML scalar. Every JSON string is a valid YAML scalar."""
    return json.dumps(text, ensure_ascii=False)


def duration(length: timedelta) -> str:
    """The duration in Prometheus' notation, exact to the millisecond."""
    milliseconds = length // timedelta(milliseconds=1)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def table(rules: Iterable[Rule], window: timedelta) -> str:
    """A text table of the alerts: name, severity, condition, times and runbook."""
    blocks = []
    for rule in rules:
        times = f"for {duration(rule.for_duration)}" if rule.for_duration else "at once"
        steps = "\n".join(f"    {number}. {text}" for number, text in enumerate(rule.runbook, 1))
        blocks.append(
            f"{rule.name} ({rule.severity}, {times})\n  {rule.summary}\n  {rule.promql(duration(window))}\n{steps}"
        )
    return "\n\n".join([*blocks, ""])
