"""Routes for events that need an operator: dead letters and undeliverable events.

Source: contract 3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Path
from pydantic import BeforeValidator, Field
from sqlalchemy import Connection

from services.api.models import Limit, NoteBody, Page, Query, ReasonBody, Resource, Texts, Timestamp, one_of
from services.api.routing import PATH_ID, ApiRoute, Operator, OrderService, Parameters, Service, errors
from services.domain.errors import existing
from services.messaging.dead_letters import PENDING, UNDELIVERABLE, UndeliverableEvents
from state import dead_letters, outbox
from state.dead_letters import CUT_BYTES, DISCARDED, DeadLetter
from state.outbox import UndeliverableEvent

LETTERS, LETTER = "/api/v1/dead-letters", "/api/v1/dead-letters/{id}"
OUTBOX, OUTBOX_EVENT = "/api/v1/outbox", "/api/v1/outbox/{id}"
PayloadText = Annotated[str, BeforeValidator(lambda payload: (payload or b"").decode("utf-8", "backslashreplace"))]
EventId = Annotated[str, Path(alias="id"), PATH_ID]

router = APIRouter(route_class=ApiRoute, tags=["events"])


class DeadLettersQuery(Query):
    state: Literal["OPEN", "REPLAYED", "DISCARDED"] = "OPEN"
    limit: Limit = 200


class OutboxQuery(Query):
    state: Literal["UNDELIVERABLE"] = "UNDELIVERABLE"
    limit: Limit = 200


class DeadLetterResource(Resource):
    id: str
    stream: str
    stream_incarnation: Annotated[str, Field(validation_alias="incarnation")]
    stream_sequence: Annotated[int, Field(validation_alias="stream_seq")]
    subject: str
    order_id: str | None
    payload: PayloadText
    payload_bytes: Annotated[int, Field(validation_alias="size")]
    payload_is_cut: bool = False
    headers: Texts
    reason: str
    attempts: int
    state: Annotated[str, one_of("OPEN", "REPLAYED", "DISCARDED")]
    created_at: Timestamp
    resolved_at: Timestamp | None
    resolved_by: str | None
    note: str | None

    @classmethod
    def of_letter(cls, letter: DeadLetter, *, is_whole: bool = False) -> Self:
        """Return the dead letter with at most CUT_BYTES of its payload; ``is_whole`` includes the whole payload."""
        stored = letter.payload or b""
        shown = stored if is_whole else stored[:CUT_BYTES]
        return cls.of(replace(letter, payload=shown), payload_is_cut=len(shown) < letter.size)


class DeadLetterGroup(Resource):
    """Dead letters with the same cause. ``reason`` is that of one of them."""

    subject: str
    cause: str
    reason: Annotated[str, Field(validation_alias="example")]
    letters: Annotated[int, Field(validation_alias="count")]
    first_at: Timestamp
    last_at: Timestamp


class DeadLetterPage(Page[DeadLetterResource]):
    groups: list[DeadLetterGroup]


class OutboxEventResource(Resource):
    """An undeliverable event. ``state``: PENDING events are published again, DISCARDED events are given up."""

    id: int
    event_id: str
    subject: str
    order_id: str
    payload: PayloadText
    payload_bytes: Annotated[int, Field(validation_alias="size")]
    payload_is_cut: bool = False
    attempts: int
    state: Annotated[str, one_of(UNDELIVERABLE, PENDING, DISCARDED)] = UNDELIVERABLE
    reason: str
    created_at: Timestamp
    undeliverable_at: Timestamp

    @classmethod
    def of_event(cls, event: UndeliverableEvent, state: str) -> Self:
        """Return the event with the stored beginning of its payload."""
        return cls.of(event, payload_is_cut=len(event.payload) < event.size, state=state)


@router.get(LETTERS, summary="Incoming events that could not be handled")
async def list_dead_letters(query: Parameters[DeadLettersQuery], service: Service) -> DeadLetterPage:
    def read(connection: Connection) -> DeadLetterPage:
        letters = dead_letters.page(connection, state=query.state, limit=query.limit)
        groups = dead_letters.groups(connection, state=query.state)
        return DeadLetterPage(
            items=[DeadLetterResource.of_letter(letter) for letter in letters],
            groups=[DeadLetterGroup.of(group) for group in groups],
        )

    return await service.database.read(read)


@router.get(LETTER, summary="One dead letter with its whole payload")
async def get_dead_letter(letter_id: EventId, service: Service) -> DeadLetterResource:
    letter = await service.database.read(lambda connection: dead_letters.get(connection, letter_id))
    return DeadLetterResource.of_letter(existing(letter, "dead-letter", letter_id), is_whole=True)


@router.post(f"{LETTER}/replay", summary="Run the handler on a dead letter again", responses=errors(409))
async def replay_dead_letter(letter_id: EventId, caller: Operator, service: Service) -> DeadLetterResource:
    return DeadLetterResource.of_letter(await service.use_cases.dead_letters.replay(letter_id, actor=caller.name))


@router.post(f"{LETTER}/discard", summary="Discard a dead letter", responses=errors(409))
async def discard_dead_letter(
    letter_id: EventId, body: NoteBody, caller: Operator, service: Service
) -> DeadLetterResource:
    letter = await service.use_cases.dead_letters.discard(letter_id, actor=caller.name, note=body.note)
    return DeadLetterResource.of_letter(letter)


@router.get(OUTBOX, summary="Outgoing events that the broker refuses, oldest first")
async def list_outbox(query: Parameters[OutboxQuery], service: Service) -> Page[OutboxEventResource]:
    found = await service.database.read(lambda c: outbox.undeliverable(c, query.limit))
    return Page[OutboxEventResource](items=[OutboxEventResource.of_event(event, UNDELIVERABLE) for event in found])


@router.post(f"{OUTBOX_EVENT}/retry", summary="Publish an undeliverable event again", responses=errors(409))
async def retry_outbox_event(
    event_id: EventId, body: ReasonBody, caller: Operator, service: Service
) -> OutboxEventResource:
    event = await _events(service).retry(event_id, actor=caller.name, reason=body.reason)
    return OutboxEventResource.of_event(event, PENDING)


@router.post(f"{OUTBOX_EVENT}/discard", summary="Discard an undeliverable event", responses=errors(409))
async def discard_outbox_event(
    event_id: EventId, body: ReasonBody, caller: Operator, service: Service
) -> OutboxEventResource:
    event = await _events(service).discard(event_id, actor=caller.name, reason=body.reason)
    return OutboxEventResource.of_event(event, DISCARDED)


def _events(service: OrderService) -> UndeliverableEvents:
    return UndeliverableEvents(service.database, service.clock)
