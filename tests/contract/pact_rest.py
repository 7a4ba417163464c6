"""The real client against a stand-in that answers as the contract says, and writes the contract down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pact import Pact
from pact.interaction import HttpInteraction

from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway
from services.domain.calls import Attempt, Attempted
from services.domain.errors import ApiError
from tests.contract.pact_examples import HOLDFAST, INVENTORY, JSON, NOW, moment
from tests.support.attempts import noted

META = {"timestamp": moment()}

State = tuple[str, dict[str, Any]]
"""What must be so at the service: the name of a provider state and its parameters."""

Call = Callable[[HTTPInventoryGateway], Awaitable[Attempted[Any]]]


class AgreedInventoryService:
    """One interaction at a time, since two on one path may not be told apart."""

    def __init__(self, directory: Path, *, is_promised: bool = True) -> None:
        self._directory = directory
        self._is_promised = is_promised
        self._pact = Pact(HOLDFAST, INVENTORY).with_specification("V4")
        self.attempts: list[Attempt] = []

    def upon(self, description: str, path: str, body: Any, *states: State) -> HttpInteraction:
        """Expect this request of a service in these states."""
        interaction = self._pact.upon_receiving(description)
        for state, parameters in states:
            interaction.given(state, parameters)
        return (
            interaction.with_request("POST", f"/api/v1/inventory/{path}")
            .with_header("Accept", JSON)
            .with_body(body, JSON)
        )

    def ask(self, call: Call) -> Any:
        """What the gateway makes of the answer: its result, or the error it raises.

        Raises MismatchesError, and writes nothing, when the request is not the one expected.
        """
        with self._pact.serve(addr="127.0.0.1") as server:
            result = asyncio.run(self._call(str(server.url), call))
        if self._is_promised:
            self._pact.write_file(self._directory)
        return result

    @property
    def outcomes(self) -> list[str]:
        return [attempt.outcome for attempt in self.attempts]

    async def _call(self, url: str, call: Call) -> Any:
        transport = AiohttpTransport(client_session())
        gateway = HTTPInventoryGateway(
            transport, url, timeout_seconds=3, reservation_ttl_seconds=1800, clock=lambda: NOW
        )
        try:
            return await noted(call(gateway), self.attempts)
        except ApiError as error:
            return error
        finally:
            await transport.aclose()


def success(interaction: HttpInteraction, data: Any) -> None:
    """Answer 200 in the seed's envelope."""
    interaction.will_respond_with(200).with_body({"success": True, "data": data, "meta": META}, JSON)


def refusal(interaction: HttpInteraction, status: int, error: Any) -> None:
    """Answer an error in the seed's envelope."""
    interaction.will_respond_with(status).with_body({"success": False, "error": error, "meta": META}, JSON)
