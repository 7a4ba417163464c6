"""Building the seed's envelope, and reading what others send. Source: requirements 5; contract 5."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from services.domain.orders import events
from services.domain.orders.events import OutgoingEvent
from services.messaging.envelope import PoisonEvent, decode, encode

AT = datetime(2023, 11, 21, 15, 27, 30, 123000, tzinfo=UTC)


def read(body, *, subject="inventory.confirmed", headers=None):
    payload = body if isinstance(body, bytes) else orjson.dumps(body)
    return decode(payload, subject=subject, headers=headers, fallback_id="STREAM:7")


def envelope(data, event_type="inventory.confirmed", **more):
    return {"id": "e-1", "type": event_type, "timestamp": "2023-11-21T15:27:30.123Z", "data": data, **more}


CONFIRMED = {"orderId": "o-1", "reservationId": "r-1"}


def test_the_envelope_has_the_seeds_seven_fields():
    body = orjson.loads(encode(events.confirm_requested("o-1", "r-1"), "e-1", AT))
    assert body == {
        "id": "e-1",
        "type": "inventory.confirm_requested",
        "source": "order-service",
        "dataVersion": "1.0",
        "timestamp": "2023-11-21T15:27:30.123Z",
        "correlationId": "o-1",
        "data": {"orderId": "o-1", "reservationId": "r-1"},
    }


def test_the_fields_of_an_order_event_are_in_data_and_at_the_top():
    event = OutgoingEvent("order.created", "o-1", {"eventType": "order.created", "orderId": "o-1", "items": []})
    body = orjson.loads(encode(event, "e-1", AT))
    assert body["data"] == event.data
    assert {key: body[key] for key in event.data} == event.data
    assert (body["id"], body["type"], body["source"], body["correlationId"]) == (
        "e-1",
        "order.created",
        "order-service",
        "o-1",
    )


def test_an_envelope_is_read():
    event = read(envelope(CONFIRMED | {"more": 1}))
    assert (event.event_id, event.type, event.occurred_at) == ("e-1", "inventory.confirmed", AT)
    assert event.data == CONFIRMED | {"more": 1}


@pytest.mark.parametrize("flat", [CONFIRMED | {"eventType": "inventory.confirmed"}, CONFIRMED], ids=["typed", "bare"])
def test_a_flat_event_is_read(flat):
    event = read(flat, headers={"Nats-Msg-Id": "m-1"})
    assert (event.event_id, event.type, event.occurred_at) == ("m-1", "inventory.confirmed", None)
    assert event.data["orderId"] == "o-1"


@pytest.mark.parametrize(
    ("body", "headers", "event_id"),
    [
        (envelope(CONFIRMED), {"Nats-Msg-Id": "m-1"}, "e-1"),
        (CONFIRMED, {"Nats-Msg-Id": "m-1"}, "m-1"),
        (CONFIRMED, {}, "STREAM:7"),
        (CONFIRMED, None, "STREAM:7"),
        (envelope(CONFIRMED, id=42), None, "42"),
    ],
)
def test_the_id_is_the_envelopes_else_the_headers_else_the_place_in_the_stream(body, headers, event_id):
    assert read(body, headers=headers).event_id == event_id


@pytest.mark.parametrize(
    ("data", "stamp", "occurred_at"),
    [
        (CONFIRMED | {"confirmedAt": "2023-11-21T15:00:00Z"}, "2023-11-21T15:27:30.123Z", AT.replace(minute=0)),
        (CONFIRMED, "2023-11-21T15:27:30.123Z", AT),
        (CONFIRMED, "2023-11-21T17:27:30.123+02:00", AT),
        (CONFIRMED, "yesterday", None),
        (CONFIRMED, "2023-11-21T15:27:30.123", None),
        (CONFIRMED, 1700580450, None),
    ],
)
def test_the_time_is_that_of_the_event_if_it_can_be_understood(data, stamp, occurred_at):
    found = read(envelope(data, timestamp=stamp)).occurred_at
    if data is not CONFIRMED:
        assert found == datetime(2023, 11, 21, 15, 0, tzinfo=UTC)
    else:
        assert found == occurred_at


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "not a JSON object but list"),
        (b"null", "not a JSON object but NoneType"),
        (envelope({"orderId": "o-1"}), "field reservationId"),
        (envelope({"orderId": 1, "reservationId": "r"}), "field orderId"),
        (envelope({"orderId": "", "reservationId": "r"}), "field orderId"),
        (envelope({"orderId": "x" * 129, "reservationId": "r"}), "field orderId"),
        (envelope(CONFIRMED, "inventory.out_of_stock"), "does not belong"),
        (envelope(CONFIRMED, ["inventory.confirmed"]), "does not belong"),
        ({}, "field orderId"),
    ],
)
def test_what_can_never_be_handled_is_poison_and_states_the_reason(body, reason):
    with pytest.raises(PoisonEvent) as caught:
        read(body)
    told = str(caught.value).replace("is not one that belongs", "does not belong")
    assert reason in told


def test_a_type_that_nobody_handles_is_poison():
    with pytest.raises(PoisonEvent, match=r"inventory\.exploded"):
        read(envelope(CONFIRMED, "inventory.exploded"), subject="inventory.exploded")


def test_a_failed_confirmation_needs_its_reason():
    with pytest.raises(PoisonEvent, match="field reason"):
        read(envelope(CONFIRMED, "inventory.confirmation_failed"), subject="inventory.confirmation_failed")


@pytest.mark.parametrize("event_type", ["inventory.out_of_stock", "inventory.low_stock", "inventory.back_in_stock"])
def test_a_stock_event_needs_its_product_and_may_carry_numbers(event_type):
    sku = {"productId": "p", "variantId": "v"}
    assert read(envelope(sku, event_type), subject=event_type).data == sku
    numbers = sku | {"availableQuantity": 3, "threshold": None}
    assert read(envelope(numbers, event_type), subject=event_type).data == numbers
    for wrong in (sku | {"availableQuantity": "3 or so"}, sku | {"availableQuantity": 2**31}, {"productId": "p"}):
        with pytest.raises(PoisonEvent):
            read(envelope(wrong, event_type), subject=event_type)


def test_what_is_sent_can_be_read_again():
    body = encode(OutgoingEvent("inventory.confirmed", "o-1", CONFIRMED), "e-1", AT + timedelta(0))
    assert read(body).data == CONFIRMED


def test_two_long_ids_that_differ_in_their_tails_stay_two_events():
    def event_id(tail: str) -> str:
        body = orjson.dumps({"id": "x" * 200 + tail, "orderId": "o-1", "reservationId": "r-1"})
        return decode(body, subject="inventory.confirmed", headers=None, fallback_id="S:1").event_id

    assert len(event_id("a")) <= 128
    assert event_id("a") == event_id("a") != event_id("b")


def decoded(body, **more):
    payload = body if isinstance(body, bytes) else orjson.dumps(body)
    return decode(payload, subject="inventory.confirmed", headers=None, fallback_id="S::1", **more)


def test_form_is_read_generously():
    upper = "0B5FA06D-29A4-4C1A-9F0E-1AB27B0D4C11"
    body = envelope({"productId": upper, "variantId": "Größe-M", "availableQuantity": 5.0, "threshold": "7"})
    event = read(b"\xef\xbb\xbf" + orjson.dumps(body | {"type": None}), subject="inventory.low_stock")
    assert event.data == {
        "productId": upper.lower(),
        "variantId": "Größe-M",
        "availableQuantity": 5,
        "threshold": 7,
    }
    assert read(envelope(CONFIRMED | {"confirmedAt": None}, source=None, id=None)).event_id == "STREAM:7"
    assert read(envelope(CONFIRMED | {"confirmedAt": "2023-11-21T15:00:00"})).occurred_at == AT


@pytest.mark.parametrize(
    "more",
    [
        {"confirmedAt": "9999-12-31T23:59:59-05:00"},
        {"confirmedAt": "0001-01-01T00:00:00+01:00"},
        {"confirmedAt": "soon"},
        {"confirmedAt": 5},
        {"note": "a\x00b"},
        {"orderId": "a\nb"},
        {"reservationId": "x" * 129},
        {"note": 2**64 - 1},
        {"deep": eval("[" * 40 + "]" * 40)},
    ],
    ids=str,
)
def test_what_cannot_be_stored_or_read_again_is_poison(more):
    with pytest.raises(PoisonEvent) as caught:
        decoded(envelope(CONFIRMED | more))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00", {"a": 1}, "x" * 100_000])
def test_a_time_of_the_envelope_that_cannot_be_used_counts_as_absent(stamp):
    assert read(envelope(CONFIRMED, timestamp=stamp)).occurred_at is None


@pytest.mark.parametrize("wrong", [True, 1.5, [1], {"a": 1}])
@pytest.mark.parametrize("field", ["id", "source"])
def test_an_identity_that_is_no_text_is_poison(field, wrong):
    with pytest.raises(PoisonEvent, match=f"field {field}"):
        decoded(envelope(CONFIRMED, **{field: wrong}))


def test_the_reason_repeats_little_of_what_was_sent():
    with pytest.raises(PoisonEvent) as caught:
        decoded(envelope(CONFIRMED, '"' * 40_000))
    assert len(str(caught.value)) < 400


def test_the_digest_distinguishes_contents_and_not_forms():
    first = decoded(envelope(CONFIRMED))
    assert decoded(CONFIRMED | {"id": "e-1", "timestamp": "2024-01-01T00:00:00Z"}).digest == first.digest
    assert decoded(envelope(CONFIRMED | {"confirmedAt": None}, timestamp=None)).digest == first.digest
    assert decoded(envelope(CONFIRMED | {"reservationId": "r-2"})).digest != first.digest
    assert (first.source, decoded(envelope(CONFIRMED, source="warehouse-1")).source) == ("", "warehouse-1")
