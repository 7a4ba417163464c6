"""Routes for circuit breakers: present state and overrides. Source: contract 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field, WithJsonSchema
from sqlalchemy import Connection

from services.api.models import Duration, Page, RequestBody, Resource, Text, Timestamp, one_of
from services.api.routing import PATH_ID, ApiRoute, Operator, OrderService, Service
from services.breakers.overview import SEVERITY, severity
from state import breakers, replicas
from state.breakers import BreakerOverride
from state.replicas import Replica

BREAKERS, OVERRIDE = "/api/v1/breakers", "/api/v1/breakers/{name}/override"
BreakerName = Annotated[str, Path(alias="name"), PATH_ID]
State = Annotated[str, one_of(*SEVERITY)]
Number = int | float

router = APIRouter(route_class=ApiRoute, tags=["breakers"])


class OverrideBody(RequestBody):
    """An override to start. ``expiresIn`` is in whole milliseconds, from one second to one day."""

    state: Literal["forced_open", "forced_closed"]
    reason: Text
    expiresIn: Annotated[Duration, Field(ge=1000, le=86_400_000)]


class OverrideResource(Resource):
    state: Annotated[str, one_of("forced_open", "forced_closed")]
    reason: str
    actor: str
    created_at: Timestamp
    expires_at: Timestamp


class BreakerCounts(Resource):
    state: State
    since: Annotated[Any, WithJsonSchema({"type": ["string", "null"], "format": "date-time"})] = None
    retry_in_ms: int | None
    calls: Number = 0
    failures: Number = 0
    failure_rate: Annotated[Any, WithJsonSchema({"type": ["number", "null"]})] = None
    threshold_percentage: Annotated[Number, Field(validation_alias="thresholdPercentage")] = 0
    volume_threshold: Annotated[Number, Field(validation_alias="volumeThreshold")] = 0
    denied: Number = 0


class ReplicaBreaker(BreakerCounts):
    """A breaker as reported by one replica. A replica of another version may report more fields."""

    model_config = ConfigDict(extra="allow")

    replica: str
    failure_rate: Annotated[
        Any, WithJsonSchema({"type": ["number", "null"]}), Field(validation_alias="failureRate")
    ] = None


class BreakerResource(BreakerCounts):
    """One breaker over all replicas: its worst state and the sums of the counts."""

    name: str
    override: OverrideResource | None
    replicas: list[ReplicaBreaker]


@router.get(BREAKERS, summary="Live state of the circuit breakers")
async def list_breakers(service: Service) -> Page[BreakerResource]:
    return Page[BreakerResource](items=await _breakers(service))


@router.put(OVERRIDE, summary="Force a breaker open or closed for a while")
async def force_breaker(name: BreakerName, body: OverrideBody, caller: Operator, service: Service) -> BreakerResource:
    await service.use_cases.overrides.start(
        name,
        body.state,
        reason=body.reason,
        expires_in=timedelta(milliseconds=body.expiresIn),
        actor=caller.name,
    )
    return await _breaker(service, name)


@router.delete(OVERRIDE, summary="End a forced state early")
async def end_breaker_override(name: BreakerName, caller: Operator, service: Service) -> BreakerResource:
    await service.use_cases.overrides.end(name, actor=caller.name)
    return await _breaker(service, name)


async def _breaker(service: OrderService, name: str) -> BreakerResource:
    # Write the heartbeat first, so that the answer contains the new state.
    await service.recorder.beat()
    return next(breaker for breaker in await _breakers(service) if breaker.name == name)


async def _breakers(service: OrderService) -> list[BreakerResource]:
    now, here = service.clock(), service.recorder.present()

    def read(connection: Connection) -> list[BreakerResource]:
        # The state of this replica comes from memory, the state of the other replicas from the database.
        others = [replica for replica in replicas.alive(connection, now) if replica.replica != here.replica]
        living = sorted([here, *others], key=lambda replica: replica.replica)
        return breakers_over(living, breakers.active_overrides(connection, now), now)

    return await service.database.read(read)


def breakers_over(
    living: Sequence[Replica], running: Mapping[str, BreakerOverride], now: datetime
) -> list[BreakerResource]:
    """Return every breaker with its worst state over the replicas, the state on each replica, and its override."""
    by_name: dict[str, list[ReplicaBreaker]] = {}
    for replica in living:
        age_in_ms = round((now - replica.heartbeat_at).total_seconds() * 1000)
        for reported in replica.breakers:
            left = {"retry_in_ms": _left_ms(reported.get("retryInMs"), age_in_ms)}
            known = {name: value for name, value in reported.items() if name not in ("name", "retryInMs")}
            breaker = ReplicaBreaker.model_validate({**known, **left, "replica": replica.replica})
            by_name.setdefault(reported["name"], []).append(breaker)
    return [_over_replicas(name, members, running.get(name)) for name, members in sorted(by_name.items())]


def _over_replicas(name: str, members: list[ReplicaBreaker], override: BreakerOverride | None) -> BreakerResource:
    worst = max(members, key=lambda member: severity(member.state))
    calls, failures = sum(member.calls for member in members), sum(member.failures for member in members)
    return BreakerResource.model_validate(
        {
            "name": name,
            "state": worst.state,
            "since": worst.since,
            "retry_in_ms": worst.retry_in_ms,
            "calls": calls,
            "failures": failures,
            "failure_rate": failures / calls if calls else None,
            "thresholdPercentage": worst.threshold_percentage,
            "volumeThreshold": worst.volume_threshold,
            "denied": sum(member.denied for member in members),
            "override": override,
            "replicas": members,
        }
    )


def _left_ms(reported: object, age_in_ms: int) -> int | None:
    """Remaining milliseconds of a wait that was reported ``age_in_ms`` ago.

    The age may be negative, because the clock of the other replica may be ahead.
    """
    if not isinstance(reported, int | float) or not math.isfinite(reported):
        return None
    return max(round(reported) - max(age_in_ms, 0), 0)
