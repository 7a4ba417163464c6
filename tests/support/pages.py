"""What tests of the console's pages share: pressing, reading and finding elements by key and role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest

from services.base.settings import Settings
from services.console import facade
from services.console.facade import Console
from services.domain.conservation import StockState
from services.domain.reconciliation import LookupResult
from state import bulk_jobs, commands, inventory_lookups, sandbox
from state.bulk_jobs import BulkJob
from state.commands import Command
from state.engine.database import Database, opened
from state.inventory_lookups import StoredLookup
from state.sandbox import Drill
from tests.support import seed_console

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


PAGES = (
    "overview.py", "breakers.py", "metrics.py", "alerts.py", "orders.py", "events.py", "stock.py",
    "reviews.py", "releases.py",
    "conservation.py", "order.py", "handover.py", "audit.py", "sandbox.py",
)  # fmt: skip


class TimePerRun:
    """Seconds that pass between two runs of a page, never within one; outside of a page, with every look."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._run: object = None

    def __call__(self) -> float:
        context = get_script_run_ctx(suppress_warning=True)
        # Streamlit makes a new one for every run.
        run = context.cursors if context else None
        if run is None or run is not self._run:
            self._passed, self._run = self._passed + 60, run
        return self._passed


def look_at(url: str) -> None:
    """Has the console look at a database, at noon; each run of a page finds what the one before has read too old."""
    # Readings of the background are waited for: a test looks once.
    facade.install(Console(Settings.load(database_url=url), lambda: NOON, TimePerRun(), patience_seconds=60))


@contextmanager
def looked_at(url: str) -> Iterator[Database]:
    """The database of that URL, at which the console looks until it is left."""
    look_at(url)
    with opened(url) as database:
        yield database
    facade.install(None)


def checked(test: AppTest) -> AppTest:
    """The page, after making sure that its script ran through."""
    assert not test.exception, [problem.value for problem in test.exception]
    return test


def press(test: AppTest, key: str) -> AppTest:
    return checked(test.button(key=key).click().run())


def stored(database: Database) -> list[Command]:
    """The commands given in the test, oldest first; those of the seed are left out."""
    found = database.read_now(lambda connection: commands.latest(connection, limit=100))
    return [command for command in reversed(found) if not command.command_id.startswith("CMD-")]


def started_jobs(database: Database) -> list[BulkJob]:
    """The bulk jobs started in the test, oldest first; those of the seed are left out."""
    found = database.read_now(lambda connection: bulk_jobs.page(connection, limit=100))
    return [operation for operation in reversed(found) if not operation.job_id.startswith("OP-")]


def store_lookup(
    database: Database, stock: StockState | None, *order_ids: str, seconds_ago: float = 3, **more: Any
) -> None:
    """Store a recent inventory status of the orders, so that no page waits for a lookup."""
    for order_id in order_ids:
        answer = StoredLookup(order_id, LookupResult(stock, **more), NOON - timedelta(seconds=seconds_ago), "olga")
        database.write_now(lambda connection, answer=answer: inventory_lookups.note(connection, answer))


def text_of(test: AppTest) -> str:
    """The texts of a page, one line for each element, without the escapes of Markdown."""
    elements = [
        *test.title, *test.error, *test.warning, *test.markdown, *test.caption, *test.metric, *test.toast,
        *test.get("page_link"), *test.button,
    ]  # fmt: skip
    tables = [str(table.value.to_dict("records")) for table in test.table]
    return "\n".join([*map(_text, elements), *tables]).replace("\\", "").replace("\u200b", "")


def _text(element: Any) -> str:
    proto = getattr(element, "proto", None)
    parts = [getattr(proto, name, "") for name in ("title", "label", "delta_description")]
    return " ".join(str(part) for part in [*parts, getattr(element, "value", "")] if part)


def listed(test: AppTest) -> list[str]:
    return [link.proto.label.removeprefix(":blue[").removesuffix("]") for link in test.get("page_link")]


def dialog(test: AppTest, prefix: str) -> str:
    """The key of the one widget of a dialog with this prefix."""
    widgets = [*test.button, *test.text_area, *test.text_input]
    (key,) = [widget.key for widget in widgets if widget.key and widget.key.startswith(prefix)]
    return str(key)


def as_role(database: Database, role: str, **people: str) -> None:
    """Everybody at the console has this role from now on, but for the people given."""
    tick = count(step=60)
    listed = ",".join(f"{name}:{role}" for name, role in people.items())
    settings = Settings.load(
        database_url=f"sqlite:///{database.url.database}", console_role=role, console_people=listed
    )
    facade.install(Console(settings, lambda: NOON, lambda: float(next(tick))))


UNAVAILABLE = seed_console.UNAVAILABLE.key


FAILED = ("ORD-1007", "ORD-3001", "ORD-3000")


def affected(test: AppTest) -> list[str]:
    """The orders that the incident impact lists."""
    return [name for name in listed(test) if name.startswith(("ORD-", "HURT-"))]


def begin(database: Database, phase: str = "RUNNING", **more: object) -> None:
    drill = Drill("DRL-2", "latency", {"latencyMs": 5000}, 60, "ben", "a rehearsal", "WAITING", NOON)

    def transaction(connection: object) -> None:
        assert sandbox.start(connection, drill)  # type: ignore[arg-type]
        sandbox.save(connection, drill, phase=phase, began_at=NOON - timedelta(seconds=20), **more)  # type: ignore[arg-type]

    database.write_now(transaction)
