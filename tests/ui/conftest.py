"""A console of its own for each test: a fresh database, and a facade that reads its place from the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services import console as facade
from state import commands
from state.commands import Command
from state.database import Database, opened
from state.schema import migrate
from tests.ui import seed_console

ENTRY = Path(__file__).resolve().parents[2] / "pages" / "main.py"
PAGES = ("overview.py", "breakers.py", "orders.py", "reviews.py", "releases.py", "order.py")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """An empty database with all its tables, which is also the one the console reads."""
    url = f"sqlite:///{tmp_path / 'holdfast.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.delenv("INVENTORY_SERVICE_URL", raising=False)
    facade.reset()
    with opened(url) as made:
        migrate(made)
        yield made
    facade.reset()


@pytest.fixture
def busy(database: Database) -> Database:
    """The database after a busy half hour with an outage in it."""
    seed_console.seed(database, datetime.now(UTC))
    return database


@pytest.fixture
def show() -> Callable[..., AppTest]:
    """Opens a page as a browser would: the entry script first, then the page with its parameters."""

    def shown(page: str = "overview.py", **parameters: Any) -> AppTest:
        test = AppTest.from_file(str(ENTRY), default_timeout=30).run()
        assert not test.exception
        for name, value in parameters.items():
            test.query_params[name] = value
        if page != "overview.py":
            test.switch_page(page)
        test.run()
        assert not test.exception, [problem.value for problem in test.exception]
        return test

    return shown


def stored(database: Database) -> list[Command]:
    """The commands given in the test, oldest first; those of the seed are left out."""
    found = database.read_now(lambda connection: commands.latest(connection, limit=100))
    return [command for command in reversed(found) if not command.command_id.startswith("CMD-")]


def said(test: AppTest) -> str:
    """Everything the page says in text, one line per element."""
    elements = [
        *test.markdown, *test.caption, *test.title, *test.error, *test.warning, *test.metric, *test.button,
        *test.table, *test.get("page_link"),
    ]  # fmt: skip
    return "\n".join(_text(element) for element in elements)


def _text(element: Any) -> str:
    parts = [getattr(element, name, None) for name in ("label", "value")]
    proto = getattr(element, "proto", None)
    parts += [getattr(proto, "title", None), getattr(proto, "label", None)]
    return " ".join(str(part) for part in parts if part is not None)
