"""The alert rules. The service and the rule file for Prometheus use the same definitions.

Pure. Thresholds come from the settings; the times scale with ALERT_WINDOW.
Source: requirements 9.2; contract 2 and 6.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from services.alerting.threshold_rule import Rule
from services.base.settings import Settings
from services.domain.calls import InventoryCall
from services.domain.orders.model import ReviewReason
from services.metrics.catalogue import (
    ANSWERED_RESERVATIONS,
    DURATION,
    FAILURES,
    ORDERS,
    REFUSALS,
    RELEASES,
    REQUESTS,
    RESERVATIONS,
)
from services.metrics.expressions import Increase, MaxGauge, Quantile, Ratio, RunOrShare, SumOfGauges, Total
from services.metrics.gauges import BREAKER_STATE

REFUSED_IN_A_ROW = 3
"""Number of consecutive refused orders that fires the alert at any traffic."""

REFUSED_SHARE = 0.5
"""Share of refused orders among the decided orders of the window that fires the alert."""

REFUSES_US_SHARE = 0.1
"""Share of refused calls among the calls of one inventory call in the window that fires the alert."""

LONGEST_KEEP = timedelta(seconds=60)

_NOT_ASKED = ("INVENTORY_UNAVAILABLE", "INVENTORY_TIMEOUT")
"""Failure reasons of orders that ended before the reserve call."""
_REFUSED = Increase(FAILURES.name, {"reason": (*_NOT_ASKED, "PENDING_INVENTORY")})
_DECIDED = Total(
    (
        _REFUSED,
        Increase(ORDERS.name, {"status": ("PAYING",)}),
        Increase(FAILURES.name, {"reason": ("INSUFFICIENT_INVENTORY", "RESERVATION_FAILED")}),
    )
)
"""All decided orders: orders that the Inventory Service answered, and orders refused without its answer."""
_CHECK = {"operation": (InventoryCall.CHECK_AVAILABILITY.value,)}
_ASKED_FOR = Total((RESERVATIONS, Increase(FAILURES.name, {"reason": _NOT_ASKED})))
"""Number of reservations. An order that a failed check ended counts as a reservation without an answer."""


def rules(settings: Settings) -> tuple[Rule, ...]:
    """All alert rules under these settings, the most urgent first. To add an alert, add a function to RULES."""
    window = timedelta(milliseconds=settings.alert_window)
    return tuple(rule(settings, window) for rule in RULES)


def _orders_refused(_settings: Settings, window: timedelta) -> Rule:
    return Rule(
        name="OrdersRefusedForInventory",
        severity="critical",
        summary="Orders are refused or kept waiting because inventory cannot be asked, or refuses this service.",
        runbook=(
            (
                "Nothing is wrong with these orders: the check or the reservation got no answer about them. The "
                "alert needs no traffic: the newest three orders, or half of those in the window."
            ),
            "Look at Orders, status Rejected: the timeline of the newest one shows the call and its error.",
            (
                "A status such as 401 or 404 speaks of our credentials or address: see InventoryRefusesUs. "
                "A timeout or a refused connection speaks of the Inventory Service: ask its owners."
            ),
            (
                "The alert ends with the next order that inventory answers. Waiting orders are tried again by "
                "themselves; refused ones have to be placed again by the customer."
            ),
        ),
        page="orders",
        value=RunOrShare(MaxGauge("orders_refused_in_a_row"), REFUSED_IN_A_ROW, _REFUSED, _DECIDED, REFUSED_SHARE),
        comparison=">=",
        threshold=REFUSED_IN_A_ROW,
        keep_firing_for=min(LONGEST_KEEP, window / 5),
        filters={"status": "REJECTED"},
    )


def _service_refused(_settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="InventoryRefusesUs",
        severity="critical",
        summary="The Inventory Service refuses this service: status {status} to {operation}.",
        runbook=(
            (
                "The calls arrive and are refused before the order is looked at. 401, 403 and 407 speak of "
                "credentials; 404, 405 and 421 of the address; 425 and 400 of what stands between."
            ),
            (
                "401 or 403: renew INVENTORY_SERVICE_TOKEN and start the worker again. 407: the proxy between asks "
                "for credentials."
            ),
            "404, 405 or 421: compare INVENTORY_SERVICE_URL with the address that the owners name.",
            (
                "Meanwhile standard orders are refused, high-priority ones wait for inventory; the breaker opens "
                "when there are enough calls."
            ),
        ),
        page="breakers",
        value=Ratio(Increase(REFUSALS.name, by=("operation", "status")), Increase(REQUESTS.name, by=("operation",))),
        comparison=">=",
        threshold=REFUSES_US_SHARE,
        unit="share",
    )


def _breaker_open(_settings: Settings, window: timedelta) -> Rule:
    return Rule(
        name="InventoryCircuitBreakerOpen",
        severity="critical",
        summary="A circuit breaker of the Inventory Service is open: calls are refused without being sent.",
        runbook=(
            (
                "Too many calls of one operation failed, or a person forced the breaker open. While checks or "
                "reservations are denied, standard orders are refused with 503 and high-priority ones wait for "
                "inventory; while releases are denied, they wait."
            ),
            "Look at Breakers: which operation, since when, when the next trial is let through.",
            "Ask the owners of the Inventory Service, with the error of the last calls of an affected order.",
            (
                "Nothing has to be restarted here: after the next successful trial what waits goes on by itself. "
                "A breaker that is forced open stays so until its override ends or a person ends it."
            ),
        ),
        page="breakers",
        value=MaxGauge(BREAKER_STATE, ("breaker",), {"state": ("open", "forced_open")}),
        unit="state",
        # During an outage the breaker turns half-open for each trial call; the alert must not resolve each time.
        keep_firing_for=min(LONGEST_KEEP, window / 5),
    )


def _reservation_success_low(settings: Settings, window: timedelta) -> Rule:
    return Rule(
        name="InventoryReservationSuccessLow",
        severity="critical",
        summary="Too many reservations are not answered by the Inventory Service.",
        runbook=(
            (
                "Timeouts, connection errors, server errors, refusals of this service and calls denied by an open "
                "breaker are failures, and so is an order that a failed check ended before its reservation; a "
                "shortage is an answer, not a failure."
            ),
            (
                "Look at Breakers: the reservation breaker's failures and latency say whether the service is down "
                "or slow."
            ),
            "Then at Manual review: cases of waiting orders can be retried there once the service is back.",
        ),
        page="breakers",
        value=Ratio(ANSWERED_RESERVATIONS, _ASKED_FOR),
        comparison="<",
        threshold=settings.alert_reservation_success_rate,
        unit="share",
        for_duration=window / 5,
        enough=_ASKED_FOR,
    )


def _reservation_queue_deep(settings: Settings, window: timedelta) -> Rule:
    return Rule(
        name="InventoryReservationQueueDeep",
        severity="warning",
        summary="Many orders wait for inventory.",
        runbook=(
            "Orders in PENDING_INVENTORY are tried again after growing delays, then only from Manual review.",
            "Look at Orders, status Waiting for inventory: since when, and for which products.",
            "If the Inventory Service is well, retry them from Manual review; if it is not, see its breaker.",
        ),
        page="orders",
        value=MaxGauge("reservation_queue_depth"),
        threshold=settings.alert_queue_depth,
        for_duration=window / 5,
        filters={"status": "PENDING_INVENTORY"},
    )


def _releases_failing(settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="InventoryReleasesFailing",
        severity="warning",
        summary="Attempts to release stock fail repeatedly.",
        runbook=(
            "Reserved stock cannot be sold until it is released or its reservation expires.",
            "Look at Releases: the latest error of each job. Pending jobs are tried again by themselves.",
            "Failed jobs wait for a person: retry one; if it succeeds, retry the rest.",
        ),
        page="releases",
        value=Increase(RELEASES.name, {"outcome": ("retried", "failed")}),
        comparison=">=",
        threshold=settings.alert_release_failures,
        filters={"job": "FAILED"},
    )


def _availability_slow(settings: Settings, window: timedelta) -> Rule:
    return Rule(
        name="InventoryAvailabilitySlow",
        severity="warning",
        summary="Checks of availability are slow (95th percentile).",
        runbook=(
            "Every order waits for this call first; at the timeout of a call it counts as failed.",
            "Look at Breakers: latency and failures of the availability check.",
            "Ask the owners of the Inventory Service about load and slow queries.",
        ),
        page="breakers",
        value=Quantile(0.95, DURATION, _CHECK),
        threshold=settings.alert_availability_latency / 1000,
        unit="seconds",
        for_duration=window / 5,
        enough=Increase(f"{DURATION}_count", _CHECK),
    )


def _outbox_stalled(settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="OutboxStalled",
        severity="critical",
        summary="Events are not being published: the oldest has waited too long.",
        runbook=(
            "Confirmations, cancels and returns reach the Inventory Service as events; none is lost, all wait.",
            "Look at Overview: is the connection to NATS lost, or no worker running?",
            "Ask /readyz of the worker: its reason says what the NATS server answers, or that it does not.",
            "A full disk: free space. What waits is published by itself, as a rule within a minute.",
            "The NATS server that Holdfast runs (no NATS_URL) is started again when it goes on refusing then.",
            "Your own NATS server: when it refuses on a disk with free space, restart it; nothing else ends that.",
        ),
        page="events",
        value=MaxGauge("outbox_oldest_age_seconds"),
        threshold=settings.alert_outbox_age / 1000,
        unit="seconds",
    )


def _dead_letters_present(_settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="DeadLettersPresent",
        severity="warning",
        summary="Events could not be handled and wait for a person.",
        runbook=(
            "Each is kept with its bytes and the reason; the order it belongs to may wait for it.",
            "Read the reasons (GET /api/v1/dead-letters groups them), mend the cause, then replay them.",
            "Discard only what is known to be meaningless; a reason is kept.",
        ),
        page="events",
        value=MaxGauge("dead_letters"),
    )


def _orders_needing_attention(_settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="OrdersNeedingAttention",
        severity="critical",
        summary="Orders whose step failed unexpectedly, or events that can never be published, need a person.",
        runbook=(
            (
                "A step that failed is tried again by itself, at last every 15 minutes, and its case closes once "
                "the order gets on; an event that can never be published is not tried again. The cause is in this "
                "software, in a row or in the broker."
            ),
            (
                "Look at Manual review, reason Step failed: the case names what was raised. Report it, and retry "
                "the case once the cause is mended, or cancel the order."
            ),
            (
                "Look at Events, Cannot be published: each with its reason. Raise max_payload of the broker or "
                "max_msg_size of the stream, then publish it again; or tell the Inventory Service by other means "
                "what the event says, and give it up. Without the console: GET /api/v1/outbox, then POST "
                "/api/v1/outbox/{id}/retry or /discard with a reason."
            ),
        ),
        page="reviews",
        more_pages=("events",),
        value=SumOfGauges(
            (
                MaxGauge("manual_reviews_open", ("reason",), {"reason": (ReviewReason.STEP_FAILED.value,)}),
                MaxGauge("outbox_undeliverable"),
            )
        ),
    )


def _reviews_aging(settings: Settings, _window: timedelta) -> Rule:
    return Rule(
        name="ManualReviewsAging",
        severity="warning",
        summary="A case in the manual-review queue has waited too long.",
        runbook=(
            (
                "Behind every case is an order, a payment or reserved stock that needs a decision. What waits for "
                "inventory is tried again by itself until its tries are used up, a failed step for ever; the rest "
                "stays until a person acts."
            ),
            "Look at Manual review and sort by Longest waiting. Group the cases by cause and resolve each group.",
        ),
        page="reviews",
        value=MaxGauge("manual_reviews_oldest_age_seconds"),
        threshold=settings.alert_review_age / 1000,
        unit="seconds",
    )


RULES: tuple[Callable[[Settings, timedelta], Rule], ...] = (
    _orders_refused,
    _service_refused,
    _breaker_open,
    _reservation_success_low,
    _reservation_queue_deep,
    _releases_failing,
    _availability_slow,
    _outbox_stalled,
    _dead_letters_present,
    _orders_needing_attention,
    _reviews_aging,
)
