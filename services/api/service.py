"""The use cases and data sources behind the API. The composition root builds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.alerting.receiver import AlertReceiver
from services.alerting.threshold_rule import Rule
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from services.use_cases import UseCases
from state.engine.database import Database


@dataclass(frozen=True, slots=True)
class OrderService:
    """What the routes of the API use."""

    use_cases: UseCases
    database: Database
    clock: Callable[[], datetime]
    metrics: Metrics
    recorder: Recorder
    alert_rules: Sequence[Rule]
    alert_receiver: AlertReceiver
    wake_releases: Callable[[], None]
    readiness: Callable[[], Awaitable[dict[str, bool | str]]]
    """Returns by name whether each dependency is reachable; text values are reasons."""
