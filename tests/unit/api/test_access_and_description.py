"""Who may call what, what the service says about itself, and whether it is alive and ready."""

from __future__ import annotations

import re
from itertools import product

import pytest

from services.api.routing import ApiRoute
from services.messaging.consumer import Delivery
from tests.support.api import ORDERS, error_of
from tests.support.fakes import Fault

VIEWER, OPERATOR, ADMIN, SERVICE = "viewer", "operator", "admin", "service"
EVERYBODY = {VIEWER, OPERATOR, ADMIN, SERVICE}
TRADERS = {OPERATOR, ADMIN, SERVICE}
OPERATORS = {OPERATOR, ADMIN}

MAY = {
    ("POST", ORDERS): TRADERS,
    ("POST", f"{ORDERS}/x/cancel"): TRADERS,
    ("POST", f"{ORDERS}/x/return"): TRADERS,
    ("GET", ORDERS): EVERYBODY,
    ("GET", f"{ORDERS}/x"): EVERYBODY,
    ("GET", f"{ORDERS}/x/timeline"): EVERYBODY,
    ("GET", "/api/v1/reviews"): EVERYBODY,
    ("POST", "/api/v1/reviews/x/claim"): OPERATORS,
    ("POST", "/api/v1/reviews/x/release-claim"): OPERATORS,
    ("POST", "/api/v1/reviews/x/resolve"): OPERATORS,
    ("GET", "/api/v1/releases"): EVERYBODY,
    ("POST", "/api/v1/releases/retry"): OPERATORS,
    ("POST", "/api/v1/releases/x/retry"): OPERATORS,
    ("GET", "/api/v1/bulk-jobs"): EVERYBODY,
    ("GET", "/api/v1/bulk-jobs/x"): EVERYBODY,
    ("GET", "/api/v1/breakers"): EVERYBODY,
    ("PUT", "/api/v1/breakers/x/override"): OPERATORS,
    ("DELETE", "/api/v1/breakers/x/override"): OPERATORS,
    ("GET", "/api/v1/products"): EVERYBODY,
    ("GET", "/api/v1/dead-letters"): EVERYBODY,
    ("GET", "/api/v1/dead-letters/x"): EVERYBODY,
    ("POST", "/api/v1/dead-letters/x/replay"): OPERATORS,
    ("POST", "/api/v1/dead-letters/x/discard"): OPERATORS,
    ("GET", "/api/v1/outbox"): EVERYBODY,
    ("POST", "/api/v1/outbox/x/retry"): OPERATORS,
    ("POST", "/api/v1/outbox/x/discard"): OPERATORS,
    ("GET", "/api/v1/differences"): EVERYBODY,
    ("POST", "/api/v1/differences/x/x/compensate"): OPERATORS,
    ("GET", "/api/v1/audit"): EVERYBODY,
    ("GET", "/api/v1/alerts"): EVERYBODY,
    ("GET", "/api/v1/alerts/history"): EVERYBODY,
    ("GET", "/api/v1/alerts/notifications"): EVERYBODY,
    ("POST", "/api/v1/alerts/x/acknowledge"): OPERATORS,
    ("POST", "/api/v1/alerts/x/silence"): OPERATORS,
    ("GET", "/api/v1/silences"): EVERYBODY,
    ("POST", "/api/v1/silences"): OPERATORS,
    ("POST", "/api/v1/silences/preview"): EVERYBODY,
    ("DELETE", "/api/v1/silences/x"): OPERATORS,
    ("POST", "/api/v2/alerts"): TRADERS,
}
OPEN = ["/metrics", "/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/docs"]


@pytest.mark.parametrize(("method", "path"), MAY)
async def test_nobody_gets_in_without_a_token_that_is_known(guarded, method, path):
    for presented in ("", "Bearer", "Bearer wrong", "Basic secret-of-admin", "secret-of-admin"):
        headers = {"X-Actor": "ada", **({"Authorization": presented} if presented else {})}
        answer = await guarded.client.request(method, path, headers=headers)
        error_of(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("call", "role"), list(product(MAY.items(), sorted(EVERYBODY))))
async def test_a_role_may_do_what_it_is_for_and_nothing_else(guarded, call, role):
    (method, path), allowed = call
    guarded.acting_as(role)
    answer = await guarded.client.request(method, path)
    if role in allowed:
        assert answer.status_code not in (401, 403)
    else:
        error = error_of(answer, 403, "FORBIDDEN")
        assert error["details"] == {"role": role, "allowed": sorted(allowed)}


async def test_the_name_of_the_token_is_the_actor_whatever_the_caller_sends(guarded, order_body):
    guarded.acting_as(OPERATOR)
    await guarded.post(ORDERS, order_body(orderId="mine"))
    await guarded.post(f"{ORDERS}/mine/cancel", {"reason": "X"}, x_actor="somebody else")
    (entry,) = await guarded.shop.audit()
    assert entry.actor == "operator"


async def test_a_cancel_by_the_shop_is_no_manual_action(guarded, order_body):
    guarded.acting_as(SERVICE)
    await guarded.post(ORDERS, order_body(orderId="mine"))
    await guarded.post(f"{ORDERS}/mine/cancel", {"reason": "X"})
    assert await guarded.shop.audit() == []


@pytest.mark.parametrize("path", OPEN)
async def test_what_machines_look_at_needs_no_token(guarded, path):
    assert (await guarded.get(path)).status_code == 200


def test_every_endpoint_has_its_row_in_the_table_above(api):
    known = {(method, re.sub(r"/x(?=/|$)", "/{}", path)) for method, path in MAY}
    built = {
        (method, re.sub(r"{\w+}", "{}", route.path))
        for route in api.app.routes
        if isinstance(route, ApiRoute)
        for method in route.methods
    }
    assert built == known


# -------------------------------------------------------------------- OpenAPI


@pytest.fixture
async def document(api):
    return (await api.get("/api/v1/openapi.json")).json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


async def test_the_description_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == "1.2.3"
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}


async def test_every_route_is_described_and_nothing_else(api, document):
    described = {(method, path) for method, path, _ in operations(document)}
    served = {
        (method, route.path) for route in api.app.routes if isinstance(route, ApiRoute) for method in route.methods
    }
    assert described == served


async def test_every_operation_has_its_own_id_answers_and_parameters(document):
    found = list(operations(document))
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(set(ids)) == len(ids)
    for method, path, operation in found:
        assert operation["summary"]
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")
        statuses = set(operation["responses"])
        assert any(status.startswith("2") for status in statuses), (method, path)
        assert {"400", "401", "403"} <= statuses
        if "requestBody" in operation:
            assert {"413", "415"} <= statuses


async def test_every_reference_leads_somewhere(document):
    def references(part):
        if isinstance(part, dict):
            if "$ref" in part:
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(document))
    assert found
    for reference in found:
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


async def test_placing_an_order_is_described_with_all_its_answers(document):
    operation = document["paths"][ORDERS]["post"]
    assert {"201", "202", "400", "402", "408", "409", "422", "503"} <= set(operation["responses"])
    assert {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}} in operation[
        "parameters"
    ]


async def test_what_the_service_answers_is_what_it_describes(api, document, order_body):
    schema = document["components"]["schemas"]["OrderResource"]
    answer = await api.post(ORDERS, order_body())
    assert set(answer.json()["data"]) == set(schema["properties"])


# -------------------------------------------------------------------- metrics

BREAKERS = ["inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser"]
STATES = ["closed", "open", "half_open", "forced_open", "forced_closed"]
OPERATIONS = ["check_availability", "reserve", "release"]
CODES = [
    "INVENTORY_UNAVAILABLE",
    "INSUFFICIENT_INVENTORY",
    "INVENTORY_TIMEOUT",
    "RESERVATION_FAILED",
    "RELEASE_FAILED",
]
REASONS = [
    "AVAILABILITY_UNVERIFIED",
    "PENDING_INVENTORY",
    "INVENTORY_CONFIRMATION_FAILED",
    "CONFIRMATION_TIMEOUT",
    "RELEASE_FAILED",
    "PAYMENT_UNKNOWN",
    "STEP_FAILED",
    "CONSERVATION_DIFFERENCE",
]
STATUSES = [
    "RECEIVED",
    "RESERVING",
    "PENDING_INVENTORY",
    "PAYING",
    "PLACED",
    "CONFIRMED",
    "CONFIRMATION_FAILED",
    "CANCELLED",
    "REJECTED",
    "PARTIALLY_RETURNED",
    "RETURNED",
]
OUTGOING = ["order.created", "order.cancelled", "order.returned", "inventory.confirm_requested"]
INCOMING = [
    "inventory.confirmed",
    "inventory.confirmation_failed",
    "inventory.out_of_stock",
    "inventory.low_stock",
    "inventory.back_in_stock",
]

LABELLED = {
    "inventory_request_duration_seconds_count": ("histogram", {"operation": OPERATIONS}),
    "inventory_request_duration_seconds_sum": ("histogram", {"operation": OPERATIONS}),
    "inventory_requests_total": (
        "counter",
        {
            "operation": OPERATIONS,
            "outcome": [
                "success",
                "rejected",
                "timeout",
                "unavailable",
                "invalid",
                "short_circuited",
                "refused_us",
                "throttled",
            ],
        },
    ),
    "inventory_circuit_breaker_state": ("gauge", {"breaker": BREAKERS, "state": STATES}),
    "inventory_circuit_breaker_transitions_total": ("counter", {"breaker": BREAKERS, "to": STATES}),
    "inventory_order_failures_total": ("counter", {"reason": [*CODES, *(set(REASONS) - set(CODES))]}),
    "orders_total": ("counter", {"status": STATUSES}),
    "reservation_queue_depth": ("gauge", {}),
    "release_queue_depth": ("gauge", {}),
    "outbox_pending": ("gauge", {}),
    "outbox_oldest_age_seconds": ("gauge", {}),
    "manual_reviews_open": ("gauge", {"reason": REASONS}),
    "inventory_releases_total": ("counter", {"outcome": ["released", "retried", "failed"]}),
    "events_published_total": ("counter", {"type": OUTGOING, "outcome": ["published", "failed"]}),
    "events_consumed_total": (
        "counter",
        {"type": INCOMING, "outcome": ["handled", "duplicate", "ignored", "retried", "dead_lettered"]},
    ),
    "dead_letters": ("gauge", {}),
}


def samples(text):
    """``{(name, frozenset of labels): value}`` of an exposition."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"(\w+)(?:{(.*)})? (\S+)", line).groups()
        found[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(value)
    return found


@pytest.mark.parametrize("name", LABELLED)
async def test_every_series_of_the_contract_is_there_from_the_start(api, name):
    answer = await api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    kind, labels = LABELLED[name]
    family = name.removesuffix("_total").removesuffix("_count").removesuffix("_sum")
    assert re.search(rf"^# TYPE {family}(_total)? {kind}$", answer.text, re.MULTILINE)
    found = samples(answer.text)
    for values in product(*labels.values()):
        assert (name, frozenset(zip(labels, values, strict=True))) in found


async def test_each_breaker_is_in_exactly_one_state(api):
    found = samples((await api.get("/metrics")).text)
    for breaker in BREAKERS:
        on = [
            state
            for state in STATES
            if found["inventory_circuit_breaker_state", frozenset({("breaker", breaker), ("state", state)})]
        ]
        assert on == ["closed"]


async def test_the_gauges_are_what_the_database_knows_at_the_scrape(api):
    shop = api.shop
    shop.inventory.fail("reserve", Fault.UNAVAILABLE)
    waiting = await shop.place()
    await shop.place()
    shop.inventory.fail("reserve", Fault.REFUSED)
    await shop.place()
    await shop.dead_letters.keep(
        Delivery(stream="S", stream_seq=1, subject="inventory.confirmed", payload=b"{", headers={}), "x", attempts=1
    )
    shop.clock.advance(7)
    found = {name: value for (name, labels), value in samples((await api.get("/metrics")).text).items() if not labels}
    assert (
        found
        | {
            "reservation_queue_depth": 1,
            "release_queue_depth": 1,
            "outbox_pending": 2,
            "outbox_oldest_age_seconds": 7,
            "dead_letters": 1,
        }
        == found
    )
    reviews = samples((await api.get("/metrics")).text)
    assert reviews["manual_reviews_open", frozenset({("reason", "PENDING_INVENTORY")})] == 1
    await shop.cancel(waiting.order_id)
    reviews = samples((await api.get("/metrics")).text)
    assert reviews["manual_reviews_open", frozenset({("reason", "PENDING_INVENTORY")})] == 0


# ------------------------------------------------------------ alive and ready


async def test_it_is_alive(api):
    answer = await api.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({"database": True, "nats": True}, 200),
        ({"database": False, "nats": True}, 503),
        ({"database": True, "nats": False}, 503),
    ],
)
async def test_it_is_ready_when_everything_it_needs_can_be_reached(api, parts, status):
    api.ready = parts
    answer = await api.get("/readyz")
    assert (answer.status_code, answer.json()) == (status, {"ready": status == 200, **parts})
