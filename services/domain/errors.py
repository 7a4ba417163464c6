"""The hierarchy of all errors that Holdfast returns to callers.

    HoldfastError
    ├── ConfigurationError        a setting is wrong; raised before any port is opened
    ├── BusinessError             expected answers; shown to the user, never retried
    │   ├── ValidationFailed           VALIDATION_ERROR
    │   ├── PaymentDeclined            PAYMENT_DECLINED
    │   ├── NotFound                   ORDER_NOT_FOUND, REVIEW_NOT_FOUND, ...
    │   ├── InsufficientInventory      INSUFFICIENT_INVENTORY
    │   ├── InvalidState               INVALID_STATE
    │   ├── ReviewConflict             REVIEW_CONFLICT
    │   ├── ClaimedByOther             CLAIMED_BY_OTHER
    │   ├── ReleaseConflict            RELEASE_CONFLICT
    │   ├── ReservationFailed          RESERVATION_FAILED
    │   └── IdempotencyKeyReused       IDEMPOTENCY_KEY_REUSED
    └── DependencyError           another service failed; the outcome may be unknown
        ├── InventoryTimeout           INVENTORY_TIMEOUT, may have run
        ├── InventoryUnavailable       INVENTORY_UNAVAILABLE
        │   ├── CircuitOpen                not sent: the breaker is open
        │   ├── InventoryRefusesUs         the service refused the caller, not the order (401, 403, 404, ...)
        │   └── InventoryThrottled         429, or not sent because of an earlier 429
        ├── ReleaseFailed              RELEASE_FAILED
        │   └── ReleaseQueued              not sent: the breaker is open, the job runs later
        └── PaymentOutcomeUnknown      no answer: the gateway may have captured

Source: requirements 8.1; contract 3.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from services.domain.external import cut_text

Details = dict[str, Any]
T = TypeVar("T")


class HoldfastError(Exception):
    """Base class of all errors of Holdfast. A person may see its message."""


class ConfigurationError(HoldfastError):
    """A setting is wrong. The message has the variable, its value and what is allowed."""


class ApiError(HoldfastError):
    """An error with a code and retry advice; services.api.envelope maps the code to an HTTP status."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, details: Details | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Details = details or {}


class BusinessError(ApiError):
    """A definitive answer: repeating the same request gives the same answer."""


class ValidationFailed(BusinessError):
    """The request is malformed; details have each field, its value and what is allowed."""

    code = "VALIDATION_ERROR"


class PaymentDeclined(BusinessError):
    """The payment gateway declined the payment. Nothing was charged, and the reservation is released."""

    code = "PAYMENT_DECLINED"


class NotFound(BusinessError):
    """The resource does not exist. The error code contains its kind."""

    def __init__(self, kind: str, identifier: str) -> None:
        name = kind.split("-", maxsplit=1)[0] + "".join(word.capitalize() for word in kind.split("-")[1:])
        super().__init__(f"No {kind.replace('-', ' ')} {identifier!r} exists.", {f"{name}Id": identifier})
        self.code = f"{kind.upper().replace('-', '_')}_NOT_FOUND"  # type: ignore[misc]


def existing(resource: T | None, kind: str, identifier: str) -> T:
    """Return the resource that was looked up. Raises NotFound for None."""
    if resource is None:
        raise NotFound(kind, identifier)
    return resource


class InsufficientInventory(BusinessError):
    """The stock of one or more products is too small; details["items"] lists every short line.

    Each line: ``{productId, variantId, requestedQuantity, availableQuantity}``.
    """

    code = "INSUFFICIENT_INVENTORY"


class InvalidState(BusinessError):
    """The state of the order does not allow the action."""

    code = "INVALID_STATE"


class ReviewConflict(BusinessError):
    """The case is already resolved; details have the actor, the time and the action."""

    code = "REVIEW_CONFLICT"


class ClaimedByOther(BusinessError):
    """Another person has claimed the case; details have the person and the end of the claim."""

    code = "CLAIMED_BY_OTHER"


class ReleaseConflict(BusinessError):
    """The release job has changed since it was displayed; nothing was done."""

    code = "RELEASE_CONFLICT"


class ReservationFailed(BusinessError):
    """The Inventory Service refused the reservation for a reason other than stock."""

    code = "RESERVATION_FAILED"


class IdempotencyKeyReused(BusinessError):
    """An earlier request used the idempotency key with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"


class DependencyError(ApiError):
    """Another service gave no usable answer; the call may have run there."""

    retryable = True

    def __init__(
        self,
        message: str,
        details: Details | None = None,
        *,
        may_have_run: bool = True,
        retry_after_seconds: float | None = None,
        is_ours: bool = False,
    ) -> None:
        """``is_ours``: the cause is a shortage of files, memory, connections or time in this process."""
        super().__init__(message, details)
        self.may_have_run = may_have_run
        self.retry_after_seconds = retry_after_seconds
        self.is_ours = is_ours

    @property
    def is_unanswered(self) -> bool:
        """Whether the call was sent and no answer came; the details of an answer have its HTTP status."""
        return self.may_have_run and "status" not in self.details


class InventoryTimeout(DependencyError):
    """No complete answer within INVENTORY_SERVICE_TIMEOUT; the outcome is unknown."""

    code = "INVENTORY_TIMEOUT"


class InventoryUnavailable(DependencyError):
    """Connection error, 5xx or unreadable answer."""

    code = "INVENTORY_UNAVAILABLE"


class CircuitOpen(InventoryUnavailable):
    """The circuit breaker is open and nothing was sent; retry after ``retry_after_seconds``."""

    def __init__(self, breaker: str, retry_after_seconds: float) -> None:
        super().__init__(
            f"Circuit breaker {breaker} is open; nothing was sent.",
            {"breaker": breaker},
            may_have_run=False,
            retry_after_seconds=retry_after_seconds,
        )
        self.breaker = breaker


class InventoryRefusesUs(InventoryUnavailable):
    """The service refused the caller and not the order: wrong credentials, address or protocol.

    An immediate retry fails too; a person has to correct the configuration.
    """


class InventoryThrottled(InventoryUnavailable):
    """The service limits the rate of calls; retry after ``retry_after_seconds``."""

    def __init__(
        self, message: str, details: Details | None = None, *, was_sent: bool, retry_after_seconds: float | None
    ) -> None:
        super().__init__(message, details, may_have_run=False, retry_after_seconds=retry_after_seconds)
        self.was_sent = was_sent


class ReleaseFailed(DependencyError):
    """The Inventory Service did not confirm the release of a reservation."""

    code = "RELEASE_FAILED"


class ReleaseQueued(ReleaseFailed):
    """The circuit breaker is open. Nothing was sent; the release job runs when the breaker allows calls."""


class PaymentOutcomeUnknown(DependencyError):
    """The payment gateway gave no answer, so the money may have been captured."""

    code = "PAYMENT_UNKNOWN"


MAX_REASON = 500
"""Characters of the stored reason of an unexpected error."""


def reason_of(error: BaseException) -> str:
    """Return the exception as one line of at most MAX_REASON characters that every database stores."""
    return cut_text(" ".join(f"{type(error).__name__}: {error}".split()), MAX_REASON)
