"""The service and Prometheus evaluate the same series alike at every step: each alert has one definition."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from services.alerting.database_alert import DATABASE_NOT_WRITABLE, RUNBOOK
from services.alerting.prometheus import rule_file
from services.alerting.rules import rules
from services.base.settings import Settings
from state.alerts import FIRING, PENDING, Alert
from state.database_watch import OUTAGE_SECONDS
from tests.support.alert_world import (
    INTERVAL,
    SETTINGS,
    WINDOW,
    Instant,
    evaluated_here,
    input_series,
    recorded,
    written,
)

PROMTOOL = "promtool"
STEPS = 150


async def promtool(*arguments: str | Path) -> tuple[int | None, str]:
    assert shutil.which(PROMTOOL), "promtool is missing; `make test` installs it"
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def unit_test(instants: list[Instant], expected: list[list[Alert]], interval: timedelta) -> dict[str, object]:
    """For ``promtool test rules``; JSON is YAML."""
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{interval.seconds}s",
        "tests": [
            {
                "interval": f"{INTERVAL.seconds}s",
                "input_series": [
                    {"series": series, "values": " ".join(values)} for series, values in input_series(instants).items()
                ],
                "promql_expr_test": [
                    {
                        "expr": "ALERTS",
                        "eval_time": f"{number * interval.seconds}s",
                        "exp_samples": [
                            {"labels": written("ALERTS", alert.labels | {"alertstate": alert.state}), "value": 1}
                            for alert in alerts
                        ],
                    }
                    for number, alerts in enumerate(expected)
                ],
            }
        ],
    }


async def agreed(folder: Path, instants: list[Instant], expected: list[list[Alert]], interval: timedelta) -> str:
    """What promtool says; nothing but SUCCESS when it agrees."""
    (folder / "rules.yml").write_text(rule_file(rules(SETTINGS), WINDOW, interval))
    (folder / "test.yml").write_text(json.dumps(unit_test(instants, expected, interval)))
    status, output = await promtool("test", "rules", folder / "test.yml")
    return "agreed" if status == 0 and "SUCCESS" in output else output[:3000]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [1, 2])
async def test_both_evaluate_recorded_series_alike_at_every_step(tmp_path: Path, seed: int, every: int) -> None:
    instants = recorded(seed, STEPS, INTERVAL)
    assert await agreed(tmp_path, instants, evaluated_here(instants, every * INTERVAL), every * INTERVAL) == "agreed"


def test_every_alert_and_both_states_occur_in_what_is_compared() -> None:
    seen = {
        (alert.name, alert.state)
        for seed in range(4)
        for alerts in evaluated_here(recorded(seed, STEPS, INTERVAL), INTERVAL)
        for alert in alerts
    }
    for rule in rules(SETTINGS):
        assert (rule.name, FIRING) in seen
        assert not rule.for_duration or (rule.name, PENDING) in seen


async def test_a_difference_would_be_found(tmp_path: Path) -> None:
    instants = recorded(1, STEPS, INTERVAL)
    expected = evaluated_here(instants, INTERVAL)
    next(alerts for alerts in expected if alerts).pop()
    assert "FAILED" in await agreed(tmp_path, instants, expected, INTERVAL)


@pytest.mark.parametrize(
    "settings", [Settings(), SETTINGS, Settings(alert_window=12_345, console_url="https://x.test")]
)
async def test_the_rule_file_passes_promtools_check(tmp_path: Path, settings: Settings) -> None:
    window = timedelta(milliseconds=settings.alert_window)
    interval = timedelta(seconds=settings.alert_interval_seconds)
    (tmp_path / "rules.yml").write_text(rule_file(rules(settings), window, interval, settings.console_url))
    status, output = await promtool("check", "rules", tmp_path / "rules.yml")
    assert status == 0, output
    assert "13 rules found" in output


async def firing_in_prometheus(folder: Path, series: dict[str, str], expected: dict[int, list[dict[str, str]]]) -> str:
    """Whether promtool, fed with the series second by second, finds these alerts firing after these seconds."""
    (folder / "rules.yml").write_text(rule_file(rules(SETTINGS), WINDOW, timedelta(seconds=1)))
    tests = [
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{second}s",
            "exp_samples": [
                {"labels": written("ALERTS", labels | {"alertstate": FIRING, "severity": "critical"}), "value": 1}
                for labels in alerts
            ],
        }
        for second, alerts in expected.items()
    ]
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1s",
        "tests": [
            {
                "interval": "1s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": tests,
            }
        ],
    }
    (folder / "test.yml").write_text(json.dumps(test))
    status, output = await promtool("test", "rules", folder / "test.yml")
    return "agreed" if status == 0 and "SUCCESS" in output else output[:3000]


async def test_a_database_that_cannot_be_written_fires_after_as_long_as_in_the_service(tmp_path: Path) -> None:
    first, second = {"alertname": DATABASE_NOT_WRITABLE, "instance": "a"}, {"alertname": "HoldfastDown"}
    series = {
        # Not known at the start, away for four seconds, back, away until the replica is gone.
        'database_writable{instance="a",job="holdfast"}': "NaN NaN NaN 0x3 1 0x10 stale _x90",
        'database_writable{instance="b",job="holdfast"}': "1x18 stale _x90",
        'inventory_circuit_breaker_state{breaker="x",state="closed",instance="a"}': "1x18 stale _x90",
    }
    begun, gone = 8, 19
    for_duration, down = int(OUTAGE_SECONDS), int((WINDOW / 5).total_seconds())
    expected = {
        begun - 1: [],
        begun + for_duration - 1: [],
        begun + for_duration: [first],
        gone - 2: [first],
        # Nobody knows that it has ended.
        gone + down - 1: [first],
        gone + down: [first, second],
        gone + 60: [first, second],
    }
    assert await firing_in_prometheus(tmp_path, series, expected) == "agreed"


def test_the_rule_and_the_message_about_the_database_say_the_same() -> None:
    text = rule_file(rules(SETTINGS), WINDOW, INTERVAL)
    (entry,) = [part for part in text.split("- alert: ") if part.startswith(f"{DATABASE_NOT_WRITABLE}\n")]
    assert json.dumps(RUNBOOK) in entry
    assert "severity: critical" in entry
    assert f"for: {OUTAGE_SECONDS:g}s" in entry
