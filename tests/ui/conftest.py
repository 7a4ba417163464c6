"""A console of its own for each test: a fresh database, a facade that looks at it, and time that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.testing.v1 import AppTest, app_test

from services.console import facade
from state.engine.database import Database
from tests.support import seed_console
from tests.support.orders_harness import SqliteTemplate
from tests.support.pages import NOON, checked, look_at, looked_at

ENTRY = Path(__file__).resolve().parents[2] / "pages" / "main.py"


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


@pytest.fixture
def nowhere(tmp_path: Path) -> Iterator[Path]:
    """Where the console looks for a database that is not there."""
    look_at(f"sqlite:///{tmp_path / 'nowhere.db'}")
    yield tmp_path / "nowhere.db"
    facade.install(None)


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


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """An empty database with all its tables, which is also the one the console looks at."""
    with looked_at(sqlite_url) as made:
        yield made
