"""Configure logging: constant event names, facts as fields, JSON unless the output is a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import orjson

from services.base.addresses import without_credentials
from services.base.context import current_traceparent, trace_id

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}

CHATTY = (
    "alembic",
    "nats",
    "uvicorn.error",
    "uvicorn.access",
    # These libraries log every request with its URL, and the URL of a webhook is a secret.
    "httpx",
    "httpcore",
    "aiohttp.access",
    "aiohttp.client",
    "aiohttp.internal",
    "urllib3",
    "requests",
)
"""Loggers of libraries. They log only WARNING and above, at every configured level."""


class JsonFormatter(logging.Formatter):
    """Writes one JSON object a line: at, level, logger, event, the facts given as ``extra``, trace_id within a trace.

    Credentials in URLs are hidden.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        # The formatter runs in the task or thread that logs, so its context has the right trace.
        if (traceparent := current_traceparent()) is not None:
            line["trace_id"] = trace_id(traceparent)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        try:
            return without_credentials(orjson.dumps(line, default=str).decode())
        except TypeError:
            # orjson rejects huge integers and lone surrogates; the standard library writes them.
            text = json.dumps(line, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()
            return without_credentials(text)


class TerminalFormatter(logging.Formatter):
    """Writes one line of text for a terminal; credentials in URLs are hidden."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items())
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        line = f"{at} {record.levelname.lower():7} {record.getMessage()} {facts}".rstrip()
        return without_credentials(f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line)


def configure(level: str) -> None:
    """Send log records to standard error. Call it once, in a composition root."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
