"""Whatever a client sends: stored and read again unchanged, or refused with 400 that names the field."""

from __future__ import annotations

import base64
from urllib.parse import quote

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.domain.external import is_same_id
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import Line
from state import orders
from tests.support.api import ORDERS, error_of, problems_of
from tests.support.examples import examples

JSON = {"Content-Type": "application/json"}
IDS = [
    "auth0|x",
    "gid://shop/Product/1",
    "ABC/12",
    "Größe-M",
    "a b",
    ".",
    "..",
    "%2F",
    "a%2Fb",
    "日本",
    "x" * 128,
    "?a=b#c",
]
UPPER = "0A1B2C3D-0000-4000-8000-00000000ABCD"


async def send(api, path: str, content: bytes, **headers: str):
    return await api.client.post(path, content=content, headers=JSON | headers)


def address(order_id: str, rest: str = "") -> str:
    """As curl and browsers write it; dots alone would be taken for steps in the tree."""
    return f"{ORDERS}/{quote(order_id, safe='').replace('.', '%2E')}{rest}"


@pytest.mark.parametrize("order_id", IDS)
async def test_any_printable_text_is_an_id_everywhere(api, order_id):
    items = [{"productId": order_id, "variantId": order_id, "quantity": 2}]
    placed = await api.post(ORDERS, {"orderId": order_id, "userId": order_id, "items": items})
    assert placed.status_code == 201, placed.text
    assert (await api.data(address(order_id)))["items"][0]["productId"] == order_id
    assert (await api.data(address(order_id, "/timeline")))["items"]
    assert [o["orderId"] for o in (await api.data(ORDERS, userId=order_id))["items"]] == [order_id]
    cancelled = await api.post(address(order_id, "/cancel"), {"reason": "changed my mind"})
    assert cancelled.json()["data"]["status"] == "CANCELLED"


async def test_a_page_after_any_id_begins_where_the_last_one_ended(api, order_body):
    for order_id in IDS:
        await api.post(ORDERS, order_body(orderId=order_id))
    found, cursor = [], None
    while True:
        page = await api.data(ORDERS, limit=2, **({"cursor": cursor} if cursor else {}))
        found += [order["orderId"] for order in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert sorted(found) == sorted(IDS)


async def test_two_cases_of_one_uuid_are_one_order_and_one_line(api, order_body):
    line = {"productId": UPPER, "variantId": "V", "quantity": 1}
    items = [line, line | {"productId": UPPER.lower(), "quantity": 2}, line | {"variantId": "v"}]
    placed = (await api.post(ORDERS, order_body(orderId=UPPER, items=items), idempotency_key="k")).json()["data"]
    assert placed["orderId"] == UPPER.lower()
    assert [(item["productId"], item["variantId"], item["quantity"]) for item in placed["items"]] == [
        (UPPER, "V", 3),
        (UPPER, "v", 1),
    ]
    again = [line | {"productId": UPPER.lower(), "quantity": 3}, line | {"variantId": "v"}]
    repeated = await api.post(ORDERS, order_body(orderId=UPPER.lower(), items=again), idempotency_key="k")
    assert (repeated.status_code, repeated.json()["data"]["orderId"]) == (201, placed["orderId"])
    for written in (UPPER, UPPER.lower()):
        assert is_same_id((await api.data(f"{ORDERS}/{written}"))["orderId"], written)


async def test_goods_are_returned_under_another_case_of_their_id(api):
    line = {"productId": UPPER, "variantId": "V", "quantity": 2}
    await api.shop.place_confirmed(order_id="mine", lines=(Line(UPPER, "V", 2),))
    body = {"items": [line | {"productId": UPPER.lower(), "quantity": 1}], "reason": "too large"}
    returned = await api.post(f"{ORDERS}/mine/return", body)
    assert returned.status_code == 200, returned.text
    assert returned.json()["data"]["order"]["items"][0]["returnedQuantity"] == 1


BROKEN = {
    "NaN": b'"metadata":{"a":NaN}',
    "infinity": b'"metadata":{"a":[-Infinity]}',
    "1e400": b'"metadata":{"a":1e400}',
    "NUL": b'"metadata":{"a":"\\u0000"}',
    "NUL in a key": b'"metadata":{"\\u0000":1}',
    "65 bits": b'"metadata":{"a":18446744073709551616}',
    "deep": b'"metadata":{"a":' + b"[" * 40 + b"]" * 40 + b"}",
}


@pytest.mark.parametrize("field", BROKEN.values(), ids=BROKEN)
async def test_metadata_that_cannot_be_read_again_is_refused_by_name(api, order_body, field):
    content = orjson.dumps(order_body()).replace(b'"userId"', field + b',"userId"')
    assert [problem["field"] for problem in problems_of(await send(api, ORDERS, content))] == ["metadata"]


NO_JSON = [b"{", b"\xff\xfe", b'{"userId":"\\ud800"}', b"[" * 5_000, b"NaN", b"1e400", b"9" * 10_000]


@pytest.mark.parametrize("content", NO_JSON, ids=range(len(NO_JSON)))
async def test_what_is_no_body_is_refused(api, content):
    assert problems_of(await send(api, ORDERS, content))[0]["field"] in ("body", "userId")


async def test_a_body_may_begin_with_a_byte_order_mark(api, order_body):
    assert (await send(api, ORDERS, b"\xef\xbb\xbf" + orjson.dumps(order_body()))).status_code == 201


NUMBERS = [b"1e400", b"NaN", b"-1", b"9223372036854775808", b"1" + b"0" * 500]


@pytest.mark.parametrize("number", NUMBERS)
async def test_a_number_beyond_what_is_stored_is_refused_by_name(api, order_body, number):
    content = orjson.dumps(order_body()).replace(b'"quantity":2', b'"quantity":' + number)
    assert [problem["field"] for problem in problems_of(await send(api, ORDERS, content))] == ["items.0.quantity"]
    content = b'{"action":"APPROVE","version":' + number + b"}"
    assert problems_of(await send(api, "/api/v1/reviews/x/resolve", content))[0]["field"] == "version"


async def test_unknown_fields_cost_little_and_are_reported_once(api, order_body):
    many = {f"field{number}": number for number in range(30_000)}
    for body in (order_body(**many), order_body(items=[many])):
        answer = await api.post(ORDERS, body)
        assert len(problems_of(answer)) <= 20
        assert len(answer.content) < 10_000


async def test_a_body_is_as_large_as_its_route_needs(api):
    for path, size in ((f"{ORDERS}/x/cancel", 40_000), (ORDERS, 800_000), ("/api/v2/alerts", 1_100_000)):
        error_of(await send(api, path, b" " * size), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("raw", "key"), [("schlüssel", "schlüssel"), ("schlüssel".encode(), "schlüssel"), (b"a b", "a b")]
)
async def test_an_idempotency_key_is_read_as_its_sender_meant_it(api, order_body, raw, key):
    header = raw if isinstance(raw, bytes) else raw.encode("latin-1")
    for _ in range(2):
        answer = await api.client.post(ORDERS, json=order_body(), headers=[(b"Idempotency-Key", header)])
        assert answer.status_code == 201
    reused = await api.client.post(ORDERS, json=order_body(userId="other"), headers=[(b"Idempotency-Key", header)])
    assert error_of(reused, 422, "IDEMPOTENCY_KEY_REUSED")["details"] == {"idempotencyKey": key}


@pytest.mark.parametrize("raw", [b"\x7f", b"a\tb", b"k" * 129, b"\xc2\x85"])
async def test_an_idempotency_key_that_is_none_is_refused_by_name(api, order_body, raw):
    answer = await api.client.post(ORDERS, json=order_body(), headers=[(b"Idempotency-Key", raw)])
    assert problems_of(answer)[0]["field"] == "Idempotency-Key"


async def test_names_in_headers_are_cut_and_printable(api):
    headers = [(b"X-Actor", "Zoë\t".encode() + b"x" * 5_000), (b"X-Correlation-Id", b"c\x01" + b"x" * 5_000)]
    answer = await api.client.request("DELETE", "/api/v1/breakers/inventoryServiceChecker/override", headers=headers)
    assert answer.status_code == 200
    body = {"state": "forced_open", "reason": "drill", "expiresIn": 60_000}
    await api.client.put("/api/v1/breakers/inventoryServiceChecker/override", json=body, headers=headers)
    (entry,) = (await api.data("/api/v1/audit"))["items"]
    assert entry["actor"].startswith("Zoë\ufffdx")
    assert (len(entry["actor"]), len(entry["correlationId"])) == (128, 128)


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


QUERIES = [
    (ORDERS, {"cursor": cursor_of("9999-12-31T23:59:59-05:00 x")}, "cursor"),
    (ORDERS, {"cursor": cursor_of("0001-01-01T00:00:00+01:00 x")}, "cursor"),
    (ORDERS, {"cursor": cursor_of("2026-01-01T00:00:00 x")}, "cursor"),
    (ORDERS, {"cursor": cursor_of("2026-01-01T00:00:00Z a\x00")}, "cursor"),
    (ORDERS, {"cursor": "é"}, "cursor"),
    (ORDERS, {"cursor": "x" * 2_000}, "cursor"),
    (ORDERS, {"userId": "a\x00"}, "userId"),
    (ORDERS, {"limit": "1" * 5_000}, "limit"),
    (ORDERS, {"limit": "nan"}, "limit"),
    ("/api/v1/alerts/history", {"alertId": "a\x00"}, "alertId"),
    ("/api/v1/reviews", {"orderId": "a\x00"}, "orderId"),
    ("/api/v1/audit", {"limit": "-1"}, "limit"),
    (ORDERS, {f"p{number}": "1" for number in range(50)}, "query"),
]


@pytest.mark.parametrize(("path", "query", "field"), QUERIES)
async def test_a_parameter_that_cannot_be_used_is_refused_by_name(api, path, query, field):
    assert problems_of(await api.get(path, **query))[0]["field"] == field


TIMES = [
    "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+01:00",
    "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00",
    "",
    7,
    "x" * 99,
]


@pytest.mark.parametrize("field", ["startsAt", "endsAt"])
@pytest.mark.parametrize("time", TIMES)
async def test_an_alert_with_a_time_that_is_none_is_refused_by_name(api, field, time):
    answer = await api.client.post("/api/v2/alerts", json=[{"labels": {"alertname": "A"}, field: time}])
    assert problems_of(answer)[0]["field"] == f"0.{field}"


@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800"])
async def test_a_label_that_cannot_be_stored_is_refused(api, text):
    content = b'[{"labels":{"alertname":"A","b":"' + text + b'"}}]'
    error_of(await send(api, "/api/v2/alerts", content), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "9" * 400])
async def test_a_value_that_is_no_number_leaves_the_alert_without_one(api, value):
    alert = {"labels": {"alertname": "A"}, "annotations": {"value": value}}
    assert (await api.client.post("/api/v2/alerts", json=[alert])).status_code == 200
    assert (await api.data("/api/v1/alerts"))["items"][0]["value"] is None


async def test_a_timeline_with_large_details_is_cut_and_reports_it(api, order_body):
    await api.post(ORDERS, order_body(orderId="mine"))
    details = {"reason": "x" * 250_000, "items": [{"productId": "p" * 300}] * 4_000, "known": 1}
    details |= {f"n{number}": number for number in range(20_000)}
    entry = TimelineEntry(api.shop.clock(), "event_in", "t" * 5_000, details)
    await api.shop.real_database.write(lambda c: orders.add_timeline(c, "mine", [entry]))
    answer = await api.get(f"{ORDERS}/mine/timeline")
    shown = answer.json()["data"]["items"][-1]
    assert (shown["detailsAreCut"], shown["details"]["known"]) == (True, 1)
    assert len(answer.content) < 20_000
    assert answer.json()["data"]["isCut"] is False


FIELDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metadata=st.dictionaries(st.text(max_size=5), FIELDS, max_size=3), user=FIELDS)
async def test_a_body_is_stored_unchanged_or_refused(api, metadata, user):
    content = _json(
        {"userId": user, "items": [{"productId": "p", "variantId": "v", "quantity": 1}], "metadata": metadata}
    )
    answer = await send(api, ORDERS, content)
    assert answer.status_code in (201, 400), answer.text
    if answer.status_code == 201:
        stored = await api.data(f"{ORDERS}/{answer.json()['data']['orderId']}")
        assert (stored["metadata"], stored["userId"]) == (metadata, user)


def _json(value: object) -> bytes:
    """As a careless client writes it: NaN, infinities and half surrogate pairs included."""
    import json

    return json.dumps(value).encode()
