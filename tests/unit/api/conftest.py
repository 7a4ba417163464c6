"""The API over its ASGI interface, wired to the use cases of the harness."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.base.setting_types import ApiToken
from tests.support.api import Api
from tests.support.orders_harness import OrdersHarness

TOKENS = [ApiToken(role, role, f"secret-of-{role}") for role in ("viewer", "operator", "admin", "service")]


@pytest.fixture
async def api(shop: OrdersHarness) -> AsyncIterator[Api]:
    """An API without tokens: every caller is trusted."""
    api = Api(shop, [])
    yield api
    await api.client.aclose()


@pytest.fixture
async def guarded(shop: OrdersHarness) -> AsyncIterator[Api]:
    """An API with one token per role, whose name is the role's."""
    api = Api(shop, TOKENS)
    yield api
    await api.client.aclose()


@pytest.fixture
def order_body() -> Callable[..., dict[str, Any]]:
    """A body of POST /api/v1/orders, with changes."""

    def body(**changes: Any) -> dict[str, Any]:
        items = [
            {"productId": "chair", "variantId": "oak", "quantity": 2},
            {"productId": "lamp", "variantId": "brass", "quantity": 1},
        ]
        return {"userId": "user-1", "items": items} | changes

    return body
