"""A console of its own for each test: a fresh database, a facade that looks at it, and time that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest, app_test

from services.base.settings import Settings
from services.console import facade
from services.console.facade import Console
from services.domain.conservation import StockState
from services.domain.reconciliation import LookupResult
from state import bulk_jobs, commands, inventory_lookups
from state.bulk_jobs import BulkJob
from state.commands import Command
from state.engine.database import Database, opened
from state.inventory_lookups import StoredLookup
from tests.support import seed_console
from tests.support.orders_harness import SqliteTemplate

ENTRY = Path(__file__).resolve().parents[2] / "pages" / "main.py"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PAGES = (
    "overview.py", "breakers.py", "metrics.py", "alerts.py", "orders.py", "events.py", "stock.py",
    "reviews.py", "releases.py",
    "conservation.py", "order.py", "handover.py", "audit.py", "sandbox.py",
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def one_server() -> Iterator[None]:
    """As in a running server, the installed packages are read once and every script is compiled once.

    AppTest does both for each test anew, which takes longer than the page itself.
    """
    scripts = ScriptCache()
    with pytest.MonkeyPatch.context() as streamlit:
        streamlit.setattr(
            manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests)
        )
        streamlit.setattr(app_test, "ScriptCache", lambda: scripts)
        yield


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


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Path]:
    """Where the console looks for a database that is not there."""
    look_at(f"sqlite:///{tmp_path / 'nowhere.db'}")
    yield tmp_path / "nowhere.db"
    facade.install(None)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """An empty database with all its tables, which is also the one the console looks at."""
    with looked_at(sqlite_url) as made:
        yield made


@pytest.fixture(scope="session")
def busy_template(sqlite_template: SqliteTemplate, tmp_path_factory: pytest.TempPathFactory) -> SqliteTemplate:
    """A database after a busy half hour with an outage in it, to copy."""
    path = tmp_path_factory.mktemp("busy") / "template.db"
    sqlite_template.copy_to(path)
    return SqliteTemplate(path, lambda database: seed_console.seed(database, NOON))


@pytest.fixture
def busy(busy_template: SqliteTemplate, sqlite_url: str) -> Iterator[Database]:
    """A database after a busy half hour with an outage in it, which is also the one the console looks at."""
    with looked_at(busy_template.copy_to(Path(make_url(sqlite_url).database or ""))) as made:
        yield made


@pytest.fixture
def show() -> Callable[..., AppTest]:
    """Opens a page as a browser that follows a link to it, with its parameters."""

    def shown(page: str = "overview.py", **parameters: Any) -> AppTest:
        test = AppTest.from_file(str(ENTRY), default_timeout=30)
        for name, value in parameters.items():
            test.query_params[name] = value
        if page != "overview.py":
            test.switch_page(page)
        return checked(test.run())

    return shown


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


def begun(database: Database) -> list[BulkJob]:
    """The bulk operations begun in the test, oldest first; those of the seed are left out."""
    found = database.read_now(lambda connection: bulk_jobs.page(connection, limit=100))
    return [operation for operation in reversed(found) if not operation.job_id.startswith("OP-")]


def told(database: Database, stock: StockState | None, *order_ids: str, seconds_ago: float = 3, **more: Any) -> None:
    """The Inventory Service has said this of the orders a moment ago, so that nobody has to wait for it."""
    for order_id in order_ids:
        answer = StoredLookup(order_id, LookupResult(stock, **more), NOON - timedelta(seconds=seconds_ago), "olga")
        database.write_now(lambda connection, answer=answer: inventory_lookups.note(connection, answer))


def said(test: AppTest) -> str:
    """Everything the page says in text, one line per element, without Markdown's escapes."""
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
