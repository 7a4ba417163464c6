"""Orders over HTTP: statuses, shapes and errors of contract 3."""

from __future__ import annotations

import asyncio
import base64

import orjson
import pytest

from services.api.models import MAX_BODY_BYTES
from services.orders.placement import Overloaded
from state.engine.transactions import DatabaseOverloaded
from tests.support.api import ORDERS, TIMESTAMP, error_of, problems_of
from tests.support.fakes import CAPTURE, Fault, PaymentFault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"


# --------------------------------------------------------------------- placing


async def test_a_placed_order_is_answered_with_201_and_its_whole_view(api, order_body):
    answer = await api.post(ORDERS, order_body(orderId="mine", metadata={"channel": "web"}))
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"success", "data", "meta"}
    assert body["success"] is True
    assert TIMESTAMP.fullmatch(body["meta"]["timestamp"])
    assert body["data"] == {
        "orderId": "mine",
        "userId": "user-1",
        "customerPriority": "standard",
        "status": "PLACED",
        "inventoryStatus": "CONFIRM_REQUESTED",
        "paymentStatus": "CAPTURED",
        "reservationId": "reservation-1",
        "reservationExpiresAt": "2026-03-01T12:30:00.000Z",
        "confirmedAt": None,
        "items": [
            {"productId": "chair", "variantId": "oak", "quantity": 2, "returnedQuantity": 0},
            {"productId": "lamp", "variantId": "brass", "quantity": 1, "returnedQuantity": 0},
        ],
        "reviews": [],
        "failure": None,
        "metadata": {"channel": "web"},
        "createdAt": "2026-03-01T12:00:00.000Z",
        "updatedAt": "2026-03-01T12:00:00.000Z",
        "version": 3,
    }
    assert await api.data(f"{ORDERS}/mine") == body["data"]


async def test_an_order_that_waits_is_answered_with_202_and_its_case(api, order_body):
    api.shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    answer = await api.post(ORDERS, order_body())
    assert answer.status_code == 202
    data = answer.json()["data"]
    assert data["status"] == "PENDING_INVENTORY"
    assert [(case["reason"], case["state"]) for case in data["reviews"]] == [("PENDING_INVENTORY", "OPEN")]


async def test_a_payment_that_is_being_settled_is_answered_with_202(api, order_body):
    api.shop.payments.fail(CAPTURE, PaymentFault.LOST_AFTER)
    answer = await api.post(ORDERS, order_body())
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "PAYING")


async def test_an_unverified_order_shows_its_case_at_once(api, order_body):
    api.shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    answer = await api.post(ORDERS, order_body(customerPriority="high"))
    assert answer.status_code == 201
    assert [case["reason"] for case in answer.json()["data"]["reviews"]] == ["AVAILABILITY_UNVERIFIED"]


REFUSALS = [
    (CHECK, Fault.TIMEOUT_BEFORE, 408, "INVENTORY_TIMEOUT", True),
    (CHECK, Fault.UNAVAILABLE, 503, "INVENTORY_UNAVAILABLE", True),
    (CHECK, Fault.CIRCUIT_OPEN, 503, "INVENTORY_UNAVAILABLE", True),
    (RESERVE, Fault.CONFLICT, 409, "INSUFFICIENT_INVENTORY", False),
    (RESERVE, Fault.REFUSED, 422, "RESERVATION_FAILED", False),
]


@pytest.mark.parametrize(("operation", "fault", "status", "code", "retryable"), REFUSALS)
async def test_a_rejected_order_is_answered_with_its_error_now_and_when_repeated(
    api, order_body, operation, fault, status, code, retryable
):
    """A final answer is repeated; one for a passing reason is given again while the reason lasts, and then no more."""
    api.shop.inventory.fail(operation, fault)
    first = await api.post(ORDERS, order_body(), idempotency_key="k")
    error = error_of(first, status, code, retryable=retryable)
    assert await api.data(f"{ORDERS}/{error['details']['orderId']}")
    if retryable:
        api.shop.inventory.fail(operation, fault)
    again = await api.post(ORDERS, order_body(), idempotency_key="k")
    assert error_of(again, status, code, retryable=retryable) == error
    assert again.headers.get("Retry-After") == first.headers.get("Retry-After")
    last = await api.post(ORDERS, order_body(), idempotency_key="k")
    assert last.status_code == (201 if retryable else status)
    assert len(await api.shop.all_orders()) == 1


async def test_the_key_of_one_token_is_not_that_of_another(api, order_body):
    first = await api.post(ORDERS, order_body(), idempotency_key="1001", x_actor="ada")
    second = await api.post(ORDERS, order_body(userId="user-2"), idempotency_key="1001", x_actor="bob")
    assert [answer.status_code for answer in (first, second)] == [201, 201]


async def test_a_declined_payment_is_answered_with_402(api, order_body):
    api.shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    error_of(await api.post(ORDERS, order_body()), 402, "PAYMENT_DECLINED")


async def test_a_shortage_lists_every_short_line(api, order_body):
    api.shop.inventory.on_hand |= {("chair", "oak"): 1, ("lamp", "brass"): 0}
    error = error_of(await api.post(ORDERS, order_body()), 409, "INSUFFICIENT_INVENTORY")
    assert error["details"]["items"] == [
        {"productId": "chair", "variantId": "oak", "requestedQuantity": 2, "availableQuantity": 1},
        {"productId": "lamp", "variantId": "brass", "requestedQuantity": 1, "availableQuantity": 0},
    ]


async def test_an_open_breaker_states_when_to_come_back(api, order_body):
    api.shop.inventory.fail(CHECK, Fault.CIRCUIT_OPEN)
    assert (await api.post(ORDERS, order_body())).headers["Retry-After"] == "12"


async def test_an_answer_without_advice_states_a_short_wait(api, order_body):
    api.shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    assert (await api.post(ORDERS, order_body())).headers["Retry-After"] == "5"


async def test_an_order_cancelled_while_it_was_placed_reports_it(api, order_body):
    async def cancel() -> None:
        await api.shop.cancel("mine")

    api.shop.inventory.hooks.before(RESERVE, cancel)
    error = error_of(await api.post(ORDERS, order_body(orderId="mine")), 409, "INVALID_STATE")
    assert error["details"] == {"orderId": "mine", "status": "CANCELLED"}


async def test_a_repeated_request_gets_the_same_order(api, order_body):
    first = await api.post(ORDERS, order_body(), idempotency_key="k")
    again = await api.post(ORDERS, order_body(), idempotency_key="k")
    assert (again.status_code, again.json()["data"]) == (201, first.json()["data"])


async def test_a_repeated_request_shows_the_cases_that_came_later(api, order_body):
    await api.post(ORDERS, order_body(orderId="mine"))
    for _ in range(3):
        await api.shop.sweep_when_due("mine")
    again = await api.post(ORDERS, order_body(orderId="mine"))
    assert [case["reason"] for case in again.json()["data"]["reviews"]] == ["CONFIRMATION_TIMEOUT"]
    assert again.json()["data"] == await api.data(f"{ORDERS}/mine")


async def test_requests_at_the_same_time_with_one_key_get_the_same_answer(api, order_body):
    answers = await asyncio.gather(*(api.post(ORDERS, order_body(), idempotency_key="k") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["data"]["orderId"] for answer in answers}) == 1


async def test_a_key_with_another_body_is_refused(api, order_body):
    await api.post(ORDERS, order_body(), idempotency_key="k")
    answer = await api.post(ORDERS, order_body(userId="user-2"), idempotency_key="k")
    assert error_of(answer, 422, "IDEMPOTENCY_KEY_REUSED")["details"] == {"idempotencyKey": "k"}


@pytest.mark.parametrize("key", ["", "k" * 129], ids=["empty", "long"])
async def test_a_key_of_a_wrong_length_is_refused_by_name(api, order_body, key):
    (problem,) = problems_of(await api.post(ORDERS, order_body(), idempotency_key=key))
    assert problem["field"] == "Idempotency-Key"
    assert problem["allowed"] == "1 to 128 printable characters"
    assert await api.shop.all_orders() == []


WRONG = [
    ({"userId": None}, "userId", "None"),
    ({"userId": ""}, "userId", ""),
    ({"userId": "x" * 129}, "userId", "x" * 129),
    ({"userId": "a\nb"}, "userId", "a\nb"),
    ({"orderId": "a\x00"}, "orderId", None),
    ({"orderId": 7}, "orderId", "7"),
    ({"customerPriority": "urgent"}, "customerPriority", "urgent"),
    ({"items": []}, "items", "[]"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": 1}] * 201}, "items", None),
    ({"items": "chair"}, "items", "chair"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": 0}]}, "items.0.quantity", "0"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": -1}]}, "items.0.quantity", "-1"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": 1.5}]}, "items.0.quantity", "1.5"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": "1"}]}, "items.0.quantity", "1"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": True}]}, "items.0.quantity", "True"),
    ({"items": [{"productId": "p", "variantId": "v", "quantity": 1_000_001}]}, "items.0.quantity", "1000001"),
    ({"items": [{"productId": "p", "variantId": 7, "quantity": 1}]}, "items.0.variantId", "7"),
    ({"metadata": "web"}, "metadata", "web"),
    ({"metadata": {"channel": "x" * 20_000}}, "metadata", None),
    ({"prority": "high"}, "prority", "high"),
]


@pytest.mark.parametrize(("change", "field", "value"), WRONG, ids=lambda value: str(value)[:50])
async def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(api, order_body, change, field, value):
    (problem,) = problems_of(await api.post(ORDERS, order_body(**change)))
    assert (set(problem), problem["field"]) == ({"field", "value", "allowed"}, field)
    assert problem["allowed"]
    if value is not None:
        assert problem["value"] == value
    assert await api.shop.all_orders() == []
    assert api.shop.called == []


async def test_every_wrong_field_is_named_at_once(api):
    body = {"items": [{"productId": "p", "quantity": 0}], "customerPriority": "x"}
    found = {problem["field"]: problem["value"] for problem in problems_of(await api.post(ORDERS, body))}
    assert found == {"userId": None, "items.0.variantId": None, "items.0.quantity": "0", "customerPriority": "x"}


async def test_a_number_that_cannot_be_stored_is_a_validation_error(api, order_body):
    huge = b'"metadata":{"n":123456789012345678901234567890},"userId"'
    content = orjson.dumps(order_body()).replace(b'"userId"', huge)
    answer = await api.client.post(ORDERS, content=content, headers={"Content-Type": "application/json"})
    assert [problem["field"] for problem in problems_of(answer)] == ["metadata"]


async def test_whole_numbers_may_be_written_as_floats(api):
    body = {"userId": "u", "items": [{"productId": "p", "variantId": "v", "quantity": 2.0}]}
    answer = await api.post(ORDERS, body)
    assert answer.json()["data"]["items"][0]["quantity"] == 2


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"userId": NaNa}', b"", b"[]", b"null", b'"x"'])
async def test_a_body_that_is_no_json_object_is_refused(api, content):
    answer = await api.client.post(ORDERS, content=content, headers={"Content-Type": "application/json"})
    assert problems_of(answer)


async def test_a_deeply_nested_body_is_refused(api):
    content = b'{"metadata":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    answer = await api.client.post(ORDERS, content=content, headers={"Content-Type": "application/json"})
    assert problems_of(answer)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
async def test_a_body_of_another_type_is_refused(api, content_type):
    answer = await api.client.post(ORDERS, content=b"{}", headers={"Content-Type": content_type})
    assert content_type in error_of(answer, 415, "UNSUPPORTED_MEDIA_TYPE")["message"]


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_name_its_character_set(api, order_body, content_type):
    content = orjson.dumps(order_body())
    answer = await api.client.post(ORDERS, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 201


async def test_a_body_larger_than_a_megabyte_is_refused(api):
    content = b'{"userId":"' + b"x" * MAX_BODY_BYTES + b'"}'
    answer = await api.client.post(ORDERS, content=content, headers={"Content-Type": "application/json"})
    error_of(answer, 413, "PAYLOAD_TOO_LARGE")


async def test_more_than_can_be_handled_is_refused_with_a_retry_time(api, order_body):
    async def refuse(_):
        raise Overloaded("1000 orders are being placed; come back in a second.")

    api.shop.placement.place = refuse
    error_of(await api.post(ORDERS, order_body()), 503, "SERVICE_OVERLOADED", retryable=True)


async def test_a_database_with_too_much_to_do_is_answered_as_such(api, order_body):
    async def refuse(_):
        raise DatabaseOverloaded("10000 transactions are waiting")

    api.shop.real_database.write = refuse
    error_of(await api.post(ORDERS, order_body()), 503, "SERVICE_OVERLOADED", retryable=True)


async def test_a_mistake_of_our_own_is_answered_without_its_details(api, order_body, caplog):
    async def fail(_):
        raise RuntimeError("secret")

    api.shop.placement.place = fail
    answer = await api.post(ORDERS, order_body())
    error_of(answer, 500, "INTERNAL_ERROR")
    assert "secret" not in answer.text
    assert [record.message for record in caplog.records if record.name == "holdfast.api"] == ["request_failed"]


# --------------------------------------------------------------------- reading


async def test_an_unknown_order_is_not_found(api):
    for path in (f"{ORDERS}/nobody", f"{ORDERS}/nobody/timeline"):
        assert error_of(await api.get(path), 404, "ORDER_NOT_FOUND")["details"] == {"orderId": "nobody"}


async def test_the_timeline_is_listed_oldest_first(api, order_body):
    await api.post(ORDERS, order_body(orderId="mine"))
    await api.post(f"{ORDERS}/mine/cancel", {"reason": "X"})
    items = (await api.data(f"{ORDERS}/mine/timeline"))["items"]
    assert [entry["at"] for entry in items] == sorted(entry["at"] for entry in items)
    assert {entry["kind"] for entry in items} == {"transition", "call", "event_out", "action"}
    first, action = items[0], next(entry for entry in items if entry["kind"] == "action")
    assert set(first) == {"at", "kind", "title", "details"}
    assert (first["kind"], first["title"], first["at"]) == (
        "transition",
        "Order received",
        "2026-03-01T12:00:00.000Z",
    )
    assert (action["actor"], action["details"]) == ("api", {"note": "X"})


async def many(api, number):
    for n in range(number):
        await api.shop.place(order_id=f"o-{n:03}", user_id=f"user-{n % 3}")
        if n % 2:
            api.shop.clock.advance(0.001)


async def pages(api, **query):
    """Every page of a listing, following the cursors."""
    found, cursor = [], None
    while True:
        data = await api.data(ORDERS, **query, **({"cursor": cursor} if cursor else {}))
        assert set(data) == {"items", "nextCursor"}
        found.append([order["orderId"] for order in data["items"]])
        cursor = data["nextCursor"]
        if cursor is None:
            return found


async def test_orders_are_listed_newest_first_and_page_by_page(api):
    await many(api, 25)
    expected = [f"o-{n:03}" for n in reversed(range(25))]
    assert await pages(api, limit=10) == [expected[:10], expected[10:20], expected[20:]]
    assert await pages(api, limit=25) == [expected]
    assert await pages(api) == [expected]


async def test_the_largest_page_has_a_next_one_too(api):
    await many(api, 201)
    assert [len(page) for page in await pages(api, limit=200)] == [200, 1]


async def test_pages_do_not_shift_while_new_orders_come_in(api):
    await many(api, 6)
    first = await api.data(ORDERS, limit=3)
    await api.shop.place(order_id="o-999")
    second = await api.data(ORDERS, limit=3, cursor=first["nextCursor"])
    assert [order["orderId"] for order in second["items"]] == ["o-002", "o-001", "o-000"]


async def test_orders_are_filtered_by_status_user_and_open_cases(api):
    await many(api, 4)
    api.shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await api.shop.place(order_id="waiting")
    await api.shop.cancel("o-000")

    async def ids(**query):
        return [order["orderId"] for order in (await api.data(ORDERS, **query))["items"]]

    assert await ids(status="PENDING_INVENTORY") == ["waiting"]
    assert await ids(status="CANCELLED") == ["o-000"]
    assert await ids(inventoryStatus="CONFIRM_REQUESTED") == ["o-003", "o-002", "o-001"]
    assert await ids(userId="user-0") == ["o-003", "o-000"]
    assert await ids(reviewOpen="true") == ["waiting"]
    assert await ids(reviewOpen="false") == ["o-003", "o-002", "o-001", "o-000"]
    assert await ids(status="PLACED", userId="user-0") == ["o-003"]


async def test_a_parameter_without_a_value_is_one_not_given(api):
    await many(api, 2)
    path = f"{ORDERS}?status=&inventoryStatus=&reviewOpen=&userId=&limit=&cursor="
    assert len((await api.data(path))["items"]) == 2


FAR = base64.urlsafe_b64encode(b"0001-01-01T00:00:00+14:00 o-1").decode()
NAIVE = base64.urlsafe_b64encode(b"2026-01-01T00:00:00 o-1").decode()
NUL = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 o\x00").decode()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "LOST"}, "status"),
        ({"inventoryStatus": "X"}, "inventoryStatus"),
        ({"reviewOpen": "perhaps"}, "reviewOpen"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"userId": "a\nb"}, "userId"),
        ({"state": "PLACED"}, "state"),
        *(({"cursor": cursor}, "cursor") for cursor in ("x", "!!!!", "äöü", "AAAA", FAR, NAIVE, NUL)),
    ],
)
async def test_a_wrong_parameter_is_named(api, query, field):
    (problem,) = problems_of(await api.get(ORDERS, **query))
    assert problem["field"] == field
    assert problem["value"] == query[field]


# ------------------------------------------------------- cancelling, returning


async def test_a_cancel_answers_with_the_order_and_does_nothing_twice(api, order_body):
    await api.post(ORDERS, order_body(orderId="mine"))
    first = await api.post(f"{ORDERS}/mine/cancel", {"reason": "CHANGED_MIND"})
    assert first.status_code == 200
    assert first.json()["data"]["status"] == "CANCELLED"
    again = await api.post(f"{ORDERS}/mine/cancel", {"reason": "AGAIN"})
    assert (again.status_code, again.json()["data"]) == (200, first.json()["data"])
    assert (await api.shop.sent())[-1].data["reason"] == "CHANGED_MIND"


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_a_cancel_without_a_reason_is_the_customers(api, order_body, content):
    await api.post(ORDERS, order_body(orderId="mine"))
    answer = await api.client.post(f"{ORDERS}/mine/cancel", content=content)
    assert answer.status_code == 200
    assert (await api.shop.order("mine")).cancel_reason == "CUSTOMER_CANCELLED"


async def test_an_order_that_has_ended_cannot_be_cancelled(api, order_body):
    api.shop.inventory.fail(RESERVE, Fault.CONFLICT)
    await api.post(ORDERS, order_body(orderId="mine"))
    error = error_of(await api.post(f"{ORDERS}/mine/cancel", {"reason": "X"}), 409, "INVALID_STATE")
    assert error["details"] == {"orderId": "mine", "status": "REJECTED"}


async def test_an_unknown_order_can_be_neither_cancelled_nor_returned(api, order_body):
    error_of(await api.post(f"{ORDERS}/nobody/cancel", {"reason": "X"}), 404, "ORDER_NOT_FOUND")
    body = {"items": order_body()["items"], "reason": "X"}
    error_of(await api.post(f"{ORDERS}/nobody/return", body), 404, "ORDER_NOT_FOUND")


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\x00b", 7], ids=["empty", "long", "nul", "number"])
async def test_a_reason_that_cannot_be_kept_is_refused(api, order_body, reason):
    await api.post(ORDERS, order_body(orderId="mine"))
    assert problems_of(await api.post(f"{ORDERS}/mine/cancel", {"reason": reason}))[0]["field"] == "reason"
    assert (await api.shop.order("mine")).status == "PLACED"


async def test_a_return_answers_with_its_id_and_the_order(api):
    await api.shop.place_confirmed(order_id="mine")
    items = [{"productId": "chair", "variantId": "oak", "quantity": 1}]
    answer = await api.post(f"{ORDERS}/mine/return", {"returnId": "r-1", "items": items, "reason": "DAMAGED"})
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (set(data), data["returnId"]) == ({"returnId", "order"}, "r-1")
    assert (data["order"]["status"], data["order"]["items"][0]["returnedQuantity"]) == ("PARTIALLY_RETURNED", 1)
    again = await api.post(f"{ORDERS}/mine/return", {"returnId": "r-1", "items": items, "reason": "DAMAGED"})
    assert again.json()["data"] == data
    excess = {"items": [items[0] | {"quantity": 2}], "reason": "DAMAGED"}
    error = error_of(await api.post(f"{ORDERS}/mine/return", excess), 409, "INVALID_STATE")
    assert error["details"]["items"] == [items[0] | {"quantity": 2, "returnableQuantity": 1}]
    other = {"returnId": "r-1", "items": excess["items"], "reason": "DAMAGED"}
    error_of(await api.post(f"{ORDERS}/mine/return", other), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_return_without_an_id_is_given_one(api):
    await api.shop.place_confirmed(order_id="mine")
    items = [{"productId": "chair", "variantId": "oak", "quantity": 1}]
    ids = [
        (await api.post(f"{ORDERS}/mine/return", {"items": items, "reason": "X"})).json()["data"]["returnId"]
        for _ in range(2)
    ]
    assert len(set(ids)) == 2


# ----------------------------------------------------------- routes and methods


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v1/order", "/api/v2/orders", f"{ORDERS}/a/b/c"])
async def test_what_does_not_exist_is_not_found(api, path):
    error_of(await api.get(path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", ORDERS, {"GET", "HEAD", "POST"}),
        ("PUT", f"{ORDERS}/mine", {"GET", "HEAD"}),
        ("GET", f"{ORDERS}/mine/cancel", {"POST"}),
        ("POST", "/api/v1/products", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("POST", "/api/v1/breakers/inventoryServiceChecker/override", {"PUT", "DELETE"}),
    ],
)
async def test_a_method_that_a_route_does_not_have_names_those_it_has(api, method, path, allowed):
    answer = await api.client.request(method, path)
    error_of(answer, 405, "METHOD_NOT_ALLOWED")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed


@pytest.mark.parametrize("path", [f"{ORDERS}/%00", f"{ORDERS}/a%00b/timeline", f"{ORDERS}/{'x' * 5000}"])
async def test_an_impossible_identity_is_not_found(api, path):
    error_of(await api.get(path), 404, "ORDER_NOT_FOUND")
