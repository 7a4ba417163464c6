"""Collects the attempts of calls to other services."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from services.domain.calls import Attempt, Attempted, attempts_of

T = TypeVar("T")


async def noted(call: Awaitable[Attempted[T]], attempts: list[Attempt]) -> T:
    """Await a call, add its attempts to the list, and return its result or raise its error."""
    try:
        result, made = await call
    except Exception as error:
        attempts += attempts_of(error)
        raise
    attempts += made
    return result
