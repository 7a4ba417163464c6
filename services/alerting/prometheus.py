"""The alerts as a Prometheus rule file, and as a table for people.

Pure. Source: ``python -m services alerts``; contract section 6.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

from services.alerting.rule import LABELS, Rule

GROUP = "holdfast"

DOWN = "HoldfastDown"
"""Ours, beyond the contract: only in the rule file, since a worker cannot report its own absence."""

PRESENT = "inventory_circuit_breaker_state"
"""A gauge that every replica shows from its start on."""


def rule_file(rules: Iterable[Rule], window: timedelta, interval: timedelta, console_url: str | None = None) -> str:
    """YAML for ``rule_files``; evaluated as often as the service itself does."""
    lines = [
        "# Made by `python -m services alerts --prometheus`: make it anew after changing a threshold.",
        "groups:",
        f"  - name: {GROUP}",
        f"    interval: {duration(interval)}",
        "    rules:",
    ]
    for rule in rules:
        lines += _rule(rule, window, console_url)
    return "\n".join([*lines, *_down(window), ""])


def _down(window: timedelta) -> list[str]:
    """The alert that only a watcher outside can raise: nobody answers the scrapes any more."""
    annotations = {
        "summary": "Prometheus hears nothing of Holdfast: no replica answers its scrapes.",
        "runbook": (
            "Orders may not be handled, and nobody judges the other alerts: those that fired go on firing here. "
            "See whether the worker runs (GET /healthz) and whether its address in scrape_configs is right. After a "
            "start everything goes on from the database; nothing is lost."
        ),
    }
    return [
        f"      - alert: {DOWN}",
        f"        expr: {_quoted(f'absent({PRESENT})')}",
        f"        for: {duration(window / 5)}",
        "        labels:",
        "          severity: critical",
        "        annotations:",
        *(f"          {name}: {_quoted(text)}" for name, text in annotations.items()),
    ]


def _rule(rule: Rule, window: timedelta, console_url: str | None) -> list[str]:
    annotations = {
        "summary": rule.said({name: f"{{{{ $labels.{name} }}}}" for name in LABELS}),
        "runbook": " ".join(rule.runbook),
        "threshold": f"{rule.comparison} {rule.threshold:g}",
        "value": "{{ $value }}",
    }
    if console_url:
        annotations["page"] = f"{console_url}/{rule.page}"
    times = {"for": rule.hold, "keep_firing_for": rule.keep}
    return [
        f"      - alert: {rule.name}",
        f"        expr: {_quoted(condition(rule, window))}",
        *(f"        {name}: {duration(length)}" for name, length in times.items() if length),
        "        labels:",
        f"          severity: {rule.severity}",
        "        annotations:",
        *(f"          {name}: {_quoted(text)}" for name, text in annotations.items()),
    ]


def condition(rule: Rule, window: timedelta) -> str:
    """The rule in PromQL. What fires while the scrapes stop goes on firing: nobody knows that it has ended."""
    by = f" by ({', '.join(rule.labels)})" if rule.labels else ""
    fired = f'max{by} (ALERTS{{alertname="{rule.name}", alertstate="firing"}})'
    return f"({rule.promql(duration(window))}) or ({fired} and on () absent({PRESENT}))"


def _quoted(text: str) -> str:
    """A YAML scalar; a JSON string is one."""
    return json.dumps(text, ensure_ascii=False)


def duration(length: timedelta) -> str:
    """Prometheus' notation, exact to the millisecond."""
    milliseconds = length // timedelta(milliseconds=1)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def table(rules: Iterable[Rule], window: timedelta) -> str:
    """The alerts for people: name, severity, condition, times and runbook."""
    blocks = []
    for rule in rules:
        times = f"for {duration(rule.hold)}" if rule.hold else "at once"
        steps = "\n".join(f"    {number}. {text}" for number, text in enumerate(rule.runbook, 1))
        blocks.append(
            f"{rule.name} ({rule.severity}, {times})\n  {rule.summary}\n  {rule.promql(duration(window))}\n{steps}"
        )
    return "\n\n".join([*blocks, ""])
