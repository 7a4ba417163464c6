"""One table maps error codes to HTTP statuses: every code of the product has its status there."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import services
from services.api.envelope import STATUS_OF, failure
from services.domain import errors
from services.domain.errors import ApiError, NotFound

ROOT = Path(services.__path__[0])
CONTRACT = {
    errors.ValidationFailed: 400,
    errors.PaymentDeclined: 402,
    errors.InventoryTimeout: 408,
    errors.InsufficientInventory: 409,
    errors.InvalidState: 409,
    errors.ReviewConflict: 409,
    errors.ClaimedByOther: 409,
    errors.ReservationFailed: 422,
    errors.IdempotencyKeyReused: 422,
    errors.ReleaseFailed: 500,
    errors.InventoryUnavailable: 503,
}


def subclasses(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def kinds_not_found() -> Iterator[str]:
    """The kind in every NotFound(...) and existing(...); a name stands for the constant of that name in any module."""
    position = {"NotFound": 0, "existing": 1}
    calls: list[ast.expr] = []
    constants: dict[str, str] = {}
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in position:
                calls.append(node.args[position[node.func.id]])
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                constants |= {t.id: str(node.value.value) for t in node.targets if isinstance(t, ast.Name)}
    # The definition of existing() passes its own parameter on.
    for argument in (call for call in calls if ast.unparse(call) != "kind"):
        yield str(argument.value) if isinstance(argument, ast.Constant) else constants[ast.unparse(argument)]


def test_every_error_code_has_a_status() -> None:
    for module in pkgutil.walk_packages([str(ROOT)], "services."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = [kind for kind in subclasses(ApiError) if kind.__module__.startswith("services.")]
    assert errors.ReleaseFailed in ours
    assert {kind.code for kind in ours} <= STATUS_OF.keys()


def test_everything_that_can_be_not_found_is_answered_404() -> None:
    kinds = set(kinds_not_found())
    assert {"order", "dead-letter"} <= kinds
    assert {failure(NotFound(kind, "x")).status_code for kind in kinds} == {404}


@pytest.mark.parametrize(("kind", "status"), CONTRACT.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_the_statuses_of_the_contract(kind: type[ApiError], status: int) -> None:
    assert failure(kind("message")).status_code == status
