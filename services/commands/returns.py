"""Returns that people record on the console; one command is one return, however often it is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.domain.arguments import reading_arguments
from services.domain.errors import ValidationFailed
from services.domain.orders.model import Line
from services.orders.cancellation import OrderReturns, ReturnItems
from state.commands import Command

Outcome = dict[str, Any]


class ReturnCommands:
    """``return_items``: ``{items: [{productId, variantId, quantity}], reason, restockable}`` on an order."""

    def __init__(self, returns: OrderReturns) -> None:
        self._returns = returns

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {"return_items": self._return}

    async def _return(self, command: Command) -> Outcome:
        given = command.arguments
        with reading_arguments():
            lines = tuple(
                Line(str(item["productId"]), str(item["variantId"]), int(item["quantity"])) for item in given["items"]
            )
            reason, restockable = str(given["reason"]), bool(given["restockable"])
        if not lines or any(line.quantity < 1 for line in lines):
            raise ValidationFailed("items: at least one line with a quantity of 1 or more is needed.")
        wanted = ReturnItems(
            order_id=command.target_id,
            lines=lines,
            reason=reason,
            restockable=restockable,
            return_id=command.command_id,
        )
        order, _ = await self._returns.take_back(wanted, actor=command.actor, by_person=True)
        units = sum(line.quantity for line in lines)
        return {"title": f"Return of {units} recorded", "detail": f"the order is {order.status}", "code": None}
