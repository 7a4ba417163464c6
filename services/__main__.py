"""Run the integration service without the console, print its alerts, or audit the sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timedelta

from services.base import logs
from services.base.addresses import without_credentials
from services.base.settings import Settings
from services.domain.errors import ConfigurationError

REPLACED = 75
"""Exit code of a worker whose database file was replaced; the worker must be restarted."""


def main() -> int:
    """Run a command; an invalid setting prints one line on standard error and returns exit code 2."""
    parser = argparse.ArgumentParser(prog="holdfast", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="run the integration service")
    alerts = commands.add_parser("alerts", help="print the alerts with their conditions and runbooks")
    alerts.add_argument("--prometheus", action="store_true", help="print them as a Prometheus rule file")
    audit = commands.add_parser(
        "audit", help="compare the sandbox's orders, stock and money; exit code 1 if they differ"
    )
    audit.add_argument(
        "--settled-seconds",
        type=_seconds,
        default=timedelta(seconds=5),
        help="judge what has not moved for so long (default 5)",
    )
    arguments = parser.parse_args()
    try:
        settings = Settings.load()
        logs.configure(settings.log_level)
        if arguments.command == "audit":
            return _run_audit(settings, arguments.settled_seconds)
        if arguments.command == "alerts":
            return _print_alerts(settings, as_rule_file=arguments.prometheus)
        return _run_worker(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"{without_credentials(str(error))}\n")
        return 2


def _seconds(given: str) -> timedelta:
    seconds = float(given) if given.replace(".", "", 1).isdecimal() else -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{given!r} is not valid; allowed: a number from 0 to 86400")
    return timedelta(seconds=seconds)


def _run_worker(settings: Settings) -> int:
    from services.http_server.process import run
    from services.worker import serve_with_stack
    from state.engine.transactions import DatabaseReplaced

    try:
        run(lambda stop: serve_with_stack(settings, stop), is_supervised=settings.holdfast_supervised)
    except DatabaseReplaced as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # Exits without closing connections to the old file: SQLite would delete the log of the new file.
        os._exit(REPLACED)
    return 0


def _print_alerts(settings: Settings, *, as_rule_file: bool) -> int:
    from services.alerting.prometheus import rule_file, table
    from services.alerting.rules import rules

    window = timedelta(milliseconds=settings.alert_window)
    if as_rule_file:
        interval = timedelta(seconds=settings.alert_interval_seconds)
        text = rule_file(rules(settings), window, interval, settings.console_url)
    else:
        text = table(rules(settings), window)
    sys.stdout.write(text)
    return 0


def _run_audit(settings: Settings, settled: timedelta) -> int:
    from services.sandbox.books import run

    return run(settings, settled)


if __name__ == "__main__":
    raise SystemExit(main())
