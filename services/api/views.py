"""Turning what the database knows into the JSON that the API answers with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.api.cuts import cut_details
from services.breakers.overview import severity
from services.domain.conservation import COMPENSATIONS
from services.domain.external import cut_text
from services.domain.orders.lifecycle import TimelineEntry
from services.domain.orders.model import Order
from services.domain.reviews import allowed_actions
from state.audit import AuditEntry
from state.conservation import KnownDifference
from state.dead_letters import CUT_BYTES, DeadLetter, Group
from state.overrides import BreakerOverride
from state.products import Product
from state.releases import Release
from state.replicas import Replica
from state.reviews import Review


def order_view(order: Order, cases: Sequence[Review]) -> dict[str, Any]:
    """An order. Source: contract section 3."""
    return {
        "orderId": order.order_id,
        "userId": order.user_id,
        "customerPriority": order.customer_priority,
        "status": order.status,
        "inventoryStatus": order.inventory_status,
        "paymentStatus": order.payment_status,
        "reservationId": order.reservation_id,
        "reservationExpiresAt": order.reservation_expires_at,
        "confirmedAt": order.confirmed_at,
        "items": [line.wire() | {"returnedQuantity": line.returned} for line in order.lines],
        "reviews": [{"reviewId": case.review_id, "reason": case.reason, "state": case.state} for case in cases],
        "failure": order.failure,
        "metadata": order.metadata,
        "createdAt": order.created_at,
        "updatedAt": order.updated_at,
        "version": order.version,
    }


def timeline_view(entry: TimelineEntry) -> dict[str, Any]:
    details, is_cut = cut_details(entry.details)
    view = {"at": entry.at, "kind": entry.kind, "title": cut_text(entry.title, 500), "details": details}
    if is_cut:
        view["detailsAreCut"] = True
    return view | {"actor": entry.actor} if entry.actor else view


def review_view(case: Review, order_status: str, now: datetime) -> dict[str, Any]:
    return {
        "reviewId": case.review_id,
        "orderId": case.order_id,
        "reason": case.reason,
        "state": case.state,
        "detail": case.detail,
        "openedAt": case.opened_at,
        "version": case.version,
        "allowedActions": list(allowed_actions(case.reason, order_status)) if case.state == "OPEN" else [],
        "resolvedAt": case.resolved_at,
        "resolvedBy": case.resolved_by,
        "resolution": case.resolution,
        "resolutionReason": case.resolution_reason,
        "note": case.note,
        "owner": case.owner_at(now),
        "claimedUntil": case.claimed_until if case.owner_at(now) else None,
    }


def release_view(release: Release) -> dict[str, Any]:
    return {
        "orderId": release.order_id,
        "reason": release.reason,
        "state": release.state,
        "attempts": release.attempts,
        "nextAttemptAt": release.next_attempt_at,
        "lastError": release.last_error,
        "createdAt": release.created_at,
        "updatedAt": release.updated_at,
    }


def breaker_views(
    replicas: Sequence[Replica], active: Mapping[str, BreakerOverride], now: datetime
) -> list[dict[str, Any]]:
    """Every breaker with its worst state over the replicas, each replica's own, and an override if there is one."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for replica in replicas:
        age_in_ms = round((now - replica.heartbeat_at).total_seconds() * 1000)
        for breaker in replica.breakers:
            left = {"retryInMs": _left_ms(breaker.get("retryInMs"), age_in_ms)}
            by_name.setdefault(breaker["name"], []).append({"replica": replica.replica, **breaker, **left})
    return [
        _breaker_view(name, members) | {"override": _override_view(active.get(name))}
        for name, members in sorted(by_name.items())
    ]


def _left_ms(said: object, age_in_ms: int) -> int | None:
    """What is left now of a wait that was said so long ago by a clock which may be ahead of ours."""
    if not isinstance(said, int | float) or not math.isfinite(said):
        return None
    return max(round(said) - max(age_in_ms, 0), 0)


def _override_view(override: BreakerOverride | None) -> dict[str, Any] | None:
    if override is None:
        return None
    return {
        "state": override.state,
        "reason": override.reason,
        "actor": override.actor,
        "createdAt": override.created_at,
        "expiresAt": override.expires_at,
    }


def _breaker_view(name: str, members: list[dict[str, Any]]) -> dict[str, Any]:
    # A replica of another version may leave a number out, or name a state that is not known here.
    worst = max(members, key=lambda member: severity(member["state"]))
    calls = sum(member.get("calls", 0) for member in members)
    failures = sum(member.get("failures", 0) for member in members)
    shared = {key: worst.get(key) for key in ("state", "since", "retryInMs", "thresholdPercentage", "volumeThreshold")}
    return {
        "name": name,
        **shared,
        "calls": calls,
        "failures": failures,
        "failureRate": failures / calls if calls else None,
        "denied": sum(member.get("denied", 0) for member in members),
        "replicas": [{key: value for key, value in member.items() if key != "name"} for member in members],
    }


def product_view(product: Product) -> dict[str, Any]:
    return {
        "productId": product.product_id,
        "variantId": product.variant_id,
        "available": product.available,
        "level": product.level,
        "availableQuantity": product.available_quantity,
        "threshold": product.threshold,
        "source": product.source,
        "changedAt": product.changed_at,
        "expiresAt": product.expires_at,
    }


def dead_letter_view(dead_letter: DeadLetter, *, is_whole: bool = False) -> dict[str, Any]:
    """A dead letter with the beginning of its payload, or with all of it."""
    stored = dead_letter.payload or b""
    payload = stored if is_whole else stored[:CUT_BYTES]
    return {
        "id": dead_letter.id,
        "stream": dead_letter.stream,
        "streamIncarnation": dead_letter.incarnation,
        "streamSequence": dead_letter.stream_seq,
        "subject": dead_letter.subject,
        "orderId": dead_letter.order_id,
        "payload": payload.decode("utf-8", "backslashreplace"),
        "payloadBytes": dead_letter.size,
        "payloadIsCut": len(payload) < dead_letter.size,
        "headers": dead_letter.headers,
        "reason": dead_letter.reason,
        "attempts": dead_letter.attempts,
        "state": dead_letter.state,
        "createdAt": dead_letter.created_at,
        "resolvedAt": dead_letter.resolved_at,
        "resolvedBy": dead_letter.resolved_by,
        "note": dead_letter.note,
    }


def dead_letter_group_view(group: Group) -> dict[str, Any]:
    """Dead letters with the same cause; the reason is that of one of them."""
    return {
        "subject": group.subject,
        "cause": group.cause,
        "reason": group.example,
        "letters": group.count,
        "firstAt": group.first_at,
        "lastAt": group.last_at,
    }


def audit_view(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "orderId": entry.order_id,
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
        "result": entry.result,
        "correlationId": entry.correlation_id,
    }


def difference_view(difference: KnownDifference) -> dict[str, Any]:
    return {
        "orderId": difference.order_id,
        "kind": difference.kind,
        "detail": difference.detail,
        "compensation": COMPENSATIONS.get(difference.kind),
        "state": difference.state,
        "firstSeenAt": difference.first_seen_at,
        "lastSeenAt": difference.last_seen_at,
        "settledAt": difference.settled_at,
        "compensatedBy": difference.compensated_by,
    }
