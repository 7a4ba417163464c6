"""What the product parses and formats, as one JSON value, in the locale of the environment.

Run by ``python -m tests.support.locale_report``.
The whole locale is taken on, as a library that is loaded may do: numbers, names of months and the case of letters.
"""

from __future__ import annotations

import json
import locale
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from pages.parts import labels
from pages.parts.widgets import clock
from services.alerting.prometheus import rule_file
from services.alerting.rules import rules
from services.base.settings import Settings
from services.domain.calls import Attempt
from services.domain.errors import NotFound
from services.domain.external import id_key, read_json, utc_time, whole_number
from services.domain.orders.events import timestamp
from services.domain.orders.model import CustomerPriority, Line, Order, OrderValue, order_value
from services.metrics.registry import Metrics

NOON = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
ENVIRONMENT = {
    "ALERT_RESERVATION_SUCCESS_RATE": "0.975",
    "SANDBOX_TRAFFIC": "1.5",
    "OTEL_TRACES_EXPORTER": "OTLP",
    "LOG_LEVEL": "INFO",
    "HOLDFAST_INSTALLATION": "ISTANBUL-i",
    "API_TOKENS": "istanbul:service:I,ali:admin:i",
}
TEXTS = ("Ii\u0130\u0131K", "INVENTORY-ID", "straße", "1A2B3C4D-00AA-11BB-22CC-33DD44EE55FF")


def parsed() -> dict[str, Any]:
    os.environ.update(ENVIRONMENT)
    settings = Settings.load()
    return {
        "settings": [
            settings.alert_reservation_success_rate,
            settings.sandbox_traffic,
            settings.otel_traces_exporter,
            settings.holdfast_installation,
            [(token.name, token.role) for token in settings.api_tokens],
        ],
        "times": [
            timestamp(utc_time(text))
            for text in ("2026-03-01T12:30:15.25+05:45", "2026-03-01T12:30:15Z", "2026-10-25T02:30:00+02:00")
        ],
        "numbers": [whole_number(each) for each in (5, 5.0, "5")],
        "json": read_json(b'{"price":1.5,"I":"\xc4\xb1"}', 100),
        "ids": [id_key(text) for text in TEXTS],
    }


def written() -> dict[str, Any]:
    settings = Settings.load()
    metrics = Metrics(["inventoryServiceChecker"])
    metrics.attempt(Attempt(NOON, "check_availability", "success", 0.25))
    order = Order("o", "u", CustomerPriority.STANDARD, (Line("p", "v", 2),), NOON, NOON)
    asked = Order(**{**vars_of(order), "metadata": {"total": {"amount": "1234567.5", "currency": "try"}}})
    months = [datetime(2026, month, 7, 9, 5, tzinfo=UTC) for month in range(1, 13)]
    return {
        "metrics": [line for line in metrics.exposition().decode().splitlines() if "_created" not in line],
        "rules": rule_file(rules(settings), timedelta(minutes=5), timedelta(seconds=15)),
        "error": NotFound("dead-letter", "i").code,
        "money": [order_value(asked).amount_text, OrderValue(1).amount_text],
        "dates": [clock.at(month, NOON) for month in months],
        "words": [labels.plain(text) for text in TEXTS] + [labels.word({}, "in_stock").text],
        "log": f"{1234567.25:,.2f} {timestamp(NOON)}",
    }


def vars_of(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in Order.__dataclass_fields__}


if __name__ == "__main__":
    taken = locale.setlocale(locale.LC_ALL, "")
    json.dump({"locale": taken, "said": {**parsed(), **written()}}, sys.stdout, default=str)
