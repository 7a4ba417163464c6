"""Where code may look: what import-linter cannot see, because pages are scripts and not a package."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "pages").rglob("*.py"))


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def imported_names(file: Path, modules: list[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_page_imports_streamlit_the_console_the_domain_its_own_parts_and_types_only(page: Path) -> None:
    # Streamlit sends tables as Arrow's: a part may make one itself, so that all viewers share it.
    allowed = {"streamlit", "pyarrow"} | sys.stdlib_module_names
    foreign = [
        name
        for name in imported_modules(page)
        if name.split(".")[0] not in allowed
        and not name.startswith(("services.console", "services.domain", "pages.parts"))
    ]
    assert [name for name in foreign if not name.startswith(("services.", "state."))] == []
    # The console's readings contain rows of the state. A function of another layer would go past the console.
    reached = list(imported_names(page, foreign))
    assert [name for name in reached if not name[0].isupper()] == []
    assert not {"Database", "Source"} & set(reached)


@pytest.mark.parametrize("page", [*(ROOT / "pages").glob("*.py"), ROOT / "app.py"], ids=lambda file: file.name)
def test_a_page_script_has_no_bare_text_because_streamlit_would_show_it(page: Path) -> None:
    statements = ast.parse(page.read_text()).body[1:]
    bare = [node for node in statements if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    assert [node.lineno for node in bare] == []


def test_no_page_is_named_like_a_module_because_pages_come_first_on_the_path() -> None:
    taken = sys.stdlib_module_names | {"nats", "httpx", "pandas", "services", "state", "sqlalchemy", "streamlit"}
    assert [page.stem for page in PAGES if page.stem in taken and page.stem != "__init__"] == []


def test_every_part_of_the_service_has_a_layer() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {name.strip() for layer in contracts[0]["layers"] for name in layer.split("|")}
    parts = {
        f"services.{entry.stem}"
        for entry in (ROOT / "services").iterdir()
        if entry.stem not in ("__init__", "__pycache__") and (entry.is_dir() or entry.suffix == ".py")
    }
    assert parts <= layers


def test_only_composition_roots_and_the_settings_read_the_environment() -> None:
    readers = {
        file.relative_to(ROOT).as_posix()
        for file in [*(ROOT / "services").rglob("*.py"), *(ROOT / "state").rglob("*.py"), *PAGES]
        if "environ" in file.read_text() and "os.environ" in file.read_text()
    }
    # The stack passes the environment on to its children; finding a binary honours PATH.
    assert readers <= {"services/runtime/stack.py", "services/messaging/embedded.py"}


def test_the_example_of_the_environment_lists_every_setting() -> None:
    from services.base.settings import Settings

    listed = {
        line.lstrip("# ").partition("=")[0]
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and line.lstrip("# ").partition("=")[0].isupper()
    }
    internal = {"HOLDFAST_SUPERVISED", "HOLDFAST_SANDBOX"}
    assert listed == {name.upper() for name in Settings.model_fields} - internal


def test_the_example_of_the_environment_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.base.settings import Settings

    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    defaults = Settings.load()
    shown = [line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line[:1].isupper()]
    given = Settings.load(**{name.lower(): value for name, value in shown})
    assert given == defaults
