"""Logs are one JSON object a line when nobody is looking, and readable when somebody is."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson
import pytest

from services.base import logs
from services.base.context import continuing
from services.base.logs import JsonFormatter, TerminalFormatter


def record(message="order_flagged", **facts):
    made = logging.LogRecord("holdfast.test", logging.WARNING, __file__, 1, message, (), None)
    made.__dict__.update(facts)
    return made


def test_a_line_is_one_json_object_with_the_facts_as_fields():
    line = JsonFormatter().format(record(order_id="o-1", attempts=3))
    assert "\n" not in line
    body = orjson.loads(line)
    assert body | {"at": ""} == {
        "at": "",
        "level": "warning",
        "logger": "holdfast.test",
        "event": "order_flagged",
        "order_id": "o-1",
        "attempts": 3,
    }
    assert datetime.fromisoformat(body["at"]).utcoffset() == UTC.utcoffset(None)


def test_a_fact_that_json_does_not_know_is_written_as_text():
    assert orjson.loads(JsonFormatter().format(record(error=ValueError("no"))))["error"] == "no"


@pytest.mark.parametrize("fact", [2**70, "\ud800", {1: 2}, {"a": 2**70}], ids=repr)
def test_a_fact_that_cannot_be_encoded_does_not_lose_the_line(fact):
    body = orjson.loads(JsonFormatter().format(record(fact=fact)))
    assert body["event"] == "order_flagged"


def test_an_exception_is_kept_with_its_trace():
    made = record()
    try:
        raise RuntimeError("down")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    trace = orjson.loads(JsonFormatter().format(made))["trace"]
    assert "RuntimeError: down" in trace
    assert "RuntimeError: down" in TerminalFormatter().format(made)


def test_people_read_the_same_facts_on_one_line():
    line = TerminalFormatter().format(record(order_id="o-1"))
    assert line.endswith("warning order_flagged order_id=o-1")


def test_configuring_sends_everything_to_standard_error(capsys):
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    try:
        logs.configure("INFO")
        logging.getLogger("holdfast.test").info("worker_started", extra={"replica": "r"})
        logging.getLogger("nats").info("chatter")
    finally:
        root.handlers, root.level = handlers, level
        for chatty in logs.CHATTY:
            logging.getLogger(chatty).setLevel(logging.NOTSET)
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert orjson.loads(line)["replica"] == "r"


def test_a_line_written_within_a_trace_names_it_and_other_lines_name_none():
    with continuing("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"):
        within = orjson.loads(JsonFormatter().format(record()))
    assert within["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert "trace_id" not in orjson.loads(JsonFormatter().format(record()))
